"""The memory that rendering takes: measure it, choose tiles for a budget, keep or return freed blocks."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import weakref
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TILES = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 32)  # sides that are tried, in LR pixels
SLACK = 2.2  # workspaces of the convolution libraries and holes in the heap; measured with EDSR on a CPU
FIXED = 160 << 20  # blocks of the decoder, buffers of the file, what libraries load at their first use
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


class _LiveBytes(TorchDispatchMode):
    """Adds up the tensors that are made while it is active and that are not freed yet."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.holders: Counter = Counter()  # address of a storage -> tensors that hold it

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._hold(storage.data_ptr(), storage.nbytes(), tensor)
        return out

    def _hold(self, address: int, size: int, tensor: Tensor) -> None:
        if self.holders[address] == 0:
            self.live += size
            self.peak = max(self.peak, self.live)
        self.holders[address] += 1
        weakref.finalize(tensor, self._release, address, size).atexit = False

    def _release(self, address: int, size: int) -> None:
        self.holders[address] -= 1
        if self.holders[address] == 0:
            self.live -= size


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most bytes that the tensors made by ``work`` take at one time."""
    with _LiveBytes() as counter:
        work()
    return counter.peak


def bytes_per_pixel(
    prepare: Callable[[Tensor], object], device: torch.device, sides: tuple[int, int] = (24, 48)
) -> float:
    """Return the bytes that ``prepare`` of an image (1, 3, h, w) needs for each of its pixels.

    It is the slope between two small images with the sides ``sides``.
    """
    images = [torch.zeros(1, 3, side, side, dtype=torch.float32, device=device) for side in sides]
    small, large = (peak_bytes(partial(prepare, image)) for image in images)
    return (large - small) / (sides[1] ** 2 - sides[0] ** 2)


def bytes_kept_per_pixel(prepare: Callable[[Tensor], object], device: torch.device, side: int = 32) -> float:
    """Return the bytes of what ``prepare`` returns, for each pixel of an image (1, 3, side, side)."""
    leaves = tree_leaves(prepare(torch.zeros(1, 3, side, side, device=device)))
    return sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor)) / side**2


def band_rows(width: int) -> int:
    """Return the rows of a band of ``width`` pixels where nothing else decides: about 4 megapixels."""
    return max(1, (1 << 22) // width)


class Tiling(NamedTuple):
    """How an image is rendered.

    Attributes:
        tile: side of the tiles in LR pixels, None for no tiles.
        rows: the most rows of the result at a time, None for all rows of a tile.
        needed: bytes that rendering takes at its peak. More than the budget if even the smallest tile does
            not fit.
    """

    tile: int | None
    rows: int | None
    needed: int


def tile_for(
    lr_size: tuple[int, int],
    size: tuple[int, int],
    window: tuple[int, int],
    halo: int,
    per_pixel: float,
    budget: int,
    bands: float = 1.0,
) -> Tiling:
    """Return the largest tile whose rendering fits into a budget.

    Where all rows of a tile fit for no tile, as at large scales, each tile is encoded again for every few
    rows.

    Args:
        lr_size: (h, w) of the whole image.
        size: (H, W) of the whole result.
        window: (height, width) of the part that is rendered.
        halo: LR pixels that are encoded around a tile.
        per_pixel: from ``bytes_per_pixel``.
        budget: bytes.
        bands: how many bands of the result are held at one time.
    """
    candidates = []
    for tile in TILES:
        # The encoder's part: the tile with its halo.
        h, w = (min(tile + 2 * halo, n) for n in lr_size)
        encoded = int(SLACK * per_pixel * h * w) + FIXED
        # The result's part: the rows and columns that belong to the tile.
        rows, columns = (min(-(-tile * N // n), most) for N, n, most in zip(size, lr_size, window))
        if max(lr_size) <= tile:
            rows = min(rows, band_rows(window[1]))  # encoded once, whatever the bands
        # Bytes of a row of the band, and of the tile's part of it; 1.3: freed bands leave holes.
        bytes_of_row = 1.3 * 3 * 4 * (bands * window[1] + columns)
        if encoded + rows * bytes_of_row <= budget:
            return Tiling(tile, None, int(encoded + rows * bytes_of_row))
        candidates.append((tile, encoded, rows, bytes_of_row))
    # Take the largest tile that leaves half of the budget for rows, else the smallest tile.
    fitting = [candidate for candidate in candidates if candidate[1] <= budget / 2]
    tile, encoded, rows, bytes_of_row = fitting[0] if fitting else candidates[-1]
    fewer = max(1, min(rows, int((budget - encoded) / bytes_of_row)))
    return Tiling(tile, fewer, int(encoded + fewer * bytes_of_row))


def trim_heap() -> None:
    """Return freed memory to the system now, if the C library can do that."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def set_heap_thresholds(mmap: int, trim: int) -> bool:
    """Set from how many bytes on malloc asks the system for a block of its own, and returns freed memory.

    Returns:
        Whether the C library can do that.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    settings = ((M_MMAP_THRESHOLD, mmap), (M_TRIM_THRESHOLD, trim))
    return all(mallopt(ctypes.c_int(name), ctypes.c_int(size)) == 1 for name, size in settings)


def keep_freed_memory() -> bool:
    """Raise malloc's thresholds to 1 GiB. Return whether that could be done.

    glibc (seen in 2.36) asks the system for every block above 32 MiB and returns it when it is freed. Each
    layer of a network then fills its output page by page, zeroed by the kernel first: an EDSR-baseline
    encodes 512 x 512 pixels 1.5 times as slowly as it could. Our commands call this. ``import liif_plugin``
    does not, because it concerns the whole process. This can go when PyTorch's CPU allocator caches.
    """
    return set_heap_thresholds(2**30, 2**30)
