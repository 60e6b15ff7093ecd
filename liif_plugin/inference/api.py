"""The Python API for scripts and notebooks: ``from liif_plugin import load, upscale, ContinuousImage``."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..archs.base import QUERIES_AT_ONCE, ContinuousNetwork, tensors_of
from ..archs.building import machine_memory
from ..checkpoints import DEFAULT_MODEL
from ..checkpoints.loading import find, load
from ..config.option_types import number
from ..coords import cell_of, pixel_centres
from ..errors import UserError
from ..image_io.reading import Picture, from_array, profile_of, upright
from ..precision import DTYPES, choose_precision
from . import render
from .upscaling import Engine, Target, finished_rows, geometry, memory_budget

__all__ = ["ContinuousImage", "load", "upscale"]

Pair = tuple[float, float]
Array = np.ndarray
LARGEST_CELL = 1e6  # a cell of 2 covers the picture
MOST_CELLS = 64  # of one call, for networks that answer one cell at a time


@lru_cache(maxsize=4)
def _cached_network(model: str, weights: str, written: int) -> nn.Module:
    return load(model)


def _network(model: str | os.PathLike | nn.Module) -> ContinuousNetwork:
    """Return a network for any scale, loaded once for several calls if ``model`` is a name or a path."""
    net = model
    if isinstance(net, (str, os.PathLike)):
        weights = find(net)[1]
        # The time of the file is part of the key: a training may have written newer weights.
        net = _cached_network(os.fspath(net), weights, os.stat(weights).st_mtime_ns)
    return render.continuous(net, "model")


def _device_of(net: nn.Module) -> torch.device:
    return next((p.device for p in net.parameters()), torch.device("cpu"))


def _as_array(picture: object) -> Array | None:
    """Return a PIL image, upright, or a numpy array in the machine's byte order; None for anything else."""
    if isinstance(picture, Image.Image):
        try:
            picture = upright(picture)
        except (ValueError, OSError) as error:  # another depth, or a file that ends early
            raise UserError(f"picture: {error}.") from error
    if not isinstance(picture, np.ndarray) or picture.dtype.kind not in "uif":
        return None
    return np.ascontiguousarray(picture.astype(picture.dtype.newbyteorder("="), copy=False))


def _as_floats(name: str, values: Any) -> Tensor:
    if isinstance(values, np.ndarray):
        values = np.ascontiguousarray(values)  # torch has no negative strides
    try:
        return torch.as_tensor(values, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(
            f"{name}: expected numbers, got {type(values).__name__} ({str(error)[:100]})."
        ) from error


def _require_memory(size: int) -> None:
    """Raise UserError if a result of ``size`` bytes is larger than the machine's memory."""
    machine = machine_memory()
    if size > machine:
        raise UserError(
            f"size: the result needs {size / 2**30:,.0f} GiB, and this machine has {machine / 2**30:,.0f}; "
            "ask for a window of it, or write it to a file with `liif upscale`."
        )


def _as_batch(picture: Array | Tensor) -> Tensor:
    """Return floats in [0, 1] as (B, 3, H, W) float32; takes what ``upscale`` takes in floats."""
    if isinstance(picture, np.ndarray) and picture.dtype.kind == "f":
        batch = torch.as_tensor(picture if picture.flags.writeable else picture.copy()).float()
        if batch.dim() == 2:
            batch = batch.expand(3, -1, -1)
        elif batch.dim() == 3:
            batch = batch.permute(2, 0, 1)
        else:
            batch = batch[..., None]  # refused below, because it has five dimensions
    elif isinstance(picture, Tensor) and picture.is_floating_point():
        batch = picture.float()
    else:
        found = getattr(picture, "dtype", type(picture).__name__)
        raise UserError(
            "picture: expected a NumPy array, PIL image or tensor (uint8, uint16, or floats in [0, 1]), got "
            f"{found}. To read a file, use PIL.Image.open."
        )
    batch = batch.unsqueeze(0) if batch.dim() == 3 else batch
    if batch.dim() != 4 or batch.shape[1] != 3 or not batch.numel():
        raise UserError(
            f"picture: expected RGB, (H, W, 3) of numpy or (3, H, W) of torch, got {tuple(picture.shape)}."
        )
    low, high = batch.min().item(), batch.max().item()
    if not (low >= -0.5 and high <= 1.5):  # nan fails too; a network's result may be a little outside [0, 1]
        raise UserError(f"picture: expected finite floats in [0, 1], got {low:g} to {high:g}; divide by 255.")
    return batch


def upscale(
    picture: Any,
    scale: float | Pair | None = None,
    size: tuple[int, int] | None = None,
    window: tuple[float, float, float, float] | None = None,
    model: str | os.PathLike | nn.Module = DEFAULT_MODEL,
    precision: str = "auto",
    memory: float = 1.0,
) -> Any:
    """Enlarge a picture to any size.

    Args:
        picture: one of
            * a NumPy array (H, W) or (H, W, 1 to 4), uint8 or uint16: gray, gray and alpha, RGB, RGBA;
            * a NumPy array (H, W) or (H, W, 3), float in [0, 1];
            * a tensor (3, H, W) or (B, 3, H, W), float in [0, 1];
            * a PIL image. Its orientation is applied and its colour profile is kept.
        scale: a factor, or (y, x). If neither scale nor size is given, it is 4.
        size: (H, W) instead of a scale.
        window: (top, left, height, width) in pixels of the picture, fractions allowed: only this part is
            enlarged, and scale and size are then those of the part.
        model: what ``load`` takes, or a network for any scale.
        precision: 'auto', 'fp32', 'bf16' or 'fp16'; auto is bf16 if the hardware multiplies it, else fp32.
        memory: GiB that rendering may take besides the network, the picture and the result; 0 for no limit.

    Returns:
        An object of the same type, dtype and channels as ``picture``; floats are clamped to [0, 1]. A tensor
        is on the device of ``picture``.

    Raises:
        UserError: if the picture has another type, shape or range, there is no such model, the window lies
            outside the picture, or the result has no pixels or does not fit into memory.

    Example:
        >>> import numpy as np
        >>> from liif_plugin import upscale
        >>> picture = np.zeros((20, 30, 3), np.uint8)
        >>> upscale(picture, scale=2.5).shape
        (50, 75, 3)
        >>> upscale(picture, size=(64, 64), window=(0, 0, 10, 10)).shape
        (64, 64, 3)
    """
    net = _network(model)
    device = _device_of(net)
    if not number(0, 1e6).fits(memory):
        raise UserError(f"memory: expected GiB, 0 for no limit, got {memory}.")
    engine = Engine(net, device, choose_precision(precision, device), memory_budget(memory))
    target, pixels = _target(scale, size), _as_array(picture)
    if pixels is not None and pixels.dtype in (np.uint8, np.uint16):
        enlarged = _upscale_pixels(engine, pixels, target, window)
        if not isinstance(picture, Image.Image):
            return enlarged
        result = Image.fromarray(enlarged)
        if profile_of(picture) is not None:
            result.info["icc_profile"] = profile_of(picture)
        return result
    batch = _as_batch(picture if pixels is None else pixels)
    image = _upscale_floats(engine, batch, target, window)
    if isinstance(picture, Tensor):
        return (image if picture.dim() == 4 else image[0]).to(picture.device, picture.dtype)
    assert pixels is not None
    colours = image[0].permute(1, 2, 0).cpu().numpy().astype(pixels.dtype)
    return colours.mean(axis=2) if pixels.ndim == 2 else colours


def _target(scale: float | Pair | None, size: tuple[int, int] | None) -> Target:
    if scale is not None and size is not None:
        raise UserError("expected scale or size, got both; give one of them.")
    try:
        if size is not None:
            H, W = (int(n) for n in size)
            return Target(size=(H, W))
        factors = [float(factor) for factor in np.atleast_1d(4.0 if scale is None else scale)]
        y, x = factors * 2 if len(factors) == 1 else factors
        return Target(scale=(y, x))
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"expected scale=2.7, scale=(y, x) or size=(height, width), got scale={scale!r}, size={size!r}."
        ) from error


def _as_picture(pixels: Array) -> Picture:
    shape_fits = pixels.ndim == 2 or (pixels.ndim == 3 and 1 <= pixels.shape[2] <= 4)
    if pixels.dtype not in (np.uint8, np.uint16) or not shape_fits:
        raise UserError(
            f"picture: expected (H, W) or (H, W, 1 to 4) of 8 or 16 bits, got {pixels.shape} {pixels.dtype}."
        )
    if not pixels.size:
        raise UserError(f"picture: has no pixels, its shape is {pixels.shape}.")
    return from_array(pixels)


def _upscale_pixels(engine: Engine, pixels: Array, target: Target, window: tuple | None) -> Array:
    picture = _as_picture(pixels)
    where = geometry(*picture.size, target, window)
    _require_memory(where.pixels * picture.channels * pixels.dtype.itemsize)
    result = np.empty((*where.window[2:], picture.channels), pixels.dtype)
    top = 0
    for rows in finished_rows(engine, picture, where, pixels.dtype.type):
        result[top : top + len(rows)] = rows
        top += len(rows)
    return result[:, :, 0] if pixels.ndim == 2 else result


def _upscale_floats(engine: Engine, batch: Tensor, target: Target, window: tuple | None) -> Tensor:
    h, w = batch.shape[-2:]
    where = geometry(h, w, target, window)
    _require_memory(where.pixels * len(batch) * 3 * 4)
    image = torch.empty(len(batch), 3, *where.window[2:], dtype=torch.float32, device=batch.device)
    for one, rendered in zip(batch, image):  # one after the other: the memory limit is for each
        for top, band in engine.bands(one.unsqueeze(0).to(engine.device), where):
            rendered[:, top : top + band.shape[2]] = band[0].clamp_(0, 1)
    return image


class ContinuousImage:
    """A picture as a function of position: encoded once, asked as often as wanted.

    The features stay in memory: about 1 KiB for each pixel of the picture with liif-light, 1.3 KiB with the
    paper's decoder.

    Args:
        picture: what ``upscale`` takes, but a single one. Gray is taken as RGB, and alpha is ignored.
        model: what ``load`` takes, or a network for any scale.
        precision: see ``upscale``.

    Attributes:
        size: (H, W) of the picture.
        net: the network.
        dtype: the type in which its layers run.

    Raises:
        UserError: if the picture has another type, shape or range, or there is no such model.

    Example:
        >>> import numpy as np
        >>> from liif_plugin import ContinuousImage
        >>> image = ContinuousImage(np.zeros((20, 30, 3), np.uint8))
        >>> image.sample([[0.0, 0.0], [0.5, -0.25]]).shape  # two positions (y, x)
        torch.Size([2, 3])
        >>> image.render((100, 150), window=(40, 50, 16, 16)).shape
        torch.Size([3, 16, 16])
    """

    def __init__(
        self, picture: Any, model: str | os.PathLike | nn.Module = DEFAULT_MODEL, precision: str = "auto"
    ):
        self.net = _network(model)
        device = _device_of(self.net)
        self.dtype = DTYPES[choose_precision(precision, device)]
        pixels = _as_array(picture)
        if pixels is not None and pixels.dtype in (np.uint8, np.uint16):
            lq = render.as_float(_as_picture(pixels).colour, device)
        else:
            lq = _as_batch(picture if pixels is None else pixels).to(device)
        if len(lq) != 1:
            raise UserError(f"picture: expected one, got a batch of {len(lq)}.")
        self.size = (lq.shape[-2], lq.shape[-1])
        with torch.no_grad():
            self._prepared = render.prepare(self.net, lq, self.dtype)
        self._last: tuple[Tensor, Any] | None = None  # a cell, and ``_prepared`` for it

    @torch.no_grad()
    def sample(self, coord: Any, cell: Any = None) -> Tensor:
        """Return the colours at any positions.

        Args:
            coord: (..., 2), (y, x) in [-1, 1]: an array, a tensor or a list. Pixel i of n has its centre at
                -1 + (2i + 1)/n.
            cell: height and width of the queried pixel in the same unit, (2,) or of coord's shape; None is a
                pixel of the picture.

        Returns:
            (..., 3) float32 RGB on the device of the network, not clamped.

        Raises:
            UserError: if a position is not finite or lies outside, or a cell is not positive. SRNO takes at
                most 64 different cells in a call.
        """
        coord = _as_floats("coord", coord)
        if coord.shape[-1:] != (2,) or not bool((coord.abs() <= 1).all()):  # nan fails too
            values = f", values from {coord.min():g} to {coord.max():g}" if coord.numel() else ""
            raise UserError(
                "coord: expected positions (y, x) between -1 and 1, shape (..., 2), got shape "
                f"{tuple(coord.shape)}{values}. Pixel i of n has the position -1 + (2i + 1)/n."
            )
        cell = self._checked_cell(cell, self.size, coord.shape)
        device = tensors_of(self._prepared)[0].device
        flat = coord.reshape(1, -1, 2).to(device)
        cells = cell.expand_as(coord).reshape(1, -1, 2).to(device)
        rgb = torch.zeros(*flat.shape[:2], 3, device=device)
        for group in self._groups(cells[0]):
            prepared = self._at_cell(cells[0, group[0]]) if self.net.one_cell else self._prepared
            for part in group.split(QUERIES_AT_ONCE):
                with torch.autocast(device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
                    rgb[:, part] = self.net.sample(prepared, flat[:, part], cells[:, part]).float()
        return rgb.view(*coord.shape[:-1], 3)

    def _groups(self, cells: Tensor) -> list[Tensor]:
        """Return the numbers of the queries that are answered together; ``cells`` is (Q, 2)."""
        numbers = torch.arange(len(cells), device=cells.device)
        if not len(cells) or not self.net.one_cell:
            return [numbers] if len(cells) else []
        different, which = torch.unique(cells, dim=0, return_inverse=True)
        if len(different) > MOST_CELLS:
            raise UserError(
                f"cell: expected at most {MOST_CELLS} different ones for {type(self.net).__name__}, which is "
                f"asked with one cell at a time, got {len(different)}."
            )
        return [numbers[which == i] for i in range(len(different))]

    def _at_cell(self, cell: Tensor) -> Any:
        """Return what the decoder needs for pixels of the size ``cell``; the last cell is remembered."""
        if self._last is None or not torch.equal(self._last[0], cell):
            with torch.autocast(cell.device.type, enabled=False):
                self._last = cell, self.net.at_cell(self._prepared, cell)
        return self._last[1]

    @torch.no_grad()
    def render(
        self,
        size: tuple[int, int],
        window: tuple[int, int, int, int] | None = None,
        cell: Any = None,
    ) -> Tensor:
        """Return the picture at any size, or a window of it.

        Args:
            size: (H, W).
            window: (top, left, height, width) in pixels of that size; None is all of it.
            cell: (2,), height and width of every pixel where the picture is [-1, 1]; None is (2/H, 2/W).

        Returns:
            (3, H, W), or (3, height, width) of the window: float32 RGB on the device of the network, not
            clamped.

        Raises:
            UserError: if the size is below one pixel, the window lies outside, or the cell is not positive.
        """
        top, left, height, width = render.checked_window(size, window)
        _require_memory(height * width * 3 * 4)
        cell = self._checked_cell(cell, size, torch.Size([2]))
        rows = pixel_centres(size[0], top, top + height)
        columns = pixel_centres(size[1], left, left + width)
        prepared = self._at_cell(cell.to(tensors_of(self._prepared)[0].device))
        return render.decode(self.net, prepared, rows, columns, cell, self.dtype)[0]

    @staticmethod
    def _checked_cell(cell: Any, size: tuple[int, int], shape: torch.Size) -> Tensor:
        cell = cell_of(size) if cell is None else _as_floats("cell", cell)
        if cell.shape not in ((2,), shape) or not bool(((cell > 0) & (cell <= LARGEST_CELL)).all()):
            raise UserError("cell: expected positive heights and widths, shape (2,) or that of coord.")
        return cell
