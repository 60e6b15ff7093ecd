"""Any network of BasicSR as a feature encoder: its features before the upsampler, by a small table of recipes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Callable

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from ..config.option_types import check_call
from ..errors import UserError, check_keys, nearest
from . import rdn_arch  # noqa: F401  registers LIIF_RDN


@dataclass(frozen=True)
class Recipe:
    """How to take the features out of one class of network.

    features: (net, x (B, 3, h, w) in [-1, 1]) -> (B, C, h, w). The network's own shift of the mean is left out, as in the
    published LIIF; its input layer sees the normalised image. unused: children behind the features, removed so that they are
    neither counted nor trained. fixed: constructor arguments that the recipe sets itself. halo: receptive radius in LR pixels,
    None where it is the whole image.
    """

    features: Callable[[nn.Module, Tensor], Tensor]
    channels: Callable[[nn.Module], int]
    unused: tuple[str, ...]
    halo: Callable[[nn.Module], int | None]
    fixed: dict
    pad_multiple: Callable[[nn.Module], int] = lambda net: 1


def _edsr_features(net, x):
    x = net.conv_first(x)
    return net.conv_after_body(net.body(x)) + x


def _msrresnet_features(net, x):
    return net.body(net.lrelu(net.conv_first(x)))


def _rrdbnet_features(net, x):
    x = net.conv_first(x)
    return net.conv_body(net.body(x)) + x


def _swinir_features(net, x):
    x = net.conv_first(x)
    return net.conv_after_body(net.forward_features(x)) + x


def _swinir_window(net) -> int:
    return net.layers[0].residual_group.blocks[0].window_size


def _swinir_halo(net) -> int:
    blocks = sum(len(layer.residual_group.blocks) for layer in net.layers)
    return (
        blocks * (_swinir_window(net) - 1) + len(net.layers) + 2
    )  # every block sees one window, every layer ends in a 3x3


_RGB = {"num_in_ch": 3, "num_out_ch": 3}
_CONV_FIRST = lambda net: net.conv_first.out_channels  # noqa: E731

RECIPES = {
    "EDSR": Recipe(
        _edsr_features, _CONV_FIRST, ("upsample", "conv_last"), lambda net: 2 * len(net.body) + 2, _RGB
    ),
    "MSRResNet": Recipe(
        _msrresnet_features,
        _CONV_FIRST,
        ("upconv1", "upconv2", "pixel_shuffle", "conv_hr", "conv_last"),
        lambda net: 2 * len(net.body) + 1,
        _RGB,
    ),
    "RCAN": Recipe(
        _edsr_features, _CONV_FIRST, ("upsample", "conv_last"), lambda net: None, _RGB
    ),  # attends to the image's mean
    "RRDBNet": Recipe(
        _rrdbnet_features,
        _CONV_FIRST,
        ("conv_up1", "conv_up2", "conv_hr", "conv_last"),
        lambda net: 15 * len(net.body) + 2,
        {**_RGB, "scale": 4},
    ),
    "LIIF_RDN": Recipe(
        lambda net, x: net.features(x),
        lambda net: net.SFENet1.out_channels,
        ("UPNet",),
        lambda net: net.halo,
        _RGB,
    ),
    "SwinIR": Recipe(
        _swinir_features,
        _CONV_FIRST,
        ("conv_before_upsample", "upsample", "conv_last"),
        _swinir_halo,
        {"in_chans": 3, "upscale": 1, "upsampler": ""},
        _swinir_window,
    ),
}


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, h, w) below and to the right to multiples of ``multiple``: mirrored there and back, as often as it takes."""
    if multiple == 1:
        return x
    for axis in (2, 3):
        n = x.shape[axis]
        period = max(2 * n - 2, 1)
        index = torch.arange((n + multiple - 1) // multiple * multiple, device=x.device)
        index = index % torch.full_like(index, period)
        x = x.index_select(
            axis, torch.minimum(index, period - index)
        )  # an index and no loop, so that it exports for any size
    return x


class Encoder(nn.Module):
    """(B, 3, h, w) in [-1, 1] -> (B, out_channels, h, w), of any size.

    Args:
        opt: ``{type: EDSR, num_feat: 64, num_block: 16}``: a network of ARCH_REGISTRY that has a recipe, and its arguments.

    Attributes:
        out_channels: C. pad_multiple: window size; the image is padded to multiples of it and the FEATURES are cropped back.
        halo: receptive radius in LR pixels, or None where it is the whole image.

    Raises:
        UserError: for a type without a recipe, or an argument that the network does not have.
    """

    def __init__(self, opt: dict):
        super().__init__()
        opt = dict(opt)
        kind = opt.pop("type", None)
        if kind not in RECIPES:
            raise UserError(
                f"network_g.encoder.type: '{kind}' has no encoder recipe{nearest(kind, RECIPES)}; there are {', '.join(RECIPES)}."
            )
        recipe = RECIPES[kind]
        network = ARCH_REGISTRY.get(kind)
        # what has no effect on the features is refused: the image comes normalised
        valid = (
            set(inspect.signature(network).parameters)
            - set(recipe.fixed)
            - {"kwargs", "upscale", "img_range", "rgb_mean"}
        )
        check_keys(f"network_g.encoder ({kind})", opt, valid)
        check_call(f"network_g.encoder ({kind})", network, opt, tuple(inspect.signature(network).parameters))
        self.net = network(**{**opt, **recipe.fixed})
        self.out_channels = recipe.channels(self.net)
        self.pad_multiple = recipe.pad_multiple(self.net)
        self.halo = recipe.halo(self.net)
        self._features = recipe.features
        for child in recipe.unused:
            if hasattr(self.net, child):
                delattr(self.net, child)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        return self._features(self.net, pad_to_multiple(x, self.pad_multiple))[:, :, :h, :w]
