"""Measure how fast this machine decodes, renders, trains and feeds, against the plain form of the same function in the same run.

  liif bench                       a quarter of an hour on two CPU cores, most of it the plain form
  liif bench --quick               smaller pictures, two minutes
  liif bench --json bench.json     the table as JSON too

Ratios are medians over pairs that alternate, so that a busy machine slows both. The network is EDSR-baseline-LIIF with random weights.
"""

from __future__ import annotations

import argparse

AFTER_INTERRUPT = "Nothing was written."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="smaller pictures and fewer runs")
    parser.add_argument("--runs", type=int, metavar="N", help="pairs for each line (default 3; 5 on a GPU)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to measure (default auto)")
    parser.add_argument("--json", metavar="FILE", help="write the results there")


def _pictures(folder: str) -> None:
    """Pictures to cut items from, of scikit-image."""
    import os

    import skimage.data
    from PIL import Image

    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        picture = Image.fromarray(getattr(skimage.data, name)())
        scale = max(1.0, 400 / min(picture.size))
        picture.resize((round(picture.width * scale), round(picture.height * scale))).save(os.path.join(folder, f"{name}.png"))


def _line(result) -> list[str]:
    def blank(value: float | None, text: str) -> str:
        return "" if value is None else format(value, text)

    seconds = f"{result.plain_seconds:.3g}", f"{result.seconds:.3g}"
    rest = blank(result.share, ".0%"), blank(result.peak_mib, ",.0f"), blank(result.psnr, ".1f")
    return [result.what, result.precision, *seconds, f"{result.ratio:.1f}", f"{result.rate:,.0f} {result.unit}/s", *rest]


def run(args: argparse.Namespace) -> None:
    import dataclasses
    import json
    import tempfile

    import torch
    from tqdm import tqdm

    from ..bench import parts
    from ..compare.measure import machine
    from ..compare.report import grid
    from ..errors import UserError

    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this machine shows no CUDA GPU.")
    if args.runs is not None and args.runs < 1:
        raise UserError(f"--runs: expected 1 or more, got {args.runs}.")
    device = torch.device("cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu")
    runs = args.runs or (1 if args.quick else 5 if device.type == "cuda" else 3)
    side, h, w, batch = (48, 60, 80, 2) if args.quick else (128, 510, 339, 16)
    net = parts.network(device)
    f32, bf16 = torch.float32, torch.bfloat16
    with tempfile.TemporaryDirectory() as folder:
        _pictures(folder)
        jobs = [
            lambda: parts.data(folder, max(runs, 3)),
            lambda: parts.decode(net, device, f32, side, runs), lambda: parts.decode(net, device, bf16, side, runs),
            lambda: parts.training_step(net, device, f32, batch, runs), lambda: parts.training_step(net, device, bf16, batch, runs),
            lambda: parts.whole(net, device, bf16, h, w, 1 if device.type == "cpu" else runs),
        ]  # fmt: skip
        results = [job() for job in tqdm(jobs, desc="bench", unit="line", disable=None)]
    rates = {name: parts.matmul_rate(dtype, device) / 1e9 for name, dtype in (("float32", f32), ("bfloat16", bf16))}
    header = ["what", "precision", "plain, s", "ours, s", "ratio", "rate", "share of the matrix product", "peak MiB", "PSNR to plain, dB"]
    print(f"{machine(device)}; matrix product {rates['float32']:.0f} GFLOP/s in float32, {rates['bfloat16']:.0f} in bfloat16.\n")
    print(grid(header, [_line(result) for result in results]))
    if args.json:
        facts = {"machine": machine(device), "matmul_gflops": rates, "results": [dataclasses.asdict(result) for result in results]}
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(facts, file, indent=1)
