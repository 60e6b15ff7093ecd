"""Any picture to any size: what is asked for -> sizes, a picture -> bands of finished pixels, and both together for files."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import memory, render
from .errors import UserError
from .pictures.reading import Picture
from .pictures.writing import check_format, keeps_sixteen_bits, write_picture
from .precision import DTYPES

ROWS_AT_ONCE = 1 << 22  # samples that are turned into integers at a time


@dataclass(frozen=True)
class Target:
    """How large the result is to be: one of these, and ``max_pixels`` as a limit to any of them. Pairs are (height, width).

    scale: per axis. size: exact. height, width, short_side: that side, the other follows. at_least: the smallest size of the same
    shape that covers it, never smaller than the picture.
    """

    scale: tuple[float, float] | None = None
    size: tuple[int, int] | None = None
    height: int | None = None
    width: int | None = None
    short_side: int | None = None
    at_least: tuple[int, int] | None = None
    max_pixels: int | None = None

    def scale_of(self, h: float, w: float) -> tuple[float, float]:
        """The factors (y, x) for a picture, or a part of one, of h x w pixels."""
        if self.size is not None:
            factors = self.size[0] / h, self.size[1] / w
        elif self.height is not None or self.width is not None:
            factors = ((self.height or 0) / h, (self.width or 0) / w)
            factors = factors if min(factors) > 0 else (max(factors),) * 2
        elif self.short_side is not None:
            factors = (self.short_side / min(h, w),) * 2
        elif self.at_least is not None:
            factors = (max(1.0, self.at_least[0] / h, self.at_least[1] / w),) * 2
        else:
            factors = self.scale or (1.0, 1.0)
        pixels = h * factors[0] * w * factors[1]
        if self.max_pixels is not None and pixels > self.max_pixels:
            shrink = math.sqrt(self.max_pixels / pixels)
            factors = factors[0] * shrink, factors[1] * shrink
        return factors


@dataclass(frozen=True)
class Geometry:
    """size: (H, W) of the whole picture at its target size. window: (top, left, height, width) of it that is rendered."""

    size: tuple[int, int]
    window: tuple[int, int, int, int]

    @property
    def pixels(self) -> int:
        return self.window[2] * self.window[3]


def geometry(h: int, w: int, target: Target, window: tuple[float, float, float, float] | None = None) -> Geometry:
    """Where the pixels of the result are.

    Args:
        window: (x, y, width, height) in pixels of the input, fractions allowed; the target is then the size of this part. It is
            rounded to whole pixels of the target.

    Raises:
        UserError: for a window outside the picture, or a result without pixels.
    """
    x, y, width, height = window or (0, 0, w, h)
    if not (width > 0 and height > 0 and x >= 0 and y >= 0 and x + width <= w and y + height <= h):  # nan fails too
        raise UserError(f"--window {x:g},{y:g},{width:g},{height:g}: expected a part of the picture, which is {w} wide and {h} high.")
    scale = target.scale_of(height, width)
    down = math.floor if target.max_pixels is not None else round  # a limit is a limit
    parts = []
    for factor, n, start, part in ((scale[0], h, y, height), (scale[1], w, x, width)):
        if not (0 < factor < 1e6):
            raise UserError(f"the target is {factor:g} times the picture; expected a factor between 0 and a million.")
        length = down(part * factor + 1e-9)
        whole = length if window is None else max(1, round(n * factor))
        first = min(round(start * factor), max(whole - length, 0))
        if length < 1:
            raise UserError(f"the target has no pixels left: {w} x {h} shrunk to {part * factor:g}.")
        parts.append((max(whole, first + length), first, length))
    (H, top, rows), (W, left, columns) = parts
    return Geometry((H, W), (top, left, rows, columns))


@dataclass(frozen=True)
class Engine:
    """A network and how to run it.

    precision: a name of ``precision.DTYPES``. budget: bytes that rendering may take beyond the network and the input, 0 for no limit.
    cell: side of the queries' cells in input pixels; None is the true one. Made once and used for many pictures.
    """

    net: torch.nn.Module
    device: torch.device
    precision: str = "fp32"
    budget: int = 1 << 30
    cell: float | None = None

    def tile(self, lr_size: tuple[int, int], size: tuple[int, int]) -> int | None:
        """Side of the tiles for a picture, None for no tiles.

        Raises:
            UserError: where the network needs more than ``budget`` however small the tiles are, or cannot be run in tiles.
        """
        if not self.budget:
            return None
        per_pixel = self._bytes_per_pixel
        halo = getattr(self.net, "halo", None)
        if halo is not None:
            tile, needed = memory.tile_for(lr_size, size, halo, per_pixel, self.budget)
        else:
            tile, needed = None, int(memory.SLACK * per_pixel * lr_size[0] * lr_size[1]) + memory.FIXED
        if needed > self.budget:
            what = "cannot be run in tiles" if tile is None else f"has a receptive field of {halo} pixels around each tile"
            raise UserError(f"this network {what} and would need about {needed / 2**30:.1f} GiB for {lr_size[1]} x {lr_size[0]} pixels; "
                            f"--memory allows {self.budget / 2**30:.1f}. Give more, or 0 for no limit.")  # fmt: skip
        return tile

    @functools.cached_property
    def _bytes_per_pixel(self) -> float:
        with torch.no_grad():
            return memory.bytes_per_pixel(lambda lq: render.prepare(self.net, lq, DTYPES[self.precision]), self.device)

    def bands(self, lq: np.ndarray, where: Geometry) -> Iterator[tuple[int, Tensor]]:
        """``render_bands`` of a picture (h, w, 3)."""
        cell = None if self.cell is None else self.cell * torch.tensor([2 / lq.shape[0], 2 / lq.shape[1]])
        tile = self.tile(lq.shape[:2], where.size)
        return render.render_bands(self.net, lq, where.size, cell, where.window, DTYPES[self.precision], tile, device=self.device)


def finished_rows(engine: Engine, picture: Picture, where: Geometry, dtype: type) -> Iterator[np.ndarray]:
    """The rows of the result from the top: (rows, W, channels) of ``dtype``, uint8 or uint16, as many channels as the file had."""
    colour = engine.bands(picture.colour, where)
    alpha = None if picture.alpha is None else engine.bands(picture.alpha[:, :, None].repeat(3, axis=2), where)
    largest = np.iinfo(dtype).max
    for _, band in colour:
        part = band[0].mean(dim=0, keepdim=True) if picture.gray else band[0]
        if alpha is not None:
            part = torch.cat([part, next(alpha)[1][0].mean(dim=0, keepdim=True)])
        step = max(1, ROWS_AT_ONCE // (part.shape[0] * part.shape[2]))
        for top in range(0, part.shape[1], step):
            rows = part[:, top : top + step].clamp(0, 1).mul_(largest).round_().permute(1, 2, 0)
            yield rows.cpu().numpy().astype(dtype)


def upscale_file(engine: Engine, picture: Picture, path: str, where: Geometry, on_rows: Callable[[int], None] | None = None,
                 quality: int = 95) -> None:  # fmt: skip
    """Render and write at once; ``on_rows`` hears of every finished pixel.

    Raises:
        UserError: where the format cannot hold the result, or it cannot be written.
    """
    dtype = np.uint16 if picture.colour.dtype == np.uint16 and keeps_sixteen_bits(path) else np.uint8
    check_format(path, where.window[2:], picture.channels)

    def counted() -> Iterator[np.ndarray]:
        for rows in finished_rows(engine, picture, where, dtype):
            yield rows
            if on_rows is not None:
                on_rows(rows.shape[0] * rows.shape[1])

    write_picture(path, counted(), where.window[2:], picture.channels, dtype, picture.icc, picture.exif, quality)
