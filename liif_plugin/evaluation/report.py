"""The cells of a comparison as Markdown, CSV, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
import json
import math

from .. import __version__
from ..metrics.properties import better_of, is_float_metric
from .entries import Plan
from .published import PROTOCOL_OF, published

Cells = dict  # (model name, column number) -> cell or None


def _by_set(plan: Plan) -> dict[str, list[int]]:
    """Set -> numbers of its columns."""
    sets: dict[str, list[int]] = {}
    for number, column in enumerate(plan.columns):
        sets.setdefault(column.dataset, []).append(number)
    return sets


def _published(plan: Plan, model, number: int, metric: str) -> float | None:
    column, options = plan.columns[number], plan.metrics[metric]
    scale = column.scale[0] if column.scale[0] == column.scale[1] else None
    whole = not column.options.get("first_k") and (
        not column.options.get("meta_info_file") or column.options.get("split") == "test"
    )
    protocol = options.get("protocol", column.protocol)
    if not whole or model.cell is not None or protocol != PROTOCOL_OF.get(column.published, "benchmark"):
        return None  # another task than the published one
    return published(column.published, model.published, scale, options["type"])


def _rules(plan: Plan, number: int, metric: str) -> str:
    """Return by which rules a column was measured: the protocol, or the arguments of a metric that has none of ours.

    The part of the set is named where not all of it was measured.
    """
    options, dataset = plan.metrics[metric], plan.columns[number].options
    if is_float_metric(options["type"]):
        rules = [f"{options.get('protocol', plan.columns[number].protocol)} protocol"]
    else:
        arguments = {key: value for key, value in options.items() if key not in ("type", "better")}
        rules = [options["type"], *(f"{key} {value}" for key, value in arguments.items())]
    if dataset.get("split"):
        rules.append(f"split {dataset['split']}")
    if dataset.get("first_k"):
        rules.append(f"first {dataset['first_k']} images")
    return ", ".join(rules)


def _digits(plan: Plan, metric: str) -> int:
    return 2 if "psnr" in plan.metrics[metric]["type"] else 4


def _value(cell: dict | None, metric: str, digits: int) -> str:
    return "" if cell is None else f"{cell['metrics'][metric]:.{digits}f}"


def _si(number: float | None) -> str:
    """1234567 -> '1.23 M'."""
    if number is None:
        return ""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def grid(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table with its columns aligned, so that it reads well as text too."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines
    )


def _measured(plan: Plan, cells: Cells, metric: str, numbers: list[int]) -> str:
    header = ["model", *(plan.columns[n].scale_text for n in numbers)]
    rows = [
        [model.name, *(_value(cells[model.name, n], metric, _digits(plan, metric)) for n in numbers)]
        for model in plan.models
    ]
    return grid(header, rows)


def _against_published(plan: Plan, cells: Cells, metric: str, numbers: list[int]) -> str | None:
    """Published | measured | difference, where there is anything published."""
    rows = []
    for model in plan.models:
        for n in numbers:
            known, cell = _published(plan, model, n, metric), cells[model.name, n]
            if known is not None and cell is not None:
                value = cell["metrics"][metric]
                rows.append(
                    [
                        model.name,
                        plan.columns[n].scale_text,
                        f"{known:.2f}",
                        f"{value:.2f}",
                        f"{value - known:+.2f}",
                    ]
                )
    return grid(["model", "scale", "published", "measured", "difference"], rows) if rows else None


def _costs(plan: Plan, cells: Cells) -> str:
    rows = []
    for model in plan.models:
        for number, column in enumerate(plan.columns):
            cell = cells[model.name, number]
            if cell is None or cell["parameters"] is None:
                continue
            peak = "" if cell["peak_mib"] is None else f"{cell['peak_mib']:.0f}"
            rows.append(
                [
                    model.name,
                    f"{column.dataset} {column.scale_text}",
                    _si(cell["parameters"]),
                    _si(cell["multiply_adds"]),
                    f"{cell['seconds']:.3g}",
                    peak,
                ]
            )
    header = [
        "model",
        "set",
        "parameters",
        "multiply-adds for 1280 x 720",
        "seconds per image (median)",
        "peak memory, MiB",
    ]
    return grid(header, rows)


def machines(cells: Cells) -> str:
    """What the cells were measured on; kept ones may come from another machine."""
    return "; ".join(sorted({cell["machine"] for cell in cells.values() if cell}))


def markdown(plan: Plan, cells: Cells) -> str:
    """All tables for people."""
    text = [f"# {plan.name}", f"liif_plugin {__version__}, {plan.precision}, {machines(cells)}."]
    if any(column.scale[0] != column.scale[1] for column in plan.columns):
        text.append("A scale of two numbers is width x height.")
    for dataset, numbers in _by_set(plan).items():
        for metric in plan.metrics:
            text += [
                f"## {dataset}: {metric} ({_rules(plan, numbers[0], metric)})",
                _measured(plan, cells, metric, numbers),
            ]
            compared = _against_published(plan, cells, metric, numbers)
            if compared:
                text += [f"### {dataset}: {metric}, published and measured", compared]
    costs = _costs(plan, cells)
    return "\n\n".join([*text, "## Cost", costs]) + "\n"


def _records(plan: Plan, cells: Cells) -> list[dict]:
    """One entry for each cell and metric."""
    records = []
    for model in plan.models:
        for number, column in enumerate(plan.columns):
            cell = cells[model.name, number]
            for metric in plan.metrics if cell else ():
                known, value = _published(plan, model, number, metric), cell["metrics"][metric]
                records.append(
                    {
                        "model": model.name,
                        "dataset": column.dataset,
                        "scale": column.scale_text[1:],
                        "protocol": column.protocol,
                        "metric": metric,
                        "value": value,
                        "published": known,
                        "difference": None if known is None else value - known,
                        "images": len(cell["images"]),
                        "parameters": cell["parameters"],
                        "multiply_adds": cell["multiply_adds"],
                        "seconds": cell["seconds"],
                        "peak_mib": cell["peak_mib"],
                    }
                )
    return records


def as_csv(plan: Plan, cells: Cells) -> str:
    """One line for each cell and metric."""
    text = io.StringIO()
    records = _records(plan, cells)
    writer = csv.DictWriter(text, fieldnames=list(records[0]) if records else [])
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def as_json(plan: Plan, cells: Cells) -> str:
    """Everything, each image too."""
    images = [
        {"model": model.name, "dataset": column.dataset, "scale": column.scale_text[1:], **image}
        for model in plan.models
        for number, column in enumerate(plan.columns)
        for image in (cells[model.name, number] or {"images": ()})["images"]
    ]
    facts = {
        "name": plan.name,
        "liif_plugin": __version__,
        "precision": plan.precision,
        "machine": machines(cells),
    }
    return json.dumps({**facts, "cells": _records(plan, cells), "images": images}, indent=1)


LATEX_MARKS = {mark: f"\\{mark}" for mark in "&%$#_{}"}
LATEX_MARKS.update({"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})


def _tex(text: str) -> str:
    return text.translate(str.maketrans(LATEX_MARKS))


def _ranked(plan: Plan, cells: Cells, metric: str, number: int) -> list[float]:
    """The distinct printed values of a column, best first."""
    values = [
        float(_value(cells[m.name, number], metric, _digits(plan, metric)))
        for m in plan.models
        if cells[m.name, number]
    ]
    return sorted(
        {value for value in values if not math.isnan(value)},
        reverse=better_of(plan.metrics[metric]) == "higher",
    )


def latex(plan: Plan, cells: Cells) -> str:
    """One booktabs table for each set and metric; the best value is bold, the second underlined."""
    tables = []
    for dataset, numbers in _by_set(plan).items():
        for metric in plan.metrics:
            ranks = {n: _ranked(plan, cells, metric, n) for n in numbers}
            lines = [
                "\\begin{tabular}{l" + "c" * len(numbers) + "}",
                "\\toprule",
                " & ".join(
                    [
                        _tex(f"{dataset}, {metric} ({_rules(plan, numbers[0], metric)})"),
                        *(f"$\\times${_tex(plan.columns[n].scale_text[1:])}" for n in numbers),
                    ]
                )
                + " \\\\",
                "\\midrule",
            ]
            for model in plan.models:
                row = [_tex(model.name)]
                for n in numbers:
                    text = _value(cells[model.name, n], metric, _digits(plan, metric))
                    place = ranks[n].index(float(text)) if text and float(text) in ranks[n] else -1
                    row.append(
                        {0: f"\\textbf{{{text}}}", 1: f"\\underline{{{text}}}"}.get(place, text or "--")
                    )
                lines.append(" & ".join(row) + " \\\\")
            tables.append("\n".join([*lines, "\\bottomrule", "\\end{tabular}"]))
    return "\n\n".join(tables) + "\n"
