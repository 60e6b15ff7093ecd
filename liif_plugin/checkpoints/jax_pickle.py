"""Read a pickle of JAX arrays, as Thera's authors publish their weights, without JAX.

No code in the file is run: it names eight functions and classes, each of which is replaced by a stand-in
that copies numbers. Every other name is refused.
"""

from __future__ import annotations

import math
import pickle
import pickletools
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from ..errors import UserError
from .reading import check_tuples, contents

MAGIC = b"\x80"  # the first byte of every pickle of protocol 2 or newer
TORCH_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # of torch.save before 1.6
NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
# Instructions of a pickle of nested dictionaries, arrays and tuples; none duplicates or removes values.
INSTRUCTIONS = {
    *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINUNICODE", "SHORT_BINUNICODE"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD"),
    *("MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
}


class _Numbers:
    """An array of numbers.

    Attributes:
        value: the array, None before its state is known.
    """

    value: np.ndarray | None = None


def is_plain_pickle(path: str) -> bool:
    """Return whether the file ``path`` is a pickle that torch.save did not write."""
    with open(path, "rb") as file:
        start = file.read(len(TORCH_MAGIC))
    return start.startswith(MAGIC) and start != TORCH_MAGIC


def _stand_ins() -> dict[tuple[str, str], Any]:
    """Return (module, name) -> what stands in for it.

    They are made anew for each file, because a pickle can set attributes of what it names.
    """

    class Array(_Numbers):
        def __setstate__(self, state: tuple) -> None:
            _, shape, dtype, is_fortran, data = state
            if not isinstance(dtype, Dtype) or not isinstance(data, bytes):
                raise ValueError("an array of something else than numbers")
            value = np.frombuffer(data, np.dtype(dtype.order + dtype.name))
            if value.size != math.prod(shape):
                raise ValueError(f"an array of {value.size} numbers for the shape {shape}")
            value = value.reshape(shape, order="F" if is_fortran else "C")
            self.value = value.astype(value.dtype.newbyteorder("="))

    class Dtype:
        order = "|"

        def __init__(self, name: str, align: bool, copy: bool):
            if name not in NUMBERS:
                raise ValueError(f"numbers of the type {name!r}")
            self.name = name

        def __setstate__(self, state: tuple) -> None:
            if state[1] not in ("<", ">", "|", "="):
                raise ValueError("an unknown order of bytes")
            self.order = state[1]

    class NdArray:
        """The class that ``_reconstruct`` is asked for."""

    class Dropped(tuple):
        """A state of the optimizer, which is not needed."""

        def __new__(cls, *args: object) -> Dropped:
            return super().__new__(cls)

    def reconstruct(kind: type, shape: tuple, code: bytes) -> Array:
        if kind is not NdArray:
            raise ValueError("an array of another class")
        return Array()

    def reconstruct_array(function: Callable, args: tuple, state: tuple, about: object) -> Array:
        if function is not reconstruct:
            raise ValueError("an array that another function makes")
        array = reconstruct(*args)
        array.__setstate__(state)
        return array

    def frozen_dict(entries: dict) -> dict:
        return dict(entries)

    return {
        ("flax.core.frozen_dict", "FrozenDict"): frozen_dict,
        ("numpy", "ndarray"): NdArray,
        ("numpy", "dtype"): Dtype,
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,  # its name since NumPy 2
        ("jax._src.array", "_reconstruct_array"): reconstruct_array,
        ("optax._src.base", "EmptyState"): Dropped,
        ("optax._src.transform", "ScaleByAdamState"): Dropped,
        ("optax._src.transform", "ScaleByScheduleState"): Dropped,
    }


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any):
        super().__init__(file)
        self.known = _stand_ins()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.known:
            raise UserError(
                f"it asks for {module}.{name}, and nothing in a checkpoint is run; expected parameters of "
                "flax alone"
            )
        return self.known[module, name]


def _check_instructions(file: IO[bytes]) -> None:
    """Raise UserError if a pickle has an instruction that a tree of arrays does not need."""
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file), start=1):
        if opcode.name not in INSTRUCTIONS:
            raise UserError(f"it has the instruction {opcode.name}, which no tree of arrays needs")
        # Python reserves memory for all numbers up to this one.
        if opcode.name == "LONG_BINPUT" and isinstance(argument, int) and argument > number:
            raise UserError("it numbers values that it does not have")


def load_tree(path: str) -> dict[str, np.ndarray]:
    """Return the parameters in a pickle ``{'model': tree, ...}`` of JAX arrays.

    Args:
        path: the file.

    Returns:
        Path in the tree, joined by '/' -> array, for example ``params/out_conv/kernel``.

    Raises:
        UserError: if the file is damaged, asks for anything but numbers, or holds no such tree.
    """
    refused = f"{path}: not a checkpoint that can be read safely"
    try:
        with open(path, "rb") as file:
            _check_instructions(file)
            file.seek(0)
            check_tuples(file)
            file.seek(0)
            content = _Reader(file).load()
    except UserError as error:
        raise UserError(f"{refused}: {error}.") from error
    except Exception as error:  # damaged pickles fail in many ways
        raise UserError(
            f"{refused}: it is damaged, cut off or no pickle of JAX arrays ({type(error).__name__}: "
            f"{str(error)[:100]})."
        ) from error
    tree = content.get("model") if isinstance(content, dict) else None
    if not isinstance(tree, dict):
        raise UserError(
            f"{path}: expected {{'model': parameters, ...}} as Thera's authors save it, found "
            f"{contents(content)}."
        )
    arrays: dict[str, np.ndarray] = {}
    seen: set[int] = set()  # a branch that holds itself would have no end
    pending: list[tuple[str, Any]] = [("", tree)]
    while pending:
        where, value = pending.pop()
        if isinstance(value, dict) and id(value) not in seen:
            seen.add(id(value))
            pending.extend((f"{where}/{key}" if where else str(key), entry) for key, entry in value.items())
        elif isinstance(value, _Numbers) and value.value is not None:
            arrays[where] = value.value
        else:
            raise UserError(f"{path}: '{where[:200]}' of its parameters is no array of numbers.")
    return arrays
