"""Data worker processes: they leave stopping to their parent, and end with it."""

from __future__ import annotations

import atexit
import multiprocessing
import random
import signal

import numpy as np


def ignore_first_signal(worker_id: int = 0) -> None:
    """Ignore Ctrl-C and the first SIGTERM in a data worker.

    A terminal and a scheduler send them to the whole group, and the parent still needs the worker to finish
    its step. A second SIGTERM ends the worker: it comes from a parent that cannot wait.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.signal(signum, signal.SIG_DFL))


def worker_init_fn(worker_id: int, num_workers: int, rank: int, seed: int) -> None:
    """Seed a data worker as BasicSR does, and call ``ignore_first_signal``."""
    np.random.seed(num_workers * rank + worker_id + seed)
    random.seed(num_workers * rank + worker_id + seed)
    ignore_first_signal()


def kill_workers_at_exit() -> None:
    """Kill data workers when this process exits.

    Workers ignore the first SIGTERM, so the exit handler of multiprocessing would wait for them forever.
    """
    atexit.unregister(_kill_workers)
    atexit.register(_kill_workers)


def _kill_workers() -> None:
    if hasattr(signal, "SIGCHLD"):
        # PyTorch's handler would raise an error of theirs in whatever runs next
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
