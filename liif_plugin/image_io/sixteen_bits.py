"""Images of 16 bits a channel: Pillow would read their colours as 8 bits."""

from __future__ import annotations

import io

import cv2
import numpy as np
import tifffile
from PIL import Image

from . import png

ASSOCIATED_ALPHA = 1  # TIFF: the colours are multiplied by the alpha channel
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2  # TIFF: photometric interpretations
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TURNS = {2: (1, 0), 3: (0, 2), 4: (1, 2), 5: (1, 1), 6: (0, 3), 7: (1, 3), 8: (0, 1)}


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
