"""Samples that depend on (seed, epoch, position in the epoch) alone.

BasicSR's worker_init_fn replays the same ``random`` and ``numpy`` stream in every epoch, and a sample
depends on the number of workers and processes. Here the sampler hands out a SampleIndex, an index that knows
its epoch and its position in it, and a dataset seeds a generator of its own for each item. If N divides the
samples of an epoch, what N processes see at iteration i is what one process with the N-fold batch sees.

A dataset asks for it with the class attribute ``deterministic = True``. Others get plain indices.
"""

from __future__ import annotations

import numpy as np


class SampleIndex(int):
    """A dataset index (int) with ``key`` = (epoch, position in the epoch over all processes).

    Example:
        >>> index = SampleIndex(3, epoch=1, position=17)
        >>> index + 1, index.key
        (4, (1, 17))
    """

    key: tuple[int, int]

    def __new__(cls, index: int, epoch: int, position: int) -> SampleIndex:
        sample = super().__new__(cls, index)
        sample.key = (epoch, position)
        return sample

    def __reduce__(self):
        return SampleIndex, (int(self), *self.key)


def generator(seed: int, index: int) -> np.random.Generator | None:
    """Return the random generator of one item, or None if ``index`` is a plain int without a key."""
    return np.random.default_rng((seed, *index.key)) if isinstance(index, SampleIndex) else None


def is_deterministic(dataset: object) -> bool:
    """Return whether ``dataset`` says ``deterministic = True``."""
    return getattr(dataset, "deterministic", False) is True
