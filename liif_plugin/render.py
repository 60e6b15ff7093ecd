"""A network and a low-resolution image -> an image of any size, in row blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from .coords import cell_of, grid, queries_to_image

QUERIES_AT_ONCE = 16384  # what one block decodes: keeps the hidden activations (4 corners x 256 floats a query) at 64 MiB


def is_continuous(net) -> bool:
    """Whether ``net`` has the contract encode/query; a network without it has one fixed scale."""
    return hasattr(net, "encode") and hasattr(net, "query")


@torch.no_grad()
def render(net, lq: Tensor, size: tuple[int, int], cell: Tensor | None = None, queries_at_once: int = QUERIES_AT_ONCE) -> Tensor:
    """lq (B, 3, h, w) in [0, 1] -> (B, 3, H, W) with ``size`` = (H, W), float32, not clamped.

    Args:
        net: knows encode and query; where it also has project and query_projected, the first layer is computed once.
        cell: (2,), the cell of every pixel; None is the true one, 2/H and 2/W.
        queries_at_once: pixels per block. The result does not depend on it.

    Raises:
        ValueError: for a size below one pixel.
    """
    H, W = size
    if H < 1 or W < 1:
        raise ValueError(f"size: expected at least 1 x 1, got {H} x {W}.")
    feat = net.encode(lq)
    source, query = (net.project(feat), net.query_projected) if hasattr(net, "project") else (feat, net.query)
    cell = cell_of(size) if cell is None else cell
    rows = max(1, queries_at_once // (W * len(lq)))
    image = torch.empty(len(lq), 3, H, W, dtype=torch.float32, device=lq.device)
    for first in range(0, H, rows):
        stop = min(first + rows, H)
        coord = grid(size, (first, stop), device=lq.device).expand(len(lq), -1, -1)
        rgb = query(source, coord, cell.to(lq.device).expand_as(coord))
        image[:, :, first:stop] = queries_to_image(rgb, (stop - first, W))
    return image
