"""Ctrl-C and SIGTERM while training: the step is finished, the state saved, the exit code 130 or 143. A second one ends at once."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import random
import signal
import threading
import time

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
ECHO = 0.5  # seconds; a launcher may hand on what the terminal has sent to the whole group already


class _Request:
    signum = 0
    since = 0.0


def requested() -> int:
    """The number of the signal that asked this process to stop, or 0."""
    return _Request.signum


def listen() -> None:
    """Take Ctrl-C and SIGTERM as requests, unless the program ignores them (nohup) or has its own handler."""
    _Request.signum = 0
    if threading.current_thread() is not threading.main_thread():
        return
    for signum in NAMES:
        if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(signum, _on_signal)


def unlisten() -> None:
    """Give both signals their usual meaning again."""
    for signum in NAMES:
        if signal.getsignal(signum) is _on_signal:
            signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)


def _on_signal(signum: int, frame: object) -> None:
    now = time.monotonic()
    if not _Request.signum:
        _Request.signum, _Request.since = signum, now
        if os.environ.get("RANK", "0") == "0":  # not print: the handler may have interrupted one
            os.write(
                2,
                f"\nliif_plugin: {NAMES[signum]}: finishing the step and saving; once more ends at once.\n".encode(),
            )
    elif now - _Request.since > ECHO:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


def worker_init_fn(worker_id: int, num_workers: int, rank: int, seed: int) -> None:
    """As BasicSR's, for a data worker that leaves the stopping to its parent."""
    import numpy as np

    np.random.seed(num_workers * rank + worker_id + seed)
    random.seed(num_workers * rank + worker_id + seed)
    outlive_first_signal()


def end_workers_at_exit() -> None:
    """A process that ends by an error ends its data workers with one SIGTERM, which they outlive, and waits for them: end them before."""
    atexit.unregister(_end_workers)
    atexit.register(_end_workers)


def _end_workers() -> None:
    if hasattr(signal, "SIGCHLD"):
        signal.signal(
            signal.SIGCHLD, signal.SIG_DFL
        )  # PyTorch's handler would raise an error of theirs in whatever runs next
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def outlive_first_signal(worker_id: int = 0) -> None:
    """Ignore Ctrl-C, and the first SIGTERM: it was meant for the whole group. A second one comes from a parent that cannot wait."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.signal(signum, signal.SIG_DFL))
