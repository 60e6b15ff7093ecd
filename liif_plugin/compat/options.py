"""Option files: read safely, found by name, checked before anything is written.

| patch | what it cures (BasicSR 1.4.2, PyPI and master) |
|---|---|
| ordered_yaml | yml read with an unsafe loader; 1e-4 read as text; a key given twice silently wins |
| _postprocess_yml_value | --force_yml evaluates text; 1e-4 and -1 stay text |
| parse_options | a wrong option fails late or never; the packaged option files cannot be named |

Each can go when BasicSR does it itself.
"""

from __future__ import annotations

import os
import re
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Callable

import yaml

from ..errors import UserError, nearest
from .training import patch_main

AFTER_PARSE: list[Callable[[dict], None]] = []  # checks of the whole option dict; a failing one raises UserError


class OptionLoader(yaml.SafeLoader):
    """PyYAML's safe loader that reads 1e-4 as a number and refuses a key given twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise UserError(f"option file, line {node.start_mark.line + 1}: '{key}' is given twice; keep one.")
        return OrderedDict(super().construct_mapping(node, deep=True))


# YAML 1.1 asks for a dot in a float, so that 1e-4 is text; every reader of an option file means a number
OptionLoader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))
OptionLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, OptionLoader.construct_mapping)


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
        raise UserError(f"-opt {name}: no such file, and no option file of liif_plugin has that name{nearest(base, packaged)}; "
                        f"it brings {', '.join(packaged)}.")  # fmt: skip
    print(f"There is no file {name} here: using the packaged {found}.", flush=True)
    return str(found)


def read_options(path: str) -> OrderedDict:
    """The option file ``path`` as nested dicts, without running any code in it."""
    try:
        with open(path, encoding="utf-8") as file:
            opt = yaml.load(file, Loader=OptionLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable yml file: {' '.join(str(error).split())}") from error
    if not isinstance(opt, dict):
        raise UserError(f"{path}: expected a yml mapping such as `name: ...`, got {type(opt).__name__}.")
    return opt


def _forced_value(text: str) -> object:
    """The value of one --force_yml entry: YAML, read safely."""
    if text.lower() in ("none", "~"):
        return None
    try:
        return yaml.load(text.replace("!!float", "!!float "), Loader=OptionLoader)
    except yaml.YAMLError as error:
        raise UserError(f"--force_yml: '{text}' is not a value in yml ({' '.join(str(error).split())}).") from error


def _check_forced(argv: list[str], opt: dict) -> None:
    """BasicSR turns each `a:b=value` into code: let only plain, existing keys through."""
    if "--force_yml" not in argv:
        return
    for entry in argv[argv.index("--force_yml") + 1 :]:
        if entry.startswith("-"):
            break
        keys, equals, _ = entry.partition("=")
        if not equals or entry.count("=") > 1 or not re.fullmatch(r"[\w.-]+(:[\w.-]+)*", keys.strip()):
            raise UserError(f"--force_yml {entry}: expected key:key=value with one '='.")
        block = opt
        *parents, last = keys.strip().split(":")
        for key in parents:
            if not isinstance(block.get(key), dict):
                raise UserError(f"--force_yml {entry}: the option file has no block '{key}'{nearest(key, block)}.")
            block = block[key]


def _find_opt_argument(argv: list[str]) -> int | None:
    """Index of the value of -opt in ``argv``, or None; ``-opt=FILE`` is taken apart first."""
    joined = next((i for i, arg in enumerate(argv) if arg.startswith("-opt=")), None)
    if joined is not None:
        argv[joined : joined + 1] = ["-opt", argv[joined][len("-opt=") :]]
    at = argv.index("-opt") + 1 if "-opt" in argv else len(argv)
    return at if at < len(argv) else None


def _one_line_for_user_errors() -> None:
    """Print a UserError as one line wherever it ends the program, also under BasicSR's own scripts; once per process."""
    previous = sys.excepthook
    if getattr(previous, "knows_user_errors", False):
        return

    def hook(kind, error, trace):
        if isinstance(error, UserError):
            print(f"liif_plugin: {one_line(error)}", file=sys.stderr)
        else:
            previous(kind, error, trace)

    hook.knows_user_errors = True
    sys.excepthook = hook


def one_line(error: UserError) -> str:
    """The sentence of ``error``; of one that a data worker raised, without the worker's traceback."""
    return str(error).rsplit("UserError: ", 1)[-1].strip()


def apply() -> None:
    """Apply the table above once."""
    import basicsr.test
    import basicsr.train
    from basicsr.utils import options

    stock_parse = options.parse_options
    if getattr(stock_parse, "finds_packaged_options", False):
        return

    def parse_options(root_path, is_train=True):
        _one_line_for_user_errors()
        patch_main()
        at = _find_opt_argument(sys.argv)
        if at is not None:  # without -opt BasicSR's own parser says what is missing
            sys.argv[at] = find_option_file(sys.argv[at])
            opt = read_options(sys.argv[at])
            for block in ("name", "num_gpu", "datasets", "path"):
                if block not in opt:
                    raise UserError(f"{sys.argv[at]}: '{block}' is missing; compare it with {packaged_options()}.")
            for block in ("datasets", "path"):
                if not isinstance(opt[block], dict):
                    raise UserError(f"{sys.argv[at]}: expected a block of options under '{block}:', got {opt[block]!r}.")
            _check_forced(sys.argv, opt)
        opt, args = stock_parse(root_path, is_train)
        for check in AFTER_PARSE:
            check(opt)
        return opt, args

    parse_options.finds_packaged_options = True
    options.parse_options = basicsr.train.parse_options = basicsr.test.parse_options = parse_options
    options._postprocess_yml_value = _forced_value
    options.ordered_yaml = lambda: (OptionLoader, yaml.SafeDumper)
