"""How the field compares images: a frozen table. PAPER: section 4 and its published evaluation code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import check_choice


@dataclass(frozen=True)
class Protocol:
    """luma: compare Y instead of RGB. shave_scale: cut ceil(scale) pixels off each border, and shave_extra more."""

    luma: bool
    shave_scale: bool
    shave_extra: int

    def shave(self, scale: tuple[float, float]) -> tuple[int, int]:
        """Pixels to cut at (top and bottom, left and right) for ``scale`` = (sy, sx); the ceiling for odd scales is ours."""
        return tuple(self.shave_scale * math.ceil(s) + self.shave_extra for s in scale)


PROTOCOLS = MappingProxyType(
    {
        "div2k": Protocol(luma=False, shave_scale=True, shave_extra=6),
        "benchmark": Protocol(luma=True, shave_scale=True, shave_extra=0),
        "plain": Protocol(luma=False, shave_scale=False, shave_extra=0),
    }
)


def protocol_named(name: str) -> Protocol:
    """The row of the table. Raises UserError with the nearest name for another."""
    check_choice("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
