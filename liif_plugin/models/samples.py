"""Sample images while training: the same few parts of validation images at several scales, next to bicubic.

Options: ``val.samples: {count: 2, scales: [2, 4, 8], size: 48}``; drawn after each validation.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..archs.base import is_continuous
from ..archs.building import build
from ..errors import UserError, check_keys
from ..evaluation.figure import contact_sheet, to_picture
from ..evaluation.single_image import own_scale, predict
from ..files import atomic_write

DEFAULTS = {"count": 2, "scales": [2, 4, 8], "size": 48}


def check_samples(options: object) -> None:
    """Raise UserError for a mistake in ``val.samples``."""
    if not isinstance(options, dict):
        raise UserError(
            f"val.samples: expected a block such as {{count: 2, scales: [2, 4, 8]}}, got {options!r}."
        )
    check_keys("val.samples", options, DEFAULTS)
    options = {**DEFAULTS, **options}
    for key in ("count", "size"):
        if isinstance(options[key], bool) or not isinstance(options[key], int) or options[key] < 1:
            raise UserError(
                f"val.samples: {key}: expected a whole number of 1 or more, got {options[key]!r}."
            )
    scales = options["scales"]
    is_list = isinstance(scales, (list, tuple)) and len(scales) > 0
    if not is_list or not all(_is_scale(scale) for scale in scales):
        raise UserError(f"val.samples: scales: expected a list of numbers up to 64, got {scales!r}.")


def _is_scale(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 64


def _middle(lq: Tensor, gt: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The middle ``size`` x ``size`` pixels of lq (3, h, w), or what there is of them, and the same part of
    gt (3, H, W).
    """
    part, same = [slice(None)], [slice(None)]
    for small, large in zip(lq.shape[-2:], gt.shape[-2:]):
        start = max(small - size, 0) // 2
        part.append(slice(start, start + size))
        same.append(slice(round(start * large / small), round(min(start + size, small) * large / small)))
    return lq[tuple(part)], gt[tuple(same)]


def draw_samples(
    net: nn.Module,
    dataset: Any,
    options: dict,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    cell_clamp: float | None = None,
) -> Image.Image:
    """Return one strip per image: the input and the truth, then for each scale bicubic and the network.

    Args:
        net: the bare network, in eval mode; one of a fixed scale is drawn at that scale alone.
        dataset: its first images are taken.
        options: ``val.samples``.
        device: where ``net`` is.
        dtype: see ``predict``.
        cell_clamp: see ``predict``.
    """
    options = {**DEFAULTS, **options}
    bicubic = build({"type": "Bicubic"}).to(device)  # not build_network, which logs it each time
    rows = []
    for item in (dataset[i] for i in range(min(options["count"], len(dataset)))):
        lq, gt = _middle(item["lq"], item["gt"], options["size"])
        lq = lq.unsqueeze(0).to(device)
        h, w = lq.shape[-2:]
        scales = options["scales"] if is_continuous(net) else [own_scale(net, lq)]
        name = os.path.splitext(os.path.basename(item["lq_path"]))[0]
        given, truth = (
            (f"input {w} x {h}\n{name}", to_picture(lq)),
            (f"truth {gt.shape[-1]} x {gt.shape[-2]}\n{name}", to_picture(gt)),
        )
        for network, label, first in ((bicubic, "bicubic", given), (net, type(net).__name__, truth)):
            row = [first]
            for scale in scales:
                size = (max(1, round(h * scale)), max(1, round(w * scale)))
                if network is net:
                    sr = predict(net, lq, size, dtype, cell_clamp=cell_clamp)
                else:
                    sr = predict(network, lq, size)
                row.append((f"{label}\nx{scale:g}", to_picture(sr)))
            rows.append(row)
    return contact_sheet(rows, side=max(tile.width for row in rows for _, tile in row[1:]))


def save_samples(picture: Image.Image, path: str) -> None:
    """Write ``picture`` as PNG, whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with atomic_write(path) as file:
        picture.save(file, format="PNG")
