"""Sample images of a training: the same few parts of validation images at several scales, beside bicubic.

``val.samples: {count: 2, scales: [2, 4, 8], size: 48}`` asks for them after each validation.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..archs.base import is_continuous
from ..archs.building import build
from ..config.option_types import Option, each, positive, whole
from ..evaluation.figure import contact_sheet, to_picture
from ..evaluation.single_image import own_scale, predict

SAMPLES = {
    "count": Option(whole(1), default=2, help="Number of validation images."),
    "scales": Option(each(positive(64)), default=[2, 4, 8], help="Scales at which each is drawn."),
    "size": Option(whole(1), default=48, help="Side of the part of the LR image that is drawn."),
}


def _middle(lq: Tensor, gt: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the middle ``size`` x ``size`` pixels of lq (3, h, w), and the same part of gt (3, H, W).

    Of a smaller image it is the whole.
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
    options = {**{name: option.default for name, option in SAMPLES.items()}, **options}
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
