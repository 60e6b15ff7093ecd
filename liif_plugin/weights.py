"""Published checkpoints: where they are, how large, with what SHA-256; fetched only when asked, and never used unverified."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from .errors import UserError, nearest


@dataclass(frozen=True)
class Weights:
    """One published file. size: bytes, None where it is not known. sha256: all of it, or its published first digits."""

    file: str
    url: str
    size: int | None
    sha256: str
    what: str


_AUTHORS = "https://www.dropbox.com/s/"
_MMAGIC = "https://download.openmmlab.com/mmediting/restorers/liif/"
KNOWN = {
    "edsr-baseline-liif": Weights(
        "edsr-baseline-liif.pth", _AUTHORS + "6f402wcn4v83w2v/edsr-baseline-liif.pth?dl=1", 18_890_445,
        "1cf77e16f33ee17bd04049f497eaea1e06f25585dbb1919e4c7cd1d9d4d23d57", "the authors' EDSR-baseline-LIIF"),
    "rdn-liif": Weights(
        "rdn-liif.pth", _AUTHORS + "mzha6ll9kb9bwy0/rdn-liif.pth?dl=1", 268_184_311,
        "7bf835bc969b85ead12ef3bd8e4bca7349777ae1fdbea6021f1b62608f4a323a", "the authors' RDN-LIIF"),
    "mmagic-edsr-liif": Weights(
        "liif_edsr_norm_c64b16_g1_1000k_div2k_20210715-ab7ce3fc.pth",
        _MMAGIC + "liif_edsr_norm_c64b16_g1_1000k_div2k_20210715-ab7ce3fc.pth", None, "ab7ce3fc", "MMagic's EDSR-baseline-LIIF"),
    "mmagic-rdn-liif": Weights(
        "liif_rdn_norm_c64b16_g1_1000k_div2k_20210717-22d6fdc8.pth",
        _MMAGIC + "liif_rdn_norm_c64b16_g1_1000k_div2k_20210717-22d6fdc8.pth", None, "22d6fdc8", "MMagic's RDN-LIIF"),
}  # fmt: skip


def known(name: str) -> Weights:
    """The entry called ``name``. Raises UserError with the nearest one for another."""
    if name not in KNOWN:
        raise UserError(f"no published weights are called '{name}'{nearest(name, KNOWN)}; there are {', '.join(KNOWN)}.")
    return KNOWN[name]


def verify(path: str, weights: Weights) -> None:
    """Raise UserError unless the file ``path`` is the published one, by size and SHA-256."""
    size = os.path.getsize(path)
    if weights.size is not None and size != weights.size:
        raise UserError(f"{path}: has {size:,} bytes, but {weights.file} has {weights.size:,}; delete it and fetch it again.")
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if not digest.hexdigest().startswith(weights.sha256):
        raise UserError(f"{path}: is not {weights.file}: its SHA-256 is {digest.hexdigest()}, the published one begins with "
                        f"{weights.sha256}; delete it and fetch it again.")  # fmt: skip


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
    import torch

    os.makedirs(folder, exist_ok=True)
    partial = f"{path}.partial"
    try:
        torch.hub.download_url_to_file(weights.url, partial)
        verify(partial, weights)
        os.replace(partial, path)
    except OSError as error:  # urllib's errors are of this kind
        raise UserError(f"{weights.url}: cannot be fetched ({error}); get the file by other means, put it into {folder} and give the same "
                        "command again.") from error  # fmt: skip
    finally:
        if os.path.exists(partial):
            os.remove(partial)
    return path
