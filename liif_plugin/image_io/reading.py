"""Read an image file into arrays: bit depth, transparency, colour profile and metadata are kept."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import tifffile
from PIL import Image, ImageFile
from scipy import ndimage

from ..errors import UserError
from . import png
from .metadata import description_of, orientation_of, profile_of
from .sixteen_bits import is_tiff, sixteen_bit_pixels, tiff_pixels, turned

MAX_PIXELS = 400_000_000  # a header that promises more is taken for a decompression bomb
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "DIB", "PPM", "GIF")  # none that runs a program, as EPS does
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


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
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    gray: bool = False
    icc: bytes | None = None
    exif: bytes | None = None
    colour_space: png.ColourSpace = ()

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
                f"{path}: its pixels cannot be read to the end ({error}); replace it or take it out."
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
            f"{name}: is a video; take its frames out (ffmpeg -i {name} frames/%06d.png), "
            "enlarge the folder, join them again."
        )
    try:
        Image.init()  # registers the formats under their names
        image = Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
        frames = getattr(image, "n_frames", 1)
    except Exception as error:  # Pillow raises many types
        raise UserError(
            f"{name}: not an image file that can be read ({len(data)} bytes); replace it or take it out."
        ) from error
    if image.width * image.height > MAX_PIXELS:
        raise UserError(
            f"{name}: {image.width} x {image.height} are more than {MAX_PIXELS // 10**6} megapixels; "
            "cut it first."
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
    return replace(from_array(pixels), icc=icc, exif=description_of(image), colour_space=colour_space)


def _refuse_deep_colour(image: ImageFile.ImageFile) -> None:
    """Raise ValueError for a PPM of more than 8 bits a colour, which Pillow would read as 8 bits."""
    _, _, _, arguments = image.tile[0]  # of the decoder: (mode, largest value) unless the samples are bytes
    if image.mode == "RGB" and isinstance(arguments, tuple) and arguments[1] > 255:
        raise ValueError("16-bit colour in PPM; save it as PNG or TIFF")


def _correct_transparent_gray(data: bytes, image: Image.Image) -> None:
    """Scale the transparent gray value of a 2- or 4-bit PNG as Pillow scales the pixels, to 8 bits.

    Pillow compares the unscaled value with the scaled pixels, and finds no pixel transparent.
    """
    bits, kind = png.header(data)
    if kind == png.GRAY and bits in (2, 4) and "transparency" in image.info:
        image.info["transparency"] *= 255 // (2**bits - 1)


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
    orientation = (
        1 if image.format == "TIFF" else orientation_of(image)
    )  # Pillow turns a TIFF while it loads it
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
