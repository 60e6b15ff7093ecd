"""Trains as `liif train` does and keeps every loss and score with all its digits, where BasicSR's log prints
four:

python record.py OUT -opt FILE ...      (OUT.RANK.json for each process; torchrun works too)
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import liif_plugin.register  # noqa: F401  before basicsr, whose imports it mends

RECORD = Path(__file__)


def write_run(folder: Path, root: str = "images", total: int = 20, every: int = 10) -> Path:
    """Three images and the option file of a run of seconds in ``folder``; returns the file."""
    from PIL import Image

    from helpers.pictures import picture
    from helpers.training import TINY_YML

    (folder / "images").mkdir()
    for i in range(3):
        Image.fromarray(picture(i, 64, 72)).save(folder / "images" / f"img_{i}.png")
    text = TINY_YML.format(root=root, total=total, every=every, workers=0)
    (folder / "tiny.yml").write_text(text.replace("  optim_g:", "  ema_decay: 0.9\n  optim_g:"))
    return folder / "tiny.yml"


def train(folder: Path) -> dict:
    """Losses and scores of 20 steps in one process of its own, as `liif train` makes them; weights are left
    in ``folder``.
    """
    from helpers.processes import forked

    done = forked(RECORD, "out", "-opt", write_run(folder), cwd=folder, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "out.0.json").read_text())


def record(out: str) -> None:
    """Train in the current folder, with the arguments of BasicSR's train.py in sys.argv."""
    from basicsr.train import train_pipeline

    from liif_plugin.models.continuous_sr_model import ContinuousSRModel

    kept = {"losses": {}, "scores": {}}
    step, validation = ContinuousSRModel.optimize_parameters, ContinuousSRModel.nondist_validation

    def optimize_parameters(self, current_iter):
        step(self, current_iter)
        kept["losses"][current_iter] = self.log_dict["l_pix"]

    def nondist_validation(self, dataloader, current_iter, *rest):
        validation(self, dataloader, current_iter, *rest)
        # BasicSR counts on for a last pass, which ours leaves out
        if current_iter <= self.opt["train"]["total_iter"]:
            kept["scores"][f"{dataloader.dataset.opt['name']}@{current_iter}"] = self.metric_results

    ContinuousSRModel.optimize_parameters, ContinuousSRModel.nondist_validation = (
        optimize_parameters,
        nondist_validation,
    )
    train_pipeline(os.getcwd())
    with open(f"{out}.{os.environ.get('RANK', 0)}.json", "w") as file:
        json.dump(kept, file)


if __name__ == "__main__":
    record(sys.argv.pop(1))
