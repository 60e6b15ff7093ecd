"""How the field compares images: section 4 of the paper and its published evaluation code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import check_choice


@dataclass(frozen=True)
class Protocol:
    """How two images are compared.

    Attributes:
        luma: compare Y instead of RGB.
        shave_scale: cut ceil(scale) pixels off each border.
        shave_extra: pixels to cut off besides.
    """

    luma: bool
    shave_scale: bool
    shave_extra: int

    def shave(self, scale: tuple[float, float]) -> tuple[int, int]:
        """Return the pixels to cut at (top and bottom, left and right).

        Args:
            scale: (sy, sx). Published protocols have integer scales; to round others up is ours.

        Example:
            >>> PROTOCOLS["div2k"].shave((2.0, 2.7))
            (8, 9)
        """
        sy, sx = (self.shave_scale * math.ceil(s) + self.shave_extra for s in scale)
        return sy, sx


PROTOCOLS = MappingProxyType(
    {
        "div2k": Protocol(luma=False, shave_scale=True, shave_extra=6),
        "benchmark": Protocol(luma=True, shave_scale=True, shave_extra=0),
        "plain": Protocol(luma=False, shave_scale=False, shave_extra=0),
    }
)


def protocol_named(name: str) -> Protocol:
    """Return the protocol ``name``. Raises UserError with the nearest name for another."""
    check_choice("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
