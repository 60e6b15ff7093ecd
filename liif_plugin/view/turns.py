"""Whose turn it is: one band is computed at a time, and of each asker only the newest view counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

LIMIT = 8  # views that may be under way
IDLE = 30.0  # seconds after which a view whose bands nobody fetches has lost its place


class Busy(Exception):
    """LIMIT views are under way."""


class Turn:
    """A view under way. stale: a newer one has come, or nobody fetches it."""

    def __init__(self, key: str, bands: Iterator[np.ndarray]):
        self.key, self.bands = key, bands
        self.stale = False
        self.touched = time.monotonic()

    def step(self) -> np.ndarray | None:
        """The next band, None at the end or where it is not wanted any more."""
        return None if self.stale else next(self.bands, None)


class Turns:
    """Views of many askers, their bands computed in one thread, in the order in which they are asked for."""

    def __init__(self):
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="render")
        self.live: dict[str, Turn] = {}

    def start(self, key: str, bands: Iterator[np.ndarray]) -> Turn:
        """A place for a view; what ``key`` asked for before is dropped. Raises Busy where there is none."""
        now = time.monotonic()
        for turn in [turn for turn in self.live.values() if turn.key == key or now - turn.touched > IDLE]:
            turn.stale = True
            self.end(turn)
        if len(self.live) >= LIMIT:
            raise Busy
        turn = self.live[key] = Turn(key, bands)
        return turn

    async def band(self, turn: Turn) -> np.ndarray | None:
        """The next band of ``turn``, None at its end."""
        turn.touched = time.monotonic()
        return await asyncio.get_running_loop().run_in_executor(self.worker, turn.step)

    def end(self, turn: Turn) -> None:
        """Give the place back."""
        turn.stale = True
        if self.live.get(turn.key) is turn:
            del self.live[turn.key]
