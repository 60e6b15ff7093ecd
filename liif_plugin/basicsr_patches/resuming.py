"""Resuming without a GPU and from the experiment's own folder; no run displaces another one."""

from __future__ import annotations

import os

from ..distributed import assert_same_on_all_ranks, run_on_all_ranks
from ..errors import UserError
from ..models.run_lock import RunLock
from ..models.training_run import current_run
from ..models.training_states import find_resume_state
from .patching import patch


def _lock_and_find(opt: dict) -> dict | None:
    state = find_resume_state(opt)
    if opt["rank"] == 0:
        current_run().lock = RunLock(opt["path"]["experiments_root"])
    return state


@patch(
    "basicsr.train",
    name="load_resume_state",
    cures="error of torch.cuda.current_device() without a GPU; --auto_resume searches only ./experiments, "
    "loads the newest state even if it is damaged or its weights are missing, and starts at iteration 0 if "
    "there are weights but no state; two runs with one name overwrite each other's files",
)
def load_resume_state(opt: dict) -> dict | None:
    """Lock the experiment's folder and find the training state from which the run is resumed.

    Returns:
        The state, on the CPU, or None for a new run.

    Raises:
        UserError: see ``find_resume_state`` and ``RunLock``; if ranks would resume from different states.
    """
    state = run_on_all_ranks(_lock_and_find, opt)
    found = "nothing to go on from" if state is None else os.path.basename(opt["path"]["resume_state"])
    assert_same_on_all_ranks("resuming", found, "copy the experiment's folder to every node, or share it.")
    current_run().resume_state = state
    return state


@patch(
    "basicsr.utils.misc",
    "basicsr.utils",
    "basicsr.train",
    name="mkdir_and_rename",
    cures="OSError if two old experiments are renamed within a second, or if the folder is not writable",
)
def mkdir_and_rename(path: str) -> None:
    """Make a new folder; rename an older one to NAME_archived_TIME, or NAME_archived_TIME_2."""
    from basicsr.utils import get_time_str

    try:
        if os.path.lexists(path):
            base = archive = f"{path}_archived_{get_time_str()}"
            number = 1
            while os.path.lexists(archive):
                number += 1
                archive = f"{base}_{number}"
            print(f"Path already exists. Rename it to {archive}", flush=True)
            os.rename(path, archive)
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: this folder cannot be made ({error.strerror or error}).") from error
