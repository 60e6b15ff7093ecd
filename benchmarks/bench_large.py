"""How time and memory grow with the picture, from the array in memory to the file on disk."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image

from liif_plugin.evaluation.costs import PeakMemory
from liif_plugin.image_io.reading import from_array
from liif_plugin.inference.upscaling import Engine, Target, geometry, upscale_file

SIZES = ((250, 250), (500, 500), (1000, 1000), (2000, 2000), (3456, 4608))  # (height, width) of the input


@dataclass(frozen=True)
class Large:
    """One picture, enlarged x2.

    Attributes:
        height: of the input.
        width: of the input.
        megapixels: of the output.
        tile: side of a tile in input pixels, or None if the picture was encoded at once.
        seconds: for all of it.
        peak_mib: above the process with the network and the input in memory; None if it is not known.
    """

    height: int
    width: int
    megapixels: float
    tile: int | None
    seconds: float
    peak_mib: float | None


def measure_large(engine: Engine, size: tuple[int, int], folder: str) -> Large:
    """Enlarge a picture of ``size`` = (H, W), write it into ``folder`` and remove it."""
    import skimage.data

    shown = Image.fromarray(skimage.data.astronaut()).resize((size[1], size[0]), Image.BICUBIC)
    picture = from_array(np.asarray(shown))
    target, path = geometry(*size, Target(scale=(2, 2))), os.path.join(folder, "large.png")
    tile = engine.tiling(size, target)[0]
    with PeakMemory(engine.device) as peak:
        start = time.perf_counter()
        upscale_file(engine, picture, path, target)
        seconds = time.perf_counter() - start
    os.remove(path)
    used_tile = tile if tile and tile < max(size) else None
    return Large(*size, target.pixels / 1e6, used_tile, seconds, peak.mib)
