"""Time the decoder of every network against LIIF's folded one, EDSR-baseline sizes, in one run.

    python benchmarks/decoders.py [--size 128] [--scale 4] [--runs 5] [--threads 1] [NAME ...]

Each network decodes a feature map of size x size pixels to scale times that size, from the feature map
to the image: ``prepare`` and ``decode``. The networks take turns, so that a busy machine slows all of them;
the table has medians. Ratios compare medians: 2x means half of LIIF's time. ``--plain`` also times ``query``
on the whole grid, in blocks of 30,000: each network against a plain form of its own.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from basicsr.archs import build_network

import liif_plugin.register  # noqa: F401
from liif_plugin.coords import cell_of, grid, pixel_centres

ENCODER = {"type": "EDSR", "num_feat": 64, "num_block": 1}  # the encoder's depth does not change the decoder
NETWORKS = {
    "LIIF": {"type": "LIIF"},
    "Thera air": {"type": "Thera"},
    "Thera plus": {"type": "Thera", "size": "plus"},
    "LTE": {"type": "LTE"},
    "LM-LIIF": {"type": "LMLIIF"},
    "LM-LTE": {"type": "LMLTE"},
    "SRNO": {"type": "SRNO"},
}


def fast(net, feat: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Decode with ``prepare`` and ``decode``."""
    rows, columns = (pixel_centres(n) for n in size)
    return net.decode(net.prepare(feat, size), rows, columns, cell_of(size))


def plain(net, feat: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Decode with ``query`` in blocks of 30,000 pixels, all of them at once for SRNO."""
    coord = grid(size).unsqueeze(0)
    cell = cell_of(size).expand_as(coord)
    step = coord.shape[1] if type(net).__name__ == "SRNO" else 30000
    parts = [
        net.query(feat, coord[:, i : i + step], cell[:, i : i + step]) for i in range(0, coord.shape[1], step)
    ]
    return torch.cat(parts, dim=1)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="time query too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    size = (round(args.size * args.scale),) * 2
    lq = torch.rand(1, 3, args.size, args.size)
    jobs = {}
    for name, options in NETWORKS.items():
        if args.names and name not in (*args.names, "LIIF"):
            continue
        net = build_network({**options, "encoder": ENCODER}).eval()
        feat = net.encode(lq)
        jobs[name] = (fast, net, feat)
        if args.plain and name != "LIIF":
            jobs[f"{name}, query"] = (plain, net, feat)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for job, net, feat in jobs.values():
        job(net, feat, size)  # warm up
    for _ in range(args.runs):
        for name, (job, net, feat) in jobs.items():
            start = time.perf_counter()
            job(net, feat, size)
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{args.size} x {args.size} -> {size[0]} x {size[1]}, float32, {args.threads} thread(s)")
    print(f"{'':20} {'ms':>9} {'Mpixel/s':>9} {'x LIIF':>8}")
    for name, seconds in medians.items():
        rate, ratio = size[0] * size[1] / seconds / 1e6, medians["LIIF"] / seconds
        print(f"{name:20} {seconds * 1e3:9.1f} {rate:9.3f} {ratio:8.2f}")


if __name__ == "__main__":
    main()
