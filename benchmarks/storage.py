"""Measure what an image costs to decode in each lossless storage that BasicSR reads from an LMDB.

`liif prepare` stores BMP for this reason.

  python benchmarks/storage.py
"""

from __future__ import annotations

import statistics
import time

import cv2
import numpy as np
import skimage.data

STORAGES = {
    "BMP": (".bmp", []),
    "PPM": (".ppm", []),
    "TIFF, not compressed": (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, 1]),
    "PNG level 0": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 0]),
    "PNG level 1 (BasicSR's)": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    "PNG level 9": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 9]),
    "WebP, lossless": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
}


def main() -> None:
    cv2.setNumThreads(1)
    image = cv2.resize(skimage.data.astronaut()[:, :, ::-1], (2040, 1356), interpolation=cv2.INTER_CUBIC)
    # A photo's own, which enlarging has smoothed away
    noise = np.random.default_rng(0).integers(-3, 4, image.shape)
    image = np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)
    print("| 2040 x 1356 | MiB | decoded in, ms |\n|---|---|---|")
    for name, (suffix, settings) in STORAGES.items():
        stored = cv2.imencode(suffix, image, settings)[1]
        times = []
        for _ in range(9):
            start = time.perf_counter()
            decoded = cv2.imdecode(stored, cv2.IMREAD_COLOR)
            times.append(time.perf_counter() - start)
        assert np.array_equal(decoded, image)
        print(f"| {name} | {len(stored) / 2**20:.1f} | {statistics.median(times) * 1e3:.1f} |")


if __name__ == "__main__":
    main()
