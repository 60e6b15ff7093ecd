"""A picture file -> arrays that lose nothing: bit depth, transparency, colour profile and metadata are kept."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

from ..errors import UserError
from .metadata import description_of, orientation_of, profile_of

MAX_PIXELS = 400_000_000  # a header that promises more is taken for a decompression bomb
FORMATS = (
    "PNG",
    "JPEG",
    "MPO",
    "TIFF",
    "WEBP",
    "BMP",
    "DIB",
    "PPM",
    "GIF",
    "JPEG2000",
    "TGA",
)  # none that runs a program, as EPS does
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
ASSOCIATED_ALPHA = 1  # TIFF: the colours are multiplied by it
_TURNS = {
    2: (1, 0),
    3: (0, 2),
    4: (1, 2),
    5: (1, 1),
    6: (0, 3),
    7: (1, 3),
    8: (0, 1),
}  # tag -> (mirror first, quarter turns)


@dataclass(frozen=True)
class Picture:
    """colour: (H, W, 3) uint8 or uint16 RGB. alpha: (H, W) of the same type, or None. gray: the file had one channel.
    icc, exif: as found, the orientation applied and taken out; exif without its 'Exif' mark.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    gray: bool = False
    icc: bytes | None = None
    exif: bytes | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.colour.shape[:2]

    @property
    def channels(self) -> int:
        """Channels of the file: 1, 2, 3 or 4."""
        return (1 if self.gray else 3) + (self.alpha is not None)


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Our own limit instead of Pillow's, and no warnings about metadata."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _opened(data: bytes, name: str) -> Image.Image:
    """The file's header, checked."""
    if name.lower().endswith(VIDEOS):
        raise UserError(
            f"{name}: is a video; take its frames out (ffmpeg -i {name} frames/%06d.png), enlarge the folder, join them again."
        )
    try:
        Image.init()  # else the formats are not known by name
        image = Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
        frames = (
            1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        )  # MPO: a JPEG with more behind it, as stereo cameras write
    except Exception as error:  # Pillow has many ways to say no
        raise UserError(
            f"{name}: not an image file that can be read ({len(data)} bytes); replace it or take it out."
        ) from error
    if image.width * image.height > MAX_PIXELS:
        raise UserError(
            f"{name}: {image.width} x {image.height} are more than {MAX_PIXELS // 10**6} megapixels; cut it first."
        )
    if frames > 1:
        raise UserError(
            f"{name}: holds {frames} pictures (an animation or pages); save them as single files first."
        )
    return image


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """What EXIF asks for, on an array (H, W, ...)."""
    mirror, quarter_turns = _TURNS.get(orientation, (0, 0))
    return np.rot90(image[:, ::-1] if mirror else image, quarter_turns)


def _rgb_order(pixels: np.ndarray) -> np.ndarray:
    """What OpenCV has read, (H, W), (H, W, 3) BGR or (H, W, 4) BGRA, in the usual order."""
    return (
        pixels
        if pixels.ndim == 2
        else cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    )


def _sixteen_bit_tiff(data: bytes, orientation: int) -> np.ndarray | None:
    """(H, W) or (H, W, 2 to 4) uint16, upright, or None for other depths."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        if page.dtype != np.uint16:
            return None
        if page.photometric not in (0, 1, 2):
            raise ValueError(f"16-bit TIFF of the kind {page.photometric.name}")
        planar = page.samplesperpixel > 1 and page.planarconfig == 2
        try:
            image = page.asarray()
            image = _turned(np.moveaxis(image, 0, -1) if planar else image, orientation)
        except (
            ValueError
        ):  # a compression that needs imagecodecs; OpenCV knows some, and turns the picture by itself
            if planar or page.photometric == 0:
                raise
            image = _rgb_order(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    image = 65535 - image if page.photometric == 0 else image
    return (
        _divided(image)
        if ASSOCIATED_ALPHA in getattr(page, "extrasamples", ()) and image.ndim == 3
        else image
    )


def _tiff_unknown_to_pillow(data: bytes) -> Picture | None:
    """A 16-bit TIFF that Pillow does not open, such as gray with alpha; None for anything else."""
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page, tags = file.pages[0], file.pages[0].tags
            if len(file.pages) > 1 or page.imagewidth * page.imagelength > MAX_PIXELS:
                return None
            orientation, icc = (
                tags[tag].value if tag in tags else None for tag in ("Orientation", "InterColorProfile")
            )
        pixels = _sixteen_bit_tiff(data, int(orientation or 1))
    except Exception:  # then it is not an image for anybody
        return None
    return None if pixels is None else replace(from_array(pixels), icc=icc)


def _divided(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 2 or 4) uint16 whose colours were multiplied by the alpha channel -> the colours themselves."""
    alpha = pixels[:, :, -1:].astype(np.float32)
    colour = np.divide(
        pixels[:, :, :-1] * np.float32(65535),
        alpha,
        out=np.zeros(pixels[:, :, :-1].shape, np.float32),
        where=alpha > 0,
    )
    return np.concatenate([colour.round().clip(0, 65535).astype(np.uint16), pixels[:, :, -1:]], axis=2)


def _sixteen_bits(data: bytes, image: Image.Image, orientation: int) -> np.ndarray | None:
    """The pixels of a 16-bit file, (H, W) or (H, W, 2 to 4), upright, or None for any other; Pillow reads 16-bit colour as 8 bits."""
    if image.format == "TIFF":
        return _sixteen_bit_tiff(data, orientation)
    pixels = _sixteen_bits_as_stored(data, image)
    return None if pixels is None else _turned(pixels, orientation)


def _sixteen_bits_as_stored(data: bytes, image: Image.Image) -> np.ndarray | None:
    if image.format == "PPM":
        largest = re.match(rb"P6(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+(\d+)", data)
        if largest is not None and int(largest[1]) > 255:
            raise ValueError("16-bit colour in PPM; save it as PNG or TIFF")
        return (
            np.asarray(image).astype(np.uint16) if image.mode == "I" else None
        )  # scaled from any largest value to 65535
    if image.format not in ("PNG", "JPEG2000"):
        return None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        return None
    if "transparency" in image.info:
        raise ValueError("16 bits with one colour declared transparent; save it with an alpha channel")
    if pixels.ndim == 2:
        return pixels
    gray = image.format == "PNG" and data[25] == 4  # the colour type in the header
    return pixels[:, :, [0, 3]] if gray else _rgb_order(pixels)


def upright(image: Image.Image) -> np.ndarray:
    """What a Pillow image shows, its orientation applied: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4) uint8; (H, W) uint16.

    Raises:
        ValueError: for pixels of other depths.
    """
    turn = 1 if image.format == "TIFF" else orientation_of(image)  # Pillow turns a TIFF while it loads it
    pixels = np.asarray(_plain_mode(image))
    if (
        image.mode == "I" and pixels.min(initial=0) >= 0 and pixels.max(initial=0) <= 65535
    ):  # so Pillow before 10.3 reads 16-bit PNGs
        pixels = pixels.astype(np.uint16)
    elif image.mode in ("I", "F"):
        raise ValueError(f"expected 8 or 16 bits per channel, got Pillow's mode {image.mode}")
    return _turned(pixels, turn)


def _plain_mode(image: Image.Image) -> Image.Image:
    """In the mode L, LA, RGB or RGBA that holds all that ``image`` shows; deeper gray stays."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return image
    gray = image.mode in ("1", "L", "LA", "La")
    clear = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    mode = {(True, True): "LA", (True, False): "L", (False, True): "RGBA", (False, False): "RGB"}[gray, clear]
    return image if image.mode == mode else image.convert(mode)


def read_picture(path: str) -> Picture:
    """Read a picture file.

    Raises:
        UserError: for a file that is missing, no whole image, a video, an animation, or larger than ``MAX_PIXELS``.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    with _quiet_pillow():
        try:
            image = _opened(data, str(path))
        except UserError:
            picture = _tiff_unknown_to_pillow(data)
            if picture is None:
                raise
            return picture
        orientation = orientation_of(image)  # Pillow takes it out of a TIFF while it loads it
        icc = profile_of(image)
        try:
            image.load()
            deep = _sixteen_bits(data, image, orientation)
            if deep is None and image.mode in ("I", "F"):
                raise ValueError(f"expected 8 or 16 bits per channel, got Pillow's mode {image.mode}")
            pixels = upright(image) if deep is None else deep
            exif = description_of(image)
        except (
            Exception
        ) as error:  # a truncated file, a broken stream, a kind of pixels that no library reads
            raise UserError(
                f"{path}: its pixels cannot be read to the end ({error}); replace it or take it out."
            ) from error
    read = from_array(pixels)
    return Picture(read.colour, read.alpha, read.gray, icc, exif)


def from_array(pixels: np.ndarray) -> Picture:
    """(H, W), or (H, W, 1 to 4) -> Picture: gray, gray and alpha, RGB, RGB and alpha; uint8 or uint16."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    gray, clear = pixels.shape[2] < 3, pixels.shape[2] in (2, 4)
    colour = pixels[:, :, :1].repeat(3, axis=2) if gray else pixels[:, :, :3]
    alpha = np.ascontiguousarray(pixels[:, :, -1]) if clear else None
    if clear and alpha.min(initial=1) == 0:
        colour = _bled(colour, alpha)
    return Picture(np.ascontiguousarray(colour), alpha, gray)


def _bled(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Give invisible pixels the colour of the nearest visible one, so that edges do not mix with what nobody sees."""
    if not alpha.any():
        return colour
    index = ndimage.distance_transform_edt(alpha == 0, return_distances=False, return_indices=True)
    return colour[tuple(index)]
