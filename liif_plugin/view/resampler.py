"""What the network is compared with: bicubic and nearest pixels at any positions, in float32."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ..resize import keys_cubic, mirror


class Resampler:
    """Resamples one picture. Where bicubic shrinks, it is antialiased and begins from the picture halved.

    Args:
        image: (h, w, C) uint8 or uint16.
    """

    def __init__(self, image: np.ndarray):
        self.levels = [image]  # the picture, halved once, halved twice ...
        self.largest = np.iinfo(image.dtype).max

    def nearest(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the nearest pixels.

        Args:
            rows: (R,) in pixels of the picture; pixel i has its centre at i.
            columns: (C,), likewise.

        Returns:
            (R, C, channels) float32 in [0, 1].
        """
        image = self.levels[0]
        y, x = (
            np.floor(at + 0.5).astype(np.int64).clip(0, n - 1) for at, n in zip((rows, columns), image.shape)
        )
        return image[y[:, None], x].astype(np.float32) / self.largest

    def bicubic(self, rows: np.ndarray, columns: np.ndarray, scale: float) -> np.ndarray:
        """Return bicubic pixels.

        Args:
            rows: as for ``nearest``.
            columns: as for ``nearest``.
            scale: pixels of the result for one pixel of the picture; below 1 the kernel is stretched.

        Returns:
            (R, C, channels) float32, not clamped.
        """
        # Begin from the smallest level that still has as many pixels as the result
        one_pixel = (max(self.levels[0].shape[:2]) - 1).bit_length()  # the level of one pixel
        level = min(max(0, math.floor(-math.log2(scale))), one_pixel)
        image, shrink = self._level(level), 1 << level
        y, x = (
            _taps((at + 0.5) / shrink - 0.5, n, min(scale * shrink, 1.0))
            for at, n in zip((rows, columns), image.shape)
        )
        # Cut out the columns that the kernel reaches, then resample along y and along x
        left, right = int(x[0].min()), int(x[0].max()) + 1
        image = image[:, left:right]
        lines = sum(image[index].astype(np.float32) * weight[:, None, None] for index, weight in zip(*y))
        # lines: (R, columns, channels)
        return sum(lines[:, index - left] * weight[:, None] for index, weight in zip(*x)) / self.largest

    def _level(self, level: int) -> np.ndarray:
        """Return the picture halved ``level`` times: pixel i is the mean of the pixels 2i and 2i + 1.

        An odd row or column at the border is repeated.
        """
        while len(self.levels) <= level and max(self.levels[-1].shape[:2]) > 1:
            image = self.levels[-1]
            h, w, channels = image.shape
            even = np.pad(image, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
            half = cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)
            self.levels.append(half.reshape(*half.shape[:2], channels))
        return self.levels[level]


def _taps(at: np.ndarray, n: int, stretch: float) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and weights (K, N) of Keys' kernel around ``at`` (N,).

    The border is mirrored as MATLAB's imresize does it.
    """
    first = np.floor(at - 2 / stretch) + 1
    index = first + np.arange(math.ceil(4 / stretch))[:, None]
    weight = keys_cubic((at - index) * stretch)
    weight /= weight.sum(axis=0)
    return mirror(index.astype(np.int64), n), weight.astype(np.float32)
