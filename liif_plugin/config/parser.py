"""The option file and --force_yml of the command line, read and checked before BasicSR's parser sees them.

BasicSR's own parser runs code that stands in an option file or in --force_yml. Here both are read safely, and
BasicSR's parser gets the options instead of the file. ``basicsr_patches/options.py`` calls these functions.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections import OrderedDict
from collections.abc import Iterator
from typing import Callable

import yaml

from ..errors import UserError, nearest
from ..files import atomic_write
from .option_files import (
    BASE,
    find_option_file,
    packaged_options,
    parse_yaml,
    plain,
    read_options,
    read_without_bases,
)
from .option_types import (
    BLOCK,
    NUM_GPU,
    REQUIRED,
    RUN_NAME,
    TEXT,
    Option,
    check_value,
    check_values,
    optional,
    whole,
)

# What BasicSR's parser needs for any model: otherwise it fails, or writes elsewhere, before any other check.
EARLY = {
    "name": Option(RUN_NAME, REQUIRED, "Name of the run; results go to experiments/NAME or results/NAME."),
    "num_gpu": Option(NUM_GPU, REQUIRED, "Number of GPUs; `auto` takes all, or the CPU without one."),
    "manual_seed": Option(optional(whole(0, 2**31)), help="Seed of all random numbers; empty: a random one."),
    "datasets": Option(BLOCK, REQUIRED, "One block per dataset: train, val_NAME, test_NAME."),
    "path": Option(BLOCK, REQUIRED, "Files to start from; see below."),
}
PATHS = {
    "pretrain_network_g": Option(optional(TEXT), None, "Weights (.pth) to start from, or to test."),
    "resume_state": Option(optional(TEXT), None, "Training state to resume from; --auto_resume finds it."),
}
ROOTS = {"dataroot_gt": optional(TEXT), "dataroot_lq": optional(TEXT)}


def forced_value(text: str) -> object:
    """Return the value of one entry of --force_yml: yml, read safely."""
    if text.lower() in ("none", "~"):
        return None
    return parse_yaml(f"--force_yml: '{text[:80]}'", text.replace("!!float", "!!float "), "a value in yml")


def _split_forced(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return ``argv`` without --force_yml, and the entries of --force_yml."""
    for arg in argv:
        flag = arg.partition("=")[0]
        if len(flag) > 3 and "--force_yml".startswith(flag) and arg != "--force_yml":
            raise UserError(f"{arg}: write `--force_yml KEY:KEY=VALUE`, with a blank.")
    if argv.count("--force_yml") > 1:
        raise UserError("--force_yml: give it once, with all its KEY:KEY=VALUE behind it.")
    if "--force_yml" not in argv:
        return argv, []
    start = argv.index("--force_yml") + 1
    end = next((i for i in range(start, len(argv)) if argv[i].startswith("-")), len(argv))
    return argv[: start - 1] + argv[end:], argv[start:end]


def force(opt: dict, entries: list[str]) -> None:
    """Write ``entries`` of --force_yml, such as `train:total_iter=100`, into the options ``opt``.

    As in an option file with ``_base_``, `block=~` removes the block.

    Raises:
        UserError: an entry is not KEY:KEY=VALUE, or names a block that does not exist.
    """
    for entry in entries:
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
        new = forced_value(value.strip())
        if new is None and isinstance(block.get(last), dict):
            del block[last]
        else:
            block[last] = new


def _check_early(path: str, opt: dict) -> None:
    """Raise UserError for what the tables do not allow, and for a PairedImageDataset without scale."""
    for key, option in EARLY.items():
        if option.default is REQUIRED and key not in opt:
            raise UserError(f"{path}: '{key}' is missing; compare it with {packaged_options()}.")
    check_values(path, opt, EARLY)
    check_values(f"{path}: path", opt["path"], PATHS)
    for name, dataset in opt["datasets"].items():
        check_value(path, f"datasets, the name of {name}", name, TEXT)
        check_value(path, f"datasets.{name}", dataset, BLOCK)
        check_values(f"{path}: datasets.{name}", dataset, ROOTS)
        if dataset.get("type") == "PairedImageDataset":
            _check_scale_of_paired_images(f"{path}: datasets.{name}", {"scale": opt.get("scale"), **dataset})


def _check_scale_of_paired_images(where: str, dataset: dict) -> None:
    """Raise UserError unless BasicSR's PairedImageDataset can slice images with its ``scale``."""
    if dataset["scale"] is None:
        raise UserError(
            f"{where}: 'scale' is missing; PairedImageDataset needs that of its images, such as 4."
        )
    check_value(where, "scale", dataset["scale"], whole(1))


def _ignore_persistent_workers(opt: dict) -> None:
    """Switch ``persistent_workers`` off where there are no workers; PyTorch refuses it then."""
    for dataset in opt["datasets"].values():
        if dataset.get("num_worker_per_gpu") == 0 and dataset.get("persistent_workers") is True:
            dataset["persistent_workers"] = False


def _find_opt_argument(argv: list[str]) -> int | None:
    """Return the index of the value of -opt in ``argv``, or None; split `-opt=FILE` in two first."""
    joined = next((i for i, arg in enumerate(argv) if arg.startswith("-opt=")), None)
    if joined is not None:
        argv[joined : joined + 1] = ["-opt", argv[joined][len("-opt=") :]]
    at = argv.index("-opt") + 1 if "-opt" in argv else len(argv)
    return at if at < len(argv) else None


def read_command_line(argv: list[str]) -> tuple[list[str], OrderedDict | None]:
    """Read and check the option file of a command line.

    Returns:
        argv: as BasicSR's parser is to see it: -opt with the path of the file, --force_yml left out.
        options: of the file with --force_yml applied, or None where the command line has no -opt.

    Raises:
        UserError: for the first mistake found.
    """
    argv = list(argv)
    at = _find_opt_argument(argv)
    if at is None:  # BasicSR's own parser says what is missing
        return argv, None
    argv[at] = find_option_file(argv[at])
    path = argv[at]
    opt = read_options(path)
    argv, entries = _split_forced(argv)
    force(opt, entries)
    _check_early(path, opt)
    _ignore_persistent_workers(opt)
    return argv, opt


def parse_command_line(
    stock_parse: Callable, root_path: str, is_train: bool
) -> tuple[dict, argparse.Namespace]:
    """Run BasicSR's parser on the command line, with options that were read safely.

    Args:
        stock_parse: BasicSR's own parse_options.
        root_path: the folder in which BasicSR makes experiments/ or results/.
        is_train: whether for train.py or for test.py.

    Returns:
        (the options, the parsed command line), as BasicSR's own.
    """
    argv, opt = read_command_line(sys.argv)
    if opt is None:
        return stock_parse(root_path, is_train)
    with _hand_over(argv, opt):
        parsed, args = stock_parse(root_path, is_train)
    if is_train:
        _check_not_renamed(parsed, args)
    return parsed, args


def _check_not_renamed(opt: dict, args: argparse.Namespace) -> None:
    """Raise UserError for an option file in the experiment's folder, which BasicSR renames first."""
    root = os.path.realpath(opt["path"]["experiments_root"])
    resumes = args.auto_resume or opt["path"].get("resume_state")
    if not resumes and os.path.realpath(args.opt).startswith(root + os.sep):
        raise UserError(
            f"{args.opt}: lies in the folder of the experiment, which a new run of this name sets aside;"
            " resume it with --auto_resume, or copy the file to another folder."
        )


@contextlib.contextmanager
def _hand_over(argv: list[str], opt: OrderedDict) -> Iterator[None]:
    """Let BasicSR's parser see ``argv``, and get ``opt`` where it reads the option file."""
    from basicsr.utils import options

    class Loader:
        """What yaml.load asks of a loader."""

        def __init__(self, stream):
            pass

        def get_single_data(self):
            return opt

        def dispose(self):
            pass

    whole_argv, stock = sys.argv, options.ordered_yaml
    sys.argv, options.ordered_yaml = argv, lambda: (Loader, yaml.SafeDumper)
    try:
        yield
    finally:  # the copy of the option file shows the whole command
        sys.argv, options.ordered_yaml = whole_argv, stock


def write_option_copy(opt_file: str, experiments_root: str) -> None:
    """Make the copy of ``opt_file`` that BasicSR has put into ``experiments_root`` readable by itself.

    If the file is built on another one, the copy gets all options in full. BasicSR's lines with the time and
    the command stay on top. A byte-order mark is removed: it may stand only at the beginning of a file.
    """
    copy = os.path.join(experiments_root, os.path.basename(opt_file))
    with open(copy, encoding="utf-8") as file:
        text = file.read()
    if BASE in read_without_bases(opt_file):
        header = "".join(text.splitlines(keepends=True)[:4])  # the time, the command, an empty line
        options = plain(read_options(opt_file))
        text = header + yaml.safe_dump(options, sort_keys=False, default_flow_style=None, allow_unicode=True)
    with atomic_write(copy, text=True) as file:
        file.write(text.replace("\ufeff", ""))
