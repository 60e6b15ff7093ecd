"""Pack a folder of images into an LMDB in BasicSR's layout; an interruption costs nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import NamedTuple
from urllib.parse import quote

import cv2
import lmdb
import numpy as np
from tqdm import tqdm

from ..errors import UserError
from ..files import PARTIAL, atomic_write
from .image_source import EXTENSIONS, find_images, read_rgb
from .work_folder import SETTINGS, disk_errors, work_folder, worker_threads

# Keys with this beginning mark the files that are stored whole. They are deleted at the end.
DONE_KEY = "liif_prepare_done/"
FIRST_MAP_SIZE = 64 * 2**20  # bytes; doubled as often as needed
UNREAD_FORMAT = "its format is not read; convert it to PNG"


@dataclass(frozen=True)
class Cut:
    """Square sub-images at regular distances; the last one of a row or column ends at the border.

    Attributes:
        size: side of the sub-images in pixels.
        step: distance between the sub-images in pixels.

    Raises:
        UserError: if one of them is below 1.

    Example:
        >>> Cut(size=480, step=240).starts(1000)
        [0, 240, 480, 520]
    """

    size: int
    step: int

    def __post_init__(self):
        if self.size < 1 or self.step < 1:
            raise UserError(f"size and step: expected positive numbers, got {self.size} and {self.step}.")

    def starts(self, n: int) -> list[int]:
        """Return the first pixels of the windows along a side of ``n`` pixels.

        A side below ``size`` is one window.
        """
        last = max(n - self.size, 0)
        return sorted({*range(0, last + 1, self.step), last})


@dataclass
class Report:
    """What ``prepare_lmdb`` did.

    Attributes:
        sources: image files that were found.
        stored: images in the LMDB.
        unreadable: how many files of ``left_out`` could not be read.
        left_out: (file, reason) of every file that is not in the LMDB.
    """

    sources: int = 0
    stored: int = 0
    unreadable: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)


class Piece(NamedTuple):
    """One image of the LMDB: its key, the bytes of its BMP or PNG, and its shape (h, w, 3)."""

    key: str
    data: bytes
    shape: tuple[int, ...]


class _TooSmallError(Exception):
    """An image below the minimum size."""


def lmdb_key(name: str) -> str:
    """Return the LMDB key of a file name, quoted so that BasicSR reads it back.

    BasicSR cuts names at the first dot and splits lines at blanks.

    Example:
        >>> lmdb_key("train/a b.v2.png")
        'train/a%20b%2Ev2'
    """
    stem = os.path.splitext(name)[0].replace(os.sep, "/")
    return quote(stem, safe="/").replace(".", "%2E").replace("~", "%7E")


def _cut_pieces(image: np.ndarray, key: str, cut: Cut | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (key, pixels) of every sub-image, or of the whole image."""
    if cut is None:
        yield key, image
        return
    windows = [(y, x) for y in cut.starts(image.shape[0]) for x in cut.starts(image.shape[1])]
    for number, (y, x) in enumerate(windows, start=1):
        yield f"{key}_s{number:03d}", image[y : y + cut.size, x : x + cut.size]


def _encode(source: str, name: str, cut: Cut | None, min_size: int, level: int | None) -> list[Piece]:
    """Return all pieces of one file, as BMP, or as PNG of compression ``level``.

    Raises:
        UserError: if the file cannot be read.
        _TooSmallError: if a side is below ``min_size``.
    """
    path = os.path.join(source, name)
    image = read_rgb(path)
    if min(image.shape[:2]) < min_size:
        raise _TooSmallError(f"(height, width) = {image.shape[:2]} is below the minimum size {min_size}")
    kind, settings = (".bmp", []) if level is None else (".png", [cv2.IMWRITE_PNG_COMPRESSION, level])
    pieces = []
    for key, pixels in _cut_pieces(image, lmdb_key(name), cut):
        encoded, data = cv2.imencode(kind, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), settings)
        if not encoded:
            raise UserError(f"{path}: cannot be encoded as {kind[1:].upper()}.")
        pieces.append(Piece(key, data.tobytes(), pixels.shape))
    return pieces


def _write(env: lmdb.Environment, work: Callable[[lmdb.Transaction], None]) -> None:
    """Run ``work`` in one transaction. If the map is full, run it again in a larger one."""
    while True:
        try:
            with env.begin(write=True) as txn:
                return work(txn)
        except lmdb.MapFullError:
            env.set_mapsize(env.info()["map_size"] * 2)


def _done_key(name: str) -> bytes:
    return (DONE_KEY + lmdb_key(name)).encode()


def _store(env: lmdb.Environment, name: str, pieces: list[Piece]) -> None:
    """Store all pieces of the file ``name`` and the key that marks it as done, or nothing."""

    def work(txn: lmdb.Transaction) -> None:
        for piece in pieces:
            txn.put(piece.key.encode("ascii"), piece.data)
        txn.put(_done_key(name), json.dumps([[piece.key, piece.shape] for piece in pieces]).encode())

    _write(env, work)


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[str], list[Piece]], names: list[str]
) -> Iterator[tuple[str, Future]]:
    """Yield (name, future) in order. Few results wait at a time, so that memory stays bounded."""
    ahead = 2 * (os.cpu_count() or 1)
    rest = iter(names)
    waiting = [(name, pool.submit(work, name)) for name in islice(rest, ahead)]
    while waiting:
        yield waiting.pop(0)
        waiting += [(name, pool.submit(work, name)) for name in islice(rest, 1)]


def _check_keys_differ(source: str, names: list[str]) -> None:
    by_key: dict[str, str] = {}
    for name in names:
        other = by_key.setdefault(lmdb_key(name), name)
        if other != name:
            raise UserError(f"{source}: {other} and {name} would get the same key; rename one.")


def prepare_lmdb(
    source: str, output: str, cut: Cut | None, min_size: int = 1, png_level: int | None = None
) -> Report:
    """Write the images under ``source`` to the LMDB ``output``.

    The LMDB is written as ``.NAME.partial`` beside it, one transaction per file, and renamed when it is
    complete. Called again after an interruption, it continues.

    Args:
        source: a folder of images, searched with its subfolders.
        output: the LMDB to write, ``*.lmdb``.
        cut: sub-images to cut, or None for whole images.
        min_size: files with a smaller side are left out.
        png_level: None stores BMP, which decodes 15 times as fast as a PNG of level 0 and takes the same
            space; 0 to 9 store PNG of that compression.

    Raises:
        UserError: if ``source`` is missing, empty or unreadable, if ``output`` exists or is not called
            *.lmdb, if two files would get one key, if another command writes the same LMDB, or if the disk
            is full.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> folder = tempfile.mkdtemp()
        >>> os.mkdir(os.path.join(folder, "in"))
        >>> Image.new("RGB", (64, 48)).save(os.path.join(folder, "in", "a.png"))
        >>> report = prepare_lmdb(os.path.join(folder, "in"), os.path.join(folder, "out.lmdb"), Cut(32, 16))
        >>> report.sources, report.stored
        (1, 6)
    """
    # Refuse whatever cannot succeed before anything is written.
    output = output.rstrip("/")
    if not output.endswith(".lmdb"):
        raise UserError(f"{output}: expected a name that ends in .lmdb, which BasicSR needs.")
    if os.path.exists(output):
        raise UserError(f"{output}: exists already; delete it or choose another name.")
    names, others = require_images(source)
    _check_keys_differ(source, names)

    settings = {
        "source": os.path.abspath(source),
        "cut": None if cut is None else asdict(cut),
        "min_size": min_size,
        "png_level": png_level,
    }
    partial = os.path.join(os.path.dirname(output), f".{os.path.basename(output)}{PARTIAL}")
    with work_folder(partial, settings):
        with disk_errors(partial):
            report = _fill(partial, source, names, cut, min_size, png_level)
        report.left_out += [(name, UNREAD_FORMAT) for name in others]
        report.sources += len(others)
        report.unreadable += len(others)
        if not report.stored:
            shutil.rmtree(partial)
            reasons = "; ".join(f"{name}: {reason}" for name, reason in report.left_out[:3])
            raise UserError(f"{source}: none of {report.sources} images could be stored: {reasons}")
        try:
            os.rename(partial, output)
            # Not before the rename: if it is killed between the two, the next start must know its own work.
            os.remove(os.path.join(output, SETTINGS))
        except OSError as error:
            raise UserError(
                f"{output}: {partial} is whole, but cannot be renamed or tidied ({error}); rename it by hand."
            ) from error
    return report


def require_images(source: str) -> tuple[list[str], list[str]]:
    """Return what ``find_images`` returns for a folder that holds at least one image.

    Raises:
        UserError: if ``source`` is no folder, cannot be read, or holds no image.
    """
    if not os.path.isdir(source):
        found = "a file" if os.path.exists(source) else "nothing"
        raise UserError(f"{source}: expected a folder of images, found {found} (looked from {os.getcwd()}).")
    names, others = find_images(source)
    kinds = ", ".join(EXTENSIONS)
    if not names and others:
        raise UserError(
            f"{source}: holds no images of a format that is read ({kinds}), but {len(others)} others, such "
            f"as {others[0]}; convert them to PNG."
        )
    if not names:
        raise UserError(f"{source}: holds no images ({kinds}).")
    return names, others


def _fill(
    partial: str, source: str, names: list[str], cut: Cut | None, min_size: int, level: int | None
) -> Report:
    """Store the files that are not stored yet, and finish the LMDB."""
    report = Report(sources=len(names))
    env = lmdb.open(partial, map_size=FIRST_MAP_SIZE, readahead=False)
    try:
        with env.begin() as txn:
            remaining = [name for name in names if txn.get(_done_key(name)) is None]
        with worker_threads() as pool:
            futures = _in_order(pool, lambda name: _encode(source, name, cut, min_size, level), remaining)
            bar = tqdm(
                futures,
                total=len(names),
                initial=len(names) - len(remaining),
                unit="file",
                desc=os.path.basename(source),
                disable=None,
            )
            for name, future in bar:
                try:
                    pieces = future.result()
                except UserError as error:
                    report.unreadable += 1
                    report.left_out.append((name, str(error).split(": ", 1)[-1]))
                except _TooSmallError as reason:
                    report.left_out.append((name, str(reason)))
                else:
                    _store(env, name, pieces)
        report.stored = _finish(env, partial, names)
    finally:
        env.close()
    return report


def _finish(env: lmdb.Environment, partial: str, names: list[str]) -> int:
    """Write meta_info.txt, delete the marks of finished files, and return the number of stored images."""
    with env.begin() as txn:
        marks = [txn.get(_done_key(name)) for name in names]
    pieces = [piece for mark in marks if mark for piece in json.loads(mark)]
    with atomic_write(os.path.join(partial, "meta_info.txt"), text=True) as file:
        file.writelines(f"{key}.png ({h},{w},{c}) 1\n" for key, (h, w, c) in pieces)

    def delete_marks(txn: lmdb.Transaction) -> None:
        for name in names:
            txn.delete(_done_key(name))

    _write(env, delete_marks)
    env.sync(True)
    return len(pieces)
