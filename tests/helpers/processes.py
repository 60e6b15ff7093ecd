"""Runs of our command and of scripts in processes of their own, and what to wait for.

``forked`` and ``liif`` fork a process that has imported everything; ``python`` starts a fresh interpreter,
for what happens at its start; ``launch`` does so and returns at once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from helpers.zygote import the_zygote

TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1", "--master_port")


def forked(
    *argv, cwd: Path, env: dict | None = None, timeout: float = 300, **how
) -> subprocess.CompletedProcess:
    """Run ``liif ARGV``, ``SCRIPT.py ARGV`` or ``-c CODE ARGV`` in ``cwd``; ``how``: see helpers.zygote."""
    zygote = the_zygote()
    pid, out = zygote.start(*argv, cwd=cwd, env=env, apart=True, **how)
    code = zygote.wait(pid, timeout)
    said = (path.read_text(errors="replace") for path in (out, out.with_suffix(".log.err")))
    return subprocess.CompletedProcess(argv, code, *said)


liif = forked  # for commands


def launch(*argv, cwd: Path, env: dict | None = None, **how) -> subprocess.Popen:
    """Start this interpreter in ``cwd``; one thread, so that results do not depend on the machine's load."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.Popen([sys.executable, *map(str, argv)], cwd=cwd, env=env, text=True, **how)


def python(
    *argv, cwd: Path, env: dict | None = None, timeout: float = 300, **how
) -> subprocess.CompletedProcess:
    """Run this interpreter in ``cwd`` to its end."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    with launch(*argv, cwd=cwd, env=env, **streams) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_for(condition: Callable[[], object], seconds: float = 120, said: Callable[[], str] = str) -> None:
    """Wait until ``condition()`` is true; ``said()`` explains why it is not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s: {said()}"
        time.sleep(0.005)


def has_ended(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def losses(log: str) -> dict[int, str]:
    """iteration -> printed loss, of BasicSR's log."""
    found = {}
    for line in log.splitlines():
        if ("l_pix:" in line or "l_teacher:" in line) and "iter:" in line:
            step = int(line.split("iter:")[1].split(",")[0:2][0].replace(",", "").strip())
            found[step] = re.split("l_pix:|l_teacher:", line, maxsplit=1)[1].strip()
    return found


def port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
