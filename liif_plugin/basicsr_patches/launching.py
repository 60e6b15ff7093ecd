"""Starting several processes: also without a GPU, where BasicSR knows NCCL alone."""

from __future__ import annotations

import atexit
import os
import time

import torch
from torch import distributed as dist

from ..distributed import require_gpu_per_process
from ..errors import UserError
from .patching import patch


@patch(
    "basicsr.utils.dist_util",
    "basicsr.utils.options",
    name="init_dist",
    cures="ZeroDivisionError in _init_dist_pytorch without a GPU; KeyError 'RANK' without torchrun",
)
def init_dist(launcher: str, backend: str = "nccl", **kwargs) -> None:
    """Join the processes of this training; without a GPU by gloo. A second call does nothing."""
    if dist.is_initialized():
        return
    if launcher == "pytorch" and "RANK" not in os.environ:
        raise UserError(
            "--launcher pytorch: start with torchrun, e.g. "
            "`torchrun --nproc_per_node=2 -m liif_plugin train ...`."
        )
    if torch.cuda.is_available():
        require_gpu_per_process()  # before NCCL, whose message is less clear
        init_dist.original(launcher, backend, **kwargs)
        return
    if launcher != "pytorch":
        raise UserError(
            f"--launcher {launcher}: without a GPU only `--launcher pytorch` under torchrun is supported."
        )
    if torch.multiprocessing.get_start_method(allow_none=True) is None:
        torch.multiprocessing.set_start_method("spawn")
    dist.init_process_group("gloo")
    # At exit a thread of gloo may still hold our last tensors. Dropping them needs the interpreter; one that
    # is being torn down aborts the process instead (one exit in seven, PyTorch 2.15). Let those threads
    # finish first.
    atexit.register(time.sleep, 0.2)


@patch(
    "basicsr.models.base_model.BaseModel",
    name="model_to_device",
    cures='"Found no NVIDIA driver" from DistributedDataParallel(device_ids=...) without a GPU',
)
def model_to_device(self, net: torch.nn.Module) -> torch.nn.Module:
    """Move ``net`` to the device and wrap it for several processes."""
    if torch.cuda.is_available() or not self.opt["dist"]:
        return model_to_device.original(self, net)
    unused = self.opt.get("find_unused_parameters", False)
    return torch.nn.parallel.DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)
