"""Checkpoint files on the disk: write one whole, find the newest of an experiment, delete old ones."""

from __future__ import annotations

import logging
import os
import re

import torch

from ..errors import UserError
from ..files import atomic_write
from .reading import load_safely


def save_whole(obj: object, path: str) -> None:
    """Write ``obj`` with torch.save under a temporary name, flush it to the disk, and rename it to ``path``.

    Args:
        obj: tensors and plain values.
        path: the file to write. Its folder must exist.

    Raises:
        UserError: if the file cannot be written, for example on a full disk. Nothing is left of it, and an
            older file at ``path`` stays as it is.
    """
    with atomic_write(path) as file:
        try:
            torch.save(obj, file)
        except RuntimeError as error:  # torch's own words for a full disk
            raise OSError(str(error)) from error


def save_in_experiment(obj: object, path: str) -> None:
    """Write a checkpoint of a training; see ``save_whole``.

    Raises:
        UserError: if it cannot be written; the message says how to continue the training.
    """
    try:
        save_whole(obj, path)
    except UserError as error:
        raise UserError(
            f"{error} Earlier checkpoints are complete{_room_taken(path)}; resume the training from them."
        ) from error


def _room_taken(path: str) -> str:
    """Return words that name the checkpoints that could be deleted; empty if there are none.

    They are those older than the newest pair of a state and its network.
    """
    old = _older_than(numbered(*_folders_beside(path)), 1)
    if not old:
        return ""
    megabytes = sum(os.path.getsize(file) for file in old) / 2**20
    return (
        f" ({len(old)} older checkpoint files there hold {megabytes:,.0f} MiB, such as {old[-1]}; "
        "logger.keep_checkpoints prunes them)"
    )


def _folders_beside(path: str) -> tuple[str, str]:
    root = os.path.dirname(os.path.dirname(os.path.abspath(path)))
    return os.path.join(root, "models"), os.path.join(root, "training_states")


def numbered(models: str, states: str) -> dict[int, list[str]]:
    """Return iteration -> its files, N.state before net_g_N.pth, newest iteration first.

    Args:
        models: the folder of net_g_N.pth.
        states: the folder of N.state. Files of other names are left out in both.
    """
    found: dict[int, list[str]] = {}
    for folder, pattern in ((states, r"(\d+)\.state"), (models, r"net_g_(\d+)\.pth")):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            match = re.fullmatch(pattern, name)
            if match:
                found.setdefault(int(match[1]), []).append(os.path.join(folder, name))
    return dict(sorted(found.items(), reverse=True))


def newest_weights(models: str) -> str | None:
    """Return the weights of the latest iteration in an experiment's ``models``; None if there are none.

    net_g_latest.pth is written where a run ends, and names its iteration. If the run was then resumed and
    stopped, newer weights have a number. File times do not count: a copied folder has them in any order. A
    net_g_latest.pth of BasicSR names no iteration and is taken for the latest.
    """
    latest = os.path.join(models, "net_g_latest.pth")
    steps = {step: path for step, files in numbered(models, "").items() for path in files}
    newest = max(steps, default=None)
    if newest is None or not os.path.isfile(latest):
        if os.path.isfile(latest):
            return latest
        return None if newest is None else steps[newest]
    content = load_safely(latest)
    ended = content.get("iter") if isinstance(content, dict) else None
    return steps[newest] if isinstance(ended, int) and newest > ended else latest


def _older_than(files: dict[int, list[str]], pairs: int) -> list[str]:
    """Return the files older than the newest ``pairs`` pairs of a state and its network.

    There are none where there are not so many pairs.
    """
    whole = [iteration for iteration in files if len(files[iteration]) == 2]
    return [
        path
        for iteration in files
        if whole[pairs:] and iteration < whole[pairs - 1]
        for path in files[iteration]
    ]


def prune(models: str, states: str, current: int, keep: int, spare: tuple[str | None, ...] = ()) -> list[str]:
    """Delete the numbered checkpoints up to iteration ``current``, but not the ``keep`` newest pairs.

    Call it once the files of ``current`` are whole. Files of later iterations stay: they belong to a run
    that was resumed from an older state. Files of other names, such as net_g_latest.pth and net_g_best.pth,
    stay too.

    Args:
        models: the folder of net_g_N.pth.
        states: the folder of N.state.
        current: the iteration that was just saved.
        keep: number of pairs to keep.
        spare: paths of files to keep besides.

    Returns:
        The deleted files.
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
