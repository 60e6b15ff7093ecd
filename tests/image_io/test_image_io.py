"""Files of every kind are read as what they are and written so that other programs read the same pixels."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from helpers.pictures import picture
from liif_plugin.errors import UserError
from liif_plugin.image_io import reading
from liif_plugin.image_io.paths import pair_paths
from liif_plugin.image_io.reading import from_array, read_picture
from liif_plugin.image_io.writing import write_picture

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
        assert tifffile.TiffFile(path).pages[0].tags["InterColorProfile"].value == ICC
    elif channels == 2 and dtype == np.uint16:  # neither Pillow nor OpenCV reads gray and alpha in 16 bits
        read = image[:, :, :1]
        assert Image.open(path).mode in ("LA", "RGBA")
    else:
        read = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        read = (
            np.asarray(Image.open(path))
            if channels == 2
            else read
            if read.ndim == 2
            else read[:, :, [2, 1, 0, 3][: read.shape[2]]]
        )
        assert Image.open(path).info["icc_profile"] == ICC
    assert np.array_equal(read.reshape(41, 300, -1), image[:, :, : read.reshape(41, 300, -1).shape[2]])


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_formats_of_pillow(tmp_path, suffix):
    image, path = picture(0, 40, 60), str(tmp_path / f"a{suffix}")
    write_picture(path, bands(image), (40, 60), 3, np.uint8, icc=ICC, quality=100)
    read = Image.open(path)
    assert np.abs(np.asarray(read).astype(int) - image).mean() < 3 and (
        suffix == ".bmp" or read.info["icc_profile"] == ICC
    )


def test_nothing_is_left_of_a_failed_write(tmp_path):
    def broken():
        yield np.zeros((5, 10, 3), np.uint8)
        raise KeyboardInterrupt

    for suffix in (".png", ".tif", ".jpg"):
        with pytest.raises(KeyboardInterrupt):
            write_picture(str(tmp_path / f"a{suffix}"), broken(), (10, 10), 3, np.uint8)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "size", "channels", "words"),
    [
        ("a.xyz", (9, 9), 3, "expected one of .png"),
        ("a", (9, 9), 3, "no suffix"),
        ("a.jpg", (9, 9), 4, "transparency"),
        ("a.webp", (9, 20000), 3, "16383"),
        ("a.jpg", (70000, 9), 3, "65500"),
        ("missing/a.png", (9, 9), 3, "cannot be written"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, size, channels, words):
    with pytest.raises(UserError, match=words):
        write_picture(str(tmp_path / name), iter(()), size, channels, np.uint8)


def saved(tmp_path, image: Image.Image, name="a.png", **options) -> str:
    image.save(tmp_path / name, **options)
    return str(tmp_path / name)


def test_modes(tmp_path):
    rgb = Image.fromarray(picture(0, 20, 30))
    expected = {
        "RGB": (3, False),
        "L": (1, True),
        "1": (1, True),
        "LA": (2, True),
        "RGBA": (4, False),
        "P": (3, False),
        "CMYK": (3, False),
    }
    for mode, (channels, gray) in expected.items():
        read = read_picture(
            saved(
                tmp_path,
                rgb.convert("L").convert(mode) if mode == "LA" else rgb.convert(mode),
                "a.tif" if mode == "CMYK" else "a.png",
            )
        )
        assert (read.channels, read.gray, read.size, read.colour.dtype) == (
            channels,
            gray,
            (20, 30),
            np.uint8,
        ), mode
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
    assert read.colour.dtype == np.uint16 and np.array_equal(
        read.colour, image[:, :, :3] if channels > 1 else image.repeat(3, 2)
    )
    assert (read.alpha is None) if channels < 4 else np.array_equal(read.alpha, image[..., 3])


def saved_tiff(path, image, **more):
    """Write a TIFF by tifffile, as scanners do: RGB or gray, with an alpha channel or without."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    alpha = {"extrasamples": more.pop("alpha", ["unassalpha"])} if channels in (2, 4) else {}
    tifffile.imwrite(
        path,
        image,
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        metadata=None,
        **alpha,
        **more,
    )
    return str(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_orientation_of_a_tiff(tmp_path, orientation, dtype):
    """Pillow turns one while it loads it, tifffile does not."""
    image = picture(1, 20, 30).astype(dtype) * dtype(1 if dtype == np.uint8 else 257)
    path = saved_tiff(tmp_path / "a.tif", image, extratags=[(0x0112, "H", 1, orientation, True)])
    exif = Image.Exif()
    exif[0x0112] = orientation
    truth = np.asarray(
        ImageOps.exif_transpose(Image.open(saved(tmp_path, Image.fromarray(picture(1, 20, 30)), exif=exif)))
    )
    assert np.array_equal(
        read_picture(path).colour, truth.astype(dtype) * dtype(1 if dtype == np.uint8 else 257)
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_tiff_with_lzw(tmp_path, channels):
    """What tifffile leaves to imagecodecs, which is not required: OpenCV reads it, alpha and gray stay."""
    image = sample(channels, np.uint16, 12, 14) | 1
    image = image[..., 0] if channels == 1 else image
    path = saved_tiff(tmp_path / "a.tif", image)
    if channels == 2:  # neither Pillow nor OpenCV knows it
        assert np.array_equal(read_picture(path).alpha, image[..., 1]) and read_picture(path).channels == 2
        return
    pixels = (
        image
        if channels < 3
        else cv2.cvtColor(image, cv2.COLOR_RGB2BGR if channels == 3 else cv2.COLOR_RGBA2BGRA)
    )
    assert cv2.imwrite(path, pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    assert tifffile.TiffFile(path).pages[0].compression == 5
    read = read_picture(path)
    assert read.channels == channels and np.array_equal(
        read.colour, image[..., :3] if channels > 1 else image[..., None].repeat(3, 2)
    )
    assert channels == 3 or read.alpha is None or np.array_equal(read.alpha, image[..., 3])


def test_associated_alpha_of_a_sixteen_bit_tiff(tmp_path):
    """Colours that were multiplied by the alpha channel come back, as far as rounding left them."""
    image = sample(4, np.uint16, 12, 14)
    image[..., 3] |= 1 << 14
    multiplied = image.copy()
    multiplied[..., :3] = np.round(image[..., :3] * (image[..., 3:] / 65535.0))
    read = read_picture(saved_tiff(tmp_path / "a.tif", multiplied, alpha=["assocalpha"]))
    assert np.abs(read.colour.astype(int) - image[..., :3]).max() <= 2 and np.array_equal(
        read.alpha, image[..., 3]
    )


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
        write_picture(
            path, [np.asarray(shown).astype(np.uint16) * 257], (20, 30), 3, np.uint16, ICC, exif.tobytes()[6:]
        )
        truth = truth.astype(np.uint16) * 257
    read = read_picture(path)
    assert np.array_equal(read.colour, truth) and read.icc == ICC
    kept = Image.Exif()
    kept.load(b"Exif\0\0" + read.exif)
    assert kept[0x010E] == "a cat" and 0x0112 not in kept


def test_sixteen_bit_tiffs_of_other_kinds(tmp_path):
    """One plane after another, and white as zero: both are read as black or as a negative by others."""
    image = sample(3, np.uint16, 12, 14)
    tifffile.imwrite(
        tmp_path / "planar.tif", np.moveaxis(image, -1, 0), photometric="rgb", planarconfig="separate"
    )
    assert np.array_equal(read_picture(str(tmp_path / "planar.tif")).colour, image)
    tifffile.imwrite(tmp_path / "white.tif", image[..., 0], photometric="miniswhite")
    assert np.array_equal(read_picture(str(tmp_path / "white.tif")).colour[..., 0], 65535 - image[..., 0])


def test_other_sixteen_bits(tmp_path):
    image = sample(2, np.uint16, 12, 14)
    image[..., 1] |= 1
    write_picture(str(tmp_path / "a.png"), [image], (12, 14), 2, np.uint16)
    read = read_picture(str(tmp_path / "a.png"))
    assert (
        read.channels == 2
        and np.array_equal(read.colour[..., 0], image[..., 0])
        and np.array_equal(read.alpha, image[..., 1])
    )
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 4095\n" + np.array([4095, 0], ">u2").tobytes())
    # 12 bits fill the range
    assert read_picture(str(tmp_path / "a.pgm")).colour[0, :, 0].tolist() == [65535, 0]


def test_metadata_describes_the_picture_and_not_the_file(tmp_path):
    """A TIFF's directory is its EXIF data too; where it lay in that file says nothing about the next one."""
    exif = Image.Exif()
    exif[0x010E] = "a cat"
    read = read_picture(saved(tmp_path, Image.fromarray(picture(0, 9, 9)), "a.tif", exif=exif))
    kept = Image.Exif()
    kept.load(b"Exif\0\0" + read.exif)
    assert kept[0x010E] == "a cat" and 0x0111 not in kept and 0x0100 not in kept
    exif[0x0110] = "x" * 70000  # more than a JPEG holds
    read = read_picture(saved(tmp_path, Image.fromarray(picture(0, 9, 9)), "b.tif", exif=exif))
    write_picture(str(tmp_path / "b.jpg"), [read.colour], (9, 9), 3, np.uint8, exif=read.exif)


def test_metadata_that_cannot_be_read_is_no_reason_to_refuse(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.fromarray(picture(0, 9, 9)))
    monkeypatch.setattr(Image.Exif, "tobytes", lambda self, offset=8: {}["wrong type"])
    assert read_picture(path).exif is None


def test_a_turned_picture_with_a_broken_resolution(tmp_path):
    """Pillow's exif_transpose would write the metadata anew, and fails."""
    # Orientation; a text
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHI", 0x011A, 2, 4) + b"abc\0"
    broken = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    shown, good = Image.fromarray(picture(1, 20, 30)), Image.Exif()
    good[0x0112] = 6
    path = saved(tmp_path, shown, "broken.jpg", exif=broken)
    with pytest.raises(TypeError):
        ImageOps.exif_transpose(Image.open(path))
    truth = ImageOps.exif_transpose(Image.open(saved(tmp_path, shown, "good.jpg", exif=good)))
    assert np.array_equal(read_picture(path).colour, truth)


def test_sixteen_bit_colour_in_ppm_is_refused(tmp_path):
    """Pillow would read it as 8 bits."""
    (tmp_path / "a.ppm").write_bytes(b"P6\n# a comment\n2 1\n65535\n" + bytes(12))
    with pytest.raises(UserError, match="16-bit colour in PPM; save it as PNG or TIFF"):
        read_picture(str(tmp_path / "a.ppm"))


def test_mutated_files(tmp_path):
    """300 damaged files of seven kinds: read, or refused in one sentence."""
    image, rng, refused = Image.fromarray(picture(0, 24, 30)), np.random.default_rng(0), 0
    exif = Image.Exif()
    exif[0x010F], exif[reading.ORIENTATION] = "maker", 6
    kinds = [saved(tmp_path, image, f"a{suffix}", exif=exif) for suffix in (".png", ".jpg", ".tif", ".webp")]
    kinds += [saved(tmp_path, image, "a.bmp"), saved(tmp_path, image.convert("P"), "a.gif")]
    write_picture(str(tmp_path / "deep.tif"), [sample(3, np.uint16, 9, 9)], (9, 9), 3, np.uint16)
    for path in [*kinds, str(tmp_path / "deep.tif")]:
        whole = np.fromfile(path, np.uint8)
        for _ in range(43):
            broken = whole.copy()
            at = rng.integers(0, min(len(whole), 400), rng.integers(1, 8))
            broken[at] = rng.integers(0, 256, len(at))
            target = tmp_path / f"broken{path[path.rindex('.') :]}"
            target.write_bytes(
                broken[: rng.integers(10, len(broken))].tobytes() if rng.random() < 0.3 else broken.tobytes()
            )
            try:
                read = read_picture(str(target))
            except UserError as error:
                refused += 1
                sentence = str(error)
            else:
                sentence = str(target)
                assert read.colour.ndim == 3
            assert str(target) in sentence
    assert refused > 100


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


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (gif, "holds 3 pictures"),
        (bomb, "pixels"),
        (cut, "to the end|not an image"),
        (written("a.png", b""), "0 bytes"),
        (written("a.png", b"hello"), "not an image file"),
        (written("a.mp4", b"x"), "got a video. Extract its frames"),
        (lambda _: "missing.png", "No such file"),
        (lambda _: ".", "cannot be read"),
    ],
)
def test_what_cannot_be_read(tmp_path, make, words):
    with pytest.raises(UserError, match=words):
        read_picture(str(tmp_path / make(tmp_path)))


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "in/a.png",
        "in/deep/b.JPG",
        "in/.hidden.png",
        "in/out/old.png",
        "in/notes.txt",
        "in/c.gif",
        "a.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert pair_paths(["in"], "in/out", None) == [
        ("in/a.png", "in/out/a.png"),
        ("in/c.gif", "in/out/c.png"),
        ("in/deep/b.JPG", "in/out/deep/b.JPG"),
    ]
    assert pair_paths(["a.png"], "b.tif", None) == [("a.png", "b.tif")]
    assert len(pair_paths(["a.png", "a.png"], "o", None)) == 1
    (tmp_path / "in" / "deep" / "loop").symlink_to(tmp_path / "in")
    assert len(pair_paths(["in/deep"], "in/out", None)) == 3  # through the link, once
    (tmp_path / "in" / "deep" / "loop").unlink()
    assert pair_paths(["in/*.png"], "o", "webp") == [("in/a.png", "o/a.webp")]
    for inputs, output, format, words in (
        (["in"], "x.png", None, "expected a folder"),
        (["in/a.png", "a.png"], "o", None, "both be written"),
        (["a.png"], "a.png", None, "itself"),
        (["nothing*"], "o", None, "found no such file"),
        (["in"], "in/notes.txt", None, "is a file"),
        (["a.png"], "b.tif", "png", "give one of them"),
    ):
        with pytest.raises(UserError, match=words):
            pair_paths(inputs, output, format)


@pytest.mark.parametrize("quality", [30, 50, 75, 89, 90, 98])
def test_the_quality_of_a_jpeg(tmp_path, quality):
    Image.fromarray(picture(0, 40, 48)).save(tmp_path / "a.jpg", quality=quality)
    assert abs(read_picture(tmp_path / "a.jpg").jpeg_quality - quality) <= 1
    Image.fromarray(picture(0, 40, 48)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").jpeg_quality is None
