"""Trains as `liif train` does and keeps every loss and score with all its digits, where BasicSR's log prints four:

python record.py OUT -opt FILE ...      (OUT.RANK.json for each process; torchrun works too)
"""

import json
import os
import sys

import liif_plugin.register  # noqa: F401  before basicsr, whose imports it mends


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
        if current_iter <= self.opt["train"]["total_iter"]:  # BasicSR counts on for a last pass, which ours leaves out
            kept["scores"][f"{dataloader.dataset.opt['name']}@{current_iter}"] = self.metric_results

    ContinuousSRModel.optimize_parameters, ContinuousSRModel.nondist_validation = optimize_parameters, nondist_validation
    train_pipeline(os.getcwd())
    with open(f"{out}.{os.environ.get('RANK', 0)}.json", "w") as file:
        json.dump(kept, file)


if __name__ == "__main__":
    record(sys.argv.pop(1))
