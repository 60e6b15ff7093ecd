"""Made pictures."""

import numpy as np
from PIL import Image


def picture(seed: int, h: int, w: int) -> np.ndarray:
    """A smooth random RGB picture, (h, w, 3) uint8."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (max(h // 8, 2), max(w // 8, 2), 3), dtype=np.uint8))
    return np.asarray(small.resize((w, h), Image.BICUBIC))


# names that lead out of the folder that they are joined to
LEAVING = [
    "../../x.png",
    "..",
    "a/../../x.png",
    "/etc/x.png",
    "//host/x.png",
    "C:/x.png",
    "c:x.png",
    "..\\x.png",
    "a\\..\\..\\x.png",
    "\\x.png",
    "a\0.png",
]
