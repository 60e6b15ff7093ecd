"""For scripts and notebooks: ``from liif_plugin import load, upscale, ContinuousImage``."""

from __future__ import annotations

import math
import os
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..checkpoints.loading import find, load
from ..config.option_types import number
from ..coords import cell_of, pixel_centres
from ..errors import UserError
from ..image_io.metadata import profile_of
from ..image_io.reading import Picture, from_array, upright
from ..precision import DTYPES, choose_precision
from . import render
from .upscaling import Engine, Target, finished_rows, geometry

Pair = tuple[float, float]
LARGEST_CELL = 1e6  # a cell of 2 covers the picture


@lru_cache(maxsize=4)
def _shared(model: str, weights: str, written: int) -> nn.Module:
    return load(model)


def _network(model: str | os.PathLike | nn.Module) -> nn.Module:
    net = model
    if isinstance(model, (str, os.PathLike)):
        weights = find(model)[1]
        net = _shared(
            os.fspath(model), weights, os.stat(weights).st_mtime_ns
        )  # a training may have written newer ones
    if not render.is_continuous(net):
        raise UserError(
            f"model: {type(net).__name__} has one fixed scale; expected a network for any scale, such as LIIF."
        )
    return net


def _array(picture) -> np.ndarray | None:
    """A PIL image, upright, or a numpy array in the machine's own byte order; None for anything else."""
    if isinstance(picture, Image.Image):
        try:
            picture = upright(picture)
        except (ValueError, OSError) as error:  # of another depth; a file that ends early
            raise UserError(f"picture: {error}.") from error
    if not isinstance(picture, np.ndarray) or picture.dtype.kind not in "uif":
        return None
    return np.ascontiguousarray(picture.astype(picture.dtype.newbyteorder("="), copy=False))


def _floats(name: str, values) -> Tensor:
    if isinstance(values, np.ndarray):
        values = np.ascontiguousarray(values)  # torch has no negative strides
    try:
        return torch.as_tensor(values, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(
            f"{name}: expected numbers, got {type(values).__name__} ({str(error)[:100]})."
        ) from error


def require_memory(size: int) -> None:
    """Raise UserError for a result of more bytes than the machine has."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf
    if size > there:
        raise UserError(
            f"size: the result would take {size / 2**30:,.0f} GiB, and this machine has {there / 2**30:,.0f}; ask for a window "
            "of it, or write it to a file with `liif upscale`."
        )


def _batch(picture: np.ndarray | Tensor) -> Tensor:
    """Floats in [0, 1]: (H, W) or (H, W, 3) of numpy, (3, H, W) or (B, 3, H, W) of torch -> (B, 3, H, W) float32."""
    kind = getattr(picture, "dtype", type(picture).__name__)
    if not (isinstance(picture, Tensor) and picture.is_floating_point()) and not (
        isinstance(picture, np.ndarray) and kind.kind == "f"
    ):
        raise UserError(
            f"picture: expected uint8, uint16 or floats in [0, 1] as numpy, PIL or tensor, got {kind}."
        )
    batch = torch.as_tensor(
        picture if isinstance(picture, Tensor) or picture.flags.writeable else picture.copy()
    ).float()
    if isinstance(picture, np.ndarray):
        batch = (
            batch.expand(3, -1, -1)
            if batch.dim() == 2
            else batch.permute(2, 0, 1)
            if batch.dim() == 3
            else batch[..., None]
        )
    batch = batch.unsqueeze(0) if batch.dim() == 3 else batch
    if batch.dim() != 4 or batch.shape[1] != 3 or not batch.numel():
        raise UserError(
            f"picture: expected RGB, (H, W, 3) of numpy or (3, H, W) of torch, got {tuple(picture.shape)}."
        )
    low, high = batch.min().item(), batch.max().item()
    if not (low >= -0.5 and high <= 1.5):  # nan fails too; what a network gave may be a little outside
        raise UserError(
            f"picture: expected finite floats in [0, 1], got {low:g} to {high:g}; divide by 255, or hand it over as uint8."
        )
    return batch


def upscale(
    picture,
    scale: float | Pair | None = None,
    size: tuple[int, int] | None = None,
    window: tuple | None = None,
    model: str | nn.Module = "liif-light",
    precision: str = "auto",
    memory: float = 1.0,
):
    """A picture at any size: the same kind of object as ``picture``.

    Args:
        picture: numpy (H, W), (H, W, 1 to 4) uint8 or uint16; numpy (H, W) or (H, W, 3) or tensor (3, H, W) or (B, 3, H, W) float in
            [0, 1]; or a PIL image, whose orientation is applied and whose colour profile goes with the result. Gray stays gray and
            alpha stays alpha.
        scale: a factor, or (y, x). size: (H, W) instead. Neither: 4.
        window: (x, y, width, height) in pixels of the picture, fractions allowed: only this part; scale and size are then its own.
        model: what ``load`` takes, or a network.
        precision: auto, fp32, bf16, fp16. memory: GiB that rendering may take, 0 for no limit.

    Raises:
        UserError: for another kind of picture, a window outside it, or a size without pixels.
    """
    net = _network(model)
    device = next(net.parameters(), torch.empty(0)).device
    if not number(0, 1e6).fits(memory):
        raise UserError(f"memory: expected GiB, 0 for no limit, got {memory}.")
    engine = Engine(net, device, choose_precision(precision, device), int(memory * 2**30))
    target, pixels = _target(scale, size), _array(picture)
    if isinstance(picture, Image.Image):
        result = Image.fromarray(_pixels(engine, pixels, target, window))
        if profile_of(picture) is not None:
            result.info["icc_profile"] = profile_of(picture)
        return result
    if pixels is not None and pixels.dtype in (np.uint8, np.uint16):
        return _pixels(engine, pixels, target, window)
    batch = _batch(picture if pixels is None else pixels)
    where = geometry(*batch.shape[-2:], target, window)
    require_memory(where.pixels * len(batch) * 3 * 4)
    image = torch.empty(len(batch), 3, *where.window[2:], device=batch.device)
    for one, rendered in zip(batch, image):  # one after the other: ``memory`` is for each
        for top, band in engine.bands(one.unsqueeze(0).to(device), where):
            rendered[:, top : top + band.shape[2]] = band[0].clamp_(0, 1)
    if isinstance(picture, Tensor):
        return (image if picture.dim() == 4 else image[0]).to(picture.device, picture.dtype)
    colours = image[0].permute(1, 2, 0).cpu().numpy().astype(pixels.dtype)
    return colours.mean(axis=2) if pixels.ndim == 2 else colours


def _target(scale: float | Pair | None, size: tuple[int, int] | None) -> Target:
    if scale is not None and size is not None:
        raise UserError("scale and size: give one of them.")
    try:
        if size is not None:
            H, W = (int(n) for n in size)
            return Target(size=(H, W))
        factors = [float(f) for f in (np.atleast_1d(4.0 if scale is None else scale))]
        y, x = factors * 2 if len(factors) == 1 else factors
        return Target(scale=(y, x))
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"expected scale=2.7, scale=(y, x) or size=(H, W), got scale={scale!r}, size={size!r}."
        ) from error


def _picture(pixels: np.ndarray) -> Picture:
    if (
        pixels.dtype not in (np.uint8, np.uint16)
        or pixels.ndim not in (2, 3)
        or (pixels.ndim == 3 and not 1 <= pixels.shape[2] <= 4)
    ):
        raise UserError(
            f"picture: expected (H, W) or (H, W, 1 to 4) of 8 or 16 bits, got {pixels.shape} {pixels.dtype}."
        )
    if not pixels.size:
        raise UserError(f"picture: has no pixels, its shape is {pixels.shape}.")
    return from_array(pixels)


def _pixels(engine: Engine, pixels: np.ndarray, target: Target, window: tuple | None) -> np.ndarray:
    read = _picture(pixels)
    where = geometry(*read.size, target, window)
    require_memory(where.pixels * read.channels * pixels.dtype.itemsize)
    whole, top = np.empty((*where.window[2:], read.channels), pixels.dtype), 0
    for rows in finished_rows(engine, read, where, pixels.dtype.type):
        whole[top : top + len(rows)] = rows
        top += len(rows)
    return whole[:, :, 0] if pixels.ndim == 2 else whole


class ContinuousImage:
    """A picture as a function of position: encoded once, asked as often as wanted.

    Args:
        picture: (H, W, 3) uint8, uint16 or float in [0, 1] of numpy, a tensor (3, H, W) in [0, 1], or a PIL image (taken as RGB).
        model: what ``load`` takes, or a network that knows encode and query.

    The features stay in memory: about 1 KiB for each pixel of the picture with liif-light, 1.3 with the paper's decoder.
    """

    def __init__(self, picture, model: str | nn.Module = "liif-light", precision: str = "auto"):
        self.net = _network(model)
        device = next(self.net.parameters(), torch.empty(0)).device
        self.dtype = DTYPES[choose_precision(precision, device)]
        pixels = _array(picture)
        if pixels is not None and pixels.dtype in (np.uint8, np.uint16):
            lq = render.as_float(_picture(pixels).colour, device)
        else:
            lq = _batch(picture if pixels is None else pixels).to(device)
        if len(lq) != 1:
            raise UserError(f"picture: expected one, got a batch of {len(lq)}.")
        self.size = tuple(lq.shape[-2:])
        with torch.no_grad():
            self._source = render.prepare(self.net, lq, self.dtype)

    @staticmethod
    def _cell(cell, size: tuple[int, int], shape: torch.Size) -> Tensor:
        cell = cell_of(size) if cell is None else _floats("cell", cell)
        if cell.shape not in ((2,), shape) or not bool(((cell > 0) & (cell <= LARGEST_CELL)).all()):
            raise UserError("cell: expected positive heights and widths, shape (2,) or that of coord.")
        return cell

    @torch.no_grad()
    def sample(self, coord, cell=None) -> Tensor:
        """Colours at positions: (..., 2) -> (..., 3) RGB, not clamped.

        Args:
            coord: (y, x) in [-1, 1]; pixel i of n has its centre at -1 + (2i + 1)/n.
            cell: height and width of the asking pixel in the same unit, (2,) or of coord's shape; None is a pixel of the picture.

        Raises:
            UserError: for positions that are not finite or outside, or cells that are not positive.
        """
        coord = _floats("coord", coord)
        if coord.shape[-1:] != (2,) or not bool((coord.abs() <= 1).all()):  # nan fails too
            raise UserError("coord: expected positions (y, x) between -1 and 1, shape (..., 2).")
        cell = self._cell(cell, self.size, coord.shape)
        projected = hasattr(self._source, "table")
        query = self.net.query_projected if projected else self.net.query
        device = (self._source.table if projected else self._source).device
        flat, cells = coord.reshape(1, -1, 2).to(device), cell.expand_as(coord).reshape(1, -1, 2).to(device)
        parts, step = [], render.QUERIES_AT_ONCE
        with torch.autocast(device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            for i in range(0, flat.shape[1], step):
                parts.append(query(self._source, flat[:, i : i + step], cells[:, i : i + step]).float())
        return (
            torch.cat(parts, dim=1).view(*coord.shape[:-1], 3)
            if parts
            else coord.new_zeros(*coord.shape[:-1], 3)
        )

    @torch.no_grad()
    def render(
        self, size: tuple[int, int], window: tuple[int, int, int, int] | None = None, cell=None
    ) -> Tensor:
        """The picture at ``size`` = (H, W), or the ``window`` (top, left, height, width) of that size: (3, h, w) RGB, not clamped.

        Args:
            cell: (2,), of every pixel; None is the true one.

        Raises:
            UserError: for a size below one pixel, a window outside it, or a cell that is not positive.
        """
        top, left, height, width = render.checked_window(size, window)
        require_memory(height * width * 3 * 4)
        cell = self._cell(cell, size, (2,))
        rows, columns = pixel_centres(size[0], top, top + height), pixel_centres(size[1], left, left + width)
        return render.decode(self.net, self._source, rows, columns, cell, self.dtype)[0]
