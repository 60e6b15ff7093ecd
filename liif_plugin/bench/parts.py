"""What ``liif bench`` measures: each part against its plain form, alternating in one run, so that a busy machine hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from basicsr.archs import build_network

from ..data.arbitrary_scale_dataset import ArbitraryScaleDataset
from ..evaluation.results import PeakMemory
from ..inference.heap import stock_thresholds
from ..archs.liif_arch import LIIF
from ..inference.render import render
from . import plain

NETWORK = {"type": "LIIF", "encoder": {"type": "EDSR", "num_feat": 64, "num_block": 16}}
HIDDEN_FLOP = (
    4 * 3 * 2 * 256 * 256
)  # a pixel: four corners, three hidden layers of 256; what must be multiplied in any form


@dataclass(frozen=True)
class Result:
    """One line of the table. ratio: median of plain seconds / ours, pair by pair; rate: ``unit`` a second; share: of the machine's own
    matrix-product rate in that precision.
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


def _timed(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _pairs(
    slow: Callable, fast: Callable, device: torch.device, runs: int, repeat: int = 1
) -> tuple[float, float, float, float | None]:
    """Medians of plain and of ours, of their ratio within a pair, and the peak memory of ours. repeat: times ours is run in a pair, the
    first of them into fresh memory; a step that is one of thousands needs 3.
    """
    fast()  # warm up
    pairs = []
    for _ in range(runs):
        with PeakMemory(device) as peak:
            ours = statistics.median(_timed(fast, device) for _ in range(repeat))
        with stock_thresholds():  # the plain form as it runs in the published code's process
            pairs.append((_timed(slow, device), ours))
    slows, fasts = zip(*pairs)
    return (
        statistics.median(slows),
        statistics.median(fasts),
        statistics.median(s / f for s, f in pairs),
        peak.mib,
    )


def matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    """The machine's own rate for the decoder's products, (4096, 256) x (256, 256): floating-point operations a second."""
    x, weight = (torch.randn(n, 256, device=device, dtype=dtype) for n in (4096, 256))
    times = 20 if device.type == "cpu" else 2000

    def work():
        for _ in range(times):
            torch.nn.functional.linear(x, weight)

    work()
    return times * 2 * 4096 * 256 * 256 / statistics.median(_timed(work, device) for _ in range(7))


def network(device: torch.device):
    """EDSR-baseline-LIIF with random weights: speed does not depend on them."""
    torch.manual_seed(0)
    return build_network(dict(NETWORK)).eval().to(device)


def _psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10((a - b).double().square().mean()))


@torch.no_grad()
def decode(net, device: torch.device, dtype: torch.dtype, side: int, runs: int) -> Result:
    """The decoder alone: features of side x side -> 4 side x 4 side."""
    size, lq = (4 * side, 4 * side), torch.rand(1, 3, side, side, device=device)
    feat = net.encode(lq)

    class Encoded(LIIF):
        """``net`` whose features are there already."""

        def __init__(self):
            self.__dict__.update(net.__dict__)

        def encode(self, lq):
            return feat

    encoded = Encoded()
    ours = render(encoded, lq, size, dtype=dtype)
    reference = plain.decode(net, feat, size)
    pair = (lambda: plain.decode(net, feat, size), lambda: render(encoded, lq, size, dtype=dtype))
    slow, fast, ratio, peak = _pairs(*pair, device, runs, repeat=3)
    pixels = size[0] * size[1]
    share = pixels * HIDDEN_FLOP / fast / matmul_rate(dtype, device)
    what = f"decode {side} x {side} -> {size[0]} x {size[1]}"
    psnr = _psnr(ours, reference)
    return Result(what, str(dtype)[6:], slow, fast, ratio, pixels / fast, "pixels", peak, share, psnr)


@torch.no_grad()
def whole(net, device: torch.device, dtype: torch.dtype, h: int, w: int, runs: int) -> Result:
    """Encoder and decoder: h x w -> 4h x 4w."""
    size, lq = (4 * h, 4 * w), torch.rand(1, 3, h, w, device=device)
    reference, ours = plain.decode(net, net.encode(lq), size), render(net, lq, size, dtype=dtype)
    pair = (lambda: plain.decode(net, net.encode(lq), size), lambda: render(net, lq, size, dtype=dtype))
    slow, fast, ratio, peak = _pairs(*pair, device, runs)
    what, pixels = f"render {h} x {w} -> {size[0]} x {size[1]}", size[0] * size[1]
    return Result(
        what, str(dtype)[6:], slow, fast, ratio, pixels / fast, "pixels", peak, psnr=_psnr(ours, reference)
    )


def training_step(net, device: torch.device, dtype: torch.dtype, batch: int, runs: int) -> Result:
    """Forward and backward, 48 x 48, 2304 queries: plain in float32, ours under autocast and channels_last as ``precision`` sets it."""
    net = net.train()
    lq = torch.rand(batch, 3, 48, 48, device=device)
    coord, cell = (
        torch.rand(batch, 2304, 2, device=device) * 2 - 1,
        torch.full((batch, 2304, 2), 2 / 120, device=device),
    )
    gt = torch.rand(batch, 2304, 3, device=device)

    def slow():
        net.zero_grad(set_to_none=True)
        (plain.query(net, net.encode(lq), coord, cell) - gt).abs().mean().backward()

    nhwc = network(device).to(memory_format=torch.channels_last).train()

    def fast():
        nhwc.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            out = nhwc(lq.to(memory_format=torch.channels_last), coord, cell)
        (out.float() - gt).abs().mean().backward()

    slow_s, fast_s, ratio, peak = _pairs(slow, fast, device, runs, repeat=3)
    net.eval()
    what = f"training step, batch {batch}, 48 x 48, 2304 queries"
    return Result(what, str(dtype)[6:], slow_s, fast_s, ratio, batch / fast_s, "samples", peak)


def data(folder: str, runs: int, items: int = 64) -> Result:
    """Training items of decoded pictures, one core: the published way against the memory cache."""
    dataset = ArbitraryScaleDataset(
        {"name": "bench", "phase": "train", "dataroot_gt": folder, "cache": "memory", "scale_range": [1, 4]}
    )
    pictures = [dataset.source.read(i) for i in range(len(dataset))]
    rng = np.random.default_rng(0)

    def slow():
        for i in range(items):
            plain.item(pictures[i % len(pictures)], 48, 2304, rng)

    def fast():
        for i in range(items):
            dataset[i % len(dataset)]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        slow_s, fast_s, ratio, _ = _pairs(slow, fast, torch.device("cpu"), runs)
    finally:
        torch.set_num_threads(threads)
    return Result(
        "training items, one core, memory cache",
        "uint8",
        slow_s / items,
        fast_s / items,
        ratio,
        items / fast_s,
        "samples",
        None,
    )
