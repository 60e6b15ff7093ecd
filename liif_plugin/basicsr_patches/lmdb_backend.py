"""BasicSR's own datasets on shared LMDB environments."""

from __future__ import annotations

import lmdb
from basicsr.utils.file_client import LmdbBackend

from ..data.lmdb_env import shared_env
from ..errors import UserError
from .patching import patch


@patch(
    "basicsr.utils.file_client.FileClient._backends",
    name="lmdb",
    cures="lmdb.Error: already open in this process, if two datasets use one LMDB (py-lmdb >= 2.0)",
    until="BasicSR opens each LMDB once",
)
class SharedLmdbBackend(LmdbBackend):
    """BasicSR's LmdbBackend on shared environments.

    ``get`` opens lazily, so that it survives pickling and forks.
    """

    def __init__(self, db_paths, client_keys="default", readonly=True, lock=False, readahead=False, **kwargs):
        client_keys = [client_keys] if isinstance(client_keys, str) else list(client_keys)
        self.db_paths = [str(path) for path in (db_paths if isinstance(db_paths, list) else [db_paths])]
        if len(client_keys) != len(self.db_paths):
            raise ValueError(
                f"expected one client key per LMDB, got {len(client_keys)} keys for {len(self.db_paths)} "
                f"paths."
            )
        self._client = dict(zip(client_keys, self.db_paths))

    def get(self, filepath, client_key) -> bytes:
        """Return the value of the key ``filepath`` in the LMDB of ``client_key``."""
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
