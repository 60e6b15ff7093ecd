"""BasicSR's SwinIR for exporters, which follow integers and not the floats that it divides them into.

Cures: ``b = int(windows.shape[0] / (h * w / window_size / window_size))`` in window_reverse fixes the size
of the image, and the mask kept for one image size fixes that size as an exception. In all versions of
BasicSR; can go when window_reverse divides by //.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


def _window_reverse(windows, window_size: int, h: int, w: int):
    C = windows.shape[-1]
    x = windows.view(-1, h // window_size, w // window_size, window_size, window_size, C)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, C)


@contextlib.contextmanager
def traceable(net) -> Iterator[None]:
    """Make every SwinIR in ``net`` traceable for any image size; its results stay the same.

    Inside the context it divides whole numbers, and computes its masks anew for each image size.
    """
    from basicsr.archs import swinir_arch

    stock, kept = swinir_arch.window_reverse, []
    for module in net.modules():
        if isinstance(module, swinir_arch.SwinTransformerBlock):
            kept.append((module, module.input_resolution))
            module.input_resolution = None
    swinir_arch.window_reverse = _window_reverse
    try:
        yield
    finally:
        swinir_arch.window_reverse = stock
        for module, resolution in kept:
            module.input_resolution = resolution
