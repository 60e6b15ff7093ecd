"""The checkpoint files of an experiment: numbered pairs of a network and a training state."""

from __future__ import annotations

import logging
import os
import re

from ..errors import UserError
from ..files import PARTIAL, atomic_write
from .reading import load_safely
from .writing import save_whole


def save_in_experiment(obj: object, path: str) -> None:
    """Write a checkpoint of a training; see ``save_whole``.

    Raises:
        UserError: if it cannot be written; the message says how to go on with the training.
    """
    try:
        save_whole(obj, path)
    except UserError as error:
        raise UserError(
            f"{error} Earlier checkpoints are whole; make room{_room_taken(path)} and go on with --auto_resume."
        ) from error


def write_whole(path: str, write) -> None:
    """Call ``write`` with the open file of ``atomic_write``."""
    with atomic_write(path) as file:
        write(file)


def _room_taken(path: str) -> str:
    """What could be deleted: the numbered checkpoints of the experiment that are older than its newest whole pair."""
    old = _older_than(numbered(*_folders_beside(path)), 1)
    if not old:
        return ""
    megabytes = sum(os.path.getsize(file) for file in old) / 2**20
    return f" ({len(old)} older checkpoint files there hold {megabytes:,.0f} MiB, e.g. {old[-1]}; logger.keep_checkpoints prunes them)"


def _folders_beside(path: str) -> tuple[str, str]:
    root = os.path.dirname(os.path.dirname(os.path.abspath(path)))
    return os.path.join(root, "models"), os.path.join(root, "training_states")


def numbered(models: str, states: str) -> dict[int, list[str]]:
    """Iteration -> its files, N.state before net_g_N.pth, newest iteration first. Files of other names are not ours."""
    found: dict[int, list[str]] = {}
    for folder, pattern in ((states, r"(\d+)\.state"), (models, r"net_g_(\d+)\.pth")):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            match = re.fullmatch(pattern, name)
            if match:
                found.setdefault(int(match[1]), []).append(os.path.join(folder, name))
    return dict(sorted(found.items(), reverse=True))


def newest_weights(models: str) -> str | None:
    """The newest weights in an experiment's ``models``; None where there are none.

    net_g_latest.pth is written where a run ends. One that was then taken up again and stopped has newer ones under a number.
    """
    latest = os.path.join(models, "net_g_latest.pth")
    networks = [path for files in numbered(models, "").values() for path in files]
    newest = max(networks, key=os.path.getmtime, default=None)
    if newest is None or not os.path.isfile(latest):
        return latest if os.path.isfile(latest) else newest
    content = load_safely(latest) if os.path.getmtime(newest) > os.path.getmtime(latest) else {}
    ended = (
        content.get("iter") if isinstance(content, dict) else None
    )  # a copied folder has times in any order
    return newest if isinstance(ended, int) and int(newest.rpartition("_")[2][:-4]) > ended else latest


def _older_than(files: dict[int, list[str]], pairs: int) -> list[str]:
    """The files older than the newest ``pairs`` pairs of a state and its network; none where there are not so many pairs."""
    whole = [iteration for iteration in files if len(files[iteration]) == 2]
    return [
        path
        for iteration in files
        if whole[pairs:] and iteration < whole[pairs - 1]
        for path in files[iteration]
    ]


def prune(models: str, states: str, current: int, keep: int, spare: tuple[str | None, ...] = ()) -> list[str]:
    """Delete the numbered checkpoints up to iteration ``current`` but for the ``keep`` newest; returns what was deleted.

    Call it once the files of ``current`` are whole. Later iterations (of a run that was taken up from an older state), the files in
    ``spare`` and every file of another name, such as net_g_latest.pth and net_g_best.pth, stay.
    """
    spared = {os.path.realpath(path) for path in spare if path}
    past = {iteration: files for iteration, files in numbered(models, states).items() if iteration <= current}
    deleted = []
    for path in _older_than(past, keep):
        if os.path.realpath(path) in spared:
            continue
        try:
            os.remove(path)
            deleted.append(path)
        except OSError as error:  # no reason to end a training
            logging.getLogger("basicsr").warning("%s: cannot be pruned (%s).", path, error.strerror)
    return deleted


def remove_partial(*folders: str) -> None:
    """Delete the temporary files that a run left behind when it was killed while it saved."""
    for folder in folders:
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            if name.endswith(PARTIAL):
                os.remove(os.path.join(folder, name))
