"""The results of a comparison as Markdown, CSV, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
import json
import math

from .. import __version__
from ..metrics.properties import better_of, is_float_metric
from .entries import Model, Plan, gray_rule
from .published import GRAY_IMAGES, GRAY_RULES, PROTOCOL_OF, SOURCES, published, same_cells
from .results import Result, Results
from .tables import latex_table, latex_text, markdown_table


def _columns_by_set(plan: Plan) -> dict[str, list[int]]:
    """Return set -> numbers of its columns."""
    sets: dict[str, list[int]] = {}
    for number, column in enumerate(plan.columns):
        sets.setdefault(column.dataset, []).append(number)
    return sets


def _options(plan: Plan, number: int, metric: str) -> dict:
    """Return the options of a metric on a column."""
    return plan.metrics_of(plan.columns[number])[metric]


def _published(plan: Plan, model: Model, number: int, metric: str) -> float | None:
    """Return the published value in dB, or None if there is none or it was measured in another way."""
    column, options = plan.columns[number], _options(plan, number, metric)
    sy, sx = column.scale
    whole_set = not column.options.get("first_k") and (
        not column.options.get("meta_info_file") or column.options.get("split") == "test"
    )
    same_protocol = _protocol(plan, number, metric) == PROTOCOL_OF.get(column.published or "", "benchmark")
    own_rule = gray_rule(options)
    same_gray = column.published not in GRAY_IMAGES or (
        GRAY_RULES.get(model.published or "", own_rule) == own_rule
    )
    cells_agree = model.cell is None and same_cells(model.published, sy, model.cell_clamp)
    if sy != sx or not whole_set or not same_protocol or not same_gray or not cells_agree:
        return None
    return published(column.published, model.published, sy, options["type"])


def _protocol(plan: Plan, number: int, metric: str) -> str | None:
    """Return the protocol of a metric on a column, or None for a metric that has none of ours."""
    options = _options(plan, number, metric)
    if not is_float_metric(options["type"]):
        return None
    return options.get("protocol", plan.columns[number].protocol)


def _rules(plan: Plan, number: int, metric: str) -> str:
    """Return how a metric was measured: its protocol, or its arguments, and the part of the set."""
    options, dataset = _options(plan, number, metric), plan.columns[number].options
    protocol = _protocol(plan, number, metric)
    if protocol is not None:
        rules = [f"{protocol} protocol"]
    else:
        arguments = {key: value for key, value in options.items() if key not in ("type", "better")}
        rules = [options["type"], *(f"{key} {value}" for key, value in arguments.items())]
    if plan.columns[number].published in GRAY_IMAGES and options["type"] == "continuous_psnr":
        rules.append(f"gray image as {gray_rule(options)}")
    if dataset.get("split"):
        rules.append(f"split {dataset['split']}")
    if dataset.get("first_k"):
        rules.append(f"first {dataset['first_k']} images")
    return ", ".join(rules)


def _value(plan: Plan, result: Result | None, number: int, metric: str) -> str:
    """Return a value with the digits that are usual for its metric; empty if there is no result."""
    digits = 2 if "psnr" in _options(plan, number, metric)["type"] else 4
    return "" if result is None else f"{result['metrics'][metric]:.{digits}f}"


def _si(number: float | None) -> str:
    """Return a number with three digits and a prefix: 1234567 -> '1.23 M'."""
    if number is None:
        return ""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def _measured(plan: Plan, results: Results, metric: str, numbers: list[int]) -> str:
    """Return the table of one metric on one set: models x scales."""
    rows = [
        [model.name, *(_value(plan, results[model.name, n], n, metric) for n in numbers)]
        for model in plan.models
    ]
    return markdown_table(["model", *(plan.columns[n].scale_text for n in numbers)], rows)


def _against_published(plan: Plan, results: Results, metric: str, numbers: list[int]) -> str | None:
    """Return the table of published, measured and difference, or None if nothing is published.

    A model whose weights are missing has its published values alone.
    """
    rows = []
    for model in plan.models:
        for n in numbers:
            known, result = _published(plan, model, n, metric), results[model.name, n]
            if known is None or (result is None and model.by_scale):
                continue
            measured = ["", ""]
            if result is not None:
                value = result["metrics"][metric]
                measured = [f"{value:.2f}", f"{value - known:+.2f}"]
            rows.append([model.name, plan.columns[n].scale_text, f"{known:.2f}", *measured])
    if not rows:
        return None
    named = {row[0] for row in rows}
    sources = {
        model.published: SOURCES[model.published]
        for model in plan.models
        if model.published and model.name in named
    }
    table = markdown_table(["model", "scale", "published", "measured", "difference"], rows)
    return "\n".join([table, "", *(f"* {row}: {source}" for row, source in sources.items())])


def _costs(plan: Plan, results: Results) -> str:
    """Return the table of parameters, multiply-adds, time and memory."""
    rows = []
    for model in plan.models:
        for number, column in enumerate(plan.columns):
            result = results[model.name, number]
            if result is None or result["parameters"] is None:
                continue
            row = [model.name, f"{column.dataset} {column.scale_text}"]
            row += [_si(result["parameters"]), _si(result["multiply_adds"]), f"{result['seconds']:.3g}"]
            row.append("" if result["peak_mib"] is None else f"{result['peak_mib']:.0f}")
            rows.append(row)
    header = ["model", "set", "parameters", "multiply-adds for 1280 x 720", "seconds per image (median)"]
    return markdown_table([*header, "peak memory, MiB"], rows)


def machines(results: Results) -> str:
    """Return what the results were measured on; kept ones may come from another machine."""
    return "; ".join(sorted({result["machine"] for result in results.values() if result}))


def markdown(plan: Plan, results: Results) -> str:
    """Return all tables for people: each metric on each set, published values, costs."""
    text = [f"# {plan.name}", f"liif_plugin {__version__}, {plan.precision}, {machines(results)}."]
    if any(column.scale[0] != column.scale[1] for column in plan.columns):
        text.append("A scale of two numbers is width x height.")
    missing = [model.name for model in plan.models if not model.by_scale]
    if missing:
        text.append(f"Not measured, because their weights are not there: {', '.join(missing)}.")
    if plan.left_out:
        text.append(f"Left out, because their folders are missing: {', '.join(plan.left_out)}.")
    for dataset, numbers in _columns_by_set(plan).items():
        for metric in plan.metrics_of(plan.columns[numbers[0]]):
            text.append(f"## {dataset}: {metric} ({_rules(plan, numbers[0], metric)})")
            text.append(_measured(plan, results, metric, numbers))
            compared = _against_published(plan, results, metric, numbers)
            if compared:
                text += [f"### {dataset}: {metric}, published and measured", compared]
    return "\n\n".join([*text, "## Cost", _costs(plan, results)]) + "\n"


def _records(plan: Plan, results: Results) -> list[dict]:
    """Return one entry for each result and metric."""
    records = []
    for model in plan.models:
        for number, column in enumerate(plan.columns):
            result = results[model.name, number]
            if result is None:
                continue
            for metric in plan.metrics_of(column):
                known, value = _published(plan, model, number, metric), result["metrics"][metric]
                records.append(
                    {
                        "model": model.name,
                        "dataset": column.dataset,
                        "scale": column.scale_text[1:],
                        "protocol": _protocol(plan, number, metric) or column.protocol,
                        "metric": metric,
                        "value": value,
                        "published": known,
                        "difference": None if known is None else value - known,
                        "images": len(result["images"]),
                        "parameters": result["parameters"],
                        "multiply_adds": result["multiply_adds"],
                        "seconds": result["seconds"],
                        "peak_mib": result["peak_mib"],
                    }
                )
    return records


def as_csv(plan: Plan, results: Results) -> str:
    """Return one line for each result and metric."""
    text = io.StringIO()
    records = _records(plan, results)
    writer = csv.DictWriter(text, fieldnames=list(records[0]) if records else [])
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def as_json(plan: Plan, results: Results) -> str:
    """Return everything, the values of each image too."""
    images = [
        {"model": model.name, "dataset": column.dataset, "scale": column.scale_text[1:], **image}
        for model in plan.models
        for number, column in enumerate(plan.columns)
        for image in (results[model.name, number] or {"images": ()})["images"]
    ]
    facts = {
        "name": plan.name,
        "liif_plugin": __version__,
        "precision": plan.precision,
        "machine": machines(results),
    }
    return json.dumps({**facts, "cells": _records(plan, results), "images": images}, indent=1)


def _ranked(plan: Plan, results: Results, metric: str, number: int) -> list[float]:
    """Return the distinct printed values of a column, the best first."""
    printed = {_value(plan, results[model.name, number], number, metric) for model in plan.models} - {""}
    values = {float(text) for text in printed}
    return sorted(
        (value for value in values if not math.isnan(value)),
        reverse=better_of(_options(plan, number, metric)) == "higher",
    )


def latex(plan: Plan, results: Results) -> str:
    """Return one booktabs table for each set and metric; the best value is bold, the second underlined."""
    marks = {0: "\\textbf{%s}", 1: "\\underline{%s}"}
    tables = []
    for dataset, numbers in _columns_by_set(plan).items():
        for metric in plan.metrics_of(plan.columns[numbers[0]]):
            ranks = {n: _ranked(plan, results, metric, n) for n in numbers}
            scales = [plan.columns[n].scale_text.replace("x", "$\\times$") for n in numbers]
            rows = []
            for model in plan.models:
                row = [latex_text(model.name)]
                for n in numbers:
                    text = _value(plan, results[model.name, n], n, metric)
                    rank = ranks[n].index(float(text)) if text and float(text) in ranks[n] else None
                    row.append(marks[rank] % text if rank in marks else text or "--")
                rows.append(row)
            corner = latex_text(f"{dataset}, {metric} ({_rules(plan, numbers[0], metric)})")
            tables.append(latex_table([corner, *scales], rows))
    return "\n\n".join(tables) + "\n"
