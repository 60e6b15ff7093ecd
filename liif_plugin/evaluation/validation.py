"""One pass over a validation set: predict, measure, hand every picture on."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager

import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import imwrite, tensor2img
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from ..archs.encoder import pad_to_multiple
from ..coords import cell_of
from ..data.workers import ignore_first_signal
from ..errors import UserError
from ..inference.render import is_continuous, render
from ..metrics.properties import is_float_metric
from ..precision import whole_float32


def window_of(net) -> int:
    """The window size of a stock network that needs sides of a multiple of it (SwinIR), else 1."""
    sizes = [
        module.window_size
        for module in net.modules()
        if isinstance(getattr(module, "window_size", None), int)
    ]
    return max(sizes, default=1)


@contextmanager
def evaluating(net: torch.nn.Module):
    """``net`` in eval mode; its mode comes back, and what is drawn at random within (loaders do) leaves the training's draws alone."""
    was_training, benchmark = net.training, torch.backends.cudnn.benchmark
    net.eval()
    torch.backends.cudnn.benchmark = False  # would be tuned anew for every image size
    try:
        with torch.random.fork_rng(devices=[]):
            yield net
    finally:
        net.train(was_training)
        torch.backends.cudnn.benchmark = benchmark


@torch.no_grad()
def own_scale(net: torch.nn.Module, lq: Tensor) -> float:
    """The scale of a network that has only one; ``lq`` (B, 3, h, w) is what it is tried on."""
    padded = pad_to_multiple(lq, window_of(net))
    return net(padded).shape[-2] / padded.shape[-2]


@torch.no_grad()
def predict(
    net, lq: Tensor, size: tuple[int, int], dtype: torch.dtype = torch.float32, cell: float | None = None
) -> Tensor:
    """(B, 3, h, w) -> (B, 3, H, W) float32: rendered, or, from a fixed-scale network, its own output.

    Args:
        dtype: torch.bfloat16 or torch.float16 run the network, and nothing else, under autocast.
        cell: side of the queries' cells in input pixels (Figure 6 of the paper has 1, 1/2, 1/30); None is the true one, h/H and w/W.

    Raises:
        UserError: where a fixed-scale network's scale is not that of ``size``.
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
            f"{type(net).__name__} enlarges x{scale:g} and nothing else, but {h}x{w} -> {size[0]}x{size[1]} was asked for; "
            f"validate it on sets of scale {scale:g}."
        )
    return output[..., : size[0], : size[1]]


def measure(
    metric_opt: dict, sr: Tensor, gt: Tensor, scale: Tensor, protocol: str | None, path: str
) -> float:
    """One metric of one picture. Ours and BasicSR's *_pt get floats, the other stock metrics 8-bit BGR as they expect.

    Args:
        path: of the truth; its name is looked up where ``gray_as_luma`` is a list of names.
    """
    opt = dict(metric_opt)
    own = is_float_metric(opt["type"])
    if own:
        opt = {"protocol": protocol, **opt, "scale": scale}
        if isinstance(opt.get("gray_as_luma"), (list, tuple)):
            opt["gray_as_luma"] = picture_name(path, None) in opt["gray_as_luma"]
    if own or opt["type"].endswith("_pt"):
        data = {"img": sr.clamp(0, 1), "img2": gt}
    else:
        data = {"img": tensor2img([sr.cpu()]), "img2": tensor2img([gt.cpu()])}
    return float(calculate_metric(data, opt))


@torch.no_grad()
def validate(
    net,
    dataset: Dataset,
    metrics: dict[str, dict],
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
    on_image: Callable[[str, Tensor], None] | None = None,
    progress: bool = False,
    dtype: torch.dtype = torch.float32,
    stop: Callable[[], object] | None = None,
) -> dict[str, float] | None:
    """Mean of each metric over ``dataset``, the images shared among the ranks; the same on every rank.

    Args:
        net: the bare network, in eval mode.
        metrics: name -> options with ``type``, as in BasicSR's ``val.metrics``.
        on_image: called with (path, sr (1, 3, H, W)) for each image of this rank.
        dtype: as for ``predict``.
        stop: asked after every image; where it says yes on any rank, the result is None on every rank.
    """
    protocol = dataset.opt.get("protocol")
    shard = Subset(dataset, range(rank, len(dataset), world_size))
    totals = torch.zeros(
        len(metrics) + 2, dtype=torch.float64
    )  # sums of the metrics, images, ranks that were asked to stop
    loader = DataLoader(
        shard, 1, num_workers=dataset.opt.get("num_worker_per_gpu", 0), worker_init_fn=ignore_first_signal
    )
    for item in tqdm(loader, unit="image", desc=dataset.opt["name"], disable=not (progress and rank == 0)):
        lq, gt = item["lq"].to(device), item["gt"].to(device)
        sr = predict(net, lq, tuple(gt.shape[-2:]), dtype)
        path = item.get("gt_path", item["lq_path"])[0]
        scale = item.get("scale", torch.tensor(gt.shape[-2] / lq.shape[-2]))
        totals[:-2] += torch.tensor(
            [measure(opt, sr, gt, scale, protocol, path) for opt in metrics.values()], dtype=torch.float64
        )
        totals[-2] += 1
        if on_image is not None:
            on_image(item["lq_path"][0], sr)
        if stop is not None and stop():
            totals[-1] = 1
            break
    if world_size > 1:
        totals = totals.to(device)
        torch.distributed.all_reduce(totals)
    return None if totals[-1] else dict(zip(metrics, (totals[:-2] / totals[-2]).tolist()))


def picture_name(path: str, root: str | None) -> str:
    """``path`` below ``root``, sub-folders kept, without its extension."""
    return os.path.splitext(os.path.relpath(path, root) if root else os.path.basename(path))[0]


def picture_writer(folder: str, root: str | None, suffix: object) -> Callable[[str, Tensor], None]:
    """``on_image`` that writes FOLDER/IMAGE_SUFFIX.png, so that neither scales nor iterations overwrite one another."""

    def write(path: str, sr: Tensor) -> None:
        imwrite(tensor2img([sr.cpu()]), os.path.join(folder, f"{picture_name(path, root)}_{suffix}.png"))

    return write
