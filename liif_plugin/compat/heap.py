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


def keep_freed_memory() -> bool:
    """Raise malloc's thresholds; whether that could be done."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return all(mallopt(ctypes.c_int(which), ctypes.c_int(2**30)) == 1 for which in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))
