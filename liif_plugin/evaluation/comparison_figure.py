"""The figure of a comparison: the same crop of one image by every model, and a red box where it lies."""

from __future__ import annotations

import os

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..errors import UserError
from ..files import atomic_write
from .entries import Column, Plan
from .figure import boxed_with_crops, to_picture
from .plan import figure_column, open_column
from .results import device_of, load_network, super_resolved
from .single_image import measure, picture_name


def _item(wanted: object, column: Column) -> tuple[str, dict]:
    """Return name and batch of one of the image ``wanted``, or of the first of the set for None."""
    dataset = open_column(column)
    names = []
    for index in range(len(dataset)):
        item = dataset[index]
        names.append(picture_name(item["gt_path"], column.options["dataroot_gt"]))
        if wanted is None or str(wanted) in (names[-1], os.path.basename(names[-1])):
            return names[-1], default_collate([item])
    raise UserError(f"figure: image: '{wanted}' is none of {', '.join(names[:10])}.")


def _most_detailed(gt: Tensor, side: int) -> tuple[int, int, int, int]:
    """Return (top, left, side, side) of the square with the largest differences between neighbouring pixels.

    Args:
        gt: (1, 3, H, W) in [0, 1].
        side: of the square, in pixels.
    """
    gray = gt.mean(dim=1, keepdim=True)
    change = torch.zeros_like(gray)
    change[..., 1:, :] += (gray[..., 1:, :] - gray[..., :-1, :]).abs()
    change[..., :, 1:] += (gray[..., :, 1:] - gray[..., :, :-1]).abs()
    step = max(1, side // 4)
    mean = torch.nn.functional.avg_pool2d(change, side, stride=step)
    row, column = divmod(int(mean.flatten().argmax()), mean.shape[-1])
    return row * step, column * step, side, side


def _box(wanted: list[int] | None, gt: Tensor) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of the crop in pixels of ``gt`` (1, 3, H, W)."""
    H, W = gt.shape[-2:]
    box = wanted or _most_detailed(gt, max(8, min(H, W) // 5))
    top, left, height, width = box
    if top + height > H or left + width > W:
        raise UserError(
            f"figure: box: [{top}, {left}, {height}, {width}] reaches beyond the truth of (height, width) = "
            f"{(H, W)} pixels."
        )
    return top, left, height, width


def _lq_crop(lq: Tensor, box: tuple[int, int, int, int], scale: tuple[float, float]) -> Tensor:
    """Return the part of ``lq`` (1, 3, h, w) that shows the same as ``box`` of the truth."""
    top, left, height, width = (round(n / s) for n, s in zip(box, scale * 2))
    return lq[..., top : top + max(1, height), left : left + max(1, width)]


def _size_text(image: Tensor) -> str:
    """Return width x height."""
    return f"{image.shape[-1]} x {image.shape[-2]}"


@torch.no_grad()
def draw(plan: Plan, path: str) -> None:
    """Write the figure that ``plan.figure`` asks for. Models that do not serve its scale are left out.

    Raises:
        UserError: for an image that is not in the set, or a box outside it.
    """
    figure = plan.figure
    assert figure is not None
    column, device = figure_column(plan), device_of(plan)
    name, item = _item(figure.get("image"), column)
    lq, gt = item["lq"], item["gt"]
    box = _box(figure.get("box"), gt)
    top, left, height, width = box
    part = (..., slice(top, top + height), slice(left, left + width))
    metric, opt = next(iter(plan.metrics.items()))
    unit = "dB" if "psnr" in opt["type"] else metric
    scale = torch.tensor(column.scale, dtype=torch.float64)
    wanted = figure.get("models")
    crops = [(f"input\n{_size_text(lq)}", to_picture(_lq_crop(lq, box, column.scale)))]
    for model in plan.models:
        source = model.source(column.scale)
        if source is None or (wanted and model.name not in wanted):
            continue
        net = None
        if source.network_g is not None:
            net = load_network(source, f"model {model.name}").to(device)
        sr = super_resolved(model, net, item, column, device, plan.precision)
        score = measure(opt, sr, gt.to(device), scale, column.protocol, item["gt_path"][0])
        crops.append((f"{model.name}\n{score:.2f} {unit}", to_picture(sr[part])))
    crops.append(("truth\n", to_picture(gt[part])))
    title = f"{name}, {column.dataset}, {column.scale_text}: {_size_text(lq)} -> {_size_text(gt)}"
    sheet = boxed_with_crops(to_picture(gt), box, title, crops)
    with atomic_write(path) as file:
        sheet.save(file, format="PNG")
