"""Enlarge any picture to any size: sizes, bands of finished pixels, files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..archs.base import ContinuousNetwork
from ..errors import UserError
from ..image_io.reading import Picture
from ..image_io.writing import check_format, is_streamed, write_picture
from ..precision import DTYPES
from . import memory, render

SAMPLES_AT_ONCE = 1 << 20  # that are turned into integers at a time
BANDS_WITH_ALPHA = 2.4  # the band of the colours, that of the alpha channel while it is made, and its mean


@dataclass(frozen=True)
class Target:
    """How large the result is to be. One of the fields is given, and ``max_pixels`` may limit it.

    Attributes:
        scale: factors (y, x).
        size: exactly (H, W).
        height: that height; the width follows.
        width: that width; the height follows.
        short_side: that length of the shorter side; the other follows.
        at_least: the smallest size of the same shape that covers (H, W), never smaller than the picture.
        max_pixels: the most pixels of the result.
    """

    scale: tuple[float, float] | None = None
    size: tuple[int, int] | None = None
    height: int | None = None
    width: int | None = None
    short_side: int | None = None
    at_least: tuple[int, int] | None = None
    max_pixels: int | None = None

    def scale_of(self, h: float, w: float) -> tuple[float, float]:
        """Return the factors (y, x) for a picture, or a part of one, of h x w pixels."""
        y, x = self._wanted_scale(h, w)
        pixels = h * y * w * x
        if self.max_pixels is not None and pixels > self.max_pixels:
            shrink = math.sqrt(self.max_pixels / pixels)
            y, x = y * shrink, x * shrink
        return y, x

    def _wanted_scale(self, h: float, w: float) -> tuple[float, float]:
        if self.size is not None:
            return self.size[0] / h, self.size[1] / w
        if self.height is not None and self.width is not None:
            return self.height / h, self.width / w
        if self.height is not None:
            factor = self.height / h
        elif self.width is not None:
            factor = self.width / w
        elif self.short_side is not None:
            factor = self.short_side / min(h, w)
        elif self.at_least is not None:
            factor = max(1.0, self.at_least[0] / h, self.at_least[1] / w)
        else:
            return self.scale or (1.0, 1.0)
        return factor, factor


@dataclass(frozen=True)
class Geometry:
    """Which pixels are rendered.

    Attributes:
        size: (H, W) of the whole picture at its target size.
        window: (top, left, height, width) of it that is rendered.
    """

    size: tuple[int, int]
    window: tuple[int, int, int, int]

    @property
    def pixels(self) -> int:
        """Number of pixels that are rendered."""
        return self.window[2] * self.window[3]


def geometry(
    h: int, w: int, target: Target, window: tuple[float, float, float, float] | None = None
) -> Geometry:
    """Return which pixels are rendered.

    Args:
        h: height of the picture in pixels.
        w: its width.
        target: size of the result; with a window, of this part.
        window: (top, left, height, width) in pixels of the picture, fractions allowed. It is rounded to whole
            pixels of the result.

    Raises:
        UserError: if the window lies outside the picture, or the result has no pixels.
    """
    if h < 1 or w < 1:
        raise UserError(f"the picture has no pixels: {w} x {h}.")
    try:
        top, left, height, width = (0.0, 0.0, h, w) if window is None else map(float, window)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"window: expected top, left, height, width, got {window!r}.") from error
    inside = top >= 0 and left >= 0 and top + height <= h and left + width <= w
    if not (height > 0 and width > 0 and inside):  # nan fails too
        raise UserError(
            f"window: expected a part of the picture, which is {w} wide and {h} high, got one that begins at "
            f"x = {left:g}, y = {top:g} and is {width:g} wide and {height:g} high."
        )
    scale = target.scale_of(height, width)
    for factor in scale:
        if not (0 < factor < 1e6):
            raise UserError(f"scale: expected a factor above 0 and below a million, got {factor:g}.")
    pixels = round(height * scale[0]) * round(width * scale[1])
    limited = target.max_pixels is not None and pixels > target.max_pixels
    rounded = math.floor if limited else round  # rounding up could exceed the limit
    parts = []
    for factor, n, start, part in ((scale[0], h, top, height), (scale[1], w, left, width)):
        length = rounded(part * factor + 1e-9)
        if length < 1:
            raise UserError(f"the target has no pixels left: {w} x {h} shrunk to {part * factor:g}.")
        whole = length if window is None else max(1, round(n * factor))
        first = min(round(start * factor), max(whole - length, 0))
        parts.append((max(whole, first + length), first, length))
    (H, first_row, rows), (W, first_column, columns) = parts
    return Geometry((H, W), (first_row, first_column, rows, columns))


def memory_budget(gib: float) -> int:
    """Return ``gib`` GiB in bytes, at least one byte unless it is 0, which means no limit."""
    return math.ceil(gib * 2**30)


@dataclass(frozen=True)
class Engine:
    """A network and how to run it. Made once and used for many pictures.

    Attributes:
        net: a network for any scale; a user's class with ``encode`` and ``query`` is wrapped.
        device: where to compute.
        precision: a name of ``precision.DTYPES``.
        budget: bytes that rendering may take beyond the network and the input, 0 for no limit.
        cell: side of the queries' cells in input pixels; None is the true one.

    Raises:
        UserError: if the network has one fixed scale.
    """

    net: torch.nn.Module
    device: torch.device
    precision: str = "fp32"
    budget: int = 1 << 30
    cell: float | None = None
    # A plain dictionary, because the lock of a cached_property would stay held in a process forked meanwhile.
    _measured: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def network(self) -> ContinuousNetwork:
        """``net`` under the contract."""
        return render.continuous(self.net)

    def tiling(
        self, lr_size: tuple[int, int], where: Geometry, bands: float = 1.0, held: int = 0
    ) -> tuple[int | None, int | None]:
        """Return how to render a picture within the budget.

        Args:
            lr_size: (h, w) of the picture.
            where: which pixels are rendered.
            bands: how many bands of the result are held at one time.
            held: bytes that are taken besides.

        Returns:
            Side of the tiles in pixels of the picture, None for no tiles; the most rows of the result at a
            time, None for as many as there are.

        Raises:
            UserError: if the network needs more than the budget however small the tiles are, or cannot be
                run in tiles.
        """
        if not self.budget:
            return None, None
        if self.network.whole_features:
            # The feature map of the whole image, and its copy in the order of the decoder.
            held += int(2 * self._bytes_kept_per_pixel() * lr_size[0] * lr_size[1])
        halo, budget = self.network.halo, self.budget - held
        if halo is None:
            needed = int(memory.SLACK * self._bytes_per_pixel() * lr_size[0] * lr_size[1]) + memory.FIXED
            found = memory.Tiling(None, None, needed)
        else:
            found = memory.tile_for(
                lr_size, where.size, where.window[2:], halo, self._bytes_per_pixel(), budget, bands
            )
        if found.needed > budget:
            raise UserError(self._too_large(lr_size, where, halo, found.needed + held, held))
        return found.tile, found.rows

    def _too_large(
        self, lr_size: tuple[int, int], where: Geometry, halo: int | None, needed: int, held: int
    ) -> str:
        network = (
            "a network that cannot be run in tiles"
            if halo is None
            else f"a network whose tiles overlap by {halo} pixels"
        )
        whole_file = ""
        if self.network.whole_features:
            network += ", and that needs the features of the whole picture at once"
        elif held:
            whole_file = (
                f", {held / 2**30:.1f} of them for a format that is not written row by row as .png is"
            )
        h, w = lr_size
        H, W = where.window[2:]
        return (
            f"memory: expected at least {needed / 2**30:.1f} GiB to enlarge {w} x {h} pixels to {W} x {H} "
            f"with {network}{whole_file}, got {self.budget / 2**30:.3g}. "
            "Give more, or 0 for no limit."
        )

    def _bytes_per_pixel(self) -> float:
        if "bytes_per_pixel" not in self._measured:
            with torch.no_grad():
                self._measured["bytes_per_pixel"] = memory.bytes_per_pixel(
                    lambda lq: render.prepare(self.network, lq, DTYPES[self.precision]), self.device
                )
        return self._measured["bytes_per_pixel"]

    def _bytes_kept_per_pixel(self) -> float:
        if "bytes_kept_per_pixel" not in self._measured:
            with torch.no_grad():
                self._measured["bytes_kept_per_pixel"] = memory.bytes_kept_per_pixel(
                    lambda lq: render.prepare(self.network, lq, DTYPES[self.precision]), self.device
                )
        return self._measured["bytes_kept_per_pixel"]

    def bands(
        self, lq: np.ndarray | Tensor, where: Geometry, bands: float = 1.0, held: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """Render a picture, (h, w, 3) or (1, 3, h, w), with ``render_bands``; arguments as for ``tiling``."""
        h, w = lq.shape[-2:] if isinstance(lq, Tensor) else lq.shape[:2]
        cell = None
        if self.cell is not None:
            cell = self.cell * torch.tensor([2 / h, 2 / w], dtype=torch.float32)
        tile, rows = self.tiling((h, w), where, bands, held)
        return render.render_bands(
            self.network,
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
    """Render a picture.

    Args:
        engine: the network.
        picture: gray stays gray and alpha stays alpha.
        where: which pixels are rendered.
        dtype: np.uint8 or np.uint16.
        held: bytes that the caller keeps of the rows.

    Yields:
        Rows of the result from the top: (rows, W, channels), as many channels as the file had.
    """
    alpha_bands = None
    constant_alpha = None
    if picture.alpha is not None:
        constant = picture.alpha.min() == picture.alpha.max()  # one value everywhere needs no network
        if constant:
            constant_alpha = float(picture.alpha.flat[0]) / np.iinfo(picture.alpha.dtype).max
        else:
            as_colour = picture.alpha[:, :, None].repeat(3, axis=2)
            alpha_bands = engine.bands(as_colour, where, BANDS_WITH_ALPHA, held)
    largest = np.iinfo(dtype).max
    bands = 1.0 if alpha_bands is None else BANDS_WITH_ALPHA
    for _, band in engine.bands(picture.colour, where, bands, held):
        # The planes of the result, each (channels, rows, W).
        planes = [band[0].mean(dim=0, keepdim=True) if picture.gray else band[0]]
        if alpha_bands is not None:
            planes.append(_snap_alpha(next(alpha_bands)[1][0].mean(dim=0, keepdim=True)))
        elif constant_alpha is not None:
            planes.append(torch.full((), constant_alpha, device=band.device).expand(1, *band.shape[2:]))
        # To integers, some rows at a time.
        step = max(1, SAMPLES_AT_ONCE // (3 * band.shape[3]))
        for top in range(0, band.shape[2], step):
            rows = torch.cat([plane[:, top : top + step] for plane in planes])
            rows = rows.clamp_(0, 1).mul_(largest).round_()
            yield rows.permute(1, 2, 0).cpu().numpy().astype(dtype)
        del band, planes  # before the next one is made


def _snap_alpha(alpha: Tensor) -> Tensor:
    """Set nearly invisible alpha to 0 and nearly opaque alpha to 1: networks leave a trace."""
    return torch.where(alpha < 1.5 / 255, 0.0, torch.where(alpha > 1 - 1.5 / 255, 1.0, alpha))


def upscale_file(
    engine: Engine,
    picture: Picture,
    path: str,
    where: Geometry,
    on_rows: Callable[[int], object] | None = None,
    quality: int = 95,
) -> None:
    """Render a picture and write it at once.

    Args:
        engine: the network.
        picture: what to enlarge.
        path: the file to write; its suffix decides the format.
        where: which pixels are rendered.
        on_rows: called with the number of pixels that have been finished since the last call.
        quality: 1 to 100, of JPEG and WebP.

    Raises:
        UserError: if the format cannot hold the result, or it cannot be written.
    """
    dtype = np.uint16 if picture.colour.dtype == np.uint16 and is_streamed(path) else np.uint8
    check_format(path, where.window[2:], picture.channels)
    # A format that is not streamed holds the whole array, and Pillow's four bytes a pixel.
    held = 0 if is_streamed(path) else where.pixels * (picture.channels + 4)

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
