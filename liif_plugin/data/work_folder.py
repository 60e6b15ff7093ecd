"""Folders of unfinished work: an interrupted command continues there, and two commands never share one."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import lmdb

from ..errors import UserError
from ..files import PARTIAL, atomic_write

try:
    import fcntl
except ImportError:  # not on Windows, where two commands at once are not noticed
    fcntl = None  # type: ignore[assignment]

SETTINGS = "settings.json"  # in the work folder: what its content was made from and how


@contextlib.contextmanager
def work_folder(path: str, settings: dict) -> Iterator[None]:
    """Hold the work folder ``path`` and lock it: a new one, or one that was begun with the same settings.

    The lock ends with the context or with the process, whatever ends that.

    Args:
        path: the folder. It is created where it does not exist.
        settings: what the content depends on; plain values.

    Raises:
        UserError: if the folder was begun with other settings, if another process works in it, or if it
            cannot be written.
    """
    with disk_errors(path):
        os.makedirs(path, exist_ok=True)
    with _lock(path):
        with disk_errors(path):
            for name in os.listdir(path):
                if name.endswith(PARTIAL):  # of a command that was killed while it wrote
                    os.remove(os.path.join(path, name))
            if not os.listdir(path):
                with atomic_write(os.path.join(path, SETTINGS), text=True) as file:
                    json.dump(settings, file)
        if _read_settings(path) != settings:
            raise UserError(
                f"{path}: was begun from other images or with other settings; delete that folder to start "
                "anew."
            )
        yield


def _read_settings(path: str) -> object:
    try:
        with open(os.path.join(path, SETTINGS), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    """Lock a folder against other processes."""
    if fcntl is None:
        yield
        return
    busy = UserError(f"{path}: another command is writing there; wait for it, or choose another output.")
    with disk_errors(path):
        descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        except OSError:  # a network file system without locks
            pass
        # the other command may have finished and renamed the folder between our two steps
        if not os.path.isdir(path) or not os.path.samestat(os.fstat(descriptor), os.stat(path)):
            raise busy
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors(path: str) -> Iterator[None]:
    """Turn errors of writing into a UserError that says what to do.

    Args:
        path: what is being written, for the message.
    """
    try:
        yield
    except (UserError, lmdb.Error, OSError) as error:
        reason = error.__cause__ if isinstance(error, UserError) else error  # of atomic_write
        if not isinstance(reason, (lmdb.Error, OSError)):
            raise
        raise UserError(
            f"{path}: cannot be written ({reason}); make room and give the same command again."
        ) from error


@contextlib.contextmanager
def worker_threads() -> Iterator[ThreadPoolExecutor]:
    """Start one thread for each core. An error or Ctrl-C waits for running tasks and drops waiting ones."""
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
