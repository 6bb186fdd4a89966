# SPDX-License-Identifier: GPL-3.0-or-later
"""The one thread that writes: whatever waits shares one transaction, and so one fsync."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sync_server.store.interface import Busy, NoSpace, StoreFailed, SyncError
from sync_server.store.rows import SqliteTransaction

log = logging.getLogger("sync_server.store")

# Enough to make the fsync cheap, few enough that nobody waits long for the others.
_GROUP = 128
# Bytes free from which on a disk that was full is one like any other again.
_ROOMY = 64 * 1024 * 1024


@dataclass(slots=True)
class _Job:
    run: Callable[[SqliteTransaction], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


def database_error(error: sqlite3.Error) -> SyncError:
    """What to tell the caller of an error of SQLite."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return NoSpace("The disk is full: nothing was changed.")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Busy("Another process is writing to the database.")
    return StoreFailed(f"The database failed ({error}): nothing was changed.")


class Writer:
    """Runs jobs in order of arrival. Each has its own savepoint and its own result, given once all are on disk."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        changed: Callable[[dict[int, int]], None],
        free: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._changed = changed
        self._free = free
        self._tight = False
        self.failure: str | None = None
        self.stopping = False
        self.groups = 0
        self.jobs = 0
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="store-writer", daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[SqliteTransaction], Any]) -> Any:
        """Run a job; returns when it is on disk. The job may run twice when the first transaction could not be kept."""
        if self.failure is not None:
            raise StoreFailed(self.failure)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._queue.put(_Job(job, loop, future))
        return await future

    def stop(self) -> None:
        """Finish what waits, then end."""
        self.stopping = True
        self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        going = True
        while going:
            first = self._queue.get()
            if first is None:
                break
            group = [first]
            while len(group) < _GROUP:
                try:
                    job = self._queue.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    going = False
                    break
                group.append(job)
            self._write(group)
            self._deliver(group)

    def _write(self, group: list[_Job]) -> None:
        if self.failure is not None:
            for job in group:
                job.error = StoreFailed(self.failure)
            return
        if self._tight:
            self._fold_log()
        error = self._transaction(group)
        if isinstance(error, NoSpace):
            self._tight = True
            error = self._write_in_little_space(group)
        if error is None:
            return
        for job in group:
            job.error = error
        if isinstance(error, StoreFailed):
            # After a failed fsync nobody knows what is on disk: only a new start reads it again.
            self.failure = error.detail

    def _write_in_little_space(self, group: list[_Job]) -> SyncError | None:
        """Fold the log into the database, which gives its space back, and let each job try alone.

        One that frees space must not fail for the sake of its neighbours.
        """
        self._fold_log()
        for job in group:
            error = self._transaction([job])
            if error is not None and not isinstance(error, NoSpace):
                return error
            if error is not None:
                job.error = error
        return None

    def _fold_log(self) -> None:
        # Left alone the log takes 4 MB before it is folded: more than a full disk has.
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._tight = self._free() < _ROOMY

    def _transaction(self, group: list[_Job]) -> SyncError | None:
        connection = self._connection
        transaction = SqliteTransaction(connection)
        self.groups += 1
        self.jobs += len(group)
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in group:
                job.result, job.error = None, None
                try:
                    with transaction.savepoint():
                        job.result = job.run(transaction)
                except sqlite3.IntegrityError as error:
                    job.error = error
                except sqlite3.Error:
                    raise
                except Exception as error:  # the job's own affair, the others go on
                    job.error = error
            changed = transaction.flush()
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return database_error(error)
        for action in transaction.after_commit:
            try:
                action()
            except Exception:
                # The commit stands, and everybody waits for this thread.
                log.exception("what follows a commit failed")
        if changed:
            self._changed(changed)
        return None

    @staticmethod
    def _deliver(group: list[_Job]) -> None:
        def settle(jobs: list[_Job]) -> None:
            for job in jobs:
                if job.future.done():
                    continue
                if job.error is not None:
                    job.future.set_exception(job.error)
                else:
                    job.future.set_result(job.result)

        loops: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        for job in group:
            loops.setdefault(job.loop, []).append(job)
        for loop, jobs in loops.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, jobs)
