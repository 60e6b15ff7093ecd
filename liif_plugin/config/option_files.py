"""Option files: read safely, found by name, written as what differs from another one (``_base_``)."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from pathlib import Path

import yaml

from ..errors import UserError, choices, nearest

BASE = "_base_"  # MMEngine's word for it
MOST_VALUES, DEEPEST = 100_000, 30
# ValueError: a date that does not exist, bytes that are no text. The others: what PyYAML runs into with odd keys and tags
READING_FAILS = (
    yaml.YAMLError,
    ValueError,
    OSError,
    RecursionError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    OverflowError,
)


class OptionLoader(yaml.SafeLoader):
    """PyYAML's safe loader that reads 1e-4 as a number, refuses a key given twice, and builds on the file that ``_base_`` names.

    ``_base_: train_liif_edsr.yml`` (or a list, later ones win) stands beside the file or among the packaged ones. Blocks are merged key
    by key; a block of another ``type`` replaces the base's as a whole; ``block: ~`` takes it out.
    """

    bases: tuple[str, ...] = ()  # the files that are being read, so that a circle is noticed

    def construct_mapping(self, node, deep=False):
        keys = [
            self.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")
        ]
        for key in keys:
            if keys.count(key) > 1:
                raise UserError(
                    f"{self.name}, line {node.start_mark.line + 1}: '{key}' is given twice; keep one."
                )
        return OrderedDict(super().construct_mapping(node, deep=True))

    def get_single_data(self):
        try:
            opt = super().get_single_data()
        except yaml.MarkedYAMLError as error:  # says every place that it came by, over several lines
            mark = error.problem_mark or error.context_mark
            raise yaml.YAMLError(
                f"line {mark.line + 1 if mark else '?'}: {error.problem or error.context}"
            ) from error
        if not isinstance(opt, dict) or BASE not in opt:
            return opt
        names = opt.pop(BASE)
        merged = OrderedDict()
        for name in names if isinstance(names, list) else [names]:
            merged = merge(merged, self._read_base(name))
        return merge(merged, opt)

    def _read_base(self, name: object) -> OrderedDict:
        if not isinstance(name, str):
            raise UserError(f"{self.name}: {BASE}: expected the name of an option file, got {name!r}.")
        beside = os.path.join(os.path.dirname(self.name), name)
        path = os.path.realpath(
            beside if os.path.isfile(beside) else packaged_options() / os.path.basename(name)
        )
        if not os.path.isfile(path):
            packaged = [file.name for file in packaged_options().glob("*.yml")]
            raise UserError(
                f"{self.name}: {BASE}: there is no {beside}, and no option file of liif_plugin has that name"
                f"{nearest(name, packaged)}."
            )
        reading = (*self.bases, os.path.realpath(self.name))
        if path in reading:
            raise UserError(f"{self.name}: {BASE}: {path} is built on this very file.")
        return read_options(path, reading)


# YAML 1.1 asks for a dot in a float, so that 1e-4 is text; every reader of an option file means a number
OptionLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
OptionLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, OptionLoader.construct_mapping)


def merge(base: dict, changes: dict) -> OrderedDict:
    """``base`` with ``changes``: see OptionLoader for the three rules. Neither argument is altered."""
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
    """The folder of our option files: inside an installed wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "options"
    return inside if inside.is_dir() else package.parent / "options"


def find_option_file(name: str) -> str:
    """``name`` if that file exists, else the packaged option file with the same base name, which is said.

    Raises:
        UserError: where there is neither; names the nearest packaged file.
    """
    if os.path.isfile(name):
        return name
    packaged = {path.name: path for path in sorted(packaged_options().glob("*.yml"))}
    base = os.path.basename(name)
    found = packaged.get(base) or packaged.get(base + ".yml")
    if found is None:
        raise UserError(
            f"-opt {name}: no such file, and no option file of liif_plugin has that name"
            f"{choices(base, packaged, 'it brings')}."
        )
    print(f"There is no file {name} here: using the packaged {found}.", flush=True)
    return str(found)


def read_options(path: str, reading: tuple[str, ...] = ()) -> OrderedDict:
    """The option file ``path``, with what it is built on, as nested dicts, without running any code in it."""
    try:
        with open(path, encoding="utf-8") as file:
            loader = OptionLoader(file)
            loader.bases = reading
            opt = loader.get_single_data()
    except UserError:
        raise
    except READING_FAILS as error:
        raise UserError(f"{path}: not a readable yml file: {' '.join(str(error).split())}") from error
    if not isinstance(opt, dict):
        raise UserError(f"{path}: expected a yml mapping such as `name: ...`, got {type(opt).__name__}.")
    check_size(path, opt)
    return opt


def check_size(path: str, opt: object) -> None:
    """Raise UserError for more values than an option file has, or one inside itself: aliases of aliases grow without an end."""
    waiting, seen = [(opt, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > DEEPEST or seen > MOST_VALUES:
            raise UserError(
                f"{path}: expected at most {MOST_VALUES} values and {DEEPEST} blocks inside one another; check its aliases (*)."
            )
        if isinstance(value, (dict, list, tuple, set)):
            entries = list(value.values()) if isinstance(value, dict) else list(value)
            waiting += [(entry, depth + 1) for entry in entries]


def plain(value: object) -> object:
    """Nested options with plain dicts, as yaml.safe_dump wants them."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
