# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded store: SQLite for the rows, a folder for the bytes, one process."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeVar, cast

from sync_protocol.hashing import EMPTY
from sync_protocol.types import MAX_BLOB
from sync_server.store.blobs import BlobFolder, TemporaryBlob, check_blob
from sync_server.store.interface import (
    BlobFile,
    BlobWriter,
    Busy,
    NoSpace,
    QuotaExceeded,
    Reader,
    StoreFailed,
    Transaction,
)
from sync_server.store.migrate import migrate
from sync_server.store.rows import SqliteReader, SqliteTransaction, now_ms
from sync_server.store.writer import Writer

T = TypeVar("T")
Role = Literal["server", "tool"]


@dataclass(frozen=True, slots=True)
class StoreSettings:
    free_floor: int = 512 * 1024 * 1024
    """Bytes that stay free on the disk: uploads end before the database would."""
    quota: int | None = None
    """Bytes of a new account; None: as many as there are."""
    cache_kib: int = 4096
    """Of each of the two connections."""


def connect(
    path: Path, *, cache_kib: int = 2048, read_only: bool = False, any_thread: bool = False
) -> sqlite3.Connection:
    """Open the database the one right way."""
    connection = sqlite3.connect(
        path, timeout=30, isolation_level=None, check_same_thread=not any_thread, cached_statements=256
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    connection.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


class SqliteStore:
    """See store.interface.Store. Belongs to the loop it was opened on."""

    def __init__(self, root: Path, settings: StoreSettings, role: Role) -> None:
        self.root = root
        self.settings = settings
        self.role = role
        self.path = root / "db.sqlite3"
        self.blobs = BlobFolder(root)
        self.parts = root / "uploads"
        self._lock: int | None = None
        self._io = ThreadPoolExecutor(2, thread_name_prefix="store-io")
        self._waiting: dict[int, set[asyncio.Future[None]]] = {}
        self._free = (0.0, 0)
        self._loop = asyncio.get_running_loop()
        self._reader_connection: sqlite3.Connection
        self._reader: SqliteReader
        self._writer: Writer
        self._writer_connection: sqlite3.Connection

    # --- life ---

    @classmethod
    async def open(cls, root: Path, settings: StoreSettings | None = None, role: Role = "server") -> SqliteStore:
        """Open or make the store in a folder.

        One process may serve it; a tool may change accounts beside it but leaves blobs alone. Raises Busy when another
        process serves it, StoreFailed when the database is of a newer program or a migration fails.
        """
        store = cls(root, settings or StoreSettings(), role)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if role == "server":
            store._take_lock()
        try:
            store.blobs.prepare()
            store.parts.mkdir(mode=0o700, exist_ok=True)
            if role == "server":
                store.blobs.clear_temporary()
            connection = connect(store.path, cache_kib=store.settings.cache_kib, any_thread=True)
            store.path.chmod(0o600)
            migrate(connection, root / "backups")
            store._writer_connection = connection
            store._reader_connection = connect(store.path, cache_kib=store.settings.cache_kib, read_only=True)
        except BaseException:
            store._drop_lock()
            raise
        store._reader = SqliteReader(store._reader_connection)
        store._writer = Writer(connection, store._changed, store._free_now)
        return store

    async def close(self) -> None:
        """Finish what was accepted, then close."""
        await self._loop.run_in_executor(self._io, self._writer.stop)
        self._io.shutdown()
        self._reader_connection.close()
        self._writer_connection.close()
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_result(None)
        self._drop_lock()

    def _take_lock(self) -> None:
        lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise Busy(f"Another process serves {self.root} already: stop it first.") from error
        self._lock = lock

    def _drop_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def failed(self) -> str | None:
        """Why nothing can be written any more, if so."""
        return self._writer.failure

    @property
    def written(self) -> tuple[int, int]:
        """Transactions so far, and the jobs in them."""
        return self._writer.groups, self._writer.jobs

    # --- rows ---

    async def read(self, job: Callable[[Reader], T]) -> T:
        """Run a quick job on one consistent view, on the loop: a point read costs less than a change of thread."""
        connection = self._reader_connection
        connection.execute("BEGIN")
        try:
            return job(cast(Reader, self._reader))
        finally:
            connection.execute("COMMIT")

    def glance(self, job: Callable[[Reader], T]) -> T:
        """A read of one statement: it needs no transaction to be one view."""
        return job(cast(Reader, self._reader))

    async def write(self, job: Callable[[Transaction], T]) -> T:
        """Run a job as one transaction; it is on disk when this returns. The job may be run again after a full disk."""
        return cast(T, await self._writer.run(cast("Callable[[SqliteTransaction], T]", job)))

    async def write_rows(self, job: Callable[[SqliteTransaction], T]) -> T:
        """The same for the store's own jobs."""
        return cast(T, await self._writer.run(job))

    def sql(self, statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Read rows of other tables (accounts, devices) on the loop."""
        return self._reader_connection.execute(statement, values).fetchall()

    async def sql_write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Write other tables, in the group commit; the job neither begins nor commits."""
        return cast(T, await self._writer.run(lambda transaction: job(transaction.connection)))

    # --- news ---

    def _changed(self, accounts: dict[int, int]) -> None:
        # From the writer thread, after the commit.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake, accounts)

    def _wake(self, accounts: dict[int, int]) -> None:
        for account in accounts:
            for future in self._waiting.pop(account, ()):
                if not future.done():
                    future.set_result(None)

    async def wait_for_change(self, account: int, after: int, timeout: float) -> bool:
        """Wait for the account's journal to pass a number; False when the seconds are over."""
        deadline = self._loop.time() + timeout
        while not self._writer.stopping:
            # No await between looking and waiting: the news of a later commit comes through the loop.
            rows = self.sql("SELECT seq FROM trees WHERE account = ?", (account,))
            if rows and cast(int, rows[0][0]) > after:
                return True
            left = deadline - self._loop.time()
            if left <= 0:
                return False
            future = self._loop.create_future()
            self._waiting.setdefault(account, set()).add(future)
            try:
                await asyncio.wait_for(future, left)
            except TimeoutError:
                return False
            finally:
                waiting = self._waiting.get(account)
                if waiting is not None:
                    waiting.discard(future)
                    if not waiting:
                        del self._waiting[account]
        return False

    def release_waiting(self) -> None:
        """Answer everybody who waits for news: the server is about to stop."""
        self._writer.stopping = True
        for futures in list(self._waiting.values()):
            for future in futures:
                if not future.done():
                    future.set_result(None)

    # --- space ---

    def free_bytes(self) -> int:
        """Left on the disk for us; at most a second old."""
        now = time.monotonic()
        if now - self._free[0] > 1 or not self._free[0]:
            self._free = (now, self._free_now())
        return self._free[1]

    def _free_now(self) -> int:
        state = os.statvfs(self.root)
        return state.f_bavail * state.f_frsize

    def check_space(self, size: int = 0) -> None:
        """Refuse what would leave less on the disk than the floor; what is let through counts as written."""
        left = self.free_bytes() - size
        if left < self.settings.free_floor:
            raise NoSpace("The server's disk is nearly full: nothing more is accepted until space is made.")
        self._free = (self._free[0], left)

    def check_quota(self, account: int, size: int) -> None:
        """Refuse what the account cannot keep."""
        rows = self.sql("SELECT used, pending, quota FROM trees WHERE account = ?", (account,))
        if not rows:
            quota, used, pending = self.settings.quota, 0, 0
        else:
            used, pending, quota = cast("tuple[int, int, int | None]", rows[0])
        # What is uploaded but in no version may take the quota once more: a replaced file needs room beside the old one
        # until the collection.
        if quota is not None and (used + size > quota or pending + size > quota):
            raise QuotaExceeded(f"The account may keep {quota} bytes, and {used} are used.")

    def cost(self, account: int, blob: str, size: int) -> int:
        """How much more the account keeps with a blob of this size."""
        return 0 if self._reader.holding(account, blob) is not None else size

    # --- blobs ---

    def upload_blob(self, account: int, expected: str | None = None) -> BlobUpload:
        """Begin one blob."""
        self._check_writable()
        self.check_space()
        self.check_quota(account, 0)
        return BlobUpload(self, account, expected, self.blobs.new())

    async def put_blobs(self, account: int, blobs: Sequence[tuple[str, bytes | memoryview]]) -> list[str]:
        """Many small ones at the cost of one: see store.interface.Store."""
        self._check_writable()
        self.check_space(sum(len(data) for _, data in blobs))
        statuses: list[str] = []
        wanted: dict[str, bytes | memoryview] = {}
        total = 0
        for name, data in blobs:
            if len(data) > MAX_BLOB:
                statuses.append("too_large")
            elif sha256(data).hexdigest() != name:
                statuses.append("mismatch")
            else:
                # Sent again, it costs nothing.
                more = 0 if name in wanted else self.cost(account, name, len(data))
                try:
                    self.check_quota(account, total + more)
                except QuotaExceeded:
                    statuses.append("quota")
                    continue
                statuses.append("ok")
                total += more
                if data:
                    wanted[name] = data
        if wanted:
            with self.blobs.pinned(wanted):
                await self._loop.run_in_executor(self._io, self._place_all, wanted)
                await self._hold(account, [(name, len(data)) for name, data in wanted.items()])
        return statuses

    def _place_all(self, blobs: dict[str, bytes | memoryview]) -> None:
        written: list[tuple[str, TemporaryBlob]] = []
        try:
            for name, data in blobs.items():
                temporary = self.blobs.new()
                written.append((name, temporary))
                temporary.write(data)
        except BaseException:
            for _, temporary in written:
                temporary.discard()
            raise
        self.blobs.place(written)

    async def finish_blobs(self, account: int, blobs: Sequence[BlobWriter]) -> list[str]:
        """Make written blobs durable together and the account's: see store.interface.Store."""
        uploads = cast("Sequence[BlobUpload]", blobs)
        try:
            names = [upload.checked() for upload in uploads]
            self._check_writable()
            wanted = {name: upload.temporary for name, upload in zip(names, uploads, strict=True) if name != EMPTY}
            sizes = [(name, temporary.size) for name, temporary in wanted.items()]
            self.check_quota(account, sum(self.cost(account, name, size) for name, size in sizes))
            if wanted:
                with self.blobs.pinned(wanted):
                    await self._loop.run_in_executor(self._io, self.blobs.place, list(wanted.items()))
                    await self._hold(account, sizes)
        finally:
            for upload in uploads:
                upload.abort()
        return names

    async def _hold(self, account: int, blobs: list[tuple[str, int]]) -> None:
        quota = self.settings.quota

        def job(rows: SqliteTransaction) -> None:
            rows.ensure_tree(account, quota)
            now = now_ms()
            tree = rows.tree(account)
            before = tree.pending
            for blob, size in blobs:
                rows.hold(account, blob, size, now)
            # Asked for before too, but several uploads at once may each have fitted alone.
            if tree.quota is not None and tree.pending > tree.quota and tree.pending > before:
                raise QuotaExceeded(f"The account may keep {tree.quota} bytes, and {tree.used} are used.")

        await self.write_rows(job)

    def _check_writable(self) -> None:
        if self._writer.failure is not None:
            raise StoreFailed(self._writer.failure)

    def blob_file(self, blob: str, size: int) -> BlobFile:
        """Where a blob is that the caller may see."""
        return BlobFile(blob, self.blobs.path(blob), size)

    def part_file(self, upload: str) -> Path:
        """Where the part of a resumable upload is that is not a blob yet."""
        return self.parts / upload

    async def in_thread(self, job: Callable[[], T]) -> T:
        """Run something that waits for the disk."""
        return await self._loop.run_in_executor(self._io, job)


class BlobUpload:
    """See store.interface.BlobWriter."""

    def __init__(self, store: SqliteStore, account: int, expected: str | None, temporary: TemporaryBlob) -> None:
        self.temporary = temporary
        self._store = store
        self._account = account
        self._expected = expected

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.temporary.size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; written and hashed at once, so nothing piles up."""
        self._store.check_space(len(data))
        self.temporary.write(data)

    def pause(self) -> None:
        """Let go of the open file: a large file has thousands of blobs."""
        self.temporary.close(sync=False)

    def cost(self) -> int:
        """See store.interface.BlobWriter."""
        return self._store.cost(self._account, self.temporary.hash(), self.size)

    def checked(self) -> str:
        """Its hash; raises Mismatch."""
        blob = self.temporary.hash()
        check_blob(self._expected, blob)
        return blob

    async def finish(self) -> str:
        """Make it durable and the account's."""
        (blob,) = await self._store.finish_blobs(self._account, [self])
        return blob

    def abort(self) -> None:
        """Forget it."""
        self.temporary.discard()


@contextlib.asynccontextmanager
async def opened(
    root: Path, settings: StoreSettings | None = None, role: Role = "server"
) -> AsyncIterator[SqliteStore]:
    """The store for the length of a block."""
    store = await SqliteStore.open(root, settings, role)
    try:
        yield store
    finally:
        await store.close()
