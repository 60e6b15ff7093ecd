"""The precisions that options may name, and which one a machine is good at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import check_choice

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def has_bfloat16(device: torch.device) -> bool:
    """Return whether ``device`` multiplies bfloat16 in hardware.

    A processor that emulates it is several times slower than in float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False  # not known
    capable: dict = getattr(torch.cpu, "get_capabilities", dict)()
    for name, older in (("amx_bf16", "_is_amx_tile_supported"), ("avx512_bf16", "_is_avx512_bf16_supported")):
        if capable.get(name, False) or (not capable and getattr(torch.cpu, older, bool)()):
            return True
    return bool(capable.get("bf16", False))  # ARM's name for it


@contextmanager
def whole_float32() -> Iterator[None]:
    """Run convolutions in float32 on a GPU too: cuDNN takes TF32, with 10 bits, unless told otherwise.

    What runs in autocast does not change.
    """
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def choose_precision(name: str, device: torch.device) -> str:
    """Return the name of a precision, with 'auto' decided.

    Args:
        name: fp32, bf16, fp16, or auto: bf16 if ``device`` multiplies it in hardware, else fp32.
        device: where to compute.

    Raises:
        UserError: if there is no such precision.
    """
    check_choice("precision", name, ("auto", *DTYPES))
    if name != "auto":
        return name
    return "bf16" if has_bfloat16(device) else "fp32"
