"""Writing files so that a file of the final name is always whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import IO, Any

from .errors import UserError

PARTIAL = ".partial"  # the end of a temporary name


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, text: bool = False) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path``; at the end flush it to the disk and rename it to ``path``.

    The temporary name is new each time, so two programs that write one path do not disturb one another: the
    later one wins with a whole file. A symbolic link at ``path`` is replaced, its target stays as it is.

    Args:
        path: the file to write. Its folder must exist.
        text: open in text mode (UTF-8) instead of binary mode.

    Yields:
        The open temporary file.

    Raises:
        UserError: if the file cannot be written, for example on a full disk. Nothing is left of it, and an
            older file at ``path`` stays as it is.

    Example:
        >>> import os, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with atomic_write(os.path.join(folder, "a.txt"), text=True) as file:
        ...     _ = file.write("whole")
        >>> os.listdir(folder)
        ['a.txt']
    """
    path = os.fspath(path)
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name[:100]}.{secrets.token_hex(4)}{PARTIAL}")
    created = False
    try:
        # "x" creates the file or fails: it never follows a link and never opens somebody else's file
        with open(temporary, "x" if text else "xb", encoding="utf-8" if text else None) as file:
            created = True
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        created = False
        flush_folder(folder or ".")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}).") from error
    finally:
        if created:
            with contextlib.suppress(OSError):
                os.remove(temporary)


def flush_folder(folder: str) -> None:
    """Flush a folder to the disk: a new name survives a loss of power only then."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # some network file systems cannot do it
            os.fsync(descriptor)
        os.close(descriptor)
