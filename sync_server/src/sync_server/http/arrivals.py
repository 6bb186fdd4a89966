"""Contents on their way in, and who asks for them: a device whose line broke asks at once what has arrived, while the
server may still be reading it, writing it, or waiting for more of it."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from starlette.types import Message

    from sync_server.http.call import Call

# What came before the line broke is read without a pause; for who goes on sending meanwhile there is an end.
_PAUSE = 0.1
_READING = 3.0


class _Arrival:
    """The body of one request."""

    def __init__(self, call: Call, keep: Callable[[], Awaitable[object]]) -> None:
        self._receive, call.receive = call.receive, self._watched
        self._keep = keep
        self._pieces = 0
        self._reading = False
        self._ended = False
        self.over = asyncio.Event()

    async def _watched(self) -> Message:
        self._reading = True
        message = await self._receive()
        self._reading = False
        self._pieces += 1
        self._ended = not message.get("more_body", False)
        return message

    async def settle(self) -> None:
        """Return when what came until now is durable, as far as it is whole."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _READING
        while self._ended or loop.time() < until:
            before = self._pieces
            try:
                async with asyncio.timeout(None if self._ended else _PAUSE):
                    await self.over.wait()
                return
            except TimeoutError:
                if self._reading and self._pieces == before:
                    break
        await self._keep()


class Arrivals:
    """Those of all devices."""

    def __init__(self) -> None:
        self._of: dict[int, set[_Arrival]] = {}

    @contextmanager
    def watch(self, call: Call, keep: Callable[[], Awaitable[object]]) -> Iterator[None]:
        """Around the reading of a body and what follows; `keep` makes durable what of it is whole already."""
        arrival = _Arrival(call, keep)
        of_device = self._of.setdefault(call.identity.device_id, set())
        of_device.add(arrival)
        try:
            yield
        finally:
            arrival.over.set()
            of_device.discard(arrival)
            if not of_device:
                self._of.pop(call.identity.device_id, None)

    async def settle(self, device_id: int) -> bool:
        """Wait for what the device sent before; False when there is nothing."""
        under_way = list(self._of.get(device_id, ()))
        await asyncio.gather(*(arrival.settle() for arrival in under_way))
        return bool(under_way)
