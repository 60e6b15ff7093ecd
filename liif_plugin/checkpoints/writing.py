"""Write checkpoint files: a file of the final name is always whole."""

from __future__ import annotations

import torch

from ..files import atomic_write


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
