"""MetaSR (Hu et al., CVPR 2019) as the LIIF paper compares it: the same encoders, another decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor
from torch.nn import functional as F

from .base import ContinuousNetwork, Tile
from .encoder import Encoder
from .mlp import MLP


class Unfolded(NamedTuple):
    """A feature map with each LR pixel's 3x3 neighbours.

    Attributes:
        features: (B, h*w, 9C), zeros outside the border.
        size: (h, w).
    """

    features: Tensor
    size: tuple[int, int]


@ARCH_REGISTRY.register()
class MetaSR(ContinuousNetwork):
    """MetaSR: an MLP predicts the weights of a 3x3 filter for each query.

    lq (B, 3, h, w) in [0, 1], coord (B, Q, 2), cell (B, Q, 2) -> rgb (B, Q, 3), not clamped. Of the cell
    only the height is used.

    Once per LR pixel: the encoder and the unfolding. Once per query: an MLP turns (offset y, offset x,
    1/scale) into the 3x3 weights that are applied to the feature map under the query.

    Args:
        encoder: ``{type: EDSR, num_feat: 64, num_block: 16}``, see ``Encoder``.
        hidden_list: widths of the MLP's hidden layers; the published one has [256].

    Raises:
        UserError: if the encoder cannot be built.

    Example:
        >>> import torch
        >>> net = MetaSR({"type": "EDSR", "num_feat": 8, "num_block": 1}, hidden_list=[16])
        >>> lq, coord = torch.rand(1, 3, 10, 12), torch.rand(1, 5, 2) * 2 - 1
        >>> net(lq, coord, torch.full((1, 5, 2), 0.1)).shape
        torch.Size([1, 5, 3])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: dict, hidden_list: Sequence[int] = (256,)):
        super().__init__()
        self.encoder = Encoder(encoder)
        self.imnet = MLP(3, self.encoder.out_channels * 9 * 3, hidden_list)
        # Images are handed over in [0, 1]; the published networks work in [-1, 1].
        self.register_buffer("mean", torch.tensor(0.5), persistent=False)
        self.register_buffer("std", torch.tensor(0.5), persistent=False)

    def encode(self, lq: Tensor) -> Tensor:
        """(B, 3, h, w) in [0, 1] -> (B, C, h, w)."""
        return self.encoder((lq - self.mean) / self.std)

    def query(self, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Return the colours (B, Q, 3) at coord (B, Q, 2) for cell (B, Q, 2), from feat (B, C, h, w)."""
        return self.sample(self.prepare(feat), coord, cell)

    def prepare(
        self,
        feat: Tensor,
        size: tuple[int, int] | None = None,
        tile: Tile | None = None,
        cell: Tensor | None = None,
    ) -> Unfolded:
        """Join each LR pixel's features to those of its 3x3 neighbours; the rest is not used."""
        return Unfolded(F.unfold(feat, 3, padding=1).transpose(1, 2), (feat.shape[-2], feat.shape[-1]))

    def to_tables(self, feat: Tensor) -> dict[str, Tensor]:
        """Return the unfolded features."""
        return {"table": self.prepare(feat).features.unflatten(1, feat.shape[-2:])}

    def from_tables(self, tables: dict[str, Tensor]) -> Unfolded:
        """Return the same as ``prepare``."""
        table = tables["table"]
        return Unfolded(table.flatten(1, 2), (table.shape[1], table.shape[2]))

    def sample(self, prepared: Unfolded, coord: Tensor, cell: Tensor) -> Tensor:
        """Return the same as ``query``, from the result of ``prepare``."""
        features, (h, w) = prepared
        B, Q, _ = coord.shape
        size = torch.tensor([h, w], device=coord.device)
        # MetaSR places a pixel by its upper left corner. The LR pixel in which it lies, and how far inside.
        corner = coord - cell / 2
        nearest = ((corner + 1e-6).clamp(-1 + 1e-6, 1 - 1e-6) + 1) * size / 2 - 0.5  # 1e-6: as published
        code = torch.round(nearest).clamp(min=torch.zeros_like(size), max=size - 1)  # (B, Q, 2)
        offset = (corner - (2 * code / size - 1)) * size / 2
        # The MLP's first layer in float32: in half precision a position is another position.
        with torch.autocast(coord.device.type, enabled=False):
            hidden = self.imnet.layers[0](torch.cat([offset, (cell[..., :1] * h / 2)], dim=-1))
        weights = self.imnet.layers[1:](hidden)  # (B, Q, 9C * 3)
        # Apply the weights to the 3x3 features under the query.
        index = (code[..., 0] * w + code[..., 1]).long()
        index = index + torch.arange(B, device=features.device).view(B, 1) * (h * w)
        window = F.embedding(index, features.flatten(0, 1))  # (B, Q, 9C)
        rgb = (window.unsqueeze(2) @ weights.view(B, Q, features.shape[2], 3)).squeeze(2)
        return rgb.to(coord.dtype) * self.std + self.mean
