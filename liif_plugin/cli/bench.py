"""Measure how fast this machine decodes, renders, trains and feeds, against the plain form of the same function in the same run.

  liif bench                       a quarter of an hour on two CPU cores, most of it the plain form
  liif bench --quick               smaller pictures, a minute
  liif bench --large               instead: time and memory from 0.25 to 64 megapixels of output, written to disk; a quarter of an hour
  liif bench --json bench.json     the table as JSON too

Ratios are medians over pairs that alternate, so that a busy machine slows both. The network is EDSR-baseline-LIIF with random weights
(--model takes another for --large). bfloat16 is measured where the hardware multiplies it.
"""

from __future__ import annotations

import argparse

AFTER_INTERRUPT = "Nothing was written."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="smaller pictures and fewer runs")
    parser.add_argument("--runs", type=int, metavar="N", help="pairs for each line (default 3; 5 on a GPU)")
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to measure (default auto)"
    )
    parser.add_argument("--large", action="store_true", help="how time and memory grow with the picture")
    parser.add_argument(
        "--model",
        metavar="NAME|FILE|FOLDER",
        help="for --large: weights by name, a .pth file or an experiment's folder",
    )
    parser.add_argument(
        "--memory",
        type=float,
        default=1.0,
        metavar="GiB",
        help="for --large: what rendering may take (default 1)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the results there")


def _pictures(folder: str) -> None:
    """Pictures to cut items from, of scikit-image."""
    import os

    import skimage.data
    from PIL import Image

    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        picture = Image.fromarray(getattr(skimage.data, name)())
        scale = max(1.0, 400 / min(picture.size))
        picture.resize((round(picture.width * scale), round(picture.height * scale))).save(
            os.path.join(folder, f"{name}.png")
        )


def _line(result) -> list[str]:
    def blank(value: float | None, text: str) -> str:
        return "" if value is None else format(value, text)

    seconds = f"{result.plain_seconds:.3g}", f"{result.seconds:.3g}"
    rest = blank(result.share, ".0%"), blank(result.peak_mib, ",.0f"), blank(result.psnr, ".1f")
    return [
        result.what,
        result.precision,
        *seconds,
        f"{result.ratio:.1f}",
        f"{result.rate:,.0f} {result.unit}/s",
        *rest,
    ]


def _compared(args: argparse.Namespace, device) -> tuple[list[str], list[list[str]], dict]:
    """Header, lines and facts of the comparison with the plain forms."""
    import dataclasses
    import tempfile

    import torch
    from tqdm import tqdm

    from ..bench import parts
    from ..precision import has_bfloat16

    runs = args.runs or (1 if args.quick else 5 if device.type == "cuda" else 3)
    side, h, w, batch = (48, 60, 80, 2) if args.quick else (128, 510, 339, 16)
    net = parts.network(device)
    dtypes = [torch.float32, torch.bfloat16] if has_bfloat16(device) else [torch.float32]
    with tempfile.TemporaryDirectory() as folder:
        _pictures(folder)
        jobs = [lambda: parts.data(folder, max(runs, 9))]
        jobs += [lambda dtype=dtype: parts.decode(net, device, dtype, side, runs) for dtype in dtypes]
        jobs += [lambda dtype=dtype: parts.training_step(net, device, dtype, batch, runs) for dtype in dtypes]
        jobs += [lambda: parts.whole(net, device, dtypes[-1], h, w, 1 if device.type == "cpu" else runs)]
        results = [job() for job in tqdm(jobs, desc="bench", unit="line", disable=None)]
    rates = {
        str(dtype)[6:]: parts.matmul_rate(dtype, device) / 1e9 for dtype in (torch.float32, torch.bfloat16)
    }
    header = [
        "what",
        "precision",
        "plain, s",
        "ours, s",
        "ratio",
        "rate",
        "share of the matrix product",
        "peak MiB",
        "PSNR to plain, dB",
    ]
    said = ", ".join(f"{rate:.0f} GFLOP/s in {name}" for name, rate in rates.items())
    print(
        f"Matrix product: {said}{'' if len(dtypes) > 1 else ', which is emulated here and left out below'}.\n"
    )
    return (
        header,
        [_line(result) for result in results],
        {"matmul_gflops": rates, "results": [dataclasses.asdict(r) for r in results]},
    )


def _grown(args: argparse.Namespace, device) -> tuple[list[str], list[list[str]], dict]:
    """Header, lines and facts of pictures that grow."""
    import dataclasses
    import tempfile

    from tqdm import tqdm

    from ..bench import large, parts
    from ..checkpoints.loading import load
    from ..errors import printable
    from ..inference.upscaling import Engine
    from ..precision import choose_precision

    net = load(args.model, device) if args.model else parts.network(device).requires_grad_(False)
    engine = Engine(net, device, choose_precision("auto", device), int(args.memory * 2**30))
    with tempfile.TemporaryDirectory() as folder:
        sizes = large.SIZES[:3] if args.quick else large.SIZES
        results = [
            large.measure(engine, size, folder)
            for size in tqdm(sizes, desc="bench --large", unit="picture", disable=None)
        ]
    header = ["input", "output, megapixels", "tile", "s", "s a megapixel", "peak MiB over the idle process"]
    lines = [
        [
            f"{r.width} x {r.height}",
            f"{r.megapixels:.2f}",
            str(r.tile or ""),
            f"{r.seconds:.1f}",
            f"{r.seconds / r.megapixels:.2f}",
            "" if r.peak_mib is None else f"{r.peak_mib:,.0f}",
        ]
        for r in results
    ]
    print(
        f"{printable(args.model or 'EDSR-baseline-LIIF')}, x2, {engine.precision}, written as PNG, --memory {args.memory:g} GiB\n"
    )
    return (
        header,
        lines,
        {"memory_gib": args.memory, "results": [dataclasses.asdict(result) for result in results]},
    )


def run(args: argparse.Namespace) -> None:
    import json
    import os

    import torch

    from ..errors import UserError
    from ..evaluation.report import grid
    from ..evaluation.results import machine

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
    device = torch.device("cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu")
    print(f"{machine(device)}.")
    header, lines, facts = (_grown if args.large else _compared)(args, device)
    print(grid(header, lines))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine(device), **facts}, file, indent=1)
