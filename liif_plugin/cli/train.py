r"""Train with BasicSR's trainer. Experiments are written to ./experiments/NAME, TensorBoard logs to
./tb_logger/NAME.

  liif train -opt train_liif_demo.yml
  liif train -opt my.yml --auto_resume
  torchrun --nproc_per_node=8 -m liif_plugin train -opt train_liif_edsr.yml --launcher pytorch \
      --force_yml datasets:train:batch_size_per_gpu=2                  a batch of 16, as with one process

The option file is searched at the given path, then among those that come with liif_plugin. After Ctrl-C or
SIGTERM the training finishes the step, saves a checkpoint and ends; a second one ends it at once.
--auto_resume continues from the checkpoint, with the same losses as a run without interruption.
"""

from __future__ import annotations

import argparse
import os
import sys

AFTER_INTERRUPT = "Go on from the last checkpoint with the same command and --auto_resume."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_basicsr_arguments(parser)
    parser.add_argument(
        "--auto_resume",
        action="store_true",
        help="continue from the newest complete checkpoint of this experiment",
    )


def add_basicsr_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that BasicSR's train.py and test.py share."""
    parser.add_argument(
        "-opt", required=True, metavar="FILE", help="option file (yml), a path or the name of a packaged one"
    )
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm"], default="none", help="pytorch: under torchrun"
    )
    parser.add_argument("--debug", action="store_true", help="log every iteration, validate and save every 8")
    parser.add_argument(
        "--force_yml",
        nargs="+",
        metavar="KEY:KEY=VALUE",
        help="change the option file, e.g. train:total_iter=100",
    )
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)


def basicsr_argv(args: argparse.Namespace) -> list[str]:
    """Return ``args`` as BasicSR's own parser reads them."""
    argv = ["-opt", args.opt, "--launcher", args.launcher]
    argv += [flag for flag in ("--auto_resume", "--debug") if getattr(args, flag[2:], False)]
    return argv + (["--force_yml", *args.force_yml] if args.force_yml else [])


def run(args: argparse.Namespace) -> None:
    from basicsr.train import train_pipeline

    sys.argv = ["liif train", *basicsr_argv(args)]
    train_pipeline(os.getcwd())
