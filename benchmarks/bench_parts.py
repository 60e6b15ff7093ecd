"""Each fast part against its plain form, in pairs that alternate, so that a busy machine slows both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from basicsr.archs import build_network
from plain_item import plain_item
from torch import Tensor, nn

from liif_plugin.archs.base import ContinuousNetwork
from liif_plugin.archs.reference import reference_image, reference_query
from liif_plugin.data.arbitrary_scale_dataset import ArbitraryScaleDataset
from liif_plugin.evaluation.costs import PeakMemory
from liif_plugin.inference.memory import keep_freed_memory, set_heap_thresholds
from liif_plugin.inference.render import render

NETWORK = {"type": "LIIF", "encoder": {"type": "EDSR", "num_feat": 64, "num_block": 16}}
# Of one pixel: four corners, three hidden layers of 256 x 256, two operations each. Any form needs these.
HIDDEN_FLOP = 4 * 3 * 2 * 256 * 256


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        what: was measured.
        precision: of ours; the plain form runs in float32.
        plain_seconds: median of the plain form.
        seconds: median of ours.
        ratio: median of plain_seconds / seconds, pair by pair.
        rate: ``unit`` per second.
        unit: pixels or samples.
        peak_mib: peak memory of ours, None if the system does not tell.
        share: of the machine's own rate of matrix products in that precision, measured in the same pairs.
        psnr: of ours against the plain form, in dB.
    """

    what: str
    precision: str
    plain_seconds: float
    seconds: float
    ratio: float
    rate: float
    unit: str
    peak_mib: float | None
    share: float | None = None
    psnr: float | None = None


@dataclass(frozen=True)
class Pairs:
    """Medians over pairs; see Result."""

    plain_seconds: float
    seconds: float
    ratio: float
    peak_mib: float | None
    share: float | None


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure_pairs(
    plain: Callable[[], object],
    ours: Callable[[], object],
    device: torch.device,
    runs: int,
    repeat: int = 1,
    flop: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Pairs:
    """Time both in turn.

    Args:
        plain: the plain form.
        ours: the fast form.
        device: where both run.
        runs: number of pairs.
        repeat: times that ours is run in a pair, the first of them into fresh memory; a step that is one of
            thousands needs 3.
        flop: floating-point operations of ours; if given, a matrix product is timed in every pair too.
        dtype: of that product.
    """
    ours()  # warm up
    plains, fasts, ratios, shares = [], [], [], []
    for _ in range(runs):
        with PeakMemory(device) as peak:
            seconds = statistics.median(_timed(ours, device) for _ in range(repeat))
        if flop:
            shares.append(flop / seconds / matmul_rate(dtype, device))
        # The plain form runs as in the process of the published code: with the thresholds of other programs,
        # 32 and 64 MiB, once a large block has been freed.
        set_heap_thresholds(2**25, 2**26)
        plain_seconds = _timed(plain, device)
        keep_freed_memory()
        plains.append(plain_seconds)
        fasts.append(seconds)
        ratios.append(plain_seconds / seconds)
    share = statistics.median(shares) if shares else None
    return Pairs(
        statistics.median(plains), statistics.median(fasts), statistics.median(ratios), peak.mib, share
    )


def matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Return the floating-point operations per second of the decoder's product, (4096, 256) x (256, 256)."""
    x, weight = (torch.randn(n, 256, device=device, dtype=dtype) for n in (4096, 256))
    times = 20 if device.type == "cpu" else 2000

    def work() -> None:
        for _ in range(times):
            torch.nn.functional.linear(x, weight)

    work()
    return times * 2 * 4096 * 256 * 256 / statistics.median(_timed(work, device) for _ in range(7))


def network(device: torch.device) -> nn.Module:
    """Return EDSR-baseline-LIIF with random weights: speed does not depend on them."""
    torch.manual_seed(0)
    return build_network(dict(NETWORK)).eval().to(device)


def _psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).double().square().mean()))


class GivenFeatures(ContinuousNetwork):
    """A network whose features are there already: rendering it costs the decoder alone."""

    def __init__(self, net: ContinuousNetwork, feat: Tensor):
        super().__init__()
        self.net, self.feat = net, feat
        self.prepare, self.sample, self.decode = net.prepare, net.sample, net.decode

    def encode(self, lq: Tensor) -> Tensor:
        return self.feat


@torch.no_grad()
def measure_decoder(net, device: torch.device, dtype: torch.dtype, side: int, runs: int) -> Result:
    """Measure the decoder alone: features of side x side -> 4 side x 4 side."""
    size, lq = (4 * side, 4 * side), torch.rand(1, 3, side, side, device=device)
    feat = net.encode(lq)
    given, pixels = GivenFeatures(net, feat), size[0] * size[1]

    def plain() -> Tensor:
        return reference_image(net, feat, size)

    def ours() -> Tensor:
        return render(given, lq, size, dtype=dtype)

    psnr = _psnr(ours(), plain())
    pairs = measure_pairs(plain, ours, device, runs, 3, pixels * HIDDEN_FLOP, dtype)
    return Result(
        f"decode {side} x {side} -> {size[1]} x {size[0]}",
        str(dtype)[6:],
        pairs.plain_seconds,
        pairs.seconds,
        pairs.ratio,
        pixels / pairs.seconds,
        "pixels",
        pairs.peak_mib,
        pairs.share,
        psnr,
    )


@torch.no_grad()
def measure_render(net, device: torch.device, dtype: torch.dtype, h: int, w: int, runs: int) -> Result:
    """Measure encoder and decoder: h x w -> 4h x 4w."""
    size, lq = (4 * h, 4 * w), torch.rand(1, 3, h, w, device=device)
    pixels = size[0] * size[1]

    def plain() -> Tensor:
        return reference_image(net, net.encode(lq), size)

    def ours() -> Tensor:
        return render(net, lq, size, dtype=dtype)

    psnr = _psnr(ours(), plain())
    pairs = measure_pairs(plain, ours, device, runs)
    return Result(
        f"render {w} x {h} -> {size[1]} x {size[0]}",
        str(dtype)[6:],
        pairs.plain_seconds,
        pairs.seconds,
        pairs.ratio,
        pixels / pairs.seconds,
        "pixels",
        pairs.peak_mib,
        psnr=psnr,
    )


def measure_training_step(net, device: torch.device, dtype: torch.dtype, batch: int, runs: int) -> Result:
    """Measure forward and backward of 2304 queries on 48 x 48 pixels.

    The plain form runs in float32, ours under autocast and channels_last as ``precision`` sets it.
    """
    net = net.train()
    lq = torch.rand(batch, 3, 48, 48, device=device)
    coord = torch.rand(batch, 2304, 2, device=device) * 2 - 1
    cell = torch.full((batch, 2304, 2), 2 / 120, device=device)
    gt = torch.rand(batch, 2304, 3, device=device)
    nhwc = network(device).to(memory_format=torch.channels_last).train()

    def plain() -> None:
        net.zero_grad(set_to_none=True)
        (reference_query(net, net.encode(lq), coord, cell) - gt).abs().mean().backward()

    def ours() -> None:
        nhwc.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            out = nhwc(lq.to(memory_format=torch.channels_last), coord, cell)
        (out.float() - gt).abs().mean().backward()

    pairs = measure_pairs(plain, ours, device, runs, repeat=3)
    net.eval()
    return Result(
        f"training step, batch {batch}, 48 x 48, 2304 queries",
        str(dtype)[6:],
        pairs.plain_seconds,
        pairs.seconds,
        pairs.ratio,
        batch / pairs.seconds,
        "samples",
        pairs.peak_mib,
    )


def measure_items(folder: str, runs: int, items: int = 64) -> Result:
    """Measure training items of decoded pictures on one core: the published way against the memory cache."""
    dataset = ArbitraryScaleDataset(
        {"name": "bench", "phase": "train", "dataroot_gt": folder, "cache": "memory", "scale_range": [1, 4]}
    )
    pictures = [dataset.source.read(i) for i in range(len(dataset))]
    rng = np.random.default_rng(0)

    def plain() -> None:
        for i in range(items):
            plain_item(pictures[i % len(pictures)], 48, 2304, rng)

    def ours() -> None:
        for i in range(items):
            dataset[i % len(dataset)]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pairs = measure_pairs(plain, ours, torch.device("cpu"), runs)
    finally:
        torch.set_num_threads(threads)
    return Result(
        "training items, one core, memory cache",
        "uint8",
        pairs.plain_seconds / items,
        pairs.seconds / items,
        pairs.ratio,
        items / pairs.seconds,
        "samples",
        None,
    )
