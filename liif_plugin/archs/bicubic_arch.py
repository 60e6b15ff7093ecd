"""Bicubic interpolation as a network without weights: the baseline of every table, under the same contract and protocol."""

from __future__ import annotations

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F


def _keys_cubic(x: Tensor) -> Tensor:
    """Keys' cubic kernel, a = -0.5, at distances ``x`` in pixels."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, torch.zeros_like(x)))


def _mirror(index: Tensor, n: int) -> Tensor:
    index = index % (2 * n)
    return torch.where(index < n, index, 2 * n - 1 - index)


@ARCH_REGISTRY.register()
class Bicubic(nn.Module):
    """lq (B, 3, h, w) in [0, 1], coord (B, Q, 2), cell (B, Q, 2) -> rgb (B, Q, 3), not clamped.

    Cubic convolution of the 4x4 nearest pixels, border mirrored: MATLAB's imresize where it enlarges. It does not look at the
    cell, so that it does not antialias where it shrinks.
    """

    def encode(self, lq: Tensor) -> Tensor:
        return lq

    def query(self, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        B, C, h, w = feat.shape
        axes = []
        for axis, n in enumerate((h, w)):
            position = ((coord[..., axis].double() + 1) * n - 1) / 2  # in pixels; float32 would cost the fifth digit
            index = position.floor().long().unsqueeze(-1) + torch.arange(-1, 3, device=feat.device)  # (B, Q, 4)
            axes.append((_mirror(index, n), _keys_cubic(position.unsqueeze(-1) - index)))
        (row, weight_y), (column, weight_x) = axes
        index = (row.unsqueeze(-1) * w + column.unsqueeze(-2)).flatten(2)  # (B, Q, 16)
        weight = (weight_y.unsqueeze(-1) * weight_x.unsqueeze(-2)).flatten(2)
        table = feat.permute(0, 2, 3, 1).reshape(B * h * w, C)
        first_row = torch.arange(B, device=feat.device).view(B, 1, 1) * (h * w)
        near = F.embedding(index + first_row, table)  # (B, Q, 16, C)
        return (weight.to(feat.dtype).unsqueeze(2) @ near).squeeze(2)

    def forward(self, lq: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        return self.query(lq, coord, cell)
