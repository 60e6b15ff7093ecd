"""A network and a low-resolution image -> an image of any size, or any window of it, in blocks; in tiles where it is large."""

from __future__ import annotations

import operator
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..coords import cell_of, mesh, pixel_centres, queries_to_image
from ..errors import UserError
from ..precision import whole_float32
from .heap import give_back
from .tiling import band_rows

QUERIES_AT_ONCE = 16384  # what one block of ``query`` decodes: keeps the hidden activations (4 corners x 256 floats a query) at 64 MiB
TILE = 256  # side of a tile in LR pixels, where an image is encoded in tiles

Span = tuple[int, int]  # first, last + 1
Window = tuple[int, int, int, int]  # top, left, height, width


def is_continuous(net) -> bool:
    """Whether ``net`` has the contract encode/query; a network without it has one fixed scale."""
    return hasattr(net, "encode") and hasattr(net, "query")


def as_float(lq: Tensor | np.ndarray, device: torch.device | None = None) -> Tensor:
    """An image as networks want it: (H, W, 3) uint8 or uint16 -> (1, 3, H, W) float32 in [0, 1]; tensors stay as they are."""
    if isinstance(lq, np.ndarray):
        largest = np.iinfo(lq.dtype).max
        lq = (
            torch.from_numpy(np.ascontiguousarray(lq.transpose(2, 0, 1)).astype(np.float32))
            .unsqueeze(0)
            .div_(largest)
        )
    return lq if device is None else lq.to(device)


def _blocks(span: Span, step: int) -> Iterator[Span]:
    for start in range(span[0], span[1], step):
        yield start, min(start + step, span[1])


def decode(
    net,
    source,
    rows: Tensor,
    columns: Tensor,
    cell: Tensor,
    dtype: torch.dtype,
    queries_at_once: int = QUERIES_AT_ONCE,
    batch: int = 1,
) -> Tensor:
    """The pixels with their centres at ``rows`` (R,) and ``columns`` (C,), ascending, in [-1, 1]: (B, 3, R, C) float32.

    Args:
        source: from ``prepare`` or ``tile_of``. cell: (2,), of every pixel.
    """
    if hasattr(source, "table"):
        fast = net.grid_decoder(source, cell, dtype)
        if fast is not None:
            return fast.decode(rows, columns, queries_at_once)
    device = (source.table if hasattr(source, "table") else source).device
    rows, columns = rows.to(device), columns.to(device)
    image = torch.empty(batch, 3, len(rows), len(columns), dtype=torch.float32, device=device)
    query = net.query_projected if hasattr(source, "table") else net.query
    for first, stop in _blocks((0, len(rows)), max(1, queries_at_once // (len(columns) * batch))):
        coord = mesh(rows[first:stop], columns).expand(batch, -1, -1)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            rgb = query(source, coord, cell.to(device).expand_as(coord))
        image[:, :, first:stop] = queries_to_image(rgb.float(), (stop - first, len(columns)))
    return image


def prepare(net, lq: Tensor, dtype: torch.dtype, **tile) -> object:
    """Features of ``lq``, behind the first decoder layer where the network can do that."""
    with torch.autocast(lq.device.type, dtype=dtype, enabled=dtype != torch.float32), whole_float32():
        feat = net.encode(lq.contiguous(memory_format=torch.channels_last))  # a third faster on a CPU
        if not hasattr(net, "project"):
            return feat
        projection = net.project(feat, **tile)
    return projection._replace(table=projection.table.float())


def _target_span(span: Span, n: int, N: int) -> Span:
    """Target pixels of N whose centres lie in the LR pixels ``span`` of n."""
    return tuple(-(-(2 * edge * N - n) // (2 * n)) for edge in span)  # ceil(edge N / n - 1/2), exactly


def tile_of(
    net, lq: Tensor | np.ndarray, rows: Span, columns: Span, dtype: torch.dtype, device: torch.device
) -> object:
    """The projection of the LR tile rows x columns and of the ring of codes around it that its pixels use, equal to that of the untiled
    image. The tile begins on multiples of ``net.pad_multiple``; ``net.halo`` is not None.
    """
    h, w = lq.shape[:2] if isinstance(lq, np.ndarray) else lq.shape[-2:]
    multiple, needed, region = net.pad_multiple, [], []
    for (first, stop), n in ((rows, h), (columns, w)):
        region.append((max(0, first - 1), min(n, stop + 1)))
        start = max(0, first - net.halo) // multiple * multiple
        end = min(n, -(-(stop + net.halo) // multiple) * multiple)
        needed.append((start, end))
    (top, bottom), (left, right) = needed
    part = lq[top:bottom, left:right] if isinstance(lq, np.ndarray) else lq[..., top:bottom, left:right]
    kept = (region[0][0], region[1][0], region[0][1] - region[0][0], region[1][1] - region[1][0])
    return prepare(net, as_float(part, device), dtype, size=(h, w), origin=(top, left), region=kept)


def checked_window(size: tuple[int, int], window: Window | None) -> Window:
    """``window`` of an image of ``size``, all of it for None. Raises UserError for one outside, or a size below one pixel."""
    try:
        H, W = (operator.index(n) for n in size)
        top, left, height, width = (0, 0, H, W) if window is None else (operator.index(n) for n in window)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"size, window: expected whole (H, W) and (top, left, height, width), got {size}, {window}."
        ) from error
    if H < 1 or W < 1:
        raise UserError(f"size: expected at least 1 x 1, got {H} x {W}.")
    if min(top, left) < 0 or min(height, width) < 1 or top + height > H or left + width > W:
        raise UserError(f"window: [{top}, {left}, {height}, {width}] is not inside {H} x {W} pixels.")
    return top, left, height, width


@torch.no_grad()
def render_bands(
    net,
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
    """As ``render``, in bands from the top: (first row within the window, (B, 3, rows, W) float32). Memory holds one band.

    Args:
        tile: side in LR pixels; the input is encoded in tiles with a halo of the network's receptive field, equal to the untiled result
            to rounding. None, and networks whose receptive field is the whole image or not known: encoded at once.
        device: where to compute; None is where ``lq`` is.
        rows_at_once: the most rows of a band of tiles, which are encoded again for each; None is all rows of a tile.
    """
    top, left, height, width = checked_window(size, window)
    H, W = size
    h, w = lq.shape[:2] if isinstance(lq, np.ndarray) else lq.shape[-2:]
    device = device or (torch.device("cpu") if isinstance(lq, np.ndarray) else lq.device)
    cell = cell_of(size) if cell is None else cell
    batch = 1 if isinstance(lq, np.ndarray) else len(lq)
    inside = (top, top + height), (left, left + width)
    if tile is None or getattr(net, "halo", None) is None or max(h, w) <= tile:
        source = prepare(net, as_float(lq, device), dtype)
        for rows in _blocks(inside[0], min(band_rows(width), rows_at_once or height)):
            y, x = pixel_centres(H, *rows), pixel_centres(W, *inside[1])
            yield rows[0] - top, decode(net, source, y, x, cell, dtype, queries_at_once, batch)
        return
    step = -(-tile // net.pad_multiple) * net.pad_multiple
    for lr_rows in _blocks((0, h), step):
        target = _clip(_target_span(lr_rows, h, H), inside[0])
        for rows in _blocks(target, rows_at_once or max(1, target[1] - target[0])):
            band = torch.empty(batch, 3, rows[1] - rows[0], width, dtype=torch.float32, device=device)
            for lr_columns in _blocks((0, w), step):
                columns = _clip(_target_span(lr_columns, w, W), inside[1])
                if columns[0] < columns[1]:
                    source = tile_of(net, lq, lr_rows, lr_columns, dtype, device)
                    y, x = pixel_centres(H, *rows), pixel_centres(W, *columns)
                    part = decode(net, source, y, x, cell, dtype, queries_at_once, batch)
                    band[..., columns[0] - left : columns[1] - left] = part
                    del source, part
                    give_back()  # tiles at the border have other sizes: their blocks would fit into no hole of the last one's
            done = [band]
            del band
            yield rows[0] - top, done.pop()  # held by nobody here while the next one is made


def _clip(span: Span, to: Span) -> Span:
    return max(span[0], to[0]), min(span[1], to[1])


@torch.no_grad()
def render(
    net,
    lq: Tensor | np.ndarray,
    size: tuple[int, int],
    cell: Tensor | None = None,
    window: Window | None = None,
    dtype: torch.dtype = torch.float32,
    tile: int | None = None,
    queries_at_once: int = QUERIES_AT_ONCE,
    device: torch.device | None = None,
) -> Tensor:
    """Lq (B, 3, h, w) in [0, 1], or (h, w, 3) uint8 or uint16 -> (B, 3, H, W) with ``size`` = (H, W), float32, not clamped.

    Args:
        net: knows encode and query; project and grid_decoder, where it has them, are the faster way to the same numbers.
        cell: (2,), the cell of every pixel; None is the true one, 2/H and 2/W.
        window: (top, left, height, width) of the target to render; None is all of it.
        dtype: torch.bfloat16 or torch.float16 run the network in it; positions and the blend stay in float32.
        tile, device: see ``render_bands``; by default the image is encoded at once.
        queries_at_once: pixels per block. The result does not depend on it.

    Raises:
        UserError: for a size below one pixel, or a window outside the image.
    """
    bands = render_bands(net, lq, size, cell, window, dtype, tile, queries_at_once, device)
    return torch.cat([band for _, band in bands], dim=2)
