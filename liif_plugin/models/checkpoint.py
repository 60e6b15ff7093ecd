"""Checkpoints that are whole or not there, read without running code in them."""

from __future__ import annotations

import os

import torch

from ..errors import UserError


def save_whole(obj: object, path: str) -> None:
    """torch.save to a temporary name, flush, rename: a file of the final name is always whole.

    Raises:
        UserError: where it cannot be written, e.g. on a full disk; the files saved before stay as they are.
    """
    temporary = f"{path}.partial"
    try:
        with open(temporary, "wb") as file:
            torch.save(obj, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise UserError(
            f"{path}: cannot be written ({error}). Earlier checkpoints are whole; make room and go on with --auto_resume."
        ) from error


def load_safely(path: str) -> object:
    """What is in a checkpoint file, on the CPU, read without running code in it.

    Raises:
        UserError: for a missing or damaged file, or one that holds more than tensors and plain values.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such checkpoint (looked from {os.getcwd()}).")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files and pickles with code fail in many ways
        raise UserError(f"{path}: not a checkpoint that can be read safely ({type(error).__name__}).") from error


def load_params(path: str, key: str | None = "params") -> dict[str, torch.Tensor]:
    """The state dict under ``key`` of a BasicSR checkpoint; 'params' where 'params_ema' is asked for and not there.

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
    return {name[7:] if name.startswith("module.") else name: value for name, value in state.items()}


def _usable(value: object, own: torch.Tensor) -> bool:
    """Whether ``value`` is a dense tensor of numbers that ``own`` can take; half precision can be taken."""
    plain = isinstance(value, torch.Tensor) and value.layout is torch.strided and value.device.type != "meta" and not value.is_quantized
    return plain and not value.is_complex() and value.is_floating_point() == own.is_floating_point()


def check_fits(state: dict[str, torch.Tensor], net: torch.nn.Module, path: str) -> None:
    """Raise UserError unless ``state`` has exactly the names and shapes of ``net``; nan may be in it, which `compare` shows."""
    own = net.state_dict()
    odd = next((name for name, value in state.items() if name in own and not _usable(value, own[name])), None)
    if odd is not None:
        raise UserError(f"{path}: '{odd}' holds no numbers of the kind that {type(net).__name__} has; take another checkpoint.")
    missing, unknown = [n for n in own if n not in state], [n for n in state if n not in own]
    reshaped = [n for n in own if n in state and own[n].shape != state[n].shape]
    complaints = [f"{len(names)} tensors {what} (first: {names[0]})"
                  for names, what in ((missing, "missing"), (unknown, "too many"), (reshaped, "of another shape")) if names]  # fmt: skip
    if complaints:
        raise UserError(f"{path}: holds another network than network_g ({type(net).__name__}): {', '.join(complaints)}.")
