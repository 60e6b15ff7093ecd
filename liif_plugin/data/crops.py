"""Crops, flips and queries of one training item. Images are (H, W, 3) uint8 arrays until the very end."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from ..coords import centre

Flips = tuple[bool, bool, bool]  # vertical, horizontal, transpose
NO_FLIPS: Flips = (False, False, False)


def to_tensor(image: np.ndarray) -> Tensor:
    """Convert (H, W, 3) uint8 to (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.array(image.transpose(2, 0, 1))).float().div_(255)


def augment(images: list[np.ndarray], flips: Flips) -> list[np.ndarray]:
    """Flip every image vertically, flip it horizontally, transpose it, each where its flag is set."""
    vertical, horizontal, transpose = flips
    if vertical:
        images = [image[::-1] for image in images]
    if horizontal:
        images = [image[:, ::-1] for image in images]
    if transpose:
        images = [image.transpose(1, 0, 2) for image in images]
    return images


def draw_flips(rng: np.random.Generator, use_hflip: bool, use_rot: bool) -> Flips:
    """Draw flags for ``augment``. As in BasicSR, use_rot allows the vertical flip and the transpose."""
    vertical, horizontal, transpose = rng.random(3) < 0.5
    return bool(vertical and use_rot), bool(horizontal and use_hflip), bool(transpose and use_rot)


def draw_queries(
    hr: np.ndarray, count: int, rng: np.random.Generator, flips: Flips = NO_FLIPS
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw pixels of ``augment([hr], flips)`` without replacement.

    Args:
        hr: (H, W, 3) uint8, as it was before the flips: it is cheaper to turn the indices than to gather
            from a turned image.
        count: number of pixels Q.
        rng: draws them.
        flips: as for ``augment``.

    Returns:
        coord (Q, 2) and cell (Q, 2) in the turned image, their colours gt (Q, 3) in [0, 1].
    """
    vertical, horizontal, transpose = flips
    h, w = hr.shape[:2]
    # size of the turned image, and pixels in it; unshuffled they are equally distributed as a set, and H*W
    # numbers need no permutation
    H, W = (w, h) if transpose else (h, w)
    chosen = rng.choice(H * W, count, replace=False, shuffle=False)
    row = chosen // W
    column = chosen - row * W
    coord, cell = np.empty((count, 2), np.float32), np.empty((count, 2), np.float32)
    coord[:, 0], coord[:, 1] = _centres(H)[row], _centres(W)[column]
    cell[:] = 2 / H, 2 / W
    # the same pixels before the flips
    y, x = (column, row) if transpose else (row, column)
    y = h - 1 - y if vertical else y
    x = w - 1 - x if horizontal else x
    gt = torch.from_numpy(np.ascontiguousarray(hr).reshape(-1, 3).take(y * w + x, axis=0)).float().div_(255)
    return torch.from_numpy(coord), torch.from_numpy(cell), gt


@functools.lru_cache(maxsize=1024)
def _centres(n: int) -> np.ndarray:
    return centre(np.arange(n), n).astype(np.float32)
