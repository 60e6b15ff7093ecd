"""Training in several processes: also without a GPU, and where one of them fails, an end that says which and why, on every one.

| patch | error it cures (BasicSR 1.4.2, PyPI and master) |
|---|---|
| init_dist | ZeroDivisionError in _init_dist_pytorch without a GPU; gloo instead of NCCL there, and an exit that does not abort |
| BaseModel.model_to_device | "Found no NVIDIA driver" from DistributedDataParallel(device_ids=...) without a GPU |
| create_train_val_dataloader | one process without the data, or with other data, leaves the others waiting, or trains on something else |

Where CUDA is available the first two hand over to the original. Each can go when BasicSR does it itself.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import socket
import time
from typing import Callable

import torch
from torch import distributed as dist

from ..errors import UserError, one_line

PEER_FAILED = re.compile(  # as gloo, NCCL and PyTorch say it
    r"gloo.transport|Connection (closed|reset) by|remote p(eer|rocess)|ncclRemoteError|NCCL communicator was aborted",
    re.I,
)
# A process that lost another one waits before it ends: the launcher ends it meanwhile, and names the one that failed first
PATIENCE = 10.0


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _gather(value: object) -> list:
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _name_ranks(ranks: list[int], hosts: list[str]) -> str:
    names = ", ".join(str(rank) for rank in ranks)
    return f"rank{'s' * (len(ranks) > 1)} {names} of {len(hosts)} (on {', '.join(dict.fromkeys(hosts[rank] for rank in ranks))})"


def agree(step: Callable, *args):
    """``step(*args)`` on every process; where one fails in it, every process raises, so that none waits for it.

    Raises:
        UserError: with the sentence of each process that failed, and its rank and host where not all say the same.
        Exception: that of ``step`` itself, where it was no UserError.
    """
    if not is_distributed():
        return step(*args)
    result = error = None
    try:
        result = step(*args)
    except Exception as failure:  # whatever it is, the others must hear of it
        error = failure
    words = one_line(error) if isinstance(error, UserError) else error and f"{type(error).__name__}: {error}"
    said = _gather((socket.gethostname(), words))
    hosts = [host for host, _ in said]
    ranks_of: dict[str, list[int]] = {}
    for rank, (_, sentence) in enumerate(said):
        if sentence is not None:
            ranks_of.setdefault(sentence, []).append(rank)
    if not ranks_of:
        return result
    if error is not None and not isinstance(error, UserError):
        raise error
    if len(ranks_of) == 1 and len(next(iter(ranks_of.values()))) == len(said):
        raise error
    raise UserError(
        " ".join(f"{_name_ranks(ranks, hosts)}: {sentence}" for sentence, ranks in ranks_of.items())
    ) from error


def same_everywhere(what: str, value: str, advice: str) -> None:
    """Raise UserError on every process where ``value``, a few words, is not the same on all of them."""
    if not is_distributed():
        return
    said = _gather((socket.gethostname(), value))
    for rank, (host, other) in enumerate(said):
        if other != said[0][1]:
            raise UserError(
                f"{what}: rank 0 (on {said[0][0]}) has {said[0][1]}, rank {rank} (on {host}) has {other}; {advice}"
            )


def last_words(error: BaseException) -> str | None:
    """The one line with which an error ends this process, or None where its traceback is wanted; torchrun's summary gets it too."""
    if isinstance(error, UserError):
        words = one_line(error)
    elif isinstance(error, RuntimeError) and is_distributed() and PEER_FAILED.search(str(error)):
        time.sleep(PATIENCE)
        detail = " ".join(str(error).split())[:200]
        words = (
            f"rank {dist.get_rank()} lost another process of this run, whose own message says why ({detail})."
        )
    else:
        _tell_torchrun(f"{type(error).__name__}: {error}")
        return None
    _tell_torchrun(words)
    return words


def _tell_torchrun(words: str) -> None:
    """Torchrun prints what it finds in this file, and takes the earliest one for the cause."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path or not is_distributed():  # a data worker inherits the variable
        return
    message = {"message": words, "extraInfo": {"py_callstack": words, "timestamp": str(int(time.time()))}}
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"message": message}, file)
    except OSError:
        pass  # the line on standard error is there all the same


def _contents(dataset) -> str:
    names = getattr(getattr(dataset, "source", None), "names", None)
    digest = (
        "" if names is None else f", names {hashlib.sha256(chr(10).join(names).encode()).hexdigest()[:8]}"
    )
    return f"{len(dataset)} items{digest}"


def _patch_dataloaders() -> None:
    import basicsr.train

    stock = basicsr.train.create_train_val_dataloader

    def create_train_val_dataloader(opt, logger):
        result = agree(stock, opt, logger)
        train_loader, _, val_loaders = result[:3]
        for loader in (train_loader, *val_loaders):
            name = getattr(loader.dataset, "opt", {}).get("name")
            same_everywhere(f"dataset {name}", _contents(loader.dataset), "every node needs the same images.")
        return result

    basicsr.train.create_train_val_dataloader = create_train_val_dataloader


def require_a_gpu_each() -> None:
    """Raise UserError where torchrun started more processes on this machine than it has GPUs; without a GPU any number is fine."""
    started, gpus = (
        int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
        torch.cuda.device_count() if torch.cuda.is_available() else 0,
    )
    if gpus and started > gpus:
        raise UserError(
            f"torchrun started {started} processes here, but there are {gpus} GPUs; start {gpus}."
        )


def _patch_init_dist() -> None:
    from basicsr.utils import dist_util, options

    stock = dist_util.init_dist

    def init_dist(launcher, backend="nccl", **kwargs):
        if dist.is_initialized():
            return
        if launcher == "pytorch" and "RANK" not in os.environ:
            raise UserError(
                "--launcher pytorch: start with torchrun, e.g. `torchrun --nproc_per_node=2 -m liif_plugin train ...`."
            )
        if torch.cuda.is_available():
            require_a_gpu_each()  # before NCCL, which says it less clearly
            stock(launcher, backend, **kwargs)
            return
        if launcher != "pytorch":
            raise UserError(
                f"--launcher {launcher}: without a GPU only `--launcher pytorch` under torchrun is supported."
            )
        if torch.multiprocessing.get_start_method(allow_none=True) is None:
            torch.multiprocessing.set_start_method("spawn")
        dist.init_process_group("gloo")
        # a thread of gloo may still hold the last tensors of ours; dropping them needs the interpreter, and one that is being torn
        # down aborts the process instead, after a successful run (one exit in seven, PyTorch 2.15): let those threads finish first
        atexit.register(time.sleep, 0.2)

    init_dist.may_come_twice = True
    dist_util.init_dist = options.init_dist = init_dist


def _patch_base_model() -> None:
    from basicsr.models.base_model import BaseModel

    stock = BaseModel.model_to_device

    def model_to_device(self, net):
        if torch.cuda.is_available() or not self.opt["dist"]:
            return stock(self, net)
        unused = self.opt.get("find_unused_parameters", False)
        return torch.nn.parallel.DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)

    BaseModel.model_to_device = model_to_device


def apply() -> None:
    """Apply the table above once."""
    from basicsr.utils import dist_util

    if getattr(dist_util.init_dist, "may_come_twice", False):
        return
    _patch_init_dist()
    _patch_base_model()
    _patch_dataloaders()
