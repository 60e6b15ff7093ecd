"""Freed memory stays with the process.

Cures: glibc (seen in 2.36) asks the system for every block above 32 MiB and gives it back when it is freed, so that each layer of a
network fills its output page by page, zeroed by the kernel first: an EDSR-baseline encodes 512 x 512 pixels 1.5 times as slow as it
could. Our own ways in call this; ``import liif_plugin`` does not, because it concerns the whole process. Can go when PyTorch's CPU
allocator caches.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def give_back() -> None:
    """Return freed memory to the system now, where the C library can do that."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _set_thresholds(mmap: int, trim: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return all(
        mallopt(ctypes.c_int(which), ctypes.c_int(size)) == 1
        for which, size in ((M_MMAP_THRESHOLD, mmap), (M_TRIM_THRESHOLD, trim))
    )


def keep_freed_memory() -> bool:
    """Raise malloc's thresholds; whether that could be done."""
    return _set_thresholds(2**30, 2**30)


@contextlib.contextmanager
def stock_thresholds():
    """Malloc as any other program has it, once it has freed a large block (its thresholds have grown to 32 and 64 MiB by then)."""
    _set_thresholds(2**25, 2**26)
    try:
        yield
    finally:
        keep_freed_memory()
