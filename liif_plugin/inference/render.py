"""A network and a low-resolution image -> an image of any size, or a window of it, in blocks and in tiles."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..archs.base import QUERIES_AT_ONCE, ContinuousNetwork, Tile, as_continuous, tensors_of
from ..coords import cell_of, pixel_centres
from ..errors import UserError
from ..precision import whole_float32
from .memory import band_rows, trim_heap

TILE = 256  # side of a tile in LR pixels, where an image is encoded in tiles

Span = tuple[int, int]  # first, last + 1
Window = tuple[int, int, int, int]  # top, left, height, width


def as_float(lq: Tensor | np.ndarray, device: torch.device | None = None) -> Tensor:
    """Return an image as networks take it.

    Args:
        lq: (H, W, 3) uint8 or uint16, which becomes (1, 3, H, W) float32 in [0, 1]; a tensor stays as it is.
        device: where the result goes; None leaves it on the CPU or where the tensor is.
    """
    if isinstance(lq, np.ndarray):
        largest = np.iinfo(lq.dtype).max
        planes = np.ascontiguousarray(lq.transpose(2, 0, 1)).astype(np.float32)
        lq = torch.from_numpy(planes).unsqueeze(0).div_(largest)
    return lq if device is None else lq.to(device)


def _size_of(lq: Tensor | np.ndarray) -> tuple[int, int]:
    """Return (h, w) of an image as ``as_float`` takes it."""
    h, w = lq.shape[:2] if isinstance(lq, np.ndarray) else lq.shape[-2:]
    return h, w


def _part_of(lq: Tensor | np.ndarray, rows: Span, columns: Span, device: torch.device) -> Tensor:
    """Return a part of an image as ``as_float`` returns it."""
    if isinstance(lq, np.ndarray):
        return as_float(lq[slice(*rows), slice(*columns)], device)
    return as_float(lq[..., slice(*rows), slice(*columns)], device)


@contextlib.contextmanager
def _layers_in(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Run the layers of a network in ``dtype``, whatever autocast the caller has switched on."""
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32), whole_float32():
        yield


def _channels_last(lq: Tensor) -> Tensor:
    return lq.contiguous(memory_format=torch.channels_last)  # convolutions are a third faster on a CPU


def continuous(net: nn.Module, name: str = "net") -> ContinuousNetwork:
    """Return ``net`` under the contract of a network for any scale; see ``as_continuous``.

    Args:
        net: any network.
        name: what to call it in the message.

    Raises:
        UserError: if the network has one fixed scale, or ``net`` is no network.
    """
    network = as_continuous(net)
    if not isinstance(network, ContinuousNetwork):
        what = "has one fixed scale" if isinstance(net, nn.Module) else "is no network"
        raise UserError(
            f"{name}: {type(net).__name__} {what}; expected a network for any scale, such as LIIF."
        )
    return network


def prepare(
    net: nn.Module,
    lq: Tensor,
    dtype: torch.dtype,
    size: tuple[int, int] | None = None,
    tile: Tile | None = None,
    cell: Tensor | None = None,
) -> Any:
    """Encode ``lq`` and return what ``decode`` needs of it.

    Args:
        net: a network for any scale.
        lq: (B, 3, h, w) in [0, 1].
        dtype: the type in which the layers run; torch.float32 turns autocast off.
        size: (H, W) of the target image, None if it is not known yet.
        tile: where ``lq`` lies in a larger image; None if it is the whole image.
        cell: (2,), height and width of every pixel; None is the true one of ``size``.
    """
    network = continuous(net)
    with _layers_in(dtype, lq.device):
        prepared = network.prepare(network.encode(_channels_last(lq)), size, tile, cell)
    return _as_float32(prepared)


def _prepare_in_tiles(
    net: ContinuousNetwork,
    lq: Tensor | np.ndarray,
    side: int,
    dtype: torch.dtype,
    device: torch.device,
    size: tuple[int, int],
    cell: Tensor,
) -> Any:
    """Return what ``prepare`` returns for the whole image, which is encoded in tiles of ``side`` LR pixels.

    Memory holds the feature map of the whole image, but only one tile of what encoding takes.
    """
    h, w = _size_of(lq)
    whole = torch.empty(0)
    for rows in _blocks((0, h), side):
        for columns in _blocks((0, w), side):
            # Encode the tile with the pixels around it that it depends on.
            (top, bottom), (left, right) = _encoded_spans(net, (h, w), rows, columns)
            part = _part_of(lq, (top, bottom), (left, right), device)
            with _layers_in(dtype, device):
                feat = net.encode(_channels_last(part))
            # Keep the features of the tile alone.
            if not len(whole):
                whole = feat.new_empty(*feat.shape[:2], h, w)
            inside = feat[..., rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left]
            whole[..., rows[0] : rows[1], columns[0] : columns[1]] = inside
            del feat, inside
            trim_heap()
    with _layers_in(dtype, device):
        return _as_float32(net.prepare(whole, size, None, cell))


def _as_float32(prepared: Any) -> Any:
    """Return ``prepared`` with its half-precision tensors in float32, for gathering and blending."""

    def convert(value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value

    return tree_map(convert, prepared)


def decode(
    net: nn.Module,
    prepared: Any,
    rows: Tensor,
    columns: Tensor,
    cell: Tensor,
    dtype: torch.dtype,
    queries_at_once: int = QUERIES_AT_ONCE,
) -> Tensor:
    """Return the pixels of a grid, see ``ContinuousNetwork.decode``. An autocast of the caller is ignored."""
    with torch.autocast(tensors_of(prepared)[0].device.type, enabled=False):
        return continuous(net).decode(prepared, rows, columns, cell, dtype, queries_at_once)


def prepare_tile(
    net: nn.Module,
    lq: Tensor | np.ndarray,
    rows: Span,
    columns: Span,
    dtype: torch.dtype,
    device: torch.device,
    size: tuple[int, int] | None = None,
    cell: Tensor | None = None,
) -> Any:
    """Return what ``decode`` needs for the pixels of one LR tile.

    The decoded pixels equal those of the image encoded as a whole.

    Args:
        net: a network for any scale whose ``halo`` is not None.
        lq: the whole image, (h, w, 3) uint8 or uint16, or (B, 3, h, w) in [0, 1].
        rows: first and last + 1 LR row of the tile; the first is a multiple of ``net.pad_multiple``.
        columns: the same for its columns.
        dtype: the type in which the layers run.
        device: where to compute.
        size: (H, W) of the target image.
        cell: (2,), height and width of every pixel; None is the true one of ``size``.
    """
    network = continuous(net)
    h, w = _size_of(lq)
    # The decoder of a pixel at the tile's border asks a code in the ring around the tile.
    region = [(max(0, first - 1), min(n, stop + 1)) for (first, stop), n in ((rows, h), (columns, w))]
    needed = (region[0][0], region[1][0], region[0][1] - region[0][0], region[1][1] - region[1][0])
    (top, bottom), (left, right) = _encoded_spans(network, (h, w), rows, columns)
    part = _part_of(lq, (top, bottom), (left, right), device)
    return prepare(network, part, dtype, size, Tile((h, w), (top, left), needed), cell)


def _encoded_spans(net: ContinuousNetwork, size: tuple[int, int], rows: Span, columns: Span) -> list[Span]:
    """Return the LR rows and columns that the encoder must see for a tile.

    It needs the halo, and its windows must lie where they lie in the whole image.
    """
    assert net.halo is not None
    multiple = net.pad_multiple
    return [
        (
            max(0, first - net.halo) // multiple * multiple,
            min(n, -(-(stop + net.halo) // multiple) * multiple),
        )
        for (first, stop), n in ((rows, size[0]), (columns, size[1]))
    ]


def checked_window(size: tuple[int, int], window: Window | None) -> Window:
    """Return ``window`` of an image of ``size``, all of it for None.

    Raises:
        UserError: if the window lies outside, or the size is below one pixel.
    """
    try:
        H, W = (operator.index(n) for n in size)
        top, left, height, width = (0, 0, H, W) if window is None else (operator.index(n) for n in window)
    except (TypeError, ValueError) as error:
        raise UserError(
            "expected whole numbers size=(height, width) and window=(top, left, height, width), got "
            f"size={size}, window={window}."
        ) from error
    if H < 1 or W < 1:
        raise UserError(f"size: expected (H, W) of at least 1 x 1, got {(H, W)}.")
    if min(top, left) < 0 or min(height, width) < 1 or top + height > H or left + width > W:
        raise UserError(
            f"window: (top, left, height, width) = {(top, left, height, width)} is not inside an image of "
            f"(H, W) = {(H, W)}."
        )
    return top, left, height, width


@torch.no_grad()
def render_bands(
    net: nn.Module,
    lq: Tensor | np.ndarray,
    size: tuple[int, int],
    cell: Tensor | None = None,
    window: Window | None = None,
    dtype: torch.dtype = torch.float32,
    tile: int | None = TILE,
    queries_at_once: int = QUERIES_AT_ONCE,
    device: torch.device | None = None,
    rows_at_once: int | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Render as ``render`` does, in bands from the top. Memory holds one band.

    Args:
        net: see ``render``.
        lq: see ``render``.
        size: see ``render``.
        cell: see ``render``.
        window: see ``render``.
        dtype: see ``render``.
        tile: side in LR pixels; the input is encoded in tiles with a halo of the network's receptive radius,
            which equals the untiled result to rounding. None encodes the image at once, and so does a network
            whose receptive field is the whole image.
        queries_at_once: see ``render``.
        device: where to compute; None is where ``lq`` is.
        rows_at_once: the most rows of a band. Tiles are encoded again for each band; None is all rows of a
            tile.

    Yields:
        (first row within the window, (B, 3, rows, W) float32).
    """
    network = continuous(net)
    top, left, height, width = checked_window(size, window)
    H, W = size
    if lq.ndim != (3 if isinstance(lq, np.ndarray) else 4):
        raise ValueError(
            f"lq: expected a tensor (B, 3, h, w) or an array (h, w, 3), got shape {tuple(lq.shape)}."
        )
    h, w = _size_of(lq)
    batch = 1 if isinstance(lq, np.ndarray) else len(lq)
    if device is None:
        device = torch.device("cpu") if isinstance(lq, np.ndarray) else lq.device
    cell = cell_of(size) if cell is None else cell
    inside = (top, top + height), (left, left + width)

    # Without tiles: encode once, decode band by band.
    in_tiles = tile is not None and network.halo is not None and max(h, w) > tile
    step = 0 if tile is None else -(-tile // network.pad_multiple) * network.pad_multiple
    if not in_tiles or network.whole_features:
        if in_tiles:
            prepared = _prepare_in_tiles(network, lq, step, dtype, device, size, cell)
        else:
            prepared = prepare(network, as_float(lq, device), dtype, size, None, cell)
        x = pixel_centres(W, *inside[1])
        for rows in _blocks(inside[0], min(band_rows(width), rows_at_once or height)):
            y = pixel_centres(H, *rows)
            yield rows[0] - top, decode(network, prepared, y, x, cell, dtype, queries_at_once)
        return

    # With tiles: one row of tiles after the other. Each makes one band, or several if rows_at_once is small.
    for lr_rows in _blocks((0, h), step):
        target = _clip(_target_span(lr_rows, h, H), inside[0])
        for rows in _blocks(target, rows_at_once or max(1, target[1] - target[0])):
            band = torch.empty(batch, 3, rows[1] - rows[0], width, dtype=torch.float32, device=device)
            y = pixel_centres(H, *rows)
            for lr_columns in _blocks((0, w), step):
                columns = _clip(_target_span(lr_columns, w, W), inside[1])
                if columns[0] >= columns[1]:
                    continue
                prepared = prepare_tile(network, lq, lr_rows, lr_columns, dtype, device, size, cell)
                x = pixel_centres(W, *columns)
                part = decode(network, prepared, y, x, cell, dtype, queries_at_once)
                band[..., columns[0] - left : columns[1] - left] = part
                del prepared, part
                trim_heap()  # tiles at the border have other sizes and cannot reuse the freed blocks
            # Hand the band over without keeping it alive here while the next one is made.
            last = [band]
            del band
            yield rows[0] - top, last.pop()


def _blocks(span: Span, step: int) -> Iterator[Span]:
    for start in range(span[0], span[1], step):
        yield start, min(start + step, span[1])


def _target_span(span: Span, n: int, N: int) -> Span:
    """Return the target pixels of N whose centres lie in the LR pixels ``span`` of n."""
    first, stop = (-(-(2 * edge * N - n) // (2 * n)) for edge in span)  # ceil(edge N / n - 1/2), exactly
    return first, stop


def _clip(span: Span, to: Span) -> Span:
    return max(span[0], to[0]), min(span[1], to[1])


@torch.no_grad()
def render(
    net: nn.Module,
    lq: Tensor | np.ndarray,
    size: tuple[int, int],
    cell: Tensor | None = None,
    window: Window | None = None,
    dtype: torch.dtype = torch.float32,
    tile: int | None = None,
    queries_at_once: int = QUERIES_AT_ONCE,
    device: torch.device | None = None,
) -> Tensor:
    """Render an image at any size.

    Args:
        net: a network for any scale: a ``ContinuousNetwork``, or a module that has ``encode`` and ``query``.
        lq: (B, 3, h, w) in [0, 1], or (h, w, 3) uint8 or uint16.
        size: (H, W) of the whole result.
        cell: (2,), height and width of every pixel in [-1, 1] units; None is the true one, 2/H and 2/W.
        window: (top, left, height, width) of the result to render; None is all of it.
        dtype: torch.bfloat16 or torch.float16 run the layers in it; positions and the blend stay in float32.
            torch.float32 also turns off an autocast of the caller.
        tile: see ``render_bands``; None encodes the image at once.
        queries_at_once: pixels of one block. The result does not depend on it.
        device: see ``render_bands``.

    Returns:
        (B, 3, H, W) float32 RGB, or that of the window, not clamped.

    Raises:
        UserError: if the size is below one pixel, the window lies outside, or ``net`` has one fixed scale.

    Example:
        >>> import torch
        >>> from liif_plugin.archs.bicubic_arch import Bicubic
        >>> lq = torch.rand(1, 3, 20, 30)
        >>> render(Bicubic(), lq, (54, 81)).shape
        torch.Size([1, 3, 54, 81])
        >>> part = render(Bicubic(), lq, (54, 81), window=(10, 0, 5, 81))
        >>> torch.equal(part, render(Bicubic(), lq, (54, 81))[:, :, 10:15])
        True
    """
    bands = render_bands(net, lq, size, cell, window, dtype, tile, queries_at_once, device)
    return torch.cat([band for _, band in bands], dim=2)
