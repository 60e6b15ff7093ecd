"""The part of a picture that the screen shows: a window whose pixels may lie between those of the picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError, check_choice, check_keys

LAYERS = ("network", "bicubic", "nearest")
MAX_PIXELS = 1 << 24  # of one view: a screen of 5120 x 2880, and room
MAX_SIDE = 1 << 14
# At a million float32 positions are farther apart than screen pixels, and a view has one colour
SCALES = (1e-4, 1e6)
MAX_STEP = 64


class TooLarge(UserError):  # noqa: N818  named by what it says
    """A view has more pixels than MAX_PIXELS, or a longer side than MAX_SIDE."""


@dataclass(frozen=True)
class View:
    """A rectangle of screen pixels.

    Attributes:
        x: its left border, in pixels of the picture; it may lie outside.
        y: its upper border, likewise.
        scale: screen pixels for one pixel of the picture.
        width: in screen pixels.
        height: in screen pixels.
        step: one pixel is rendered for each step x step screen pixels, at their centre.
        layer: one of LAYERS.
        cell: side of the queried pixel in pixels of the picture; None means one screen pixel.
        ensemble: False asks one code instead of four.
    """

    x: float
    y: float
    scale: float
    width: int
    height: int
    step: int = 1
    layer: str = "network"
    cell: float | None = None
    ensemble: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W) of what is rendered."""
        return -(-self.height // self.step), -(-self.width // self.step)

    def pixels_inside(self, axis: int, n: int) -> tuple[int, int]:
        """Return (first, last + 1) of the rendered pixels whose centres lie inside the picture.

        Args:
            axis: 0 for y, 1 for x.
            n: pixels of the picture along that axis.
        """
        inside = np.flatnonzero(np.abs(self._centres(axis, n)) <= 1)
        return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)

    def positions(self, axis: int, n: int) -> Tensor:
        """Return the centres of ``pixels_inside`` in [-1, 1]: (N,) float32.

        They are computed in float64, as in ``coords.pixel_centres``.
        """
        first, stop = self.pixels_inside(axis, n)
        return torch.from_numpy(self._centres(axis, n)[first:stop]).float()

    def in_picture(self, axis: int, n: int) -> np.ndarray:
        """Return the centres of ``pixels_inside`` in pixels: (N,) float64; pixel i has its centre at i."""
        first, stop = self.pixels_inside(axis, n)
        return (self._centres(axis, n)[first:stop] + 1) * n / 2 - 0.5

    def _centres(self, axis: int, n: int) -> np.ndarray:
        start = self.x if axis else self.y
        return (start + (np.arange(self.size[axis]) + 0.5) * (self.step / self.scale)) * 2 / n - 1

    def cell_in(self, size: tuple[int, int]) -> Tensor:
        """Return the cell for a picture of ``size`` = (h, w): (2,) in the unit of positions."""
        side = 1 / self.scale if self.cell is None else self.cell
        return torch.tensor([2 * side / size[0], 2 * side / size[1]])


def parsed(query: Mapping[str, str]) -> View:
    """Return the view that a request asks for.

    Args:
        query: the parameters of the request, as text.

    Raises:
        UserError: if a name or a value is not valid.
        TooLarge: if the view has too many pixels.
    """
    check_keys("view", query, ("x", "y", "scale", "width", "height", "step", "layer", "cell", "ensemble"))
    layer, ensemble = query.get("layer", "network"), query.get("ensemble", "1")
    check_choice("layer", layer, LAYERS)
    check_choice("ensemble", ensemble, ("0", "1"))
    cell = query.get("cell", "true")
    view = View(
        _number(query, "x", float, -1e9, 1e9),
        _number(query, "y", float, -1e9, 1e9),
        _number(query, "scale", float, *SCALES),
        _number(query, "width", int, 1, 1 << 31),
        _number(query, "height", int, 1, 1 << 31),
        _number({"step": "1", **query}, "step", int, 1, MAX_STEP),
        layer,
        None if cell == "true" else _number(query, "cell", float, 1e-6, 1e4),
        ensemble == "1",
    )
    if view.width * view.height > MAX_PIXELS or max(view.width, view.height) > MAX_SIDE:
        raise TooLarge(
            f"width, height: expected at most {MAX_PIXELS} pixels and {MAX_SIDE} a side, "
            f"got {view.width} x {view.height}."
        )
    return view


def _number(query: Mapping[str, str], name: str, kind: type, low: float, high: float):
    text = query.get(name, "")
    try:
        if len(text) > 40:
            raise ValueError
        value = kind(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:  # nan fails too
        what = "a whole number" if kind is int else "a number"
        raise UserError(f"{name}: expected {what} from {low:g} to {high:g}, got '{text[:40]}'.")
    return value
