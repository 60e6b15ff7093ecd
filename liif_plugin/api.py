"""For scripts and notebooks: ``from liif_plugin import load, upscale, ContinuousImage``."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from . import register, render  # noqa: F401  (register: load() builds networks of ours)
from .coords import cell_of
from .errors import UserError
from .pictures.reading import from_array
from .precision import DTYPES, choose_precision
from .pretrained.loading import load
from .upscaling import Engine, Target, finished_rows, geometry

Pair = tuple[float, float]
_MODES = {"1": "L", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB"}


@lru_cache(maxsize=4)
def _shared(model: str) -> nn.Module:
    return load(model)


def _network(model: str | nn.Module) -> nn.Module:
    return _shared(model) if isinstance(model, str) else model


def _batch(picture: np.ndarray | Tensor) -> Tensor:
    """Floats in [0, 1], (H, W), (H, W, 3), (3, H, W) or (B, 3, H, W), the first two of numpy -> (B, 3, H, W) float32."""
    batch = torch.as_tensor(picture).float()
    if isinstance(picture, np.ndarray):
        batch = batch.expand(3, -1, -1) if batch.dim() == 2 else batch.permute(2, 0, 1) if batch.dim() == 3 else batch
    batch = batch.unsqueeze(0) if batch.dim() == 3 else batch
    if batch.dim() != 4 or batch.shape[1] != 3 or not bool(batch.isfinite().all()):
        raise UserError(f"picture: expected finite RGB, (H, W, 3) of numpy or (3, H, W) of torch, got {tuple(picture.shape)}.")
    return batch


def upscale(picture, scale: float | Pair | None = None, size: tuple[int, int] | None = None, window: tuple | None = None,
            model: str | nn.Module = "liif-light", precision: str = "auto", memory: float = 1.0):  # fmt: skip
    """A picture at any size: the same kind of object as ``picture``.

    Args:
        picture: numpy (H, W), (H, W, 1 to 4) uint8 or uint16; numpy (H, W) or (H, W, 3) or tensor (3, H, W) or (B, 3, H, W) float in
            [0, 1]; or a PIL image. Gray stays gray and alpha stays alpha.
        scale: a factor, or (y, x). size: (H, W) instead. Neither: 4.
        window: (x, y, width, height) in pixels of the picture, fractions allowed: only this part; scale and size are then its own.
        model: what ``load`` takes, or a network.
        precision: auto, fp32, bf16, fp16. memory: GiB that rendering may take, 0 for no limit.

    Raises:
        UserError: for another kind of picture, a window outside it, or a size without pixels.
    """
    if scale is not None and size is not None:
        raise UserError("scale and size: give one of them.")
    net = _network(model)
    device = next(net.parameters(), torch.empty(0)).device
    engine = Engine(net, device, choose_precision(precision, device), int(memory * 2**30))
    factors = (4.0 if scale is None else scale,) * 2 if scale is None or np.isscalar(scale) else tuple(scale)
    target = Target(size=size) if size is not None else Target(scale=factors)
    if isinstance(picture, Image.Image):
        mode = "RGBA" if "transparency" in picture.info and picture.mode != "L" else _MODES.get(picture.mode, picture.mode)
        pixels = np.asarray(picture.convert(mode) if mode != picture.mode else picture)
        return Image.fromarray(_pixels(engine, pixels, target, window))
    if isinstance(picture, np.ndarray) and picture.dtype in (np.uint8, np.uint16):
        return _pixels(engine, picture, target, window)
    if not (isinstance(picture, (np.ndarray, Tensor)) and np.issubdtype(torch.as_tensor(picture).numpy(force=True).dtype, np.floating)):
        kind = getattr(picture, "dtype", type(picture).__name__)
        raise UserError(f"picture: expected uint8, uint16 or floats in [0, 1] as numpy, PIL or tensor, got {kind}.")
    batch = _batch(picture)
    where = geometry(*batch.shape[-2:], target, window)
    tile = engine.tile(tuple(batch.shape[-2:]), where.size)
    image = render.render(net, batch.to(device), where.size, None, where.window, DTYPES[engine.precision], tile).clamp_(0, 1)
    if isinstance(picture, Tensor):
        return (image if picture.dim() == 4 else image[0]).to(picture.device, picture.dtype)
    pixels = image[0].permute(1, 2, 0).cpu().numpy().astype(picture.dtype)
    return pixels.mean(axis=2) if picture.ndim == 2 else pixels


def _pixels(engine: Engine, pixels: np.ndarray, target: Target, window: tuple | None) -> np.ndarray:
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and not 1 <= pixels.shape[2] <= 4):
        raise UserError(f"picture: expected (H, W) or (H, W, 1 to 4) of 8 or 16 bits, got {pixels.shape} {pixels.dtype}.")
    read = from_array(pixels)
    rows = list(finished_rows(engine, read, geometry(*read.size, target, window), pixels.dtype.type))
    whole = np.concatenate(rows)
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
        if isinstance(picture, Image.Image):
            picture = np.asarray(picture.convert("RGB"))
        if isinstance(picture, np.ndarray) and picture.dtype in (np.uint8, np.uint16):
            picture = from_array(picture).colour
            lq = render.as_float(picture, device)
        else:
            lq = _batch(picture).to(device)
        if len(lq) != 1:
            raise UserError(f"picture: expected one, got a batch of {len(lq)}.")
        self.size = tuple(lq.shape[-2:])
        with torch.no_grad():
            self._source = render.prepare(self.net, lq, self.dtype)

    @torch.no_grad()
    def sample(self, coord, cell=None) -> Tensor:
        """Colours at positions: (..., 2) -> (..., 3) RGB, not clamped.

        Args:
            coord: (y, x) in [-1, 1]; pixel i of n has its centre at -1 + (2i + 1)/n.
            cell: height and width of the asking pixel in the same unit, (2,) or of coord's shape; None is a pixel of the picture.

        Raises:
            UserError: for positions that are not finite or outside, or cells that are not positive.
        """
        coord = torch.as_tensor(coord, dtype=torch.float32)
        cell = cell_of(self.size) if cell is None else torch.as_tensor(cell, dtype=torch.float32)
        if coord.shape[-1:] != (2,) or not bool((coord.abs() <= 1).all()):
            raise UserError("coord: expected positions (y, x) between -1 and 1, shape (..., 2).")
        if cell.shape[-1:] != (2,) or not bool(((cell > 0) & cell.isfinite()).all()):
            raise UserError("cell: expected positive heights and widths, shape (2,) or that of coord.")
        projected = hasattr(self._source, "table")
        query = self.net.query_projected if projected else self.net.query
        device = (self._source.table if projected else self._source).device
        flat, cells = coord.reshape(1, -1, 2).to(device), cell.expand_as(coord).reshape(1, -1, 2).to(device)
        parts = [
            query(self._source, flat[:, i : i + render.QUERIES_AT_ONCE], cells[:, i : i + render.QUERIES_AT_ONCE]).float()
            for i in range(0, flat.shape[1], render.QUERIES_AT_ONCE)
        ]
        return torch.cat(parts, dim=1).view(*coord.shape[:-1], 3) if parts else coord.new_zeros(*coord.shape[:-1], 3)

    @torch.no_grad()
    def render(self, size: tuple[int, int], window: tuple[int, int, int, int] | None = None, cell=None) -> Tensor:
        """The picture at ``size`` = (H, W), or the ``window`` (top, left, height, width) of that size: (3, h, w) RGB, not clamped.

        Args:
            cell: (2,), of every pixel; None is the true one.

        Raises:
            ValueError: for a size below one pixel, or a window outside it.
        """
        top, left, height, width = render.checked_window(size, window)
        cell = cell_of(size) if cell is None else torch.as_tensor(cell, dtype=torch.float32)
        rows, columns = (top, top + height), (left, left + width)
        return render.decode(self.net, self._source, tuple(size), rows, columns, cell, self.dtype, render.QUERIES_AT_ONCE, 1)[0]
