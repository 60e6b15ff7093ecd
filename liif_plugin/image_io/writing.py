"""Write an image file row by row: it is complete or absent. PNG and TIFF keep one band in memory."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np
from PIL import Image

from ..errors import UserError
from ..files import atomic_write
from . import png

PNG_LEVEL = 4  # of zlib: as fast as one core renders; level 9 makes files 2 % smaller
TIFF_TILE = 256
TIFF_ICC_PROFILE = 34675  # the tag InterColorProfile
JPEG_SEGMENT = 65_500  # EXIF data of more bytes do not fit into a JPEG
LIMITS = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}  # longest side that the format can hold
SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".webp", ".bmp")
_PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> colour type of the header
_PNG_FILTER_UP = 2  # a line is stored as its difference from the line above

Rows = Iterable[np.ndarray]  # (rows, W, channels) uint8 or uint16


def check_format(path: str, size: tuple[int, int], channels: int) -> None:
    """Raise UserError unless the format of ``path`` can hold an image.

    Args:
        path: a name that ends in one of ``SUFFIXES``.
        size: (H, W) of the image.
        channels: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SUFFIXES:
        raise UserError(
            f"{path}: cannot write '{suffix or 'no suffix'}'; expected one of {', '.join(SUFFIXES)}."
        )
    limit = LIMITS.get(suffix, (1 << 31) - 1)
    if max(size) > limit:
        raise UserError(
            f"{path}: a side of {max(size)} pixels is more than {suffix} holds ({limit}); write .png or .tif."
        )
    if channels in (2, 4) and suffix in (".jpg", ".jpeg", ".bmp"):
        raise UserError(f"{path}: {suffix} cannot hold transparency; write .png, .webp or .tif.")


def is_streamed(path: str) -> bool:
    """Whether the format of ``path`` is written row by row; these formats hold 16 bits a channel too."""
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
    colour_space: png.ColourSpace = (),
) -> None:
    """Write ``rows`` from the top; the file gets its name when it is whole.

    Args:
        path: the file to write; its suffix chooses the format.
        rows: arrays (rows, W, channels) of ``dtype``, H rows in all.
        size: (H, W).
        channels: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
        dtype: np.uint8, or np.uint16 for .png and .tif.
        icc: ICC profile; not kept in .bmp.
        exif: EXIF data without the mark 'Exif'; kept in .png, .jpg and .webp.
        quality: of JPEG and WebP, 1 to 100.
        colour_space: chunks of the PNG that was read; kept in .png.

    Raises:
        UserError: if the file cannot be written, for example on a full disk. Nothing is left of it, and an
            older file at ``path`` stays as it is.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "black.png")
        >>> bands = (np.zeros((10, 30, 3), np.uint8) for _ in range(2))
        >>> write_picture(path, bands, (20, 30), 3, np.uint8)
        >>> Image.open(path).size
        (30, 20)
    """
    check_format(path, size, channels)
    suffix = os.path.splitext(path)[1].lower()
    try:
        with atomic_write(path) as file:
            if suffix == ".png":
                _write_png(file, rows, size, channels, np.dtype(dtype), icc, exif, colour_space)
            elif is_streamed(path):
                _write_tiff(file, rows, size, channels, np.dtype(dtype), icc)
            else:
                _write_by_pillow(file, suffix, _joined(rows, size, channels), icc, exif, quality)
    except UserError:  # of atomic_write, or of whoever makes the rows
        raise
    except (ValueError, struct.error) as error:  # a library refuses what it is given
        raise UserError(f"{path}: cannot be written ({error}).") from error


def _write_png(
    file: IO[bytes],
    rows: Rows,
    size: tuple[int, int],
    channels: int,
    dtype: np.dtype,
    icc: bytes | None,
    exif: bytes | None,
    colour_space: png.ColourSpace,
) -> None:
    height, width = size
    file.write(png.SIGNATURE)
    # Width, height, bits, colour type; the only compression, filter method and no interlacing.
    header = (width, height, 8 * dtype.itemsize, _PNG_COLOUR_TYPES[channels], 0, 0, 0)
    png.write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", *header))
    # What the numbers mean stands before the pixels.
    for name, content in colour_space:
        png.write_chunk(file, name, content)
    if icc:
        png.write_chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    if exif:
        png.write_chunk(file, b"eXIf", exif)
    packer = zlib.compressobj(PNG_LEVEL)
    above = np.zeros((1, width * channels * dtype.itemsize), np.uint8)
    for band in rows:
        # Samples are big-endian; a line is its bytes from left to right.
        big_endian = np.ascontiguousarray(band.astype(dtype.newbyteorder(">"), copy=False))
        lines = big_endian.reshape(len(band), -1).view(np.uint8)
        # Each stored line begins with the number of its filter.
        filtered = np.empty((len(lines), lines.shape[1] + 1), np.uint8)
        filtered[:, 0] = _PNG_FILTER_UP
        np.subtract(lines, np.concatenate([above, lines[:-1]]), out=filtered[:, 1:])
        above = lines[-1:].copy()
        packed = packer.compress(filtered.data)
        if packed:
            png.write_chunk(file, b"IDAT", packed)
    png.write_chunk(file, b"IDAT", packer.flush())
    png.write_chunk(file, b"IEND", b"")


def _write_tiff(
    file: IO[bytes],
    rows: Rows,
    size: tuple[int, int],
    channels: int,
    dtype: np.dtype,
    icc: bytes | None,
) -> None:
    """Write a tiled TIFF, from 2 GB on a BigTIFF. EXIF data would need a directory of its own: left out."""
    import tifffile

    shape = tuple(size) if channels == 1 else (*size, channels)
    # By its number, because releases of tifffile before 2024 have no argument for it.
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


def _tiles(rows: Rows, width: int) -> Iterator[np.ndarray]:
    """Yield the tiles of an image line of tiles by line of tiles, as soon as its rows have come."""
    waiting: list[np.ndarray] = []
    for band in rows:
        waiting.append(band)
        while sum(map(len, waiting)) >= TIFF_TILE:
            joined = np.concatenate(waiting)
            yield from _line_of_tiles(joined[:TIFF_TILE], width)
            waiting = [joined[TIFF_TILE:]]
    if sum(map(len, waiting)):
        yield from _line_of_tiles(np.concatenate(waiting), width)


def _line_of_tiles(lines: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Cut lines (at most TIFF_TILE, W, channels) into tiles; the last ones repeat the border's pixels."""
    missing = TIFF_TILE - len(lines), -width % TIFF_TILE
    lines = np.pad(lines, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    for left in range(0, lines.shape[1], TIFF_TILE):
        tile = np.ascontiguousarray(lines[:, left : left + TIFF_TILE])
        yield tile[:, :, 0] if tile.shape[2] == 1 else tile


def _joined(rows: Rows, size: tuple[int, int], channels: int) -> np.ndarray:
    """Return the whole image: (H, W, channels) uint8."""
    whole = np.empty((*size, channels), np.uint8)
    top = 0
    for band in rows:
        whole[top : top + len(band)] = band
        top += len(band)
    return whole


def _write_by_pillow(
    file: IO[bytes], suffix: str, pixels: np.ndarray, icc: bytes | None, exif: bytes | None, quality: int
) -> None:
    """Write JPEG, WebP or BMP."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    segment = b"Exif\0\0" + exif if exif and len(exif) < JPEG_SEGMENT else b""
    metadata = {"icc_profile": icc, "exif": segment}
    if suffix == ".bmp":
        image.save(file, format="BMP")
    elif suffix == ".webp":
        image.save(file, format="WEBP", quality=quality, **metadata)
    else:
        image.save(file, format="JPEG", quality=quality, subsampling=0, **metadata)
