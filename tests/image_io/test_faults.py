"""Files that were once read or written wrongly without a word: damaged, of odd channels, of other colours."""

import io
import os
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.pictures import picture
from liif_plugin.errors import UserError
from liif_plugin.image_io import png
from liif_plugin.image_io.reading import read_picture
from liif_plugin.image_io.writing import write_picture


def png_bytes(image: np.ndarray) -> bytes:
    """By OpenCV, RGB or gray, 8 or 16 bits."""
    done, data = cv2.imencode(".png", image)
    assert done
    return data.tobytes()


@pytest.mark.parametrize("depth", [8, 16])
def test_one_flipped_bit_of_a_png_is_noticed(tmp_path, depth):
    """Pillow reads such a file as a wrong picture, or (16 bits) as another depth."""
    rng = np.random.default_rng(depth)
    image = rng.integers(0, 1 << depth, (40, 50, 3)).astype(np.uint8 if depth == 8 else np.uint16)
    whole, path = png_bytes(image), tmp_path / "a.png"
    path.write_bytes(whole)
    assert np.array_equal(read_picture(path).colour, image[:, :, ::-1])
    for position in rng.integers(8, len(whole), 60):
        broken = bytearray(whole)
        broken[position] ^= 1 << rng.integers(0, 8)
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"a.png: (its pixels cannot be read|not an image|has .* mega)"):
            read_picture(path)


def test_a_damaged_text_is_noticed_and_bytes_after_the_end_are_not(tmp_path):
    """Every chunk has a checksum, whether it comes before or after the pixels."""
    data = png_bytes(picture(0, 9, 9))
    text = io.BytesIO()
    png.write_chunk(text, b"tEXt", b"Comment\0hello")
    path = tmp_path / "a.png"
    for whole in (data[:33] + text.getvalue() + data[33:], data[:-12] + text.getvalue() + data[-12:]):
        path.write_bytes(whole + b"more")
        assert read_picture(path).size == (9, 9)
        path.write_bytes(whole.replace(b"hello", b"jello"))
        with pytest.raises(UserError, match=r"checksum|not an image"):
            read_picture(path)


def small_png(bits: int, kind: int, line: bytes, width: int, extra: bytes) -> bytes:
    """A PNG of one line, made by hand."""
    file = io.BytesIO()
    file.write(png.SIGNATURE)
    png.write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0))
    file.write(extra)
    png.write_chunk(file, b"IDAT", zlib.compress(b"\0" + line))
    png.write_chunk(file, b"IEND", b"")
    return file.getvalue()


def transparent(value: int) -> bytes:
    file = io.BytesIO()
    png.write_chunk(file, b"tRNS", struct.pack(">H", value))
    return file.getvalue()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_gray_value_of_any_depth(tmp_path, bits):
    """ISO/IEC 15948, 11.3.2: the pixels whose sample equals that of tRNS are invisible, the others opaque."""
    values = np.arange(min(1 << bits, 16))
    digits = "".join(format(value, f"0{bits}b") for value in values)
    digits += "0" * (-len(digits) % 8)
    line = bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits), 8))
    for clear in (0, 1):
        path = tmp_path / "a.png"
        path.write_bytes(small_png(bits, png.GRAY, line, len(values), transparent(clear)))
        read = read_picture(path)
        assert np.array_equal(read.alpha[0], np.where(values == clear, 0, 255)), (bits, clear)
        visible = values != clear
        assert np.array_equal(read.colour[0, visible, 0], (values * (255 // ((1 << bits) - 1)))[visible])


@pytest.mark.parametrize(
    ("channels", "kind", "extra"),
    [
        (5, "rgb", ["unassalpha", "unspecified"]),
        (5, "rgb", ["unspecified", "unassalpha"]),
        (6, "rgb", ["unspecified"] * 3),
        (3, "minisblack", ["unassalpha", "unspecified"]),
        (4, "minisblack", ["unspecified"] * 3),
    ],
)
def test_sixteen_bit_tiffs_with_more_channels_are_refused(tmp_path, channels, kind, extra):
    """Reading the first three would lose the alpha channel or show other data as colours."""
    image = np.random.default_rng(0).integers(0, 65536, (6, 7, channels)).astype(np.uint16)
    for layout in ("contig", "separate"):
        stored = image if layout == "contig" else np.moveaxis(image, -1, 0)
        tifffile.imwrite(
            tmp_path / "a.tif",
            stored,
            photometric=kind,
            planarconfig=layout,
            extrasamples=extra,
            metadata=None,
        )
        with pytest.raises(UserError, match=r"a.tif"):
            read_picture(tmp_path / "a.tif")


def test_white_as_zero_turns_the_gray_and_not_the_alpha(tmp_path):
    image = np.random.default_rng(0).integers(1, 65536, (6, 7, 2)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        image,
        photometric="miniswhite",
        planarconfig="contig",
        extrasamples=["unassalpha"],
    )
    read = read_picture(tmp_path / "a.tif")
    assert np.array_equal(read.colour[..., 0], 65535 - image[..., 0])
    assert np.array_equal(read.alpha, image[..., 1])


SPACES = {
    "gamma of 1": ((b"gAMA", struct.pack(">I", 100000)),),
    "primaries of P3": (
        (b"gAMA", struct.pack(">I", 45455)),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
    ),
    "PQ": ((b"cICP", bytes([9, 16, 0, 1])),),
    "sRGB": (
        (b"gAMA", struct.pack(">I", 45455)),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        (b"sRGB", b"\0"),
    ),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", SPACES)
def test_the_colour_space_of_a_png_is_kept(tmp_path, name, dtype):
    """The numbers stay as they are, and so does what they mean."""
    image = picture(0, 12, 14).astype(dtype) * dtype(1 if dtype == np.uint8 else 257)
    first, second = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    write_picture(first, [image], (12, 14), 3, dtype, colour_space=SPACES[name])
    read = read_picture(first)
    assert np.array_equal(read.colour, image) and read.colour_space == SPACES[name]
    write_picture(second, [read.colour], read.size, 3, dtype, colour_space=read.colour_space)
    seen = Image.open(second)  # an outside reader knows what stands there
    seen.load()
    for chunk, content in SPACES[name]:
        if chunk == b"gAMA":
            assert seen.info["gamma"] == struct.unpack(">I", content)[0] / 100000
        if chunk == b"cHRM":
            expected = tuple(value / 100000 for value in struct.unpack(">8I", content))
            assert seen.info["chromaticity"] == expected
        if chunk == b"sRGB":
            assert seen.info["srgb"] == 0
    if dtype == np.uint8:
        assert np.array_equal(np.asarray(seen), image)
    assert png.is_srgb(read.colour_space) == (name == "sRGB")


def test_a_named_pipe_is_not_opened(tmp_path):
    """Opening one waits for a writer, who may never come."""
    os.mkfifo(tmp_path / "a.png")
    errors = []

    def read():
        try:
            read_picture(tmp_path / "a.png")
        except UserError as error:
            errors.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive() and "expected an image file" in errors[0]


def test_what_stands_at_a_temporary_name_stays(tmp_path):
    """NAME.partial may be a folder, a link or somebody's file: none is touched, the picture is written."""
    (tmp_path / "folder.png.partial").mkdir()
    (tmp_path / "victim").write_text("important")
    (tmp_path / "link.png.partial").symlink_to(tmp_path / "victim")
    (tmp_path / "file.png.partial").write_text("mine")
    before = set(os.listdir(tmp_path))
    image = picture(0, 9, 9)
    for name in ("folder", "link", "file"):
        write_picture(str(tmp_path / f"{name}.png"), [image], (9, 9), 3, np.uint8)
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"{name}.png")), image)
    assert set(os.listdir(tmp_path)) == before | {"folder.png", "link.png", "file.png"}
    assert (tmp_path / "victim").read_text() == "important"
    assert (tmp_path / "file.png.partial").read_text() == "mine"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_two_runs_with_one_output(tmp_path, suffix):
    """The rows of two pictures come in turns: the file is one of them, whole."""
    path = str(tmp_path / f"a{suffix}")
    black, white = np.zeros((20, 9, 3), np.uint8), np.full((20, 9, 3), 255, np.uint8)

    def rows():
        yield black[:10]
        write_picture(path, [white[:10], white[10:]], (20, 9), 3, np.uint8)
        assert np.asarray(Image.open(path)).min() >= 250
        yield black[10:]

    write_picture(path, rows(), (20, 9), 3, np.uint8)
    assert np.asarray(Image.open(path)).max() <= 5 and os.listdir(tmp_path) == [f"a{suffix}"]


def test_a_jpeg_with_more_pictures_behind_it_opens_as_its_first(tmp_path):
    """As phones write them (MPO)."""
    first, second = Image.fromarray(picture(0, 16, 24)), Image.fromarray(picture(1, 16, 24))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert Image.open(tmp_path / "a.jpg").n_frames == 2
    assert np.array_equal(read_picture(tmp_path / "a.jpg").colour, np.asarray(Image.open(tmp_path / "a.jpg")))
