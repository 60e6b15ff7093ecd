"""Checkpoints that are whole or not there."""

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
