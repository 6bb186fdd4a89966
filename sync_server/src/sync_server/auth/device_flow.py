"""Pairing by code (the shape of RFC 8628): shown on a new device, approved on one that is logged in.

Pending codes live ten minutes and in memory only: anybody may ask for one, and must not make the server write for it.
A restart costs no more than asking for a new code, and both sides are told so.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync_server.auth.errors import DeviceFlowPending, TooManyAttempts

if TYPE_CHECKING:
    from collections.abc import Callable

LIFETIME = 600
INTERVAL = 5
# No vowels (no words), nothing that looks like something else: RFC 8628 section 6.1. 20**8 is 2.5e10 codes.
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
UNKNOWN = "there is no such code (any more): it lasts ten minutes, and not beyond a restart of the server"
_MAX_PENDING = 1000
_MAX_PER_ADDRESS = 5


@dataclass(slots=True)
class Pending:
    """A device that waits for somebody to say yes."""

    user_code: str
    device_name: str
    scopes: frozenset[str]
    address: str
    expires_at: float
    interval: int = INTERVAL
    last_poll: float = float("-inf")
    approved_by: int | None = None
    approved_on: int | None = None
    approved_scopes: frozenset[str] = frozenset()
    denied: bool = False


class DeviceFlow:
    """The pending pairings of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_code: dict[bytes, Pending] = {}

    def begin(self, device_name: str, scopes: frozenset[str], address: str) -> tuple[str, Pending]:
        """Return the device's secret code and what is to be shown."""
        self._forget_old()
        if (
            len(self._by_code) >= _MAX_PENDING
            or sum(pending.address == address for pending in self._by_code.values()) >= _MAX_PER_ADDRESS
        ):
            raise TooManyAttempts(60)
        taken = {pending.user_code for pending in self._by_code.values()}
        while True:
            letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
            user_code = f"{letters[:4]}-{letters[4:]}"
            if user_code not in taken:
                break
        secret = "sd_" + secrets.token_urlsafe(32)
        pending = Pending(user_code, device_name, scopes, address, self._clock() + LIFETIME)
        self._by_code[_key(secret)] = pending
        return secret, pending

    def find(self, user_code: str) -> Pending | None:
        """The pairing with this shown code; case, spaces and the dash do not matter."""
        self._forget_old()
        wanted = "".join(letter for letter in user_code.upper() if letter.isalnum())
        for pending in self._by_code.values():
            if secrets.compare_digest(pending.user_code.replace("-", "").encode(), wanted.encode()):
                return pending
        return None

    def poll(self, secret: str) -> Pending:
        """Return the approved pairing, once; raises DeviceFlowPending as long as it is not."""
        self._forget_old()
        key = _key(secret)
        pending = self._by_code.get(key)
        if pending is None:
            raise DeviceFlowPending("expired_token", f"{UNKNOWN}; ask for a new one")
        now = self._clock()
        # A tenth of tolerance: a client that keeps its interval must not be punished for the network's jitter.
        too_fast = now - pending.last_poll < pending.interval * 0.9
        pending.last_poll = now
        if pending.denied:
            del self._by_code[key]
            raise DeviceFlowPending("access_denied", "the request was turned down")
        if pending.approved_by is None:
            if too_fast:
                pending.interval += 5
                raise DeviceFlowPending("slow_down", f"wait {pending.interval} seconds between two attempts")
            raise DeviceFlowPending("authorization_pending", "nobody has approved the code yet")
        del self._by_code[key]
        return pending

    def _forget_old(self) -> None:
        now = self._clock()
        for key in [key for key, pending in self._by_code.items() if pending.expires_at <= now]:
            del self._by_code[key]


def _key(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
