"""Published checkpoints: fetched only when asked, and never used unverified."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import IO, Any

import pooch

from ..errors import UserError, nearest

LARGEST = 2**31  # bytes of a file whose size is not published
TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True)
class Weights:
    """One published file.

    Attributes:
        file: its name.
        url: where it is.
        size: bytes, or None where it is not published.
        sha256: its SHA-256, or the first digits where no more are published.
        what: a description.
    """

    file: str
    url: str
    size: int | None
    sha256: str
    what: str


_AUTHORS = "https://www.dropbox.com/s/"
_MMAGIC = "https://download.openmmlab.com/mmediting/restorers/liif/"
KNOWN = {
    "edsr-baseline-liif": Weights(
        "edsr-baseline-liif.pth",
        _AUTHORS + "6f402wcn4v83w2v/edsr-baseline-liif.pth?dl=1",
        18_890_445,
        "1cf77e16f33ee17bd04049f497eaea1e06f25585dbb1919e4c7cd1d9d4d23d57",
        "the authors' EDSR-baseline-LIIF",
    ),
    "rdn-liif": Weights(
        "rdn-liif.pth",
        _AUTHORS + "mzha6ll9kb9bwy0/rdn-liif.pth?dl=1",
        268_184_311,
        "7bf835bc969b85ead12ef3bd8e4bca7349777ae1fdbea6021f1b62608f4a323a",
        "the authors' RDN-LIIF",
    ),
    "mmagic-edsr-liif": Weights(
        "liif_edsr_norm_c64b16_g1_1000k_div2k_20210715-ab7ce3fc.pth",
        _MMAGIC + "liif_edsr_norm_c64b16_g1_1000k_div2k_20210715-ab7ce3fc.pth",
        None,
        "ab7ce3fc",
        "MMagic's EDSR-baseline-LIIF",
    ),
    "mmagic-rdn-liif": Weights(
        "liif_rdn_norm_c64b16_g1_1000k_div2k_20210717-22d6fdc8.pth",
        _MMAGIC + "liif_rdn_norm_c64b16_g1_1000k_div2k_20210717-22d6fdc8.pth",
        None,
        "22d6fdc8",
        "MMagic's RDN-LIIF",
    ),
}


def known(name: str) -> Weights:
    """Return the entry of ``KNOWN`` called ``name``. Raises UserError with the nearest name for another."""
    if name not in KNOWN:
        raise UserError(
            f"no published weights are called '{name}'{nearest(name, KNOWN)}; there are {', '.join(KNOWN)}."
        )
    return KNOWN[name]


def verify(path: str, weights: Weights) -> None:
    """Raise UserError unless the file ``path`` has the published size and SHA-256."""
    size = os.path.getsize(path)
    if weights.size is not None and size != weights.size:
        raise UserError(
            f"{path}: has {size:,} bytes, but {weights.file} has {weights.size:,}; delete it and fetch it "
            "again."
        )
    digest = pooch.file_hash(path)
    if not digest.startswith(weights.sha256):
        raise UserError(
            f"{path}: is not {weights.file}: its SHA-256 is {digest}, the published one begins with "
            f"{weights.sha256}; delete it and fetch it again."
        )


class _CappedFile:
    """A file that refuses to grow beyond the size of the published one."""

    def __init__(self, file: IO[bytes], weights: Weights):
        self.file, self.weights = file, weights
        self.most = LARGEST if weights.size is None else weights.size

    def write(self, data: bytes) -> int:
        if self.file.tell() + len(data) > self.most:
            raise UserError(
                f"{self.weights.url}: sends more than the {self.most:,} bytes of {self.weights.file}; it is "
                "another file."
            )
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


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
        raise UserError(
            f"{response.url}: leads to {target[:200]}, where nothing is fetched from; get the file by other "
            "means."
        )


def _download(weights: Weights, path: str) -> None:
    """Write the bytes at the address to ``path``, no more than the published file has, and verify them."""
    download = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=1 << 16,
        timeout=TIMEOUT,
        hooks={"response": check_redirect},
        headers={"User-Agent": "liif_plugin"},
    )
    with open(path, "wb") as file:
        download(weights.url, _CappedFile(file, weights), None)
        file.flush()
        os.fsync(file.fileno())
    verify(path, weights)


def fetch(name: str, folder: str | os.PathLike | None = None) -> str:
    """Download the weights called ``name`` and verify them. A file that exists already is only verified.

    Args:
        name: a key of ``KNOWN``.
        folder: where to put the file; None is the cache folder of this package for this user.

    Returns:
        The path of the file, which has its name only when it is whole and verified.

    Raises:
        UserError: for an unknown name, if there is no connection, or if the file is not the published one.
    """
    weights = known(name)
    folder = os.fspath(pooch.os_cache("liif_plugin") if folder is None else folder)
    path = os.path.join(folder, weights.file)
    if os.path.isfile(path):
        verify(path, weights)
        return path
    if not weights.url.startswith(("https://", "http://")):
        raise UserError(f"{weights.url}: expected an address that begins with https.")
    pooch.get_logger().setLevel("WARNING")
    try:
        # pooch calls the downloader with a temporary file in the folder and renames that afterwards
        return pooch.retrieve(
            weights.url,
            known_hash=None,  # verified by the downloader: pooch knows no published first digits
            fname=weights.file,
            path=folder,
            downloader=lambda url, temporary, _: _download(weights, temporary),
        )
    except (OSError, ValueError) as error:  # those of requests are of the first kind
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{weights.url}: cannot be fetched ({error}); get the file by other means, put it into {folder} "
            "and give the same command again."
        ) from error
