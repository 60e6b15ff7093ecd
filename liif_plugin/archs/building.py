"""A ``network_g`` block -> the network, or one sentence that says why not."""

from __future__ import annotations

import contextlib
import copy
import math
import os
from collections.abc import Iterator
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..config.option_types import BLOCK, MOST_PARTS, check_call, check_plain, check_value, registered
from ..errors import UserError


def _check_counts(where: str, value: object) -> None:
    if isinstance(value, dict):
        for key, entry in value.items():
            _check_counts(f"{where}.{key}", entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            _check_counts(where, entry)
    if isinstance(value, int) and not 0 <= value <= MOST_PARTS:
        raise UserError(f"{where}: expected whole numbers from 0 to {MOST_PARTS}, got {str(value)[:40]}.")


def machine_memory() -> float:
    """Return the bytes of memory of this machine; infinite if the system does not tell them."""
    if not hasattr(os, "sysconf"):  # Windows
        return math.inf
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextlib.contextmanager
def _within_memory(where: str) -> Iterator[None]:
    """Raise UserError as soon as the parameters that are made need more memory than the machine has.

    Without it the system would kill the process while the parameters are filled.
    """
    limit, taken = machine_memory(), 0

    def count(module, name, parameter) -> None:
        nonlocal taken
        taken += 0 if parameter is None else parameter.numel() * parameter.element_size()
        if taken > limit:
            raise UserError(
                f"{where}: its parameters need more than {limit / 2**30:.0f} GiB, all that this machine has."
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def build(network_g: Any, where: str = "network_g") -> nn.Module:
    """Build the network of a ``network_g`` block.

    Args:
        network_g: {type: LIIF, encoder: ..., ...}. It is not changed.
        where: what to call the block in messages.

    Returns:
        The network with random weights, in training mode, on the CPU.

    Raises:
        UserError: for a name or an argument that does not exist, a value of another type, or a network that
            cannot be built.

    Example:
        >>> import liif_plugin.register
        >>> net = build({"type": "LIIF", "encoder": {"type": "EDSR", "num_feat": 8, "num_block": 1}})
        >>> type(net).__name__
        'LIIF'
    """
    check_value(where, "network_g", network_g, BLOCK)
    block = copy.deepcopy(dict(network_g))
    name = block.pop("type", None)
    kind = registered(f"{where}.type", ARCH_REGISTRY, name)
    check_plain(where, block)
    _check_counts(where, block)
    check_call(f"{where} ({name})", kind, block)
    try:
        with _within_memory(where):
            return kind(**block)
    except UserError:
        raise
    except Exception as error:  # each network of BasicSR fails in its own way
        raise UserError(
            f"{where} ({name}): cannot be built: {type(error).__name__}: {str(error)[:300]}"
        ) from error
