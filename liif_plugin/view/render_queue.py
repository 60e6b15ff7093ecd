"""The order in which views are computed: one band at a time, and of each client only the newest view."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

LIMIT = 8  # views that may be in progress
IDLE = 30.0  # seconds after which a view whose bands nobody fetches is dropped


class Busy(Exception):  # noqa: N818  no error: ask again in a moment
    """LIMIT views are in progress."""


class RenderRequest:
    """A view in progress.

    Attributes:
        client: name of the client that asked for it.
        bands: the rows of the view from the top, computed one by one.
        stale: True as soon as the client has asked for a newer view, or does not fetch the bands of this one.
        last_fetch: time.monotonic() of the last band that was asked for.
    """

    def __init__(self, client: str, bands: Iterator[np.ndarray]):
        self.client, self.bands = client, bands
        self.stale = False
        self.last_fetch = time.monotonic()

    def next_band(self) -> np.ndarray | None:
        """Compute the next band; return None at the end, or if the view is not wanted any more."""
        return None if self.stale else next(self.bands, None)


class RenderQueue:
    """The views of all clients. One thread computes their bands in the order in which they are asked for.

    Attributes:
        active: client -> its view in progress.
    """

    def __init__(self) -> None:
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="render")
        self.active: dict[str, RenderRequest] = {}

    def start(self, client: str, bands: Iterator[np.ndarray]) -> RenderRequest:
        """Accept a view. An earlier view of the same client is dropped.

        Raises:
            Busy: if LIMIT views of other clients are in progress.
        """
        # Drop the client's earlier view, and views that nobody fetches
        now = time.monotonic()
        for request in list(self.active.values()):
            if request.client == client or now - request.last_fetch > IDLE:
                self.end(request)
        if len(self.active) >= LIMIT:
            raise Busy
        request = self.active[client] = RenderRequest(client, bands)
        return request

    async def band(self, request: RenderRequest) -> np.ndarray | None:
        """Return the next band of ``request``, or None at its end."""
        request.last_fetch = time.monotonic()
        return await asyncio.get_running_loop().run_in_executor(self.worker, request.next_band)

    def end(self, request: RenderRequest) -> None:
        """Remove ``request``, finished or not."""
        request.stale = True
        if self.active.get(request.client) is request:
            del self.active[request.client]
