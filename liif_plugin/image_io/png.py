"""The chunks of PNG files (ISO/IEC 15948): checksums, bit depth and colour space, which Pillow hides."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, GRAY_ALPHA = 0, 4  # colour types of the header
COLOUR_SPACE = (b"cICP", b"gAMA", b"cHRM", b"sRGB")
# What these chunks say of sRGB, the space that every program assumes where a file says nothing.
_GAMMA_OF_SRGB = 45455
_PRIMARIES_OF_SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_CODE_POINTS_OF_SRGB = (1, 13, 0, 1)

ColourSpace = tuple[tuple[bytes, bytes], ...]  # (name, content) of the chunks in COLOUR_SPACE


def is_png(data: bytes) -> bool:
    """Whether ``data`` begins as a PNG file does."""
    return data[:8] == SIGNATURE


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name, content) of every chunk of a PNG file, from IHDR to IEND.

    Raises:
        ValueError: if the checksum of a chunk is wrong, or if the file ends before IEND.
    """
    position, name = len(SIGNATURE), b""
    while name != b"IEND":
        # length (4 bytes), name (4), content, checksum of name and content (4)
        end = position + 12
        if end <= len(data):
            length, name = struct.unpack_from(">I4s", data, position)
            end += length
        if end > len(data):
            raise ValueError("the PNG file ends early")
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != checksum:
            raise ValueError(f"the checksum of a PNG chunk is wrong at byte {position}; the file is damaged")
        yield name, data[position + 8 : end - 4]
        position = end


def check_checksums(data: bytes) -> None:
    """Raise ValueError if ``data`` is a PNG file that is damaged; any other kind of file passes.

    Pillow does not compare the checksums of the pixels: it would read a damaged file as a wrong picture.

    Example:
        >>> from io import BytesIO
        >>> from PIL import Image
        >>> file = BytesIO()
        >>> Image.new("RGB", (9, 9)).save(file, "PNG")
        >>> whole = file.getvalue()
        >>> check_checksums(whole)
        >>> check_checksums(whole.replace(b"IDAT", b"IDAT!"))
        Traceback (most recent call last):
        ValueError: the checksum of a PNG chunk is wrong at byte 33; the file is damaged
    """
    if is_png(data):
        for _ in chunks(data):
            pass


def header(data: bytes) -> tuple[int, int]:
    """Return (bits of a sample, colour type) of a PNG file whose header is whole."""
    return data[24], data[25]


def transparent_gray(data: bytes) -> int:
    """Return the gray value that the chunk tRNS of a gray PNG file declares transparent, as it is stored."""
    value = next(content for name, content in chunks(data) if name == b"tRNS")
    return struct.unpack_from(">H", value)[0] & (2 ** header(data)[0] - 1)


def colour_space(data: bytes) -> ColourSpace:
    """Return the chunks of a PNG file that say which colours its numbers stand for."""
    return tuple((name, content) for name, content in chunks(data) if name in COLOUR_SPACE)


def is_srgb(space: ColourSpace) -> bool:
    """Whether nothing is lost if ``space`` is not written: it says sRGB, or nothing."""
    for name, content in space:
        if name == b"gAMA":
            same = len(content) == 4 and abs(struct.unpack(">I", content)[0] - _GAMMA_OF_SRGB) <= 1
        elif name == b"cHRM":
            same = len(content) == 32 and all(
                abs(value - of_srgb) <= 50
                for value, of_srgb in zip(struct.unpack(">8I", content), _PRIMARIES_OF_SRGB)
            )
        elif name == b"cICP":
            same = tuple(content) == _CODE_POINTS_OF_SRGB
        else:
            same = True
        if not same:
            return False
    return True


def write_chunk(file: IO[bytes], name: bytes, content: bytes) -> None:
    """Write one chunk: its length, name, content and checksum."""
    checksum = zlib.crc32(content, zlib.crc32(name))
    file.write(struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum))
