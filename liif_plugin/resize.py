"""The two bicubics of the field: Pillow's on 8-bit images (training, scales without LR files) and MATLAB's imresize (LR files).

Both are antialiased when shrinking and use Keys' kernel with a = -0.5. cv2.INTER_CUBIC and torch's bicubic are neither.
"""

from __future__ import annotations

import numpy as np
from PIL import Image


def pillow_bicubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 -> (h, w, 3) uint8 with ``size`` = (h, w), by Pillow itself."""
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.BICUBIC))


def keys_cubic(x):
    """Keys' cubic kernel, a = -0.5, at distances ``x`` in pixels, an array or a tensor (Keys 1981, equation 4)."""
    x = abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return near * (x <= 1) + far * ((x > 1) & (x <= 2))


def mirror(index, n: int):
    """Indices outside 0 .. n - 1 reflected back, the border pixel repeated, as often as needed; an array or a tensor."""
    index = index % (2 * n)
    return index + (index >= n) * (2 * n - 1 - 2 * index)


def _taps(n_in: int, n_out: int, border: str) -> tuple[np.ndarray, np.ndarray]:
    """Weights (n_out, K) and source indices (n_out, K) of MATLAB's imresize along one axis."""
    scale = n_out / n_in
    stretch = min(scale, 1.0)  # antialiasing widens the kernel when shrinking
    centre = (np.arange(n_out) + 0.5) / scale - 0.5
    first = np.floor(centre - 2 / stretch).astype(int)
    index = first[:, None] + np.arange(int(np.ceil(4 / stretch)) + 2)
    weight = keys_cubic((centre[:, None] - index) * stretch)
    weight /= weight.sum(axis=1, keepdims=True)
    if border == "replicate":
        return weight, index.clip(0, n_in - 1)
    return weight, mirror(index, n_in)


def matlab_imresize(image: np.ndarray, size: tuple[int, int], border: str = "mirror") -> np.ndarray:
    """MATLAB's imresize(image, size, 'bicubic'), first down the columns, then along the rows.

    Args:
        image: (H, W) or (H, W, C). uint8 is rounded to uint8 after each pass, as MATLAB does; floats are not.
        size: (h, w) of the result; the scale of each axis is the ratio of the sizes.
        border: 'mirror' as today's MATLAB (the files of DIV2K), 'replicate' as older ones (Set5, Set14, B100).

    Returns:
        (h, w) or (h, w, C) of the dtype of ``image``.
    """
    if border not in ("mirror", "replicate"):
        raise ValueError(f"border: expected 'mirror' or 'replicate', got '{border}'.")
    result = image
    for axis in (0, 1):
        weight, index = _taps(image.shape[axis], size[axis], border)
        moved = np.moveaxis(result, axis, 0).astype(np.float64)
        moved = np.einsum("ok,ok...->o...", weight, moved[index])
        if image.dtype == np.uint8:  # MATLAB rounds halves up
            moved = np.floor(moved + 0.5).clip(0, 255)
        result = np.moveaxis(moved, 0, axis).astype(image.dtype)
    return result
