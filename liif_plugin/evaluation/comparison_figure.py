"""The figure of a comparison: one place of one picture, as every model shows it, and a red box where it lies in the whole."""

from __future__ import annotations

import os

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..errors import UserError
from .entries import Column, Plan
from .figure import boxed_with_crops, to_picture
from .plan import figure_column, open_column
from .results import device_of, load, super_resolved
from .validation import measure, picture_name


def _item(plan: Plan, column: Column) -> tuple[str, dict]:
    """Name and batch of one of the picture that the figure shows: the first of the set where the option file names none."""
    wanted = plan.figure.get("image")
    dataset = open_column(column)
    names = []
    for index in range(len(dataset)):
        item = dataset[index]
        names.append(picture_name(item["gt_path"], column.options["dataroot_gt"]))
        if wanted is None or str(wanted) in (names[-1], os.path.basename(names[-1])):
            return names[-1], default_collate([item])
    raise UserError(f"figure: image: '{wanted}' is none of {', '.join(names[:10])}.")


def _detail(gt: Tensor, side: int) -> list[int]:
    """[top, left, side, side] of the square with the most detail, where the option file names no box."""
    gray = gt.mean(dim=1, keepdim=True)
    change = torch.zeros_like(gray)
    change[..., 1:, :] += (gray[..., 1:, :] - gray[..., :-1, :]).abs()
    change[..., :, 1:] += (gray[..., :, 1:] - gray[..., :, :-1]).abs()
    mean = torch.nn.functional.avg_pool2d(change, side, stride=max(1, side // 4))
    place = int(mean.flatten().argmax())
    step = max(1, side // 4)
    return [place // mean.shape[-1] * step, place % mean.shape[-1] * step, side, side]


@torch.no_grad()
def draw(plan: Plan, path: str) -> None:
    """Write the figure that ``plan.figure`` asks for. Models that do not serve its scale are left out.

    Raises:
        UserError: for an image that is not there or a box outside it.
    """
    column, device = figure_column(plan), device_of(plan)
    image, item = _item(plan, column)
    gt = item["gt"]
    H, W = gt.shape[-2:]
    top, left, height, width = plan.figure.get("box") or _detail(gt, max(8, min(H, W) // 5))
    if top + height > H or left + width > W:
        raise UserError(
            f"figure: box: [{top}, {left}, {height}, {width}] reaches beyond the truth of {H} x {W} pixels."
        )
    part = (..., slice(top, top + height), slice(left, left + width))
    metric, opt = next(iter(plan.metrics.items()))
    wanted = plan.figure.get("models")
    crops = []
    scale = torch.tensor(column.scale, dtype=torch.float64)
    for model in plan.models:
        source = model.source(column.scale)
        if source is None or (wanted and model.name not in wanted):
            continue
        net = load(source, f"model {model.name}").to(device) if source.network_g is not None else None
        sr = super_resolved(model, net, item, column, device, plan.precision)
        score = measure(opt, sr, gt.to(device), scale, column.protocol, item["gt_path"][0])
        unit = " dB" if "psnr" in opt["type"] else f" {metric}"
        crops.append((f"{model.name}\n{score:.2f}{unit}", to_picture(sr[part])))
    lq = item["lq"]
    small = [round(n / s) for n, s in zip((top, left, height, width), column.scale * 2)]
    small = (..., slice(small[0], small[0] + max(1, small[2])), slice(small[1], small[1] + max(1, small[3])))
    crops = [
        (f"input\n{lq.shape[-2]} x {lq.shape[-1]}", to_picture(lq[small])),
        *crops,
        ("truth\n", to_picture(gt[part])),
    ]
    title = f"{image}, {column.dataset}, {column.scale_text}: {lq.shape[-2]} x {lq.shape[-1]} -> {H} x {W}"
    sheet = boxed_with_crops(to_picture(gt), (top, left, height, width), title, crops)
    sheet.save(path)
