"""Runs of our command and of scripts in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1", "--master_port")


def liif(*argv: str, cwd: Path, env: dict | None = None, timeout: int = 300) -> subprocess.CompletedProcess:
    """Run ``python -m liif_plugin ARGV`` in ``cwd``."""
    return python("-m", "liif_plugin", *argv, cwd=cwd, env=env, timeout=timeout)


def python(*argv: str, cwd: Path, env: dict | None = None, timeout: int = 300) -> subprocess.CompletedProcess:
    """Run this interpreter in ``cwd``; one thread, so that results do not depend on the machine's load."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.run(
        [sys.executable, *map(str, argv)], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout
    )


def losses(log: str) -> dict[int, str]:
    """iteration -> printed loss, of BasicSR's log."""
    found = {}
    for line in log.splitlines():
        if "l_pix" in line and "iter:" in line:
            step = int(line.split("iter:")[1].split(",")[0:2][0].replace(",", "").strip())
            found[step] = line.split("l_pix:")[1].strip()
    return found


def port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
