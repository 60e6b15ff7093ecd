"""LIIF: Local Implicit Image Function (Chen, Liu, Wang, CVPR 2021)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from ..coords import bilinear, corners
from ..errors import UserError
from .encoder import Encoder
from .liif_grid import GridDecoder
from .mlp import MLP


class Projection(NamedTuple):
    """A feature map behind the first decoder layer, ready for any number of queries.

    table: (B*n, D), one row per LR pixel of the region. skip: (B*n, 3) in [0, 1], or None without the residual. size: (h, w) of the
    whole LR image. region: (top, left, height, width) of what the table holds of it.
    """

    table: Tensor
    skip: Tensor | None
    size: tuple[int, int]
    region: tuple[int, int, int, int]


def _cut(
    feat: Tensor,
    region: tuple[int, int, int, int],
    origin: tuple[int, int],
    size: tuple[int, int],
    margin: int,
) -> Tensor:
    """``region`` of the image and ``margin`` pixels around it, out of ``feat``, which begins at ``origin``; zero outside the image."""
    spans, pads = [], []
    for axis in (0, 1):
        first, stop = region[axis] - margin, region[axis] + region[axis + 2] + margin
        if max(first, 0) < origin[axis]:
            raise ValueError(
                f"region: {region} needs {margin} pixels around it, but the tile begins at {origin}."
            )
        spans.append(slice(max(first, 0) - origin[axis], min(stop, size[axis]) - origin[axis]))
        pads.append((max(-first, 0), max(stop - size[axis], 0)))
    part = feat[..., spans[0], spans[1]]
    return F.pad(part, (*pads[1], *pads[0])) if any(map(any, pads)) else part


@ARCH_REGISTRY.register()
class LIIF(nn.Module):
    """lq (B, 3, h, w) in [0, 1], coord (B, Q, 2), cell (B, Q, 2) -> rgb (B, Q, 3), trained to lie in [0, 1], not clamped.

    The first decoder layer is linear in [unfolded feature, relative coordinate, relative cell], so its feature part is a 3x3
    convolution of the feature map, computed once per LR pixel (``project``); the unfolded map of 9C channels never exists. The
    last layer is linear too and follows the blend of the ensemble instead of preceding it. Same function, same weights.

    Args:
        encoder: ``{type: EDSR, num_feat: 64, num_block: 16}``, see ``Encoder``.
        hidden_list: widths of the decoder's hidden layers; the paper has [256, 256, 256, 256], its -d [256, 256].
        feat_unfold: each code is joined by its 3x3 neighbours, section 3, equation 3; off: -u of Table 3.
        local_ensemble: four codes answer each query, equation 4; off: -e.
        cell_decode: the decoder knows the size of the query pixel, equation 5; off: -c.
        residual: 'bilinear' adds the bilinearly upsampled input to the output; None is the paper's.
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
        super().__init__()
        if residual not in (None, "bilinear"):
            raise UserError(f"network_g.residual: expected 'bilinear' or nothing (~), got '{residual}'.")
        self.encoder = Encoder(encoder)
        self.window = 3 if feat_unfold else 1
        self.local_ensemble = local_ensemble
        self.cell_decode = cell_decode
        self.residual = residual
        in_dim = self.encoder.out_channels * self.window**2 + 2 + 2 * cell_decode
        self.imnet = MLP(in_dim, 3, hidden_list)
        # images are handed over in [0, 1]; the published networks work in [-1, 1]
        self.register_buffer("mean", torch.tensor(0.5), persistent=False)
        self.register_buffer("std", torch.tensor(0.5), persistent=False)

    def encode(self, lq: Tensor) -> Tensor:
        """(B, 3, h, w) in [0, 1] -> (B, C, h, w); with the residual the image itself follows as three more channels."""
        feat = self.encoder((lq - self.mean) / self.std)
        return feat if self.residual is None else torch.cat([feat.to(lq.dtype), lq], dim=1)

    @property
    def halo(self) -> int | None:
        """LR pixels around a tile that its decoded pixels depend on, None where it is the whole image: encoder, unfolding, ensemble."""
        if (
            self.encoder.halo is None or len(self.imnet.linears) < 2
        ):  # without hidden layers there is no grid_decoder
            return None
        return self.encoder.halo + 2

    @property
    def pad_multiple(self) -> int:
        """Tiles must start on multiples of this (the encoder's window)."""
        return self.encoder.pad_multiple

    def project(
        self,
        feat: Tensor,
        size: tuple[int, int] | None = None,
        origin: tuple[int, int] = (0, 0),
        region: tuple[int, int, int, int] | None = None,
    ) -> Projection:
        """(B, C, h, w) -> what ``query_projected`` needs of it, for queries in many chunks.

        Args:
            size, origin: for the features of a tile: (h, w) of the whole LR image, and where in it the tile's first pixel is.
            region: (top, left, height, width) in the whole image to keep; a tile must hold a pixel more on each side, for the unfolding.
        """
        h, w = feat.shape[-2:]
        size = size or (h, w)
        region = region or (*origin, h, w)
        skip = None
        if self.residual is not None:
            feat, image = feat[:, :-3], feat[:, -3:]
            skip = _cut(image, region, origin, size, 0).permute(0, 2, 3, 1).reshape(-1, 3)
        first = self.imnet.linears[0]
        C = feat.shape[1]
        # F.unfold orders channels (C, 3, 3), which is a convolution's order
        weight = first.weight[:, : C * self.window**2].reshape(-1, C, self.window, self.window)
        part = _cut(feat, region, origin, size, self.window // 2)  # zero outside the border, equation 3
        table = F.conv2d(part.contiguous(memory_format=torch.channels_last), weight, first.bias)
        return Projection(table.permute(0, 2, 3, 1).reshape(-1, table.shape[1]), skip, size, region)

    def grid_decoder(self, projection: Projection, cell: Tensor, dtype: torch.dtype) -> GridDecoder | None:
        """What decodes rows x columns of positions faster than ``query_projected``, or None without hidden layers."""
        return GridDecoder(self, projection, cell, dtype) if len(self.imnet.linears) > 1 else None

    def with_one_code(self) -> LIIF:
        """The same network, its weights shared, asked without the ensemble (-e of Table 3)."""
        other = copy.copy(self)
        other.local_ensemble = False
        return other

    def query(self, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Feat (B, C, h, w), coord and cell (B, Q, 2), float32 -> rgb (B, Q, 3).

        Raises:
            ValueError: for coordinates in half precision, or of another shape.
        """
        return self.query_projected(self.project(feat), coord, cell)

    def query_projected(self, projection: Projection, coord: Tensor, cell: Tensor) -> Tensor:
        """As ``query``, from the result of ``project``."""
        if coord.dtype not in (torch.float32, torch.float64) or coord.shape[-1] != 2 or coord.dim() != 3:
            raise ValueError(
                f"coord: expected float32 of shape (B, Q, 2), got {coord.dtype} of {tuple(coord.shape)}."
            )
        table, skip, (h, w), region = projection
        if region != (0, 0, h, w):
            raise ValueError(
                "query_projected needs the projection of a whole image; a tile's is for grid_decoder."
            )
        B = coord.shape[0]  # len() would fix it in an exported graph
        index, rel, weight = corners(coord, (h, w), self.local_ensemble)  # (B, T, Q), (B, T, Q, 2), (B, T, Q)
        first_row = torch.arange(B, device=index.device).view(B, 1, 1) * (h * w)
        hidden = F.embedding(index + first_row, table) + self._place(rel, cell, (h, w)).to(
            table.dtype
        )  # (B, T, Q, D)
        last = self.imnet.linears[-1]
        for linear in self.imnet.linears[1:-1]:
            hidden = linear(F.relu_(hidden))
        if len(self.imnet.linears) > 1:
            hidden = F.relu_(hidden)
        hidden = (hidden * weight.unsqueeze(-1).to(hidden.dtype)).sum(dim=1)  # equation 4: (B, Q, D)
        rgb = last(hidden) if len(self.imnet.linears) > 1 else hidden
        rgb = rgb.to(coord.dtype) * self.std
        if skip is None:
            return rgb + self.mean
        index, weight = bilinear(coord, (h, w))
        return rgb + (F.embedding(index + first_row, skip) * weight.unsqueeze(-1)).sum(dim=1)

    def _place(self, rel: Tensor, cell: Tensor, size: tuple[int, int]) -> Tensor:
        """The part of the first layer that depends on where and how large the query is, in float32: (B, T, Q, D)."""
        weight = self.imnet.linears[0].weight[:, -2 - 2 * self.cell_decode :].to(rel.dtype)
        with torch.autocast(rel.device.type, enabled=False):
            place = F.linear(rel, weight[:, :2])
            if self.cell_decode:
                scaled = cell.to(rel.dtype) * torch.tensor(size, device=cell.device)
                place = place + F.linear(scaled, weight[:, 2:]).unsqueeze(1)
        return place

    def forward(self, lq: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        return self.query(self.encode(lq), coord, cell)
