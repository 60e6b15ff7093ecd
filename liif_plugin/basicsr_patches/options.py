"""BasicSR's parser of option files and of the command line: it runs no code and writes nothing too early.

A mistake is named before an older experiment is renamed.
"""

from __future__ import annotations

import os
import sys

from ..config.parser import parse_command_line, write_option_copy
from ..distributed import install_exit_hook, run_on_all_ranks
from ..models.checks import build_datasets, check_options, fill_defaults
from ..models.training_run import start_run
from .patching import patch, patch_running_script


def _launched_by_torchrun(argv: list[str]) -> bool:
    return "--launcher=pytorch" in argv or ("--launcher", "pytorch") in zip(argv, argv[1:])


def _parse_and_check(root_path: str, is_train: bool) -> tuple:
    opt, args = parse_command_line(parse_options.original, root_path, is_train)
    run = start_run()
    fill_defaults(opt)
    run.network = check_options(opt)
    if run.network is not None:
        build_datasets(opt, run)
    return opt, args


@patch(
    "basicsr.utils.options",
    "basicsr.train",
    "basicsr.test",
    name="parse_options",
    cures="a wrong option is reported after the old experiment was renamed, or never",
)
def parse_options(root_path: str, is_train: bool = True) -> tuple:
    """Parse the command line and its option file; check everything before anything is written."""
    from basicsr.utils import options

    install_exit_hook()
    patch_running_script()
    if _launched_by_torchrun(sys.argv):
        # before anything can fail, so that no process waits for one that is gone
        options.init_dist("pytorch")
    return run_on_all_ranks(_parse_and_check, root_path, is_train)


@patch(
    "basicsr.utils.options",
    "basicsr.train",
    name="copy_opt_file",
    cures="the copy of the option file in the experiment lacks the options of its `_base_`",
    until="option files have no `_base_`",
)
def copy_opt_file(opt_file: str, experiments_root: str) -> None:
    """Copy the option file into the experiment, below a line with the command.

    If the file is built on another one, the copy has all options in full.
    """
    from basicsr.utils.dist_util import get_dist_info

    if get_dist_info()[0] != 0:
        return
    copy = os.path.join(experiments_root, os.path.basename(opt_file))
    if os.path.exists(copy) and os.path.samefile(opt_file, copy):
        return  # a run that is resumed from its own copy
    copy_opt_file.original(opt_file, experiments_root)
    write_option_copy(opt_file, experiments_root)
