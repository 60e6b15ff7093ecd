"""One metric of one image."""

from __future__ import annotations

import os

from basicsr.metrics import calculate_metric
from basicsr.utils import tensor2img
from torch import Tensor

from ..metrics.properties import is_float_metric


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
