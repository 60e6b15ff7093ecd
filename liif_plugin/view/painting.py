"""A picture and a view of it -> pixels, band by band."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..image_io.reading import Picture
from ..inference.render import decode
from ..inference.upscaling import Engine
from ..precision import DTYPES
from .features import Features
from .plain import Plain
from .views import View

BAND = 1 << 16  # pixels between two looks at whether the view is still wanted


class Painter:
    """Views of a picture by a network, and by plain interpolation. Not for two threads at once.

    Raises:
        UserError: where the network cannot be run on so large a picture.
    """

    def __init__(self, engine: Engine, picture: Picture):
        self.engine, self.picture, self.size = engine, picture, picture.size
        self.features = Features(engine, picture.colour)
        self.colour = Plain(picture.colour)
        self.alpha = None if picture.alpha is None else Plain(picture.alpha[:, :, None])
        self.one_code = engine.network.without_ensemble() or engine.network

    @property
    def has_ensemble(self) -> bool:
        """Return whether the network asks four codes, so that asking one is different."""
        return self.one_code is not self.engine.network

    @property
    def has_cell(self) -> bool:
        """Return whether the result depends on the cell."""
        return self.engine.network.uses_cell

    def bands(self, view: View) -> Iterator[np.ndarray]:
        """The view from the top: (rows, W, 4) RGBA uint8, transparent outside the picture; no rows while codes are still made."""
        (top, bottom), (left, right) = (view.pixels_inside(axis, n) for axis, n in enumerate(self.size))
        H, W = view.size
        if bottom == top or right == left:
            yield np.zeros((H, W, 4), np.uint8)
            return
        if top:
            yield np.zeros((top, W, 4), np.uint8)
        for colours, opacity in self._colours(view):  # in [0, 1]
            band = np.zeros((len(colours), W, 4), np.uint8)
            band[:, left:right, :3] = colours.clip(0, 1) * 255 + 0.5
            band[:, left:right, 3] = 255 if opacity is None else opacity.clip(0, 1) * 255 + 0.5
            yield band
        if bottom < H:
            yield np.zeros((H - bottom, W, 4), np.uint8)

    def _colours(self, view: View) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """The pixels inside the picture: colours (rows, C, 3), opacity (rows, C) or None where the picture has none."""
        y, x = (view.in_picture(axis, n) for axis, n in enumerate(self.size))
        # below x1 the network would only take samples; what is shown then is the picture, properly shrunk
        layer = "bicubic" if view.layer == "network" and view.scale < 1 else view.layer
        for start, colours in (
            self._network(view) if layer == "network" else self._plain(layer, y, x, view.scale / view.step)
        ):
            opacity = None
            if self.alpha is not None and len(colours):
                opacity = self._resampled(
                    self.alpha, layer, y[start : start + len(colours)], x, view.scale / view.step
                )[:, :, 0]
            yield colours, opacity

    def _plain(
        self, layer: str, y: np.ndarray, x: np.ndarray, scale: float
    ) -> Iterator[tuple[int, np.ndarray]]:
        step = max(1, 4 * BAND // len(x))
        for start in range(0, len(y), step):
            yield start, self._resampled(self.colour, layer, y[start : start + step], x, scale)

    @staticmethod
    def _resampled(plain: Plain, layer: str, y: np.ndarray, x: np.ndarray, scale: float) -> np.ndarray:
        return plain.nearest(y, x) if layer == "nearest" else plain.bicubic(y, x, scale)

    def _network(self, view: View) -> Iterator[tuple[int, np.ndarray]]:
        for start, band in self.network_bands(view):
            if self.picture.gray:
                band = band.mean(dim=0, keepdim=True).expand(3, -1, -1)
            yield start, band.permute(1, 2, 0).cpu().numpy()

    @torch.no_grad()
    def network_bands(self, view: View) -> Iterator[tuple[int, Tensor]]:
        """The pixels inside the picture, asked of the network: (first row of them, (3, rows, C) float32, not clamped)."""
        y, x = (view.positions(axis, n) for axis, n in enumerate(self.size))
        net = self.engine.net if view.ensemble else self.one_code
        cell, dtype = view.cell_in(self.size), DTYPES[self.engine.precision]
        step = max(1, BAND // len(x))
        columns = list(self.features.spans(1, x))
        for row, (top, bottom) in self.features.spans(0, y):
            for column, _ in columns:
                self.features.tile(row, column)
                yield top, torch.empty(3, 0, len(x))
            for start in range(top, bottom, step):
                rows = y[start : min(start + step, bottom)]
                parts = (
                    decode(net, self.features.tile(row, column), rows, x[a:b], cell, dtype)
                    for column, (a, b) in columns
                )
                yield start, torch.cat([part[0] for part in parts], dim=2)
