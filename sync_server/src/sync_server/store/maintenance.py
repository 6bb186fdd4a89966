# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to the whole store: collect what nobody needs, and back up; see store.check for what is wrong with it.

`backup` only reads and runs beside a serving process; it has a connection of its own and belongs in a thread. `collect`
belongs to the process that serves.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sync_protocol.hashing import EMPTY
from sync_server.store.blobs import BlobFolder, disk_error, fsync_folder, sync_file_system
from sync_server.store.interface import Busy, Invalid
from sync_server.store.rows import SqliteTransaction, now_ms
from sync_server.store.sqlite import SqliteStore, connect

DAY = 24 * 3600 * 1000
# Beyond what any client can have been told by the time a backup is restored: no number is given out twice.
LEAP = 1_000_000


@dataclass(slots=True)
class CollectReport:
    removed: int = 0
    bytes: int = 0
    orphans: int = 0


@dataclass(frozen=True, slots=True)
class BackupReport:
    path: Path
    blobs: int
    copied: int
    bytes: int


def held(connection: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """Every blob once, in pages: a long statement would keep the log from being cut."""
    last = b""
    while rows := connection.execute(
        "SELECT hash, max(size) FROM holdings WHERE hash > ? GROUP BY hash ORDER BY hash LIMIT 500", (last,)
    ).fetchall():
        for blob, size in rows:
            yield blob.hex(), size
        last = rows[-1][0]


# --- collection ------------------------------------------------------------------------------------------------------


async def collect(store: SqliteStore, min_age: int = DAY) -> CollectReport:
    """Remove blobs nothing refers to since a day, and files a crash left without a row.

    Safe beside uploads and commits: rows go first, in the order of all writes; a file goes only in the writer's thread
    right after, and never while somebody is bringing the same bytes in. Raises Busy during a backup.
    """
    only_serving(store)
    report = CollectReport()
    with _backup_lock(store.root, shared=False):
        before = now_ms() - min_age
        await store.write_rows(lambda rows: rows.touch_uploads(now_ms()))
        while await store.write_rows(lambda rows: _drop(store, rows, before, report)):
            pass
        for prefix in range(256):
            orphans = await store.in_thread(lambda part=prefix: _orphans(store, part, before))  # type: ignore[misc]
            if orphans:
                await store.write_rows(lambda rows, found=orphans: _sweep(store, rows, found, report))  # type: ignore[misc]
    return report


def _drop(store: SqliteStore, rows: SqliteTransaction, before: int, report: CollectReport) -> bool:
    dropped = rows.drop_idle(before, 200)

    def remove() -> None:
        for blob in dropped:
            freed = store.blobs.remove(blob)
            if freed is not None:
                report.removed += 1
                report.bytes += freed

    rows.after_commit.append(remove)
    return len(dropped) > 0


def _orphans(store: SqliteStore, prefix: int, before: int) -> list[str]:
    names = [name for name, mtime in store.blobs.names(prefix) if mtime * 1000 < before]
    if not names:
        return []
    with contextlib.closing(connect(store.path, read_only=True, any_thread=True)) as connection:
        low = bytes([prefix])
        rows = connection.execute(
            "SELECT hash FROM holdings WHERE hash >= ? AND hash < ?",
            (low, bytes([prefix + 1]) if prefix < 255 else b"\xff" * 33),
        )
        held = {row[0].hex() for row in rows}
    return [name for name in names if name not in held and name != EMPTY]


def _sweep(store: SqliteStore, rows: SqliteTransaction, names: list[str], report: CollectReport) -> None:
    found = [name for name in names if len(name) != 64 or not rows.held_by_anyone(name)]

    def remove() -> None:
        for name in found:
            freed = store.blobs.remove(name)
            if freed is not None:
                report.orphans += 1
                report.bytes += freed

    rows.after_commit.append(remove)


def only_serving(store: SqliteStore) -> None:
    """Raise Busy unless this is the process that serves the store."""
    if store.role != "server":
        raise Busy("Only the process that serves the store may do this: stop the server, or ask it to.")


@contextlib.contextmanager
def _backup_lock(root: Path, *, shared: bool) -> Iterator[None]:
    """A backup copies blobs its rows name; until it is done none may be collected."""
    lock = os.open(root / "backup.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.geteuid() == 0:
            # A file of root's would keep the server from collecting ever after.
            owner = root.stat()
            os.fchown(lock, owner.st_uid, owner.st_gid)
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what = "Blobs are being collected: try again in a minute." if shared else "A backup is being made."
            raise Busy(what) from error
        yield
    finally:
        os.close(lock)


# --- backup ----------------------------------------------------------------------------------------------------------


def backup(root: Path, destination: Path) -> BackupReport:
    """Copy the store to a folder while it is served; a folder with an older backup gets only what is new.

    The rows first, in one consistent copy, then every blob they name. The copy is a store: to restore, copy it back to
    the data folder and start the server. It has another generation and higher numbers, so clients notice that time
    went back and compare everything anew. Hard links are used where the destination is on the same file system.
    """
    if root.resolve() == destination.resolve() or root.resolve() in destination.resolve().parents:
        raise Invalid("A backup inside the store would contain itself: choose another folder.")
    destination.mkdir(mode=0o700, parents=True, exist_ok=True)
    source, target = BlobFolder(root), BlobFolder(destination)
    rows = destination / "db.sqlite3.new"
    blobs = copied = size = 0
    incomplete = destination / "incomplete"
    # What an interrupted backup left may have the right length and the wrong bytes.
    distrust = incomplete.exists()
    try:
        incomplete.touch(mode=0o600)
        fsync_folder(destination)
        with _backup_lock(root, shared=True):
            rows.unlink(missing_ok=True)
            with contextlib.closing(connect(root / "db.sqlite3", read_only=False, any_thread=True)) as connection:
                connection.execute("VACUUM INTO ?", (str(rows),))
            target.prepare()
            with contextlib.closing(sqlite3.connect(rows, isolation_level=None)) as copy:
                copy.execute("BEGIN")
                for (account,) in copy.execute("SELECT account FROM trees").fetchall():
                    copy.execute(
                        "UPDATE trees SET generation = ?, seq = seq + ?, next_node = next_node + ? WHERE account = ?",
                        (secrets.token_hex(4), LEAP, LEAP, account),
                    )
                # Unfinished uploads have part files that are not copied.
                copy.execute("DELETE FROM uploads")
                copy.execute("COMMIT")
                for blob, length in held(copy):
                    blobs += 1
                    size += length
                    if distrust and target.verify(blob, length) is not None:
                        target.path(blob).unlink(missing_ok=True)
                    copied += _copy(source.path(blob), target.path(blob), length)
        sync_file_system(destination)
        with rows.open("rb+") as file:
            os.fsync(file.fileno())
        for leftover in ("db.sqlite3-wal", "db.sqlite3-shm"):
            (destination / leftover).unlink(missing_ok=True)
        rows.replace(destination / "db.sqlite3")
        fsync_folder(destination)
        incomplete.unlink()
    except OSError as error:
        raise disk_error(error, "the backup") from error
    return BackupReport(destination, blobs, copied, size)


def _copy(source: Path, target: Path, size: int) -> int:
    with contextlib.suppress(FileNotFoundError):
        if target.stat().st_size == size:
            return 0
    temporary = target.with_name(target.name + ".new")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except FileNotFoundError:
        # Damaged already: `check` tells of it here and there.
        return 0
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)
    return 1
