"""Files of every kind are read as what they are and written so that other programs read the same pixels."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from conftest import picture
from liif_plugin.errors import UserError
from liif_plugin.pictures.jobs import jobs_of
from liif_plugin.pictures.reading import from_array, read_picture
from liif_plugin.pictures.writing import write_picture

ICC = bytes(range(256)) * 3


def bands(image, step=7):
    return (image[top : top + step] for top in range(0, len(image), step))


def sample(channels, dtype, h=41, w=300):
    rng = np.random.default_rng(channels)
    return rng.integers(0, np.iinfo(dtype).max + 1, (h, w, channels)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_other_programs_read_what_was_written(tmp_path, suffix, channels, dtype):
    image, path = sample(channels, dtype), str(tmp_path / f"a{suffix}")
    write_picture(path, bands(image), image.shape[:2], channels, dtype, icc=ICC)
    assert [file.name for file in tmp_path.iterdir()] == [f"a{suffix}"]
    if suffix == ".tif":
        read = tifffile.imread(path)
        assert tifffile.TiffFile(path).pages[0].iccprofile == ICC
    elif channels == 2 and dtype == np.uint16:  # neither Pillow nor OpenCV reads gray and alpha in 16 bits
        read = image[:, :, :1]
        assert Image.open(path).mode in ("LA", "RGBA")
    else:
        read = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        read = np.asarray(Image.open(path)) if channels == 2 else read if read.ndim == 2 else read[:, :, [2, 1, 0, 3][: read.shape[2]]]
        assert Image.open(path).info["icc_profile"] == ICC
    assert np.array_equal(read.reshape(41, 300, -1), image[:, :, : read.reshape(41, 300, -1).shape[2]])


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_formats_of_pillow(tmp_path, suffix):
    image, path = picture(0, 40, 60), str(tmp_path / f"a{suffix}")
    write_picture(path, bands(image), (40, 60), 3, np.uint8, icc=ICC, quality=100)
    read = Image.open(path)
    assert np.abs(np.asarray(read).astype(int) - image).mean() < 3 and (suffix == ".bmp" or read.info["icc_profile"] == ICC)


def test_nothing_is_left_of_a_failed_write(tmp_path):
    def broken():
        yield np.zeros((5, 10, 3), np.uint8)
        raise KeyboardInterrupt

    for suffix in (".png", ".tif", ".jpg"):
        with pytest.raises(KeyboardInterrupt):
            write_picture(str(tmp_path / f"a{suffix}"), broken(), (10, 10), 3, np.uint8)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, size, channels, words", [
    ("a.xyz", (9, 9), 3, "expected one of .png"), ("a", (9, 9), 3, "no suffix"), ("a.jpg", (9, 9), 4, "transparency"),
    ("a.webp", (9, 20000), 3, "16383"), ("a.jpg", (70000, 9), 3, "65500"), ("missing/a.png", (9, 9), 3, "cannot be written"),
])  # fmt: skip
def test_what_cannot_be_written(tmp_path, name, size, channels, words):
    with pytest.raises(UserError, match=words):
        write_picture(str(tmp_path / name), iter(()), size, channels, np.uint8)


def saved(tmp_path, image: Image.Image, name="a.png", **options) -> str:
    image.save(tmp_path / name, **options)
    return str(tmp_path / name)


def test_modes(tmp_path):
    rgb = Image.fromarray(picture(0, 20, 30))
    expected = {"RGB": (3, False), "L": (1, True), "1": (1, True), "LA": (2, True), "RGBA": (4, False), "P": (3, False), "CMYK": (3, False)}
    for mode, (channels, gray) in expected.items():
        read = read_picture(saved(tmp_path, rgb.convert("L").convert(mode) if mode == "LA" else rgb.convert(mode),
                                  "a.tif" if mode == "CMYK" else "a.png"))  # fmt: skip
        assert (read.channels, read.gray, read.size, read.colour.dtype) == (channels, gray, (20, 30), np.uint8), mode
    assert read_picture(saved(tmp_path, rgb.convert("P"), transparency=3)).channels == 4


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_stay(tmp_path, channels, suffix):
    image = sample(channels, np.uint16, 12, 14)
    if channels == 4:
        image[..., 3] |= 1  # nothing invisible: colours below it would be replaced
    path = str(tmp_path / f"a{suffix}")
    write_picture(path, [image], (12, 14), channels, np.uint16)
    read = read_picture(path)
    assert read.colour.dtype == np.uint16 and np.array_equal(read.colour, image[:, :, :3] if channels > 1 else image.repeat(3, 2))
    assert (read.alpha is None) if channels < 4 else np.array_equal(read.alpha, image[..., 3])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sixteen", [False, True])
def test_orientation(tmp_path, orientation, sixteen):
    """Pillow's own transposition is the truth, for both ways of reading."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, "a cat"
    shown = Image.fromarray(picture(1, 20, 30))
    path = saved(tmp_path, shown, exif=exif, icc_profile=ICC)
    truth = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    if sixteen:
        write_picture(path, [np.asarray(shown).astype(np.uint16) * 257], (20, 30), 3, np.uint16, ICC, exif.tobytes()[6:])
        truth = truth.astype(np.uint16) * 257
    read = read_picture(path)
    assert np.array_equal(read.colour, truth) and read.icc == ICC
    kept = Image.Exif()
    kept.load(b"Exif\0\0" + read.exif)
    assert kept[0x010E] == "a cat" and 0x0112 not in kept


def test_invisible_pixels_take_the_colour_of_their_neighbours():
    image = np.zeros((5, 6, 4), np.uint8)
    image[:, :3] = 200, 100, 50, 255
    assert np.array_equal(np.unique(from_array(image).colour.reshape(-1, 3), axis=0), [[200, 100, 50]])
    assert from_array(np.zeros((5, 6, 4), np.uint8)).colour.max() == 0  # nothing to see at all


def gif(tmp_path):
    frames = [Image.fromarray(picture(i, 9, 9)) for i in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    return "a.gif"


def bomb(tmp_path):
    data = io.BytesIO()
    Image.new("L", (1, 1)).save(data, "PNG")
    raw = bytearray(data.getvalue())
    raw[16:24] = struct.pack(">II", 60000, 60000)
    raw[29:33] = struct.pack(">I", zlib.crc32(bytes(raw[12:29])))
    (tmp_path / "a.png").write_bytes(raw)
    return "a.png"


def cut(tmp_path):
    saved(tmp_path, Image.fromarray(picture(0, 90, 90)))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    return "a.png"


def written(name, content):
    def write(tmp_path):
        (tmp_path / name).write_bytes(content)
        return name

    return write


@pytest.mark.parametrize("make, words", [
    (gif, "holds 3 pictures"), (bomb, "pixels"), (cut, "to the end|not an image"), (written("a.png", b""), "0 bytes"),
    (written("a.png", b"hello"), "not an image file"), (written("a.mp4", b"x"), "video; take its frames out"),
    (lambda _: "missing.png", "No such file"), (lambda _: ".", "cannot be read"),
])  # fmt: skip
def test_what_cannot_be_read(tmp_path, make, words):
    with pytest.raises(UserError, match=words):
        read_picture(str(tmp_path / make(tmp_path)))


def test_jobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/deep/b.JPG", "in/.hidden.png", "in/out/old.png", "in/notes.txt", "in/c.gif", "a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list(jobs_of(["in"], "in/out", None)) == [("in/a.png", "in/out/a.png"), ("in/c.gif", "in/out/c.png"),
                                                     ("in/deep/b.JPG", "in/out/deep/b.JPG")]  # fmt: skip
    assert list(jobs_of(["a.png"], "b.tif", None)) == [("a.png", "b.tif")]
    assert list(jobs_of(["in/*.png"], "o", "webp")) == [("in/a.png", "o/a.webp")]
    for inputs, output, format, words in (
        (["in"], "x.png", None, "expected a folder"), (["in/a.png", "a.png"], "o", None, "both be written"),
        (["a.png"], "a.png", None, "itself"), (["nothing*"], "o", None, "no such picture"),
        (["in"], "in/notes.txt", None, "is a file"), (["a.png"], "b.tif", "png", "give one of them"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            jobs_of(inputs, output, format)
