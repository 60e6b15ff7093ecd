"""The two bicubic resizes of the field.

Pillow's bicubic on 8-bit images makes the LR images of training and of scales without LR files. MATLAB's
imresize made the LR files of DIV2K and of the benchmark sets. Both are antialiased when they shrink and use
Keys' kernel with a = -0.5. cv2.INTER_CUBIC and the bicubic of torch are neither.
"""

from __future__ import annotations

import numpy as np
from PIL import Image


def pillow_bicubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an 8-bit image with Pillow's bicubic.

    Args:
        image: (H, W, 3) uint8.
        size: (h, w) of the result.

    Returns:
        (h, w, 3) uint8.

    Example:
        >>> import numpy as np
        >>> image = np.full((48, 96, 3), 200, dtype=np.uint8)
        >>> small = pillow_bicubic(image, (12, 24))
        >>> small.shape, int(small.min()), int(small.max())
        ((12, 24, 3), 200, 200)
    """
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def keys_cubic(x):
    """Return Keys' cubic kernel with a = -0.5 (Keys 1981, equation 4).

    Args:
        x: distances in pixels, an array or a tensor of any shape.

    Example:
        >>> import numpy as np
        >>> keys_cubic(np.array([0.0, 0.5, 1.0, 1.5, 2.0])).tolist()
        [1.0, 0.5625, 0.0, -0.0625, 0.0]
    """
    x = abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return near * (x <= 1) + far * ((x > 1) & (x <= 2))


def mirror(index, n: int):
    """Reflect indices outside 0 .. n - 1 back inside, as often as needed; the border pixel is repeated.

    Args:
        index: integers, an array or a tensor of any shape.
        n: number of pixels.

    Example:
        >>> import numpy as np
        >>> mirror(np.arange(-3, 6), 3).tolist()
        [2, 1, 0, 0, 1, 2, 2, 1, 0]
    """
    index = index % (2 * n)
    return index + (index >= n) * (2 * n - 1 - 2 * index)


def _taps(n_in: int, n_out: int, border: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights (n_out, K) and source indices (n_out, K) of MATLAB's imresize along one axis."""
    scale = n_out / n_in
    stretch = min(scale, 1.0)  # antialiasing widens the kernel when shrinking
    # the position of every output pixel among the input pixels, and the K input pixels that its kernel covers
    centre = (np.arange(n_out) + 0.5) / scale - 0.5
    first = np.floor(centre - 2 / stretch).astype(int)
    index = first[:, None] + np.arange(int(np.ceil(4 / stretch)) + 2)
    # the kernel at their distances, with a sum of 1
    weight = keys_cubic((centre[:, None] - index) * stretch)
    weight /= weight.sum(axis=1, keepdims=True)
    # source pixels outside the image
    if border == "replicate":
        return weight, index.clip(0, n_in - 1)
    return weight, mirror(index, n_in)


def matlab_imresize(image: np.ndarray, size: tuple[int, int], border: str = "mirror") -> np.ndarray:
    """Resize an image as MATLAB's ``imresize(image, size, 'bicubic')`` does.

    The axis with the smaller scale is resized first, as in MATLAB; at equal scales it is the vertical one.
    The order matters for uint8, which is rounded after each axis.

    Args:
        image: (H, W) or (H, W, C). uint8 is rounded to uint8 after each axis, as MATLAB does; floats are not.
        size: (h, w) of the result; the scale of each axis is the ratio of the sizes.
        border: 'mirror' as today's MATLAB (the files of DIV2K), 'replicate' as older versions (Set5, Set14,
            B100).

    Returns:
        (h, w) or (h, w, C) of the dtype of ``image``.

    Raises:
        ValueError: if ``border`` is neither of the two.

    Example:
        >>> import numpy as np
        >>> image = np.arange(64, dtype=np.float64).reshape(8, 8)
        >>> matlab_imresize(image, (2, 2)).round(2).tolist()
        [[12.38, 16.63], [46.37, 50.62]]
    """
    if border not in ("mirror", "replicate"):
        raise ValueError(f"border: expected 'mirror' or 'replicate', got '{border}'.")
    result = image
    for axis in sorted((0, 1), key=lambda axis: size[axis] / image.shape[axis]):
        weight, index = _taps(image.shape[axis], size[axis], border)
        moved = np.moveaxis(result, axis, 0).astype(np.float64)
        moved = np.einsum("ok,ok...->o...", weight, moved[index])
        if image.dtype == np.uint8:  # MATLAB rounds halves up
            moved = np.floor(moved + 0.5).clip(0, 255)
        result = np.moveaxis(moved, 0, axis).astype(image.dtype)
    return result
