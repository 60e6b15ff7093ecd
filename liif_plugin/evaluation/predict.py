"""From a low-resolution image to its super-resolved one, by any network at the size of the ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..archs.base import is_continuous
from ..archs.encoder import pad_to_multiple
from ..coords import cell_of
from ..errors import UserError
from ..inference.render import render
from ..precision import whole_float32


def window_of(net: nn.Module) -> int:
    """Return the window size of a stock network that needs sides of a multiple of it (SwinIR), else 1."""
    sizes = [getattr(module, "window_size", None) for module in net.modules()]
    return max((size for size in sizes if isinstance(size, int)), default=1)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[nn.Module]:
    """Switch ``net`` to eval mode; at the end restore its mode and the state of the random generators.

    Data loaders draw a seed: without this, validation would change the random numbers of the training.
    """
    was_training, benchmark = net.training, torch.backends.cudnn.benchmark
    net.eval()
    torch.backends.cudnn.benchmark = False  # it would search anew for every image size
    try:
        with torch.random.fork_rng(devices=[]):
            yield net
    finally:
        net.train(was_training)
        torch.backends.cudnn.benchmark = benchmark


@torch.no_grad()
def own_scale(net: nn.Module, lq: Tensor) -> float:
    """Return the scale of a fixed-scale network by running it once.

    Args:
        net: a network without encode and query.
        lq: (B, 3, h, w) in [0, 1], an image to run it on.
    """
    padded = pad_to_multiple(lq, window_of(net))
    return net(padded).shape[-2] / padded.shape[-2]


@torch.no_grad()
def predict(
    net: nn.Module,
    lq: Tensor,
    size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
    cell: float | None = None,
) -> Tensor:
    """Return the image of ``size``: rendered by a continuous network, or the output of a fixed-scale one.

    Args:
        net: in eval mode.
        lq: (B, 3, h, w) in [0, 1].
        size: (H, W) of the result.
        dtype: torch.bfloat16 or torch.float16 run the network, and nothing else, under autocast.
        cell: side of a query's cell in input pixels (Figure 6 of the paper has 1, 1/2, 1/30); None is the
            true cell, h/H x w/W.

    Returns:
        (B, 3, H, W) float32, not clamped.

    Raises:
        UserError: if a fixed-scale network has another scale than ``size`` asks for.
    """
    h, w = lq.shape[-2:]
    if is_continuous(net):
        return render(net, lq, size, None if cell is None else cell * cell_of((h, w)), dtype=dtype)
    with torch.autocast(lq.device.type, dtype=dtype, enabled=dtype != torch.float32), whole_float32():
        padded = pad_to_multiple(lq, window_of(net))
        output = net(padded).float()
    scale = output.shape[-2] / padded.shape[-2]
    if (round(h * scale), round(w * scale)) != tuple(size):
        raise UserError(
            f"{type(net).__name__} enlarges x{scale:g} and nothing else, but {w}x{h} -> {size[1]}x{size[0]} "
            f"(width x height) was asked for; validate it on sets of scale {scale:g}."
        )
    return output[..., : size[0], : size[1]]
