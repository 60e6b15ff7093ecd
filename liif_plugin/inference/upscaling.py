"""Any picture to any size: what is asked for -> sizes, a picture -> bands of finished pixels, and both together for files."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..image_io.reading import Picture
from ..image_io.writing import check_format, is_streamed, write_picture
from ..precision import DTYPES
from . import render
from . import tiling as memory

ROWS_AT_ONCE = 1 << 20  # samples that are turned into integers at a time
BANDS_WITH_ALPHA = 2.4  # the colour's band, that of the alpha channel as it is made, and its mean


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


def geometry(
    h: int, w: int, target: Target, window: tuple[float, float, float, float] | None = None
) -> Geometry:
    """Where the pixels of the result are.

    Args:
        window: (x, y, width, height) in pixels of the input, fractions allowed; the target is then the size of this part. It is
            rounded to whole pixels of the target.

    Raises:
        UserError: for a window outside the picture, or a result without pixels.
    """
    if h < 1 or w < 1:
        raise UserError(f"the picture has no pixels: {w} x {h}.")
    try:
        x, y, width, height = (0.0, 0.0, w, h) if window is None else map(float, window)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"window: expected x, y, width, height, got {window!r}.") from error
    if not (
        width > 0 and height > 0 and x >= 0 and y >= 0 and x + width <= w and y + height <= h
    ):  # nan fails too
        raise UserError(
            f"--window {x:g},{y:g},{width:g},{height:g}: expected a part of the picture, which is {w} wide and {h} high."
        )
    scale = target.scale_of(height, width)
    limited = (
        target.max_pixels is not None
        and round(height * scale[0]) * round(width * scale[1]) > target.max_pixels
    )
    down = math.floor if limited else round  # a limit is a limit
    parts = []
    for factor, n, start, part in ((scale[0], h, y, height), (scale[1], w, x, width)):
        if not (0 < factor < 1e6):
            raise UserError(
                f"the target is {factor:g} times the picture; expected a factor between 0 and a million."
            )
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

    def tiling(
        self, lr_size: tuple[int, int], where: Geometry, bands: float = 1.0, held: int = 0
    ) -> tuple[int | None, int | None]:
        """(side of the tiles for a picture, None for no tiles; the most rows of the result at a time, None for as many as there are).

        Args:
            bands: how many bands of the result are alive at one time. held: bytes that are taken besides.

        Raises:
            UserError: where the network needs more than ``budget`` however small the tiles are, or cannot be run in tiles.
        """
        if not self.budget:
            return None, None
        halo, budget = getattr(self.net, "halo", None), self.budget - held
        if halo is not None:
            tile, rows, needed = memory.tile_for(
                lr_size, where.size, where.window[2:], halo, self._bytes_per_pixel, budget, bands
            )
        else:
            tile, rows, needed = (
                None,
                None,
                int(memory.SLACK * self._bytes_per_pixel * lr_size[0] * lr_size[1]) + memory.FIXED,
            )
        if needed > budget:
            why = (
                "a network that cannot be run in tiles"
                if tile is None
                else f"a network that looks {halo} pixels around each tile"
            )
            also = (
                f", {held / 2**30:.1f} of them for a format that is not written row by row as .png and .tif are"
                if held
                else ""
            )
            raise UserError(
                f"about {(needed + held) / 2**30:.1f} GiB are needed to enlarge {lr_size[1]} x {lr_size[0]} pixels to "
                f"{where.window[3]} x {where.window[2]} with {why}{also}; --memory allows {self.budget / 2**30:.3g}. "
                "Give more, or 0 for no limit."
            )
        return tile, rows

    @functools.cached_property
    def _bytes_per_pixel(self) -> float:
        with torch.no_grad():
            return memory.bytes_per_pixel(
                lambda lq: render.prepare(self.net, lq, DTYPES[self.precision]), self.device
            )

    def bands(
        self, lq: np.ndarray | Tensor, where: Geometry, bands: float = 1.0, held: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """``render_bands`` of a picture (h, w, 3), or (1, 3, h, w) of torch."""
        h, w = lq.shape[-2:] if isinstance(lq, Tensor) else lq.shape[:2]
        cell = None if self.cell is None else self.cell * torch.tensor([2 / h, 2 / w])
        tile, rows = self.tiling((h, w), where, bands, held)
        return render.render_bands(
            self.net,
            lq,
            where.size,
            cell,
            where.window,
            DTYPES[self.precision],
            tile,
            device=self.device,
            rows_at_once=rows,
        )


def finished_rows(
    engine: Engine, picture: Picture, where: Geometry, dtype: type, held: int = 0
) -> Iterator[np.ndarray]:
    """The rows of the result from the top: (rows, W, channels) of ``dtype``, uint8 or uint16, as many channels as the file had.

    Args:
        held: bytes that whoever takes the rows keeps of them.
    """
    clear = (
        picture.alpha is not None and picture.alpha.min() != picture.alpha.max()
    )  # one value everywhere needs no network
    alpha = (
        engine.bands(picture.alpha[:, :, None].repeat(3, axis=2), where, BANDS_WITH_ALPHA, held)
        if clear
        else None
    )
    largest = np.iinfo(dtype).max
    for _, band in engine.bands(picture.colour, where, BANDS_WITH_ALPHA if clear else 1.0, held):
        planes = [band[0].mean(dim=0, keepdim=True) if picture.gray else band[0]]
        if clear:
            planes.append(_snapped(next(alpha)[1][0].mean(dim=0, keepdim=True)))
        elif picture.alpha is not None:
            value = float(picture.alpha.flat[0]) / np.iinfo(picture.alpha.dtype).max
            planes.append(torch.full((), value, device=band.device).expand(1, *band.shape[2:]))
        step = max(1, ROWS_AT_ONCE // (3 * band.shape[3]))
        for top in range(0, band.shape[2], step):
            rows = (
                torch.cat([plane[:, top : top + step] for plane in planes])
                .clamp_(0, 1)
                .mul_(largest)
                .round_()
            )
            yield rows.permute(1, 2, 0).cpu().numpy().astype(dtype)
        del band, planes  # before the next one is made


def _snapped(alpha: Tensor) -> Tensor:
    """What the network leaves a hair from invisible or opaque becomes that."""
    return torch.where(alpha < 1.5 / 255, 0.0, torch.where(alpha > 1 - 1.5 / 255, 1.0, alpha))


def upscale_file(
    engine: Engine,
    picture: Picture,
    path: str,
    where: Geometry,
    on_rows: Callable[[int], None] | None = None,
    quality: int = 95,
) -> None:
    """Render and write at once; ``on_rows`` hears of every finished pixel.

    Raises:
        UserError: where the format cannot hold the result, or it cannot be written.
    """
    dtype = np.uint16 if picture.colour.dtype == np.uint16 and is_streamed(path) else np.uint8
    check_format(path, where.window[2:], picture.channels)
    held = (
        0 if is_streamed(path) else where.pixels * (picture.channels + 4)
    )  # the array, and Pillow's four bytes a pixel

    def counted() -> Iterator[np.ndarray]:
        for rows in finished_rows(engine, picture, where, dtype, held):
            yield rows
            if on_rows is not None:
                on_rows(rows.shape[0] * rows.shape[1])

    write_picture(
        path,
        counted(),
        where.window[2:],
        picture.channels,
        dtype,
        picture.icc,
        picture.exif,
        quality,
        picture.colour_space,
    )
