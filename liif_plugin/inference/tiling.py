"""How much memory a network needs for each pixel of its input, measured, and the tile that fits into what it may have."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TILES = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 32)
SLACK = 2.2  # workspaces of the convolution libraries and holes in the heap; measured with EDSR and liif-light on a CPU
FIXED = 160 << 20  # blocks of the decoder, buffers of the file, what libraries load at their first use


class _LiveBytes(TorchDispatchMode):
    """Adds up the tensors that are made under it and not yet freed."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.holders: Counter = Counter()

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
    """The most that the tensors made by ``work`` take at one time."""
    with _LiveBytes() as counter:
        work()
    return counter.peak


def bytes_per_pixel(
    prepare: Callable[[Tensor], object], device: torch.device, sides: tuple[int, int] = (24, 48)
) -> float:
    """What ``prepare`` of an image (1, 3, h, w) needs for each of its pixels: the slope between two small images."""
    small, large = (
        peak_bytes(lambda side=side: prepare(torch.zeros(1, 3, side, side, device=device))) for side in sides
    )
    return (large - small) / (sides[1] ** 2 - sides[0] ** 2)


def band_rows(width: int) -> int:
    """Rows of a band, ``width`` pixels wide, where nothing else decides."""
    return max(1, (1 << 22) // width)


def tile_for(
    lr_size: tuple[int, int],
    size: tuple[int, int],
    window: tuple[int, int],
    halo: int,
    per_pixel: float,
    budget: int,
    bands: float = 1.0,
) -> tuple[int, int | None, int]:
    """(side of the largest tile whose rendering fits into ``budget`` bytes, rows of the result at a time, bytes that it needs).

    The rows are None where all rows of a tile fit. Where they fit for no tile, as at large scales, each tile is encoded again for every
    few of its rows; that the smallest tile cannot be encoded within ``budget``, or that no row fits, shows in the bytes.

    Args:
        lr_size, size: (h, w) and (H, W) of the whole image. window: (height, width) of what is rendered of it.
        halo: pixels that are encoded around a tile. per_pixel: from ``bytes_per_pixel``. bands: how many are held at one time.
    """
    sketches = []
    for tile in TILES:
        encoded = (
            int(SLACK * per_pixel * min(tile + 2 * halo, lr_size[0]) * min(tile + 2 * halo, lr_size[1]))
            + FIXED
        )
        rows, columns = (min(-(-tile * N // n), kept) for N, n, kept in zip(size, lr_size, window))
        if max(lr_size) <= tile:
            rows = min(rows, band_rows(window[1]))  # encoded once, whatever the bands
        row = (
            1.3 * 3 * 4 * (bands * window[1] + columns)
        )  # of the band, and of the tile's part of it; 1.3: freed bands leave holes
        if encoded + rows * row <= budget:
            return tile, None, int(encoded + rows * row)
        sketches.append((tile, encoded, rows, row))
    tile, encoded, rows, row = next((sketch for sketch in sketches if sketch[1] <= budget / 2), sketches[-1])
    some = max(1, min(rows, int((budget - encoded) / row)))
    return tile, some, int(encoded + some * row)
