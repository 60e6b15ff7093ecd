"""A training item as the published data pipeline makes it: what the cached pipeline is compared with."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from liif_plugin.coords import image_to_queries


def plain_item(picture: np.ndarray, size: int, queries: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Return lq (3, size, size), coord, cell (queries, 2) and rgb (queries, 3).

    Args:
        picture: (H, W, 3) uint8, decoded.
        size: side of the low-resolution crop.
        queries: number of pixels that are drawn from the crop.
        rng: what everything random is drawn from.
    """
    # The whole picture as floats, then a crop of a random scale
    image = torch.from_numpy(picture.transpose(2, 0, 1).copy()).float() / 255
    side = round(size * rng.uniform(1, 4))
    y, x = rng.integers(0, image.shape[1] - side + 1), rng.integers(0, image.shape[2] - side + 1)
    hr = image[:, y : y + side, x : x + side]
    # Shrink it by Pillow
    pixels = (hr.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    shrunk = Image.fromarray(pixels).resize((size, size), Image.BICUBIC)
    lq = torch.from_numpy(np.array(shrunk)).permute(2, 0, 1).float() / 255
    # Flips and transposition
    for axes in ((-2,), (-1,)):
        if rng.random() < 0.5:
            lq, hr = lq.flip(axes), hr.flip(axes)
    if rng.random() < 0.5:
        lq, hr = lq.transpose(-2, -1), hr.transpose(-2, -1)
    # Every pixel of the crop as a query, then a random choice of them
    coord, cell, rgb = (part[0] for part in image_to_queries(hr.contiguous().unsqueeze(0)))
    chosen = rng.choice(len(coord), queries, replace=False)
    return lq, coord[chosen], cell[chosen], rgb[chosen]
