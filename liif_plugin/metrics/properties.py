"""What the trainer and `liif compare` need to know of a metric: its input and its direction."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from basicsr.utils.registry import METRIC_REGISTRY

Metric = TypeVar("Metric", bound=Callable)

DIRECTIONS = ("higher", "lower")
# Metrics of BasicSR, pyiqa and others that have no `better` in their signature. They are found as words of a
# name: 'calculate_niqe' and 'lpips-vgg' match.
LOWER_IS_BETTER = frozenset(
    {
        "brisque",
        "ciede2000",
        "deltae",
        "dists",
        "ergas",
        "fid",
        "gmsd",
        "ilniqe",
        "kid",
        "l1",
        "l2",
        "lpips",
        "mad",
        "mae",
        "mse",
        "niqe",
        "nlpd",
        "nmse",
        "pi",
        "pieapp",
        "piqe",
        "rmse",
        "sam",
        "stlpips",
    }
)


@dataclass(frozen=True)
class FloatMetric:
    """Properties of a metric that ``float_metric`` marked.

    Attributes:
        better: 'higher' or 'lower'.
        unchecked: arguments whose value may have another type than their default.
    """

    better: str
    unchecked: tuple[str, ...]


_FLOAT_METRICS: dict[Callable, FloatMetric] = {}


def float_metric(better: str = "higher", unchecked: tuple[str, ...] = ()) -> Callable[[Metric], Metric]:
    """Mark a metric that compares float images; use it beside ``@METRIC_REGISTRY.register()``.

    The metric is called with ``img`` and ``img2`` as (B, 3, H, W) float RGB in [0, 1] on the device of the
    network, with ``scale`` as a tensor (sy, sx) or a number, and with ``protocol``. A metric without this
    mark gets 8-bit BGR arrays (H, W, 3), as BasicSR's own metrics expect.

    Args:
        better: 'higher' or 'lower'. An option file may override it.
        unchecked: arguments that an option file may set to another type than that of their default value.

    Example:
        >>> from basicsr.utils.registry import METRIC_REGISTRY
        >>> @METRIC_REGISTRY.register()
        ... @float_metric(better="lower")
        ... def mean_error_of_the_docs(img, img2, scale, protocol="plain", better="lower"):
        ...     return float((img - img2).abs().mean())
        >>> is_float_metric("mean_error_of_the_docs"), direction("mean_error_of_the_docs")
        (True, 'lower')
    """
    if better not in DIRECTIONS:
        raise ValueError(f"better: expected 'higher' or 'lower', got {better!r}.")

    def mark(metric: Metric) -> Metric:
        _FLOAT_METRICS[metric] = FloatMetric(better, tuple(unchecked))
        return metric

    return mark


def _registered(name: str) -> Callable | None:
    """Return the metric that BasicSR calls for ``type: name``, or None if there is none."""
    known = dict(iter(METRIC_REGISTRY))
    return known.get(name) or known.get(f"{name}_basicsr")


def is_float_metric(name: str) -> bool:
    """Return whether the metric registered as ``name`` was marked by ``float_metric``."""
    return _registered(name) in _FLOAT_METRICS


def unchecked_arguments(name: str) -> tuple[str, ...]:
    """Return the arguments of the metric ``name`` that accept other types than that of their default."""
    metric = _registered(name)
    return _FLOAT_METRICS[metric].unchecked if metric in _FLOAT_METRICS else ()


def direction(name: str) -> str:
    """Return 'higher' or 'lower': which values of the metric registered as ``name`` are better.

    The first of these that says it decides: the mark of ``float_metric``, the default of an argument
    ``better`` in the signature, the list of known names. Everything else is 'higher', as in BasicSR.

    Example:
        >>> direction("continuous_psnr"), direction("calculate_niqe"), direction("lpips-vgg")
        ('higher', 'lower', 'lower')
    """
    metric = _registered(name)
    if metric in _FLOAT_METRICS:
        return _FLOAT_METRICS[metric].better
    if metric is not None:
        argument = inspect.signature(metric).parameters.get("better")
        if argument is not None and argument.default in DIRECTIONS:
            return argument.default
    words = re.split(r"[^a-z0-9]+", name.lower())
    return "lower" if LOWER_IS_BETTER.intersection(words) else "higher"


def better_of(options: Mapping) -> str:
    """Return the direction of a metric block of an option file: its ``better``, else that of its metric.

    Args:
        options: the block, with ``type`` and maybe ``better``.

    Example:
        >>> better_of({"type": "calculate_niqe"}), better_of({"type": "calculate_niqe", "better": "higher"})
        ('lower', 'higher')
    """
    return options.get("better") or direction(options["type"])
