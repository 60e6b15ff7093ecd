"""Results of a comparison: each model on each set at each scale, measured image by image and kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
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
from ..precision import DTYPES
from .costs import PeakMemory, complexity, machine
from .entries import Column, Model, Plan, Source
from .plan import open_column
from .single_image import measure, picture_name, predict

Result = dict  # see measure_model
Results = dict[tuple[str, int], "Result | None"]  # (model name, column number) -> result

FOLDER = "cells"  # the name on disk since the first release: kept, so that results of earlier runs are found
RESULT_KEYS = {"metrics", "images", "parameters", "multiply_adds", "machine", "seconds", "peak_mib"}


def device_of(plan: Plan) -> torch.device:
    """Return the device that the plan asks for.

    Raises:
        UserError: for cuda on a machine without it.
    """
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda, but this machine shows no CUDA GPU; write auto or cpu.")
    return torch.device("cuda" if plan.device != "cpu" and torch.cuda.is_available() else "cpu")


def load_network(source: Source, where: str) -> nn.Module:
    """Return the network of ``source`` with its weights, in eval mode on the CPU.

    Raises:
        UserError: if it cannot be built, has no weights, or the weights are those of another network.
    """
    assert source.network_g is not None
    return build(source.network_g, source.weights, source.param_key, where)


def pictures_folder(images: str, column: Column) -> str:
    """Return the folder of finished images of a column: {dataset} and {scale} of ``images`` replaced.

    {scale} is the scale as the table prints it: 4, or WIDTHxHEIGHT such as 3.1x2 for [2, 3.1].
    """
    return images.replace("{dataset}", column.dataset).replace("{scale}", column.scale_text[1:])


def finished_picture(folder: str, column: Column, gt_path: str) -> Tensor:
    """Return an image that another program made, FOLDER/NAME.png: (1, 3, H, W) in [0, 1].

    Args:
        folder: from ``pictures_folder``.
        column: the set, whose folder the names are relative to.
        gt_path: path of the ground truth, which has the same name.
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
    """Return the image of a model for one item of a column: (1, 3, H, W) float32, not clamped.

    Args:
        model: the row; it has a source for the column's scale.
        net: its network on ``device``, or None for finished images.
        item: a batch of one of the column's dataset.
        column: the set and scale.
        device: where the result is.
        precision: a key of precision.DTYPES.
    """
    size = tuple(item["gt"].shape[-2:])
    if net is not None:
        lq = item["lq"].to(device)
        return predict(net, lq, size, DTYPES[precision], model.cell, model.cell_clamp)
    source = model.source(column.scale)
    assert source is not None and source.images is not None
    folder = pictures_folder(source.images, column)
    sr = finished_picture(folder, column, item["gt_path"][0])
    if tuple(sr.shape[-2:]) != size:
        raise UserError(
            f"{item['gt_path'][0]}: the truth at {column.scale_text} has (height, width) = {size}, but its "
            f"picture in {folder} has {tuple(sr.shape[-2:])}."
        )
    return sr.to(device)


def _stamp(folder: str | None) -> list | None:
    """Return what tells whether the images of a folder or an LMDB have changed: names, sizes, times."""
    if folder is None or not os.path.isdir(folder):
        return None
    is_lmdb = folder.rstrip("/").endswith(".lmdb")
    names = ["data.mdb", "meta_info.txt"] if is_lmdb else list_images(folder)
    paths = [(name, os.path.join(folder, name)) for name in names]
    stats = [(name, os.stat(path)) for name, path in paths if os.path.isfile(path)]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def result_path(folder: str, model: Model, column: Column, plan: Plan, device: torch.device) -> str:
    """Return the file of one result. Its name changes with everything that the numbers depend on."""
    source = model.source(column.scale)
    assert source is not None
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
        plan.metrics_of(column),
        plan.precision,
        device.type,
    ]
    if model.cell_clamp is not None:  # not in the names of files that were made before there was the option
        facts.append(model.cell_clamp)
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return os.path.join(folder, FOLDER, f"{digest}.json")


@torch.no_grad()
def measure_model(model: Model, column: Column, plan: Plan, device: torch.device) -> Result:
    """Measure a model on one column.

    Returns:
        A dict with the keys RESULT_KEYS. metrics: name -> mean over the images. images: one entry for each,
        with its name, metrics and seconds. parameters, multiply_adds: None for finished images. machine: what
        it ran on. seconds: median of the images. peak_mib: peak memory of one image. The last two are None if
        they are not known.
    """
    source = model.source(column.scale)
    assert source is not None
    net, parameters, multiply_adds = None, None, None
    if source.network_g is not None:
        net = load_network(source, f"model {model.name}")
        parameters, multiply_adds = complexity(net, column.scale)
        net = net.to(device)
    metrics = plan.metrics_of(column)
    images: list[dict] = []
    peaks: list[float | None] = []
    scale = torch.tensor(column.scale, dtype=torch.float64)
    loader = DataLoader(open_column(column))
    what = f"{model.name}, {column.dataset} {column.scale_text}"
    for item in tqdm(loader, desc=what, unit="image", leave=False, disable=None):
        gt, path = item["gt"].to(device), item["gt_path"][0]
        with PeakMemory(device) as peak:
            start = time.perf_counter()
            sr = super_resolved(model, net, item, column, device, plan.precision)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - start
        scores = {name: measure(opt, sr, gt, scale, column.protocol, path) for name, opt in metrics.items()}
        name = picture_name(path, column.options["dataroot_gt"])
        images.append({"image": name, **scores, "seconds": seconds})
        peaks.append(peak.mib)
    is_timed = net is not None
    known_peaks = [mib for mib in peaks if mib is not None]
    return {
        "metrics": {name: sum(image[name] for image in images) / len(images) for name in metrics},
        "images": images,
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "machine": machine(device),
        "seconds": statistics.median(image["seconds"] for image in images) if is_timed else None,
        "peak_mib": max(known_peaks) if is_timed and len(known_peaks) == len(peaks) else None,
    }


def all_results(plan: Plan, folder: str) -> Results:
    """Return the result of every model for every column, measured or found in ``folder``.

    Each result is written at once: an interrupted comparison continues where it stopped. The result is None
    if a model does not serve the scale of a column.
    """
    device = device_of(plan)
    try:
        os.makedirs(os.path.join(folder, FOLDER), exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: the results cannot be kept there ({error.strerror}).") from error
    wanted = [(model, number) for model in plan.models for number in range(len(plan.columns))]
    results: Results = {}
    for model, number in tqdm(wanted, unit="result", desc=plan.name, disable=None):
        column = plan.columns[number]
        if model.source(column.scale) is None:
            results[model.name, number] = None
            continue
        path = result_path(folder, model, column, plan, device)
        result = _kept(path, plan.metrics_of(column))
        if result is None:
            result = measure_model(model, column, plan, device)
            with atomic_write(path, text=True) as file:
                json.dump(result, file)
        results[model.name, number] = result
    return results


def _kept(path: str, metrics: dict[str, dict]) -> Result | None:
    """Return the result that is kept in ``path``, or None if there is none that can be used.

    A damaged file is named on stderr. The model is then measured again and the file replaced.
    """
    try:
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
        numbers = [entry[name] for entry in (result["metrics"], *result["images"]) for name in metrics]
        if set(result) == RESULT_KEYS and all(isinstance(number, float) for number in numbers):
            return result
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        pass
    tqdm.write(f"{path}: a damaged result; measuring it again.", file=sys.stderr)
    return None
