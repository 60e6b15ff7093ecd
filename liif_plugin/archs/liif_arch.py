"""LIIF: Local Implicit Image Function (Chen, Liu, Wang, CVPR 2021).

``reference.py`` has the same function in its plain form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor
from torch.nn import functional as F

from ..coords import bilinear, corners
from ..errors import UserError
from .base import QUERIES_AT_ONCE, Tile, cut
from .encoder import EncodedNetwork
from .liif_grid import GridDecoder
from .mlp import MLP
from .target_axes import check_positions


class Projection(NamedTuple):
    """A feature map behind the first decoder layer, ready for any number of queries.

    Attributes:
        features: (B, n, D), one row for each of the n LR pixels of the region.
        image: (B, n, 3) in [0, 1], the LR image of the region, or None without the residual.
        size: (h, w) of the whole LR image.
        region: (top, left, height, width) of the LR pixels that are held.
    """

    features: Tensor
    image: Tensor | None
    size: tuple[int, int]
    region: tuple[int, int, int, int]


@ARCH_REGISTRY.register()
class LIIF(EncodedNetwork):
    """Local Implicit Image Function: an MLP predicts a colour from the nearest features and a position.

    lq (B, 3, h, w) in [0, 1], coord (B, Q, 2), cell (B, Q, 2) -> rgb (B, Q, 3), not clamped.

    Once per LR pixel: the encoder, and the feature part of the first decoder layer. This layer is linear in
    [unfolded feature, relative coordinate, relative cell], so its feature part is a 3x3 convolution of the
    feature map; the unfolded map of 9C channels never exists. Once per query and corner: the rest of the
    first layer and the hidden layers. Once per query: the last layer, which is linear too and follows the
    blend of the four corners instead of preceding it. The function and the weights are those of the paper.

    Args:
        encoder: ``{type: EDSR, num_feat: 64, num_block: 16}``, see ``Encoder``.
        hidden_list: widths of the decoder's hidden layers, at least one; the paper has [256, 256, 256, 256],
            its row -d of Table 3 [256, 256].
        feat_unfold: join each code to its 3x3 neighbours (section 3, equation 3); false is row -u.
        local_ensemble: ask four codes for each query (equation 4); false is row -e.
        cell_decode: tell the decoder the size of the queried pixel (equation 5); false is row -c.
        residual: 'bilinear' adds the bilinearly enlarged input to the output; None is the paper's.

    Raises:
        UserError: if ``residual`` is another word, ``hidden_list`` is empty, or the encoder cannot be built.

    Example:
        >>> import torch
        >>> net = LIIF({"type": "EDSR", "num_feat": 8, "num_block": 1}, hidden_list=[16])
        >>> lq, coord = torch.rand(1, 3, 10, 12), torch.rand(1, 5, 2) * 2 - 1
        >>> net(lq, coord, torch.full((1, 5, 2), 0.1)).shape
        torch.Size([1, 5, 3])
    """

    def __init__(
        self,
        encoder: dict,
        hidden_list: Sequence[int] = (256, 256, 256, 256),
        feat_unfold: bool = True,
        local_ensemble: bool = True,
        cell_decode: bool = True,
        residual: str | None = None,
    ):
        # One pixel for the unfolding and one for the ensemble.
        super().__init__(encoder, 2, local_ensemble)
        if residual not in (None, "bilinear"):
            raise UserError(f"network_g.residual: expected 'bilinear' or nothing (~), got '{residual}'.")
        if not hidden_list:
            raise UserError("network_g.hidden_list: expected at least one width, such as [256, 256], got [].")
        self.window = 3 if feat_unfold else 1
        self.cell_decode = self.uses_cell = cell_decode
        self.residual = residual
        in_dim = self.encoder.out_channels * self.window**2 + 2 + 2 * cell_decode
        self.imnet = MLP(in_dim, 3, hidden_list)

    def encode(self, lq: Tensor) -> Tensor:
        """(B, 3, h, w) in [0, 1] -> (B, C, h, w), or (B, C + 3, h, w) with the image, for the residual."""
        if self.residual is not None:
            return super().encode(lq)
        return self.encoder((lq - self.mean) / self.std)

    def prepare(
        self,
        feat: Tensor,
        size: tuple[int, int] | None = None,
        tile: Tile | None = None,
        cell: Tensor | None = None,
    ) -> Projection:
        """Compute the feature part of the first decoder layer for each LR pixel.

        Args:
            feat: (B, C, h, w), from ``encode``.
            size: not used; LIIF's features serve every target size.
            tile: where ``feat`` lies; around its region ``feat`` must hold one pixel more for the unfolding.
            cell: not used.

        Raises:
            ValueError: if ``feat`` does not reach far enough around the region.
        """
        h, w = feat.shape[-2:]
        tile = tile or Tile((h, w), (0, 0), (0, 0, h, w))
        image = None
        if self.residual is not None:
            feat, lq = feat[:, :-3], feat[:, -3:]
            image = cut(lq, tile, margin=0).flatten(2).transpose(1, 2)
        # The first layer's weights of the features, as a convolution: F.unfold orders channels (C, 3, 3) too.
        first, C = self.imnet.linears[0], feat.shape[1]
        weight = first.weight[:, : C * self.window**2].reshape(-1, C, self.window, self.window)
        part = cut(feat, tile, margin=self.window // 2)  # zero outside the image, as in equation 3
        features = F.conv2d(part.contiguous(memory_format=torch.channels_last), weight, first.bias)
        return Projection(features.flatten(2).transpose(1, 2), image, tile.size, tile.region)

    def to_tables(self, feat: Tensor) -> dict[str, Tensor]:
        """Return the features behind the first layer, and the image where the residual needs it."""
        features, image, (h, w), _ = self.prepare(feat)
        tables = {"table": features.unflatten(1, (h, w))}
        return tables if image is None else {**tables, "skip": image.unflatten(1, (h, w))}

    def from_tables(self, tables: dict[str, Tensor]) -> Projection:
        """Return the same as ``prepare`` of a whole image."""
        table = tables["table"]
        h, w = table.shape[1:3]
        image = tables["skip"].flatten(1, 2) if "skip" in tables else None
        return Projection(table.flatten(1, 2), image, (h, w), (0, 0, h, w))

    def sample(self, prepared: Projection, coord: Tensor, cell: Tensor) -> Tensor:
        """Return the same as ``query``, from the result of ``prepare`` for a whole image."""
        features, image, (h, w), region = prepared
        check_positions(coord, (h, w), region)
        # The nearest codes of each query: their rows in the table, and the query's position relative to them.
        index, rel, weight = corners(coord, (h, w), self.local_ensemble)  # (B, T, Q), (B, T, Q, 2), (B, T, Q)
        B = coord.shape[0]  # len() would fix it in an exported graph
        index_of_batch = torch.arange(B, device=index.device).view(B, 1, 1) * (h * w)
        # The first layer: gather its feature part, add its part of position and cell.
        hidden = F.embedding(index + index_of_batch, features.flatten(0, 1))  # (B, T, Q, D)
        hidden = hidden + self._position_part(rel, cell, (h, w)).to(features.dtype)
        # The hidden layers.
        for linear in self.imnet.linears[1:-1]:
            hidden = linear(F.relu_(hidden))
        hidden = F.relu_(hidden)
        # Blend the corners (equation 4), then the last layer.
        hidden = (hidden * weight.unsqueeze(-1).to(hidden.dtype)).sum(dim=1)  # (B, Q, D)
        rgb = self.imnet.linears[-1](hidden).to(coord.dtype) * self.std
        if image is None:
            return rgb + self.mean
        # The residual: the LR image, enlarged bilinearly.
        index, weight = bilinear(coord, (h, w))
        pixels = F.embedding(index + index_of_batch, image.flatten(0, 1))  # (B, 4, Q, 3)
        return rgb + (pixels * weight.unsqueeze(-1)).sum(dim=1)

    def _position_part(self, rel: Tensor, cell: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the first layer's part of position and cell, always in float32: (B, T, Q, D)."""
        weight = self.imnet.linears[0].weight[:, -2 - 2 * self.cell_decode :].to(rel.dtype)
        with torch.autocast(rel.device.type, enabled=False):
            part = F.linear(rel, weight[:, :2])
            if self.cell_decode:
                scaled = cell.to(rel.dtype) * torch.tensor(size, device=cell.device)
                part = part + F.linear(scaled, weight[:, 2:]).unsqueeze(1)
        return part

    def decode(
        self,
        prepared: Projection,
        rows: Tensor,
        columns: Tensor,
        cell: Tensor,
        dtype: torch.dtype = torch.float32,
        queries_at_once: int = QUERIES_AT_ONCE,
    ) -> Tensor:
        """Return the pixels of a grid, see ``ContinuousNetwork.decode``; also from the features of a tile."""
        return GridDecoder(self, prepared, cell, dtype).decode(rows, columns, queries_at_once)
