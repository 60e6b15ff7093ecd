"""Random draws that depend on (seed, epoch, position) alone, and an epoch that goes on where a run stopped.

Cures three facts of BasicSR 1.4.2: its worker_init_fn replays the same ``random`` and ``numpy`` stream in every epoch; a resumed
run starts its epoch again from the first sample; what a sample looks like depends on the number of workers and processes.
Its sampler then hands our datasets a Draw, an index that knows its epoch and its place in it. Where N divides the samples of an
epoch, what N processes see at iteration i is what one process with the N-fold batch sees. Datasets that do not ask for it
(``keyed_draws``) get plain indices as before. Can go when BasicSR offers a resumable sampler.
"""

from __future__ import annotations

import logging

import numpy as np


class Draw(int):
    """A dataset index (int) with ``key`` = (epoch, position in the epoch over all processes)."""

    key: tuple[int, int]

    def __new__(cls, index: int, epoch: int, position: int) -> Draw:
        draw = super().__new__(cls, index)
        draw.key = (epoch, position)
        return draw

    def __reduce__(self):
        return Draw, (int(self), *self.key)


class ResumePoint:
    """Where the resumed run stands: (epoch, iteration) and the samples that one process takes per iteration."""

    epoch = iteration = batch = None

    @classmethod
    def set(cls, epoch: int, iteration: int, batch: int) -> None:
        cls.epoch, cls.iteration, cls.batch = epoch, iteration, batch

    @classmethod
    def samples_done(cls, epoch: int, num_samples: int) -> int:
        """Samples of ``epoch`` that the earlier run has consumed in this process; ``num_samples`` are those of a whole epoch."""
        if epoch != cls.epoch:
            return 0
        per_epoch = num_samples // cls.batch  # BasicSR drops the last incomplete batch
        done = cls.iteration - epoch * per_epoch
        if not 0 <= done <= per_epoch:
            logging.getLogger("basicsr").warning(
                "The data or the batch size changed since the run was stopped: epoch %d starts again from its first sample.",
                epoch,
            )
            return 0
        return done * cls.batch


def generator(seed: int, index: int) -> np.random.Generator | None:
    """The generator of one item, or None where ``index`` is a plain int and carries no key."""
    key = getattr(index, "key", None)
    return None if key is None else np.random.default_rng((seed, *key))


def apply() -> None:
    """Let BasicSR's EnlargedSampler hand out Draws to datasets with ``keyed_draws``."""
    from basicsr.data.data_sampler import EnlargedSampler

    if getattr(EnlargedSampler, "hands_out_draws", False):
        return
    stock = EnlargedSampler.__iter__

    def keyed(self):
        # a generator: a list of Draws for a long epoch would cost hundreds of MB
        if not getattr(self.dataset, "keyed_draws", False):
            return stock(self)
        first = ResumePoint.samples_done(self.epoch, self.num_samples)
        return (
            Draw(index, self.epoch, self.rank + k * self.num_replicas)
            for k, index in enumerate(stock(self))
            if k >= first
        )

    EnlargedSampler.__iter__ = keyed
    EnlargedSampler.hands_out_draws = True
