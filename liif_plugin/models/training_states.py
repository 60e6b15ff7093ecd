"""Training states: find the one from which a run is resumed; what it holds besides weights and moments.

A state holds the random state of every rank, and the options with which a resumed run would silently become
another one.
"""

from __future__ import annotations

import glob
import inspect
import operator
import os
import sys
from typing import Any

import torch
from basicsr.archs.swinir_arch import DropPath
from basicsr.utils import check_resume, get_root_logger
from basicsr.utils.dist_util import get_dist_info
from basicsr.utils.registry import ARCH_REGISTRY
from torch.nn.modules.dropout import _DropoutNd

from ..checkpoints.files import newest_weights, numbered
from ..config.option_files import plain
from ..errors import UserError

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


def whole_states(folder: str) -> list[str]:
    """Return the paths of the complete states in ``folder``, the largest iteration first.

    N.state is complete if its network ../models/net_g_N.pth exists too.
    """
    paths = glob.glob(os.path.join(glob.escape(folder), "*.state"))
    steps = [os.path.basename(path)[: -len(".state")] for path in paths]
    whole = [int(step) for step in steps if step.isdecimal() and os.path.isfile(_network_of(folder, step))]
    return [os.path.join(folder, f"{step}.state") for step in sorted(whole, reverse=True)]


def _network_of(folder: str, step: str) -> str:
    return os.path.join(os.path.dirname(folder), "models", f"net_g_{step}.pth")


def read_state(path: str) -> dict:
    """Read a training state onto the CPU, without running code in it.

    The optimiser moves what it wants to the GPU; it wants its step counters on the CPU.

    Raises:
        UserError: for a file that is no training state.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        operator.index(state["epoch"]), operator.index(state["iter"])
    except Exception as error:  # a damaged file fails in many ways inside torch.load
        raise UserError(
            f"{path}: cannot be read as a training state ({type(error).__name__}: {str(error)[:200]})."
        ) from error
    return state


def _newest_readable(folder: str) -> tuple[str | None, dict | None]:
    """Return the newest whole pair of a state and its network; name the damaged ones on the way.

    A BasicSR without this package writes under the final name, so that a kill leaves half a file.
    """
    for path in whole_states(folder):
        network = _network_of(folder, os.path.basename(path)[: -len(".state")])
        damaged = path
        try:
            state = read_state(path)
            damaged = network
            torch.load(network, map_location="cpu", weights_only=True)
            return path, state
        except Exception:
            if get_dist_info()[0] == 0:
                sys.stderr.write(
                    f"liif_plugin: {damaged} is damaged: going on from an older state. Delete {path} and "
                    f"{network}.\n"
                )
    return None, None


def _check_nothing_to_resume(folder: str, experiment: str) -> None:
    """Raise UserError if a run without a usable training state has results that a new run would put aside."""
    if whole_states(folder):
        raise UserError(
            f"{folder}: none of its states can be read; delete the damaged files, or start anew without "
            "auto_resume."
        )
    models = os.path.join(experiment, "models")
    weights = newest_weights(models)
    if weights is None:
        return
    if os.path.basename(weights) != "net_g_latest.pth" and len(numbered(models, "")) == 1:
        # killed between the two files of its first checkpoint: nobody should have to restart it by hand
        if get_dist_info()[0] == 0:
            sys.stderr.write(f"liif_plugin: {weights} has no training state yet: beginning at 0.\n")
        return
    raise UserError(
        f"{weights}: its training cannot be resumed, because {folder} has no state of that iteration. To "
        "train these weights further, give the new run another `name` and path.pretrain_network_g: "
        f"{weights}. To begin at 0, start without auto_resume: {experiment} is then renamed."
    )


def find_resume_state(opt: dict) -> dict | None:
    """Read the training state that --auto_resume or path.resume_state asks for; None to start anew.

    Writes its path into ``opt["path"]["resume_state"]``, and that of its network where BasicSR looks for it.

    Raises:
        UserError: if the file is missing or is no training state; if every state of the experiment is
            damaged; if there are weights without a state.
    """
    experiment = opt["path"]["experiments_root"]
    if opt["auto_resume"]:
        folder = opt["path"]["training_states"]
        path, state = _newest_readable(folder)
        if path is None:
            _check_nothing_to_resume(folder, experiment)
    else:
        path = opt["path"].get("resume_state")
        if path is not None and not os.path.isfile(path):
            raise UserError(f"path.resume_state: there is no file {path}; leave it empty (~) to start anew.")
        state = None if path is None else read_state(path)
    if path is None or state is None:
        return None
    opt["path"]["resume_state"] = path
    if not os.path.isdir(experiment):
        raise UserError(
            f"{path}: belongs to another experiment: {experiment} is not there; use the old `name`."
        )
    check_resume(opt, state["iter"])
    return state


def gather_random_states(device: torch.device, world_size: int) -> list[dict]:
    """Return {cpu, cuda}, the random states of every rank, on every rank. All ranks must call it."""
    own = {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if device.type == "cuda" else None,
    }
    states = [own]
    if world_size > 1:
        states = [{} for _ in range(world_size)]
        torch.distributed.all_gather_object(states, own)
    return states


def set_random_state(state: dict, device: torch.device) -> None:
    """Put one rank's entry of ``gather_random_states`` back."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"])


def draws_at_random(net: torch.nn.Module) -> bool:
    """Return whether ``net`` has dropout, or the dropped paths of BasicSR's SwinIR."""
    dropout = [module.p for module in net.modules() if isinstance(module, _DropoutNd)]
    paths = [module.drop_prob for module in net.modules() if isinstance(module, DropPath)]
    return any(chance > 0 for chance in (*dropout, *paths))


def function_and_samples(opt: dict) -> dict[str, Any]:
    """Return the options that decide what the network computes and which samples it sees, as plain data.

    Returns:
        {"network_g": ..., "datasets.train": ..., "train.pixel_opt": ...}, and the other terms of the loss
        that the option file has.
    """
    network_g = dict(opt["network_g"])
    kind = ARCH_REGISTRY.get(network_g["type"])
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if isinstance(parameter.default, (bool, int, float, str, type(None)))
    }
    train_set = (opt.get("datasets") or {}).get("train") or {}
    options = {
        "network_g": plain({**defaults, **network_g}),
        "datasets.train": plain({key: value for key, value in train_set.items() if key not in READING}),
        "train.pixel_opt": plain(opt["train"].get("pixel_opt") or {}),
    }
    for name in ("gradient_weight", "teacher", "teacher_weight"):
        if opt["train"].get(name):
            options[f"train.{name}"] = opt["train"][name]
    return options


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
    """Warn if the network or the samples of ``opt`` differ from those that the state was saved with.

    Args:
        saved: from ``function_and_samples``, in the state; None for a state of an older version.
        opt: the options of this run.
        iteration: of the state.
    """
    changed = changed_options(saved, function_and_samples(opt)) if saved else []
    if changed:
        get_root_logger().warning(
            f"The option file differs from that of the run that was stopped ({', '.join(changed)}): from "
            f"iteration {iteration:,} on this is another training. To go on as before, restore the old "
            "values."
        )
