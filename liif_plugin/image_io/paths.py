"""Which image files are read, and where each result is written."""

from __future__ import annotations

import glob
import os

from ..errors import UserError
from .writing import SUFFIXES

READABLE = (*SUFFIXES, ".ppm", ".pgm", ".gif")  # a .gif may hold one picture
# Names that somebody may give for a result, and that would otherwise become a folder of that name.
NOT_WRITTEN = (
    *(".gif", ".jp2", ".tga", ".ppm", ".pgm", ".avif", ".heic", ".svg", ".pdf", ".psd"),
    *(".mp4", ".mov", ".mkv", ".webm", ".avi"),
)


def pair_paths(inputs: list[str], output: str, format: str | None = None) -> list[tuple[str, str]]:
    """Pair each picture with the file that its result is written to.

    Args:
        inputs: files, folders (searched with their sub-folders) and patterns.
        output: a file, if there is one picture and this has the suffix of an image; else a folder.
        format: suffix of the results without the dot. None keeps that of each input, or takes .png if it
            cannot be written.

    Returns:
        (source, destination) in order.

    Raises:
        UserError: for an input that is not there, and for two pictures that would be written to one file.
    """
    found = list(dict.fromkeys(pair for entry in inputs for pair in _pictures_of(entry, output)))
    is_image_name = output.lower().endswith(SUFFIXES)
    if len(found) == 1 and len(inputs) == 1 and not os.path.isdir(inputs[0]) and is_image_name:
        if format is not None and not output.lower().endswith(f".{format}"):
            raise UserError(f"output {output} and format {format} differ; give one of them.")
        pairs = [(found[0][0], output)]
    else:
        _check_folder(output, len(found))
        pairs = [(path, os.path.join(output, _result_name(name, format))) for path, name in found]
    _check_collisions(pairs)
    return pairs


def make_folder_of(path: str) -> None:
    """Make the folder that ``path`` lies in. Raise UserError if it cannot be made."""
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: its folder cannot be made ({error.strerror}).") from error


def _pictures_of(entry: str, output: str) -> list[tuple[str, str]]:
    """Return (path, name relative to ``entry``) of the pictures that one input stands for."""
    if os.path.isfile(entry):
        return [(entry, os.path.basename(entry))]
    if os.path.isdir(entry):
        inside = _pictures_in(entry, output)
        if not inside:
            raise UserError(f"{entry}: there are no pictures in this folder.")
        return [(path, os.path.relpath(path, entry)) for path in inside]
    matched = sorted(path for path in glob.glob(entry, recursive=True) if os.path.isfile(path))
    if not matched:
        raise UserError(
            f"{entry}: expected a picture, a folder or a pattern, found no such file "
            f"(looked from {os.getcwd()})."
        )
    return [(path, os.path.basename(path)) for path in matched]


def _pictures_in(root: str, output: str) -> list[str]:
    """Return the paths of the pictures under ``root``, without hidden ones and those under ``output``."""
    inside, seen = [], set()
    for folder, folders, names in os.walk(root, onerror=_refuse, followlinks=True):
        if os.path.realpath(folder) in seen:  # a link that leads back
            folders[:] = []
            continue
        seen.add(os.path.realpath(folder))
        # os.walk descends into what is left in this list, in its order.
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not _is_same(os.path.join(folder, name), output)
        )
        inside += [
            os.path.join(folder, name)
            for name in sorted(names)
            if name.lower().endswith(READABLE) and not name.startswith(".")
        ]
    return inside


def _refuse(error: OSError) -> None:
    raise UserError(
        f"{error.filename}: this folder cannot be read ({error.strerror}); leave it out or change its rights."
    ) from error


def _is_same(a: str, b: str) -> bool:
    return os.path.realpath(a) == os.path.realpath(b)


def _check_folder(output: str, pictures: int) -> None:
    """Raise UserError unless ``output`` can be a folder."""
    if output.lower().endswith(SUFFIXES):
        raise UserError(f"{output}: expected a folder, because there are {pictures} pictures.")
    if output.lower().endswith(NOT_WRITTEN) and not os.path.isdir(output):
        raise UserError(f"{output}: expected a folder, or a name that ends in one of {', '.join(SUFFIXES)}.")
    if os.path.isfile(output):
        raise UserError(f"{output}: is a file; expected a folder.")


def _check_collisions(pairs: list[tuple[str, str]]) -> None:
    """Raise UserError if two pictures have one destination, or if one is its own destination."""
    sources: dict[str, str] = {}
    for source, destination in pairs:
        other = sources.setdefault(destination, source)
        if other != source:
            raise UserError(
                f"{other} and {source} would both be written to {destination}; "
                "give each an output of its own."
            )
        if _is_same(source, destination):
            raise UserError(f"{source}: would be written over itself; choose another output.")


def _result_name(name: str, format: str | None) -> str:
    stem, suffix = os.path.splitext(name)
    if format is not None:
        return f"{stem}.{format}"
    return name if suffix.lower() in SUFFIXES else f"{stem}.png"
