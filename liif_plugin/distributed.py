"""Several processes of one training: run a step on all ranks, compare values, end with one line."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from .errors import UserError, one_line, unexpected_message

Result = TypeVar("Result")

# The words of gloo, NCCL and PyTorch for "another process is gone"
PEER_FAILED = re.compile(
    r"gloo.transport|Connection (closed|reset) by|remote p(eer|rocess)|ncclRemoteError"
    r"|NCCL communicator was aborted",
    re.I,
)
# The words of PyTorch's DataLoader
WORKER_FAILED = re.compile(
    r"DataLoader worker \(pid\(?s?\)? [\d, ]+\) (is killed by signal|exited unexpectedly)"
)
# seconds. When another rank died, wait before exiting, so that torchrun reports the rank that failed first.
PATIENCE = 10.0


def is_distributed() -> bool:
    """Return whether this process is one of several of a training."""
    return dist.is_available() and dist.is_initialized()


def _gather(value: object) -> list:
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _name_ranks(ranks: list[int], hosts: list[str]) -> str:
    numbers = ", ".join(str(rank) for rank in ranks)
    own_hosts = ", ".join(dict.fromkeys(hosts[rank] for rank in ranks))
    return f"rank{'s' * (len(ranks) > 1)} {numbers} of {len(hosts)} (on {own_hosts})"


def run_on_all_ranks(step: Callable[..., Result], *args: Any) -> Result:
    """Call ``step(*args)`` on every rank; if it fails on one rank, raise on every rank.

    So no rank waits for one that has failed. All ranks must call it. In a single process it is a plain call.

    Returns:
        The result of this rank.

    Raises:
        UserError: with the sentence of every rank that failed; with ranks and hosts, unless all say the same.
        Exception: that of ``step`` on this rank, if it was no UserError.

    Example:
        >>> run_on_all_ranks(max, 3, 5)
        5
    """
    if not is_distributed():
        return step(*args)
    result: Any = None
    error: Exception | None = None
    message = None
    try:
        result = step(*args)
    except UserError as failure:
        error, message = failure, one_line(failure)
    except Exception as failure:  # the other ranks must hear of any error
        error, message = failure, f"{type(failure).__name__}: {failure}"
    answers = _gather((socket.gethostname(), message))
    ranks_of: dict[str, list[int]] = {}
    for rank, (_, sentence) in enumerate(answers):
        if sentence is not None:
            ranks_of.setdefault(sentence, []).append(rank)
    if not ranks_of:
        return result
    if error is not None and not isinstance(error, UserError):
        raise error
    all_say_the_same = len(ranks_of) == 1 and len(next(iter(ranks_of.values()))) == len(answers)
    if error is not None and all_say_the_same:
        raise error
    hosts = [host for host, _ in answers]
    sentences = [f"{_name_ranks(ranks, hosts)}: {sentence}" for sentence, ranks in ranks_of.items()]
    raise UserError(" ".join(sentences)) from error


def assert_same_on_all_ranks(what: str, value: str, advice: str) -> None:
    """Raise UserError on every rank if ``value`` differs between ranks.

    Args:
        what: the name of the value, for the message.
        value: a few words.
        advice: what to do about it, the end of the message.
    """
    if not is_distributed():
        return
    answers = _gather((socket.gethostname(), value))
    for rank, (host, other) in enumerate(answers):
        if other != answers[0][1]:
            raise UserError(
                f"{what}: rank 0 (on {answers[0][0]}) has {answers[0][1]}, rank {rank} (on {host}) has "
                f"{other}; {advice}"
            )


def require_gpu_per_process() -> None:
    """Raise UserError if torchrun started more processes here than there are GPUs.

    Without a GPU any number is fine.
    """
    started = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and started > gpus:
        raise UserError(
            f"torchrun started {started} processes here, but there are {gpus} GPUs; start {gpus}."
        )


def exit_message(error: BaseException) -> str | None:
    """Return the one line with which ``error`` ends this process; None if its traceback is wanted.

    The message is also written where torchrun's summary takes it from.
    """
    text = str(error)
    if isinstance(error, UserError):
        message = one_line(error)
    elif isinstance(error, RuntimeError) and WORKER_FAILED.search(text):
        message = (
            f"a data worker ended ({_shorten(text)}). The system kills processes when memory runs out: lower "
            "datasets.train.num_worker_per_gpu. Go on from the last checkpoint with --auto_resume."
        )
    elif isinstance(error, RuntimeError) and is_distributed() and PEER_FAILED.search(text):
        time.sleep(PATIENCE)
        message = (
            f"rank {dist.get_rank()} lost another process of this run, whose own message says why "
            f"({_shorten(text)})."
        )
    else:
        _tell_torchrun(f"{type(error).__name__}: {error}")
        return None
    _tell_torchrun(message)
    return message


def _shorten(text: str) -> str:
    return " ".join(text.split())[:200]


def _tell_torchrun(message: str) -> None:
    """Write ``message`` into the file that torchrun prints; it takes the earliest one for the root cause."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path or not is_distributed():  # a data worker inherits the variable
        return
    details = {"py_callstack": message, "timestamp": str(int(time.time()))}
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"message": {"message": message, "extraInfo": details}}, file)
    except OSError:
        pass  # the line on standard error says it too


class ExitHook:
    """A sys.excepthook that prints an error as one line; LIIF_DEBUG=1 keeps unexpected tracebacks."""

    def __init__(self, previous: Callable):
        self.previous = previous

    def __call__(self, kind, error, trace) -> None:
        message = exit_message(error)
        if message is None and isinstance(error, Exception):
            message = unexpected_message(error)
        if message is None:
            self.previous(kind, error, trace)
        else:
            sys.stderr.write(f"liif_plugin: {message}\n")


def install_exit_hook() -> None:
    """Print a user's mistake as one line wherever it ends the program, also under BasicSR's own scripts."""
    if not isinstance(sys.excepthook, ExitHook):
        sys.excepthook = ExitHook(sys.excepthook)
