"""The files in which an experiment keeps what its validations found: validation.jsonl, net_g_best.pth, samples/, summary.md, .json."""

from __future__ import annotations

import os

from basicsr.utils import get_root_logger

from ..checkpoints.files import numbered, save_in_experiment
from ..checkpoints.reading import load_safely
from ..errors import UserError
from .samples import draw_samples, save_samples
from .scores import BestBy, Scores, val_sets
from .summary import summary, write_summary


class Record:
    """Filled by one set after the other; ``settle`` draws the conclusions once a validation is complete.

    Everything here may be repeated: a run that was killed in between settles the same validation again, with the same outcome.
    net_g_best.pth carries its own record (iteration and results), so that the two cannot part.
    """

    def __init__(self, opt: dict):
        self.opt = opt
        self.folder = os.path.dirname(opt["path"]["models"])
        self.best_path = os.path.join(opt["path"]["models"], "net_g_best.pth")
        self.scores = Scores(os.path.join(self.folder, "validation.jsonl"), write=opt["rank"] == 0)
        self.best_by = BestBy(opt)
        self.best = self._read_best()
        self._scales = {}

    def scale_of(self, dataset) -> list[float] | None:
        """(y, x) of a val set; of one that does not state it, that of its first picture, which is read once."""
        name = dataset.opt["name"]
        if name not in self._scales:
            scale = getattr(dataset, "scale", None) or next(iter(getattr(dataset, "scales", ())), None)
            if scale is None:
                item = dataset[0]
                scale = (
                    [big / small for big, small in zip(item["gt"].shape[-2:], item["lq"].shape[-2:])]
                    if "gt" in item
                    else None
                )
            self._scales[name] = None if scale is None else [float(s) for s in scale]
        return self._scales[name]

    def _read_best(self) -> dict | None:
        if not os.path.isfile(self.best_path):
            return None
        content = load_safely(self.best_path)
        if not isinstance(content, dict) or "best" not in content:
            raise UserError(
                f"{self.best_path}: not written by this trainer, which would write over it; move it away."
            )
        return content["best"]

    def go_back(self, iteration: int) -> None:
        """The run is taken up from a state that was named: what later iterations have left is of another course than this one's."""
        best, self.best = self.best, self.best if self.best and self.best["iter"] <= iteration else None
        if self.opt["rank"] != 0:
            return
        if self.best is not best:
            kept = f"net_g_best_{best['iter']}.pth"
            os.replace(self.best_path, os.path.join(os.path.dirname(self.best_path), kept))
            get_root_logger().info(
                f"The best network so far is of iteration {best['iter']:,}, later than {iteration:,}: it is called "
                f"{kept} now."
            )
        samples = os.path.join(self.folder, "samples")
        for name in os.listdir(samples) if os.path.isdir(samples) else []:
            number, ending = os.path.splitext(name)
            if ending == ".png" and number.isdecimal() and int(number) > iteration:
                os.remove(os.path.join(samples, name))
        later = [
            step
            for step in numbered(self.opt["path"]["models"], self.opt["path"]["training_states"])
            if step > iteration
        ]
        if later:
            get_root_logger().warning(
                f"There are checkpoints of later iterations, up to {later[0]:,}: --auto_resume would go on from "
                "those; move them away to keep to this course."
            )

    def missing(self, iteration: int) -> set[str]:
        """The val sets without results of ``iteration``."""
        return set(val_sets(self.opt)) - set(self.scores.at(iteration))

    def keep_best(self, iteration: int, weights) -> bool:
        """Write ``weights()`` to net_g_best.pth if the validation at ``iteration`` is the best so far; returns whether it was."""
        results = self.scores.at(iteration)
        if not self.best_by.better(results, self.best and self.best["results"]):
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

    def draw(self, iteration: int, net, dataset, device, dtype, tb_logger) -> None:
        """The sample renders of ``val.samples``, into samples/ITERATION.png and TensorBoard."""
        path = os.path.join(self.folder, "samples", f"{iteration}.png")
        if not self.opt["val"].get("samples") or os.path.isfile(path):
            return
        picture = draw_samples(net, dataset, self.opt["val"]["samples"], device, dtype)
        save_samples(picture, path)
        if tb_logger:
            import numpy as np

            tb_logger.add_image("samples", np.asarray(picture), iteration, dataformats="HWC")

    def conclude(self, iteration: int) -> str | None:
        """Write the summary and return its table; None where nothing was measured."""
        if not any(self.scores.at(iteration).values()):
            return None
        return write_summary(summary(self.opt, self.scores, iteration, self.best, self.best_by), self.folder)
