"""A network of BasicSR as a feature encoder: its features before the upsampler, by a table of recipes; and
what decoders on it share.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from ..config.option_types import check_call
from ..errors import UserError, check_keys, nearest
from . import rdn_arch  # noqa: F401  registers LIIF_RDN
from .base import ContinuousNetwork


@dataclass(frozen=True)
class Recipe:
    """How to take the features out of one class of network.

    Attributes:
        features: (net, x (B, 3, h, w) in [-1, 1]) -> (B, C, h, w). The network's own shift of the mean is
            left out, as in the published LIIF: its input layer sees the normalised image.
        channels: net -> C.
        unused: children behind the features, ``body.-1`` for the last one of ``body``. They are removed, so
            they are neither counted nor trained.
        halo: net -> receptive radius in LR pixels, None if it is the whole image.
        fixed: constructor arguments that the recipe sets itself.
        pad_multiple: net -> the window size of a windowed network, 1 for others.
        choices: constructor argument -> the values of it for which the recipe holds.
    """

    features: Callable[[Any, Tensor], Tensor]
    channels: Callable[[Any], int]
    unused: tuple[str, ...]
    halo: Callable[[Any], int | None]
    fixed: dict
    pad_multiple: Callable[[Any], int] = lambda net: 1
    choices: Mapping[str, tuple] = field(default_factory=dict)


def _edsr_features(net, x):
    x = net.conv_first(x)
    return net.conv_after_body(net.body(x)) + x


def _msrresnet_features(net, x):
    return net.body(net.lrelu(net.conv_first(x)))


def _rrdbnet_features(net, x):
    x = net.conv_first(x)
    return net.conv_body(net.body(x)) + x


# SwinIR's own upsampler begins with a convolution to 64 channels. LTE and LMF take the features behind it
# (`upsampler: pixelshuffle`). At upscale 1 the rest of that upsampler is empty.
_BEHIND_CONVOLUTION = "pixelshuffle"


def _swinir_features(net, x):
    x = net.conv_first(x)
    x = net.conv_after_body(net.forward_features(x)) + x
    return net.conv_before_upsample(x) if net.upsampler == _BEHIND_CONVOLUTION else x


def _swinir_channels(net) -> int:
    if net.upsampler == _BEHIND_CONVOLUTION:
        return net.conv_before_upsample[0].out_channels
    return net.conv_first.out_channels


def _swinir_window(net) -> int:
    return net.layers[0].residual_group.blocks[0].window_size


def _swinir_halo(net) -> int:
    # Every block sees one window more, every layer ends in a 3x3 convolution, and so do the input and the
    # output.
    blocks = sum(len(layer.residual_group.blocks) for layer in net.layers)
    behind = net.upsampler == _BEHIND_CONVOLUTION
    return blocks * (_swinir_window(net) - 1) + len(net.layers) + 2 + behind


def _srvgg_features(net, x):
    for layer in net.body:  # its last layer, for the pixel shuffle, is removed
        x = layer(x)
    return x


def _channels(net: Any) -> int:
    return net.conv_first.out_channels


_RGB = {"num_in_ch": 3, "num_out_ch": 3}

RECIPES = {
    "EDSR": Recipe(
        features=_edsr_features,
        channels=_channels,
        unused=("upsample", "conv_last"),
        halo=lambda net: 2 * len(net.body) + 2,
        fixed=_RGB,
    ),
    "MSRResNet": Recipe(
        features=_msrresnet_features,
        channels=_channels,
        unused=("upconv1", "upconv2", "pixel_shuffle", "conv_hr", "conv_last"),
        halo=lambda net: 2 * len(net.body) + 1,
        fixed=_RGB,
    ),
    "RCAN": Recipe(
        features=_edsr_features,
        channels=_channels,
        unused=("upsample", "conv_last"),
        halo=lambda net: None,  # its attention looks at the mean of the whole image
        fixed=_RGB,
    ),
    "RRDBNet": Recipe(
        features=_rrdbnet_features,
        channels=_channels,
        unused=("conv_up1", "conv_up2", "conv_hr", "conv_last"),
        halo=lambda net: 15 * len(net.body) + 2,
        fixed={**_RGB, "scale": 4},
    ),
    "LIIF_RDN": Recipe(
        features=lambda net, x: net.features(x),
        channels=lambda net: net.SFENet1.out_channels,
        unused=("UPNet",),
        halo=lambda net: net.halo,
        fixed=_RGB,
    ),
    "SwinIR": Recipe(
        features=_swinir_features,
        channels=_swinir_channels,
        unused=("conv_last",),
        halo=_swinir_halo,
        fixed={"in_chans": 3, "upscale": 1},
        pad_multiple=_swinir_window,
        choices={"upsampler": ("", _BEHIND_CONVOLUTION)},
    ),
    "SRVGGNetCompact": Recipe(
        features=_srvgg_features,
        channels=lambda net: net.body[0].out_channels,
        unused=("body.-1", "upsampler"),
        halo=lambda net: net.num_conv + 1,
        fixed=_RGB,
        choices={"act_type": ("prelu", "relu", "leakyrelu")},
    ),
}


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, h, w) below and to the right to multiples of ``multiple``, mirrored as often as it takes."""
    if multiple == 1:
        return x
    for axis in (2, 3):
        n = x.shape[axis]
        period = max(2 * n - 2, 1)  # mirrored without repeating the border pixel
        # An index and no loop, so that it exports for any size.
        index = torch.arange((n + multiple - 1) // multiple * multiple, device=x.device)
        index = index % torch.full_like(index, period)
        x = x.index_select(axis, torch.minimum(index, period - index))
    return x


class Encoder(nn.Module):
    """(B, 3, h, w) in [-1, 1] -> (B, out_channels, h, w), of any size.

    Args:
        opt: ``{type: EDSR, num_feat: 64, num_block: 16}``: a network of ARCH_REGISTRY that has a recipe, and
            its arguments.

    Attributes:
        out_channels: C.
        pad_multiple: window size; the image is padded to multiples of it and the features are cropped back.
        halo: receptive radius in LR pixels, or None if it is the whole image.

    Raises:
        UserError: if ``opt`` is no block, the type has no recipe, or the network does not have one of the
            arguments.
    """

    def __init__(self, opt: dict):
        super().__init__()
        if not isinstance(opt, Mapping):
            raise UserError(
                f"network_g.encoder: expected a block with the type and its arguments, got {opt!r}. Write "
                "{type: EDSR}, for example."
            )
        arguments = dict(opt)
        name = arguments.pop("type", None)
        if name not in RECIPES:
            raise UserError(
                f"network_g.encoder.type: expected one of {', '.join(RECIPES)}, got '{name}'"
                f"{nearest(name, RECIPES)}."
            )
        recipe = RECIPES[name]
        network = ARCH_REGISTRY.get(name)
        # Refuse what has no effect on the features: the image comes normalised, and the upsampler is removed.
        parameters = set(inspect.signature(network).parameters)
        valid = parameters - set(recipe.fixed) - {"kwargs", "upscale", "img_range", "rgb_mean"}
        check_keys(f"network_g.encoder ({name})", arguments, valid)
        check_call(f"network_g.encoder ({name})", network, arguments, tuple(parameters))
        for argument, values in recipe.choices.items():
            if arguments.get(argument, values[0]) not in values:
                raise UserError(
                    f"network_g.encoder.{argument}: expected one of {', '.join(map(repr, values))}, got "
                    f"{arguments[argument]!r}."
                )
        self.net = network(**{**arguments, **recipe.fixed})
        self.out_channels = recipe.channels(self.net)
        self.pad_multiple = recipe.pad_multiple(self.net)
        self.halo = recipe.halo(self.net)
        self._features = recipe.features
        for path in recipe.unused:
            parent, _, child = path.rpartition(".")
            owner = self.net.get_submodule(parent)
            own = [name for name, _ in owner.named_children()]
            child = own[-1] if child == "-1" else child
            if child not in own:
                raise ValueError(
                    f"the recipe of {name}: unused names '{path}', but the network has {', '.join(own)}."
                )
            delattr(owner, child)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        return self._features(self.net, pad_to_multiple(x, self.pad_multiple))[:, :, :h, :w]


class EncodedNetwork(ContinuousNetwork):
    """What most decoders share: an encoder, whose features are handed on together with the LR image.

    Images are handed over in [0, 1]; the published networks work in [-1, 1].

    Args:
        encoder: see ``Encoder``.
        radius: LR pixels that the decoder sees around the one it asks, beside what the encoder sees.
        local_ensemble: whether the decoder asks four codes for each query, or the nearest one.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: dict, radius: int, local_ensemble: bool = False):
        super().__init__()
        self.encoder = Encoder(encoder)
        self.local_ensemble = local_ensemble
        self.halo = None if self.encoder.halo is None else self.encoder.halo + radius
        self.pad_multiple = self.encoder.pad_multiple
        self.register_buffer("mean", torch.tensor(0.5), persistent=False)
        self.register_buffer("std", torch.tensor(0.5), persistent=False)

    def encode(self, lq: Tensor) -> Tensor:
        """(B, 3, h, w) in [0, 1] -> (B, C + 3, h, w): the features and the image."""
        return torch.cat([self.encoder((lq - self.mean) / self.std).to(lq.dtype), lq], dim=1)

    def query(self, feat: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """Feat (B, C + 3, h, w), coord and cell (B, Q, 2), float32 -> rgb (B, Q, 3).

        Raises:
            ValueError: if ``coord`` is in half precision or has another shape.
        """
        return self.sample(self.prepare(feat), coord, cell)

    def without_ensemble(self) -> EncodedNetwork | None:
        """Return the same network, its weights shared, without the ensemble, or None if it has none."""
        if not self.local_ensemble:
            return None
        other = copy.copy(self)
        other.local_ensemble = False
        return other
