"""The convention of the continuous image, written once.

An image of H x W pixels covers the square [-1, 1] x [-1, 1], whatever its size. A position is (y, x). Pixel i of n has its
CENTRE at -1 + (2i + 1)/n; the border of the image is at -1 and 1. A cell is the (height, width) of a target pixel in the same
unit, (2/H, 2/W). Coordinates are float32 whatever the dtype of the network: half precision breaks the last row and column.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS_SHIFT = 1e-6  # as published: decides which code is "nearest" where a query lies exactly between two
EPS_AREA = 1e-9  # as published: keeps the areas' sum off zero


def centre(index, n: int):
    """Centre of pixel ``index`` of ``n``; a number, an array or a tensor."""
    return (2 * index + 1) / n - 1


def pixel_centres(n: int, start: int = 0, stop: int | None = None, device=None) -> Tensor:
    """Centres of the pixels ``start`` to ``stop`` of ``n``, float32: (stop - start,)."""
    index = torch.arange(start, n if stop is None else stop, dtype=torch.float64, device="cpu")
    return centre(index, n).float().to(device)


def grid(
    size: tuple[int, int],
    rows: tuple[int, int] | None = None,
    device=None,
    columns: tuple[int, int] | None = None,
) -> Tensor:
    """Coordinates of all pixels of an image of ``size`` = (H, W), row by row: (N, 2); or of its ``rows`` and ``columns`` alone.

    Args:
        rows, columns: (first, last + 1).
    """
    return mesh(
        pixel_centres(size[0], *(rows or (0, size[0])), device),
        pixel_centres(size[1], *(columns or (0, size[1])), device),
    )


def mesh(y: Tensor, x: Tensor) -> Tensor:
    """All pairs of the positions y (R,) and x (C,), row by row: (R*C, 2)."""
    return torch.stack([y[:, None].expand(-1, len(x)), x[None, :].expand(len(y), -1)], dim=-1).reshape(-1, 2)


def cell_of(size: tuple[int, int], device=None) -> Tensor:
    """The cell of a pixel of an image of ``size`` = (H, W): (2,)."""
    return torch.tensor([2 / size[0], 2 / size[1]], dtype=torch.float32, device=device)


def image_to_queries(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 3, H, W) -> coord (B, H*W, 2), cell (B, H*W, 2), rgb (B, H*W, 3)."""
    B, _, H, W = image.shape
    coord = grid((H, W), device=image.device).expand(B, -1, -1)
    cell = cell_of((H, W), device=image.device).expand(B, H * W, 2)
    return coord, cell, image.flatten(2).transpose(1, 2)


def queries_to_image(rgb: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H*W, 3), row by row -> (B, 3, H, W)."""
    return rgb.transpose(1, 2).reshape(rgb.shape[0], rgb.shape[2], *size)


def _nearest(position: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Index of the pixel of ``n`` nearest to ``position``, and its centre; halves go to the even index, as in grid_sample."""
    position = position.clamp(
        -1 + 1e-6, 1 - 1e-6
    )  # as published: mirror padding of the ensemble at the border
    index = torch.round(((position + 1) * n - 1) / 2).clamp_(0, n - 1)
    return index.long(), centre(index, n)


def axis_corners(position: Tensor, n: int, ensemble: bool = True) -> list[tuple[Tensor, Tensor]]:
    """``corners`` along one axis of ``n`` codes: (index, rel) of the code before and the one behind, or of the nearest one.

    Args:
        position: any shape, in [-1, 1].
    """
    shifts = (-1 / n + EPS_SHIFT, 1 / n + EPS_SHIFT) if ensemble else (0.0,)
    return [(index, (position - at) * n) for index, at in (_nearest(position + shift, n) for shift in shifts)]


def axis_bilinear(position: Tensor, n: int) -> list[tuple[Tensor, Tensor]]:
    """``bilinear`` along one axis of ``n`` pixels: (index, weight) of the pixel before and the one behind."""
    position = (((position + 1) * n - 1) / 2).clamp(0, n - 1)
    low = position.floor().clamp(max=max(n - 2, 0))
    return [(low.long(), 1 - (position - low)), ((low.long() + 1).clamp(max=n - 1), position - low)]


def corners(coord: Tensor, size: tuple[int, int], ensemble: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """The latent codes that answer each query, equations 2 and 4 of the paper.

    Args:
        coord: (B, Q, 2) in [-1, 1], (y, x).
        size: (h, w) of the feature map.
        ensemble: the nearest code of each of the four sub-spaces (T = 4), or the one nearest code (T = 1).

    Returns:
        index: (B, T, Q) into the h*w codes, row by row. rel: (B, T, Q, 2), query minus code in LR pixels times 2 (the unit of the
        published networks). weight: (B, T, Q), S_t / S, which sums to one over T.
    """
    axes = [axis_corners(coord[..., axis], n, ensemble) for axis, n in enumerate(size)]
    pairs = [(y, x) for y in axes[0] for x in axes[1]]  # (-, -), (-, +), (+, -), (+, +)
    index = torch.stack([y[0] * size[1] + x[0] for y, x in pairs], dim=1)  # (B, T, Q)
    rel = torch.stack([torch.stack([y[1], x[1]], dim=-1) for y, x in pairs], dim=1)  # (B, T, Q, 2)
    area = (rel[..., 0] * rel[..., 1]).abs() + EPS_AREA
    weight = (area / area.sum(dim=1, keepdim=True)).flip(1)  # each code gets the area DIAGONALLY opposite
    return index, rel, weight


def bilinear(coord: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Indices (B, 4, Q) and weights (B, 4, Q) of bilinear interpolation, the border repeated.

    Not the weights of ``corners``: where two codes of the ensemble coincide at the border, its areas are rounding noise.
    """
    axes = [axis_bilinear(coord[..., axis], n) for axis, n in enumerate(size)]
    pairs = [(y, x) for y in axes[0] for x in axes[1]]
    index = torch.stack([y[0] * size[1] + x[0] for y, x in pairs], dim=1)
    return index, torch.stack([y[1] * x[1] for y, x in pairs], dim=1)
