"""Bicubic interpolation as a network without weights: the baseline of every table, under the same contract and protocol."""

from __future__ import annotations

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from ..resize import keys_cubic, mirror


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
            position = (
                (coord[..., axis].double() + 1) * n - 1
            ) / 2  # in pixels; float32 would cost the fifth digit
            index = position.floor().long().unsqueeze(-1) + torch.arange(
                -1, 3, device=feat.device
            )  # (B, Q, 4)
            axes.append((mirror(index, n), keys_cubic(position.unsqueeze(-1) - index)))
        (row, weight_y), (column, weight_x) = axes
        index = (row.unsqueeze(-1) * w + column.unsqueeze(-2)).flatten(2)  # (B, Q, 16)
        weight = (weight_y.unsqueeze(-1) * weight_x.unsqueeze(-2)).flatten(2)
        table = feat.permute(0, 2, 3, 1).reshape(B * h * w, C)
        first_row = torch.arange(B, device=feat.device).view(B, 1, 1) * (h * w)
        near = F.embedding(index + first_row, table)  # (B, Q, 16, C)
        return (near * weight.to(feat.dtype).unsqueeze(-1)).sum(
            dim=2
        )  # no matrix product: autocast would round it

    def forward(self, lq: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        return self.query(lq, coord, cell)
