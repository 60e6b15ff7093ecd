"""What an experiment keeps of its validations.

The files are validation.jsonl, net_g_best.pth, samples/ITERATION.png, summary.md and summary.json.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from basicsr.utils import get_root_logger
from torch import nn
from torch.utils.data import Dataset

from ..checkpoints.files import numbered, save_in_experiment
from ..checkpoints.reading import load_safely
from ..errors import UserError, nearest
from ..evaluation.tables import markdown_table, scale_text
from ..files import atomic_write
from ..metrics.properties import better_of
from .samples import draw_samples

Results = dict[str, dict[str, float]]  # set -> metric -> value


def metrics_of(opt: dict, dataset: dict) -> dict[str, dict]:
    """Return the metrics of one val set: its own, else those of ``val``."""
    return dataset.get("metrics") or (opt.get("val") or {}).get("metrics") or {}


def val_sets(opt: dict) -> dict[str, dict]:
    """Return name -> options of the val sets of an option file."""
    sets = opt.get("datasets", {}).items()
    return {block["name"]: block for key, block in sets if key.split("_")[0] == "val"}


def label(dataset: str, scale: Sequence[float] | None) -> str:
    """Return the name of a set with its scale (y, x), unless the name has it already or there is none."""
    text = "" if scale is None else scale_text(scale)
    return dataset if text in dataset else f"{dataset} {text}"


class Scores:
    """(iteration, set) -> {metric: value}, kept in a file, one JSON object a line.

    Args:
        path: the file, validation.jsonl.
        write: whether this process writes the file; the others only read it.

    Raises:
        UserError: if the file is not one that this class has written.
    """

    def __init__(self, path: str, write: bool):
        self.path, self.write = path, write
        self.lines: dict[tuple[int, str], dict] = {}
        if os.path.isfile(path):
            with open(path, "rb") as file:
                for line in map(self._parse, file):
                    self.lines[line["iter"], line["set"]] = line

    def _parse(self, text: bytes) -> dict:
        try:
            line = json.loads(text.decode("utf-8"))
            scale = line["scale"]
            return {
                "iter": int(line["iter"]),
                "set": str(line["set"]),
                "scale": None if scale is None else [float(s) for s in scale],
                "metrics": {str(name): float(value) for name, value in line["metrics"].items()},
            }
        # a damaged line fails in many ways; RecursionError: [[[[...
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise UserError(
                f"{self.path}: not as written by the trainer ({type(error).__name__}); delete it to go on "
                "without the earlier validations."
            ) from error

    def add(
        self, iteration: int, dataset: str, scale: Sequence[float] | None, values: dict[str, float]
    ) -> None:
        """Keep the results of one set."""
        self.lines[iteration, dataset] = {
            "iter": iteration,
            "set": dataset,
            "scale": scale,
            "metrics": values,
        }
        self._save()

    def at(self, iteration: int) -> Results:
        """Return the results of one validation, as far as there are any."""
        return {name: line["metrics"] for (step, name), line in self.lines.items() if step == iteration}

    def scale(self, dataset: str) -> Sequence[float] | None:
        """Return the scale of a set in its last validation."""
        own = [line["scale"] for (_, name), line in self.lines.items() if name == dataset]
        return own[-1] if own else None

    def forget_after(self, iteration: int) -> None:
        """Drop the results of later iterations: a resumed run finds them again."""
        self.lines = {key: line for key, line in self.lines.items() if key[0] <= iteration}
        self._save()

    def _save(self) -> None:
        if self.write:
            with atomic_write(self.path, text=True) as file:
                file.writelines(json.dumps(line) + "\n" for line in self.lines.values())


class BestBy:
    """Which validation is the best: the highest (or lowest) mean over the sets of one metric.

    ``val.best_by``: METRIC, or SET/METRIC for one set alone. Default: the first metric of ``val.metrics``,
    or of the first set that has its own. Whether more is better is the metric's ``better: higher | lower``,
    as in BasicSR.

    Raises:
        UserError: if no val set has that metric.
    """

    def __init__(self, opt: dict):
        metrics = {name: metrics_of(opt, block) for name, block in val_sets(opt).items()}
        known = [metric for name in metrics for metric in metrics[name]]
        asked = (opt.get("val") or {}).get("best_by")
        self.set, _, self.metric = str(asked or next(iter(known), "")).rpartition("/")
        sets = [name for name in metrics if self.set in ("", name) and self.metric in metrics[name]]
        if asked is not None and not sets:
            _refuse_best_by(asked, metrics)
        options = next((metrics[name][self.metric] for name in metrics if self.metric in metrics[name]), {})
        self.sign = -1 if options and better_of(options) == "lower" else 1

    def __str__(self) -> str:
        return f"{self.metric} of {self.set}" if self.set else f"mean {self.metric}"

    def score(self, results: Results) -> float | None:
        """Return the number to compare, or None if ``results`` has none."""
        values = [
            values[self.metric]
            for name, values in results.items()
            if self.metric in values and self.set in ("", name)
        ]
        return sum(values) / len(values) if values else None

    def better(self, results: Results, than: Results | None) -> bool:
        """Return whether ``results`` is better than ``than``, by the sets that both have.

        A tie is not better.
        """
        if than is not None:
            common = [
                name for name in results if self.metric in results[name] and self.metric in than.get(name, {})
            ]
            if common:
                results, than = {n: results[n] for n in common}, {n: than[n] for n in common}
            else:
                than = None
        new = self.score(results)
        old = None if than is None else self.score(than)
        if new is None or math.isnan(new):
            return False
        return old is None or self.sign * new > self.sign * old


def _refuse_best_by(asked: str, metrics: dict[str, dict]) -> None:
    known = dict.fromkeys(metric for own in metrics.values() for metric in own)
    if not known:
        raise UserError(
            f"val.best_by: '{asked}' is the best of no set: datasets has no val_NAME with metrics."
        )
    valid = [*known, *(f"{name}/{metric}" for name in metrics for metric in metrics[name])]
    raise UserError(
        f"val.best_by: no val set has '{asked}'{nearest(asked, valid)}; valid are {', '.join(valid)}."
    )


class History:
    """The files that one experiment keeps of its validations.

    Every method may be called again: a run that was killed in the middle of a validation concludes it again,
    with the same result. net_g_best.pth has its own record (iteration and results), so that the weights and
    the record cannot disagree.
    """

    def __init__(self, opt: dict):
        self.opt = opt
        self.folder = os.path.dirname(opt["path"]["models"])
        self.best_path = os.path.join(opt["path"]["models"], "net_g_best.pth")
        self.scores = Scores(os.path.join(self.folder, "validation.jsonl"), write=opt["rank"] == 0)
        self.best_by = BestBy(opt)
        self.best = self._read_best()
        self._scales: dict[str, list[float] | None] = {}

    def scale_of(self, dataset: Any) -> list[float] | None:
        """Return the scale (y, x) of a val set: what its first item states, else the ratio of its sizes."""
        name = dataset.opt["name"]
        if name not in self._scales:
            item = dataset[0]
            scale = item.get("scale")
            if scale is None and "gt" in item:
                scale = [H / h for H, h in zip(item["gt"].shape[-2:], item["lq"].shape[-2:])]
            values = [] if scale is None else torch.as_tensor(scale, dtype=torch.float64).flatten().tolist()
            self._scales[name] = [values[0], values[-1]] if values else None
        return self._scales[name]

    def _read_best(self) -> dict | None:
        if not os.path.isfile(self.best_path):
            return None
        content = load_safely(self.best_path)
        best = content.get("best") if isinstance(content, dict) else None
        if not isinstance(best, dict) or not isinstance(best.get("iter"), int) or "results" not in best:
            raise UserError(
                f"{self.best_path}: not written by this trainer, which would write over it; move it away."
            )
        return best

    def go_back(self, iteration: int) -> None:
        """Set aside results of later iterations than an explicitly named state.

        They belong to a different run.
        """
        best = self.best
        is_later = best is not None and best["iter"] > iteration
        if is_later:
            self.best = None
        if self.opt["rank"] != 0:
            return
        if best is not None and is_later:
            new_name = f"net_g_best_{best['iter']}.pth"
            os.replace(self.best_path, os.path.join(os.path.dirname(self.best_path), new_name))
            get_root_logger().info(
                f"The best network so far is of iteration {best['iter']:,}, later than {iteration:,}: it is "
                f"called {new_name} now."
            )
        samples = os.path.join(self.folder, "samples")
        for name in os.listdir(samples) if os.path.isdir(samples) else []:
            number, ending = os.path.splitext(name)
            if ending == ".png" and number.isdecimal() and int(number) > iteration:
                os.remove(os.path.join(samples, name))
        steps = numbered(self.opt["path"]["models"], self.opt["path"]["training_states"])
        later = [step for step in steps if step > iteration]
        if later:
            get_root_logger().warning(
                f"There are checkpoints of later iterations, up to {later[0]:,}: --auto_resume would go on "
                "from those; move them away if this run is the one to continue."
            )

    def missing(self, iteration: int) -> set[str]:
        """Return the val sets without results of ``iteration``."""
        return set(val_sets(self.opt)) - set(self.scores.at(iteration))

    def keep_best(self, iteration: int, weights: Callable[[], dict]) -> bool:
        """Write ``weights()`` to net_g_best.pth if the validation at ``iteration`` is the best so far.

        Return whether it is.
        """
        results = self.scores.at(iteration)
        if not self.best_by.better(results, None if self.best is None else self.best["results"]):
            return False
        best = {
            "iter": iteration,
            "by": str(self.best_by),
            "score": self.best_by.score(results),
            "results": results,
        }
        save_in_experiment({**weights(), "best": best}, self.best_path)
        self.best = best
        return True

    def draw_samples(
        self,
        iteration: int,
        net: nn.Module,
        dataset: Dataset,
        device: torch.device,
        dtype: torch.dtype,
        tb_logger,
    ) -> None:
        """Draw the samples of ``val.samples`` into samples/ITERATION.png and TensorBoard."""
        path = os.path.join(self.folder, "samples", f"{iteration}.png")
        if not self.opt["val"].get("samples") or os.path.isfile(path):
            return
        val = self.opt["val"]
        picture = draw_samples(net, dataset, val["samples"], device, dtype, val.get("cell_clamp"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with atomic_write(path) as file:
            picture.save(file, format="PNG")
        if tb_logger:
            tb_logger.add_image("samples", np.asarray(picture), iteration, dataformats="HWC")

    def write_summary(self, iteration: int) -> str | None:
        """Write summary.md and summary.json and return the table; None if nothing was measured."""
        if not any(self.scores.at(iteration).values()):
            return None
        found = summary(self.opt, self.scores, iteration, self.best, self.best_by)
        text = summary_table(found)
        with atomic_write(os.path.join(self.folder, "summary.md"), text=True) as file:
            file.write(f"{text}\n")
        with atomic_write(os.path.join(self.folder, "summary.json"), text=True) as file:
            json.dump(found, file, indent=1)
        return text


def summary(opt: dict, scores: Scores, iteration: int, best: dict | None, best_by: BestBy) -> dict:
    """Return the results of a training as plain data.

    Args:
        opt: the options of the run.
        scores: those of all validations.
        iteration: the last one.
        best: the record in net_g_best.pth: iter, results.
        best_by: what made it the best.
    """
    last, sets = scores.at(iteration), []
    for name, block in val_sets(opt).items():
        metrics = {}
        for metric, options in metrics_of(opt, block).items():
            values = [
                (line["metrics"][metric], step)
                for (step, dataset), line in scores.lines.items()
                if dataset == name and metric in line["metrics"]
            ]
            sign = -1 if better_of(options) == "lower" else 1
            value, step = max(values, key=lambda pair: (sign * pair[0], -pair[1]))
            metrics[metric] = {
                "last": last[name][metric],
                "net_g_best": best["results"].get(name, {}).get(metric) if best else None,
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


COLUMNS = ("set", "scale", "protocol", "metric", "at the end", "net_g_best", "best", "at iteration")


def summary_table(found: dict) -> str:
    """Return the summary as a Markdown table: a row for each set and metric, then the means."""
    rows = []
    columns: dict[str, list[tuple[float, float | None]]] = {}
    for entry in found["sets"]:
        for metric, value in entry["metrics"].items():
            best = value.get("highest", value.get("lowest"))
            numbers = [
                _number(value["last"]),
                _number(value["net_g_best"]),
                _number(best),
                f"{value['at']:,}",
            ]
            scale = "" if entry["scale"] is None else scale_text(entry["scale"])
            rows.append([entry["set"], scale, entry["protocol"] or "", metric, *numbers])
            columns.setdefault(metric, []).append((value["last"], value["net_g_best"]))
    for metric, values in columns.items():
        if len(values) > 1:
            ends = [last for last, _ in values]
            bests = [best for _, best in values if best is not None]
            mean_best = sum(bests) / len(bests) if len(bests) == len(values) else None
            rows.append(["mean", "", "", metric, _number(sum(ends) / len(ends)), _number(mean_best), "", ""])
    table = markdown_table(COLUMNS, rows)
    end = f"{found['name']}: {found['iter']:,} iterations"
    if found["best_iter"]:
        end += (
            f"; the best validation ({found['best_by']}) was at {found['best_iter']:,}: models/net_g_best.pth"
        )
    return f"{table}\n\n{end}."


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
