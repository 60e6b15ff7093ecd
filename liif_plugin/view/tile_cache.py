"""The encoded tiles of a picture of any size: made when a view needs them, and kept while there is memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..archs.base import tensors_of
from ..inference.render import as_float, prepare, prepare_tile
from ..inference.upscaling import Engine, Geometry
from ..precision import DTYPES

TILE = 128  # side in pixels of the picture: small, because a view waits for whole tiles
Span = tuple[int, int]  # first, last + 1


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
        self.tiled = engine.network.halo is not None
        if self.tiled:
            multiple = engine.network.pad_multiple
            self.side = -(-TILE // multiple) * multiple
        else:
            engine.tiling(self.size, Geometry(self.size, (0, 0, *self.size)))  # raises if it does not fit
            self.side = max(self.size)
        self.tiles: OrderedDict[tuple[int, int], Any] = OrderedDict()  # least recently used first
        self.bytes = 0

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

    def clear(self) -> None:
        """Drop every tile."""
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
