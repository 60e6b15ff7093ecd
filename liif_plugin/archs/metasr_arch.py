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

    def unfold(self, feat: Tensor) -> Tensor:
        """(B, C, h, w) -> (B*h*w, 9C): each LR pixel's 3x3 neighbours, zero outside the border."""
        return F.unfold(feat, 3, padding=1).transpose(1, 2).reshape(-1, 9 * feat.shape[1])

    def query(self, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Feat (B, C, h, w), coord and cell (B, Q, 2), float32 -> rgb (B, Q, 3)."""
        return self.query_unfolded(self.unfold(feat), feat.shape[-2:], coord, cell)

    def query_unfolded(self, table: Tensor, size: tuple[int, int], coord: Tensor, cell: Tensor) -> Tensor:
        """As ``query``, from the result of ``unfold`` for a feature map of ``size`` = (h, w)."""
        h, w = size
        B, Q, _ = coord.shape
        size = torch.tensor([h, w], device=coord.device)
        corner = coord - cell / 2  # MetaSR places a pixel by its upper left corner
        nearest = ((corner + 1e-6).clamp(-1 + 1e-6, 1 - 1e-6) + 1) * size / 2 - 0.5
        code = torch.round(nearest).clamp(min=torch.zeros_like(size), max=size - 1)  # (B, Q, 2)
        offset = (corner - (2 * code / size - 1)) * size / 2
        with torch.autocast(coord.device.type, enabled=False):  # in half precision a place is another place
            hidden = self.imnet.layers[0](torch.cat([offset, (cell[..., :1] * h / 2)], dim=-1))
        weights = self.imnet.layers[1:](hidden)
        index = (code[..., 0] * w + code[..., 1]).long()
        index = index + torch.arange(B, device=table.device).view(B, 1) * (h * w)
        window = F.embedding(index, table)  # (B, Q, 9C)
        rgb = (window.unsqueeze(2) @ weights.view(B, Q, table.shape[1], 3)).squeeze(2)
        return rgb.to(coord.dtype) * self.std + self.mean

    def forward(self, lq: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        return self.query(self.encode(lq), coord, cell)
