"""Folders of images -> an LMDB in BasicSR's layout, written so that an interruption costs nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from urllib.parse import quote

import cv2
import lmdb
import numpy as np
from tqdm import tqdm

from ..errors import UserError
from .image_source import decode_rgb, list_images


@dataclass(frozen=True)
class Cut:
    """Windows of ``size`` every ``step`` pixels; the last one of a row or column ends at the border."""

    size: int
    step: int

    def __post_init__(self):
        if self.size < 1 or self.step < 1:
            raise UserError(
                f"--crop-size and --step: expected positive numbers, got {self.size} and {self.step}."
            )

    def starts(self, n: int) -> list[int]:
        """First pixels of the windows along a side of ``n`` pixels; a side below ``size`` is one window."""
        last = max(n - self.size, 0)
        return sorted({*range(0, last + 1, self.step), last})


@dataclass
class Report:
    """What ``prepare_lmdb`` did. left_out: (file, reason); unreadable: how many of them are no whole images."""

    sources: int = 0
    stored: int = 0
    unreadable: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)


def lmdb_key(name: str) -> str:
    """A file name -> an LMDB key that BasicSR reads back: ASCII, no blanks, no dots (it cuts names at the first dot)."""
    stem = os.path.splitext(name)[0].replace(os.sep, "/")
    return quote(stem, safe="/").replace(".", "%2E").replace("~", "%7E")


def _pieces(image: np.ndarray, key: str, cut: Cut | None) -> Iterator[tuple[str, np.ndarray]]:
    if cut is None:
        yield key, image
        return
    windows = [(y, x) for y in cut.starts(image.shape[0]) for x in cut.starts(image.shape[1])]
    for number, (y, x) in enumerate(windows, start=1):
        yield f"{key}_s{number:03d}", image[y : y + cut.size, x : x + cut.size]


def _encode(
    source: str, name: str, cut: Cut | None, min_size: int, level: int | None
) -> list[tuple[str, bytes, tuple]] | str:
    """All pieces of one file as (key, BMP or PNG bytes, shape), or the reason why it is left out."""
    path = os.path.join(source, name)
    with open(path, "rb") as file:
        image = decode_rgb(file.read(), path)
    if min(image.shape[:2]) < min_size:
        return f"{image.shape[0]} x {image.shape[1]} is below --min-size {min_size}"
    kind, settings = (".bmp", []) if level is None else (".png", [cv2.IMWRITE_PNG_COMPRESSION, level])
    pieces = []
    for key, piece in _pieces(image, lmdb_key(name), cut):
        done, stored = cv2.imencode(kind, cv2.cvtColor(piece, cv2.COLOR_RGB2BGR), settings)
        if not done:
            raise UserError(f"{path}: cannot be encoded as {kind[1:].upper()}.")
        pieces.append((key, stored.tobytes(), piece.shape))
    return pieces


def _write(env: lmdb.Environment, work: Callable[[lmdb.Transaction], None]) -> None:
    """Run ``work`` in one transaction; where the map is full, in a map twice as large. Deleting needs room too."""
    while True:
        try:
            with env.begin(write=True) as txn:
                return work(txn)
        except lmdb.MapFullError:
            env.set_mapsize(env.info()["map_size"] * 2)


def _put(env: lmdb.Environment, pieces: list[tuple[str, bytes, tuple]], mark: str) -> None:
    """Store all pieces of one file and its mark, or none."""

    def store(txn: lmdb.Transaction) -> None:
        for key, png, _ in pieces:
            txn.put(key.encode("ascii"), png)
        txn.put(mark.encode(), json.dumps([[key, shape] for key, _, shape in pieces]).encode())

    _write(env, store)


def _in_order(pool: ThreadPoolExecutor, work, names: list[str], ahead: int) -> Iterator:
    """(name, future) in order, with at most ``ahead`` results waiting, so that memory stays bounded."""
    rest = iter(names)
    waiting = [(name, pool.submit(work, name)) for name in islice(rest, ahead)]
    while waiting:
        yield waiting.pop(0)
        waiting += [(name, pool.submit(work, name)) for name in islice(rest, 1)]


def begin_partial(partial: str, settings: dict) -> None:
    """A new partial folder for an output, or one that was begun with the same settings.

    Raises:
        UserError: for one of other settings, or where it cannot be written.
    """
    note = os.path.join(partial, "settings.json")
    try:
        os.makedirs(partial, exist_ok=True)
        if not set(os.listdir(partial)) - {
            "settings.json.partial"
        }:  # new, or killed before anything was in it
            with open(f"{note}.partial", "w", encoding="utf-8") as file:
                json.dump(settings, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(f"{note}.partial", note)
            return
    except OSError as error:
        raise UserError(
            f"{partial}: cannot be written ({error}); make room and give the same command again."
        ) from error
    try:
        with open(note, encoding="utf-8") as file:
            begun = json.load(file)
    except (OSError, ValueError):
        begun = None
    if begun != settings:
        raise UserError(
            f"{partial}: was begun from other images or with other settings; delete that folder to start anew."
        )


@contextlib.contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """One thread for each core; an error or Ctrl-C waits for what is running and drops what is only waiting."""
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


MARK = "liif_prepare_done/"  # keys of our bookkeeping; removed at the end


def prepare_lmdb(
    source: str, output: str, cut: Cut | None, min_size: int = 1, png_level: int | None = None
) -> Report:
    """Write the images under ``source`` to the LMDB ``output``.

    Written as ``.NAME.partial`` beside it, one transaction per file, and renamed when whole; called again after an interruption
    it goes on.

    Args:
        cut: sub-images to cut, or None for whole images.
        min_size: files with a smaller side are left out.
        png_level: None stores BMP, which decodes 15 times as fast as a PNG of level 0 in the same room; 0 to 9 store PNG.

    Raises:
        UserError: for a missing or empty folder, an output that exists or is not called *.lmdb, two files with one key, a full disk.
    """
    output = output.rstrip("/")
    if not os.path.isdir(source):
        raise UserError(f"{source}: expected a folder of images, there is none.")
    if not output.endswith(".lmdb"):
        raise UserError(f"-o {output}: BasicSR wants a name that ends in .lmdb.")
    if os.path.exists(output):
        raise UserError(f"-o {output}: exists already; delete it or choose another name.")
    names = list_images(source)
    if not names:
        raise UserError(f"{source}: holds no images (png, jpg, bmp, tif, webp, ppm).")
    by_key: dict[str, str] = {}
    for name in names:
        other = by_key.setdefault(lmdb_key(name), name)
        if other != name:
            raise UserError(f"{source}: {other} and {name} would get the same key; rename one.")
    partial = os.path.join(os.path.dirname(output), f".{os.path.basename(output)}.partial")
    settings = {
        "source": os.path.abspath(source),
        "cut": cut and asdict(cut),
        "min_size": min_size,
        "png_level": png_level,
    }
    begin_partial(partial, settings)
    try:
        report = _fill(partial, source, names, cut, min_size, png_level)
    except (lmdb.Error, OSError) as error:
        raise UserError(
            f"{partial}: cannot be written ({error}); make room and give the same command again."
        ) from error
    if not report.stored:
        shutil.rmtree(partial)
        reasons = "; ".join(f"{name}: {reason}" for name, reason in report.left_out[:3])
        raise UserError(f"{source}: none of {len(names)} images could be stored: {reasons}")
    try:
        os.rename(partial, output)
        os.remove(
            os.path.join(output, "settings.json")
        )  # not before: killed between the two, the next start would not know its own work
    except OSError as error:
        raise UserError(
            f"{output}: {partial} is whole, but cannot be renamed or tidied ({error}); rename it by hand."
        ) from error
    return report


def _fill(
    partial: str, source: str, names: list[str], cut: Cut | None, min_size: int, level: int | None
) -> Report:
    report = Report(sources=len(names))
    env = lmdb.open(partial, map_size=64 * 2**20, readahead=False)
    try:
        with env.begin() as txn:
            done = {name for name in names if txn.get((MARK + lmdb_key(name)).encode())}
        with threads() as pool:
            ahead = 2 * (os.cpu_count() or 1)
            work = _in_order(
                pool,
                lambda name: _encode(source, name, cut, min_size, level),
                [n for n in names if n not in done],
                ahead,
            )
            for name, future in tqdm(
                work,
                total=len(names),
                initial=len(done),
                unit="file",
                desc=os.path.basename(source),
                disable=None,
            ):
                try:
                    result = future.result()
                except UserError as error:
                    report.unreadable += 1
                    result = str(error).split(": ", 1)[-1]
                if isinstance(result, str):
                    report.left_out.append((name, result))
                else:
                    _put(env, result, MARK + lmdb_key(name))
        report.stored = _finish(env, partial, names)
    finally:
        env.close()
    return report


def _finish(env: lmdb.Environment, partial: str, names: list[str]) -> int:
    """Write meta_info.txt, take our marks out, and return the number of stored images."""
    with env.begin() as txn:
        marks = [txn.get((MARK + lmdb_key(name)).encode()) for name in names]
    pieces = [piece for mark in marks if mark for piece in json.loads(mark)]
    with open(os.path.join(partial, "meta_info.txt"), "w", encoding="utf-8") as file:
        file.writelines(f"{key}.png ({h},{w},{c}) 1\n" for key, (h, w, c) in pieces)
        file.flush()
        os.fsync(file.fileno())

    def take_marks_out(txn: lmdb.Transaction) -> None:
        for name in names:
            txn.delete((MARK + lmdb_key(name)).encode())

    _write(env, take_marks_out)
    env.sync(True)
    return len(pieces)
