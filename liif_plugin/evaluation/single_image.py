"""One image: predict it at the size of its ground truth by any network, and measure the result."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import tensor2img
from torch import Tensor, nn

from ..archs.base import is_continuous
from ..archs.encoder import pad_to_multiple
from ..coords import cell_of
from ..errors import UserError
from ..inference.render import render
from ..metrics.properties import is_float_metric
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


def _cell(
    lr_size: tuple[int, int], size: tuple[int, int], cell: float | None, cell_clamp: float | None
) -> Tensor | None:
    """Return the cells that ``predict`` asks for, (2,); None for the true ones."""
    if cell is not None:
        return cell * cell_of(lr_size)
    if cell_clamp is not None:
        return torch.maximum(cell_of(size), cell_of(lr_size) / cell_clamp)
    return None


@torch.no_grad()
def predict(
    net: nn.Module,
    lq: Tensor,
    size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
    cell: float | None = None,
    cell_clamp: float | None = None,
) -> Tensor:
    """Return the image of ``size``: rendered by a continuous network, or the output of a fixed-scale one.

    Args:
        net: in eval mode.
        lq: (B, 3, h, w) in [0, 1].
        size: (H, W) of the result.
        dtype: torch.bfloat16 or torch.float16 run the network, and nothing else, under autocast.
        cell: side of a query's cell in input pixels (Figure 6 of the paper has 1, 1/2, 1/30); None is the
            true cell, h/H x w/W.
        cell_clamp: smallest cell, as the scale that it belongs to: with 4, every scale beyond x4 is asked
            with the cells of x4, 1/4 of an input pixel. LTE and its successors are evaluated so, because
            they are trained up to x4. On both axes of scale s it is the published cell * max(s/4, 1). None
            is the true cell.

    Returns:
        (B, 3, H, W) float32, not clamped.

    Raises:
        UserError: if a fixed-scale network has another scale than ``size`` asks for, or is given a cell.
    """
    h, w = lq.shape[-2:]
    if is_continuous(net):
        return render(net, lq, size, _cell((h, w), size, cell, cell_clamp), dtype=dtype)
    if cell is not None or cell_clamp is not None:
        raise UserError(
            f"{type(net).__name__} has one scale and takes no cells; leave cell and cell_clamp out."
        )
    with torch.autocast(lq.device.type, dtype=dtype, enabled=dtype != torch.float32), whole_float32():
        padded = pad_to_multiple(lq, window_of(net))
        output = net(padded).float()
    scale = output.shape[-2] / padded.shape[-2]
    if (round(h * scale), round(w * scale)) != tuple(size):
        raise UserError(
            f"{type(net).__name__} enlarges only by x{scale:g}, but (height, width) = {(h, w)} -> "
            f"{tuple(size)} was asked for; validate it on sets of scale {scale:g}."
        )
    return output[..., : size[0], : size[1]]


def picture_name(path: str, root: str | None) -> str:
    """Return ``path`` relative to ``root``, with its sub-folders and without its extension.

    Example:
        >>> picture_name("set/a/001.png", "set"), picture_name("set/a/001.png", None)
        ('a/001', '001')
    """
    return os.path.splitext(os.path.relpath(path, root) if root else os.path.basename(path))[0]


def measure(
    metric_opt: dict, sr: Tensor, gt: Tensor, scale: Tensor, protocol: str | None, path: str
) -> float:
    """Return the value of one metric of one image.

    Metrics marked by ``float_metric`` and BasicSR's ``*_pt`` get floats; the others 8-bit BGR arrays.

    Args:
        metric_opt: a block of ``val.metrics``: ``type`` and the arguments of the metric.
        sr: (1, 3, H, W), clamped to [0, 1] here.
        gt: (1, 3, H, W) in [0, 1].
        scale: a number or (sy, sx), for the protocol's shave.
        protocol: of the set; an own ``protocol`` of the metric has priority.
        path: of the ground truth. Its name is looked up if ``gray_as_luma`` is a list of names.
    """
    opt = dict(metric_opt)
    floats = is_float_metric(opt["type"])
    if floats:
        opt = {"protocol": protocol, **opt, "scale": scale}
        if isinstance(opt.get("gray_as_luma"), (list, tuple)):
            opt["gray_as_luma"] = picture_name(path, None) in opt["gray_as_luma"]
    if floats or opt["type"].endswith("_pt"):
        data = {"img": sr.clamp(0, 1), "img2": gt}
    else:
        data = {"img": tensor2img([sr.cpu()]), "img2": tensor2img([gt.cpu()])}
    return float(calculate_metric(data, opt))
