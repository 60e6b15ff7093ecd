"""What the value of an option may be: a kind has a type and a range, and whole blocks of options are checked at once."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import UserError, check_keys, choices, nearest

HUGE = 10**9  # no count in an option file is larger


@dataclass(frozen=True)
class Kind:
    """words: what is expected, in a sentence. fits: whether a value is of this kind. names: the valid ones, where they can be listed."""

    words: str
    fits: Callable[[object], bool]
    names: tuple[str, ...] = ()


def _is_number(value: object) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf
    )  # nan fails too


def whole(least: int, most: int = HUGE) -> Kind:
    """A whole number from ``least`` to ``most``."""
    return Kind(
        f"a whole number of {least} or more, at most {most}", lambda v: type(v) is int and least <= v <= most
    )


def number(least: float = -math.inf, most: float = math.inf) -> Kind:
    """A finite number from ``least`` to ``most``."""
    bounds = [f"of {least:g} or more"] * (least > -math.inf) + [f"of at most {most:g}"] * (most < math.inf)
    return Kind(
        " ".join(["a number", " and ".join(bounds)]).strip(), lambda v: _is_number(v) and least <= v <= most
    )


def choice(*values: str) -> Kind:
    """One of ``values``."""
    return Kind(", ".join(values), lambda v: isinstance(v, str) and v in values, values)


def each(kind: Kind) -> Kind:
    """A list with at least one entry, all of a kind."""
    return Kind(
        f"a list, each entry {kind.words}",
        lambda v: isinstance(v, (list, tuple)) and bool(v) and all(map(kind.fits, v)),
    )


def optional(kind: Kind) -> Kind:
    """``kind`` or nothing."""
    return Kind(f"{kind.words} or ~", lambda v: v is None or kind.fits(v), kind.names)


def _is_folder_name(value: object) -> bool:
    plain = (
        isinstance(value, str)
        and 0 < len(value.encode(errors="replace")) <= 200
        and value.isprintable()
        and "\\" not in value
    )
    return plain and not os.path.isabs(value) and all(part.strip(" .") for part in value.split("/"))


ANY = Kind("anything", lambda v: True)
FLAG = Kind("true or false", lambda v: isinstance(v, bool))
TEXT = Kind("text", lambda v: isinstance(v, str) and bool(v) and "\0" not in v)
BLOCK = Kind("a block of options", lambda v: isinstance(v, dict))
FOLDER_NAME = Kind(
    "a name that a folder can have, without '..'", _is_folder_name
)  # it is joined to the folder of all experiments
NUM_GPU = Kind(
    "auto, or a whole number of 0 or more", lambda v: v == "auto" or (type(v) is int and 0 <= v <= 1024)
)


def check_value(where: str, key: str, value: object, kind: Kind) -> None:
    """Raise UserError unless ``value`` is of ``kind``."""
    if not kind.fits(value):
        raise UserError(
            f"{where}: {key}: expected {kind.words}, got {_shown(value)}{nearest(value, kind.names)}."
        )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_values(where: str, block: Mapping, kinds: Mapping[str, Kind]) -> None:
    """Raise UserError for the first option of ``block`` that ``kinds`` knows and whose value is not of its kind."""
    for key, value in block.items():
        if key in kinds:
            check_value(where, key, value, kinds[key])


def check_block(where: str, block: object, kinds: Mapping[str, Kind]) -> None:
    """Raise UserError unless ``block`` is a block of options that are all in ``kinds``, by name and value."""
    if not isinstance(block, dict):
        raise UserError(f"{where}: expected a block of options, got {_shown(block)}.")
    check_keys(where, block, kinds)
    check_values(where, block, kinds)


def check_plain(where: str, value: object) -> None:
    """Raise UserError for a number that is not finite, or a block with a name that is no text, anywhere in ``value``."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: expected a finite number, got {value}.")
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise UserError(
                    f"{where}: expected names of options as text, got {_shown(key)}; put it into quotes."
                )
            check_plain(f"{where}.{key}" if where else key, entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            check_plain(where, entry)


def registered(where: str, registry, name: object) -> object:
    """The object called ``name`` of a registry of BasicSR, whose own message for a missing one names another that is not there either.

    Raises:
        UserError: where there is none; names the nearest one.
    """
    known = [key for key, _ in registry]
    for candidate in (name, f"{name}_basicsr"):
        if candidate in known:
            return registry.get(candidate)
    raise UserError(
        f"{where}: nothing named '{name}' is registered{choices(name, known)}. One of your own needs `--import MODULE`."
    )


def _kind_of_default(default: object) -> Kind:
    if isinstance(default, bool):
        return FLAG
    if isinstance(default, (int, float)):  # a list: one for each axis
        return Kind("a number", lambda v: _is_number(v) or (isinstance(v, list) and all(map(_is_number, v))))
    if isinstance(default, str):
        return Kind("text", lambda v: isinstance(v, str))
    return (
        Kind("a list", lambda v: isinstance(v, (list, tuple))) if isinstance(default, (list, tuple)) else ANY
    )


def check_call(
    where: str,
    target: object,
    given: Mapping,
    supplied: tuple[str, ...] = (),
    unchecked: tuple[str, ...] = (),
) -> None:
    """Refuse arguments that ``target`` does not take or whose default is of another kind, and name one that it needs and does not get."""
    parameters = inspect.signature(target).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_keys(where, [key for key in given if key != "type"], parameters)
    for name, p in parameters.items():
        plain = p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if plain and p.default is p.empty and name not in given and name not in supplied:
            raise UserError(f"{where}: '{name}' is missing.")
        if plain and name in given and name not in ("type", *unchecked):
            check_value(where, name, given[name], _kind_of_default(p.default))
