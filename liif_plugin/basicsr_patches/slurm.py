"""``--launcher slurm`` without a shell.

BasicSR puts SLURM_NODELIST into a line for the shell, so that a node list such as ``$(...)`` is executed,
and an ordinary one, ``gpu[01-04]``, is taken for a pattern of file names. Here the environment is checked
and ``scontrol`` gets its arguments one by one.
"""

from __future__ import annotations

import os
import re
import subprocess

import torch

from ..errors import UserError
from .patching import patch

VARIABLES = {
    "SLURM_PROCID": r"\d{1,9}",
    "SLURM_NTASKS": r"[1-9]\d{0,8}",
    "SLURM_NODELIST": r"[A-Za-z0-9][A-Za-z0-9.,_\[\]-]*",
}


def _environment() -> list[str]:
    """Return the values of VARIABLES, each checked."""
    for name, pattern in VARIABLES.items():
        value = os.environ.get(name)
        if value is None:
            raise UserError(
                f"--launcher slurm: {name} is not set; start with srun, or use torchrun and --launcher "
                f"pytorch."
            )
        if not re.fullmatch(pattern, value, re.ASCII):
            raise UserError(
                f"--launcher slurm: {name}: expected what Slurm writes there, such as 3 or gpu[01-04], got "
                f"{value[:100]!r}."
            )
    return [os.environ[name] for name in VARIABLES]


def first_host(node_list: str) -> str:
    """Return the first host of a checked node list, as ``scontrol`` writes it out."""
    try:
        done = subprocess.run(
            ["scontrol", "show", "hostname", node_list], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(
            f"--launcher slurm: scontrol cannot be run ({type(error).__name__}); start with srun on a Slurm "
            f"node."
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
