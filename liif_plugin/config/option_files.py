"""Option files: read them safely, find them by name, build one on another with ``_base_``."""

from __future__ import annotations

import os
import re
import sys
from collections import OrderedDict
from pathlib import Path
from typing import IO

import yaml

from ..errors import UserError, choices, nearest
from .option_types import MOST_PARTS

BASE = "_base_"  # MMEngine's name for it
READING_FAILS = (
    yaml.YAMLError,
    OSError,
    ValueError,  # a date that does not exist, bytes that are not text
    RecursionError,
    TypeError,  # this one and the following: odd keys and tags
    AttributeError,
    KeyError,
    IndexError,
    OverflowError,
)


class OptionLoader(yaml.SafeLoader):
    """PyYAML's safe loader that reads 1e-4 as a number and refuses a key that is given twice."""

    def flatten_mapping(self, node):
        """Insert the entries of merge keys (`<<`); each level of them can double the number of entries."""
        super().flatten_mapping(node)
        if len(node.value) > MOST_PARTS:
            raise UserError(f"{self.name}: expected at most {MOST_PARTS} values; check its merge keys (<<).")

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag.endswith(":merge"):
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (list, dict, set)):  # those are refused below
                if key in seen:
                    line = node.start_mark.line + 1
                    raise UserError(f"{self.name}, line {line}: '{key}' is given twice; keep one.")
                seen.add(key)
        return OrderedDict(super().construct_mapping(node, deep=True))

    def construct_yaml_int(self, node):
        value = super().construct_yaml_int(node)
        if abs(value) > sys.float_info.max:  # Python refuses to print numbers of more than 4,300 digits
            raise yaml.constructor.ConstructorError(None, None, "a number is too large", node.start_mark)
        return value


# YAML 1.1 requires a dot in a float, so that 1e-4 is text; every reader of an option file means a number.
OptionLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
OptionLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, OptionLoader.construct_mapping)
OptionLoader.add_constructor("tag:yaml.org,2002:int", OptionLoader.construct_yaml_int)


def parse_yaml(where: str, stream: str | IO[str], expected: str = "a readable yml file") -> object:
    """Return the value of a YAML text or file; run no code in it.

    Args:
        where: what is read, at the beginning of an error message.
        stream: the text or the open file.
        expected: what it should be, for an error message.

    Raises:
        UserError: it cannot be read, or holds more than ``MOST_PARTS`` values.
    """
    try:
        value = yaml.load(stream, Loader=OptionLoader)
    except UserError:
        raise
    except yaml.MarkedYAMLError as error:
        # Its own text names every place that the parser passed, on several lines.
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else "?"
        raise UserError(f"{where}: not {expected}: line {line}: {error.problem or error.context}") from error
    except READING_FAILS as error:
        raise UserError(f"{where}: not {expected}: {error}") from error
    _check_size(where, value)
    return value


def _check_size(where: str, value: object) -> None:
    """Raise UserError for too many values. An alias inside itself (`&a [*a]`) counts without end."""
    waiting, count = [value], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > MOST_PARTS:
            raise UserError(f"{where}: expected at most {MOST_PARTS} values; check its aliases (*).")
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set)):
            waiting += value


def merge(base: dict, changes: dict) -> OrderedDict:
    """Return ``base`` with ``changes``; neither argument is altered.

    Blocks are merged key by key. A block of another ``type`` replaces the block of ``base`` as a whole.
    ``block: ~`` removes the block.

    Example:
        >>> merged = merge({"a": {"x": 1}, "b": {"y": 2}}, {"a": {"z": 3}, "b": None})
        >>> list(merged), dict(merged["a"])
        (['a'], {'x': 1, 'z': 3})
    """
    merged = OrderedDict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, dict) and value is None:
            del merged[key]
        elif (
            isinstance(old, dict)
            and isinstance(value, dict)
            and value.get("type", old.get("type")) == old.get("type")
        ):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def packaged_options() -> Path:
    """Return the folder of the packaged option files: in a wheel inside, in a checkout beside the package."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "options"
    return inside if inside.is_dir() else package.parent / "options"


def packaged_files() -> dict[str, Path]:
    """Return the packaged option files by their bare names, whatever sub-folder they are in."""
    return {path.name: path for path in sorted(packaged_options().rglob("*.yml"))}


def find_option_file(name: str) -> str:
    """Return ``name`` if that file exists, else the packaged option file of that name; print which one it is.

    Raises:
        UserError: there is neither; the message names the nearest packaged file.
    """
    if os.path.isfile(name):
        return name
    packaged = packaged_files()
    base = os.path.basename(name)
    path = packaged.get(base) or packaged.get(base + ".yml")
    if path is None:
        raise UserError(
            f"{name}: no such file, and no option file of liif_plugin has that name"
            f"{choices(base, [file for file in packaged if not file.startswith('_')], 'it brings')}."
        )
    print(f"There is no file {name} here: using the packaged {path}.", flush=True)
    return str(path)


def read_options(path: str) -> OrderedDict:
    """Return the option file ``path`` as nested dicts, with the files that it is built on; run no code in it.

    ``_base_: train_liif_edsr.yml``, or a list of which later ones win, names files beside this one or
    packaged ones. See ``merge`` for how they are combined.

    Raises:
        UserError: the file, or one that it is built on, cannot be read.
    """
    options = _resolve(path, (), {})
    _check_size(path, options)
    return _unshared(options)


def _resolve(path: str, parents: tuple[str, ...], resolved: dict[str, OrderedDict]) -> OrderedDict:
    """Return the option file ``path`` with its bases.

    Args:
        path: the file.
        parents: the real paths of the files that are built on this one, to notice a circle.
        resolved: real path -> options of the files read so far. Without it, files that share bases take
            exponential time.
    """
    real = os.path.realpath(path)
    if real not in resolved:
        options = read_without_bases(path)
        merged: OrderedDict = OrderedDict()
        names = options.pop(BASE, [])
        for name in names if isinstance(names, list) else [names]:
            base = _find_base(path, name)
            if os.path.realpath(base) in (*parents, real):
                raise UserError(f"{path}: {BASE}: {base} is built on this very file.")
            merged = merge(merged, _resolve(base, (*parents, real), resolved))
        resolved[real] = merge(merged, options)
    return resolved[real]


def read_without_bases(path: str) -> OrderedDict:
    """Return what the file ``path`` itself says, ``_base_`` included."""
    try:
        with open(path, encoding="utf-8") as file:
            options = parse_yaml(path, file)
    except OSError as error:
        raise UserError(f"{path}: not a readable yml file: {error}") from error
    if not isinstance(options, dict):
        raise UserError(f"{path}: expected a yml mapping such as `name: ...`, got {type(options).__name__}.")
    return OrderedDict(options)


def _find_base(path: str, name: object) -> str:
    """Return the file that ``_base_: name`` in the file ``path`` means."""
    if not isinstance(name, str):
        raise UserError(f"{path}: {BASE}: expected the name of an option file, got {name!r}.")
    beside = os.path.join(os.path.dirname(path), name)
    if os.path.isfile(beside):
        return beside
    packaged = packaged_files()
    found = packaged.get(os.path.basename(name))
    if found is None:
        raise UserError(
            f"{path}: {BASE}: there is no {beside}, and no option file of liif_plugin has that name"
            f"{nearest(name, packaged)}."
        )
    return str(found)


def _unshared(value):
    """Return a copy without shared parts, so that editing one block does not edit its aliases."""
    if isinstance(value, dict):
        return OrderedDict((key, _unshared(entry)) for key, entry in value.items())
    return [_unshared(entry) for entry in value] if isinstance(value, list) else value


def plain(value: object) -> object:
    """Return nested options with plain dicts, as ``yaml.safe_dump`` takes them."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
