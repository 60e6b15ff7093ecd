"""LIIF's decoder as the paper writes it (section 3, equations 2 to 5). Read this file first.

It is slow on purpose: it unfolds the whole feature map and runs the whole decoder four times for each query.
Tests and benchmarks compare the fast form in ``liif_arch.py`` and ``liif_grid.py`` with it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..coords import EPS_AREA, EPS_SHIFT, cell_of, centre, grid


def reference_query(net, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Return what ``LIIF.query`` returns, for a LIIF ``net`` without a residual.

    Args:
        net: a LIIF, with or without unfolding, ensemble and cell decoding.
        feat: (B, C, h, w), from ``net.encode``.
        coord: (B, Q, 2), (y, x) in [-1, 1].
        cell: (B, Q, 2), height and width of the queried pixels.

    Returns:
        (B, Q, 3) RGB.
    """
    h, w = feat.shape[-2:]
    size = coord.new_tensor([h, w])
    # Feature unfolding (equation 3): join each code to its 3 x 3 neighbours, zeros outside the border.
    codes = F.unfold(feat, 3, padding=1) if net.window == 3 else feat.flatten(2)  # (B, 9C, h*w)
    # The centre of each code. Code (i, j) stands in the centre of LR pixel (i, j).
    y_of_code, x_of_code = (centre(torch.arange(n).to(coord), n) for n in (h, w))
    answers, areas = [], []
    # Local ensemble (equation 4): ask the nearest code in each of the four directions.
    for sy, sx in [(-1, -1), (-1, 1), (1, -1), (1, 1)] if net.local_ensemble else [(0, 0)]:
        # Move the query by half an LR pixel; 1e-6 decides which code is nearest where two are equally near.
        shift = coord.new_tensor([sy, sx]) / size + EPS_SHIFT * net.local_ensemble
        moved = (coord + shift).clamp(-1 + 1e-6, 1 - 1e-6)
        # Row and column of the code, (B, Q) each.
        i, j = torch.round(((moved + 1) * size - 1) / 2).long().unbind(-1)
        index = (i * w + j).unsqueeze(1).expand(-1, codes.shape[1], -1)
        code = codes.gather(2, index).transpose(1, 2)  # (B, Q, 9C)
        # Where the query lies as seen from the code, in LR pixels times 2.
        rel = (coord - torch.stack([y_of_code[i], x_of_code[j]], dim=-1)) * size  # (B, Q, 2)
        # The decoder f(z, x - v) of equation 2; with cell decoding (equation 5) it gets the pixel's size too.
        inputs = [code, rel, cell * size] if net.cell_decode else [code, rel]
        answers.append(net.imnet(torch.cat(inputs, dim=-1)))  # (B, Q, 3)
        areas.append(rel.prod(dim=-1).abs() + EPS_AREA)  # of the rectangle between the query and this code
    # Each answer is weighted by the area of the rectangle diagonally opposite.
    total = torch.stack(areas).sum(dim=0)
    rgb = sum(a * (S / total).unsqueeze(-1) for a, S in zip(answers, reversed(areas)))
    return rgb * net.std + net.mean  # the published networks work in [-1, 1]


@torch.no_grad()
def reference_image(net, feat: Tensor, size: tuple[int, int], queries_at_once: int = 30000) -> Tensor:
    """Return the image of ``size`` = (H, W) by ``reference_query``: (B, 3, H, W).

    It is computed in chunks of queries, as in the published evaluation.
    """
    coord = grid(size, device=feat.device).expand(len(feat), -1, -1)
    cell = cell_of(size, device=feat.device).expand_as(coord)
    chunks = zip(coord.split(queries_at_once, dim=1), cell.split(queries_at_once, dim=1))
    rgb = torch.cat([reference_query(net, feat, *chunk) for chunk in chunks], dim=1)
    return rgb.transpose(1, 2).reshape(len(feat), 3, *size)
