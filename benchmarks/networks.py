"""Measure how long networks take for a picture of 512 x 512 enlarged to 2048 x 2048.

  python benchmarks/networks.py liif-light light standard
  python benchmarks/networks.py liif-light edsr-baseline-liif --runs 3 --precision fp32

The networks take turns, so that a busy machine slows all of them. The ratio is the median, over the runs, of
the first network's time divided by this one's.
"""

from __future__ import annotations

import argparse
import statistics
import time

import skimage.data
import torch

import liif_plugin.register  # noqa: F401  (BasicSR needs its stand-ins)
from liif_plugin.checkpoints.loading import load
from liif_plugin.evaluation.costs import machine
from liif_plugin.evaluation.tables import markdown_table
from liif_plugin.inference.memory import keep_freed_memory
from liif_plugin.inference.render import render
from liif_plugin.precision import DTYPES

SIDE, SCALE = 512, 4


def seconds(net: torch.nn.Module, lq: torch.Tensor, dtype: torch.dtype) -> float:
    """Return how long ``net`` takes to enlarge ``lq``."""
    start = time.perf_counter()
    render(net, lq, (SIDE * SCALE, SIDE * SCALE), dtype=dtype)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="as --model takes them; the first one is the measure")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="default 5")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=("fp32", "bf16"))
    args = parser.parse_args()
    keep_freed_memory()
    nets = {name: load(name, "cpu") for name in args.models}
    lq = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1).unsqueeze(0).float() / 255
    print(f"{machine(torch.device('cpu'))}\n{SIDE} x {SIDE} -> {SIDE * SCALE} x {SIDE * SCALE}\n")
    rows = []
    for precision in args.precision:
        times: dict[str, list[float]] = {name: [] for name in nets}
        for run in range(args.runs + 1):
            for name, net in nets.items():
                taken = seconds(net, lq, DTYPES[precision])
                if run:  # the first one warms up
                    times[name].append(taken)
        for name, own in times.items():
            ratio = statistics.median(a / b for a, b in zip(times[args.models[0]], own))
            rows.append([name, precision, f"{statistics.median(own):.2f}", f"{ratio:.2f}"])
    print(markdown_table(["model", "precision", "s", f"times as fast as {args.models[0]}"], rows))


if __name__ == "__main__":
    main()
