"""Training on a machine without a GPU, resuming from the experiment's own folder, and any optimiser of torch.optim.

| patch | error it cures (BasicSR 1.4.2, PyPI and master) |
|---|---|
| init_dist | ZeroDivisionError in _init_dist_pytorch without a GPU; gloo instead of NCCL there, and an exit that does not abort |
| BaseModel.model_to_device | "Found no NVIDIA driver" from DistributedDataParallel(device_ids=...) without a GPU |
| load_resume_state | torch.cuda.current_device() without a GPU; --auto_resume looks in ./experiments whatever the root |
| BaseModel.get_optimizer | NotImplementedError for everything but Adam (PyPI) |

Where CUDA is available the first two hand over to the original. Each can go when BasicSR does it itself.
"""

from __future__ import annotations

import atexit
import glob
import operator
import os
import sys
import time

import torch

from ..errors import UserError, nearest
from .draws import ResumePoint


def newest_state(folder: str) -> str | None:
    """The ``N.state`` with the largest N in ``folder`` whose network ``../models/net_g_N.pth`` is there too, or None."""
    steps = [os.path.basename(path)[: -len(".state")] for path in glob.glob(os.path.join(glob.escape(folder), "*.state"))]
    models = os.path.join(os.path.dirname(folder), "models")
    whole = [int(step) for step in steps if step.isdigit() and os.path.isfile(os.path.join(models, f"net_g_{step}.pth"))]
    return os.path.join(folder, f"{max(whole)}.state") if whole else None


def load_resume_state(opt: dict) -> dict | None:
    """The training state named by --auto_resume or path.resume_state, on the CPU, or None to start anew.

    The optimiser moves what it wants on the GPU; it wants its step counters on the CPU.

    Raises:
        UserError: where the file is missing or is no training state.
    """
    path = newest_state(opt["path"]["training_states"]) if opt["auto_resume"] else opt["path"].get("resume_state")
    if path is None:
        return None
    opt["path"]["resume_state"] = path
    if not os.path.isfile(path):
        raise UserError(f"path.resume_state: there is no file {path}; leave it empty (~) to start anew.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        epoch, iteration = operator.index(state["epoch"]), operator.index(state["iter"])
    except Exception as error:  # a damaged file fails in many ways inside torch.load
        raise UserError(f"{path}: cannot be read as a training state ({type(error).__name__}: {str(error)[:200]}).") from error
    if not os.path.isdir(opt["path"]["experiments_root"]):
        raise UserError(f"{path}: belongs to another experiment: {opt['path']['experiments_root']} is not there; use the old `name`.")
    from basicsr.utils import check_resume

    check_resume(opt, iteration)
    loader = opt["datasets"]["train"]
    replicas = 1 if opt["dist"] else max(opt["num_gpu"], 1)  # BasicSR multiplies the batch for DataParallel (stock models)
    ResumePoint.set(epoch, iteration, loader["batch_size_per_gpu"] * replicas)
    return state


def patch_main(name: str, replacement: object) -> None:
    """The literal ``python basicsr/train.py`` runs as __main__ with its own copy of ``name``: replace that one too."""
    main = sys.modules["__main__"]
    if hasattr(main, name) and hasattr(main, "train_pipeline"):
        setattr(main, name, replacement)


def _patch_init_dist() -> None:
    from basicsr.utils import dist_util, options

    stock = dist_util.init_dist

    def init_dist(launcher, backend="nccl", **kwargs):
        if torch.cuda.is_available():
            return stock(launcher, backend, **kwargs)
        if launcher != "pytorch":
            raise UserError(f"--launcher {launcher}: without a GPU only `--launcher pytorch` under torchrun is supported.")
        if "RANK" not in os.environ:
            raise UserError("--launcher pytorch: start with torchrun, e.g. `torchrun --nproc_per_node=2 -m liif_plugin train ...`.")
        if torch.multiprocessing.get_start_method(allow_none=True) is None:
            torch.multiprocessing.set_start_method("spawn")
        torch.distributed.init_process_group("gloo")
        # a thread of gloo may still hold the last tensors of ours; dropping them needs the interpreter, and one that is being torn
        # down aborts the process instead, after a successful run (one exit in seven, PyTorch 2.15): let those threads finish first
        atexit.register(time.sleep, 0.2)

    dist_util.init_dist = options.init_dist = init_dist


def _patch_base_model() -> None:
    from basicsr.models.base_model import BaseModel

    stock_to_device, stock_optimizer = BaseModel.model_to_device, BaseModel.get_optimizer

    def model_to_device(self, net):
        if torch.cuda.is_available() or not self.opt["dist"]:
            return stock_to_device(self, net)
        unused = self.opt.get("find_unused_parameters", False)
        return torch.nn.parallel.DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)

    def get_optimizer(self, optim_type, params, lr, **kwargs):
        try:
            return stock_optimizer(self, optim_type, params, lr, **kwargs)
        except NotImplementedError:
            kind = getattr(torch.optim, optim_type, None)
            if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
                names = [name for name, value in vars(torch.optim).items() if isinstance(value, type)]
                raise UserError(f"train.optim_g.type: torch.optim has no optimiser '{optim_type}'{nearest(optim_type, names)}.") from None
            return kind(params, lr=lr, **kwargs)

    BaseModel.model_to_device, BaseModel.get_optimizer = model_to_device, get_optimizer


def apply() -> None:
    """Apply the table above once."""
    import basicsr.train

    if basicsr.train.load_resume_state is load_resume_state:
        return
    basicsr.train.load_resume_state = load_resume_state
    _patch_init_dist()
    _patch_base_model()
