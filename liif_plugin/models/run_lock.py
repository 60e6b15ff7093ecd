"""One training at a time in one experiment's folder."""

from __future__ import annotations

import datetime
import json
import logging
import os
import socket
from typing import IO

from ..errors import UserError

LOCKED_BYTE = 1 << 30  # far behind the text, which Windows would not let others read otherwise


def lock_path(experiment: str) -> str:
    """Return the lock file of an experiment's folder: beside it, because a new run renames the folder."""
    folder, name = os.path.split(os.path.abspath(experiment))
    return os.path.join(folder, f".{name}.lock")


class RunLock:
    """Holds an experiment's folder for this process until the process ends, however it ends.

    The operating system keeps the lock, so none is left behind by a killed run. Forked data workers do not
    inherit it.

    Args:
        experiment: the experiment's folder, which need not exist yet.

    Raises:
        UserError: if another process holds it, with its number and host; if the file cannot be written.
    """

    def __init__(self, experiment: str):
        self.path = lock_path(experiment)
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self._file: IO[str] | None = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise UserError(
                f"{os.path.dirname(self.path)}: cannot be written ({error.strerror}), and experiments go "
                "there; start from another folder."
            ) from error
        try:
            _lock(self._file)
        except (BlockingIOError, PermissionError):
            holder = self._read_holder()
            self.release()
            raise UserError(
                f"{experiment}: {holder} is training here. Wait for it or end it (`kill PID` on its host; "
                "it saves its state first), then start again; or give this run another `name`."
            ) from None
        except OSError as error:  # some network file systems have no locks
            logging.getLogger("basicsr").warning(
                "%s: no lock here (%s): do not start two trainings of one name.", self.path, error.strerror
            )
        self._write_holder()

    def release(self) -> None:
        """Let others have the folder."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write_holder(self) -> None:
        assert self._file is not None
        since = datetime.datetime.now().isoformat(" ", "seconds")
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
        self._file.flush()

    def _read_holder(self) -> str:
        assert self._file is not None
        try:
            self._file.seek(0)
            holder = json.loads(self._file.read())
            return f"process {holder['pid']} on {holder['host']} (since {holder['since']})"
        except (OSError, ValueError, KeyError, TypeError):  # it may be writing at this moment
            return "another process"


def _lock(file: IO[str]) -> None:
    """Lock ``file`` for this process or raise OSError."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        file.seek(LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    # lockf, not flock: data workers would inherit that one and hold it after a kill -9 of their parent
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
