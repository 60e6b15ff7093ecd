"""Bicubic interpolation as a network without weights: the baseline of every table."""

from __future__ import annotations

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor
from torch.nn import functional as F

from ..resize import keys_cubic, mirror
from .base import ContinuousNetwork


@ARCH_REGISTRY.register()
class Bicubic(ContinuousNetwork):
    """Bicubic interpolation under the contract of a network.

    lq (B, 3, h, w) in [0, 1], coord (B, Q, 2), cell (B, Q, 2) -> rgb (B, Q, 3), not clamped.

    Cubic convolution of the 4x4 nearest pixels, the border mirrored: MATLAB's imresize where it enlarges. It
    ignores the cell, so it does not antialias where it shrinks.

    Example:
        >>> import torch
        >>> net, lq = Bicubic(), torch.full((1, 3, 4, 4), 0.25)
        >>> net(lq, torch.zeros(1, 1, 2), torch.ones(1, 1, 2))
        tensor([[[0.2500, 0.2500, 0.2500]]])
    """

    uses_cell = False
    not_exportable = "it has no weights; every runtime has a cubic Resize of its own"

    def encode(self, lq: Tensor) -> Tensor:
        """Return the image itself."""
        return lq

    def query(self, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Interpolate ``feat`` (B, 3, h, w) at ``coord`` (B, Q, 2): (B, Q, 3)."""
        B, C, h, w = feat.shape
        # Along each axis: the four nearest pixels and their weights, (B, Q, 4).
        axes = []
        for axis, n in enumerate((h, w)):
            # In pixels; float32 costs the fifth digit
            position = ((coord[..., axis].double() + 1) * n - 1) / 2
            index = position.floor().long().unsqueeze(-1) + torch.arange(-1, 3, device=feat.device)
            axes.append((mirror(index, n), keys_cubic(position.unsqueeze(-1) - index)))
        (row, weight_y), (column, weight_x) = axes
        # All 16 pairs of them.
        index = (row.unsqueeze(-1) * w + column.unsqueeze(-2)).flatten(2)  # (B, Q, 16)
        weight = (weight_y.unsqueeze(-1) * weight_x.unsqueeze(-2)).flatten(2)
        pixels = feat.permute(0, 2, 3, 1).reshape(B * h * w, C)
        index_of_batch = torch.arange(B, device=feat.device).view(B, 1, 1) * (h * w)
        near = F.embedding(index + index_of_batch, pixels)  # (B, Q, 16, C)
        # A matrix product would be rounded in autocast
        return (near * weight.to(feat.dtype).unsqueeze(-1)).sum(dim=2)
