"""BasicSR's own datasets on shared LMDB environments."""

from __future__ import annotations

from basicsr.utils.file_client import LmdbBackend

from ..data.lmdb_env import read_value
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
                "paths."
            )
        self._client = dict(zip(client_keys, self.db_paths))

    def get(self, filepath, client_key) -> bytes:
        """Return the value of the key ``filepath`` in the LMDB of ``client_key``."""
        return read_value(self._client[client_key], str(filepath))
