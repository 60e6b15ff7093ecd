"""Use a network, an optimiser, a scheduler, a loss and a metric once, on a few numbers.

What is wrong with them is then said before anything is written: at the first iteration an older experiment
of the same name would have been renamed already.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR
from basicsr.utils.registry import LOSS_REGISTRY

from ..archs.base import is_continuous
from ..archs.encoder import pad_to_multiple
from ..config.option_types import check_call, check_values, each, number, registered, whole
from ..errors import UserError, check_choice, nearest
from ..evaluation.single_image import evaluating, measure, window_of

SCHEDULERS = {
    "MultiStepLR": MultiStepRestartLR,
    "MultiStepRestartLR": MultiStepRestartLR,
    "CosineAnnealingRestartLR": CosineAnnealingRestartLR,
}
SCHEDULER = {
    "milestones": each(whole(0)),
    "gamma": number(0),
    "periods": each(whole(1)),
    "restarts": each(whole(0)),
    "restart_weights": each(number(0)),
    "eta_min": number(0),
    "last_epoch": whole(-1),
}
TRIAL_SIDE = 256
LARGEST_CROP = 512  # larger crops are tried at this size


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """Turn any error of a library into one sentence that names the option ``where``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each fails in its own way
        raise UserError(f"{where}: cannot be used: {type(error).__name__}: {str(error)[:200]}") from error


def dry_run_network(net: torch.nn.Module, name: str, train: dict | None) -> None:
    """Run ``net`` on one small image.

    Args:
        net: the network, on the CPU.
        name: its type, for the message.
        train: the options of the training set, None for a test.

    Raises:
        UserError: if it fails, gives no RGB or no finite numbers, or enlarges by another scale than it is
            trained on.
    """
    if not any(True for _ in net.parameters()):
        return  # bicubic, and a network that is fitted to each image
    where = f"network_g ({name})"
    crops = None  # side of the training crops, which a fixed-scale network must be able to take
    if train is not None and not is_continuous(net) and train.get("type") == "ArbitraryScaleDataset":
        crops = train.get("lq_size", 48)
    side = min(crops or 16, LARGEST_CROP)
    with _named(where), torch.no_grad(), evaluating(net):
        lq = torch.full((1, 3, side, side), 0.5)
        if is_continuous(net):
            out = net(lq, torch.zeros(1, 5, 2), torch.full((1, 5, 2), 0.05))
            expected: tuple[int, ...] = (1, 5, 3)
        else:
            padded = lq if crops else pad_to_multiple(lq, window_of(net))  # training does not pad its crops
            out = net(padded)
            scale = out.shape[-1] / padded.shape[-1]
            expected = (1, 3, round(scale * padded.shape[-2]), out.shape[-1])
    if tuple(out.shape) != expected:
        raise UserError(
            f"{where}: expected three channels, RGB, but its output for a picture of {side} x {side} is "
            f"{tuple(out.shape)}."
        )
    if not bool(out.isfinite().all()):
        raise UserError(f"{where}: a gray picture gives values that are not finite.")
    scales = train.get("scale_range", [1, 4]) if train is not None and crops else []
    if any(one != scale for one in (scales if isinstance(scales, (list, tuple)) else [scales])):
        raise UserError(
            f"{where}: enlarges x{scale:g}, but datasets.train.scale_range is {scales}; both must be one "
            f"scale."
        )


def dry_run_metric(where: str, metric: dict) -> None:
    """Measure two small images with BasicSR's PSNR or SSIM, which take any argument.

    Other metrics may load networks.
    """
    if not metric["type"].startswith(("calculate_psnr", "calculate_ssim")):
        return
    rng = torch.Generator().manual_seed(0)
    sr, gt = (torch.rand(1, 3, TRIAL_SIDE, TRIAL_SIDE, generator=rng) for _ in range(2))
    with _named(where), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an empty mean, which is an error below
        value = measure(metric, sr, gt, torch.ones(2), None, "trial.png")
    if math.isnan(value):
        raise UserError(
            f"{where}: nothing is left to compare of a picture of {TRIAL_SIDE} x {TRIAL_SIDE}; check "
            f"crop_border."
        )


def dry_run_optimiser(train: dict) -> None:
    """Build the optimiser and the scheduler, and take one step."""
    kind = train["optim_g"].get("type")
    optimiser = getattr(torch.optim, str(kind), None)
    if not (isinstance(optimiser, type) and issubclass(optimiser, torch.optim.Optimizer)):
        raise UserError(
            f"train.optim_g.type: torch.optim has no optimiser '{kind}'{nearest(kind, dir(torch.optim))}."
        )
    if train["optim_g"].get("lr") is None:
        raise UserError("train.optim_g: 'lr' is missing; the packaged option files show it.")
    check_call(f"train.optim_g ({kind})", optimiser, train["optim_g"], ("params",))
    name = train["scheduler"].get("type")
    check_choice("train.scheduler.type", name, SCHEDULERS)
    check_call(f"train.scheduler ({name})", SCHEDULERS[name], train["scheduler"], ("optimizer",))
    check_values("train.scheduler", train["scheduler"], SCHEDULER)
    if "periods" in train["scheduler"] and sum(train["scheduler"]["periods"]) < train["total_iter"]:
        raise UserError(
            f"train.scheduler.periods: end after {sum(train['scheduler']['periods'])} iterations, before "
            f"total_iter "
            f"{train['total_iter']}; make them as long."
        )
    parameter = torch.nn.Parameter(torch.zeros(4, 4))  # two axes: some are for matrices
    parameter.grad = torch.zeros_like(parameter)
    with _named(f"train.optim_g ({kind})"):
        built = optimiser(
            [parameter], **{key: value for key, value in train["optim_g"].items() if key != "type"}
        )
    with _named(f"train.scheduler ({name})"):
        scheduler = SCHEDULERS[name](
            built, **{key: value for key, value in train["scheduler"].items() if key != "type"}
        )
    with _named(f"train.optim_g ({kind})"):
        built.step()
    with _named(f"train.scheduler ({name})"):
        scheduler.step()


def dry_run_loss(pixel_opt: dict) -> None:
    """Compute the loss of a few numbers, if it needs nothing but pixels; another may load a network."""
    kind: Any = registered("train.pixel_opt.type", LOSS_REGISTRY, pixel_opt.get("type"))
    where = f"train.pixel_opt ({pixel_opt['type']})"
    check_call(where, kind, pixel_opt)
    if pixel_opt["type"] not in ("L1Loss", "MSELoss", "CharbonnierLoss"):
        return
    with _named(where):
        loss = kind(**{key: value for key, value in pixel_opt.items() if key != "type"})(
            torch.zeros(2, 3), torch.ones(2, 3)
        )
    if loss.dim():
        raise UserError(
            f"{where}: expected one number as the loss, got one for each pixel; write `reduction: mean`."
        )
