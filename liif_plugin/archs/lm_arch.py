"""LM-LIIF and LM-LTE: Latent Modulated Functions (He, Jin, CVPR 2024).

A large network makes the parameters of a small one, once per LR pixel; only the small one runs per query.
"""

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
from .mlp import MLP
from .target_axes import (
    RowAnswer,
    Visits,
    add_bilinear,
    check_positions,
    decode_by_lr_rows,
    sample_bilinear,
)

ROW_BYTES = 1 << 19  # activations of the LR pixels that are decoded together: they stay in the cache


class Surroundings(NamedTuple):
    """The feature map of a region and one pixel around it, zeros outside the image.

    Attributes:
        feat: (B, C, height + 2, width + 2).
        image: (B, 3, height, width) in [0, 1], the LR image of the region.
        size: (h, w) of the whole LR image.
        region: (top, left, height, width) of the LR pixels that are held.
    """

    feat: Tensor
    image: Tensor
    size: tuple[int, int]
    region: tuple[int, int, int, int]


class LatentModulated(EncodedNetwork):
    """What LM-LIIF and LM-LTE share: hidden layers that each LR pixel scales and shifts.

    Layer l of the render MLP, width D: x <- ReLU((W_l x + b_l) * (1 + scale_l) + shift_l). All layers of an
    LR pixel come from one vector of modulations: L scales, L shifts (D numbers each), then the code.

    One cell serves a whole picture: the modulations depend on it and are made once per LR pixel, with
    ``cell[:, 0]``, the cell of the first query.

    ``decode`` goes through LR rows. Seen from an LR pixel, its modulated layers are plain layers with weights
    of its own, W_l scaled by 1 + scale_l; they run on the patch of target pixels that ask it, in one batched
    product for all LR pixels of a row. These narrow layers stay in float32 in half precision, too.
    """

    one_cell = True
    hypernet: MLP
    imnet: MLP
    residual: str | None

    def __init__(
        self,
        encoder: dict,
        hidden_dim: int,
        hidden_depth: int,
        local_ensemble: bool,
        mod_scale: bool,
        mod_shift: bool,
        mod_input: bool,
    ):
        # One pixel for the 3x3 neighbours and one for the ensemble.
        super().__init__(encoder, 2, local_ensemble)
        if hidden_depth < 1:
            raise UserError(f"network_g.hidden_depth: expected at least 1, got {hidden_depth}.")
        if not (mod_scale or mod_shift):
            raise UserError("network_g.mod_scale, mod_shift: expected at least one of them true, got none.")
        self.hidden_dim, self.hidden_depth = hidden_dim, hidden_depth
        self.mod_scale, self.mod_shift, self.mod_input = mod_scale, mod_shift, mod_input

    @property
    def hypernet_outputs(self) -> tuple[int, int]:
        """How many scales and how many shifts the hypernet makes for an LR pixel."""
        size = self.hidden_dim * self.hidden_depth
        return size * self.mod_scale, size * self.mod_shift

    def split_modulations(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return 1 + scale (..., L, D), shift (..., L, D) and the code (..., K) of modulations (..., M)."""
        scales, shifts = self.hypernet_outputs
        scale, shift, codes = values.split([scales, shifts, values.shape[-1] - scales - shifts], dim=-1)
        shape = (self.hidden_depth, self.hidden_dim)
        absent = values.new_zeros(1).expand(*values.shape[:-1], *shape)
        scale = 1 + (scale.unflatten(-1, shape) if self.mod_scale else absent)
        return scale, shift.unflatten(-1, shape) if self.mod_shift else absent, codes

    def modulations(self, feat: Tensor, rel_cell: Tensor) -> Tensor:
        """Return the modulations of each LR pixel.

        Args:
            feat: (B, C, h + 2, w + 2), the features and one pixel around them.
            rel_cell: (B or 1, h or 1, w or 1, 2), the cell in LR pixels times 2.

        Returns:
            (B, h, w, M).
        """
        raise NotImplementedError

    def first(self, codes: Tensor, rel: Tensor, rel_cell: Tensor) -> Tensor:
        """Return the render MLP's input (..., in_dim).

        Args:
            codes: (..., K), what follows scales and shifts in the modulations.
            rel: (..., 2), query minus code in LR pixels times 2.
            rel_cell: (..., 2).
        """
        raise NotImplementedError

    def first_of_patches(
        self, mods: _Modulations, rel_y: Tensor, rel_x: Tensor, rel_cell: Tensor
    ) -> tuple[int, Tensor]:
        """Return how many layers are done, and their output (n, D, Ly * Lx), on the patches of n LR pixels.

        Args:
            mods: of the n LR pixels.
            rel_y: (Ly,).
            rel_x: (n, Lx).
            rel_cell: (2,).
        """
        raise NotImplementedError

    def prepare(
        self,
        feat: Tensor,
        size: tuple[int, int] | None = None,
        tile: Tile | None = None,
        cell: Tensor | None = None,
    ) -> Surroundings:
        """Cut out the features of the region and one pixel around it.

        The modulations follow in ``sample`` and ``decode``, which know the cell.
        """
        h, w = feat.shape[-2:]
        tile = tile or Tile((h, w), (0, 0), (0, 0, h, w))
        part = cut(feat[:, :-3], tile, margin=1).contiguous(memory_format=torch.channels_last)
        return Surroundings(part, cut(feat[:, -3:], tile, margin=0), tile.size, tile.region)

    def sample(self, prepared: Surroundings, coord: Tensor, cell: Tensor) -> Tensor:
        """Return the same as ``query``, from the result of ``prepare`` for a whole image."""
        check_positions(coord, prepared.size, prepared.region)
        rel_cell = cell * torch.tensor(prepared.size, dtype=coord.dtype, device=coord.device)
        mods = self.modulations(prepared.feat, rel_cell[:, 0].view(-1, 1, 1, 2))
        return self.render_modulated(mods, prepared.image, coord, rel_cell)

    def render_modulated(self, mods: Tensor, image: Tensor, coord: Tensor, rel_cell: Tensor) -> Tensor:
        """Return the colours of queries from modulations (B, h, w, M) and the LR image: (B, Q, 3)."""
        h, w = mods.shape[1:3]
        index, rel, weight = corners(coord, (h, w), self.local_ensemble)  # (B, T, Q), (B, T, Q, 2), (B, T, Q)
        batch = torch.arange(coord.shape[0], device=index.device).view(-1, 1, 1) * (h * w)
        near = F.embedding(index + batch, mods.flatten(0, 2))  # (B, T, Q, M)
        with torch.autocast(coord.device.type, enabled=False):
            scale, shift, codes = self.split_modulations(near.to(coord.dtype))
            x = self.first(codes, rel, rel_cell.unsqueeze(1).expand_as(rel))
            *hidden, last = self.imnet.linears
            for i, layer in enumerate(hidden):
                x = F.relu(layer(x) * scale[..., i, :] + shift[..., i, :])
            rgb = (last(x) * weight.unsqueeze(-1)).sum(dim=1) * self.std
        return rgb + (sample_bilinear(image, coord) if self.residual else self.mean)

    @torch.no_grad()
    def decode(
        self,
        prepared: Surroundings,
        rows: Tensor,
        columns: Tensor,
        cell: Tensor,
        dtype: torch.dtype = torch.float32,
        queries_at_once: int = QUERIES_AT_ONCE,
    ) -> Tensor:
        """Return the pixels of a grid, see ``ContinuousNetwork.decode``."""
        kind, device = prepared.feat.dtype, prepared.feat.device
        B = len(prepared.feat)
        image = torch.empty(B, 3, len(rows), len(columns), dtype=kind, device=device)
        rel_cell = cell.to(device, kind) * torch.tensor(prepared.size, dtype=kind, device=device)
        top, left = prepared.region[:2]
        last = self.imnet.linears[-1]

        def open_block(b: int, y: Visits, x: Visits) -> RowAnswer:
            # The modulations of the LR pixels of the block, (rows, columns, M).
            first_row, first_column = y.pixels[0], x.pixels[0]
            lr_rows = slice(first_row - top, y.pixels[-1] - top + 3)
            lr_columns = slice(first_column - left, x.pixels[-1] - left + 3)
            around = prepared.feat[b : b + 1, :, lr_rows, lr_columns]
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                table = self.modulations(around, rel_cell.view(1, 1, 1, 2))
            mods = _Modulations.of(self.imnet.linears[:-1], *self.split_modulations(table[0].to(kind)))
            used = torch.tensor(x.pixels, device=device) - first_column
            rel_x = x.rel[x.members]  # (n, Lx)

            def answer(row: int, rel_y: Tensor) -> Tensor:
                of_row = mods.of_row(row - first_row, used)
                patch = len(rel_y) * rel_x.shape[1]
                step = max(1, ROW_BYTES // (4 * patch * self.hidden_dim))
                parts = []
                for i in range(0, len(used), step):
                    near = of_row.part(i, i + step)
                    done, hidden = self.first_of_patches(near, rel_y, rel_x[i : i + step], rel_cell)
                    for layer in range(done, self.hidden_depth):
                        hidden = torch.baddbmm(near.bias(layer), near.weight(layer), hidden).relu_()
                    parts.append(
                        torch.bmm(last.weight.expand(len(hidden), -1, -1), hidden)
                    )  # (n, 3, Ly * Lx)
                rgb = parts[0] if len(parts) == 1 else torch.cat(parts)
                return rgb.unflatten(2, (len(rel_y), -1)).permute(1, 2, 0, 3)

            return answer

        decode_by_lr_rows(
            image, rows, columns, prepared.size, self.local_ensemble, 4 * queries_at_once, open_block
        )
        # The last layer's bias follows the blend, whose weights add up to one.
        shift = last.bias * self.std + (0 if self.residual else self.mean)
        image.mul_(self.std).add_(shift.view(3, 1, 1))
        if self.residual:
            add_bilinear(image, prepared.image, prepared.size, prepared.region, rows, columns)
        return image


class _Modulations(NamedTuple):
    """The modulations of LR pixels: what they make of the render MLP's layers.

    Attributes:
        linears: the L layers that are modulated, shared by all LR pixels.
        scales: (..., L, D), 1 + scale.
        biases: (..., L, D), of the layers as each LR pixel has them.
        codes: (..., K), what follows.
    """

    linears: list[nn.Linear]
    scales: Tensor
    biases: Tensor
    codes: Tensor

    @classmethod
    def of(cls, linears: list[nn.Linear], scales: Tensor, shifts: Tensor, codes: Tensor) -> _Modulations:
        """Return what the result of ``split_modulations`` makes of the layers ``linears``."""
        shared = torch.stack([layer.bias for layer in linears])
        return cls(linears, scales, scales * shared + shifts, codes)

    def of_row(self, row: int, columns: Tensor) -> _Modulations:
        """Return the modulations of LR pixels of a row."""
        return _Modulations(self.linears, *(values[row].index_select(0, columns) for values in self[1:]))

    def part(self, start: int, stop: int) -> _Modulations:
        return _Modulations(self.linears, *(values[start:stop] for values in self[1:]))

    def weight(self, layer: int) -> Tensor:
        """Return the weight of a layer of each LR pixel: (n, D, in_dim)."""
        return self.linears[layer].weight * self.scales[:, layer].unsqueeze(-1)

    def bias(self, layer: int) -> Tensor:
        """Return the bias of a layer of each LR pixel: (n, D, 1)."""
        return self.biases[:, layer].unsqueeze(-1)


@ARCH_REGISTRY.register()
class LMLIIF(LatentModulated):
    """lq (B, 3, h, w) in [0, 1], coord (B, Q, 2), cell (B, Q, 2) -> rgb (B, Q, 3), not clamped.

    With D = hidden_dim, L = hidden_depth, rel and the corners' weights of LIIF, rel_cell = cell * (h, w)::

        m = hypernet([unfold3x3(feat), rel_cell]) = [scales (L D) | shifts (L D) | code (D)]
        x = [code, rel, rel_cell]
        for l in 1..L:  x <- ReLU((W_l x + b_l) * (1 + scale_l) + shift_l)
        rgb = sum of weight * (W_out x + b_out) over the corners [+ bilinear(lq)]

    Once per LR pixel: encoder and hypernet. Its first layer is a 3x3 convolution, so the unfolded map never
    exists. Once per query and corner: the L narrow layers. See ``LatentModulated`` for the fast form.

    The authors' evaluation multiplies the cell by max(scale / 4, 1); the network itself clamps no cell. They
    make the modulations of LR pixel i with the cell of query i; where all queries of a picture have one cell,
    as in training and in pictures, that is the same.

    Original: https://github.com/HeZongyao/LMF (Apache-2.0). Parameter names are those of its checkpoints, but
    ``encoder.net`` for ``encoder``.

    Args:
        encoder: ``{type: EDSR, num_feat: 64, num_block: 16}``, see ``Encoder``.
        hidden_dim: D, width of the render MLP.
        hidden_depth: L, number of its hidden layers.
        hypernet_list: widths of the hypernet's hidden layers.
        local_ensemble: ask four codes for each query; false asks the nearest one.
        mod_scale: false leaves out the scales.
        mod_shift: false leaves out the shifts.
        mod_input: false takes the feature itself as the code, the hypernet makes none.
        feat_unfold: false gives the hypernet the feature of the LR pixel alone, without its 3x3 neighbours.
        cell_decode: false leaves the cell out of both MLPs.
        residual: 'bilinear' adds the bilinearly enlarged input to the output; None is the published form.

    Raises:
        UserError: if ``residual`` is another word, a size is not possible, or the encoder cannot be built.

    Example:
        >>> import torch
        >>> net = LMLIIF({"type": "EDSR", "num_feat": 8, "num_block": 1}, hidden_dim=4, hypernet_list=[16])
        >>> lq, coord = torch.rand(1, 3, 10, 12), torch.rand(1, 5, 2) * 2 - 1
        >>> net(lq, coord, torch.full((1, 5, 2), 0.1)).shape
        torch.Size([1, 5, 3])
    """

    def __init__(
        self,
        encoder: dict,
        hidden_dim: int = 16,
        hidden_depth: int = 6,
        hypernet_list: Sequence[int] = (208,),
        local_ensemble: bool = True,
        residual: str | None = None,
        mod_scale: bool = True,
        mod_shift: bool = True,
        mod_input: bool = True,
        feat_unfold: bool = True,
        cell_decode: bool = True,
    ):
        super().__init__(encoder, hidden_dim, hidden_depth, local_ensemble, mod_scale, mod_shift, mod_input)
        if residual not in (None, "bilinear"):
            raise UserError(f"network_g.residual: expected 'bilinear' or nothing (~), got '{residual}'.")
        self.residual = residual
        if not hypernet_list:
            raise UserError("network_g.hypernet_list: expected at least one width, such as [208], got [].")
        self.feat_unfold, self.uses_cell = feat_unfold, cell_decode
        channels, of_cell = self.encoder.out_channels, 2 * cell_decode
        inputs = channels * (9 if feat_unfold else 1) + of_cell
        outputs = sum(self.hypernet_outputs) + hidden_dim * mod_input
        self.hypernet = MLP(inputs, outputs, hypernet_list)
        self.code_dim = hidden_dim if mod_input else channels
        self.imnet = MLP(self.code_dim + 2 + of_cell, 3, [hidden_dim] * hidden_depth)

    def modulations(self, feat: Tensor, rel_cell: Tensor) -> Tensor:
        """Return the modulations of each LR pixel, see ``LatentModulated``."""
        first, *others = self.hypernet.linears
        C = feat.shape[1]
        side = 3 if self.feat_unfold else 1
        inner = feat[..., 1:-1, 1:-1]
        # The first layer's weights of the features, as a convolution: F.unfold orders channels (C, 3, 3) too.
        weight = first.weight[:, : side**2 * C].reshape(-1, C, side, side)
        x = F.conv2d(feat if self.feat_unfold else inner, weight, first.bias).permute(0, 2, 3, 1)
        if self.uses_cell:
            x = x + F.linear(rel_cell, first.weight[:, side**2 * C :]).to(x.dtype)
        for layer in others:
            x = layer(F.relu_(x))
        return x if self.mod_input else torch.cat([x, inner.permute(0, 2, 3, 1)], dim=-1)

    def first(self, codes: Tensor, rel: Tensor, rel_cell: Tensor) -> Tensor:
        """Return the render MLP's input, see ``LatentModulated``."""
        return torch.cat([codes, rel, rel_cell] if self.uses_cell else [codes, rel], dim=-1)

    def first_of_patches(
        self, mods: _Modulations, rel_y: Tensor, rel_x: Tensor, rel_cell: Tensor
    ) -> tuple[int, Tensor]:
        """Return the first layer on patches: u + v_y rel_y + v_x rel_x, because it is linear in rel."""
        D, weight, constant = self.code_dim, mods.weight(0), mods.codes
        if self.uses_cell:
            constant = torch.cat([constant, rel_cell.expand(len(constant), 2)], dim=1)
        of_code = torch.cat([weight[..., :D], weight[..., D + 2 :]], dim=-1)
        u = torch.baddbmm(mods.bias(0), of_code, constant.unsqueeze(-1))  # (n, D, 1)
        # rel of each place of the patches, (n, 2, Ly * Lx).
        places = rel_x.new_empty(len(rel_x), 2, len(rel_y), rel_x.shape[1])
        places[:, 0] = rel_y.unsqueeze(-1)
        places[:, 1] = rel_x.unsqueeze(1)
        return 1, torch.baddbmm(u, weight[..., D : D + 2], places.flatten(2)).relu_()


@ARCH_REGISTRY.register()
class LMLTE(LatentModulated):
    """lq (B, 3, h, w) in [0, 1], coord (B, Q, 2), cell (B, Q, 2) -> rgb (B, Q, 3), not clamped.

    With D = hidden_dim, L = hidden_depth, K = wave_dim / 2, rel and the corners' weights of LIIF, rel_cell =
    cell * (h, w)::

        coef = conv3x3(feat), freq = conv3x3(feat)                                   2K channels each
        u_k = freq[2k] + freq[2k+1] + (phase rel_cell)_k
        m = hypernet(coef * [cos(pi u), sin(pi u)])
          = [scales (L D) | shifts (L D) | coef' (D) | freq' (D)]
        t_j = freq'[2j] rel_y + freq'[2j+1] rel_x + (imphase rel_cell)_j
        x = coef' * [cos(pi t), sin(pi t)]
        for l in 1..L:  x <- ReLU((W_l x + b_l) * (1 + scale_l) + shift_l)
        rgb = sum of weight * (W_out x + b_out) over the corners + bilinear(lq)

    Once per LR pixel: encoder, coef, freq, hypernet. Only the sums freq[2k] + freq[2k+1] are needed, so one
    convolution of K outputs makes them. Once per query and corner: D/2 waves, separable along rows and
    columns, and the L narrow layers. See ``LatentModulated`` for the fast form.

    Cells are treated as in ``LMLIIF``. Original: https://github.com/HeZongyao/LMF (Apache-2.0). Parameter
    names are those of its checkpoints, but ``encoder.net`` for ``encoder``.

    Args:
        encoder: ``{type: EDSR, num_feat: 64, num_block: 16}``, see ``Encoder``.
        wave_dim: 2K, even.
        hidden_dim: D, even, width of the render MLP.
        hidden_depth: L, number of its hidden layers.
        hypernet_list: widths of the hypernet's hidden layers.
        local_ensemble: ask four codes for each query; false asks the nearest one.
        mod_scale: false leaves out the scales.
        mod_shift: false leaves out the shifts.
        mod_input: false makes x of coef, freq and phase; the hypernet makes no code, and imphase is absent.

    Raises:
        UserError: if a size is not possible, or the encoder cannot be built.

    Example:
        >>> import torch
        >>> net = LMLTE({"type": "EDSR", "num_feat": 8, "num_block": 1}, wave_dim=8, hypernet_list=[16])
        >>> lq, coord = torch.rand(1, 3, 10, 12), torch.rand(1, 5, 2) * 2 - 1
        >>> net(lq, coord, torch.full((1, 5, 2), 0.1)).shape
        torch.Size([1, 5, 3])
    """

    residual = "bilinear"

    def __init__(
        self,
        encoder: dict,
        wave_dim: int = 128,
        hidden_dim: int = 16,
        hidden_depth: int = 8,
        hypernet_list: Sequence[int] = (288,),
        local_ensemble: bool = True,
        mod_scale: bool = True,
        mod_shift: bool = True,
        mod_input: bool = True,
    ):
        super().__init__(encoder, hidden_dim, hidden_depth, local_ensemble, mod_scale, mod_shift, mod_input)
        for name, value in (("wave_dim", wave_dim), ("hidden_dim", hidden_dim)):
            if value < 2 or value % 2:
                raise UserError(f"network_g.{name}: expected an even number from 2, got {value}.")
        self.coef = nn.Conv2d(self.encoder.out_channels, wave_dim, 3, padding=1)
        self.freq = nn.Conv2d(self.encoder.out_channels, wave_dim, 3, padding=1)
        self.phase = nn.Linear(2, wave_dim // 2, bias=False)
        outputs = sum(self.hypernet_outputs) + 2 * hidden_dim * mod_input
        self.hypernet = MLP(wave_dim, outputs, hypernet_list)
        if mod_input:
            self.imphase = nn.Linear(2, hidden_dim // 2, bias=False)
        self.imnet = MLP(hidden_dim if mod_input else wave_dim, 3, [hidden_dim] * hidden_depth)

    def modulations(self, feat: Tensor, rel_cell: Tensor) -> Tensor:
        """Return the modulations of each LR pixel, see ``LatentModulated``."""
        coef = F.conv2d(feat, self.coef.weight, self.coef.bias)
        weight, bias = self.freq.weight, self.freq.bias
        assert bias is not None
        waves = None
        if self.mod_input:
            freq = F.conv2d(feat, weight[0::2] + weight[1::2], bias[0::2] + bias[1::2])
        else:
            waves = F.conv2d(feat, weight, bias)
            freq = waves[:, 0::2] + waves[:, 1::2]
        coef, freq = coef.permute(0, 2, 3, 1), freq.permute(0, 2, 3, 1)
        # The waves, in float32: in half precision an angle is another angle.
        with torch.autocast(feat.device.type, enabled=False):
            phase = F.linear(rel_cell, self.phase.weight.to(rel_cell.dtype))
            angle = math.pi * (freq.to(rel_cell.dtype) + phase)
            x = coef.to(rel_cell.dtype) * torch.cat([angle.cos(), angle.sin()], dim=-1)
        mods = self.hypernet(x)
        return mods if waves is None else torch.cat([mods, coef, waves.permute(0, 2, 3, 1)], dim=-1)

    def _wave_phase(self) -> Tensor:
        """Return the weight of the render MLP's phases."""
        return (self.imphase if self.mod_input else self.phase).weight

    def first(self, codes: Tensor, rel: Tensor, rel_cell: Tensor) -> Tensor:
        """Return the render MLP's input, see ``LatentModulated``."""
        coef, freq = codes.chunk(2, dim=-1)
        phase = F.linear(rel_cell, self._wave_phase().to(rel_cell.dtype))
        angle = math.pi * ((freq.unflatten(-1, (-1, 2)) * rel.unsqueeze(-2)).sum(dim=-1) + phase)
        return coef * torch.cat([angle.cos(), angle.sin()], dim=-1)

    def first_of_patches(
        self, mods: _Modulations, rel_y: Tensor, rel_x: Tensor, rel_cell: Tensor
    ) -> tuple[int, Tensor]:
        """Return the waves on patches by the sum rule, cos(a + b) = cos a cos b - sin a sin b."""
        coef, freq = (part.unsqueeze(-1) for part in mods.codes.chunk(2, dim=-1))
        J = coef.shape[1] // 2
        phase = F.linear(rel_cell, self._wave_phase()).view(J, 1)
        angle_y = math.pi * (freq[:, 0::2] * rel_y + phase)  # (n, J, Ly)
        angle_x = math.pi * (freq[:, 1::2] * rel_x.unsqueeze(1))  # (n, J, Lx)
        cos_y, sin_y = angle_y.cos().unsqueeze(-1), angle_y.sin().unsqueeze(-1)
        cos_x, sin_x = angle_x.cos(), angle_x.sin()
        A, B = coef[:, :J], coef[:, J:]
        x = coef.new_empty(len(coef), 2 * J, len(rel_y), rel_x.shape[1])
        x[:, :J] = cos_y * (A * cos_x).unsqueeze(-2) - sin_y * (A * sin_x).unsqueeze(-2)
        x[:, J:] = sin_y * (B * cos_x).unsqueeze(-2) + cos_y * (B * sin_x).unsqueeze(-2)
        return 0, x.flatten(2)
