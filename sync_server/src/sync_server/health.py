"""Whether the server can do its work: write, with room left, on contents that were verified."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from sync_server.store.interface import NoSpace

if TYPE_CHECKING:
    from sync_server.store.sqlite import SqliteStore

LAST_CHECK = "last-check.json"
_VALID_SECONDS = 10


class LastCheck(Struct, frozen=True):
    """What `sync-server check` found, kept beside the data."""

    time: int
    ok: bool
    blobs: int


class Health(Struct, frozen=True):
    """`status` is ok, or what is wrong: read-only, disk-full."""

    status: str
    version: str
    writable: bool
    space: bool
    last_check: int | None
    """Milliseconds since 1970; None: never."""
    last_check_ok: bool | None


def read_last_check(root: Path) -> LastCheck | None:
    """The result of the last check, None when there was none."""
    try:
        return msgspec.json.decode((root / LAST_CHECK).read_bytes(), type=LastCheck)
    except (OSError, msgspec.DecodeError):
        return None


def write_last_check(root: Path, result: LastCheck) -> None:
    """Keep the result of a check."""
    temporary = root / f".{LAST_CHECK}.{os.getpid()}"
    temporary.write_bytes(msgspec.json.encode(result))
    temporary.rename(root / LAST_CHECK)


class Prober:
    """Looks after the disk, at most every ten seconds however often it is asked."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._until = 0.0
        self._writable = True
        self._lock = asyncio.Lock()

    async def look(self, version: str) -> Health:
        """The state now, or up to ten seconds ago."""
        async with self._lock:
            now = time.monotonic()
            if now >= self._until:
                self._writable = await asyncio.to_thread(self._can_write)
                self._until = now + _VALID_SECONDS
        space = True
        try:
            self._store.check_space()
        except NoSpace:
            space = False
        writable = self._writable and self._store.failed is None
        checked = read_last_check(self._store.root)
        return Health(
            status="ok" if writable and space else "read-only" if not writable else "disk-full",
            version=version,
            writable=writable,
            space=space,
            last_check=checked.time if checked else None,
            last_check_ok=checked.ok if checked else None,
        )

    def _can_write(self) -> bool:
        probe = self._store.root / "tmp" / ".health"
        try:
            handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(handle, b"1")
                os.fsync(handle)
            finally:
                os.close(handle)
            probe.unlink()
        except OSError:
            return False
        return True
