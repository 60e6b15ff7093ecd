"""Enlarge a picture with what `liif export` wrote, without PyTorch and without liif_plugin.

  liif export -o standard_onnx
  python scripts/onnx_upscale.py standard_onnx photo.jpg -o large.png --scale 2.7
  python scripts/onnx_upscale.py standard_onnx photo.jpg -o large.png --size 3840x2160 --tile 128

Needs onnxruntime, numpy and Pillow. Meant to be read and copied. The pixels are those of
`liif upscale --precision fp32`, without its gray, alpha, 16-bit and colour profiles.
"""

from __future__ import annotations

import argparse
import json
import os

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


class Network:
    """The two files of an export."""

    def __init__(self, folder: str):
        with open(os.path.join(folder, "export.json"), encoding="utf-8") as file:
            self.about = json.load(file)
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(
                os.path.join(folder, self.about[part]["file"]),
                providers=onnxruntime.get_available_providers(),
            )
            for part in ("encoder", "decoder")
        )

    def encode(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """(h, w, 3) float32 in [0, 1] -> what the decoder takes of it, by name."""
        lq = np.ascontiguousarray(image.transpose(2, 0, 1))[None]
        return dict(
            zip([tensor.name for tensor in self.encoder.get_outputs()], self.encoder.run(None, {"lq": lq}))
        )

    def query(
        self,
        features: dict[str, np.ndarray],
        y: np.ndarray,
        x: np.ndarray,
        cell: tuple[float, float],
        at_once: int,
    ) -> np.ndarray:
        """The colours at all (y, x): (len(y), len(x), 3)."""
        rows = max(1, at_once // len(x))  # so many rows in one call, to bound the memory
        parts = []
        for first in range(0, len(y), rows):
            coord = (
                np.stack(np.meshgrid(y[first : first + rows], x, indexing="ij"), axis=-1)
                .astype(np.float32)
                .reshape(1, -1, 2)
            )
            values = {**features, "coord": coord, "cell": np.broadcast_to(np.float32(cell), coord.shape)}
            rgb = self.decoder.run(
                ["rgb"], {tensor.name: values[tensor.name] for tensor in self.decoder.get_inputs()}
            )[0]
            parts.append(rgb.reshape(-1, len(x), 3))
        return np.concatenate(parts)


def parts_of(n: int, N: int, tile: int, halo: int, multiple: int):
    """Yield (target pixels, pixels that are encoded for them), each (first, last + 1), along one axis.

    The axis has n pixels, N of the target.
    """
    for start in range(0, n, tile):
        stop = min(start + tile, n)
        # The target pixels whose centres lie between
        first, last = (-(-(2 * edge * N - n) // (2 * n)) for edge in (start, stop))
        begin = max(0, start - halo) // multiple * multiple
        end = min(n, -(-(stop + halo) // multiple) * multiple)
        if first < last:
            yield (first, last), (begin, end)


def upscale(
    network: Network, image: np.ndarray, size: tuple[int, int], tile: int = 256, at_once: int = 65536
) -> np.ndarray:
    """Return the image of ``size`` = (H, W): (h, w, 3) float32 in [0, 1] -> (H, W, 3) float32, not clamped.

    A part of the image is an image of its own: positions and cells are those within the part.
    """
    (h, w), (H, W) = image.shape[:2], size
    halo, multiple = network.about["halo"], network.about["pad_multiple"]
    if halo is None:
        tile, halo = max(h, w), 0
    if network.about.get("whole_target"):  # every pixel depends on all that are asked for with it
        at_once = H * W
    tile = -(-tile // multiple) * multiple
    out = np.empty((H, W, 3), np.float32)
    for (top, bottom), (y0, y1) in parts_of(h, H, tile, halo, multiple):
        y = ((np.arange(top, bottom) + 0.5) * h / H - y0) * 2 / (y1 - y0) - 1
        for (left, right), (x0, x1) in parts_of(w, W, tile, halo, multiple):
            x = ((np.arange(left, right) + 0.5) * w / W - x0) * 2 / (x1 - x0) - 1
            cell = 2 / H * h / (y1 - y0), 2 / W * w / (x1 - x0)
            out[top:bottom, left:right] = network.query(
                network.encode(image[y0:y1, x0:x1]), y, x, cell, at_once
            )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", help="the folder that `liif export` wrote")
    parser.add_argument("picture")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--scale", type=float, default=4)
    parser.add_argument("--size", help="WIDTHxHEIGHT instead of a scale")
    parser.add_argument(
        "--tile", type=int, default=256, help="side of the parts that are encoded, in pixels of the picture"
    )
    args = parser.parse_args()
    picture = ImageOps.exif_transpose(Image.open(args.picture)).convert("RGB")
    width, height = (
        (int(n) for n in args.size.split("x"))
        if args.size
        else (round(n * args.scale + 1e-9) for n in picture.size)
    )
    rgb = upscale(Network(args.network), np.asarray(picture, np.float32) / 255, (height, width), args.tile)
    Image.fromarray((rgb.clip(0, 1) * 255).round().astype(np.uint8)).save(args.output)


if __name__ == "__main__":
    main()
