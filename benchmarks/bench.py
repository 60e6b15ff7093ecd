"""Measure how fast this machine decodes, renders, trains and feeds, against the plain form of each.

  python benchmarks/bench.py                    15 minutes on two CPU cores, most of it the plain form
  python benchmarks/bench.py --quick            smaller pictures, a minute
  python benchmarks/bench.py --large            instead: time and memory from 0.25 to 64 megapixels of output,
                                                written to disk; a quarter of an hour
  python benchmarks/bench.py --json bench.json  the table as JSON too

Ratios are medians over pairs that alternate, so that a busy machine slows both. The network is
EDSR-baseline-LIIF with random weights (--model takes another for --large). bfloat16 is measured where the
hardware multiplies it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile

import bench_large
import bench_parts
import skimage.data
import torch
from PIL import Image
from tqdm import tqdm

from liif_plugin.checkpoints.loading import load
from liif_plugin.errors import UserError, printable
from liif_plugin.evaluation.costs import machine
from liif_plugin.evaluation.tables import markdown_table
from liif_plugin.files import atomic_write
from liif_plugin.inference.memory import keep_freed_memory
from liif_plugin.inference.upscaling import Engine
from liif_plugin.precision import choose_precision, has_bfloat16


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="smaller pictures and fewer runs")
    add("--runs", type=int, metavar="N", help="pairs for each line (default 3; 5 on a GPU)")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to measure (default auto)")
    add("--large", action="store_true", help="how time and memory grow with the picture")
    add(
        "--model",
        metavar="NAME|FILE|FOLDER",
        help="for --large: weights by name, a .pth file or an experiment's folder",
    )
    add(
        "--memory",
        type=float,
        default=1.0,
        metavar="GiB",
        help="for --large: what rendering may take (default 1)",
    )
    add("--json", metavar="FILE", help="write the results there")
    return parser.parse_args(argv)


def write_pictures(folder: str) -> None:
    """Write pictures of scikit-image to cut training items from."""
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        picture = Image.fromarray(getattr(skimage.data, name)())
        scale = max(1.0, 400 / min(picture.size))
        size = (round(picture.width * scale), round(picture.height * scale))
        picture.resize(size).save(os.path.join(folder, f"{name}.png"))


def _optional(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def compare_parts(args: argparse.Namespace, device: torch.device) -> tuple[list[str], list[list[str]], list]:
    """Return header, rows and results of the comparison with the plain forms."""
    default_runs = 5 if device.type == "cuda" else 3
    runs = args.runs or (1 if args.quick else default_runs)
    side, h, w, batch = (48, 60, 80, 2) if args.quick else (128, 510, 339, 16)
    net = bench_parts.network(device)
    dtypes = [torch.float32, torch.bfloat16] if has_bfloat16(device) else [torch.float32]
    render_runs = 1 if device.type == "cpu" else runs
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(folder)
        jobs = [lambda: bench_parts.measure_items(folder, max(runs, 9))]
        for dtype in dtypes:
            jobs.append(lambda dtype=dtype: bench_parts.measure_decoder(net, device, dtype, side, runs))
        for dtype in dtypes:
            jobs.append(
                lambda dtype=dtype: bench_parts.measure_training_step(net, device, dtype, batch, runs)
            )
        jobs.append(lambda: bench_parts.measure_render(net, device, dtypes[-1], h, w, render_runs))
        results = [job() for job in tqdm(jobs, desc="bench", unit="line", disable=None)]
    header = ["what", "precision", "plain, s", "ours, s", "ratio", "rate"]
    header += ["share of the matrix product", "peak MiB", "PSNR to plain, dB"]
    rows = [
        [
            result.what,
            result.precision,
            f"{result.plain_seconds:.3g}",
            f"{result.seconds:.3g}",
            f"{result.ratio:.1f}",
            f"{result.rate:,.0f} {result.unit}/s",
            _optional(result.share, ".0%"),
            _optional(result.peak_mib, ",.0f"),
            _optional(result.psnr, ".1f"),
        ]
        for result in results
    ]
    return header, rows, results


def measure_growth(args: argparse.Namespace, device: torch.device) -> tuple[list[str], list[list[str]], list]:
    """Return header, rows and results of pictures that grow."""
    net = load(args.model, device) if args.model else bench_parts.network(device).requires_grad_(False)
    engine = Engine(net, device, choose_precision("auto", device), int(args.memory * 2**30))
    sizes = bench_large.SIZES[:3] if args.quick else bench_large.SIZES
    with tempfile.TemporaryDirectory() as folder:
        results = [
            bench_large.measure_large(engine, size, folder)
            for size in tqdm(sizes, desc="bench --large", unit="picture", disable=None)
        ]
    header = ["input", "output, megapixels", "tile", "s", "s a megapixel", "peak MiB over the idle process"]
    rows = [
        [
            f"{result.width} x {result.height}",
            f"{result.megapixels:.2f}",
            str(result.tile or ""),
            f"{result.seconds:.1f}",
            f"{result.seconds / result.megapixels:.2f}",
            _optional(result.peak_mib, ",.0f"),
        ]
        for result in results
    ]
    name = printable(args.model or "EDSR-baseline-LIIF")
    print(f"{name}, x2, {engine.precision}, written as PNG, --memory {args.memory:g} GiB\n")
    return header, rows, results


def check(args: argparse.Namespace) -> None:
    """Raise UserError for arguments that cannot be meant."""
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine shows no CUDA GPU.")
    if args.runs is not None and args.runs < 1:
        raise UserError(f"--runs: expected 1 or more, got {args.runs}.")
    if args.model and not args.large:
        raise UserError("--model: is for --large; the comparison is made with EDSR-baseline-LIIF.")
    if not args.memory > 0:
        raise UserError(f"--memory: expected a positive number, got {args.memory:g}.")
    if args.json and not os.access(os.path.dirname(args.json) or ".", os.W_OK):
        raise UserError(f"--json {args.json}: its folder is not there or cannot be written to.")


def run(args: argparse.Namespace) -> None:
    """Measure, print the table and write it as JSON where that is asked for."""
    check(args)
    keep_freed_memory()
    device = torch.device("cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu")
    print(f"{machine(device)}.")
    header, rows, results = (measure_growth if args.large else compare_parts)(args, device)
    print(markdown_table(header, rows))
    if args.json:
        facts = {"machine": machine(device), "results": [dataclasses.asdict(result) for result in results]}
        if args.large:
            facts["memory_gib"] = args.memory
        with atomic_write(args.json, text=True) as file:
            json.dump(facts, file, indent=1)


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark; a user's mistake ends it with one line."""
    try:
        run(parse(argv))
    except UserError as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
