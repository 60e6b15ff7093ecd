"""Reading LMDBs: one environment per file and process.

py-lmdb >= 2.0 refuses to open one LMDB twice in a process, and a forked worker inherits the refusal:
``lmdb.Error: The environment '...' is already open in this process``.
"""

from __future__ import annotations

import os
import threading

import lmdb

from ..errors import UserError

_ENVS: dict[str, tuple[int, lmdb.Environment]] = {}
_LOCK = threading.Lock()  # two threads that open at once would meet that very error


def _new_lock() -> None:
    global _LOCK
    _LOCK = threading.Lock()


if hasattr(os, "register_at_fork"):  # a fork may copy the lock while another thread holds it
    os.register_at_fork(after_in_child=_new_lock)


def shared_env(path: str) -> lmdb.Environment:
    """Return the read-only environment of an LMDB folder, opened on first use and again after a fork.

    Raises:
        UserError: if there is no readable LMDB at ``path``.
    """
    with _LOCK:
        return _open(path)


def read_value(path: str, key: str) -> bytes:
    """Return the value of ``key`` in the LMDB folder ``path``.

    Raises:
        UserError: if there is no readable LMDB at ``path``, or no such key in it.
    """
    try:
        with shared_env(path).begin(write=False) as txn:
            value = txn.get(key.encode("utf-8"))
    except lmdb.Error as error:
        raise UserError(f"{path}: reading key '{key}' failed ({error}); make the LMDB again.") from error
    if value is None:
        raise UserError(
            f"{path}: key '{key}' is listed but not in the LMDB; make it again with `liif prepare`."
        )
    return value


def _open(path: str) -> lmdb.Environment:
    key = os.path.realpath(path)
    if key in _ENVS:
        owner, env = _ENVS[key]
        if owner == os.getpid():
            return env
        # inherited through fork: LMDB forbids its use here, and refuses a second handle beside it
        env.close()
    if not os.path.isfile(os.path.join(key, "data.mdb")):
        raise UserError(
            f"{path}: expected an LMDB folder with data.mdb and meta_info.txt; make one with `liif prepare`."
        )
    try:
        env = lmdb.open(key, readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise UserError(
            f"{path}: this LMDB cannot be opened ({error}); make it again with `liif prepare`."
        ) from error
    size = os.path.getsize(os.path.join(key, "data.mdb"))
    expected = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if size < expected:  # LMDB maps the file into memory: reading beyond its end would kill the process
        env.close()
        raise UserError(
            f"{path}: this LMDB is cut off, {size:,} of {expected:,} bytes; copy it again or make it with "
            "`liif prepare`."
        )
    _ENVS[key] = (os.getpid(), env)
    return env
