"""Read an image file into arrays: bit depth, transparency, colour profile and metadata are kept.

Pillow reads most files. It would read colours of 16 bits as 8 bits: tifffile and OpenCV read those.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageFile
from scipy import ndimage

from ..errors import UserError
from . import png

MAX_PIXELS = 400_000_000  # a header that promises more is taken for a decompression bomb
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "DIB", "PPM", "GIF")  # none that runs a program, as EPS does
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
ORIENTATION = 0x0112  # EXIF tag
# Tags that describe the picture and not the file it was in: description, maker, model, resolution (three
# tags), software, date, artist, copyright, details of the exposure, place.
DESCRIPTIVE = {270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, 34665, 34853}
LIBJPEG_STEPS = 3688  # sum of libjpeg's table of luminance steps, which is that of quality 50
ASSOCIATED_ALPHA = 1  # TIFF: the colours are multiplied by the alpha channel
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2  # TIFF: photometric interpretations
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TURNS = {2: (1, 0), 3: (0, 2), 4: (1, 2), 5: (1, 1), 6: (0, 3), 7: (1, 3), 8: (0, 1)}


@dataclass(frozen=True)
class Picture:
    """An image as the network takes it, and what its file said besides.

    Attributes:
        colour: (H, W, 3) uint8 or uint16, RGB. A gray image has three equal channels.
        alpha: (H, W) of the same dtype, 0 is invisible; None if the file had no transparency.
        gray: whether the file had one colour channel; the result is then written with one.
        icc: the ICC profile as it was found.
        exif: the descriptive EXIF data without the mark 'Exif'. The orientation is applied and taken out.
        colour_space: the chunks of a PNG file that say which colours its numbers stand for.
        jpeg_quality: of a JPEG file, 1 to 100, estimated; None for other files.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    gray: bool = False
    icc: bytes | None = None
    exif: bytes | None = None
    colour_space: png.ColourSpace = ()
    jpeg_quality: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.colour.shape[:2]

    @property
    def channels(self) -> int:
        """Channels of the file: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha."""
        return (1 if self.gray else 3) + (self.alpha is not None)


def read_picture(path: str | os.PathLike) -> Picture:
    """Read an image file.

    Args:
        path: a PNG, JPEG, TIFF, WebP, BMP, PPM or GIF file that holds one picture.

    Raises:
        UserError: for a file that is missing, not a regular file, damaged, a video, an animation, of a kind
            that cannot be read without loss, or larger than ``MAX_PIXELS``.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "gray.png")
        >>> Image.new("L", (30, 20), color=128).save(path)
        >>> picture = read_picture(path)
        >>> picture.size, picture.channels, picture.colour.shape, picture.colour.dtype
        ((20, 30), 1, (20, 30, 3), dtype('uint8'))
    """
    data = _read_bytes(path)
    with _quiet_pillow():
        try:
            image = _open(data, str(path))
        except UserError:
            # Pillow does not open some 16-bit TIFFs, such as gray with alpha.
            picture = _tiff_unknown_to_pillow(data)
            if picture is None:
                raise
            return picture
        try:
            return _decode(data, image)
        except Exception as error:  # a truncated file, a damaged stream, a kind of pixels that nothing reads
            raise UserError(
                f"{path}: its pixels cannot be read to the end ({error}); replace or remove it."
            ) from error


def _read_bytes(path: str | os.PathLike) -> bytes:
    """Return the content of a regular file: a named pipe or a device would make the caller wait forever."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(
                f"{path}: cannot be read (expected an image file, found a folder, pipe or device)."
            )
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Replace Pillow's limit of pixels by our own, and silence its warnings about metadata."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _open(data: bytes, name: str) -> ImageFile.ImageFile:
    """Open an image file and check its header; its pixels are not decoded yet."""
    if name.lower().endswith(VIDEOS):
        raise UserError(
            f"{name}: expected a picture, got a video. Extract its frames (ffmpeg -i {name} frames/%06d.png) "
            "and enlarge their folder."
        )
    try:
        Image.init()  # registers the formats under their names
        image = Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
        frames = getattr(image, "n_frames", 1)
    except Exception as error:  # Pillow raises many types
        raise UserError(
            f"{name}: not an image file that can be read ({len(data)} bytes); replace or remove it."
        ) from error
    if image.width * image.height > MAX_PIXELS:
        raise UserError(
            f"{name}: has {image.width * image.height / 1e6:,.0f} megapixels, more than the "
            f"{MAX_PIXELS // 10**6} that are read; cut it first."
        )
    # A JPEG with more pictures behind it (MPO), as phones and stereo cameras write, opens as its first one.
    if frames > 1 and image.format != "MPO":
        raise UserError(
            f"{name}: holds {frames} pictures (an animation or pages); save them as single files first."
        )
    return image


def _decode(data: bytes, image: ImageFile.ImageFile) -> Picture:
    """Decode the pixels and the metadata of a file that ``_open`` has opened. Raises many types."""
    png.check_checksums(data)
    # Pillow takes the orientation out of a TIFF while it loads it, so ask before.
    orientation, icc = orientation_of(image), profile_of(image)
    if image.format == "PPM":
        _refuse_deep_colour(image)
    image.load()
    if image.format == "PNG":
        _correct_transparent_gray(data, image)
    pixels = sixteen_bit_pixels(data, image, orientation)
    if pixels is None:
        if image.mode in ("I", "F"):
            raise ValueError(f"expected 8 or 16 bits per channel, got Pillow's mode {image.mode}")
        pixels = upright(image)
    colour_space = png.colour_space(data) if image.format == "PNG" else ()
    picture = replace(from_array(pixels), icc=icc, exif=description_of(image), colour_space=colour_space)
    tables = getattr(image, "quantization", None)  # of JPEG files alone
    return replace(picture, jpeg_quality=_jpeg_quality(tables[0])) if tables else picture


def _jpeg_quality(table: Sequence[int]) -> int:
    """Return the quality, 1 to 100, that belongs to a table of luminance steps.

    libjpeg multiplies its table by 50/quality up to 50 and by 2 - quality/50 from there on. Other programs
    have other tables; this is then the quality of a libjpeg table with as large steps on average.
    """
    factor = sum(table) / LIBJPEG_STEPS
    quality = 100 - 50 * factor if factor < 1 else 50 / factor
    return min(100, max(1, round(quality)))


def _refuse_deep_colour(image: ImageFile.ImageFile) -> None:
    """Raise ValueError for a PPM of more than 8 bits a colour, which Pillow would read as 8 bits."""
    _, _, _, arguments = image.tile[0]  # of the decoder: (mode, largest value) unless the samples are bytes
    if image.mode == "RGB" and isinstance(arguments, tuple) and arguments[1] > 255:
        raise ValueError("16-bit colour in PPM; save it as PNG or TIFF")


def _correct_transparent_gray(data: bytes, image: Image.Image) -> None:
    """Scale the transparent gray value of a 1-, 2- or 4-bit PNG as Pillow scales the pixels, to 8 bits.

    Pillow compares the unscaled value with the scaled pixels, and finds no pixel transparent; since 12.1 it
    scales that of 1 bit itself.
    """
    bits, kind = png.header(data)
    if kind == png.GRAY and bits < 8 and "transparency" in image.info:
        image.info["transparency"] = png.transparent_gray(data) * (255 // (2**bits - 1))


def _tiff_unknown_to_pillow(data: bytes) -> Picture | None:
    """Read a 16-bit TIFF that Pillow does not open; None for anything else."""
    if not is_tiff(data):
        return None
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page, tags = file.pages[0], file.pages[0].tags
            if len(file.pages) > 1 or page.imagewidth * page.imagelength > MAX_PIXELS:
                return None
            orientation, icc = (
                tags[tag].value if tag in tags else None for tag in ("Orientation", "InterColorProfile")
            )
        pixels = tiff_pixels(data, int(orientation or 1))
    except Exception:  # then no library reads it
        return None
    return None if pixels is None else replace(from_array(pixels), icc=icc)


def upright(image: Image.Image) -> np.ndarray:
    """Return the pixels that a Pillow image shows, its orientation applied.

    Returns:
        (H, W), (H, W, 2), (H, W, 3) or (H, W, 4) uint8; (H, W) uint16 for 16-bit gray.

    Raises:
        ValueError: for pixels of other depths.
    """
    # Pillow turns a TIFF while it loads it
    orientation = 1 if image.format == "TIFF" else orientation_of(image)
    pixels = np.asarray(_plain_mode(image))
    if image.mode in ("I", "F"):
        # Pillow before 10.3 reads 16-bit gray PNGs in mode I.
        if image.mode == "F" or not 0 <= pixels.min(initial=0) <= pixels.max(initial=0) <= 65535:
            raise ValueError(f"expected 8 or 16 bits per channel, got Pillow's mode {image.mode}")
        pixels = pixels.astype(np.uint16)
    return turned(pixels, orientation)


def _plain_mode(image: Image.Image) -> Image.Image:
    """Convert to the mode L, LA, RGB or RGBA that holds everything ``image`` shows; deeper gray stays."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return image
    gray = image.mode in ("1", "L", "LA", "La")
    transparent = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    mode = ("L" if gray else "RGB") + ("A" if transparent else "")
    return image if image.mode == mode else image.convert(mode)


def from_array(pixels: np.ndarray) -> Picture:
    """Make a Picture of an array.

    Args:
        pixels: (H, W) gray, or (H, W, C): gray, gray and alpha, RGB, RGB and alpha. uint8 or uint16.

    Example:
        >>> from_array(np.zeros((20, 30, 4), np.uint8)).channels
        4
    """
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    gray, transparent = pixels.shape[2] < 3, pixels.shape[2] in (2, 4)
    colour = pixels[:, :, :1].repeat(3, axis=2) if gray else pixels[:, :, :3]
    if not transparent:
        return Picture(np.ascontiguousarray(colour), None, gray)
    alpha = np.ascontiguousarray(pixels[:, :, -1])
    return Picture(np.ascontiguousarray(fill_transparent(colour, alpha)), alpha, gray)


def fill_transparent(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Give invisible pixels the colour of the nearest visible one.

    Edges would otherwise be mixed with a colour that nobody sees.

    Args:
        colour: (H, W, 3).
        alpha: (H, W), 0 is invisible.
    """
    if alpha.all() or not alpha.any():
        return colour
    index = ndimage.distance_transform_edt(alpha == 0, return_distances=False, return_indices=True)
    return colour[tuple(index)]


def profile_of(image: Image.Image) -> bytes | None:
    """Return the colour profile of ``image`` if it still holds after ``upright``.

    The profile of a CMYK, Lab or YCbCr image describes a colour space that the conversion to RGB leaves.
    """
    return None if image.mode in ("CMYK", "LAB", "YCbCr") else image.info.get("icc_profile")


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of ``image``, 1 to 8; 1 if there is none or it cannot be read."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata breaks Pillow in many ways, and is no reason to refuse a picture
        return 1


def description_of(image: Image.Image) -> bytes | None:
    """Return the EXIF data that describe the picture, without the mark 'Exif'; None if there are none.

    The other tags are taken out of ``image``.
    """
    try:
        exif = image.getexif()
        for tag in [tag for tag in exif if tag not in DESCRIPTIVE]:
            del exif[tag]
        return exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else None
    except Exception:  # as above
        return None


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation (1 to 8) to an array (H, W, ...): mirror it, then turn it by quarters."""
    mirror, quarter_turns = _TURNS.get(orientation, (0, 0))
    return np.rot90(image[:, ::-1] if mirror else image, quarter_turns)


def sixteen_bit_pixels(data: bytes, image: Image.Image, orientation: int) -> np.ndarray | None:
    """Return the pixels of a 16-bit file, upright: (H, W) or (H, W, 2 to 4) uint16; None for other depths.

    Args:
        data: the whole file.
        image: the same file as Pillow has opened it.
        orientation: its EXIF orientation.

    Raises:
        ValueError: for a kind of 16-bit file that no library at hand reads rightly.
    """
    if image.format == "TIFF":
        return tiff_pixels(data, orientation)
    if image.format == "PPM" and image.mode == "I":
        return turned(np.asarray(image).astype(np.uint16), orientation)  # Pillow scales to 65535
    if image.format == "PNG" and png.header(data)[0] == 16:
        return turned(_png_pixels(data, image), orientation)
    return None


def _png_pixels(data: bytes, image: Image.Image) -> np.ndarray:
    if "transparency" in image.info:
        raise ValueError("16 bits with one colour declared transparent; save it with an alpha channel")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError("its 16-bit samples cannot be decoded")
    if png.header(data)[1] == png.GRAY_ALPHA:
        return pixels[:, :, [0, 3]]
    return _rgb_order(pixels)


def _rgb_order(pixels: np.ndarray) -> np.ndarray:
    """Reorder what OpenCV has read: (H, W) stays, BGR becomes RGB, BGRA becomes RGBA."""
    if pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def is_tiff(data: bytes) -> bool:
    """Whether ``data`` begins as a TIFF or BigTIFF file does."""
    return data[:4] in _TIFF_MARKS


def tiff_pixels(data: bytes, orientation: int) -> np.ndarray | None:
    """Return the pixels of a 16-bit TIFF, upright: (H, W) or (H, W, 2 to 4) uint16; None for other depths.

    Raises:
        ValueError: for colours other than gray and RGB, or more than one channel besides them.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        if page.dtype != np.uint16:
            return None
        _check_channels(page)
        planar = page.samplesperpixel > 1 and page.planarconfig == 2
        try:
            image = page.asarray()
            image = turned(np.moveaxis(image, 0, -1) if planar else image, orientation)
        except ValueError:
            # A compression for which tifffile needs imagecodecs. OpenCV knows some, and turns the image.
            if planar or page.photometric == WHITE_IS_ZERO:
                raise
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if decoded is None or decoded.dtype != np.uint16:
                raise
            image = _rgb_order(decoded)
    if page.photometric == WHITE_IS_ZERO:
        image = image.reshape(*image.shape[:2], -1)
        image = np.concatenate([65535 - image[:, :, :1], image[:, :, 1:]], axis=2)
    if ASSOCIATED_ALPHA in getattr(page, "extrasamples", ()) and image.ndim == 3:
        return _unmultiplied(image)
    return image


def _check_channels(page: tifffile.TiffPage) -> None:
    """Raise ValueError unless a page holds gray or RGB, with one alpha channel at most."""
    if page.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        raise ValueError(
            f"16-bit TIFF of the kind {tifffile.PHOTOMETRIC(page.photometric).name}; save it as RGB"
        )
    colours = 3 if page.photometric == RGB else 1
    if page.samplesperpixel not in (colours, colours + 1):
        raise ValueError(
            f"16-bit TIFF of {page.samplesperpixel} channels; expected {colours}, or {colours + 1} with alpha"
        )


def _unmultiplied(pixels: np.ndarray) -> np.ndarray:
    """Divide the colours of (H, W, 2 or 4) uint16 by the alpha channel that they were multiplied by."""
    colour, alpha = pixels[:, :, :-1], pixels[:, :, -1:].astype(np.float32)
    divided = np.zeros(colour.shape, np.float32)
    np.divide(colour * np.float32(65535), alpha, out=divided, where=alpha > 0)
    return np.concatenate([divided.round().clip(0, 65535).astype(np.uint16), pixels[:, :, -1:]], axis=2)
