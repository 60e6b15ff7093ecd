"""One pass over a validation set: predict, measure, hand every image on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from basicsr.utils import imwrite, tensor2img
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from ..data.workers import ignore_first_signal
from .single_image import measure, picture_name, predict


@torch.no_grad()
def validate(
    net: nn.Module,
    dataset: Any,
    metrics: dict[str, dict],
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
    on_image: Callable[[str, Tensor], None] | None = None,
    progress: bool = False,
    dtype: torch.dtype = torch.float32,
    stop: Callable[[], object] | None = None,
    cell_clamp: float | None = None,
) -> dict[str, float] | None:
    """Return the mean of each metric over ``dataset``, the same on every rank.

    Args:
        net: the bare network, in eval mode.
        dataset: a validation set with its options in ``opt``; its images are shared among the ranks.
        metrics: name -> options with ``type``, as in BasicSR's ``val.metrics``.
        device: where ``net`` is.
        rank: of this process.
        world_size: number of processes.
        on_image: called with (path, sr (1, 3, H, W)) for each image of this rank.
        progress: show a progress bar on rank 0.
        dtype: see ``predict``.
        stop: called after every image. If it returns true on any rank, the result is None on every rank.
        cell_clamp: see ``predict``.
    """
    opt = dataset.opt
    shard = Subset(dataset, range(rank, len(dataset), world_size))
    loader = DataLoader(
        shard, 1, num_workers=opt.get("num_worker_per_gpu", 0), worker_init_fn=ignore_first_signal
    )
    # sum of each metric, number of images, number of ranks that were asked to stop
    totals = torch.zeros(len(metrics) + 2, dtype=torch.float64)
    for item in tqdm(loader, unit="image", desc=opt["name"], disable=not (progress and rank == 0)):
        lq, gt = item["lq"].to(device), item["gt"].to(device)
        sr = predict(net, lq, tuple(gt.shape[-2:]), dtype, cell_clamp=cell_clamp)
        path = item.get("gt_path", item["lq_path"])[0]
        scale = item.get("scale", torch.tensor(gt.shape[-2] / lq.shape[-2]))
        values = [measure(one, sr, gt, scale, opt.get("protocol"), path) for one in metrics.values()]
        totals[:-2] += torch.tensor(values, dtype=torch.float64)
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


def picture_writer(folder: str, root: str | None, suffix: object) -> Callable[[str, Tensor], None]:
    """Return an ``on_image`` that writes FOLDER/IMAGE_SUFFIX.png.

    Args:
        folder: where to write; sub-folders of the set are made in it.
        root: folder of the set, which names are relative to; None keeps the file name alone.
        suffix: e.g. the iteration or the set, so that images of different ones do not overwrite each other.
    """

    def write(path: str, sr: Tensor) -> None:
        imwrite(tensor2img([sr.cpu()]), os.path.join(folder, f"{picture_name(path, root)}_{suffix}.png"))

    return write
