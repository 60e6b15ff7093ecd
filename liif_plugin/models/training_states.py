"""Find the training state that a run goes on from."""

from __future__ import annotations

import glob
import operator
import os
import sys

import torch
from basicsr.utils import check_resume
from basicsr.utils.dist_util import get_dist_info

from ..checkpoints.files import newest_weights, numbered
from ..errors import UserError


def whole_states(folder: str) -> list[str]:
    """Return the ``N.state`` in ``folder`` whose network ``../models/net_g_N.pth`` is there too, the largest
    N first.
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
            f"{folder}: none of its states can be read; delete the damaged files, or leave out "
            f"--auto_resume to start "
            "anew."
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
        f"--auto_resume: {weights} is there, but {folder} has no training state of that iteration, so this "
        f"run "
        "cannot go on. To train these weights further, give the new run another `name` and "
        f"path.pretrain_network_g: {weights}. To begin at 0, leave out --auto_resume: {experiment} is then "
        f"renamed."
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
