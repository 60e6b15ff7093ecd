"""One line at the foot of the terminal that says how training goes. Nothing where stderr is a file or a pipe: the log has it all."""

from __future__ import annotations

import datetime
import logging
import os
import shutil
import sys
import time
from contextlib import contextmanager
from typing import TextIO

EVERY = 0.2  # seconds between two drawings
LOSS_MEMORY = 0.99  # of the smoothed loss, per step
SPEED_MEMORY = 0.8  # of the smoothed speed, per drawing


def is_terminal(stream: TextIO) -> bool:
    """Whether ``stream`` can draw over a line."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class ProgressLine:
    """``iter 1,234/3,000  41.1%  loss 0.0312  lr 1.0e-03  96 samples/s  0:04:10 left``, drawn over itself.

    Args:
        total: iterations of the whole run.
        stream: a terminal; anything else stays untouched. Whatever the logger writes to it appears above the line.
        on: False for a line that is never drawn.
    """

    def __init__(self, total: int, stream: TextIO | None = None, on: bool = True, logger: str = "basicsr"):
        self.total, self.stream = total, sys.stderr if stream is None else stream
        self.on = on and is_terminal(self.stream)
        self.shown = False
        self.loss = self.first = self.drawn = self.speed = None
        self.weight = self.steps = self.samples = 0
        if self.on:
            for handler in logging.getLogger(logger).handlers:
                if getattr(handler, "stream", None) is self.stream:
                    handler.addFilter(lambda record: self.clear() or True)

    def step(self, iteration: int, loss: float, lr: float, samples: int) -> None:
        """One iteration is done; ``samples`` are those of all processes."""
        if not self.on:
            return
        self.loss = loss if self.loss is None else LOSS_MEMORY * self.loss + (1 - LOSS_MEMORY) * loss
        now = time.monotonic()
        if self.first is None:  # the first step has set everything up: not counted
            self.first = self.drawn = now
            return
        self.steps += 1
        self.samples += samples
        if now - self.drawn < EVERY and iteration < self.total:  # the last one is drawn however short the run
            return
        speed = self.samples / max(now - self.drawn, 1e-6)
        self.speed = speed if self.speed is None else SPEED_MEMORY * self.speed + (1 - SPEED_MEMORY) * speed
        self.samples, self.drawn = 0, now
        left = (
            (now - self.first) / self.steps * (self.total - iteration)
        )  # with its share of validations and checkpoints
        self._draw(
            f"iter {iteration:,}/{self.total:,}  {iteration / self.total:.1%}  loss {self.loss:.4f}  lr {lr:.1e}  "
            f"{self.speed:.3g} samples/s  {datetime.timedelta(seconds=round(left))} left"
        )

    @contextmanager
    def paused(self):
        """Something else has the terminal and the time (a validation): they are not counted as slow steps."""
        self.clear()
        yield
        self.samples, self.drawn = 0, time.monotonic()

    def clear(self) -> None:
        """Take the line away; the next step draws it again."""
        if self.shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self.shown = False

    def _draw(self, text: str) -> None:
        self.stream.write("\r\x1b[K" + text[: shutil.get_terminal_size().columns - 1])
        self.stream.flush()
        self.shown = True
