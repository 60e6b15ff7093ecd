"""The types of options, and the checks that hold a block of an option file against a table of them.

A table maps the name of an option to its type, or to an `Option`, which adds a default and a line of help for
docs/options.md:

    SOURCE_OPTIONS = {
        "first_k": Option(optional(whole(1)), default=None, help="Use only the first k images."),
        "phase": choice("train", "val", "test"),
    }
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from ..errors import NotRegisteredError, UserError, check_keys, choices, nearest

# The two limits against absurd input: more than that is a slip that would only fail later, slowly.
LARGEST_INTEGER = 10**9  # of any option
MOST_PARTS = 100_000  # values in an option file; blocks or features of a network


@dataclass(frozen=True)
class OptionType:
    """What the value of an option may be.

    Attributes:
        words: what is expected, as an error message says it: "a whole number of 1 or more".
        fits: whether a value has this type.
        names: the valid values where they can be listed, so that an error names the nearest one.
    """

    words: str
    fits: Callable[[Any], bool]
    names: tuple[str, ...] = ()


class _NoDefault:
    """The type of REQUIRED and NO_DEFAULT."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


REQUIRED = _NoDefault("required")  # `check_block` refuses a block without the option
NO_DEFAULT = _NoDefault("")  # may be left out; there is no one value that it then has


@dataclass(frozen=True)
class Option:
    """An entry of a table of options.

    Attributes:
        type: what the value may be.
        default: the value where the option is left out, REQUIRED, or NO_DEFAULT.
        help: what the option does, one sentence for docs/options.md.
    """

    type: OptionType
    default: object = NO_DEFAULT
    help: str = ""


Options = Mapping[str, Union[Option, OptionType]]


def type_of(option: Option | OptionType) -> OptionType:
    """Return the type of an entry of a table."""
    return option.type if isinstance(option, Option) else option


def _is_number(value: Any) -> bool:
    # the comparison is false for infinity and for nan
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _is_folder_name(value: Any) -> bool:
    """Whether ``value`` can be joined to a folder without leaving it; '/' makes sub-folders."""
    if not _is_text(value) or not value.isprintable() or "\\" in value:
        return False
    if len(value.encode(errors="replace")) > 200 or os.path.isabs(value):
        return False
    return all(part.strip(" .") for part in value.split("/"))


def whole(least: int, most: int = LARGEST_INTEGER) -> OptionType:
    """Return the type of a whole number from ``least`` to ``most``."""
    words = f"a whole number of {least} or more, at most {most}"
    if most < LARGEST_INTEGER or most == 2**31:
        words = f"a whole number from {least} to {most}"
    return OptionType(words, lambda v: type(v) is int and least <= v <= most)


def number(least: float = -math.inf, most: float = math.inf) -> OptionType:
    """Return the type of a finite number from ``least`` to ``most``."""
    bounds = [f"of {least:g} or more"] if least > -math.inf else []
    bounds += [f"of at most {most:g}"] if most < math.inf else []
    return OptionType(
        " ".join(["a number", " and ".join(bounds)]).strip(), lambda v: _is_number(v) and least <= v <= most
    )


def positive(most: float = math.inf) -> OptionType:
    """Return the type of a finite number above 0, at most ``most``."""
    words = "a number above 0" if most == math.inf else f"a number above 0 and of at most {most:g}"
    return OptionType(words, lambda v: _is_number(v) and 0 < v <= most)


def choice(*values: str) -> OptionType:
    """Return the type of a text that is one of ``values``."""
    return OptionType(", ".join(values), lambda v: isinstance(v, str) and v in values, values)


def each(entry: OptionType, count: int | None = None) -> OptionType:
    """Return the type of a list of ``count`` entries, or of at least one, all of the type ``entry``."""
    words = f"a list, each entry {entry.words}" if count is None else f"a list of {count}, each {entry.words}"
    return OptionType(
        words,
        lambda v: (
            isinstance(v, (list, tuple)) and len(v) == (count or max(len(v), 1)) and all(map(entry.fits, v))
        ),
    )


def either(first: OptionType, second: OptionType) -> OptionType:
    """Return the type of a value that has one of two types."""
    return OptionType(
        f"{first.words} or {second.words}",
        lambda v: first.fits(v) or second.fits(v),
        first.names + second.names,
    )


def optional(option_type: OptionType) -> OptionType:
    """Return the type of a value that may also be empty (`~`)."""
    return either(option_type, OptionType("~", lambda v: v is None))


# Another check follows; only docs/options.md shows the words
ANY = OptionType("see the meaning", lambda v: True)
FLAG = OptionType("true or false", lambda v: isinstance(v, bool))
TEXT = OptionType("text", _is_text)
BLOCK = OptionType("a block of options", lambda v: isinstance(v, dict))
FOLDER_NAME = OptionType("a name that a folder can have, without '..'", _is_folder_name)
RUN_NAME = OptionType(
    "a name that a folder can have, without '/' and '..'",  # BasicSR puts it into the name of the log file
    lambda v: _is_folder_name(v) and "/" not in str(v),
)
NUM_GPU = either(OptionType("auto", lambda v: v == "auto", ("auto",)), whole(0, 1024))


def check_value(where: str, key: str, value: object, option: Option | OptionType) -> None:
    """Raise UserError unless ``value`` has the type of ``option``."""
    expected = type_of(option)
    if not expected.fits(value):
        raise UserError(
            f"{where}: {key}: expected {expected.words}, got {_shown(value)}{nearest(value, expected.names)}."
        )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_values(where: str, block: Mapping, options: Options) -> None:
    """Raise UserError for the first option of ``block`` whose value has another type than the table says."""
    for key, value in block.items():
        if key in options:
            check_value(where, key, value, options[key])


def check_block(where: str, block: object, options: Options) -> None:
    """Raise UserError unless ``block`` is a block whose options all stand in the table, by name and value.

    Also raise where an option that the table calls REQUIRED is missing or empty.
    """
    if not isinstance(block, dict):
        raise UserError(f"{where}: expected a block of options, got {_shown(block)}.")
    check_keys(where, block, options)
    check_values(where, block, options)
    for key, option in options.items():
        if isinstance(option, Option) and option.default is REQUIRED:
            require(where, block, key)


def require(where: str, block: object, *keys: str) -> None:
    """Raise UserError for the first of ``keys`` that ``block`` lacks or leaves empty."""
    for key in keys:
        if not isinstance(block, dict) or block.get(key) is None:
            raise UserError(f"{where}: '{key}' is missing; the packaged option files show it.")


def check_plain(where: str, value: object) -> None:
    """Raise UserError for a number that is not finite, or a key that is not text, anywhere in ``value``."""
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


def registered(where: str, registry, name: object) -> Any:
    """Return the object called ``name`` of a registry of BasicSR.

    BasicSR's own message for a missing name recommends NAME_basicsr even where that is missing too.

    Raises:
        NotRegisteredError: there is no such object; the message names the nearest one.
    """
    known = [key for key, _ in registry]
    for candidate in (name, f"{name}_basicsr"):
        if candidate in known:
            return registry.get(candidate)
    raise NotRegisteredError(f"{where}: nothing named '{name}' is registered{choices(name, known)}.")


NUMBERS = either(
    OptionType("a number", _is_number),
    OptionType("a list of numbers", lambda v: isinstance(v, list) and all(map(_is_number, v))),
)
LIST = OptionType("a list", lambda v: isinstance(v, (list, tuple)))
ANY_TEXT = OptionType("text", lambda v: isinstance(v, str))


def _type_of_default(default: object) -> OptionType:
    """Return the type that an argument has if ``default`` is its default value."""
    if isinstance(default, bool):
        return FLAG
    if isinstance(default, (int, float)):
        return NUMBERS  # a list: one number for each axis
    if isinstance(default, str):
        return ANY_TEXT
    return LIST if isinstance(default, (list, tuple)) else ANY


def check_call(
    where: str,
    target: object,
    given: Mapping,
    supplied: Sequence[str] = (),
    unchecked: Sequence[str] = (),
) -> None:
    """Raise UserError unless ``target`` can be called with the options ``given``.

    Args:
        where: what the options belong to, at the beginning of the message.
        target: a class or function. An argument has the type of its default value.
        given: the options; `type` is no argument.
        supplied: arguments that the caller adds.
        unchecked: arguments that take any type.
    """
    parameters = inspect.signature(target).parameters  # type: ignore[arg-type]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_keys(where, [key for key in given if key != "type"], parameters)
    for name, p in parameters.items():
        if p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            continue
        if p.default is p.empty and name not in given and name not in supplied:
            raise UserError(f"{where}: '{name}' is missing.")
        if name in given and name not in ("type", *unchecked):
            check_value(where, name, given[name], _type_of_default(p.default))
