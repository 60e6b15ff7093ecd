"""Read checkpoint files without running code in them, and compare them with a network."""

from __future__ import annotations

import os
import pickletools
import re
import tarfile
import warnings
import zipfile
from typing import IO, NamedTuple

import torch

from ..errors import UserError

LEGACY_PICKLES = 5  # in a file of torch before 1.6: magic number, protocol, system, the object, storage keys
FEW_ENTRIES = 10_000  # a tuple that unfolds to so many is no reason to look closer
# Python computes a hash by recursion without a check; the tuples of torch.save are 4 deep.
DEEPEST_TUPLE = 100
POPS_AND_PUSHES_NOTHING = ("PROTO", "FRAME")


class _Value(NamedTuple):
    """A value on the stack of a pickle. entries: how many a hash has to visit. depth: of tuples in tuples."""

    entries: int = 1
    depth: int = 0


_PLAIN = _Value()


def _tuple_of(values: list[_Value]) -> _Value:
    entries = 1 + sum(value.entries for value in values)
    return _Value(entries, 1 + max((value.depth for value in values), default=0))


def check_tuples(file: IO[bytes]) -> None:
    """Raise UserError if a pickle builds a tuple whose hash would never be finished.

    A tuple that holds another one twice, which holds another one twice, and so on, takes a few bytes for each
    level, but Python visits it 2 ** levels times for its hash. Without such references a tuple never has more
    entries than the pickle has instructions.

    This follows the instructions that the readers of weights know, torch's and that of ``jax_pickle``, on a
    stack that has the size of each value instead of the value. It ends without an error at an instruction
    that the reader would refuse.

    Raises:
        UserError: for such a tuple.

    Args:
        file: positioned at the first byte of the pickle; at its end afterwards.
    """
    stack: list[_Value] = []
    marked: list[list[_Value]] = []  # the stacks below each MARK
    memo: dict[object, _Value] = {}
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file), start=1):
        name = opcode.name
        # the stack itself, and references to earlier values
        if name in POPS_AND_PUSHES_NOTHING:
            continue
        elif name == "MARK":
            marked.append(stack)
            stack = []
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        # tuples
        elif name in ("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            if name == "TUPLE":
                values, stack = stack, marked.pop()
            else:
                count = int(name[5:] or 0) if name != "EMPTY_TUPLE" else 0
                values = [stack.pop() for _ in range(count)]
            made = _tuple_of(values)
            if made.entries > max(FEW_ENTRIES, number) or made.depth > DEEPEST_TUPLE:
                raise UserError("it holds a tuple in tuples that is too deep to be read")
            stack.append(made)
        # values that are put into the one below: a list, a dictionary, an object
        elif name in ("APPENDS", "SETITEMS"):
            stack = marked.pop()
        elif name in ("APPEND", "BUILD"):
            stack.pop()
        elif name == "SETITEM":
            del stack[-2:]
        # calls: the result may keep its arguments
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = stack.pop()
            stack[-1] = arguments
        elif name == "BINPERSID":
            stack[-1] = _PLAIN
        elif name == "STACK_GLOBAL":
            stack.pop()
            stack[-1] = _PLAIN
        elif name != "STOP":
            stack.append(_PLAIN)


def _check_structure(path: str) -> None:
    """Raise UserError if reading the pickles in a checkpoint file would not end. Damaged files pass."""
    if tarfile.is_tarfile(path):
        raise UserError("it is a tar archive, or holds nothing but zeros")
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"PK\x03\x04":
                file.seek(0)
                for _ in range(LEGACY_PICKLES):
                    check_tuples(file)
                return
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".pkl"):
                    with archive.open(name) as file:
                        check_tuples(file)
    except UserError:
        raise
    except Exception:  # damaged in one of many ways: torch.load, which is next, says so
        return


def _reason(path: str, error: Exception) -> str:
    """Say why ``torch.load`` refused a file."""
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        return "the file is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS; fetch the file itself with `git lfs pull`"
    if start.lstrip()[:1] == b"<":
        return "it is a web page; download the file itself"
    asked = re.search(r"GLOBAL (\S+)", str(error))
    if asked:
        return (
            f"it contains a call of {asked[1]}, and no code in a checkpoint is run; save only its state dict"
        )
    return f"it is damaged, cut off or not written by torch.save ({type(error).__name__})"


def load_safely(path: str) -> object:
    """Return what is in a checkpoint file, with its tensors on the CPU. No code in it is run.

    Raises:
        UserError: if the file is missing or damaged, or holds more than tensors and plain values.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: there is no such checkpoint (looked from {os.getcwd()}).")
    refused = f"{path}: not a checkpoint that can be read safely"
    try:
        _check_structure(path)
    except UserError as error:
        raise UserError(f"{refused}: {error}; expected tensors as torch.save writes them.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files and pickles with code fail in many ways
        raise UserError(
            f"{refused}: {_reason(path, error)}; expected tensors as torch.save writes them."
        ) from error


def contents(content: object) -> str:
    """Name what a checkpoint holds, for a message: the first keys of a dictionary, else the type."""
    if not isinstance(content, dict):
        return type(content).__name__
    if not content:
        return "an empty dictionary"
    keys = [key if isinstance(key, str) else f"a key of type {type(key).__name__}" for key in content]
    return ", ".join(keys)[:200]


def load_params(path: str, key: str | None = "params") -> dict[str, torch.Tensor]:
    """Return the state dict under ``key``; see ``load_named_params``."""
    return load_named_params(path, key)[1]


def load_named_params(path: str, key: str | None = "params") -> tuple[str | None, dict[str, torch.Tensor]]:
    """Return (key, state dict under it) of a BasicSR checkpoint, names without a leading ``module.``.

    Args:
        path: the file.
        key: 'params', 'params_ema', or None for a file that is a state dict itself. 'params' is taken where
            'params_ema' is asked for and not there.

    Raises:
        UserError: if the file is missing or damaged, holds more than tensors, or has no such key.
    """
    content = load_safely(path)
    if key == "params_ema" and isinstance(content, dict) and key not in content:
        key = "params"
    state = content
    if key is not None:
        state = content.get(key) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise UserError(f"{path}: expected a BasicSR checkpoint with '{key}', found {contents(content)}.")
    return key, {name[7:] if name.startswith("module.") else name: value for name, value in state.items()}


def _is_usable(value: object, own: torch.Tensor) -> bool:
    """Return whether ``value`` is a dense tensor whose numbers ``own`` can take, of any precision."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return False
    if value.device.type == "meta" or value.is_quantized or value.is_complex():
        return False
    return value.is_floating_point() == own.is_floating_point()


def check_some_fit(state: dict[str, torch.Tensor], net: torch.nn.Module, path: str) -> None:
    """Raise UserError if no tensor of ``state`` has a name and a shape of ``net``: nothing would be loaded.

    Args:
        state: the state dict.
        net: the network that would load what fits.
        path: the file that it comes from, for the message.
    """
    own = net.state_dict()
    for name, value in state.items():
        if name in own and _is_usable(value, own[name]) and value.shape == own[name].shape:
            return
    raise UserError(
        f"{path}: none of its {len(state)} tensors fits network_g ({type(net).__name__}); with "
        "strict_load_g: false the network would keep its random weights without a warning."
    )


def check_fits(state: dict[str, torch.Tensor], net: torch.nn.Module, path: str) -> None:
    """Raise UserError unless ``state`` has exactly the names and shapes of ``net``.

    Values that are not finite are allowed: `liif compare` shows them.

    Args:
        state: the state dict.
        net: the network that would load it.
        path: the file that it comes from, for the message.
    """
    own = net.state_dict()
    network = type(net).__name__
    for name, value in state.items():
        if name in own and not _is_usable(value, own[name]):
            raise UserError(
                f"{path}: '{name}' holds no numbers of the kind that {network} has; take another checkpoint."
            )
    differences = {
        "missing": [name for name in own if name not in state],
        "too many": [name for name in state if name not in own],
        "with another shape": [
            name for name in own if name in state and own[name].shape != state[name].shape
        ],
    }
    complaints = [
        f"{len(names)} tensors {what} (first: {names[0]})" for what, names in differences.items() if names
    ]
    if complaints:
        raise UserError(
            f"{path}: expected weights that fit network_g ({network}), found {', '.join(complaints)}. Use "
            "the option file with which they were trained."
        )
