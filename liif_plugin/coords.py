"""The convention of the continuous image, written once.

An image of H x W pixels covers the square [-1, 1] x [-1, 1], whatever its size. A position is (y, x). Pixel
i of n has its CENTRE at -1 + (2i + 1)/n; the border of the image is at -1 and 1. A cell is the (height,
width) of a target pixel in the same unit, (2/H, 2/W). Coordinates are float32 whatever the dtype of the
network: half precision breaks the last row and column.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS_SHIFT = 1e-6  # as published: decides which code is "nearest" where a query lies exactly between two
EPS_AREA = 1e-9  # as published: keeps the areas' sum off zero


def centre(index, n: int):
    """Return the centre of pixel ``index`` of ``n``; a number, an array or a tensor.

    Example:
        >>> [centre(i, 4) for i in range(4)]
        [-0.75, -0.25, 0.25, 0.75]
    """
    return (2 * index + 1) / n - 1


def pixel_centres(n: int, start: int = 0, stop: int | None = None, device=None) -> Tensor:
    """Return the centres of the pixels ``start`` to ``stop`` of ``n``: (stop - start,) float32."""
    index = torch.arange(start, n if stop is None else stop, dtype=torch.float64, device="cpu")
    return centre(index, n).float().to(device)


def grid(
    size: tuple[int, int],
    rows: tuple[int, int] | None = None,
    device=None,
    columns: tuple[int, int] | None = None,
) -> Tensor:
    """Return the coordinates (y, x) of the pixels of an image, row by row: (N, 2).

    Args:
        size: (H, W) of the image.
        rows: (first, last + 1) of the rows; None is all of them.
        device: of the result.
        columns: (first, last + 1) of the columns; None is all of them.

    Example:
        >>> grid((2, 2)).tolist()
        [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]
    """
    return mesh(
        pixel_centres(size[0], *(rows or (0, size[0])), device),
        pixel_centres(size[1], *(columns or (0, size[1])), device),
    )


def mesh(y: Tensor, x: Tensor) -> Tensor:
    """Return all pairs of the positions y (R,) and x (C,), row by row: (R*C, 2)."""
    return torch.stack([y[:, None].expand(-1, len(x)), x[None, :].expand(len(y), -1)], dim=-1).reshape(-1, 2)


def cell_of(size: tuple[int, int], device=None) -> Tensor:
    """Return the cell of a pixel of an image of ``size`` = (H, W): (2,)."""
    return torch.tensor([2 / size[0], 2 / size[1]], dtype=torch.float32, device=device)


def image_to_queries(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Turn an image (B, 3, H, W) into coord (B, H*W, 2), cell (B, H*W, 2), rgb (B, H*W, 3)."""
    B, _, H, W = image.shape
    coord = grid((H, W), device=image.device).expand(B, -1, -1)
    cell = cell_of((H, W), device=image.device).expand(B, H * W, 2)
    return coord, cell, image.flatten(2).transpose(1, 2)


def queries_to_image(rgb: Tensor, size: tuple[int, int]) -> Tensor:
    """Turn colours (B, H*W, 3), row by row, into an image (B, 3, H, W)."""
    return rgb.transpose(1, 2).reshape(rgb.shape[0], rgb.shape[2], *size)


def _nearest(position: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the index of the pixel of ``n`` nearest to ``position``, and its centre.

    Halves go to the even index, as in grid_sample.
    """
    # as published: mirror padding of the ensemble at the border
    position = position.clamp(-1 + 1e-6, 1 - 1e-6)
    index = torch.round(((position + 1) * n - 1) / 2).clamp_(0, n - 1)
    return index.long(), centre(index, n)


def axis_corners(position: Tensor, n: int, ensemble: bool = True) -> list[tuple[Tensor, Tensor]]:
    """Do the work of ``corners`` along one axis.

    Args:
        position: any shape, in [-1, 1].
        n: number of codes along the axis.
        ensemble: take the code before and the one behind, or the nearest one alone.

    Returns:
        (index, rel) of each of these codes, of the shape of ``position``.
    """
    shifts = (-1 / n + EPS_SHIFT, 1 / n + EPS_SHIFT) if ensemble else (0.0,)
    return [(index, (position - at) * n) for index, at in (_nearest(position + shift, n) for shift in shifts)]


def axis_bilinear(position: Tensor, n: int) -> list[tuple[Tensor, Tensor]]:
    """Return (index, weight) of the pixel of ``n`` before each position, and of the one behind."""
    position = (((position + 1) * n - 1) / 2).clamp(0, n - 1)
    low = position.floor().clamp(max=max(n - 2, 0))
    return [(low.long(), 1 - (position - low)), ((low.long() + 1).clamp(max=n - 1), position - low)]


def corners(coord: Tensor, size: tuple[int, int], ensemble: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Return the latent codes that answer each query, equations 2 and 4 of the paper.

    Args:
        coord: (B, Q, 2) in [-1, 1], (y, x).
        size: (h, w) of the feature map.
        ensemble: the nearest code of each of the four sub-spaces (T = 4), or the one nearest code (T = 1).

    Returns:
        index: (B, T, Q) into the h*w codes, row by row.
        rel: (B, T, Q, 2), query minus code in LR pixels times 2, the unit of the published networks.
        weight: (B, T, Q), S_t / S, which sums to one over T.
    """
    axes = [axis_corners(coord[..., axis], n, ensemble) for axis, n in enumerate(size)]
    pairs = [(y, x) for y in axes[0] for x in axes[1]]  # (-, -), (-, +), (+, -), (+, +)
    index = torch.stack([y[0] * size[1] + x[0] for y, x in pairs], dim=1)  # (B, T, Q)
    rel = torch.stack([torch.stack([y[1], x[1]], dim=-1) for y, x in pairs], dim=1)  # (B, T, Q, 2)
    area = (rel[..., 0] * rel[..., 1]).abs() + EPS_AREA
    weight = (area / area.sum(dim=1, keepdim=True)).flip(1)  # each code gets the area DIAGONALLY opposite
    return index, rel, weight


def bilinear(coord: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return indices (B, 4, Q) and weights (B, 4, Q) of bilinear interpolation, the border repeated.

    These are not the weights of ``corners``: where two codes of the ensemble coincide at the border, its
    areas are rounding noise.
    """
    axes = [axis_bilinear(coord[..., axis], n) for axis, n in enumerate(size)]
    pairs = [(y, x) for y in axes[0] for x in axes[1]]
    index = torch.stack([y[0] * size[1] + x[0] for y, x in pairs], dim=1)
    return index, torch.stack([y[1] * x[1] for y, x in pairs], dim=1)
