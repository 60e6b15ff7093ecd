"""Start several processes: by gloo without a GPU, and by Slurm without a shell."""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import time

import torch
from torch import distributed as dist

from ..distributed import require_gpu_per_process
from ..errors import UserError
from .patching import patch

# What Slurm writes into its variables. BasicSR puts SLURM_NODELIST into a line for the shell, which executes
# a node list such as `$(...)` and takes an ordinary one, `gpu[01-04]`, for a pattern of file names.
SLURM_VARIABLES = {
    "SLURM_PROCID": r"\d{1,9}",
    "SLURM_NTASKS": r"[1-9]\d{0,8}",
    "SLURM_NODELIST": r"[A-Za-z0-9][A-Za-z0-9.,_\[\]-]*",
}


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


def _environment() -> list[str]:
    """Return the values of SLURM_VARIABLES, each checked."""
    for name, pattern in SLURM_VARIABLES.items():
        value = os.environ.get(name)
        if value is None:
            raise UserError(
                f"--launcher slurm: {name} is not set; start with srun, or use torchrun and --launcher "
                "pytorch."
            )
        if not re.fullmatch(pattern, value, re.ASCII):
            raise UserError(
                f"--launcher slurm: {name}: expected what Slurm writes there, such as 3 or gpu[01-04], got "
                f"{value[:100]!r}."
            )
    return [os.environ[name] for name in SLURM_VARIABLES]


def first_host(node_list: str) -> str:
    """Return the first host of a checked node list, as ``scontrol`` writes it out."""
    try:
        done = subprocess.run(
            ["scontrol", "show", "hostname", node_list], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(
            f"--launcher slurm: scontrol cannot be run ({type(error).__name__}); start with srun on a Slurm "
            "node."
        ) from error
    hosts = done.stdout.split()
    if done.returncode or not hosts:
        raise UserError(
            f"--launcher slurm: scontrol does not know the hosts {node_list}: {done.stderr[:200]}"
        )
    return hosts[0]


@patch(
    "basicsr.utils.dist_util",
    name="_init_dist_slurm",
    cures="CVE-2024-27763: SLURM_NODELIST is passed to a shell, which executes commands in it",
)
def init_dist_slurm(backend: str, port: int | None = None) -> None:
    """Join one process for each task of Slurm; they meet at the first host."""
    process, tasks, node_list = _environment()
    local = int(process) % torch.cuda.device_count()
    torch.cuda.set_device(local)
    os.environ["MASTER_ADDR"] = first_host(node_list)
    os.environ["MASTER_PORT"] = str(port or os.environ.get("MASTER_PORT", 29500))
    os.environ.update(WORLD_SIZE=tasks, LOCAL_RANK=str(local), RANK=process)
    torch.distributed.init_process_group(backend=backend)
