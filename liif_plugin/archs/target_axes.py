"""What several decoders do along the axes of a grid of target pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..coords import axis_bilinear


def add_bilinear(
    image: Tensor,
    lq: Tensor,
    size: tuple[int, int],
    region: tuple[int, int, int, int],
    rows: Tensor,
    columns: Tensor,
) -> None:
    """Add the bilinearly enlarged LR image to ``image``, axis by axis, a few rows at a time.

    Args:
        image: (B, 3, R, C), changed in place.
        lq: (B, 3, height, width), the LR image of the region.
        size: (h, w) of the whole LR image.
        region: (top, left, height, width) of the LR pixels that are held.
        rows: (R,), y in [-1, 1].
        columns: (C,), x in [-1, 1].
    """
    lq = lq.to(image.dtype)
    taps = []
    for axis, position in enumerate((rows, columns)):
        pairs = axis_bilinear(position.to(lq.device), size[axis])
        taps.append([(index - region[axis], weight) for index, weight in pairs])
    step = max(1, (1 << 18) // image.shape[3])
    for top in range(0, image.shape[2], step):
        lines = torch.zeros((), dtype=image.dtype, device=image.device)
        for row, weight in taps[0]:
            lines = lines + lq.index_select(2, row[top : top + step]) * weight[top : top + step, None]
        for column, weight in taps[1]:
            image[:, :, top : top + step] += lines.index_select(3, column) * weight
