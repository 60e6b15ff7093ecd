"""A picture file -> arrays that lose nothing: bit depth, transparency, colour profile and metadata are kept."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from ..errors import UserError

MAX_PIXELS = 400_000_000  # a header that promises more is taken for a decompression bomb
ORIENTATION = 0x0112  # EXIF tag
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
_TURNS = {2: (1, 0), 3: (0, 2), 4: (1, 2), 5: (1, 1), 6: (0, 3), 7: (1, 3), 8: (0, 1)}  # tag -> (mirror first, quarter turns)


@dataclass(frozen=True)
class Picture:
    """colour: (H, W, 3) uint8 or uint16 RGB. alpha: (H, W) of the same type, or None. gray: the file had one channel.
    icc, exif: as found, the orientation applied and taken out; exif without its 'Exif' mark."""

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


def _opened(data: bytes, name: str, max_pixels: int) -> Image.Image:
    """The file's header, checked."""
    if name.lower().endswith(VIDEOS):
        raise UserError(f"{name}: is a video; take its frames out (ffmpeg -i {name} frames/%06d.png), enlarge the folder, join them again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise UserError(f"{name}: its header promises more pixels than {max_pixels:,}; cut it, or raise the limit.") from error
    except Exception as error:  # Pillow has many ways to say no
        raise UserError(f"{name}: not an image file that can be read ({len(data)} bytes); replace it or take it out.") from error
    if image.width * image.height > max_pixels:
        raise UserError(f"{name}: {image.width} x {image.height} are more than {max_pixels:,} pixels; cut it, or raise the limit.")
    if getattr(image, "n_frames", 1) > 1:
        raise UserError(f"{name}: holds {image.n_frames} pictures (an animation or pages); save them as single files first.")
    return image


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """What EXIF asks for, on an array (H, W, ...)."""
    mirror, quarter_turns = _TURNS.get(orientation, (0, 0))
    return np.rot90(image[:, ::-1] if mirror else image, quarter_turns)


def _sixteen_bits(data: bytes, mode: str) -> np.ndarray | None:
    """The pixels of a 16-bit file, RGB(A) or gray(+A) order, or None for any other; Pillow reads 16-bit colour as 8 bits."""
    if mode not in ("RGB", "RGBA", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N"):
        return None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16:
        return None
    if image.ndim == 2:
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _eight_bits(image: Image.Image, name: str) -> np.ndarray:
    """The pixels of any other file, turned upright: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4) uint8."""
    if image.mode in ("I", "F"):
        raise UserError(f"{name}: expected 8 or 16 bits per channel, got Pillow's mode {image.mode}; convert it to PNG.")
    image = ImageOps.exif_transpose(image)
    gray = image.mode in ("1", "L", "LA", "La")
    clear = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    return np.asarray(image.convert({(True, True): "LA", (True, False): "L", (False, True): "RGBA", (False, False): "RGB"}[gray, clear]))


def read_picture(path: str, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture file.

    Raises:
        UserError: for a file that is missing, no whole image, a video, an animation, or larger than ``max_pixels``.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    image = _opened(data, str(path), max_pixels)
    icc = image.info.get("icc_profile") if image.mode not in ("CMYK", "LAB", "YCbCr") else None  # a profile of the space it was in
    try:
        image.load()
        exif = image.getexif()
    except Exception as error:  # a truncated file, a broken stream
        raise UserError(f"{path}: its pixels cannot be read to the end ({error}); replace it or take it out.") from error
    pixels = _sixteen_bits(data, image.mode)
    pixels = _eight_bits(image, str(path)) if pixels is None else _turned(pixels, exif.get(ORIENTATION, 1))
    exif.pop(ORIENTATION, None)
    return replace(from_array(pixels), icc=icc, exif=exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else None)


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
