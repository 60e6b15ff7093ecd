"""Pixels of a view of a picture, band by band: by the network, or resampled for the comparison."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..archs.base import tensors_of
from ..image_io.reading import Picture
from ..inference.render import as_float, decode, prepare, prepare_tile
from ..inference.upscaling import Engine, Geometry
from ..precision import DTYPES
from .resampler import Resampler
from .views import View

BAND = 1 << 16  # pixels that are computed before the next look at whether the view is still wanted
TILE = 128  # side in pixels of the picture: small, because a view waits for whole tiles

Span = tuple[int, int]  # first, last + 1


class Renderer:
    """Renders views of one picture. Must not be used by two threads at once.

    Args:
        engine: the network, its device and precision, and the memory for encoded tiles.
        picture: the picture.

    Raises:
        UserError: if the network cannot be run on so large a picture.
    """

    def __init__(self, engine: Engine, picture: Picture):
        self.engine, self.picture, self.size = engine, picture, picture.size
        self.tiles = TileCache(engine, picture.colour)
        self.colour = Resampler(picture.colour)
        self.alpha = None if picture.alpha is None else Resampler(picture.alpha[:, :, None])
        self.without_ensemble = engine.network.without_ensemble() or engine.network

    @property
    def has_ensemble(self) -> bool:
        """Return whether the network has a local ensemble that can be switched off."""
        return self.without_ensemble is not self.engine.network

    @property
    def has_cell(self) -> bool:
        """Return whether the result depends on the cell."""
        return self.engine.network.uses_cell

    def bands(self, view: View) -> Iterator[np.ndarray]:
        """Render a view from the top.

        Yields:
            (rows, W, 4) RGBA uint8, transparent outside the picture. A band without rows follows each tile
            that is encoded, so that the caller can stop.
        """
        (top, bottom), (left, right) = (view.pixels_inside(axis, n) for axis, n in enumerate(self.size))
        H, W = view.size
        if bottom == top or right == left:
            yield np.zeros((H, W, 4), np.uint8)
            return
        if top:
            yield np.zeros((top, W, 4), np.uint8)
        for colours, alpha in self._inside(view):  # in [0, 1]
            band = np.zeros((len(colours), W, 4), np.uint8)
            band[:, left:right, :3] = colours.clip(0, 1) * 255 + 0.5
            band[:, left:right, 3] = 255 if alpha is None else alpha.clip(0, 1) * 255 + 0.5
            yield band
        if bottom < H:
            yield np.zeros((H - bottom, W, 4), np.uint8)

    def _inside(self, view: View) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield the pixels inside the picture: colours (rows, C, 3), alpha (rows, C) or None."""
        y, x = (view.in_picture(axis, n) for axis, n in enumerate(self.size))
        # Below x1 the network would only pick single samples: show the picture, properly shrunk, instead
        layer = "bicubic" if view.layer == "network" and view.scale < 1 else view.layer
        scale = view.scale / view.step
        bands = self._network(view) if layer == "network" else self._resampled(layer, y, x, scale)
        for start, colours in bands:
            alpha = None
            if self.alpha is not None and len(colours):
                rows = y[start : start + len(colours)]
                alpha = _resample(self.alpha, layer, rows, x, scale)[:, :, 0]
            yield colours, alpha

    def _resampled(
        self, layer: str, y: np.ndarray, x: np.ndarray, scale: float
    ) -> Iterator[tuple[int, np.ndarray]]:
        step = max(1, 4 * BAND // len(x))
        for start in range(0, len(y), step):
            yield start, _resample(self.colour, layer, y[start : start + step], x, scale)

    def _network(self, view: View) -> Iterator[tuple[int, np.ndarray]]:
        for start, band in self.network_bands(view):
            if self.picture.gray:
                band = band.mean(dim=0, keepdim=True).expand(3, -1, -1)
            yield start, band.permute(1, 2, 0).cpu().numpy()

    @torch.no_grad()
    def network_bands(self, view: View) -> Iterator[tuple[int, Tensor]]:
        """Decode the pixels inside the picture.

        Yields:
            The first row of a band, counted from the first one inside, and (3, rows, C) float32, not clamped.
            A band without rows follows each tile that is encoded.
        """
        y, x = (view.positions(axis, n) for axis, n in enumerate(self.size))
        net = self.engine.net if view.ensemble else self.without_ensemble
        cell, dtype = view.cell_in(self.size), DTYPES[self.engine.precision]
        step = max(1, BAND // len(x))  # rows of a band
        columns = list(self.tiles.spans(1, x))
        for row, (top, bottom) in self.tiles.spans(0, y):
            # Encode the tiles of this row of tiles
            for column, _ in columns:
                self.tiles.tile(row, column)
                yield top, torch.empty(3, 0, len(x))
            # Decode each band tile by tile, from left to right
            for start in range(top, bottom, step):
                rows = y[start : min(start + step, bottom)]
                parts = [
                    decode(net, self.tiles.tile_at(row, column, cell), rows, x[first:stop], cell, dtype)[0]
                    for column, (first, stop) in columns
                ]
                yield start, torch.cat(parts, dim=2)


def _resample(resampler: Resampler, layer: str, y: np.ndarray, x: np.ndarray, scale: float) -> np.ndarray:
    return resampler.nearest(y, x) if layer == "nearest" else resampler.bicubic(y, x, scale)


class TileCache:
    """What ``render.decode`` needs of each tile of a picture.

    A network that cannot be run in tiles has one tile, the whole picture. If the tiles together have more
    than ``engine.budget`` bytes, the least recently used ones are dropped.

    Args:
        engine: the network, its device and precision, and the budget.
        lq: (h, w, 3) uint8 or uint16, the picture.

    Raises:
        UserError: if the network cannot be run in tiles and needs more than ``engine.budget`` bytes.
    """

    def __init__(self, engine: Engine, lq: np.ndarray):
        self.engine, self.lq, self.size = engine, lq, lq.shape[:2]
        self.tiled = engine.network.halo is not None and not engine.network.whole_features
        if self.tiled:
            multiple = engine.network.pad_multiple
            self.side = -(-TILE // multiple) * multiple
        else:
            engine.tiling(self.size, Geometry(self.size, (0, 0, *self.size)))  # raises if it does not fit
            self.side = max(self.size)
        self.tiles: OrderedDict[tuple[int, int], Any] = OrderedDict()  # least recently used first
        self.bytes = 0
        self._last: tuple[Any, Tensor, Any] | None = None  # a tile, a cell, and the tile for this cell

    def __len__(self) -> int:
        return len(self.tiles)

    def spans(self, axis: int, positions: Tensor) -> Iterator[tuple[int, Span]]:
        """Divide positions among the tiles along one axis.

        Args:
            axis: 0 for y, 1 for x.
            positions: (N,) in [-1, 1], ascending.

        Yields:
            The number of a tile and (first, last + 1) of the positions in it, for each tile that has some.
        """
        n = self.size[axis]
        # The borders between tiles, in [-1, 1]
        borders = torch.arange(self.side, max(n, self.side), self.side, dtype=torch.float64) * 2 / n - 1
        bounds = [0, *torch.searchsorted(positions.double(), borders).tolist(), len(positions)]
        for number, span in enumerate(zip(bounds, bounds[1:])):
            if span[0] < span[1]:
                yield number, span

    def tile(self, row: int, column: int) -> Any:
        """Return the prepared tile with these numbers; encode it if it is not in the cache."""
        key = row, column
        if key in self.tiles:
            self.tiles.move_to_end(key)
            return self.tiles[key]
        tile = self._encode(row, column)
        self.tiles[key] = tile
        self.bytes += _bytes(tile)
        # Make room: drop the least recently used tiles, but never the new one
        while self.engine.budget and self.bytes > self.engine.budget and len(self.tiles) > 1:
            self.bytes -= _bytes(self.tiles.popitem(last=False)[1])
        return tile

    def tile_at(self, row: int, column: int, cell: Tensor) -> Any:
        """Return ``tile`` with what the whole target with pixels of the size ``cell`` (2,) decides.

        The last one is remembered: for SRNO it takes two sweeps over all pixels of the target.
        """
        tile, network = self.tile(row, column), self.engine.network
        if not network.whole_features:
            return tile
        if self._last is None or self._last[0] is not tile or not torch.equal(self._last[1], cell):
            self._last = tile, cell, network.at_cell(tile, cell)
        return self._last[2]

    def clear(self) -> None:
        """Drop every tile."""
        self._last = None
        self.tiles.clear()
        self.bytes = 0

    def _encode(self, row: int, column: int) -> Any:
        engine, dtype = self.engine, DTYPES[self.engine.precision]
        if not self.tiled:
            return prepare(engine.net, as_float(self.lq, engine.device), dtype)
        rows, columns = (
            (i * self.side, min((i + 1) * self.side, n)) for i, n in zip((row, column), self.size)
        )
        return prepare_tile(engine.net, self.lq, rows, columns, dtype, engine.device)


def _bytes(prepared: Any) -> int:
    return sum(part.numel() * part.element_size() for part in tensors_of(prepared))
