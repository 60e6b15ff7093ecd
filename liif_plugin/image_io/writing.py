"""Rows of pixels, as they come -> a picture file that is whole or not there. PNG and TIFF hold one band of rows in memory."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from PIL import Image

from ..errors import UserError

PNG_LEVEL = 4  # of zlib: as fast as one core renders; level 9 saves 2 % more room
TIFF_TILE = 256
TIFF_ICC_PROFILE = 34675  # the tag InterColorProfile
LIMITS = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}  # longest side that the format can hold
SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".webp", ".bmp")
Rows = Iterable[np.ndarray]  # (rows, W, channels) uint8 or uint16


def check_format(path: str, size: tuple[int, int], channels: int) -> None:
    """Raise UserError unless the format of ``path``'s name can hold an image of ``size`` = (H, W) with ``channels``."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SUFFIXES:
        raise UserError(
            f"{path}: cannot write '{suffix or 'no suffix'}'; expected one of {', '.join(SUFFIXES)}."
        )
    limit = LIMITS.get(suffix, (1 << 31) - 1)
    if max(size) > limit:
        raise UserError(
            f"{path}: {size[1]} x {size[0]} is more than {suffix} holds ({limit} a side); write .png or .tif."
        )
    if channels in (2, 4) and suffix in (".jpg", ".jpeg", ".bmp"):
        raise UserError(f"{path}: {suffix} cannot hold transparency; write .png, .webp or .tif.")


def is_streamed(path: str) -> bool:
    """Whether the format of ``path``'s name is written row by row; these hold 16 bits a channel too."""
    return path.lower().endswith((".png", ".tif", ".tiff"))


def write_picture(
    path: str,
    rows: Rows,
    size: tuple[int, int],
    channels: int,
    dtype: type,
    icc: bytes | None = None,
    exif: bytes | None = None,
    quality: int = 95,
) -> None:
    """Write ``rows`` from the top under a temporary name and rename the file when it is whole.

    Args:
        rows: arrays (rows, W, channels); channels: gray, gray and alpha, RGB, RGB and alpha.
        dtype: np.uint8 or np.uint16; the latter for .png and .tif alone.
        quality: of JPEG and WebP.

    Raises:
        UserError: where it cannot be written, e.g. on a full disk; nothing is left behind.
    """
    check_format(path, size, channels)
    suffix = os.path.splitext(path)[1].lower()
    temporary = f"{path}.partial"
    write: Callable = {".png": _png, ".tif": _tiff, ".tiff": _tiff}.get(suffix, _by_pillow)
    try:
        with open(temporary, "wb") as file:
            write(
                file, rows, size, channels, np.dtype(dtype), icc, exif, {"suffix": suffix, "quality": quality}
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except UserError:  # from whoever makes the rows
        raise
    except (
        OSError,
        ValueError,
        struct.error,
    ) as error:  # the latter two: a library that refuses what it is given
        raise UserError(
            f"{path}: cannot be written ({getattr(error, 'strerror', None) or error}); make room or choose another folder."
        ) from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _chunk(file, name: bytes, data: bytes) -> None:
    file.write(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
    )


def _png(file, rows: Rows, size, channels: int, dtype: np.dtype, icc, exif, _) -> None:
    """PNG (ISO/IEC 15948): each line is stored as its difference from the line above (filter 2)."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    file.write(b"\x89PNG\r\n\x1a\n")
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], 8 * dtype.itemsize, kind, 0, 0, 0))
    if icc:
        _chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    if exif:
        _chunk(file, b"eXIf", exif)
    packer = zlib.compressobj(PNG_LEVEL)
    above = np.zeros((1, size[1] * channels * dtype.itemsize), np.uint8)
    for band in rows:
        lines = (
            np.ascontiguousarray(band.astype(dtype.newbyteorder(">"), copy=False))
            .reshape(len(band), -1)
            .view(np.uint8)
        )
        filtered = np.empty((len(lines), lines.shape[1] + 1), np.uint8)
        filtered[:, 0] = 2
        np.subtract(lines, np.concatenate([above, lines[:-1]]), out=filtered[:, 1:])
        above = lines[-1:].copy()
        packed = packer.compress(filtered)
        if packed:
            _chunk(file, b"IDAT", packed)
    _chunk(file, b"IDAT", packer.flush())
    _chunk(file, b"IEND", b"")


def _tiles(rows: Rows, width: int) -> Iterator[np.ndarray]:
    """Rows as they come -> tiles row by row, the last ones padded with the border's pixels."""
    waiting: list[np.ndarray] = []
    for band in rows:
        waiting.append(band)
        while sum(map(len, waiting)) >= TIFF_TILE:
            whole = np.concatenate(waiting)
            yield from _cut(whole[:TIFF_TILE], width)
            waiting = [whole[TIFF_TILE:]]
    if sum(map(len, waiting)):
        yield from _cut(np.concatenate(waiting), width)


def _cut(lines: np.ndarray, width: int) -> Iterator[np.ndarray]:
    missing = TIFF_TILE - len(lines), -width % TIFF_TILE
    lines = np.pad(lines, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    for left in range(0, lines.shape[1], TIFF_TILE):
        tile = np.ascontiguousarray(lines[:, left : left + TIFF_TILE])
        yield tile[:, :, 0] if tile.shape[2] == 1 else tile


def _tiff(file, rows: Rows, size, channels: int, dtype: np.dtype, icc, exif, _) -> None:
    """Tiled TIFF, BigTIFF from 2 GB on. EXIF data would need a directory of its own and is left out."""
    import tifffile

    shape = tuple(size) if channels == 1 else (*size, channels)
    # by its number, because releases of tifffile before 2024 have no argument for it
    profile = [(TIFF_ICC_PROFILE, 7, len(icc), icc, True)] if icc else ()
    tifffile.imwrite(
        file,
        _tiles(rows, size[1]),
        shape=shape,
        dtype=dtype,
        tile=(TIFF_TILE, TIFF_TILE),
        compression="zlib",
        extratags=profile,
        bigtiff=int(np.prod(shape)) * dtype.itemsize >= 1 << 31,
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        metadata=None,
    )


def _by_pillow(file, rows: Rows, size, channels: int, dtype: np.dtype, icc, exif, how: dict) -> None:
    """JPEG, WebP, BMP: the whole picture is held in memory."""
    whole = np.empty((*size, channels), np.uint8)
    top = 0
    for band in rows:
        whole[top : top + len(band)] = band
        top += len(band)
    image = Image.fromarray(whole[:, :, 0] if channels == 1 else whole)
    fits = exif and len(exif) < 65_500  # a segment of a JPEG
    extra = {"icc_profile": icc, "exif": b"Exif\0\0" + exif if fits else b""}
    if how["suffix"] == ".bmp":
        image.save(file, format="BMP")
    elif how["suffix"] == ".webp":
        image.save(file, format="WEBP", quality=how["quality"], **extra)
    else:
        image.save(file, format="JPEG", quality=how["quality"], subsampling=0, **extra)
