"""The table at the end of a training: every metric by set and scale, at the end and in net_g_best.pth."""

from __future__ import annotations

import json

from ..checkpoints.files import write_whole
from .scores import BestBy, Scores, metrics_of, scale_text, val_sets


def summary(opt: dict, scores: Scores, iteration: int, best: dict | None, best_by: BestBy) -> dict:
    """The results as plain data.

    Args:
        iteration: the last one.
        best: the record in net_g_best.pth: iter, results.
    """
    last, sets = scores.at(iteration), []
    for name, block in val_sets(opt).items():
        metrics = {}
        for metric, options in metrics_of(opt, block).items():
            own = [
                (line["metrics"][metric], step)
                for (step, dataset), line in scores.lines.items()
                if dataset == name and metric in line["metrics"]
            ]
            sign = -1 if options.get("better") == "lower" else 1
            value, step = max(own, key=lambda pair: (sign * pair[0], -pair[1]))
            in_best = best["results"].get(name, {}).get(metric) if best else None
            metrics[metric] = {
                "last": last[name][metric],
                "net_g_best": in_best,
                "highest" if sign > 0 else "lowest": value,
                "at": step,
            }
        sets.append(
            {"set": name, "scale": scores.scale(name), "protocol": block.get("protocol"), "metrics": metrics}
        )
    return {
        "name": opt["name"],
        "iter": iteration,
        "best_iter": best["iter"] if best else None,
        "best_by": str(best_by),
        "sets": sets,
    }


def table(found: dict) -> str:
    """The summary as an aligned Markdown table, readable as plain text: a row for each set and metric, then the means."""
    rows = [["set", "scale", "protocol", "metric", "at the end", "net_g_best", "best", "at iteration"]]
    columns: dict[str, list[tuple[float, float | None]]] = {}
    for entry in found["sets"]:
        for metric, value in entry["metrics"].items():
            best = value.get("highest", value.get("lowest"))
            rows.append(
                [
                    entry["set"],
                    scale_text(entry["scale"]),
                    entry["protocol"] or "",
                    metric,
                    _number(value["last"]),
                    _number(value["net_g_best"]),
                    _number(best),
                    f"{value['at']:,}",
                ]
            )
            columns.setdefault(metric, []).append((value["last"], value["net_g_best"]))
    for metric, values in columns.items():
        if len(values) > 1:
            ends, bests = zip(*values)
            rows.append(
                [
                    "mean",
                    "",
                    "",
                    metric,
                    _number(sum(ends) / len(ends)),
                    "" if None in bests else _number(sum(bests) / len(bests)),
                    "",
                    "",
                ]
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| "
        + " | ".join(
            f"{cell:{'<' if column < 4 else '>'}{widths[column]}}" for column, cell in enumerate(row)
        )
        + " |"
        for row in rows
    ]
    rule = (
        "|"
        + "|".join("-" * (width + 1) + ("-" if column < 4 else ":") for column, width in enumerate(widths))
        + "|"
    )
    end = f"{found['name']}: {found['iter']:,} iterations"
    best = (
        f"; the best validation ({found['best_by']}) was at {found['best_iter']:,}: models/net_g_best.pth"
        if found["best_iter"]
        else ""
    )
    return "\n".join([lines[0], rule, *lines[1:], "", end + best + "."])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def write_summary(found: dict, folder: str) -> str:
    """summary.md and summary.json in ``folder``; returns the table."""
    text = table(found)
    write_whole(f"{folder}/summary.md", lambda file: file.write(f"{text}\n".encode()))
    write_whole(f"{folder}/summary.json", lambda file: file.write(json.dumps(found, indent=1).encode()))
    return text
