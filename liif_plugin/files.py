"""Writing files so that a file of the final name is always whole."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from typing import IO, Any

from .errors import UserError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".partial"  # the end of a temporary name
_TEMPORARY_NAME = re.compile(r"\..*\.[0-9a-f]{8}\.partial")
_NAME_PART = 40  # characters of the final name in a temporary one; more would exceed the 255 bytes of a name
ADVICE = {
    errno.ENOSPC: "; make room or choose another folder",
    errno.EDQUOT: "; make room or choose another folder",
    errno.EFBIG: "; make room or choose another folder",
    errno.ENOENT: "; make its folder first",
    errno.ENOTDIR: "; choose another folder",
    errno.EACCES: "; choose another folder",
    errno.EROFS: "; choose another folder",
}


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, text: bool = False, flush: bool = True) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path``; at the end flush it to the disk and rename it to ``path``.

    The temporary name is new each time, so two programs that write one path do not disturb one another: the
    later one wins with a whole file. A symbolic link at ``path`` is replaced, its target stays as it is.

    Args:
        path: the file to write. Its folder must exist.
        text: open in text mode (UTF-8) instead of binary mode.
        flush: wait until the file is on the disk, so that it survives a loss of power. That takes
            milliseconds: for thousands of files pass False, and call ``flush_disks`` once at the end.

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
    temporary = os.path.join(folder, f".{name[:_NAME_PART]}.{secrets.token_hex(4)}{PARTIAL}")
    created = False
    try:
        # "x" creates the file or fails: it never follows a link and never opens somebody else's file
        with open(temporary, "x" if text else "xb", encoding="utf-8" if text else None) as file:
            created = True
            with contextlib.suppress(OSError):  # some network file systems have no locks
                _lock(file.fileno())
            yield file
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        created = False
        if flush:
            flush_folder(folder or ".")
    except OSError as error:
        advice = ADVICE.get(error.errno or 0, "")
        raise UserError(f"{path}: cannot be written ({error.strerror or error}){advice}.") from error
    finally:
        if created:
            with contextlib.suppress(OSError):
                os.remove(temporary)


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Delete the temporary files in ``folder`` that killed programs have left there.

    A program that is writing a file holds a lock on it, and the system releases the lock when the program
    ends. Files that are locked stay.
    """
    folder = os.fspath(folder)
    if fcntl is None or not os.path.isdir(folder):
        return
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if not _TEMPORARY_NAME.fullmatch(name) or os.path.islink(path) or not os.path.isfile(path):
            continue
        with contextlib.suppress(OSError), open(path, "rb") as file:
            _lock(file.fileno())
            os.remove(path)


def _lock(descriptor: int) -> None:
    """Lock an open file for this program. Raise BlockingIOError if another one holds the lock."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def flush_disks() -> None:
    """Wait until everything that was written is on the disk, where the system has a call for that."""
    if hasattr(os, "sync"):  # not on Windows
        os.sync()


def flush_folder(folder: str) -> None:
    """Flush a folder to the disk: a new name survives a loss of power only then."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # some network file systems cannot do it
            os.fsync(descriptor)
        os.close(descriptor)
