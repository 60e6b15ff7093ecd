"""Checks of option files and of the command line before BasicSR parses them: a mistake is named before anything is written."""

from __future__ import annotations

import os
import re
import sys

import yaml

from ..errors import UserError, nearest
from .option_files import (
    BASE,
    READING_FAILS,
    OptionLoader,
    check_size,
    find_option_file,
    packaged_options,
    plain,
    read_options,
)
from .option_types import BLOCK, FOLDER_NAME, NUM_GPU, TEXT, check_value, check_values, optional, whole

# what BasicSR's parser and its trainer need to be so, whatever the model: it would fail, or write elsewhere, before any other check
EARLY = {
    "name": FOLDER_NAME,
    "num_gpu": NUM_GPU,
    "manual_seed": optional(whole(0, 2**31)),
    "datasets": BLOCK,
    "path": BLOCK,
}
PATHS = {"pretrain_network_g": optional(TEXT), "resume_state": optional(TEXT)}
ROOTS = {"dataroot_gt": optional(TEXT), "dataroot_lq": optional(TEXT)}


def forced_value(text: str) -> object:
    """The value of one --force_yml entry: YAML, read safely."""
    if text.lower() in ("none", "~"):
        return None
    try:
        value = yaml.load(text.replace("!!float", "!!float "), Loader=OptionLoader)
    except UserError:
        raise
    except READING_FAILS as error:
        raise UserError(
            f"--force_yml: '{text}' is not a value in yml ({' '.join(str(error).split())})."
        ) from error
    check_size("--force_yml", value)
    return value


def _take_forced(argv: list[str], opt: dict) -> None:
    """Put the values of --force_yml into ``opt``. BasicSR turns each `a:b=value` into code: only plain, existing keys get there."""
    for at, arg in enumerate(argv):
        flag = arg.partition("=")[0]
        if len(flag) > 3 and "--force_yml".startswith(flag) and arg != "--force_yml":
            raise UserError(f"{arg}: write `--force_yml KEY:KEY=VALUE`, with a blank.")
        if arg == "--force_yml" and "--force_yml" in argv[at + 1 :]:
            raise UserError("--force_yml: give it once, with all its KEY:KEY=VALUE behind it.")
    if "--force_yml" not in argv:
        return
    for entry in argv[argv.index("--force_yml") + 1 :]:
        if entry.startswith("-"):
            break
        keys, equals, value = entry.partition("=")
        if not equals or entry.count("=") > 1 or not re.fullmatch(r"[\w.-]+(:[\w.-]+)*", keys.strip()):
            raise UserError(f"--force_yml {entry}: expected key:key=value with one '='.")
        block = opt
        *parents, last = keys.strip().split(":")
        for key in parents:
            if not isinstance(block.get(key), dict):
                raise UserError(
                    f"--force_yml {entry}: the option file has no block '{key}'{nearest(key, block)}."
                )
            block = block[key]
        block[last] = forced_value(value.strip())


def _check_early(path: str, opt: dict) -> None:
    """What stands in EARLY, PATHS and ROOTS."""
    for key in ("name", "num_gpu", "datasets", "path"):
        if key not in opt:
            raise UserError(f"{path}: '{key}' is missing; compare it with {packaged_options()}.")
    check_values(path, opt, EARLY)
    check_values(f"{path}: path", opt["path"], PATHS)
    for name, dataset in opt["datasets"].items():
        check_value(path, f"datasets, the name of {name}", name, TEXT)
        check_value(path, f"datasets.{name}", dataset, BLOCK)
        check_values(f"{path}: datasets.{name}", dataset, ROOTS)


def prepare_command_line() -> None:
    """Find the option file of the command line and refuse what BasicSR's parser would stumble over."""
    at = _find_opt_argument(sys.argv)
    if at is None:  # BasicSR's own parser says what is missing
        return
    sys.argv[at] = find_option_file(sys.argv[at])
    opt = read_options(sys.argv[at])
    _take_forced(sys.argv, opt)
    _check_early(sys.argv[at], opt)


def _find_opt_argument(argv: list[str]) -> int | None:
    """Index of the value of -opt in ``argv``, or None; ``-opt=FILE`` is taken apart first."""
    joined = next((i for i, arg in enumerate(argv) if arg.startswith("-opt=")), None)
    if joined is not None:
        argv[joined : joined + 1] = ["-opt", argv[joined][len("-opt=") :]]
    at = argv.index("-opt") + 1 if "-opt" in argv else len(argv)
    return at if at < len(argv) else None


def write_option_copy(opt_file: str, experiments_root: str) -> None:
    """Write what ``opt_file`` is built on into the copy that BasicSR put into ``experiments_root``, below its header."""
    with open(opt_file, encoding="utf-8") as file:
        if not any(line.startswith(BASE) for line in file):
            return
    copy = os.path.join(experiments_root, os.path.basename(opt_file))
    with open(copy, encoding="utf-8") as file:
        header = [next(file) for _ in range(4)]  # the time, the command, an empty line
    with open(copy, "w", encoding="utf-8") as file:
        file.write(
            "".join(header)
            + yaml.safe_dump(plain(read_options(opt_file)), sort_keys=False, default_flow_style=None)
        )
