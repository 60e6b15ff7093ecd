"""The codes of a picture of any size: encoded in tiles where and when a view needs them, and kept as long as there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..archs.base import tensors_of
from ..inference.render import as_float, prepare, prepare_tile
from ..inference.upscaling import Engine, Geometry
from ..precision import DTYPES

TILE = 128  # side in pixels of the picture: small, because a view waits for whole tiles
Span = tuple[int, int]  # first, last + 1


class Features:
    """What ``render.decode`` needs of each tile of ``lq`` (h, w, 3); the least recently used go when there are more than engine.budget
    bytes of them. A network that cannot be run in tiles has one tile, the picture.

    Raises:
        UserError: where such a network needs more than engine.budget for the picture.
    """

    def __init__(self, engine: Engine, lq: np.ndarray):
        self.engine, self.lq, self.size = engine, lq, lq.shape[:2]
        self.tiled = engine.network.halo is not None
        if not self.tiled:
            engine.tiling(self.size, Geometry(self.size, (0, 0, *self.size)))
        multiple = engine.net.pad_multiple if self.tiled else 1
        self.side = -(-TILE // multiple) * multiple if self.tiled else max(self.size)
        self.kept: OrderedDict[tuple[int, int], object] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.kept)

    def spans(self, axis: int, positions: Tensor) -> Iterator[tuple[int, Span]]:
        """The tiles along ``axis`` in which ascending ``positions`` lie: (number of the tile, (first, last + 1) of its positions)."""
        n = self.size[axis]
        edges = torch.arange(self.side, max(n, self.side), self.side, dtype=torch.float64) * 2 / n - 1
        bounds = [0, *torch.searchsorted(positions.double(), edges).tolist(), len(positions)]
        for number, span in enumerate(zip(bounds, bounds[1:])):
            if span[0] < span[1]:
                yield number, span

    def tile(self, row: int, column: int) -> object:
        """The tile with these numbers, encoded if it is not there."""
        key = row, column
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        self.kept[key] = made = self._encoded(row, column)
        self.bytes += _bytes(made)
        while self.engine.budget and self.bytes > self.engine.budget and len(self.kept) > 1:
            self.bytes -= _bytes(self.kept.popitem(last=False)[1])
        return made

    def clear(self) -> None:
        """Forget every tile."""
        self.kept.clear()
        self.bytes = 0

    def _encoded(self, row: int, column: int) -> object:
        engine = self.engine
        if not self.tiled:
            return prepare(engine.net, as_float(self.lq, engine.device), DTYPES[engine.precision])
        rows, columns = (
            (i * self.side, min((i + 1) * self.side, n)) for i, n in zip((row, column), self.size)
        )
        return prepare_tile(engine.net, self.lq, rows, columns, DTYPES[engine.precision], engine.device)


def _bytes(source) -> int:
    return sum(part.numel() * part.element_size() for part in tensors_of(source))
