"""What every validation of an experiment has found, which one was the best, and the table at the end."""

from __future__ import annotations

import json
import math
import os

from ..checkpoints.files import write_whole
from ..errors import UserError, nearest

Results = dict[str, dict[str, float]]  # set -> metric -> value


def metrics_of(opt: dict, dataset: dict) -> dict[str, dict]:
    """The metrics of one val set: its own, else those of ``val``."""
    return dataset.get("metrics") or (opt.get("val") or {}).get("metrics") or {}


def val_sets(opt: dict) -> dict[str, dict]:
    """Name -> options of the val sets of an option file."""
    return {
        block["name"]: block for key, block in opt.get("datasets", {}).items() if key.split("_")[0] == "val"
    }


def scale_text(scale: object) -> str:
    """``x2``, ``x2x3.1`` for (2, 3.1), empty where the scale is not known."""
    pair = (
        [float(s) for s in (scale if isinstance(scale, (list, tuple)) else [scale, scale])]
        if scale is not None
        else []
    )
    return "x" + "x".join(f"{s:g}" for s in dict.fromkeys(pair)) if pair else ""


def label(dataset: str, scale: object) -> str:
    """The name of a set with its scale, unless the name has it."""
    text = scale_text(scale)
    return dataset if text in dataset else f"{dataset} {text}"


class Scores:
    """(iteration, set) -> {metric: value}, kept in ``path``, one JSON object a line.

    Args:
        write: whether this process keeps the file; the others only read it.
    """

    def __init__(self, path: str, write: bool):
        self.path, self.write = path, write
        self.lines: dict[tuple[int, str], dict] = {}
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                for line in map(self._parse, file):
                    self.lines[line["iter"], line["set"]] = line

    def _parse(self, text: str) -> dict:
        try:
            line = json.loads(text)
            return {
                "iter": int(line["iter"]),
                "set": str(line["set"]),
                "scale": line["scale"],
                "metrics": dict(line["metrics"]),
            }
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.path}: not as written by the trainer ({type(error).__name__}); delete it to go on without the "
                "earlier validations."
            ) from error

    def add(self, iteration: int, dataset: str, scale: object, values: dict[str, float]) -> None:
        """Keep the results of one set."""
        self.lines[iteration, dataset] = {
            "iter": iteration,
            "set": dataset,
            "scale": scale,
            "metrics": values,
        }
        self._save()

    def at(self, iteration: int) -> Results:
        """The results of one validation, as far as there are any."""
        return {name: line["metrics"] for (step, name), line in self.lines.items() if step == iteration}

    def scale(self, dataset: str) -> object:
        """The scale of a set, as its last validation found it."""
        return next(
            (line["scale"] for (_, name), line in reversed(self.lines.items()) if name == dataset), None
        )

    def forget_after(self, iteration: int) -> None:
        """A resumed run finds the later ones again."""
        self.lines = {key: line for key, line in self.lines.items() if key[0] <= iteration}
        self._save()

    def _save(self) -> None:
        if self.write:
            text = "".join(json.dumps(line) + "\n" for line in self.lines.values())
            write_whole(self.path, lambda file: file.write(text.encode()))


class BestBy:
    """Which validation is the best: the highest (or lowest) mean over the sets of one metric.

    ``val.best_by``: METRIC, or SET/METRIC for one set alone; default: the first metric of ``val.metrics``, or of the first set that
    has its own. Whether more is better is the metric's ``better: higher | lower``, as in BasicSR.

    Raises:
        UserError: where no val set has that metric.
    """

    def __init__(self, opt: dict):
        metrics = {name: metrics_of(opt, block) for name, block in val_sets(opt).items()}
        known = [metric for name in metrics for metric in metrics[name]]
        asked = (opt.get("val") or {}).get("best_by")
        self.set, _, self.metric = str(asked or next(iter(known), "")).rpartition("/")
        if asked is not None and not any(
            self.metric in metrics[name] for name in metrics if self.set in ("", name)
        ):
            if not known:
                raise UserError(
                    f"val.best_by: '{asked}' is the best of no set: datasets has no val_NAME with metrics."
                )
            valid = [
                *dict.fromkeys(known),
                *(f"{name}/{metric}" for name in metrics for metric in metrics[name]),
            ]
            raise UserError(
                f"val.best_by: no val set has '{asked}'{nearest(asked, valid)}; valid are {', '.join(valid)}."
            )
        options = next((metrics[name][self.metric] for name in metrics if self.metric in metrics[name]), {})
        self.sign = -1 if options.get("better") == "lower" else 1

    def __str__(self) -> str:
        return f"{self.metric} of {self.set}" if self.set else f"mean {self.metric}"

    def score(self, results: Results) -> float | None:
        """The number to be compared, or None where ``results`` has none."""
        values = [
            values[self.metric]
            for name, values in results.items()
            if self.metric in values and self.set in ("", name)
        ]
        return sum(values) / len(values) if values else None

    def better(self, results: Results, than: Results | None) -> bool:
        """Whether ``results`` is better than ``than``, by the sets that both have; of equals the earlier one stays the best."""
        if than is not None:
            common = [
                name for name in results if self.metric in results[name] and self.metric in than.get(name, {})
            ]
            results, than = (
                ({name: one[name] for name in common} for one in (results, than))
                if common
                else (results, None)
            )
        new, old = self.score(results), None if than is None else self.score(than)
        return new is not None and not math.isnan(new) and (old is None or self.sign * new > self.sign * old)
