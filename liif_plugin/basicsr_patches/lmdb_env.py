"""One LMDB environment per file and process, also for BasicSR's own datasets.

Cures ``lmdb.Error: The environment '...' is already open in this process`` of py-lmdb >= 2.0 where train and validation, or two
validation sets, share an LMDB, and the same error in a forked worker that inherits the handle. Can go when BasicSR shares its
environments itself.
"""

from __future__ import annotations

import os
import threading

import lmdb

from ..errors import UserError

_ENVS: dict[str, tuple[int, lmdb.Environment]] = {}
_LOCK = threading.Lock()  # two threads that open at once would meet the very error cured here


def _new_lock() -> None:
    global _LOCK
    _LOCK = threading.Lock()


if hasattr(os, "register_at_fork"):  # a fork may copy the lock while another thread holds it
    os.register_at_fork(after_in_child=_new_lock)


def shared_env(path: str) -> lmdb.Environment:
    """The process-wide read-only environment of the LMDB folder ``path``, opened on first use and again after a fork.

    Raises:
        UserError: where there is no readable LMDB at ``path``.
    """
    with _LOCK:
        return _open(path)


def _open(path: str) -> lmdb.Environment:
    key = os.path.realpath(path)
    owner, env = _ENVS.get(key, (None, None))
    if owner == os.getpid():
        return env
    if env is not None:
        env.close()  # inherited through fork: LMDB forbids its use here, and refuses a second handle beside it
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
    there = os.path.getsize(os.path.join(key, "data.mdb"))
    promised = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if there < promised:  # LMDB maps the file into memory: reading beyond its end would kill the process
        env.close()
        raise UserError(
            f"{path}: this LMDB is cut off, {there:,} of {promised:,} bytes; copy it again or make it with `liif prepare`."
        )
    _ENVS[key] = (os.getpid(), env)
    return env


def apply() -> None:
    """Replace the 'lmdb' entry of BasicSR's table of storage backends."""
    from basicsr.utils.file_client import FileClient, LmdbBackend

    if getattr(FileClient._backends["lmdb"], "shares_environments", False):
        return

    class SharedLmdbBackend(LmdbBackend):
        """BasicSR's LmdbBackend on shared environments; ``get`` opens lazily, so that it survives pickling and forks."""

        shares_environments = True

        def __init__(
            self, db_paths, client_keys="default", readonly=True, lock=False, readahead=False, **kwargs
        ):
            client_keys = [client_keys] if isinstance(client_keys, str) else list(client_keys)
            self.db_paths = [str(path) for path in (db_paths if isinstance(db_paths, list) else [db_paths])]
            if len(client_keys) != len(self.db_paths):
                raise ValueError(
                    f"expected one client key per LMDB, got {len(client_keys)} keys for {len(self.db_paths)} paths."
                )
            self._client = dict(zip(client_keys, self.db_paths))

        def get(self, filepath, client_key):
            path = self._client[client_key]
            try:
                with shared_env(path).begin(write=False) as txn:
                    value = txn.get(str(filepath).encode("utf-8"))
            except lmdb.Error as error:
                raise UserError(
                    f"{path}: reading key '{filepath}' failed ({error}); make the LMDB again."
                ) from error
            if value is None:
                raise UserError(
                    f"{path}: key '{filepath}' is listed but not in the LMDB; make it again with `liif prepare`."
                )
            return value

    FileClient._backends["lmdb"] = SharedLmdbBackend
