"""Keep freed memory in the process, and give it back when asked.

glibc (seen in 2.36) asks the system for every block above 32 MiB and returns it when it is freed. Each
layer of a network then fills its output page by page, zeroed by the kernel first: an EDSR-baseline encodes
512 x 512 pixels 1.5 times as slowly as it could. Our commands call ``keep_freed_memory``. ``import
liif_plugin`` does not, because it concerns the whole process. This can go when PyTorch's CPU allocator
caches.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def trim_heap() -> None:
    """Return freed memory to the system now, if the C library can do that."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _set_thresholds(mmap: int, trim: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    settings = ((M_MMAP_THRESHOLD, mmap), (M_TRIM_THRESHOLD, trim))
    return all(mallopt(ctypes.c_int(name), ctypes.c_int(size)) == 1 for name, size in settings)


def keep_freed_memory() -> bool:
    """Raise malloc's thresholds to 1 GiB. Return whether that could be done."""
    return _set_thresholds(2**30, 2**30)


@contextlib.contextmanager
def stock_thresholds() -> Iterator[None]:
    """Run the block with the thresholds of other programs: 32 and 64 MiB, once a large block has been
    freed.
    """
    _set_thresholds(2**25, 2**26)
    try:
        yield
    finally:
        keep_freed_memory()
