"""Options that changed since a training state was saved, and with which the run would silently become
another one.
"""

from __future__ import annotations

import inspect
from typing import Any

from basicsr.utils import get_root_logger
from basicsr.utils.registry import ARCH_REGISTRY

from ..config.option_files import plain

# Options of the training set that decide how samples are read, not which: a change of these changes no
# sample. "batch", "seed" and the number of images are compared by TrainingRun.
READING = {
    "name",
    "phase",
    "dataroot_gt",
    "dataroot_lq",
    "io_backend",
    "cache",
    "how_to_get",
    "batch_size_per_gpu",
    "num_worker_per_gpu",
    "dataset_enlarge_ratio",
    "prefetch_mode",
    "num_prefetch_queue",
    "pin_memory",
    "persistent_workers",
    "seed",
    "total_iter",
}


def function_and_samples(opt: dict) -> dict[str, Any]:
    """Return the options that decide what the network computes and which samples it sees, as plain data.

    Returns:
        {"network_g": ..., "datasets.train": ..., "train.pixel_opt": ...}
    """
    network_g = dict(opt["network_g"])
    kind = ARCH_REGISTRY.get(network_g["type"])
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if isinstance(parameter.default, (bool, int, float, str, type(None)))
    }
    train_set = (opt.get("datasets") or {}).get("train") or {}
    return {
        "network_g": plain({**defaults, **network_g}),
        "datasets.train": plain({key: value for key, value in train_set.items() if key not in READING}),
        "train.pixel_opt": plain(opt["train"].get("pixel_opt") or {}),
    }


def _flatten(where: str, value: Any) -> dict[str, Any]:
    """Return {"network_g.encoder.num_feat": 64, ...} of nested dicts."""
    if not isinstance(value, dict):
        return {where: value}
    return {path: entry for key in value for path, entry in _flatten(f"{where}.{key}", value[key]).items()}


def changed_options(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return what differs, such as ``network_g.local_ensemble True -> False``."""
    before = {path: value for key in old for path, value in _flatten(key, old[key]).items()}
    now = {path: value for key in new for path, value in _flatten(key, new[key]).items()}
    absent = "(not given)"
    return [
        f"{path} {before.get(path, absent)} -> {now.get(path, absent)}"
        for path in dict.fromkeys([*before, *now])
        if before.get(path, absent) != now.get(path, absent)
    ]


def warn_of_changes(saved: dict[str, Any] | None, opt: dict, iteration: int) -> None:
    """Warn if ``opt`` differs in them from the options saved with the state of ``iteration``; older states
    have none.
    """
    changed = changed_options(saved, function_and_samples(opt)) if saved else []
    if changed:
        get_root_logger().warning(
            f"The option file differs from that of the run that was stopped ({', '.join(changed)}): from "
            f"iteration "
            f"{iteration:,} on this is another training. To go on as before, restore the old values."
        )
