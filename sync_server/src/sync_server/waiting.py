"""Who waits for changes: bounded, and woken by changes, revocation and the server's end."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sync_server.auth.errors import TooManyAttempts

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from sync_server.metrics import Metrics

_PER_DEVICE = 8


class Waiting:
    """Counts the waiting devices and waits on their behalf."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self._limit = limit
        self._metrics = metrics
        self._devices: Counter[int] = Counter()

    @contextmanager
    def place(self, device_id: int) -> Iterator[None]:
        """Take one of the places; raises TooManyAttempts when they are taken."""
        if self._devices.total() >= self._limit or self._devices[device_id] >= _PER_DEVICE:
            raise TooManyAttempts(10)
        self._devices[device_id] += 1
        self._metrics.waiting.inc()
        try:
            yield
        finally:
            self._metrics.waiting.dec()
            self._devices[device_id] -= 1
            if not self._devices[device_id]:
                del self._devices[device_id]


async def first_of(*jobs: Coroutine[object, object, object]) -> None:
    """Return as soon as one of the jobs is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
