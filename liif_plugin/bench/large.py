"""What ``liif bench --large`` measures: how time and memory grow with the picture, from the array to the file on disk."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..evaluation.results import PeakMemory
from ..image_io.reading import from_array
from ..inference.upscaling import Engine, Target, geometry, upscale_file

SIZES = ((250, 250), (500, 500), (1000, 1000), (2000, 2000), (3456, 4608))  # (height, width) of the input


@dataclass(frozen=True)
class Large:
    """One picture, x2. peak_mib: above the process with the network and the input in memory, None where the system does not tell."""

    height: int
    width: int
    megapixels: float
    tile: int | None
    seconds: float
    peak_mib: float | None


def measure(engine: Engine, size: tuple[int, int], folder: str) -> Large:
    """Enlarge a picture of ``size`` = (H, W) and write it."""
    import skimage.data

    picture = from_array(
        np.asarray(Image.fromarray(skimage.data.astronaut()).resize((size[1], size[0]), Image.BICUBIC))
    )
    where, path = geometry(*size, Target(scale=(2, 2))), os.path.join(folder, "large.png")
    tile = engine.tiling(size, where)[0]
    with PeakMemory(engine.device) as peak:
        start = time.perf_counter()
        upscale_file(engine, picture, path, where)
        seconds = time.perf_counter() - start
    os.remove(path)
    return Large(*size, where.pixels / 1e6, tile if tile and tile < max(size) else None, seconds, peak.mib)
