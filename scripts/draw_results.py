"""Draw the pictures of the documents that show results, with the authors' EDSR-baseline-LIIF.

  liif models --download edsr-baseline-liif
  python scripts/draw_results.py results        docs/results.png: bicubic, standard and LIIF, at x4 and x12
  python scripts/draw_results.py figure5        docs/compare.png: with 1-SIREN, as Figure 5 of the paper
  python scripts/draw_results.py figure6        docs/cells.png: one network asked with other cells, at x30
  python scripts/draw_results.py photo          docs/photo.png: JPEG inputs enlarged by standard and by photo

The pictures come with scikit-image. The networks have not seen them; PSNR is of luma, shave = scale.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image
from torch import Tensor, nn

from liif_plugin import register  # noqa: F401  registers the networks
from liif_plugin.checkpoints.loading import build, load
from liif_plugin.data.crops import to_tensor
from liif_plugin.evaluation.figure import Tile, contact_sheet, to_picture
from liif_plugin.evaluation.single_image import predict
from liif_plugin.files import atomic_write
from liif_plugin.inference.render import render
from liif_plugin.metrics.continuous_metric import continuous_psnr
from liif_plugin.resize import pillow_bicubic

DOCS = Path(__file__).parents[1] / "docs"
AUTHORS = "edsr-baseline-liif"
# picture, scale, part of the truth that is shown: top, left, side
PARTS = (("chelsea", 4, (60, 100, 144)), ("coffee", 12, (24, 180, 300)))
CELL_SCALE = 30
CELL_PART = (22, 27, 14, 21)  # of the LR picture: top, left, height, width


def pair(name: str, scale: int) -> tuple[Tensor, Tensor]:
    """Return a picture of scikit-image, cut to a multiple of ``scale``, and its LR image.

    Returns:
        (1, 3, h, w) and (1, 3, h scale, w scale) in [0, 1].
    """
    picture = getattr(skimage.data, name)()
    h, w = (side // scale for side in picture.shape[:2])
    gt = picture[: h * scale, : w * scale]
    return to_tensor(pillow_bicubic(gt, (h, w))).unsqueeze(0), to_tensor(gt).unsqueeze(0)


def comparison(networks: dict[str, nn.Module]) -> Image.Image:
    """Return a row for each of ``PARTS``: the LR image, every network and the truth."""
    rows: list[list[Tile]] = []
    for name, scale, (top, left, side) in PARTS:
        lq, gt = pair(name, scale)
        part = (..., slice(top, top + side), slice(left, left + side))
        small = (
            ...,
            slice(top // scale, (top + side) // scale),
            slice(left // scale, (left + side) // scale),
        )
        row = [(f"input {lq.shape[-1]} x {lq.shape[-2]}\n{name}, x{scale}", to_picture(lq[small]))]
        for label, net in networks.items():
            sr = predict(net, lq, (gt.shape[-2], gt.shape[-1]))
            score = continuous_psnr(sr, gt, scale, "benchmark")
            row.append((f"{label}\n{score:.2f} dB", to_picture(sr[part])))
        rows.append([*row, ("ground truth", to_picture(gt[part]))])
    return contact_sheet(rows, side=260)


def results() -> Image.Image:
    """Return the first picture of the README."""
    return comparison(
        {
            "bicubic": build({"type": "Bicubic"}, None, "params", "bicubic"),
            "standard, 1.38 M parameters": load("standard", "cpu"),
            "LIIF, authors' weights, 1.57 M": load(AUTHORS, "cpu"),
        }
    )


def figure5() -> Image.Image:
    """Return Figure 5 of the paper in small. MetaSR is missing, because its weights are not published."""
    return comparison(
        {
            "bicubic": build({"type": "Bicubic"}, None, "params", "bicubic"),
            "1-SIREN": build({"type": "SIREN"}, None, "params", "1-SIREN"),
            "LIIF, authors' weights": load(AUTHORS, "cpu"),
        }
    )


def figure6() -> Image.Image:
    """Return Figure 6 of the paper: a part of a picture at x30, asked with other cells than the pixel's own.

    LIIF (-c), the paper's network without cells, is not published: a cell of size 0 stands in its place.
    """
    lq, _ = pair("coffee", 8)
    h, w = lq.shape[-2:]
    top, left, height, width = CELL_PART
    size = (h * CELL_SCALE, w * CELL_SCALE)
    window = (top * CELL_SCALE, left * CELL_SCALE, height * CELL_SCALE, width * CELL_SCALE)
    net = load(AUTHORS, "cpu")
    one = torch.tensor([2 / h, 2 / w])  # an LR pixel
    shown = lq[..., top : top + height, left : left + width]
    row = [(f"input {width} x {height}\ncoffee, x{CELL_SCALE}", to_picture(shown))]
    for label, part in (("1/1", 1.0), ("1/2", 0.5), ("1/30, the true one", 1 / 30), ("0, a point", 0.0)):
        sr = render(net, lq, size, one * part, window)
        row.append((f"cell {label}\nof an LR pixel", to_picture(sr)))
    return contact_sheet([row], side=300)


def photo() -> Image.Image:
    """Return parts of three pictures that were halved, saved as JPEG of quality 60 and enlarged by 5."""
    networks = {name: load(name, "cpu") for name in ("standard", "photo")}
    rows = []
    for name, (top, left) in (("astronaut", (30, 90)), ("coffee", (60, 100)), ("rocket", (75, 140))):
        whole = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        file = io.BytesIO()
        whole.resize((whole.width // 2, whole.height // 2), Image.BICUBIC).save(file, "JPEG", quality=60)
        part = Image.open(file).crop((left, top, left + 64, top + 64))
        lq = to_tensor(np.array(part)).unsqueeze(0)
        row = [(f"input 64 x 64\n{name}, x5", to_picture(lq))]
        row += [(f"{label}\n", to_picture(render(net, lq, (320, 320)))) for label, net in networks.items()]
        rows.append(row)
    return contact_sheet(rows, side=320)


PICTURES = {
    "results": (results, "results.png"),
    "figure5": (figure5, "compare.png"),
    "figure6": (figure6, "cells.png"),
    "photo": (photo, "photo.png"),
}


def main(argv: list[str]) -> None:
    """Draw the picture that is named."""
    if len(argv) not in (1, 2) or argv[0] not in PICTURES:
        sys.exit(f"draw_results: expected one of {', '.join(PICTURES)}, and maybe a path to write to.")
    draw, name = PICTURES[argv[0]]
    path = argv[1] if len(argv) == 2 else str(DOCS / name)
    with torch.no_grad():
        picture = draw()
    with atomic_write(path) as file:
        picture.save(file, format="PNG")
    print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
