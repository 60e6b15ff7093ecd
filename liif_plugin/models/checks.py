"""What an option file must and may say when it is trained or tested by ContinuousSRModel. Run before anything is written."""

from __future__ import annotations

import copy
import inspect
import logging
import os

import torch
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

from ..compat.distributed import require_a_gpu_each
from ..errors import UserError, check_choice, check_keys, nearest
from ..metrics.protocols import PROTOCOLS
from ..precision import DTYPES
from .samples import check_samples
from .scores import BestBy

TOP = {"name", "model_type", "num_gpu", "manual_seed", "datasets", "network_g", "path", "train", "val", "logger", "dist_params",
       "find_unused_parameters", "dist", "rank", "world_size", "auto_resume", "is_train", "root_path"}  # fmt: skip
TRAIN = {"total_iter", "warmup_iter", "optim_g", "scheduler", "pixel_opt", "ema_decay", "precision", "channels_last", "compile",
         "grad_clip"}  # fmt: skip
PATH = {"pretrain_network_g", "param_key_g", "strict_load_g", "resume_state", "ignore_resume_networks", "experiments_root", "results_root",
        "models", "training_states", "log", "visualization"}  # fmt: skip
SCHEDULERS = {
    "MultiStepLR": MultiStepRestartLR,
    "MultiStepRestartLR": MultiStepRestartLR,
    "CosineAnnealingRestartLR": CosineAnnealingRestartLR,
}
VAL = {"val_freq", "save_img", "metrics", "pbar", "suffix", "precision", "samples", "best_by"}
LOGGER = {"print_freq", "save_checkpoint_freq", "use_tb_logger", "wandb", "keep_checkpoints"}


def _registered(where: str, registry, name: object) -> object:
    """The registered object. BasicSR's own message for a missing one names a name that does not exist either."""
    known = [key for key, _ in registry]
    for candidate in (name, f"{name}_basicsr"):
        if candidate in known:
            return registry.get(candidate)
    raise UserError(f"{where}: nothing named '{name}' is registered{nearest(name, known)}; there are {', '.join(sorted(known))}. One of "
                    "your own needs `--import MODULE`.")  # fmt: skip


def check_call(where: str, target: object, given: dict, supplied: tuple[str, ...] = ()) -> None:
    """Refuse arguments that ``target`` does not take, and name one that it needs and does not get."""
    parameters = inspect.signature(target).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_keys(where, [key for key in given if key != "type"], parameters)
    for name, p in parameters.items():
        plain = p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if plain and p.default is p.empty and name not in given and name not in supplied:
            raise UserError(f"{where}: '{name}' is missing.")


def _need(opt: dict, where: str, *keys: str) -> None:
    for key in keys:
        if not isinstance(opt, dict) or opt.get(key) is None:
            raise UserError(f"{where}: '{key}' is missing; the packaged option files show it.")


def _check_datasets(opt: dict) -> None:
    for key, dataset in opt["datasets"].items():
        where = f"datasets.{key}"
        if key != "train" and key.split("_")[0] not in ("val", "test"):
            raise UserError(f"{where}: expected train, val, val_NAME or test_NAME.")
        if opt["is_train"] and key.startswith("test"):
            raise UserError(f"{where}: while training the sets are called val_NAME; test_NAME is for `liif test`.")
        _need(dataset, where, "name", "type")
        kind = _registered(f"{where}.type", DATASET_REGISTRY, dataset["type"])
        if hasattr(kind, "check_options"):
            kind.check_options(where, {**dataset, "phase": key.split("_")[0]})
            if key == "train":
                dataset.setdefault("seed", opt["manual_seed"])
                dataset["total_iter"] = (opt.get("train") or {}).get("total_iter")
        for root in ("dataroot_gt", "dataroot_lq"):
            if dataset.get(root) is not None and not os.path.isdir(dataset[root]):
                hint = dataset.get("how_to_get") or "Correct the path, or make it with `liif prepare`."
                raise UserError(f"{where}.{root}: there is no folder {dataset[root]} (looked from {os.getcwd()}). {hint}")
        if dataset.get("protocol") is not None and dataset["protocol"] not in PROTOCOLS:
            raise UserError(f"{where}.protocol: expected one of {', '.join(PROTOCOLS)}, got '{dataset['protocol']}'"
                            f"{nearest(dataset['protocol'], PROTOCOLS)}.")  # fmt: skip
    names = [dataset["name"] for dataset in opt["datasets"].values()]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"datasets: two sets are called '{name}'; their results would overwrite one another.")


def _check_metrics(opt: dict) -> None:
    for key, dataset in opt["datasets"].items():
        if key.startswith("train"):
            continue
        metrics = dataset.get("metrics") or (opt.get("val") or {}).get("metrics") or {}
        for name, metric in metrics.items():
            where = f"metric {name} of datasets.{key}"
            _need(metric, where, "type")
            function = _registered(f"{where}.type", METRIC_REGISTRY, metric["type"])
            if not getattr(function, "takes_floats", False):
                continue
            check_call(where, function, metric, ("img", "img2", "scale"))
            if metric.get("protocol", dataset.get("protocol")) not in PROTOCOLS:
                raise UserError(f"{where}: needs a protocol; write `protocol:` into datasets.{key}, one of {', '.join(PROTOCOLS)}.")


def _check_loader(loader: dict) -> None:
    """Settings with which BasicSR's loader hangs, or fails in words that do not name the option."""
    workers, mode = loader["num_worker_per_gpu"], loader.get("prefetch_mode")
    if loader.get("persistent_workers") and workers == 0:
        raise UserError("datasets.train.persistent_workers: true needs num_worker_per_gpu of 1 or more.")
    if mode not in (None, "cpu", "cuda"):
        raise UserError(f"datasets.train.prefetch_mode: expected cuda, cpu or ~, got '{mode}'.")
    if mode == "cpu" and loader.get("persistent_workers"):
        raise UserError("datasets.train.prefetch_mode: cpu hangs with persistent_workers: true (a fault of BasicSR); write ~ instead.")
    if mode == "cuda" and not (torch.cuda.is_available() and loader.get("pin_memory")):
        raise UserError("datasets.train.prefetch_mode: cuda needs a CUDA GPU and pin_memory: true; write ~ instead.")


def _check_counts(where: str, block: dict, *keys: str) -> None:
    for key in keys:
        if isinstance(block.get(key), bool) or not isinstance(block.get(key), int) or block[key] < 1:
            raise UserError(f"{where}: {key}: expected a whole number of 1 or more, got {block.get(key)!r}.")


def _check_optimiser(train: dict) -> None:
    kind = train["optim_g"].get("type")
    optimiser = getattr(torch.optim, str(kind), None)
    if not (isinstance(optimiser, type) and issubclass(optimiser, torch.optim.Optimizer)):
        raise UserError(f"train.optim_g.type: torch.optim has no optimiser '{kind}'{nearest(kind, dir(torch.optim))}.")
    _need(train["optim_g"], "train.optim_g", "lr")
    check_call(f"train.optim_g ({kind})", optimiser, train["optim_g"], ("params",))
    kind = train["scheduler"].get("type")
    check_choice("train.scheduler.type", kind, SCHEDULERS)
    check_call(f"train.scheduler ({kind})", SCHEDULERS[kind], train["scheduler"], ("optimizer",))


def _check_network(opt: dict) -> None:
    """Build the network once, so that whatever is wrong with it is said before anything is written."""
    block = dict(opt["network_g"])
    kind = _registered("network_g.type", ARCH_REGISTRY, block.pop("type", None))
    check_call(f"network_g ({opt['network_g']['type']})", kind, block)
    with torch.random.fork_rng(devices=[]):
        try:
            network = kind(**copy.deepcopy(block))
        except UserError:
            raise
        except Exception as error:  # each network of BasicSR fails in its own way
            raise UserError(f"network_g ({opt['network_g']['type']}): cannot be built: {type(error).__name__}: {error}") from error
    weights = opt["path"].get("pretrain_network_g")
    if weights is not None and not os.path.isfile(weights):
        raise UserError(f"path.pretrain_network_g: there is no file {weights} (looked from {os.getcwd()}).")
    if weights is None and not opt["is_train"] and any(True for _ in network.parameters()):
        raise UserError("path.pretrain_network_g: a test needs trained weights; name a net_g_*.pth there, or on the command line with "
                        "`--force_yml path:pretrain_network_g=FILE`.")  # fmt: skip


def _check_devices(opt: dict) -> None:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if opt["num_gpu"] != 0 and not gpus:
        raise UserError(f"num_gpu: {opt['num_gpu']}, but this machine shows no CUDA GPU; write `num_gpu: auto`, which trains on the CPU.")
    if opt["num_gpu"] > 1 and not opt["dist"]:
        logging.getLogger("basicsr").warning(
            "Without a launcher one GPU of %d is used; for all of them: torchrun --nproc_per_node=%d -m liif_plugin train -opt ... "
            "--launcher pytorch", gpus, gpus
        )  # fmt: skip
        opt["num_gpu"] = 1  # BasicSR would take DataParallel, whose threads lose autocast's dtype
    if opt["dist"] and gpus and opt["num_gpu"] == 0:
        raise UserError("num_gpu: 0 under torchrun on a machine with GPUs: hide them with CUDA_VISIBLE_DEVICES= to train on the CPU.")
    if opt["dist"]:
        require_a_gpu_each()


def _check_training(opt: dict) -> None:
    _need(opt, "option file", "train", "logger")
    train, logger = opt["train"], opt["logger"]
    _need(opt["datasets"], "datasets", "train")
    _need(opt["datasets"]["train"], "datasets.train", "batch_size_per_gpu", "num_worker_per_gpu")
    _check_loader(opt["datasets"]["train"])
    _need(train, "train", "total_iter", "optim_g", "scheduler", "pixel_opt")
    check_keys("train", train, TRAIN)
    _check_counts("train", train, "total_iter")
    _check_counts("datasets.train", opt["datasets"]["train"], "batch_size_per_gpu")
    _check_optimiser(train)
    check_call("train.pixel_opt", _registered("train.pixel_opt.type", LOSS_REGISTRY, train["pixel_opt"].get("type")), train["pixel_opt"])
    _check_precision("train", train, ("auto", *DTYPES))
    check_keys("logger", logger, LOGGER)
    if "use_tb_logger" not in logger:
        raise UserError("logger: 'use_tb_logger' is missing; the packaged option files show it.")
    _check_counts(
        "logger",
        logger,
        "print_freq",
        "save_checkpoint_freq",
        *(["keep_checkpoints"] if logger.get("keep_checkpoints") is not None else []),
    )
    if any(key.startswith("val") for key in opt["datasets"]) and opt.get("val"):
        _check_counts("val", opt["val"], "val_freq")
        if opt["val"].get("samples") is not None:
            check_samples(opt["val"]["samples"])
        BestBy(opt)


def _check_precision(where: str, block: dict, choices: tuple[str, ...]) -> None:
    if block.get("precision") is not None:
        check_choice(f"{where}.precision", block["precision"], choices)


def check_options(opt: dict) -> None:
    """Refuse, by name and with the nearest valid one, what would fail or be ignored later. Only for ``ContinuousSRModel``.

    Also hands the run's seed to datasets of ours and gives ``val`` the keys that BasicSR insists on.

    Raises:
        UserError: for the first mistake found.
    """
    model = opt.get("model_type")
    known = [key for key, _ in MODEL_REGISTRY]
    if model not in known:
        raise UserError(f"model_type: nothing named '{model}' is registered{nearest(model, known)}; there are {', '.join(sorted(known))}.")
    if model != "ContinuousSRModel":
        return
    if "scale" in opt:
        raise UserError("scale: at the top of an option file BasicSR writes it over every dataset's own; give each dataset its `scale`.")
    check_keys("option file", opt, TOP)
    check_keys("path", opt["path"], PATH)
    _need(opt, "option file", "network_g")
    _check_devices(opt)
    _check_network(opt)
    if not opt["is_train"]:
        opt["datasets"].pop("train", None)  # an option file for training tests its val sets
    _check_datasets(opt)
    if opt.get("val") is not None:
        check_keys("val", opt["val"], VAL)
        _check_precision("val", opt["val"], tuple(DTYPES))
        opt["val"].setdefault("save_img", False)
        opt["val"].setdefault("suffix", None)
    elif not opt["is_train"]:
        raise UserError("option file: 'val' is missing; it holds the metrics.")
    _check_metrics(opt)
    if opt["is_train"]:
        _check_training(opt)
