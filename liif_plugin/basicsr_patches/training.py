"""Resuming without a GPU and from the experiment's own folder, any optimiser of torch.optim, a prefetcher that does not hang.

| patch | error it cures (BasicSR 1.4.2, PyPI and master) |
|---|---|
| load_resume_state | torch.cuda.current_device() without a GPU; --auto_resume looks in ./experiments whatever the root, and takes the
  newest state though it, or its network, is damaged or missing |
| BaseModel.get_optimizer | NotImplementedError for everything but Adam (PyPI) |
| PrefetchGenerator | prefetch_mode: cpu waits for ever after an error in the data: its thread has died without a word |

Each can go when BasicSR does it itself.
"""

from __future__ import annotations

import glob
import operator
import os
import sys

import torch

from ..errors import UserError, nearest
from .distributed import agree, same_everywhere
from .loop import Loop


def whole_states(folder: str) -> list[str]:
    """The ``N.state`` in ``folder`` whose network ``../models/net_g_N.pth`` is there too, the largest N first."""
    steps = [
        os.path.basename(path)[: -len(".state")]
        for path in glob.glob(os.path.join(glob.escape(folder), "*.state"))
    ]
    whole = [int(step) for step in steps if step.isdigit() and os.path.isfile(_network_of(folder, step))]
    return [os.path.join(folder, f"{step}.state") for step in sorted(whole, reverse=True)]


def _network_of(folder: str, step: str) -> str:
    return os.path.join(os.path.dirname(folder), "models", f"net_g_{step}.pth")


def _read_state(path: str) -> dict:
    """Raises UserError for a file that is no training state."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        operator.index(state["epoch"]), operator.index(state["iter"])
    except Exception as error:  # a damaged file fails in many ways inside torch.load
        raise UserError(
            f"{path}: cannot be read as a training state ({type(error).__name__}: {str(error)[:200]})."
        ) from error
    return state


def _newest_readable(folder: str) -> tuple[str | None, dict | None]:
    """The newest whole pair of a state and its network; damaged ones (a BasicSR without us writes under the final name) are named."""
    from basicsr.utils.dist_util import get_dist_info

    for path in whole_states(folder):
        network = _network_of(folder, os.path.basename(path)[: -len(".state")])
        try:
            state = _read_state(path)
            torch.load(network, map_location="cpu", weights_only=True)
            return path, state
        except Exception as error:
            broken = path if isinstance(error, UserError) else network
            if get_dist_info()[0] == 0:
                print(
                    f"liif_plugin: {broken} is damaged: going on from an older state. Delete {path} and {network}.",
                    file=sys.stderr,
                )
    return None, None


def load_resume_state(opt: dict) -> dict | None:
    """The training state named by --auto_resume or path.resume_state, on the CPU, or None to start anew.

    The optimiser moves what it wants on the GPU; it wants its step counters on the CPU.

    Raises:
        UserError: where the file is missing or is no training state, where every state of the experiment is damaged, or where another
            process goes on from another one.
    """
    state = agree(_read_resume_state, opt)
    found = "nothing to go on from" if state is None else os.path.basename(opt["path"]["resume_state"])
    same_everywhere("resuming", found, "copy the experiment's folder to every node, or share it.")
    return state


def _read_resume_state(opt: dict) -> dict | None:
    Loop.resume_state = None
    if opt["auto_resume"]:
        folder = opt["path"]["training_states"]
        path, state = _newest_readable(folder)
        if path is None and whole_states(folder):
            raise UserError(
                f"{folder}: none of its states can be read; delete the damaged files, or leave out --auto_resume to start anew."
            )
    else:
        path = opt["path"].get("resume_state")
        if path is not None and not os.path.isfile(path):
            raise UserError(f"path.resume_state: there is no file {path}; leave it empty (~) to start anew.")
        state = None if path is None else _read_state(path)
    if path is None:
        return None
    opt["path"]["resume_state"] = path
    if not os.path.isdir(opt["path"]["experiments_root"]):
        raise UserError(
            f"{path}: belongs to another experiment: {opt['path']['experiments_root']} is not there; use the old `name`."
        )
    from basicsr.utils import check_resume

    check_resume(opt, state["iter"])
    Loop.resume_state = state
    return state


def patch_main(name: str, replacement: object) -> None:
    """The literal ``python basicsr/train.py`` runs as __main__ with its own copy of ``name``: replace that one too."""
    main = sys.modules["__main__"]
    if hasattr(main, name) and hasattr(main, "train_pipeline"):
        setattr(main, name, replacement)


def _patch_optimizer() -> None:
    from basicsr.models.base_model import BaseModel

    stock = BaseModel.get_optimizer

    def get_optimizer(self, optim_type, params, lr, **kwargs):
        try:
            return stock(self, optim_type, params, lr, **kwargs)
        except NotImplementedError:
            kind = getattr(torch.optim, optim_type, None)
            if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
                names = [name for name, value in vars(torch.optim).items() if isinstance(value, type)]
                raise UserError(
                    f"train.optim_g.type: torch.optim has no optimiser '{optim_type}'{nearest(optim_type, names)}."
                ) from None
            return kind(params, lr=lr, **kwargs)

    BaseModel.get_optimizer = get_optimizer


class _Failed:
    """An error on its way from the prefetching thread to the one that trains."""

    def __init__(self, error: BaseException):
        self.error = error


def _patch_prefetcher() -> None:
    from basicsr.data.prefetch_dataloader import PrefetchGenerator

    stock_run, stock_next = PrefetchGenerator.run, PrefetchGenerator.__next__

    def run(self):
        try:
            stock_run(self)
        except BaseException as error:  # the thread's own end would leave the other side waiting
            self.queue.put(_Failed(error))

    def next_item(self):
        item = stock_next(self)
        if isinstance(item, _Failed):
            raise item.error
        return item

    PrefetchGenerator.run, PrefetchGenerator.__next__ = run, next_item


def apply() -> None:
    """Apply the table above once."""
    import basicsr.train

    if basicsr.train.load_resume_state is load_resume_state:
        return
    basicsr.train.load_resume_state = load_resume_state
    _patch_optimizer()
    _patch_prefetcher()
