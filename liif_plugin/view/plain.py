"""What the network is compared with: bicubic and nearest pixels at any positions, axis by axis, in float32."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ..resize import keys_cubic, mirror


class Plain:
    """Resamples a picture (h, w, C) uint8 or uint16. Where it shrinks, bicubic is antialiased, from halves of halves of the picture."""

    def __init__(self, image: np.ndarray):
        self.levels = [image]
        self.largest = np.iinfo(image.dtype).max

    def nearest(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Rows (R,) and columns (C,) in pixels, pixel i with its centre at i -> (R, C, channels) float32 in [0, 1]."""
        image = self.levels[0]
        y, x = (
            np.floor(at + 0.5).astype(np.int64).clip(0, n - 1) for at, n in zip((rows, columns), image.shape)
        )
        return image[y[:, None], x].astype(np.float32) / self.largest

    def bicubic(self, rows: np.ndarray, columns: np.ndarray, scale: float) -> np.ndarray:
        """As ``nearest``, not clamped. scale: asking pixels to a pixel of the picture; below 1 the kernel is stretched."""
        smallest = (max(self.levels[0].shape[:2]) - 1).bit_length()  # the level of one pixel
        level = min(max(0, math.floor(-math.log2(scale))), smallest)
        image, shrink = self._level(level), 1 << level
        y, x = (
            _taps((at + 0.5) / shrink - 0.5, n, min(scale * shrink, 1.0))
            for at, n in zip((rows, columns), image.shape)
        )
        left, right = int(x[0].min()), int(x[0].max()) + 1
        image = image[:, left:right]
        lines = sum(
            image[index].astype(np.float32) * weight[:, None, None] for index, weight in zip(*y)
        )  # (R, columns, channels)
        return sum(lines[:, index - left] * weight[:, None] for index, weight in zip(*x)) / self.largest

    def _level(self, level: int) -> np.ndarray:
        """The picture halved ``level`` times: pixel i is the mean of the pixels 2i and 2i + 1, the border repeated."""
        while len(self.levels) <= level and max(self.levels[-1].shape[:2]) > 1:
            image = self.levels[-1]
            h, w, channels = image.shape
            even = np.pad(image, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
            half = cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)
            self.levels.append(half.reshape(*half.shape[:2], channels))
        return self.levels[level]


def _taps(at: np.ndarray, n: int, stretch: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights (K, N) of Keys' kernel around ``at`` (N,), the border mirrored as MATLAB's imresize does it."""
    first = np.floor(at - 2 / stretch) + 1
    index = first + np.arange(math.ceil(4 / stretch))[:, None]
    weight = keys_cubic((at - index) * stretch)
    weight /= weight.sum(axis=0)
    return mirror(index.astype(np.int64), n), weight.astype(np.float32)
