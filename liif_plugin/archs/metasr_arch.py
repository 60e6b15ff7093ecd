"""MetaSR (Hu et al., CVPR 2019) as the LIIF paper compares it: the same encoders, another decoder, the same contract."""

from __future__ import annotations

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from .encoder import Encoder
from .mlp import MLP


@ARCH_REGISTRY.register()
class MetaSR(nn.Module):
    """lq (B, 3, h, w) in [0, 1], coord (B, Q, 2), cell (B, Q, 2) -> rgb (B, Q, 3), trained to lie in [0, 1], not clamped.

    An MLP turns (offset y, offset x, 1/scale) into the 3x3 weights that are applied to the feature map under the query.

    Args:
        encoder: ``{type: EDSR, num_feat: 64, num_block: 16}``, see ``Encoder``.
        hidden_list: widths of the MLP's hidden layers; the published one has [256].
    """

    def __init__(self, encoder: dict, hidden_list=(256,)):
        super().__init__()
        self.encoder = Encoder(encoder)
        self.imnet = MLP(3, self.encoder.out_channels * 9 * 3, hidden_list)
        self.register_buffer("mean", torch.tensor(0.5), persistent=False)
        self.register_buffer("std", torch.tensor(0.5), persistent=False)

    def encode(self, lq: Tensor) -> Tensor:
        """(B, 3, h, w) in [0, 1] -> (B, C, h, w)."""
        return self.encoder((lq - self.mean) / self.std)

    def query(self, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """feat (B, C, h, w), coord and cell (B, Q, 2), float32 -> rgb (B, Q, 3)."""
        B, C, h, w = feat.shape
        Q = coord.shape[1]
        size = torch.tensor([h, w], device=coord.device)
        corner = coord - cell / 2  # MetaSR places a pixel by its upper left corner
        nearest = ((corner + 1e-6).clamp(-1 + 1e-6, 1 - 1e-6) + 1) * size / 2 - 0.5
        code = torch.round(nearest).clamp(min=torch.zeros_like(size), max=size - 1)  # (B, Q, 2)
        offset = (corner - (2 * code / size - 1)) * size / 2
        weights = self.imnet(torch.cat([offset, (cell[..., :1] * h / 2)], dim=-1))
        unfolded = F.unfold(feat, 3, padding=1).transpose(1, 2)  # (B, h*w, 9C)
        index = (code[..., 0] * w + code[..., 1]).long()
        index = index + torch.arange(B, device=feat.device).view(B, 1) * (h * w)
        window = F.embedding(index, unfolded.reshape(B * h * w, C * 9))  # (B, Q, 9C)
        rgb = (window.unsqueeze(2) @ weights.view(B, Q, C * 9, 3)).squeeze(2)
        return rgb.to(coord.dtype) * self.std + self.mean

    def forward(self, lq: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        return self.query(self.encode(lq), coord, cell)
