"""LTE: Local Texture Estimator (Lee, Jin, CVPR 2022): a decoder that sees the codes as waves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from ..coords import corners
from ..errors import UserError
from .base import QUERIES_AT_ONCE, Tile, cut
from .encoder import EncodedNetwork
from .mlp import MLP, block_bytes, padded_count, relu_layer
from .target_axes import (
    RowAnswer,
    Visits,
    add_bilinear,
    check_positions,
    decode_by_lr_rows,
    sample_bilinear,
)


class Waves(NamedTuple):
    """Amplitudes and frequencies of a feature map, one row for each LR pixel of the region.

    Attributes:
        coef: (B, height, width, 2K), amplitudes of the K cosines, then of the K sines.
        freq: (B, height, width, 2K), frequencies along y and x in turn.
        image: (B, 3, height, width) in [0, 1], the LR image of the region.
        size: (h, w) of the whole LR image.
        region: (top, left, height, width) of the LR pixels that are held.
    """

    coef: Tensor
    freq: Tensor
    image: Tensor
    size: tuple[int, int]
    region: tuple[int, int, int, int]


@ARCH_REGISTRY.register()
class LTE(EncodedNetwork):
    """Local Texture Estimator: an MLP of sines and cosines whose amplitudes and frequencies are features.

    lq (B, 3, h, w) in [0, 1], coord (B, Q, 2), cell (B, Q, 2) -> rgb (B, Q, 3), not clamped.

    For each of the four codes of LIIF's ensemble, with its rel in LR pixels times 2 and rel_cell = cell *
    (h, w)::

        coef = conv3x3(feat), freq = conv3x3(feat)                       2K channels each
        t_k  = freq[2k] rel_y + freq[2k+1] rel_x + (phase rel_cell)_k    k = 0 .. K-1
        rgb_corner = MLP(coef * [cos(pi t), sin(pi t)])
        rgb  = sum of weight * rgb_corner over the corners + bilinear(lq)

    The weights of the corners are LIIF's areas. No unfolded feature and no position enters the MLP directly.

    Once per LR pixel: encoder, coef and freq. Once per query and corner: the waves and the MLP but for its
    last layer. ``decode`` uses that a wave is separable, exp(i pi t) = exp(i pi (freq_y rel_y + p)) exp(i pi
    freq_x rel_x): sines per LR pixel and target row and per LR pixel and target column, none per output
    pixel.

    The authors' evaluation multiplies the cell by max(scale / 4, 1); the network itself clamps no cell. LTE+
    (lte-fast) is the same function: its frequencies are all of y, then all of x, and its MLP is made of 1x1
    convolutions.

    Original: https://github.com/jaewon-lee-b/lte (BSD-3). Parameter names are those of its checkpoints, but
    ``encoder.net`` for ``encoder``.

    Args:
        encoder: ``{type: EDSR, num_feat: 64, num_block: 16}``, see ``Encoder``.
        hidden_dim: 2K, even; the published one is 256.
        hidden_list: widths of the MLP's hidden layers.
        local_ensemble: ask four codes for each query; false asks the nearest one.

    Raises:
        UserError: if ``hidden_dim`` is odd, ``hidden_list`` is empty, or the encoder cannot be built.

    Example:
        >>> import torch
        >>> net = LTE({"type": "EDSR", "num_feat": 8, "num_block": 1}, hidden_dim=16, hidden_list=[16])
        >>> lq, coord = torch.rand(1, 3, 10, 12), torch.rand(1, 5, 2) * 2 - 1
        >>> net(lq, coord, torch.full((1, 5, 2), 0.1)).shape
        torch.Size([1, 5, 3])
    """

    def __init__(
        self,
        encoder: dict,
        hidden_dim: int = 256,
        hidden_list: Sequence[int] = (256, 256, 256),
        local_ensemble: bool = True,
    ):
        # One pixel for the 3x3 convolutions and one for the ensemble.
        super().__init__(encoder, 2, local_ensemble)
        if hidden_dim < 2 or hidden_dim % 2:
            raise UserError(f"network_g.hidden_dim: expected an even number from 2, got {hidden_dim}.")
        if not hidden_list:
            raise UserError("network_g.hidden_list: expected at least one width, such as [256, 256], got [].")
        self.coef = nn.Conv2d(self.encoder.out_channels, hidden_dim, 3, padding=1)
        self.freq = nn.Conv2d(self.encoder.out_channels, hidden_dim, 3, padding=1)
        self.phase = nn.Linear(2, hidden_dim // 2, bias=False)
        self.imnet = MLP(hidden_dim, 3, hidden_list)

    def prepare(
        self,
        feat: Tensor,
        size: tuple[int, int] | None = None,
        tile: Tile | None = None,
        cell: Tensor | None = None,
    ) -> Waves:
        """Compute amplitudes and frequencies of each LR pixel; ``size`` is not used.

        Args:
            feat: (B, C + 3, h, w), from ``encode``.
            size: not used.
            tile: where ``feat`` lies; around its region ``feat`` must hold one pixel more.
            cell: not used.
        """
        h, w = feat.shape[-2:]
        tile = tile or Tile((h, w), (0, 0), (0, 0, h, w))
        part = cut(feat[:, :-3], tile, margin=1)  # zero outside the image
        part = part.contiguous(memory_format=torch.channels_last)
        coef, freq = (
            F.conv2d(part, conv.weight, conv.bias).permute(0, 2, 3, 1).contiguous()
            for conv in (self.coef, self.freq)
        )
        return Waves(coef, freq, cut(feat[:, -3:], tile, margin=0), tile.size, tile.region)

    def to_tables(self, feat: Tensor) -> dict[str, Tensor]:
        """Return amplitudes, frequencies and the image."""
        coef, freq, image, _, _ = self.prepare(feat)
        return {"coef": coef, "freq": freq, "skip": image.permute(0, 2, 3, 1)}

    def from_tables(self, tables: dict[str, Tensor]) -> Waves:
        """Return the same as ``prepare`` of a whole image."""
        h, w = tables["coef"].shape[1:3]
        image = tables["skip"].permute(0, 3, 1, 2)
        return Waves(tables["coef"], tables["freq"], image, (h, w), (0, 0, h, w))

    def sample(self, prepared: Waves, coord: Tensor, cell: Tensor) -> Tensor:
        """Return the same as ``query``, from the result of ``prepare`` for a whole image."""
        check_positions(coord, prepared.size, prepared.region)
        h, w = prepared.size
        index, rel, weight = corners(coord, (h, w), self.local_ensemble)  # (B, T, Q), (B, T, Q, 2), (B, T, Q)
        batch = torch.arange(coord.shape[0], device=index.device).view(-1, 1, 1) * (h * w)
        coef, freq = (F.embedding(index + batch, table.flatten(0, 2)) for table in prepared[:2])
        # The waves, in float32: in half precision an angle is another angle.
        with torch.autocast(coord.device.type, enabled=False):
            rel_cell = cell * torch.tensor([h, w], dtype=coord.dtype, device=coord.device)
            phase = F.linear(rel_cell, self.phase.weight.to(coord.dtype)).unsqueeze(1)  # (B, 1, Q, K)
            freq = freq.to(coord.dtype).unflatten(-1, (-1, 2))  # (B, T, Q, K, 2)
            angle = math.pi * ((freq * rel.unsqueeze(-2)).sum(dim=-1) + phase)
            waves = coef.to(coord.dtype) * torch.cat([angle.cos(), angle.sin()], dim=-1)
        rgb = (self.imnet(waves).to(coord.dtype) * weight.unsqueeze(-1)).sum(dim=1) * self.std
        return rgb + sample_bilinear(prepared.image, coord)

    @torch.no_grad()
    def decode(
        self,
        prepared: Waves,
        rows: Tensor,
        columns: Tensor,
        cell: Tensor,
        dtype: torch.dtype = torch.float32,
        queries_at_once: int = QUERIES_AT_ONCE,
    ) -> Tensor:
        """Return the pixels of a grid, see ``ContinuousNetwork.decode``."""
        device, kind = prepared.coef.device, prepared.coef.dtype
        dtype = dtype if kind == torch.float32 else kind
        B, T = len(prepared.coef), 4 if self.local_ensemble else 1
        image = torch.empty(B, 3, len(rows), len(columns), dtype=kind, device=device)
        rel_cell = cell.to(self.phase.weight) * self.phase.weight.new_tensor(prepared.size)
        phase = F.linear(rel_cell, self.phase.weight)
        *hidden, last = ((layer.weight.to(dtype), layer.bias.to(dtype)) for layer in self.imnet.linears)
        # LR pixels' patches that fit into the cache with their activations.
        width = max([self.coef.out_channels, *(len(bias) for _, bias in hidden)])
        at_once = min(block_bytes(device) // (width * dtype.itemsize), T * queries_at_once)

        def open_block(b: int, y: Visits, x: Visits) -> RowAnswer:
            top, left = prepared.region[:2]
            used = torch.tensor(x.pixels, device=device) - left
            rel_x = x.rel[x.members]  # (n, Lx)
            length = torch.tensor(x.counts, device=device).unsqueeze(1)
            valid = torch.arange(rel_x.shape[1], device=device) < length  # (n, Lx)
            padded = min(x.counts) < rel_x.shape[1]

            def answer(row: int, rel_y: Tensor) -> Tensor:
                coef, freq = (table[b, row - top].index_select(0, used) for table in prepared[:2])
                out = torch.empty(3, len(rel_y), *rel_x.shape, dtype=kind, device=device)
                step = max(1, at_once // (len(rel_y) * rel_x.shape[1]))
                for i in range(0, len(used), step):
                    part = slice(i, i + step)
                    waves = _waves_of_patches(coef[part], freq[part], rel_y, rel_x[part], phase, dtype)
                    kept = valid[part].unsqueeze(1).expand(*waves.shape[:3]) if padded else None
                    colours = out[:, :, part].permute(2, 1, 3, 0)  # (n, Ly, Lx, 3)
                    if kept is None:
                        colours.copy_(_layers(waves.flatten(0, 2), hidden, last).view(colours.shape))
                    else:
                        colours[kept] = _layers(waves[kept], hidden, last).to(kind)
                return out

            return answer

        decode_by_lr_rows(
            image, rows, columns, prepared.size, self.local_ensemble, 4 * queries_at_once, open_block
        )
        image *= self.std
        add_bilinear(image, prepared.image, prepared.size, prepared.region, rows, columns)
        return image


def _waves_of_patches(
    coef: Tensor, freq: Tensor, rel_y: Tensor, rel_x: Tensor, phase: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return coef * [cos(pi t), sin(pi t)] of the target pixels that ask n LR pixels: (n, Ly, Lx, 2K).

    Args:
        coef: (n, 2K).
        freq: (n, 2K).
        rel_y: (Ly,), of the rows.
        rel_x: (n, Lx), of the columns.
        phase: (K,).
        dtype: of the result; angles and the products of waves keep the dtype of ``coef``.
    """
    K = len(phase)
    # Angles of the rows with the phase (n, Ly, 1, K), and of the columns (n, 1, Lx, K).
    angle_y = math.pi * (freq[:, None, 0::2] * rel_y.view(-1, 1) + phase).unsqueeze(2)
    angle_x = math.pi * (freq[:, None, 1::2] * rel_x.unsqueeze(-1)).unsqueeze(1)
    cos_y, sin_y = angle_y.cos(), angle_y.sin()
    cos_x, sin_x = angle_x.cos(), angle_x.sin()
    A, B = coef[:, None, None, :K], coef[:, None, None, K:]
    waves = coef.new_empty(len(coef), len(rel_y), rel_x.shape[1], 2 * K, dtype=dtype)
    # cos(a + b) = cos a cos b - sin a sin b, sin(a + b) = sin a cos b + cos a sin b.
    waves[..., :K] = (A * cos_x) * cos_y - (A * sin_x) * sin_y
    waves[..., K:] = (B * cos_x) * sin_y + (B * sin_x) * cos_y
    return waves


def _layers(x: Tensor, hidden: list[tuple[Tensor, Tensor]], last: tuple[Tensor, Tensor]) -> Tensor:
    """Return the MLP of ``x`` (N, D): (N, 3)."""
    count = len(x)
    padded = padded_count(count)
    if padded > count:
        x = F.pad(x, (0, 0, 0, padded - count))
    for weight, bias in hidden:
        x = relu_layer(x, weight, bias)
    return F.linear(x, *last)[:count]
