"""Measure whether a network's pictures show the grid of the LR pixels.

  python scripts/seams.py standard light edsr-baseline-liif --pictures datasets/bench/B100/LR_bicubic/X4

For each model and scale: the mean absolute difference of neighbours across an edge between LR pixels,
divided by that of neighbours inside LR pixels. Edges of objects lie between LR pixels, so any sharp result is
above 1; a visible grid is clearly above liif-light, whose pictures have none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import liif_plugin.register  # noqa: F401  (BasicSR needs its stand-ins)
from liif_plugin.checkpoints.loading import load
from liif_plugin.inference.render import render


def steps(image: np.ndarray, scale: int) -> np.ndarray:
    """Return the sums of the steps across edges and inside, and how many there are of each: (2, 2).

    Args:
        image: (H, W, 3), enlarged by the whole number ``scale``.
        scale: target pixels per LR pixel.
    """
    sums = np.zeros((2, 2))
    for axis in (0, 1):
        size = np.abs(np.diff(image.astype(np.float64), axis=axis)).mean(axis=(1 - axis, 2))
        at_edge = (np.arange(len(size)) + 1) % scale == 0
        sums[0] += size[at_edge].sum(), size[~at_edge].sum()
        sums[1] += at_edge.sum(), (~at_edge).sum()
    return sums


def ratio(net: torch.nn.Module, pictures: list[Path], scale: int) -> float:
    """Return the mean step across edges divided by that inside, over pictures enlarged by ``net``."""
    total = np.zeros((2, 2))
    for path in pictures:
        lq = np.array(Image.open(path).convert("RGB"))
        tensor = torch.from_numpy(lq).permute(2, 0, 1).unsqueeze(0).float() / 255
        result = render(net, tensor, (lq.shape[0] * scale, lq.shape[1] * scale))[0].clamp(0, 1)
        total += steps(result.permute(1, 2, 0).numpy(), scale)
    across, inside = total[0] / total[1]
    return across / inside


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="as --model takes them")
    parser.add_argument("--pictures", required=True, metavar="FOLDER")
    parser.add_argument("--count", type=int, default=10, metavar="N", help="pictures, default 10")
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 4, 12], metavar="N")
    args = parser.parse_args()
    pictures = sorted(Path(args.pictures).glob("*.png"))[: args.count]
    print(f"| model | {' | '.join(f'x{scale}' for scale in args.scales)} |\n|---|{'---|' * len(args.scales)}")
    for model in args.models:
        net = load(model, "cpu")
        print(
            f"| {model} | {' | '.join(f'{ratio(net, pictures, scale):.3f}' for scale in args.scales)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
