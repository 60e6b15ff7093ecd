"""What an option file must and may say when ContinuousSRModel trains or tests it.

Run before anything is written.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
import logging.handlers
import math
import os
import warnings
from collections.abc import Iterator

import torch
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR
from basicsr.utils.logger import initialized_logger
from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)
from torch import nn

from ..archs.base import ContinuousNetwork, as_continuous, is_continuous
from ..archs.building import build
from ..archs.encoder import pad_to_multiple
from ..checkpoints import loading
from ..checkpoints.reading import check_fits, check_some_fit, load_params
from ..config.option_types import (
    ANY,
    BLOCK,
    FLAG,
    FOLDER_NAME,
    REQUIRED,
    TEXT,
    Option,
    OptionType,
    check_block,
    check_call,
    check_plain,
    check_values,
    choice,
    each,
    number,
    optional,
    registered,
    require,
    whole,
)
from ..config.parser import EARLY, PATHS
from ..data.query_dataset import QueryDataset
from ..distributed import require_gpu_per_process
from ..errors import UserError, check_choice, nearest
from ..evaluation.single_image import evaluating, measure, window_of
from ..metrics.continuous_metric import PROTOCOLS
from ..metrics.properties import is_float_metric, unchecked_arguments
from ..precision import DTYPES
from .history import BestBy, metrics_of
from .parts import check_parts
from .samples import SAMPLES
from .training_run import TrainingRun

SET_BY_BASICSR: dict[str, Option | OptionType] = dict.fromkeys(
    ("dist", "rank", "world_size", "auto_resume", "is_train", "root_path"), ANY
)
TOP: dict[str, Option | OptionType] = {
    **EARLY,
    **SET_BY_BASICSR,
    "model_type": TEXT,
    "network_g": BLOCK,
    "train": optional(BLOCK),
    "val": optional(BLOCK),
    "logger": optional(BLOCK),
    "dist_params": optional(BLOCK),
    "find_unused_parameters": FLAG,
}
TRAIN: dict[str, Option | OptionType] = {
    "total_iter": Option(whole(1), REQUIRED),
    "warmup_iter": whole(-1),
    "optim_g": Option(BLOCK, REQUIRED),
    "scheduler": Option(BLOCK, REQUIRED),
    "pixel_opt": Option(BLOCK, REQUIRED),
    "ema_decay": number(0, 1),
    "precision": optional(choice("auto", *DTYPES)),
    "channels_last": optional(FLAG),
    "compile": optional(FLAG),
    "grad_clip": optional(number(0)),
    "part_lr": optional(BLOCK),
    "freeze": optional(each(TEXT)),
    "teacher": optional(TEXT),
    "teacher_weight": optional(number(0, 1)),
    "gradient_weight": optional(number(0)),
}
PATH: dict[str, Option | OptionType] = {
    **PATHS,
    "param_key_g": optional(TEXT),
    "strict_load_g": FLAG,
    "ignore_resume_networks": ANY,
    "experiments_root": TEXT,
    "results_root": TEXT,
    "models": TEXT,
    "training_states": TEXT,
    "log": TEXT,
    "visualization": TEXT,
}
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
VAL = {
    "val_freq": whole(1),
    "save_img": FLAG,
    "metrics": optional(BLOCK),
    "pbar": FLAG,
    "suffix": optional(FOLDER_NAME),
    "precision": optional(choice(*DTYPES)),
    "cell_clamp": optional(number(1)),
    "samples": optional(BLOCK),
    "best_by": optional(TEXT),
}
UNSUITED = {"LBFGS": "a closure that repeats the step", "SparseAdam": "sparse gradients"}  # of torch.optim
TRIAL_SIDE = 256  # pixels of the images with which a metric is tried
LARGEST_CROP = 512  # a fixed-scale network that trains on larger crops is tried at this size
DIST_PARAMS = {"backend": TEXT, "port": whole(1, 65535)}
LOGGER: dict[str, Option | OptionType] = {
    "print_freq": Option(whole(1), REQUIRED),
    "save_checkpoint_freq": Option(whole(1), REQUIRED),
    "use_tb_logger": Option(FLAG, REQUIRED),
    "wandb": optional(BLOCK),
    "keep_checkpoints": optional(whole(1)),
}
WANDB = {"project": optional(TEXT), "resume_id": optional(TEXT)}


def _check_datasets(opt: dict) -> None:
    for key, dataset in opt["datasets"].items():
        where = f"datasets.{key}"
        if key != "train" and key.split("_")[0] not in ("val", "test"):
            raise UserError(f"{where}: expected train, val, val_NAME or test_NAME.")
        if opt["is_train"] and key.startswith("test"):
            raise UserError(
                f"{where}: while training the sets are called val_NAME; test_NAME is for `liif test`."
            )
        require(where, dataset, "name", "type")
        check_values(where, dataset, {"name": FOLDER_NAME, "protocol": optional(choice(*PROTOCOLS))})
        kind = registered(f"{where}.type", DATASET_REGISTRY, dataset["type"])
        if isinstance(kind, type) and issubclass(kind, QueryDataset):
            kind.check_options(where, {**dataset, "phase": key.split("_")[0]})
        for root in ("dataroot_gt", "dataroot_lq"):
            if dataset.get(root) is not None and not os.path.isdir(dataset[root]):
                hint = dataset.get("how_to_get") or "Correct the path, or make it with `liif prepare`."
                raise UserError(
                    f"{where}.{root}: there is no folder {dataset[root]} (looked from {os.getcwd()}). {hint}"
                )
    names = [dataset["name"] for dataset in opt["datasets"].values()]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"datasets: two sets are called '{name}'; their results would overwrite one another."
            )


def _check_metrics(opt: dict) -> None:
    for key, dataset in opt["datasets"].items():
        if key.startswith("train"):
            continue
        for name, metric in metrics_of(opt, dataset).items():
            where = f"metric {name} of datasets.{key}"
            require(where, metric, "type")
            function = registered(f"{where}.type", METRIC_REGISTRY, metric["type"])
            check_values(where, metric, {"better": choice("higher", "lower")})
            if not is_float_metric(metric["type"]):
                _dry_run_metric(where, metric)
                continue
            check_call(
                where,
                function,
                metric,
                supplied=("img", "img2", "scale"),
                unchecked=unchecked_arguments(metric["type"]),
            )
            if metric.get("protocol", dataset.get("protocol")) not in PROTOCOLS:
                raise UserError(
                    f"{where}: needs a protocol; write `protocol:` into datasets.{key}, one of "
                    f"{', '.join(PROTOCOLS)}."
                )


def _check_loader(loader: dict) -> None:
    """Raise UserError for settings with which BasicSR's loader hangs, or fails without naming the option."""
    workers, mode = loader["num_worker_per_gpu"], loader.get("prefetch_mode")
    if loader.get("persistent_workers") and workers == 0:
        raise UserError("datasets.train.persistent_workers: true needs num_worker_per_gpu of 1 or more.")
    if mode == "cpu" and loader.get("persistent_workers"):
        raise UserError(
            "datasets.train.prefetch_mode: cpu hangs with persistent_workers: true (a fault of BasicSR); "
            "write ~ instead."
        )
    if mode == "cuda" and not (torch.cuda.is_available() and loader.get("pin_memory")):
        raise UserError(
            "datasets.train.prefetch_mode: cuda needs a CUDA GPU and pin_memory: true; write ~ instead."
        )


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """Turn any error of a library into one sentence that names the option ``where``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each fails in its own way
        raise UserError(f"{where}: cannot be used: {type(error).__name__}: {str(error)[:200]}") from error


def _dry_run_network(net: torch.nn.Module, name: str, train: dict | None) -> None:
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
            "scale."
        )


def _dry_run_metric(where: str, metric: dict) -> None:
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
            "crop_border."
        )


def _check_network(opt: dict) -> nn.Module:
    """Build the network and compare it with its weights; return it for the model to use."""
    network = build(opt["network_g"])
    weights = opt["path"].get("pretrain_network_g")
    if weights is None:
        if not opt["is_train"] and any(True for _ in network.parameters()):
            raise UserError(
                "path.pretrain_network_g: a test needs trained weights; name a net_g_*.pth there, or on the "
                "command line with `--force_yml path:pretrain_network_g=FILE`."
            )
        return network
    if not os.path.isfile(weights):
        raise UserError(f"path.pretrain_network_g: there is no file {weights} (looked from {os.getcwd()}).")
    state = load_params(weights, opt["path"].get("param_key_g", "params"))
    if opt["path"].get("strict_load_g", True):
        check_fits(state, network, weights)
    else:
        check_some_fit(state, network, weights)
    return network


def _check_devices(opt: dict) -> None:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if opt["num_gpu"] != 0 and not gpus:
        raise UserError(
            f"num_gpu: {opt['num_gpu']}, but this machine shows no CUDA GPU; write `num_gpu: auto`, which "
            "trains on the CPU."
        )
    if opt["dist"] and gpus and opt["num_gpu"] == 0:
        raise UserError(
            "num_gpu: 0 under torchrun on a machine with GPUs: hide them with CUDA_VISIBLE_DEVICES= to "
            "train on the CPU."
        )
    if opt["dist"]:
        require_gpu_per_process()


def _check_logger(logger: dict) -> None:
    check_block("logger", logger, LOGGER)
    wandb = logger.get("wandb") or {}
    check_block("logger.wandb", wandb, WANDB)
    if wandb.get("project") and not logger["use_tb_logger"]:
        raise UserError(
            "logger.wandb.project: BasicSR sends to wandb what goes to TensorBoard; it needs "
            "use_tb_logger: true."
        )
    if wandb.get("project") and importlib.util.find_spec("wandb") is None:
        raise UserError("logger.wandb.project: needs wandb: pip install wandb; or write `project: ~`.")


def optimiser_class(where: str, name: object) -> type[torch.optim.Optimizer]:
    """Return the optimiser of torch.optim called ``name``.

    Args:
        where: what names the optimiser, at the beginning of the message.
        name: a class of torch.optim.

    Raises:
        UserError: there is no such class, or it cannot be used with one step for each batch.
    """
    kinds = {
        key: kind
        for key, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    }
    if not isinstance(name, str) or name not in kinds:
        raise UserError(f"{where}: torch.optim has no optimiser '{name}'{nearest(name, kinds)}.")
    if name in UNSUITED:
        raise UserError(f"{where}: {name} cannot be used here: it needs {UNSUITED[name]}.")
    return kinds[name]


def _check_optimiser(optim_g: dict) -> None:
    kind = optimiser_class("train.optim_g.type", optim_g.get("type"))
    require("train.optim_g", optim_g, "lr")
    check_call(f"train.optim_g ({optim_g['type']})", kind, optim_g, ("params",))
    check_values("train.optim_g", optim_g, {"lr": number(0, 1e6)})


def _check_scheduler(scheduler: dict, total_iter: int) -> None:
    name = str(scheduler.get("type"))
    check_choice("train.scheduler.type", name, SCHEDULERS)
    check_call(f"train.scheduler ({name})", SCHEDULERS[name], scheduler, ("optimizer",))
    check_values("train.scheduler", scheduler, SCHEDULER)
    starts = "periods" if "periods" in scheduler else "restarts"
    if len(scheduler.get(starts, [0])) != len(scheduler.get("restart_weights", [1])):
        raise UserError(f"train.scheduler: expected as many restart_weights as {starts}.")
    if "periods" in scheduler and sum(scheduler["periods"]) < total_iter:
        raise UserError(
            f"train.scheduler.periods: end after {sum(scheduler['periods'])} iterations, before total_iter "
            f"{total_iter}; make them as long."
        )


def _check_loss(pixel_opt: dict) -> None:
    kind = registered("train.pixel_opt.type", LOSS_REGISTRY, pixel_opt.get("type"))
    check_call(f"train.pixel_opt ({pixel_opt['type']})", kind, pixel_opt)
    if pixel_opt["type"] in ("L1Loss", "MSELoss", "CharbonnierLoss"):
        # `none` gives a loss of each pixel, which has no gradient of its own
        known = {"reduction": choice("mean", "sum"), "loss_weight": number(0, 1e6)}
        check_values("train.pixel_opt", pixel_opt, known)


def _check_training(opt: dict) -> None:
    require("option file", opt, "train", "logger")
    train, logger = opt["train"], opt["logger"]
    require("datasets", opt["datasets"], "train")
    require("datasets.train", opt["datasets"]["train"], "batch_size_per_gpu", "num_worker_per_gpu")
    _check_loader(opt["datasets"]["train"])
    require("train", train, "total_iter", "optim_g", "scheduler", "pixel_opt")
    check_block("train", train, TRAIN)
    _check_optimiser(train["optim_g"])
    _check_scheduler(train["scheduler"], train["total_iter"])
    _check_loss(train["pixel_opt"])
    _check_logger(logger)
    if opt.get("val") is not None:
        require("val", opt["val"], "val_freq")  # BasicSR reads it also where no set is to be validated
    if any(key.startswith("val") for key in opt["datasets"]) and opt.get("val"):
        if opt["val"].get("samples") is not None:
            check_block("val.samples", opt["val"]["samples"], SAMPLES)
        BestBy(opt)


def _check_gradient_weight(train: dict, network: nn.Module) -> None:
    """Raise UserError if the loss has a term that the network cannot compute."""
    continuous = as_continuous(network)
    if train.get("gradient_weight") and not (
        isinstance(continuous, ContinuousNetwork) and continuous.has_gradient
    ):
        raise UserError(
            "train.gradient_weight: expected a network with has_gradient, such as Thera, got "
            f"{type(network).__name__}; leave the option out."
        )


def _check_teacher(train: dict, network: nn.Module) -> None:
    """Raise UserError if the teacher is not there, or cannot answer the queries of the network."""
    teacher = train.get("teacher")
    if teacher is None:
        if train.get("teacher_weight") is not None:
            raise UserError("train.teacher_weight: there is no train.teacher; name one, or leave it out.")
        return
    if not is_continuous(network) or not is_continuous(loading.load(teacher, "cpu")):
        raise UserError(
            f"train.teacher: expected that network_g and {teacher} are networks for any scale; one of them "
            "has a fixed scale."
        )


def fill_defaults(opt: dict) -> None:
    """Write into ``opt`` what BasicSR or our datasets need and the option file may leave out.

    Does nothing for other models than ``ContinuousSRModel``. What is of a wrong type stays for
    ``check_options`` to name.
    """
    if opt.get("model_type") != "ContinuousSRModel":
        return
    if opt["is_train"]:
        train_set, train = opt["datasets"].get("train"), opt.get("train")
        if isinstance(train_set, dict):
            train_set.setdefault("seed", opt["manual_seed"])
            train_set["total_iter"] = train.get("total_iter") if isinstance(train, dict) else None
    else:
        opt["datasets"].pop("train", None)  # an option file for training tests its val sets
        # what training validates and `liif upscale` takes, if there are such weights
        opt["path"].setdefault("param_key_g", "params_ema")
    if isinstance(opt.get("val"), dict):
        opt["val"].setdefault("save_img", False)
        opt["val"].setdefault("suffix", None)
    if opt["num_gpu"] > 1 and not opt["dist"]:
        logging.getLogger("basicsr").warning(
            "Without a launcher one GPU of %d is used; for all of them: torchrun --nproc_per_node=%d -m "
            "liif_plugin train -opt ... --launcher pytorch --force_yml datasets:train:batch_size_per_gpu=N, "
            "N being that of one GPU divided by %d",
            *[opt["num_gpu"]] * 3,
        )
        opt["num_gpu"] = 1  # BasicSR would take DataParallel, whose threads lose the dtype of autocast


def _check_other_model(opt: dict) -> None:
    """Raise UserError if a model of BasicSR's own is to train a network that needs coordinates."""
    model = MODEL_REGISTRY.get(opt["model_type"])
    if not model.__module__.startswith("basicsr."):
        return  # a user's model may know what to do
    network_g = opt.get("network_g")
    name = network_g.get("type") if isinstance(network_g, dict) else None
    if name in ARCH_REGISTRY and is_continuous(ARCH_REGISTRY.get(name)):
        raise UserError(
            f"model_type: {opt['model_type']} does not hand coordinates to network_g ({name}); write "
            "`model_type: ContinuousSRModel`."
        )


def check_options(opt: dict) -> nn.Module | None:
    """Refuse, by name and with the nearest valid one, what would fail or be ignored later.

    Nothing in ``opt`` is changed. Call ``fill_defaults`` first. Options of other models than
    ``ContinuousSRModel`` are not checked.

    Returns:
        The network, built from ``network_g``, without its weights; None for another model.

    Raises:
        UserError: for the first mistake found.
    """
    registered("model_type", MODEL_REGISTRY, opt.get("model_type"))
    if opt["model_type"] != "ContinuousSRModel":
        _check_other_model(opt)
        return None
    # 1. names and types of the blocks that every run has
    if "scale" in opt:
        raise UserError(
            "scale: at the top of an option file BasicSR writes it over every dataset's own; give each "
            "dataset its `scale`."
        )
    check_plain("", {key: value for key, value in opt.items() if key not in SET_BY_BASICSR})
    check_block("option file", opt, TOP)
    check_block("path", opt["path"], PATH)
    require("option file", opt, "network_g")
    check_block("dist_params", opt.get("dist_params") or {}, DIST_PARAMS)
    _check_devices(opt)
    # 2. the network and its weights, the sets
    network = _check_network(opt)
    _check_datasets(opt)
    _dry_run_network(network, opt["network_g"]["type"], opt["datasets"].get("train"))
    # 3. validation and training
    if opt.get("val") is not None:
        check_block("val", opt["val"], VAL)
        if opt["val"].get("cell_clamp") is not None and not is_continuous(network):
            raise UserError(
                f"val.cell_clamp: {type(network).__name__} has one scale and takes no cells; leave the "
                "option out."
            )
    elif not opt["is_train"]:
        raise UserError("option file: 'val' is missing; it holds the metrics.")
    _check_metrics(opt)
    if opt["is_train"]:
        _check_training(opt)
        check_parts(network, opt["train"].get("part_lr") or {}, opt["train"].get("freeze") or ())
        _check_gradient_weight(opt["train"], network)
        _check_teacher(opt["train"], network)
    return network


def build_datasets(opt: dict, run: TrainingRun) -> None:
    """Build every dataset into ``run``, so that bad data is named before an older experiment is renamed.

    What is logged meanwhile is kept in ``run``: BasicSR's log file is not open yet, and its logger is made
    only once.
    """
    logger = logging.getLogger("basicsr")
    handler = logging.handlers.MemoryHandler(capacity=1 << 20, flushLevel=logging.CRITICAL + 1)
    initialized_logger["basicsr"] = True  # BasicSR then gives it no handlers of its own
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        for dataset in opt["datasets"].values():
            run.datasets[dataset["name"]] = DATASET_REGISTRY.get(dataset["type"])(copy.deepcopy(dataset))
    finally:
        logger.removeHandler(handler)
        del initialized_logger["basicsr"]
    run.early_records = handler.buffer
