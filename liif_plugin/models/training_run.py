"""The state of one training that BasicSR's loop knows and does not hand to its model."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..data.deterministic import is_deterministic
from .run_lock import RunLock
from .signals import StopRequest

# The entries of ``data`` that decide which samples an iteration sees
SAMPLES = ("images", "samples", "batch", "seed")


@dataclass
class TrainingRun:
    """Filled by the patches of BasicSR's training loop, used by the model.

    Attributes:
        network: built by the checks; the model takes it from here.
        datasets: the sets, built before anything is written, by name; the loop takes them from here.
        early_records: what was logged meanwhile; the loop logs it once it has opened its log file.
        epoch: the epoch in progress.
        val_loaders: the loaders of the validation sets.
        tb_logger: the TensorBoard writer, on rank 0.
        data: images, samples of an epoch and of an iteration (over all processes), processes, seed. Saved
            with every training state as "shape".
        epoch_length: iterations of an epoch.
        batch: samples of an iteration of one process.
        resume_state: the training state from which this run is resumed. BasicSR's loop holds the same dict.
        skip_until: (epoch, iteration) of the resumed run: the samples of that epoch before it were used
            already.
        stop: whether Ctrl-C or SIGTERM came.
        lock: held by rank 0 for the whole run.
    """

    network: nn.Module | None = None
    datasets: dict[str, Dataset] = field(default_factory=dict)
    early_records: list[logging.LogRecord] = field(default_factory=list)
    epoch: int = 0
    val_loaders: list[Any] = field(default_factory=list)
    tb_logger: Any = None
    data: dict[str, int] = field(default_factory=dict)
    epoch_length: int | None = None
    batch: int = 1
    resume_state: dict | None = None
    skip_until: tuple[int, int] | None = None
    stop: StopRequest = field(default_factory=StopRequest)
    lock: RunLock | None = None

    def set_data(self, opt: dict, loader: DataLoader, sampler: Any, val_loaders: list[Any]) -> None:
        """Take note of the loaders; a resumed run finds its place in their epochs.

        ``sampler`` is BasicSR's EnlargedSampler of ``loader``.
        """
        assert loader.batch_size is not None
        self.val_loaders = val_loaders
        self.batch = loader.batch_size
        # The loader drops the last incomplete batch
        self.epoch_length = sampler.num_samples // loader.batch_size
        self.data = {
            "images": len(sampler.dataset),
            "samples": sampler.total_size,
            "batch": loader.batch_size * sampler.num_replicas,
            "processes": sampler.num_replicas,
            "seed": opt["manual_seed"],
        }
        if self.resume_state is not None:
            self._find_resume_point(self.resume_state, sampler.dataset)

    def _find_resume_point(self, state: dict, dataset: Dataset) -> None:
        """Set the epoch in ``state``; warn if the samples cannot be those of an uninterrupted run."""
        warn = logging.getLogger("basicsr").warning
        if not is_deterministic(dataset):
            warn(
                "%s draws its samples by itself: epoch %d starts again from its first one.",
                type(dataset).__name__,
                state["epoch"],
            )
            return
        assert self.epoch_length is not None
        old_epoch, old_data = state["epoch"], state.get("shape") or {}
        state["epoch"] = state["iter"] // self.epoch_length
        self.skip_until = (state["epoch"], state["iter"])
        changed = [
            f"{key} {old_data[key]} -> {self.data[key]}"
            for key in SAMPLES
            if key in old_data and old_data[key] != self.data[key]
        ]
        # states of BasicSR have no "shape": the iteration must lie in the epoch that they name
        if not old_data and not 0 <= state["iter"] - old_epoch * self.epoch_length <= self.epoch_length:
            changed = ["another epoch length"]
        if changed:
            warn(
                "The data differs from that of the run that was stopped (%s): from iteration %d on the "
                "samples are not those of an uninterrupted run.",
                ", ".join(changed),
                state["iter"],
            )

    def samples_done(self, epoch: int, num_samples: int) -> int:
        """Return how many samples of ``epoch`` this process has used before the run was interrupted.

        A whole epoch has ``num_samples`` in one process.
        """
        if self.skip_until is None or epoch != self.skip_until[0]:
            return 0
        epoch_length = num_samples // self.batch
        done = self.skip_until[1] - epoch * epoch_length
        if not 0 <= done <= epoch_length:
            logging.getLogger("basicsr").warning(
                "The data or the batch size changed since the run was stopped: epoch %d starts again from "
                "its first sample.",
                epoch,
            )
            return 0
        return done * self.batch


_run = TrainingRun()


def current_run() -> TrainingRun:
    """Return the run of this process; an empty one if no loop of BasicSR was started."""
    return _run


def start_run() -> TrainingRun:
    """Begin a new run in this process and return it."""
    global _run
    _run.stop.unlisten()
    _run = TrainingRun()
    return _run
