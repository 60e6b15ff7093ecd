"""What a network costs: parameters, multiply-adds, peak memory, and the machine that it was measured on."""

from __future__ import annotations

import platform

import torch
from torch import Tensor, nn

from ..archs.base import is_continuous
from ..archs.siren_arch import SIREN
from ..inference.memory import trim_heap

SIDE = 48  # side of the LR input on which multiply-adds are counted: a multiple of every window size in use
HD_PIXELS = 1280 * 720  # the field compares multiply-adds at this size of the result


def machine(device: torch.device) -> str:
    """Return the name of the device, the number of threads of a CPU, and the version of PyTorch."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return f"{name}, PyTorch {torch.__version__}"


def _multiply_adds(net: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """Return the multiply-adds of one call, counted by MMEngine."""
    from mmengine.analysis import FlopAnalyzer

    counter = FlopAnalyzer(net, inputs)
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return counter.total()


def complexity(net: nn.Module, scale: tuple[float, float]) -> tuple[int, float | None]:
    """Return the number of parameters, and of multiply-adds for a result of 1280 x 720 pixels.

    The multiply-adds are counted on an input of 48 x 48 pixels and scaled to the number of pixels, which is
    exact for convolutions. They are None if they cannot be counted.

    Args:
        net: on the CPU, in eval mode.
        scale: (sy, sx).
    """
    if isinstance(net, SIREN):
        # It is fitted to each image: count the network that answers the queries, not the fitting
        template = net.template()
        per_query = _multiply_adds(template, (torch.zeros(1000, 2),)) / 1000
        return sum(p.numel() for p in template.parameters()), per_query * HD_PIXELS
    parameters = sum(p.numel() for p in net.parameters())
    lq = torch.zeros(1, 3, SIDE, SIDE)
    lr_pixels = HD_PIXELS / (scale[0] * scale[1])
    try:
        with torch.no_grad():
            if not is_continuous(net):
                return parameters, _multiply_adds(net, (lq,)) * lr_pixels / SIDE**2
            # two numbers of queries give the cost of one query; what is left is the cost of the LR pixels
            few, more = (
                _multiply_adds(net, (lq, torch.zeros(1, n, 2), torch.ones(1, n, 2))) for n in (512, 1024)
            )
            per_query = (more - few) / 512
            per_lr_pixel = (few - 512 * per_query) / SIDE**2
            return parameters, per_lr_pixel * lr_pixels + per_query * HD_PIXELS
    except Exception:  # networks that cannot be traced: the table then shows nothing
        return parameters, None


class PeakMemory:
    """Measure the peak memory of a ``with`` block, above what the process had before.

    On a CPU this needs Linux. Memory that was freed before and not yet returned to the system hides a part of
    the peak; it is returned first where the C library can do that.

    Attributes:
        mib: the peak in MiB after the block, or None if the system does not tell.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.mib: float | None = None
        self._before: float | None = None

    @staticmethod
    def _status(field: str) -> float | None:
        """Return a field of /proc/self/status in MiB, or None if there is none."""
        try:
            with open("/proc/self/status", encoding="ascii") as file:
                return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))
        except (OSError, StopIteration):
            return None

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device) / 2**20
            return self
        trim_heap()
        try:
            with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
                file.write("5")  # Linux: reset the peak of resident memory
            self._before = self._status("VmRSS:")
        except OSError:
            self._before = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            return
        if self.device.type == "cuda":
            self.mib = torch.cuda.max_memory_allocated(self.device) / 2**20 - self._before
            return
        peak = self._status("VmHWM:")
        self.mib = None if peak is None else max(0.0, peak - self._before)
