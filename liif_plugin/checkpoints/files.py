"""Checkpoints that are whole or not there, read without running code in them."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import re
import warnings

import torch

from ..errors import UserError

PARTIAL = ".partial"


def save_whole(obj: object, path: str) -> None:
    """torch.save to a temporary name, flush, rename: a file of the final name is always whole.

    Raises:
        UserError: where it cannot be written, e.g. on a full disk; the files saved before stay as they are.
    """
    write_whole(path, lambda file: torch.save(obj, file))


def write_whole(path: str, write) -> None:
    """``write(binary file)`` under a temporary name, flushed to the disk, then renamed to ``path``, the folder flushed too.

    Raises:
        UserError: where it cannot be written; nothing is left of it, and an older ``path`` stays as it is.
    """
    temporary = f"{path}{PARTIAL}"
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(os.path.dirname(path) or ".")
    except (OSError, RuntimeError) as error:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise UserError(
            f"{path}: cannot be written ({error}). Earlier checkpoints are whole; make room{_room_taken(path)} and go on "
            "with --auto_resume."
        ) from error


def _flush_folder(folder: str) -> None:
    """A new name survives a loss of power only when its folder is on the disk as well."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # some network file systems cannot
            os.fsync(descriptor)
        os.close(descriptor)


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
    """Return the weights of the latest iteration in an experiment's ``models``; None if there are none.

    net_g_latest.pth is written where a run ends, and names its iteration. If the run was then resumed and stopped, newer
    weights have a number. File times do not count: a copied folder has them in any order. A net_g_latest.pth of
    BasicSR names no iteration and is taken for the latest.
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
    """Delete what a run that was killed while it saved has left behind."""
    for folder in folders:
        for path in glob.glob(os.path.join(glob.escape(folder), f"*{PARTIAL}")):
            os.remove(path)


def load_safely(path: str) -> object:
    """What is in a checkpoint file, on the CPU, read without running code in it.

    Raises:
        UserError: for a missing or damaged file, or one that holds more than tensors and plain values.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such checkpoint (looked from {os.getcwd()}).")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files and pickles with code fail in many ways
        raise UserError(
            f"{path}: not a checkpoint that can be read safely ({type(error).__name__}); expected tensors as torch.save writes them."
        ) from error


def load_params(path: str, key: str | None = "params") -> dict[str, torch.Tensor]:
    """As ``load_named_params``, without the key."""
    return load_named_params(path, key)[1]


def load_named_params(path: str, key: str | None = "params") -> tuple[str | None, dict[str, torch.Tensor]]:
    """(key, state dict under it) of a BasicSR checkpoint; 'params' where 'params_ema' is asked for and not there.

    Raises:
        UserError: for a missing or damaged file, one that holds more than tensors, or one without that key.
    """
    content = load_safely(path)
    if key == "params_ema" and isinstance(content, dict) and key not in content:
        key = "params"
    state = content if key is None else content.get(key) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path}: expected a BasicSR checkpoint with '{key}', found {found[:200]}.")
    return key, {name[7:] if name.startswith("module.") else name: value for name, value in state.items()}


def _usable(value: object, own: torch.Tensor) -> bool:
    """Whether ``value`` is a dense tensor of numbers that ``own`` can take; half precision can be taken."""
    plain = (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and value.device.type != "meta"
        and not value.is_quantized
    )
    return plain and not value.is_complex() and value.is_floating_point() == own.is_floating_point()


def check_fits(state: dict[str, torch.Tensor], net: torch.nn.Module, path: str) -> None:
    """Raise UserError unless ``state`` has exactly the names and shapes of ``net``; nan may be in it, which `compare` shows."""
    own = net.state_dict()
    odd = next((name for name, value in state.items() if name in own and not _usable(value, own[name])), None)
    if odd is not None:
        raise UserError(
            f"{path}: '{odd}' holds no numbers of the kind that {type(net).__name__} has; take another checkpoint."
        )
    missing, unknown = [n for n in own if n not in state], [n for n in state if n not in own]
    reshaped = [n for n in own if n in state and own[n].shape != state[n].shape]
    complaints = [
        f"{len(names)} tensors {what} (first: {names[0]})"
        for names, what in ((missing, "missing"), (unknown, "too many"), (reshaped, "of another shape"))
        if names
    ]
    if complaints:
        raise UserError(
            f"{path}: holds another network than network_g ({type(net).__name__}): {', '.join(complaints)}."
        )
