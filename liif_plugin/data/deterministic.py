"""Samples that depend on (seed, epoch, position in the epoch) alone.

BasicSR's worker_init_fn replays the same ``random`` and ``numpy`` stream in every epoch, and a sample
depends on the number of workers and processes. Here the sampler hands out a SampleIndex, an index that knows
its epoch and its position in it, and a dataset seeds a generator of its own for each item. If N divides the
samples of an epoch, what N processes see at iteration i is what one process with the N-fold batch sees.

A dataset asks for it with the class attribute ``deterministic = True``. Others get plain indices.
"""

from __future__ import annotations

import os

import numpy as np
import torch


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


class WorkerGenerator:
    """The generator for items whose index has no key, as from a loader that is not BasicSR's.

    Each worker has one stream. It is seeded from torch's seed, which differs per worker, rank and epoch.
    BasicSR seeds ``random`` and ``numpy`` the same in every epoch, so neither is used.
    """

    def __init__(self) -> None:
        self._owner: object = None
        self._rng = np.random.default_rng(0)

    def get(self) -> np.random.Generator:
        """Return the generator of this worker and epoch."""
        worker = torch.utils.data.get_worker_info()
        owner = (os.getpid(), None if worker is None else worker.seed)
        if owner != self._owner:
            self._owner = owner
            self._rng = np.random.default_rng(torch.initial_seed() % 2**63)
        return self._rng

    def __getstate__(self) -> dict:
        return {"_owner": None, "_rng": None}
