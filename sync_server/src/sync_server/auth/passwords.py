"""Argon2id, one computation at a time, with a lane of its own for those who were here before."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from sync_server.auth.errors import BadCredentialInput, TooManyAttempts

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# The OWASP minimum, 30 ms here. The library's own default takes 64 MB for each login.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
MAX_PASSWORD_BYTES = 1024


def hash_password(password: str) -> str:
    """Argon2id string with its parameters; takes about 30 ms and 19 MiB."""
    return _HASHER.hash(password)


def verify_password(stored: str, password: str) -> bool:
    """Whether the password belongs to the stored hash."""
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def needs_new_hash(stored: str) -> bool:
    """Whether it was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(stored)


def check_new_password(password: str, minimum: int) -> None:
    """Raise BadCredentialInput unless the password is long enough, and not endless."""
    if len(password) < minimum:
        raise BadCredentialInput(f"a password needs at least {minimum} characters")
    if len(password.encode("utf-8", "surrogatepass")) > MAX_PASSWORD_BYTES:
        raise BadCredentialInput(f"a password may have at most {MAX_PASSWORD_BYTES} bytes")


class PasswordQueue:
    """Runs hash computations one by one: the memory is that of one, whoever knocks.

    Strangers queue behind known addresses and cannot fill their lane, so guessing from many addresses slows the owner's
    login by one computation, not by a queue.
    """

    def __init__(self, known: int = 16, strangers: int = 16) -> None:
        self._limits = {True: known, False: strangers}
        self._lanes: dict[bool, deque[asyncio.Future[None]]] = {True: deque(), False: deque()}
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="argon2")
        self._never = ""

    async def run(self, work: Callable[[], T], *, known: bool) -> T:
        """Wait for the turn and compute; raises TooManyAttempts when the lane is full."""
        await self._turn(known)
        try:
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))
        finally:
            self._next()

    async def verify(self, stored: str | None, password: str, *, known: bool) -> bool:
        """Check a password; without a stored hash (no such account) it takes as long and says no."""

        def work() -> bool:
            if stored is None:
                if not self._never:
                    self._never = hash_password("nobody has this password")
                verify_password(self._never, password)
                return False
            return verify_password(stored, password)

        return await self.run(work, known=known)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, known: bool) -> None:
        if not self._busy:
            self._busy = True
            return
        lane = self._lanes[known]
        if len(lane) >= self._limits[known]:
            raise TooManyAttempts(2)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next()  # it was given the turn at the moment it left
            raise

    def _next(self) -> None:
        for lane in (self._lanes[True], self._lanes[False]):
            while lane:
                turn = lane.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._busy = False
