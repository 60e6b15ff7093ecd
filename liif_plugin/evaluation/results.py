"""One cell of the table: a model on a set at a scale, measured image by image; finished cells are kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import sys
import time

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from .. import __version__
from ..checkpoints.loading import build
from ..data.crops import to_tensor
from ..data.image_source import decode_rgb, list_images
from ..errors import UserError
from ..files import atomic_write
from ..inference.heap import trim_heap
from ..inference.render import is_continuous
from ..precision import DTYPES
from .entries import Column, Model, Plan, Source
from .plan import open_column
from .validation import measure, picture_name, predict

SIDE = 48  # LR side on which multiply-adds are counted: a multiple of every window size in use
RESULT_KEYS = {"metrics", "images", "parameters", "multiply_adds", "machine", "seconds", "peak_mib"}
HD_PIXELS = 1280 * 720  # the field's convention for comparing multiply-adds


def device_of(plan: Plan) -> torch.device:
    """The device that the plan asks for. Raises UserError for cuda where there is none."""
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda, but this machine shows no CUDA GPU; write auto or cpu.")
    return torch.device("cuda" if plan.device != "cpu" and torch.cuda.is_available() else "cpu")


def load(source: Source, where: str) -> nn.Module:
    """The network of ``source`` in eval mode on the CPU, with its weights.

    Raises:
        UserError: where it cannot be built, has no weights, or they are another network's.
    """
    return build(source.network_g, source.weights, source.param_key, where)


def _count(net: nn.Module, inputs: tuple) -> float:
    """Multiply-adds of one call, counted by MMEngine."""
    from mmengine.analysis import FlopAnalyzer

    counter = FlopAnalyzer(net, inputs)
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return counter.total()


def complexity(net: nn.Module, scale: tuple[float, float]) -> tuple[int, float | None]:
    """(parameters, multiply-adds for a picture of 1280 x 720 at ``scale``), the latter None where they cannot be counted.

    Counted on an input of 48 x 48 and scaled to the number of pixels, which is exact for convolutions; of a continuous network two
    small numbers of queries give the cost of a query and, by what is left, of an LR pixel.
    """
    if hasattr(net, "template"):  # fitted to each image: what answers the queries is counted, not the fitting
        template = net.template()
        return sum(p.numel() for p in template.parameters()), _count(
            template, (torch.zeros(1000, 2),)
        ) / 1000 * HD_PIXELS
    parameters = sum(p.numel() for p in net.parameters())
    lq, lr_pixels = torch.zeros(1, 3, SIDE, SIDE), HD_PIXELS / (scale[0] * scale[1])
    try:
        with torch.no_grad():
            if not is_continuous(net):
                return parameters, _count(net, (lq,)) * lr_pixels / SIDE**2
            few, more = (_count(net, (lq, torch.zeros(1, n, 2), torch.ones(1, n, 2))) for n in (512, 1024))
            a_query = (more - few) / 512
            return parameters, (few - 512 * a_query) * lr_pixels / SIDE**2 + a_query * HD_PIXELS
    except Exception:  # tracing has limits of its own; the table then shows none
        return parameters, None


class PeakMemory:
    """Peak memory of a block in MiB above what was there before; ``mib`` is None where the system does not tell."""

    def __init__(self, device: torch.device):
        self.device, self.mib = device, None

    @staticmethod
    def _status(field: str) -> float | None:
        try:
            with open("/proc/self/status", encoding="ascii") as file:
                return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))
        except (OSError, StopIteration):
            return None

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device) / 2**20
            return self
        trim_heap()  # so that the peak is not hidden in what was left before; elsewhere the figure is a lower bound
        try:
            with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
                file.write("5")  # Linux: reset the peak of resident memory
            self.before = self._status("VmRSS:")
        except OSError:
            self.before = None
        return self

    def __exit__(self, *_) -> None:
        if self.device.type == "cuda":
            self.mib = torch.cuda.max_memory_allocated(self.device) / 2**20 - self.before
        elif self.before is not None:
            self.mib = max(0.0, self._status("VmHWM:") - self.before)


def finished_picture(folder: str, column: Column, gt_path: str) -> Tensor:
    """A picture that another program made: FOLDER/NAME.png -> (1, 3, H, W) in [0, 1].

    Args:
        folder: from ``pictures_folder``.
    """
    path = os.path.join(folder, picture_name(gt_path, column.options["dataroot_gt"]) + ".png")
    try:
        with open(path, "rb") as file:
            image = decode_rgb(file.read(), path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); `images:` expects one picture for each truth."
        ) from error
    return to_tensor(image).unsqueeze(0)


def super_resolved(
    model: Model, net: nn.Module | None, item: dict, column: Column, device: torch.device, precision: str
) -> Tensor:
    """What a model makes of one item of its column: (1, 3, H, W) float32, not clamped."""
    size = tuple(item["gt"].shape[-2:])
    if net is None:
        source = model.source(column.scale)
        folder = pictures_folder(source.images, column)
        sr = finished_picture(folder, column, item["gt_path"][0])
        if tuple(sr.shape[-2:]) != size:
            raise UserError(
                f"{item['gt_path'][0]}: the truth at {column.scale_text} has {size[1]} x {size[0]} pixels "
                f"(width x height), but its picture in {folder} has {sr.shape[-1]} x {sr.shape[-2]}."
            )
        return sr.to(device)
    return predict(net, item["lq"].to(device), size, DTYPES[precision], model.cell)


def _stamp(folder: str | None) -> list | None:
    """What tells whether the pictures of a folder or an LMDB have changed: names, sizes, times."""
    if folder is None or not os.path.isdir(folder):
        return None
    names = ["data.mdb", "meta_info.txt"] if folder.rstrip("/").endswith(".lmdb") else list_images(folder)
    stats = [
        (name, os.stat(os.path.join(folder, name)))
        for name in names
        if os.path.isfile(os.path.join(folder, name))
    ]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def pictures_folder(images: str, column: Column) -> str:
    """Return the folder of finished pictures of a column: {dataset} and {scale} of ``images`` replaced.

    {scale} is the scale as the table prints it: 4, or WIDTHxHEIGHT such as 3.1x2 for [2, 3.1].
    """
    return images.replace("{dataset}", column.dataset).replace("{scale}", column.scale_text[1:])


def machine(device: torch.device) -> str:
    """What the seconds are measured on."""
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    )
    return f"{name}, PyTorch {torch.__version__}"


def cell_path(folder: str, model: Model, column: Column, plan: Plan, device: torch.device) -> str:
    """Where the cell is kept; the name changes with everything that its numbers depend on."""
    source = model.source(column.scale)
    weights = os.stat(source.weights) if source.weights else None
    facts = [
        __version__,
        source.network_g,
        model.cell,
        source.images,
        source.param_key,
        weights and [weights.st_size, weights.st_mtime_ns],
        source.images and _stamp(pictures_folder(source.images, column)),
        _stamp(column.options.get("dataroot_gt")),
        _stamp(column.options.get("dataroot_lq")),
        column.options,
        list(column.scale),
        plan.metrics,
        plan.precision,
        device.type,
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return os.path.join(folder, "cells", f"{digest}.json")


@torch.no_grad()
def measure_cell(model: Model, column: Column, plan: Plan, device: torch.device) -> dict:
    """{'metrics': means, 'images': one entry each, 'seconds': median, 'peak_mib', 'parameters', 'multiply_adds'}."""
    source = model.source(column.scale)
    net, parameters, multiply_adds = None, None, None
    if source.network_g is not None:
        net = load(source, f"model {model.name}")
        parameters, multiply_adds = complexity(net, column.scale)
        net = net.to(device)
    dataset = open_column(column)
    images, peaks = [], []
    what = f"{model.name}, {column.dataset} {column.scale_text}"
    for item in tqdm(DataLoader(dataset), desc=what, unit="image", leave=False, disable=None):
        gt = item["gt"].to(device)
        with PeakMemory(device) as peak:
            start = time.perf_counter()
            sr = super_resolved(model, net, item, column, device, plan.precision)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - start
        scale = torch.tensor(column.scale, dtype=torch.float64)
        scores = {
            name: measure(opt, sr, gt, scale, column.protocol, item["gt_path"][0])
            for name, opt in plan.metrics.items()
        }
        name = picture_name(item["gt_path"][0], column.options["dataroot_gt"])
        images.append({"image": name, **scores, "seconds": seconds})
        peaks.append(peak.mib)
    means = {name: sum(image[name] for image in images) / len(images) for name in plan.metrics}
    timed = net is not None
    return {
        "metrics": means,
        "images": images,
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "machine": machine(device),
        "seconds": statistics.median(image["seconds"] for image in images) if timed else None,
        "peak_mib": max(peaks) if timed and None not in peaks else None,
    }


def cells(plan: Plan, folder: str) -> dict:
    """(model name, column number) -> cell, measured or found on disk; None where a model does not serve a column's scale.

    Each finished cell is written at once, so that an interrupted comparison goes on where it stopped.
    """
    device = device_of(plan)
    os.makedirs(os.path.join(folder, "cells"), exist_ok=True)
    wanted = [(model, number) for model in plan.models for number in range(len(plan.columns))]
    done = {}
    with tqdm(wanted, unit="cell", desc=plan.name, disable=None) as bar:
        for model, number in bar:
            column = plan.columns[number]
            if model.source(column.scale) is None:
                done[model.name, number] = None
                continue
            path = cell_path(folder, model, column, plan, device)
            result = _kept(path, plan)
            if result is None:
                result = measure_cell(model, column, plan, device)
                with atomic_write(path, text=True) as file:
                    json.dump(result, file)
            done[model.name, number] = result
    return done


def _kept(path: str, plan: Plan) -> dict | None:
    """Return the result that is kept in ``path``, or None where there is none that can be used.

    A damaged file is named on stderr: the model is then measured again, and the file replaced.
    """
    try:
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
        numbers = [entry[name] for entry in (result["metrics"], *result["images"]) for name in plan.metrics]
        if set(result) == RESULT_KEYS and all(isinstance(number, float) for number in numbers):
            return result
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        pass
    tqdm.write(f"{path}: a damaged result; measuring it again.", file=sys.stderr)
    return None
