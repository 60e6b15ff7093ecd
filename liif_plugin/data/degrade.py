"""Blur, noise and JPEG on the LR crops of a training, so that a network learns to enlarge photographs."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ..config.option_types import BLOCK, Option, check_block, each, number, optional
from ..errors import UserError

JPEG_BLOCK = 8
DEGRADE_OPTIONS = {
    "blur": Option(
        optional(each(number(0, 20), 2)),
        default=None,
        help="[low, high] of the standard deviation of a Gaussian blur, in LR pixels.",
    ),
    "noise": Option(
        optional(each(number(0, 255), 2)),
        default=None,
        help="[low, high] of the standard deviation of Gaussian noise, in levels of 8 bits.",
    ),
    "jpeg": Option(
        optional(each(number(1, 100), 2)),
        default=None,
        help="[low, high] of the quality of a JPEG.",
    ),
    "clean": Option(number(0, 1), default=0.1, help="Part of the crops that stay as they are."),
}
DEGRADE = Option(
    optional(BLOCK),
    default=None,
    help="Blur, noise and JPEG on the LR crops, in this order, see below; the targets stay clean.",
)


class Degradation:
    """Degrades LR images: a Gaussian blur, then noise, then JPEG, each of a strength drawn for each image.

    The order is that of a camera. The blocks of the JPEG begin anywhere, as those of a crop of a photograph.

    Args:
        where: what to call the block in messages.
        opt: the block ``degrade``, see DEGRADE_OPTIONS.

    Raises:
        UserError: for an unknown option, or a range whose first number is the larger one.

    Example:
        >>> degrade = Degradation("degrade", {"jpeg": [50, 50], "clean": 0})
        >>> gray = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8, 1).repeat(3, axis=2)
        >>> degraded = degrade(gray, np.random.default_rng(0))
        >>> degraded.shape, bool((degraded == gray).all())
        ((8, 8, 3), False)
    """

    def __init__(self, where: str, opt: dict[str, Any]):
        check_block(where, opt, DEGRADE_OPTIONS)
        for name, value in opt.items():
            if isinstance(value, (list, tuple)) and value[0] > value[1]:
                raise UserError(f"{where}: {name}: expected [low, high], got {list(value)}.")
        self.opt = opt

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return ``image`` (H, W, 3) uint8, degraded as ``rng`` decides, in the same format."""
        opt = self.opt
        if rng.random() < opt.get("clean", DEGRADE_OPTIONS["clean"].default):
            return image
        pixels: np.ndarray = image.astype(np.float32)
        if opt.get("blur"):
            sigma = rng.uniform(*opt["blur"])
            if sigma > 0.05:  # a narrower one has no effect
                pixels = cv2.GaussianBlur(pixels, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
        if opt.get("noise"):
            pixels = pixels + rng.uniform(*opt["noise"]) * rng.standard_normal(pixels.shape, np.float32)
        image = pixels.round().clip(0, 255).astype(np.uint8)
        return jpeg(image, round(rng.uniform(*opt["jpeg"])), rng) if opt.get("jpeg") else image


def jpeg(image: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``image`` (H, W, 3) uint8 RGB after a JPEG whose first block begins anywhere."""
    top, left = (int(n) for n in rng.integers(0, JPEG_BLOCK, 2))
    padded = np.pad(image, ((top, 0), (left, 0), (0, 0)), mode="edge")
    _, data = cv2.imencode(".jpg", padded[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return decoded[top:, left:, ::-1]
