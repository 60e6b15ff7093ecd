"""What is to be read and where it is to be written: files, folders and patterns -> pairs of paths."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator

from ..errors import UserError
from .writing import SUFFIXES

NOT_WRITTEN = (
    ".gif",
    ".jp2",
    ".tga",
    ".ppm",
    ".pgm",
    ".avif",
    ".heic",
    ".svg",
    ".pdf",
    ".psd",
    ".mp4",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
)
READABLE = (*SUFFIXES, ".ppm", ".pgm", ".gif", ".jp2", ".tga")  # a .gif may hold one picture


class Jobs:
    """Pairs (source, destination) in order."""

    def __init__(self, pairs: list[tuple[str, str]]):
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    @staticmethod
    def exists(destination: str) -> bool:
        return os.path.exists(destination)

    @staticmethod
    def make_room(destination: str, overwrite: bool) -> None:
        """The folder of ``destination``. Raises UserError where that is there already, or cannot be made."""
        if os.path.exists(destination) and not overwrite:
            raise UserError(
                f"{destination}: exists already; choose --skip-existing, --overwrite or another name."
            )
        try:
            os.makedirs(os.path.dirname(destination) or ".", exist_ok=True)
        except OSError as error:
            raise UserError(f"{destination}: its folder cannot be made ({error.strerror}).") from error


def _found(entry: str, output: str) -> list[tuple[str, str]]:
    """(path, name relative to what was given) of the pictures that one INPUT stands for, hidden ones and those under OUT left out."""
    if os.path.isfile(entry):
        return [(entry, os.path.basename(entry))]
    if os.path.isdir(entry):
        inside, seen = [], set()
        for folder, folders, names in os.walk(entry, onerror=_refuse, followlinks=True):
            folders[:] = sorted(
                f for f in folders if not f.startswith(".") and not _same(os.path.join(folder, f), output)
            )
            if os.path.realpath(folder) in seen:  # a link that leads back
                folders[:] = []
                continue
            seen.add(os.path.realpath(folder))
            inside += [
                os.path.join(folder, name)
                for name in sorted(names)
                if name.lower().endswith(READABLE) and not name.startswith(".")
            ]
        if not inside:
            raise UserError(f"{entry}: there are no pictures in this folder.")
        return [(path, os.path.relpath(path, entry)) for path in inside]
    matched = sorted(path for path in glob.glob(entry, recursive=True) if os.path.isfile(path))
    if not matched:
        raise UserError(f"{entry}: there is no such picture, folder or pattern (looked from {os.getcwd()}).")
    return [(path, os.path.basename(path)) for path in matched]


def _refuse(error: OSError) -> None:
    raise UserError(
        f"{error.filename}: this folder cannot be read ({error.strerror}); leave it out or change its rights."
    ) from error


def _same(a: str, b: str) -> bool:
    return os.path.realpath(a) == os.path.realpath(b)


def jobs_of(inputs: list[str], output: str, format: str | None) -> Jobs:
    """The jobs of a command line.

    Args:
        output: a file, where one picture is given and this has a picture's suffix; else a folder.
        format: suffix of the results without the dot, or None for that of each input (.png where it cannot be written).

    Raises:
        UserError: for inputs that are not there, and for two pictures that would be written to one file.
    """
    found = list(dict.fromkeys(pair for entry in inputs for pair in _found(entry, output)))
    as_file = (
        len(found) == 1
        and len(inputs) == 1
        and not os.path.isdir(inputs[0])
        and output.lower().endswith(SUFFIXES)
    )
    if as_file:
        if format is not None and not output.lower().endswith(f".{format}"):
            raise UserError(f"-o {output} and --format {format}: give one of them.")
        pairs = [(found[0][0], output)]
    else:
        if output.lower().endswith(SUFFIXES):
            raise UserError(f"-o {output}: expected a folder, because there are {len(found)} pictures.")
        if output.lower().endswith(NOT_WRITTEN) and not os.path.isdir(output):
            raise UserError(
                f"-o {output}: expected a folder, or a name that ends in one of {', '.join(SUFFIXES)}."
            )
        if os.path.isfile(output):
            raise UserError(f"-o {output}: is a file; expected a folder.")
        pairs = [(path, os.path.join(output, _renamed(name, format))) for path, name in found]
    sources: dict[str, str] = {}
    for source, destination in pairs:
        other = sources.setdefault(destination, source)
        if other != source:
            raise UserError(
                f"{other} and {source} would both be written to {destination}; give each its own -o."
            )
        if _same(source, destination):
            raise UserError(f"{source}: would be written over itself; choose another -o.")
    return Jobs(pairs)


def _renamed(name: str, format: str | None) -> str:
    stem, suffix = os.path.splitext(name)
    if format is not None:
        return f"{stem}.{format}"
    return name if suffix.lower() in SUFFIXES else f"{stem}.png"
