"""BasicSR's parser of option files and of the command line: safe, and a mistake is named before anything is written.

| patch | what it cures (BasicSR 1.4.2, PyPI and master) |
|---|---|
| ordered_yaml | yml read with an unsafe loader; 1e-4 read as text; a key given twice silently wins |
| _postprocess_yml_value | --force_yml evaluates text; 1e-4 and -1 stay text |
| parse_options | a wrong option fails late or never; the packaged option files cannot be named |
| copy_opt_file | the copy in the experiment's folder would lack what its `_base_` says |

Each can go when BasicSR does it itself.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Callable

import yaml

from ..basicsr_patches.distributed import agree, last_words
from ..basicsr_patches.training import patch_main
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
AFTER_PARSE: list[
    Callable[[dict], None]
] = []  # checks of the whole option dict; a failing one raises UserError


def _forced_value(text: str) -> object:
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
        block[last] = _forced_value(value.strip())


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


def _launched_by_torchrun(argv: list[str]) -> bool:
    return "--launcher=pytorch" in argv or ("--launcher", "pytorch") in zip(argv, argv[1:])


def _check_files() -> None:
    """Find the option file of the command line and refuse what BasicSR's parser would stumble over."""
    at = _find_opt_argument(sys.argv)
    if at is None:  # BasicSR's own parser says what is missing
        return
    sys.argv[at] = find_option_file(sys.argv[at])
    opt = read_options(sys.argv[at])
    _take_forced(sys.argv, opt)
    _check_early(sys.argv[at], opt)


def _parse_and_check(stock_parse: Callable, root_path: str, is_train: bool) -> tuple:
    opt, args = stock_parse(root_path, is_train)
    for check in AFTER_PARSE:
        check(opt)
    return opt, args


def _find_opt_argument(argv: list[str]) -> int | None:
    """Index of the value of -opt in ``argv``, or None; ``-opt=FILE`` is taken apart first."""
    joined = next((i for i, arg in enumerate(argv) if arg.startswith("-opt=")), None)
    if joined is not None:
        argv[joined : joined + 1] = ["-opt", argv[joined][len("-opt=") :]]
    at = argv.index("-opt") + 1 if "-opt" in argv else len(argv)
    return at if at < len(argv) else None


def _one_line_for_user_errors() -> None:
    """Print a UserError, or the loss of another process, as one line wherever it ends the program, also under BasicSR's own scripts."""
    previous = sys.excepthook
    if getattr(previous, "knows_user_errors", False):
        return

    def hook(kind, error, trace):
        words = last_words(error)
        if words is None:
            previous(kind, error, trace)
        else:
            print(f"liif_plugin: {words}", file=sys.stderr)

    hook.knows_user_errors = True
    sys.excepthook = hook


def copy_opt_file(opt_file: str, experiments_root: str) -> None:
    """As BasicSR's: the option file under a line with the command; where it is built on another one, all of it in its place."""
    from basicsr.utils.dist_util import get_dist_info
    from basicsr.utils.options import copy_opt_file as stock_copy

    if get_dist_info()[0] != 0:
        return
    stock_copy(opt_file, experiments_root)
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
        for name in ("load_resume_state", "copy_opt_file", "create_train_val_dataloader", "init_tb_loggers"):
            patch_main(name, getattr(basicsr.train, name))
        if _launched_by_torchrun(sys.argv):
            options.init_dist(
                "pytorch"
            )  # before anything can fail, so that no process waits for one that is gone
        agree(_check_files)
        return agree(_parse_and_check, stock_parse, root_path, is_train)

    parse_options.finds_packaged_options = True
    options.parse_options = basicsr.train.parse_options = basicsr.test.parse_options = parse_options
    basicsr.train.copy_opt_file = copy_opt_file
    options._postprocess_yml_value = _forced_value
    options.ordered_yaml = lambda: (OptionLoader, yaml.SafeDumper)
