"""Limits on failed attempts: per account and address, per address, never per account alone.

Who guesses from one address stops only itself: the owner at another address, and every device that is already logged
in (refresh tokens and app passwords are too long to guess and are not counted here), goes on working.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync_server.auth.errors import TooManyAttempts

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


@dataclass(frozen=True, slots=True)
class Limit:
    """`burst` at once, then one each `every` seconds."""

    burst: int
    every: float


ACCOUNT_AND_ADDRESS = Limit(5, 12.0)
ADDRESS = Limit(20, 3.0)


class Throttle:
    """Leaky buckets in a bounded table; the clock is monotonic, so that setting the time changes nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, capacity: int = 20_000) -> None:
        self._clock = clock
        self._capacity = capacity
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def check(self, *keys: tuple[Hashable, Limit]) -> None:
        """Raise TooManyAttempts when one of the buckets is full."""
        waits = [self._wait(key, limit) for key, limit in keys]
        if (longest := max(waits, default=0.0)) > 0:
            raise TooManyAttempts(longest)

    def count(self, *keys: tuple[Hashable, Limit]) -> None:
        """Put one attempt into each bucket."""
        now = self._clock()
        for key, limit in keys:
            self._levels[key] = (self._level(key, limit, now) + 1, now)
            self._levels.move_to_end(key)
        while len(self._levels) > self._capacity:
            self._levels.popitem(last=False)

    def take(self, *keys: tuple[Hashable, Limit]) -> None:
        """Check and count in one step, for what costs even when it succeeds."""
        self.check(*keys)
        self.count(*keys)

    def give_back(self, *keys: tuple[Hashable, Limit]) -> None:
        """Take one attempt out again: it succeeded."""
        now = self._clock()
        for key, limit in keys:
            if key in self._levels:
                self._levels[key] = (max(0.0, self._level(key, limit, now) - 1), now)

    def forget(self, key: Hashable) -> None:
        """Empty a bucket."""
        self._levels.pop(key, None)

    def _level(self, key: Hashable, limit: Limit, now: float) -> float:
        level, since = self._levels.get(key, (0.0, now))
        return max(0.0, level - (now - since) / limit.every)

    def _wait(self, key: Hashable, limit: Limit) -> float:
        level = self._level(key, limit, self._clock())
        return max(0.0, (level + 1 - limit.burst) * limit.every)


def network_of(address: str) -> str:
    """What counts as one address: an IPv6 customer has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
