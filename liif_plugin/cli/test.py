r"""Measure a network on the sets of an option file, each with its own scale and protocol. Results are written
to ./results/NAME.

  liif test -opt test_bicubic_benchmark.yml
  liif test -opt test_liif_edsr.yml \
      --force_yml path:pretrain_network_g=experiments/NAME/models/net_g_latest.pth
"""

from __future__ import annotations

import argparse
import os
import sys

from .train import add_basicsr_arguments, basicsr_argv

add_arguments = add_basicsr_arguments


def run(args: argparse.Namespace) -> None:
    from basicsr.test import test_pipeline

    sys.argv = ["liif test", *basicsr_argv(args)]
    test_pipeline(os.getcwd())
