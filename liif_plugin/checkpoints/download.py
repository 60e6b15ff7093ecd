"""Published checkpoints: where they are, how large, with what SHA-256; fetched only when asked, and never used unverified."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException

from ..errors import UserError, nearest


@dataclass(frozen=True)
class Weights:
    """One published file. size: bytes, None where it is not known. sha256: all of it, or its published first digits."""

    file: str
    url: str
    size: int | None
    sha256: str
    what: str


LARGEST = 2**31  # bytes of a file whose size is not published
TIMEOUT = 60  # seconds without a byte
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
    """The entry called ``name``. Raises UserError with the nearest one for another."""
    if name not in KNOWN:
        raise UserError(
            f"no published weights are called '{name}'{nearest(name, KNOWN)}; there are {', '.join(KNOWN)}."
        )
    return KNOWN[name]


def verify(path: str, weights: Weights) -> None:
    """Raise UserError unless the file ``path`` is the published one, by size and SHA-256."""
    size = os.path.getsize(path)
    if weights.size is not None and size != weights.size:
        raise UserError(
            f"{path}: has {size:,} bytes, but {weights.file} has {weights.size:,}; delete it and fetch it again."
        )
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if not digest.hexdigest().startswith(weights.sha256):
        raise UserError(
            f"{path}: is not {weights.file}: its SHA-256 is {digest.hexdigest()}, the published one begins with "
            f"{weights.sha256}; delete it and fetch it again."
        )


class _SameSafety(urllib.request.HTTPRedirectHandler):
    """A redirection may lead to another address of the web, never to a file, and never from https to http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        allowed = ("https://",) if req.full_url.startswith("https://") else ("https://", "http://")
        if not newurl.startswith(allowed):
            raise UserError(
                f"{req.full_url}: leads to {newurl[:200]}, where nothing is fetched from; get the file by other means."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Https and http, through a proxy where the environment names one, and no other protocol."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _SameSafety(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _download(weights: Weights, path: str) -> None:
    """The bytes at ``weights.url``, no more than the published file has."""
    from tqdm import tqdm

    most = LARGEST if weights.size is None else weights.size
    request = urllib.request.Request(weights.url, headers={"User-Agent": "liif_plugin"})
    if request.type not in ("http", "https"):
        raise UserError(f"{weights.url}: expected an address that begins with https.")
    with _opener().open(request, timeout=TIMEOUT) as answer, open(path, "wb") as file:
        with tqdm(total=weights.size, unit="B", unit_scale=True, desc=weights.file, disable=None) as bar:
            while block := answer.read(1 << 16):
                if file.tell() + len(block) > most:
                    raise UserError(
                        f"{weights.url}: sends more than the {most:,} bytes of {weights.file}; it is another file."
                    )
                file.write(block)
                bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())


def fetch(name: str, folder: str) -> str:
    """Download the weights called ``name`` into ``folder`` and verify them; a file that is there already is only verified.

    Returns:
        The path of the file, which has its name only when it is whole and verified.

    Raises:
        UserError: for an unknown name, no connection, or a file that is not the published one.
    """
    weights = known(name)
    path = os.path.join(folder, weights.file)
    if os.path.isfile(path):
        verify(path, weights)
        return path
    partial = f"{path}.partial"
    try:
        os.makedirs(folder, exist_ok=True)
        _download(weights, partial)
        verify(partial, weights)
        os.replace(partial, path)
    except (OSError, HTTPException, ValueError) as error:  # urllib's errors are of the first kind
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{weights.url}: cannot be fetched ({error}); get the file by other means, put it into {folder} and give the same "
            "command again."
        ) from error
    finally:
        if os.path.exists(partial):
            os.remove(partial)
    return path
