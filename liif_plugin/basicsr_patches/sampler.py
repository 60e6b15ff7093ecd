"""BasicSR's sampler: resumable, and with samples that depend on the seed, the epoch and the position
alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..data.deterministic import SampleIndex, is_deterministic
from ..models.training_run import current_run
from .patching import patch

SAMPLER = "basicsr.data.data_sampler.EnlargedSampler"


@patch(
    SAMPLER,
    name="set_epoch",
    cures="the model does not know the epoch, which it needs to save a checkpoint after Ctrl-C",
    until="BasicSR passes the epoch to the model",
)
def set_epoch(self, epoch: int) -> None:
    """Begin an epoch."""
    current_run().epoch = epoch
    set_epoch.original(self, epoch)


@patch(
    SAMPLER,
    name="__iter__",
    cures="a resumed run repeats its epoch; samples depend on the number of workers and processes",
    until="BasicSR's sampler can resume within an epoch",
)
def resumable_iter(self) -> Iterator[int]:
    """Yield this rank's indices of the epoch, from where the run was interrupted; see
    ``data/deterministic.py``.
    """
    indices = resumable_iter.original(self)
    if not is_deterministic(self.dataset):
        return indices
    first = current_run().samples_done(self.epoch, self.num_samples)
    # a generator: a list of SampleIndex for a long epoch would take hundreds of MB
    return (
        SampleIndex(index, self.epoch, self.rank + k * self.num_replicas)
        for k, index in enumerate(indices)
        if k >= first
    )
