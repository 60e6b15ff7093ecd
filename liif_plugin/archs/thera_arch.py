"""Thera: neural heat fields (Becker et al., 2025): a sum of plane waves per LR pixel, damped as heat is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from basicsr.archs.swinir_arch import SwinIR
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from ..coords import axis_bilinear
from ..errors import UserError, check_choice
from .base import QUERIES_AT_ONCE, ContinuousNetwork, Tile, cut
from .encoder import Encoder, pad_to_multiple
from .target_axes import (
    RowAnswer,
    Runs,
    Visits,
    add_bilinear,
    check_positions,
    decode_by_lr_rows,
    sample_bilinear,
)

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K, as published
VARIANCE = 0.25 + 1e-5  # as published: the 1e-5 is visible in the fifth digit
NEGLIGIBLE = 1e-8  # waves that are damped below this factor are left out on a grid
MOST_PHASES = 32 * 32  # target pixels of an LR pixel up to which one table serves all LR pixels
BLOCK_FLOATS = 1 << 20  # numbers that one block of the decoder holds

SIZES: dict[str, dict[str, Any]] = {
    "air": {"waves": 32, "hidden": 0},
    "plus": {"waves": 512, "widths": [64] * 6 + [96] * 7 + [128] * 3},
    "pro": {"waves": 512, "depths": (7, 6), "num_heads": (6, 6), "embed_dim": 180, "num_feat": 64},
}


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """x + project(gelu(expand(norm(depthwise(x))))): (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, width: int):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = ChannelNorm(width, eps=1e-6)
        self.expand = nn.Conv2d(width, 4 * width, 1)
        self.project = nn.Conv2d(4 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.expand(self.norm(self.depthwise(x)))
        return x + self.project(F.gelu(hidden, approximate="tanh"))


class Widen(nn.Module):
    """project(norm(x)): (B, C, h, w) -> (B, width, h, w)."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.norm = ChannelNorm(channels, eps=1e-6)
        self.project = nn.Conv2d(channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.norm(x))


class ConvNeXtTail(nn.Sequential):
    """The tail of Thera plus: (B, channels, h, w) -> (B, widths[-1], h, w).

    Attributes:
        halo: receptive radius in LR pixels.
        multiple: window size, here 1.
    """

    def __init__(self, channels: int, widths: Sequence[int]):
        layers: list[nn.Module] = []
        for width in widths:
            if width != channels:
                layers.append(Widen(channels, width))
            layers.append(ConvNeXtBlock(width))
            channels = width
        super().__init__(*layers)
        self.out_channels = channels
        self.halo, self.multiple = len(widths), 1


class SwinTail(nn.Module):
    """The tail of Thera pro, a SwinIR on features: (B, channels, h, w) -> (B, num_feat, h, w).

    The network is BasicSR's, but its gelu is the approximation by tanh, as published.
    """

    def __init__(
        self,
        channels: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        embed_dim: int,
        num_feat: int,
        window_size: int = 8,
    ):
        super().__init__()
        self.net = SwinIR(
            in_chans=channels,
            embed_dim=embed_dim,
            depths=depths,
            num_heads=num_heads,
            window_size=window_size,
            mlp_ratio=2.0,
            upscale=1,
        )
        self.net.conv_last = nn.Conv2d(embed_dim, num_feat, 3, padding=1)
        for layer in self.net.layers:
            for block in layer.residual_group.blocks:
                block.mlp.act = nn.GELU(approximate="tanh")
        self.out_channels, self.multiple = num_feat, window_size
        # Every block sees one window more; a 3x3 convolution ends each group; three others stand outside.
        self.halo = sum(depths) * (window_size - 1) + len(depths) + 3

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        x = self.net.conv_first(pad_to_multiple(x, self.multiple))
        x = self.net.conv_after_body(self.net.forward_features(x)) + x
        return F.leaky_relu(self.net.conv_last(x), 0.01)[:, :, :h, :w]


class ConvTail(nn.Sequential):
    """A tail for Thera air, which has none as published: (B, channels, h, w) -> (B, hidden, h, w).

    Attributes:
        halo: receptive radius in LR pixels.
        multiple: window size, here 1.
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__(nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU())
        self.out_channels = hidden
        self.halo, self.multiple = 1, 1


TAILS: dict[str, Callable[..., Any]] = {"air": ConvTail, "plus": ConvNeXtTail, "pro": SwinTail}


class Codes(NamedTuple):
    """What the decoder needs of an image.

    Attributes:
        code: (B, height, width, C), from which a 1x1 layer makes the field of each LR pixel of the region.
        image: (B, 3, height, width) in [0, 1], the LR image of the region.
        size: (h, w) of the whole LR image.
        region: (top, left, height, width) of the LR pixels that are held.
        target: (H, W) of the target image, or None if it is not known.
    """

    code: Tensor
    image: Tensor
    size: tuple[int, int]
    region: tuple[int, int, int, int]
    target: tuple[int, int] | None


class _Axis(NamedTuple):
    """The N target pixels along one axis.

    Attributes:
        nearest: (N,), the nearest LR pixel of each, in the region that is held.
        rel: (N,) float64, target pixel minus LR pixel in LR pixels, -1/2 to 1/2.
        scale: target pixels per LR pixel if this is a whole number, else 0.
        phase: the first target pixel's number within its LR pixel; with a whole scale alone.
    """

    nearest: Tensor
    rel: Tensor
    scale: int
    phase: int

    def part(self, start: int, stop: int) -> _Axis:
        return self._replace(nearest=self.nearest[start:stop], rel=self.rel[start:stop])


@ARCH_REGISTRY.register()
class Thera(ContinuousNetwork):
    """lq (B, 3, h, w) in [0, 1], coord (B, Q, 2), cell (B, Q, 2) -> rgb (B, Q, 3), not clamped.

    For the LR pixel that is nearest to the query (halves go up), with rel = query minus its centre in LR
    pixels, in [-1/2, 1/2], and time t = (cell h / 2)^2 = 1/scale^2::

        code = tail(encoder((lq - mean) / std))
        A (waves, 3), b (waves) = out_conv(code)
        field = sum_j A_j sin(rel . W_j + b_j) exp(-k (W_jy^2 t_y + W_jx^2 t_x))
        rgb   = field / 2 + mean + lq of the nearest pixel

    W ``components`` (2, waves) and k are learned and shared by all pixels. The published form has one time,
    of the height; with unequal scales this one damps each axis by its own time, which is its natural
    extension. There is no ensemble (but see ``local_ensemble``) and no unfolding.

    Once per LR pixel: encoder, tail, out_conv, sines and cosines of the phases b. Once per query: a product
    of 6 ``waves`` numbers, because sin(rel.W + b) = cos(rel.W) sin b + sin(rel.W) cos b, and the waves of rel
    do not depend on the picture. ``decode`` takes no sine per output pixel: at whole scales it is one matrix
    product and a pixel shuffle, at others rows times columns by the sum rule.

    Original: https://github.com/prs-eth/thera (JAX, Apache-2.0, code and weights). Its parameter tree maps
    to the names here so (kernels HWIO -> OIHW, dense kernels transposed)::

        components, k                            components, k
        out_conv/{kernel, bias}                  out_conv.{weight, bias}
        encoder/...                              encoder.net...., the encoder's own names
        refine/layers_I/residual/layers_0        tail.I.depthwise
        refine/layers_I/residual/layers_1        tail.I.norm  (scale is the weight)
        refine/layers_I/residual/layers_{2, 4}   tail.I.{expand, project}
        refine/layers_I/{LayerNorm_0, Conv_0}    tail.I.{norm, project}, where the width changes
        refine/Conv_{0, 1, 2}                    tail.net.{conv_first, conv_after_body, conv_last}
        refine/PatchEmbed_0/LayerNorm_0          tail.net.patch_embed.norm
        refine/LayerNorm_0                       tail.net.norm
        refine/RSTB_L/Conv_0                     tail.net.layers.L.conv
        refine/RSTB_L/BasicLayer_0/SwinTransformerBlock_I/...
                                                 tail.net.layers.L.residual_group.blocks.I....

    Args:
        encoder: ``{type: EDSR, num_feat: 64, num_block: 16}``, see ``Encoder``.
        size: 'air' (no tail), 'plus' (ConvNeXt) or 'pro' (SwinIR).
        waves: number of plane waves; None is the published 32 of air, 512 of the others.
        tail: sizes of the tail where they differ from the published ones: ``{hidden: 128}`` gives air a 3x3
            convolution and a ReLU, ``{widths: [...]}`` for plus, ``{depths, num_heads, embed_dim,
            num_feat}`` for pro.
        residual: 'nearest' is the published form; 'bilinear' adds the bilinearly enlarged input instead of
            the nearest pixel and the mean: where the field is zero, the result is that enlarged input.
        radius: W is initialised uniformly in the disc of this radius, in radians per LR pixel; the published
            one is 16 pi, None.
        local_ensemble: blend the fields of the four LR pixels around a query with the weights of bilinear
            interpolation, so that neighbouring fields meet without a step; false, the published form, asks
            the nearest one.
        largest_scale: beyond this scale the waves are damped as at it, because a training up to it has not
            seen the finer ones, which ring beside edges; None, the published form, has no limit.

    Raises:
        UserError: if an argument has another value, or the encoder cannot be built.

    Example:
        >>> import torch
        >>> net = Thera({"type": "EDSR", "num_feat": 8, "num_block": 1}, waves=8)
        >>> lq, coord = torch.rand(1, 3, 10, 12), torch.rand(1, 5, 2) * 2 - 1
        >>> net(lq, coord, torch.full((1, 5, 2), 0.1)).shape
        torch.Size([1, 5, 3])
    """

    mean: Tensor

    def __init__(
        self,
        encoder: dict,
        size: str = "air",
        waves: int | None = None,
        tail: dict | None = None,
        residual: str = "nearest",
        radius: float | None = None,
        local_ensemble: bool = False,
        largest_scale: float | None = None,
    ):
        super().__init__()
        check_choice("network_g.size", size, SIZES)
        check_choice("network_g.residual", residual, ("nearest", "bilinear"))
        sizes = {**SIZES[size], **(tail or {})}
        if waves is not None:
            sizes["waves"] = waves
        unknown = set(sizes) - set(SIZES[size])
        if unknown:
            expected = ", ".join(sorted(set(SIZES[size]) - {"waves"}))
            raise UserError(
                f"network_g.tail: expected {expected} for size '{size}', got {', '.join(sorted(unknown))}."
            )
        self.waves: int = sizes.pop("waves")
        self.residual = residual
        self.local_ensemble = local_ensemble
        if largest_scale is not None and not largest_scale > 0:
            raise UserError(f"network_g.largest_scale: expected a number above 0, got {largest_scale}.")
        self.largest_scale = largest_scale
        self.has_gradient = not local_ensemble  # that of the blend would be another one
        self.encoder = Encoder(encoder)
        self.tail: nn.Module = nn.Identity()
        channels, halo, multiple = self.encoder.out_channels, 0, 1
        if size != "air" or sizes["hidden"]:
            kind = TAILS[size]
            self.tail = tail_net = kind(channels, **sizes)
            channels, halo, multiple = tail_net.out_channels, tail_net.halo, tail_net.multiple
        # The bilinear residual and the ensemble ask for one LR pixel more.
        own_halo = halo + (residual == "bilinear" or local_ensemble)
        self.halo = None if self.encoder.halo is None else self.encoder.halo + own_halo
        self.pad_multiple = math.lcm(self.encoder.pad_multiple, multiple)
        self.out_conv = nn.Conv2d(channels, 4 * self.waves, 1)
        self.components = nn.Parameter(torch.empty(2, self.waves))
        self.k = nn.Parameter(torch.empty(()))
        self.register_buffer("mean", torch.tensor(MEAN), persistent=False)
        self._initialise(16 * math.pi if radius is None else radius)

    @torch.no_grad()
    def _initialise(self, radius: float) -> None:
        """Initialise as published: LeCun normal layers, W uniform in a disc, a blur of 0.35 pixels."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                fan_in = module.weight[0].numel()
                # 0.8796 is the standard deviation of a normal distribution cut off at 2.
                nn.init.trunc_normal_(module.weight, std=1.0, a=-2.0, b=2.0)
                module.weight /= 0.87962566103423978 * math.sqrt(fan_in)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        length = radius * torch.rand(self.waves).sqrt()
        angle = 2 * math.pi * torch.rand(self.waves)
        self.components.copy_(torch.stack([length * angle.sin(), length * angle.cos()]))
        self.k.fill_(math.sqrt(math.log(4)) / (2 * math.pi**2))

    def encode(self, lq: Tensor) -> Tensor:
        """(B, 3, h, w) in [0, 1] -> (B, C + 3, h, w): the codes and the image."""
        x = (lq - self.mean.view(3, 1, 1)) / math.sqrt(VARIANCE)
        return torch.cat([self.tail(self.encoder(x)).to(lq.dtype), lq], dim=1)

    def query(self, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Feat (B, C + 3, h, w), coord and cell (B, Q, 2), float32 -> rgb (B, Q, 3).

        Raises:
            ValueError: if ``coord`` is in half precision or has another shape.
        """
        return self.sample(self.prepare(feat), coord, cell)

    def prepare(
        self,
        feat: Tensor,
        size: tuple[int, int] | None = None,
        tile: Tile | None = None,
        cell: Tensor | None = None,
    ) -> Codes:
        """Cut the codes of the region out of ``feat``; ``size`` tells ``decode`` the scale."""
        h, w = feat.shape[-2:]
        tile = tile or Tile((h, w), (0, 0), (0, 0, h, w))
        part = cut(feat, tile, margin=0)
        code = part[:, :-3].permute(0, 2, 3, 1).contiguous()
        return Codes(code, part[:, -3:].contiguous(), tile.size, tile.region, size)

    def query_with_gradient(self, feat: Tensor, coord: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``query`` and the gradient of the field at t = 0, as the published training asks for it.

        Args:
            feat: (B, C + 3, h, w), from ``encode``.
            coord: (B, Q, 2), float32.
            cell: (B, Q, 2), float32.

        Returns:
            rgb (B, Q, 3), and d field / d rel (B, Q, 2, 3), by y and by x, in 1 / LR pixel. At t = 0 no wave
            is damped, so the gradient does not depend on ``cell``::

                d field / d rel = sum_j A_j W_j cos(rel . W_j + b_j)
        """
        prepared = self.prepare(feat)
        flat, rel = self._nearest(prepared, coord)
        A, angle = self._waves_at(prepared, flat, rel)
        rgb = self._field(prepared.size, cell, A, angle) + self._below(prepared, coord, flat)
        with torch.autocast(coord.device.type, enabled=False):
            slopes = angle.cos().unsqueeze(-2) * self.components  # (B, Q, 2, waves)
            return rgb, slopes @ A

    def sample(self, prepared: Codes, coord: Tensor, cell: Tensor) -> Tensor:
        """Return the same as ``query``, from the result of ``prepare``."""
        if not self.local_ensemble:
            flat, rel = self._nearest(prepared, coord)
            below = self._below(prepared, coord, flat)
            return self._field(prepared.size, cell, *self._waves_at(prepared, flat, rel)) + below
        check_positions(coord, prepared.size, prepared.region)
        # The four LR pixels around each query, (B, 4, Q), and where the query is seen from each.
        (h, w), first = prepared.size, torch.arange(len(coord), device=coord.device).view(-1, 1, 1)
        seen = []
        for axis, n in enumerate((h, w)):
            place = ((coord[..., axis] + 1) * n - 1) / 2
            seen.append([(i, weight, place - i) for i, weight in axis_bilinear(coord[..., axis], n)])
        pairs = [(y, x) for y in seen[0] for x in seen[1]]
        index = torch.stack([y[0] * w + x[0] for y, x in pairs], dim=1) + first * (h * w)
        weight = torch.stack([y[1] * x[1] for y, x in pairs], dim=1)
        rel = torch.stack([torch.stack([y[2], x[2]], dim=-1) for y, x in pairs], dim=1)
        A, angle = self._waves_at(prepared, index, rel)
        field = (self._field(prepared.size, cell.unsqueeze(1), A, angle) * weight.unsqueeze(-1)).sum(dim=1)
        return field + self._below(prepared, coord)

    def _nearest(self, prepared: Codes, coord: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest LR pixel of each query and where the query is in it.

        Returns:
            The number of the LR pixel, (B, Q), among those of all images that are held; rel (B, Q, 2).
        """
        if coord.dtype not in (torch.float32, torch.float64) or coord.shape[-1] != 2 or coord.dim() != 3:
            raise ValueError(
                f"coord: expected float32 of shape (B, Q, 2), got {coord.dtype} of {tuple(coord.shape)}."
            )
        _, _, size, (top, left, height, width), _ = prepared
        index, rel = zip(*(nearest_below_half(coord[..., axis], n) for axis, n in enumerate(size)))
        flat = (index[0] - top) * width + (index[1] - left)  # (B, Q)
        flat = flat + torch.arange(coord.shape[0], device=flat.device).view(-1, 1) * (height * width)
        return flat, torch.stack(rel, dim=-1)

    def _waves_at(self, prepared: Codes, flat: Tensor, rel: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the waves of LR pixels are at positions.

        Args:
            prepared: from ``prepare``.
            flat: (...), numbers of the LR pixels among those of all images that are held.
            rel: (..., 2), where the positions are, in LR pixels from their centres.

        Returns:
            The amplitudes A, (..., waves, 3); the angles rel . W + b, (..., waves).
        """
        with torch.autocast(rel.device.type, enabled=False):
            # The amplitudes and phases of the waves: made before they are looked up, if that is less work.
            codes = prepared.code.to(rel.dtype).flatten(0, 2)
            weight, bias = self.out_conv.weight.flatten(1), self.out_conv.bias
            if flat.numel() > len(codes):
                near = F.embedding(flat, F.linear(codes, weight, bias))
            else:
                near = F.linear(F.embedding(flat, codes), weight, bias)
            A, b = near.split([3 * self.waves, self.waves], dim=-1)  # (..., 3 waves), (..., waves)
            return A.unflatten(-1, (-1, 3)), rel @ self.components + b

    def _times(self, cell: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the times (t_y, t_x) that belong to cells (..., 2)."""
        pixels = cell * torch.tensor(size, dtype=cell.dtype, device=cell.device) / 2
        if self.largest_scale is not None:
            pixels = pixels.clamp(min=1 / self.largest_scale)
        return pixels.square()

    def _field(self, size: tuple[int, int], cell: Tensor, A: Tensor, angle: Tensor) -> Tensor:
        """Return half the damped sum of the waves, (..., 3), from what ``_waves_at`` returns."""
        with torch.autocast(cell.device.type, enabled=False):
            t = self._times(cell, size)
            wave = angle.sin() * torch.exp(-self.k * (t @ self.components.square()))  # (..., waves)
            return (wave.unsqueeze(-2) @ A).squeeze(-2) / 2

    def _below(self, prepared: Codes, coord: Tensor, flat: Tensor | None = None) -> Tensor:
        """Return what the fields are added to at each query, (B, Q, 3); ``flat`` is from ``_nearest``."""
        _, image, size, (_, _, height, width), _ = prepared
        if self.residual == "nearest":
            flat = self._nearest(prepared, coord)[0] if flat is None else flat
            return F.embedding(flat, image.to(coord.dtype).permute(0, 2, 3, 1).reshape(-1, 3)) + self.mean
        if (height, width) != tuple(size):
            raise ValueError("prepared: the bilinear residual needs a whole image in sample.")
        return sample_bilinear(image, coord)

    @torch.no_grad()
    def decode(
        self,
        prepared: Codes,
        rows: Tensor,
        columns: Tensor,
        cell: Tensor,
        dtype: torch.dtype = torch.float32,
        queries_at_once: int = QUERIES_AT_ONCE,
    ) -> Tensor:
        """Return the pixels of a grid, see ``ContinuousNetwork.decode``."""
        W = self.components.double()
        t = self._times(cell.double().to(W.device), prepared.size)
        damping = torch.exp(-self.k * (W.square() * t.unsqueeze(1)).sum(dim=0))
        kept = (damping > NEGLIGIBLE).nonzero().squeeze(1)
        waves = _Waves(self, kept, W[:, kept], damping[kept], dtype)
        y, x = (
            _axis(position.cpu(), float(side), prepared, axis)
            for axis, (position, side) in enumerate(((rows, cell[0]), (columns, cell[1])))
        )
        whole_scale = y.scale and x.scale and y.scale * x.scale <= MOST_PHASES
        if self.local_ensemble:
            image = torch.empty(len(prepared.code), 3, len(rows), len(columns), dtype=waves.float_type)
            image = image.to(prepared.code.device)
            if whole_scale:
                self._blend_whole_scale(image, prepared, y, x, waves, queries_at_once)
            else:
                self._blend_any_scale(image, prepared, rows, columns, waves, queries_at_once)
            if self.residual == "nearest":
                image += self._base(prepared)[:, :, y.nearest][..., x.nearest]
        elif whole_scale:
            image = self._decode_whole_scale(prepared, y, x, waves, queries_at_once)
        else:
            image = self._decode_any_scale(prepared, y, x, waves, queries_at_once)
        if self.residual == "bilinear" and whole_scale:
            _add_enlarged(image, prepared.image, y, x)
        elif self.residual == "bilinear":
            add_bilinear(image, prepared.image, prepared.size, prepared.region, rows, columns)
        return image

    def _base(self, prepared: Codes) -> Tensor:
        """Return what the fields are added to, for each LR pixel: (B, 3, height, width)."""
        if self.residual == "nearest":
            return prepared.image + self.mean.view(3, 1, 1)
        return torch.zeros_like(prepared.image)

    def _decode_whole_scale(
        self, prepared: Codes, y: _Axis, x: _Axis, waves: _Waves, queries_at_once: int
    ) -> Tensor:
        """Decode where every LR pixel has the same target pixels: a matrix product and a pixel shuffle."""
        (sy, sx), R, C = (y.scale, x.scale), len(y.nearest), len(x.nearest)
        # The LR pixels whose target pixels are asked for, and the waves at the sy * sx places within one.
        (top, bottom), (left, right) = ((int(a.nearest[0]), int(a.nearest[-1]) + 1) for a in (y, x))
        places = [((torch.arange(s, dtype=torch.float64) + 0.5) / s - 0.5) for s in (sy, sx)]
        table = waves.table(places[0][:, None], places[1]).flatten(1)  # (2 waves, sy * sx)
        code, base = prepared.code[:, top:bottom, left:right], self._base(prepared)
        base = base[:, :, top:bottom, left:right].unsqueeze(3).unsqueeze(5)  # (B, 3, rows, 1, columns, 1)
        B, h, w, _ = code.shape
        image = torch.empty(B, 3, h, sy, w, sx, dtype=table.dtype, device=code.device)
        image = image if image.dtype == torch.float64 else image.float()
        # Blocks of LR pixels.
        pixels = max(1, min(BLOCK_FLOATS // (10 * self.waves + 3 * sy * sx), queries_at_once // (sy * sx)))
        w_step = min(w, pixels)
        h_step = max(1, pixels // w_step)
        for b in range(B):
            for i in range(0, h, h_step):
                for j in range(0, w, w_step):
                    rows, columns = slice(i, i + h_step), slice(j, j + w_step)
                    amplitudes = waves.amplitudes(code[b, rows, columns])  # (r, c, 3, 2 waves)
                    field = amplitudes.flatten(0, 2) @ table
                    field = field.to(image.dtype).view(*amplitudes.shape[:3], sy, sx)
                    torch.add(
                        field.permute(2, 0, 3, 1, 4),
                        base[b, :, rows, :, columns],
                        out=image[b, :, rows, :, columns],
                    )
        image = image.view(B, 3, h * sy, w * sx)
        return image[:, :, y.phase : y.phase + R, x.phase : x.phase + C].contiguous()

    def _decode_any_scale(
        self, prepared: Codes, y: _Axis, x: _Axis, waves: _Waves, queries_at_once: int
    ) -> Tensor:
        """Decode rows times columns: the waves of a position are products of those of its row and column."""
        code, base = prepared.code, self._base(prepared)
        B, R, C = code.shape[0], len(y.nearest), len(x.nearest)
        image = torch.empty(B, 3, R, C, dtype=base.dtype, device=code.device)
        side = max(1, math.isqrt(min(queries_at_once, BLOCK_FLOATS // (6 * self.waves))))
        for top in range(0, R, side):
            for left in range(0, C, side):
                part = y.part(top, top + side), x.part(left, left + side)
                runs = [Runs.of(axis.nearest.to(code.device)) for axis in part]
                # The waves of rows and columns: (LR rows, Ly, waves) and (LR columns, Lx, waves) each.
                y_cos, y_sin = waves.of_axis(0, part[0].rel, runs[0])
                x_cos, x_sin = waves.of_axis(1, part[1].rel, runs[1])
                table = torch.cat([x_cos * waves.damping, x_sin * waves.damping], dim=-1)
                table = table.transpose(1, 2).to(waves.dtype)  # (LR columns, 2 waves, Lx)
                for b in range(B):
                    near = code[b].index_select(0, runs[0].pixels).index_select(1, runs[1].pixels)
                    S, Q = waves.amplitudes(near).transpose(0, 1).unsqueeze(2).chunk(2, dim=-1)
                    # Add the row's angle: (LR columns, LR rows, Ly, 3, 2 waves).
                    c, s = y_cos.unsqueeze(2).to(S.dtype), y_sin.unsqueeze(2).to(S.dtype)
                    turned = torch.cat([S * c + Q * s, Q * c - S * s], dim=-1)
                    # Add the column's angle: one product per LR column, (LR columns, LR rows * Ly * 3, Lx).
                    field = torch.bmm(turned.flatten(1, 3), table).to(image.dtype)
                    field = field.view(*turned.shape[:4], -1).permute(3, 1, 2, 0, 4)
                    field = field.flatten(3, 4).flatten(1, 2)  # (3, LR rows * Ly, LR columns * Lx)
                    field = field.index_select(1, runs[0].slots).index_select(2, runs[1].slots)
                    below = base[b].index_select(1, part[0].nearest.to(code.device))
                    below = below.index_select(2, part[1].nearest.to(code.device))
                    torch.add(field, below, out=image[b, :, top : top + side, left : left + side])
        return image

    def _blend_whole_scale(
        self, image: Tensor, prepared: Codes, y: _Axis, x: _Axis, waves: _Waves, queries_at_once: int
    ) -> None:
        """Fill ``image`` with the blended fields, where every LR pixel has the same target pixels around it.

        Four neighbouring LR pixels answer the s x s target pixels between their centres, s being the scale.
        Such a square is a sum of four matrix products, whose tables hold the weights of the blend. Square q
        of an axis lies between the LR pixels q - 1 and q.
        """
        squares = _Squares.of(y, image.shape[2]), _Squares.of(x, image.shape[3])
        (top, bottom), (left, right) = (axis.numbers for axis in squares)
        (sy, sx), (height, width) = (y.scale, x.scale), prepared.region[2:]
        sides = [(a, b) for a in (0, 1) for b in (0, 1)]  # 0: the LR pixel behind the square, 1: before it
        tables = []
        for a, b in sides:
            weight = squares[0].weight[a][:, None] * squares[1].weight[b]
            table = waves.table(squares[0].rel[a][:, None], squares[1].rel[b])
            tables.append((table * weight.to(table)).flatten(1))  # (2 waves, sy * sx)
        at_once = max(1, min(BLOCK_FLOATS // (10 * self.waves + 3 * sy * sx), queries_at_once // (sy * sx)))
        w_step = min(right - left, at_once)
        h_step = max(1, at_once // w_step)
        for code, out in zip(prepared.code, image):
            for i in range(top, bottom, h_step):
                for j in range(left, right, w_step):
                    r, c = min(h_step, bottom - i), min(w_step, right - j)
                    # The LR pixels around the squares; beyond the border of the image there are none.
                    rows, columns = (max(i - 1, 0), min(i + r, height)), (max(j - 1, 0), min(j + c, width))
                    near = waves.amplitudes(code[slice(*rows), slice(*columns)])  # (., ., 3, 2 waves)
                    pad = columns[0] - j + 1, j + c - columns[1], rows[0] - i + 1, i + r - rows[1]
                    near = F.pad(near, (0, 0, 0, 0, *pad))
                    block = torch.zeros((), dtype=near.dtype, device=near.device)
                    for (a, b), table in zip(sides, tables):
                        part = near[1 - a : 1 - a + r, 1 - b : 1 - b + c].flatten(1, 2)  # (r, 3 c, 2 waves)
                        block = torch.baddbmm(block, part, table.expand(r, -1, -1))
                    block = block.view(r, c, 3, sy, sx).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
                    _put(out, block, (squares[0].first(i), squares[1].first(j)))
        # At the border of the image the weights of the LR pixels that are there add up to less than one.
        for dim, axis, n in ((2, squares[0], height), (3, squares[1], width)):
            total = axis.total_weight(n, image.shape[dim])
            border = (total < 1).nonzero().squeeze(1).to(image.device)
            if len(border):
                shape = [1, 1, 1, 1]
                shape[dim] = len(border)
                inner = image.index_select(dim, border) / total.to(image)[border].view(shape)
                image.index_copy_(dim, border, inner)

    def _blend_any_scale(
        self,
        image: Tensor,
        prepared: Codes,
        rows: Tensor,
        columns: Tensor,
        waves: _Waves,
        queries_at_once: int,
    ) -> None:
        """Fill ``image`` with the blended fields, one LR row after the other."""
        top, left = prepared.region[:2]

        def open_block(b: int, y: Visits, x: Visits) -> RowAnswer:
            used = torch.tensor(x.pixels, device=image.device) - left
            angle = x.rel[x.members].unsqueeze(-1) / 2 * waves.W[1]  # (n, Lx, waves)
            table = torch.cat([angle.cos() * waves.damping, angle.sin() * waves.damping], dim=-1)
            table = table.transpose(1, 2).to(waves.dtype)

            def answer(row: int, rel_y: Tensor) -> Tensor:
                code = prepared.code[b, row - top].index_select(0, used).unsqueeze(0)
                S, Q = waves.amplitudes(code)[0].unsqueeze(1).chunk(2, dim=-1)  # (n, 1, 3, waves)
                angle = (rel_y.unsqueeze(-1) / 2 * waves.W[0]).unsqueeze(1)  # (Ly, 1, waves)
                c, s = angle.cos().to(S.dtype), angle.sin().to(S.dtype)
                turned = torch.cat([S * c + Q * s, Q * c - S * s], dim=-1)  # (n, Ly, 3, 2 waves)
                field = torch.bmm(turned.flatten(1, 2), table).unflatten(1, (len(rel_y), 3))
                return field.permute(2, 1, 0, 3)

            return answer

        decode_by_lr_rows(image, rows, columns, prepared.size, True, queries_at_once, open_block, True)


class _Squares(NamedTuple):
    """The target pixels between the centres of neighbouring LR pixels along one axis, at a whole scale s.

    Target pixel i of square q lies between the centres of the LR pixels q - 1 and q of the region. Position 0
    of a pair is for LR pixel q, position 1 for LR pixel q - 1.

    Attributes:
        scale: s.
        start: the first target pixel that is asked for, counted from the region's first LR pixel.
        numbers: first and last + 1 square.
        rel: (2, s) float64, target pixel minus LR pixel, in LR pixels.
        weight: (2, s) float64, of their answers.
    """

    scale: int
    start: int
    numbers: tuple[int, int]
    rel: Tensor
    weight: Tensor

    @classmethod
    def of(cls, axis: _Axis, count: int) -> _Squares:
        """Return the squares of ``count`` target pixels."""
        s, start = axis.scale, int(axis.nearest[0]) * axis.scale + axis.phase
        behind = (s + 1) // 2  # target pixels of a square before the edge of the LR pixel behind it
        rel = (torch.arange(s, dtype=torch.float64) - behind + 0.5) / s - 0.5
        numbers = (start + behind) // s, (start + count - 1 + behind) // s + 1
        return cls(s, start, numbers, torch.stack([rel, rel + 1]), torch.stack([1 + rel, -rel]))

    def first(self, number: int) -> int:
        """Return the first target pixel of a square, counted from the first that is asked for."""
        return number * self.scale - (self.scale + 1) // 2 - self.start

    def total_weight(self, n: int, count: int) -> Tensor:
        """Return the weights of those of the ``n`` LR pixels that answer each target pixel: (count,)."""
        number = torch.arange(count) + (self.scale + 1) // 2 + self.start
        square, place = number // self.scale, number % self.scale
        return self.weight[0][place] * (square < n) + self.weight[1][place] * (square > 0)


def _put(image: Tensor, block: Tensor, first: tuple[int, int]) -> None:
    """Copy what lies in ``image`` (3, R, C) of ``block`` (3, r, c), which begins at ``first`` in it."""
    inside = []
    for start, length, n in zip(first, block.shape[1:], image.shape[1:]):
        inside.append((max(start, 0), min(start + length, n)))
    (top, bottom), (left, right) = inside
    part = block[:, top - first[0] : bottom - first[0], left - first[1] : right - first[1]]
    image[:, top:bottom, left:right] = part


def _add_enlarged(image: Tensor, lq: Tensor, y: _Axis, x: _Axis) -> None:
    """Add the bilinearly enlarged LR image to ``image``, as ``add_bilinear`` does, where scales are whole.

    Args:
        image: (B, 3, R, C), changed in place.
        lq: (B, 3, height, width), the LR image of the region.
        y: the target rows.
        x: the target columns.
    """
    parts, inside = [], []
    for axis, n, count in zip((y, x), lq.shape[2:], image.shape[2:]):
        first, last = int(axis.nearest[0]), int(axis.nearest[-1])
        low, high = max(first - 1, 0), min(last + 2, n)  # with the neighbours of the first and the last
        start = (first - low) * axis.scale + axis.phase
        parts.append(slice(low, high))
        inside.append(slice(start, start + count))
    part = lq[:, :, parts[0], parts[1]].to(image.dtype)
    scale = (float(y.scale), float(x.scale))
    image += F.interpolate(part, scale_factor=scale, mode="bilinear")[:, :, inside[0], inside[1]]


def nearest_below_half(position: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the nearest of ``n`` LR pixels along one axis, and the position relative to its centre.

    Halves go up, as published; LIIF's go to the even index. The index is computed in the published order of
    operations, because rounding decides where a position lies between two pixels.

    Returns:
        index, int64, and rel in LR pixels, of the dtype of ``position``.
    """
    pixels = (position / 2) * n + (n - 1) / 2
    index = torch.floor(pixels + 0.5).clamp(0, n - 1)
    # Centres rounded to the dtype of the positions as published, the difference without another rounding.
    centre = ((2 * index.double() + 1) / n - 1).to(position.dtype)
    return index.long(), ((position.double() - centre.double()) * (n / 2)).to(position.dtype)


def _axis(position: Tensor, cell: float, prepared: Codes, axis: int) -> _Axis:
    """Return the target pixels at ``position`` (N,) along ``axis``.

    At a whole scale all LR pixels share the exact places within one, (i + 1/2)/scale - 1/2. At another scale
    ``rel`` keeps the rounding of ``position`` to float32, as published.
    """
    n, origin = prepared.size[axis], prepared.region[axis]
    index, rel = nearest_below_half(position, n)
    total = round(2 / cell) if prepared.target is None else prepared.target[axis]
    scale = total // n if total > 0 and total % n == 0 else 0
    phase = 0
    if scale:
        number = ((position.double() + 1) * total - 1) / 2  # of the target pixel, whole up to rounding
        first = round(float(number[0]))
        expected = first + torch.arange(len(number))
        near = bool(((number - expected).abs() < 1e-2).all())
        scale = scale if near and bool((expected // scale == index).all()) else 0
        phase = first % scale if scale else 0
    return _Axis(index - origin, rel.double(), scale, phase)


class _Waves:
    """The waves that are not damped away, and how they meet the codes.

    Args:
        net: a Thera.
        kept: numbers of the waves.
        W: (2, kept), float64.
        damping: (kept,), float64.
        dtype: of the matrix products; angles stay in float32 or float64.
    """

    def __init__(self, net: Thera, kept: Tensor, W: Tensor, damping: Tensor, dtype: torch.dtype):
        float_type = net.out_conv.weight.dtype
        self.dtype = dtype if float_type == torch.float32 else float_type
        self.float_type = float_type
        self.W = W
        self.damping = damping.to(float_type)
        # out_conv for these waves, as (4 waves, C): the amplitudes of each colour, halved, and the phases.
        weight, bias = net.out_conv.weight.flatten(1), net.out_conv.bias
        assert bias is not None
        A, b = weight[: 3 * net.waves].unflatten(0, (-1, 3)), weight[3 * net.waves :]
        A_bias, b_bias = bias[: 3 * net.waves].unflatten(0, (-1, 3)), bias[3 * net.waves :]
        self.weight = torch.cat([A[kept].transpose(0, 1).flatten(0, 1) / 2, b[kept]]).to(self.dtype)
        self.bias = torch.cat([A_bias[kept].t().flatten() / 2, b_bias[kept]]).to(self.dtype)

    def table(self, y: Tensor, x: Tensor) -> Tensor:
        """Return cosines and sines of the waves at positions, damped: (2 waves, *positions)."""
        W = self.W.view(2, -1, *([1] * torch.broadcast_tensors(y, x)[0].dim()))
        angle = W[0] * y.to(W.device) + W[1] * x.to(W.device)
        damping = self.damping.view(W.shape[1:])
        return (torch.cat([angle.cos() * damping, angle.sin() * damping])).to(self.dtype)

    def of_axis(self, axis: int, rel: Tensor, runs: Runs) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of the part of the angle of one axis: (n, L, waves) each."""
        angle = rel.to(self.W.device)[runs.members].unsqueeze(-1) * self.W[axis]
        return angle.cos().to(self.float_type), angle.sin().to(self.float_type)

    def amplitudes(self, code: Tensor) -> Tensor:
        """(r, c, C) -> (r, c, 3, 2 waves), the factors of the cosines and of the sines of rel . W."""
        z = F.linear(code.to(self.dtype), self.weight, self.bias)
        n = len(self.damping)
        A, b = z[..., : 3 * n].unflatten(-1, (3, n)), z[..., 3 * n :].to(self.float_type).unsqueeze(-2)
        out = torch.empty(*A.shape[:3], 2 * n, dtype=self.dtype, device=z.device)
        torch.mul(A, b.sin().to(self.dtype), out=out[..., :n])
        torch.mul(A, b.cos().to(self.dtype), out=out[..., n:])
        return out
