# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to the whole store: collect what nobody needs, check, repair, back up.

`check` and `backup` only read and run beside a serving process; they have a connection of their own and belong in a
thread. `collect` and `repair` belong to the process that serves.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sync_protocol.hashing import EMPTY
from sync_server.store.blobs import BlobFolder, disk_error, fsync_folder, sync_file_system
from sync_server.store.interface import Busy, Invalid
from sync_server.store.rows import SqliteTransaction, now_ms
from sync_server.store.sqlite import SqliteStore, connect

DAY = 24 * 3600 * 1000
# Beyond what any client can have been told by the time a backup is restored: no number is given out twice.
LEAP = 1_000_000


@dataclass(frozen=True, slots=True)
class Damage:
    """A blob that is not what it should be, and whose files need it."""

    blob: str
    problem: str
    files: tuple[str, ...]
    """account:path, and the revision of an old version."""


@dataclass(slots=True)
class CheckReport:
    blobs: int = 0
    bytes: int = 0
    damaged: list[Damage] = field(default_factory=list)
    database: list[str] = field(default_factory=list)
    """What is wrong with the rows, one sentence each."""

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        return not self.damaged and not self.database


@dataclass(slots=True)
class RepairReport:
    quarantined: list[Damage] = field(default_factory=list)
    recounted: int = 0


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


# --- check, repair ---------------------------------------------------------------------------------------------------


def check(root: Path, progress: Callable[[int, int], None] | None = None, *, quick: bool = False) -> CheckReport:
    """Read every referenced blob again and count the rows again; `quick` only looks whether the files are there.

    `progress` is told blobs done and all. Blobs that come or go meanwhile are not taken for damage.
    """
    folder = BlobFolder(root)
    report = CheckReport()
    with contextlib.closing(connect(root / "db.sqlite3", read_only=True, any_thread=True)) as connection:
        report.database += [
            f"SQLite: {row[0]}" for row in connection.execute("PRAGMA integrity_check(20)") if row[0] != "ok"
        ]
        report.database += [
            f"Row {row[1]} of {row[0]} refers to nothing in {row[2]}."
            for row in connection.execute("PRAGMA foreign_key_check")
        ]
        report.database += _count_again(connection)
        (total,) = connection.execute("SELECT count(DISTINCT hash) FROM holdings").fetchone()
        for blob, size in _held(connection):
            problem = _look(folder, blob, size) if quick else folder.verify(blob, size)
            if problem is not None and _still_held(connection, blob):
                report.damaged.append(Damage(blob, problem, tuple(_users_of(connection, blob))))
            report.blobs += 1
            report.bytes += size
            if progress is not None and report.blobs % 100 == 0:
                progress(report.blobs, total)
    return report


def _look(folder: BlobFolder, blob: str, size: int) -> str | None:
    try:
        actual = folder.path(blob).stat().st_size
    except FileNotFoundError:
        return "missing"
    return None if actual == size else f"has {actual} bytes instead of {size}"


def _held(connection: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """Every blob once, in pages: a long statement would keep the log from being cut."""
    last = b""
    while rows := connection.execute(
        "SELECT hash, max(size) FROM holdings WHERE hash > ? GROUP BY hash ORDER BY hash LIMIT 500", (last,)
    ).fetchall():
        for blob, size in rows:
            yield blob.hex(), size
        last = rows[-1][0]


def _still_held(connection: sqlite3.Connection, blob: str) -> bool:
    row = connection.execute("SELECT 1 FROM holdings WHERE hash = ?", (bytes.fromhex(blob),)).fetchone()
    return row is not None


def _users_of(connection: sqlite3.Connection, blob: str) -> Iterator[str]:
    key = bytes.fromhex(blob)
    contents = {key}
    for content, packed in connection.execute("SELECT content, blobs FROM lists"):
        if key in {packed[at : at + 32] for at in range(0, len(packed), 32)}:
            contents.add(content)
    for content in contents:
        rows = connection.execute(
            "SELECT a.name, v.account, v.node, v.revision, n.content_rev FROM versions v"
            " JOIN nodes n ON n.account = v.account AND n.id = v.node JOIN accounts a ON a.id = v.account"
            " WHERE v.content = ?",
            (content,),
        ).fetchall()
        for name, account, node, revision, current in rows:
            path = _path(connection, account, node)
            yield f"{name}:{path}" if revision == current else f"{name}:{path} (revision {revision})"


def _path(connection: sqlite3.Connection, account: int, node: int | None) -> str:
    names: list[str] = []
    while node:
        name, node = connection.execute(
            "SELECT name, parent FROM nodes WHERE account = ? AND id = ?", (account, node)
        ).fetchone() or ("?", None)
        names.append(name)
    return "/".join(reversed(names))


def _references(connection: sqlite3.Connection) -> dict[tuple[int, bytes], int]:
    counts: dict[tuple[int, bytes], int] = {}
    for account, content, number in connection.execute(
        "SELECT account, content, count(*) FROM versions WHERE parts = 1 GROUP BY account, content"
    ):
        counts[account, content] = number
    for account, packed in connection.execute("SELECT account, blobs FROM lists"):
        for blob in {packed[at : at + 32] for at in range(0, len(packed), 32)}:
            counts[account, blob] = counts.get((account, blob), 0) + 1
    return counts


def _count_again(connection: sqlite3.Connection) -> list[str]:
    """One consistent view: a commit between two statements would look like damage."""
    found = []
    connection.execute("BEGIN")
    try:
        counts = _references(connection)
        for account, blob, refs in connection.execute("SELECT account, hash, refs FROM holdings"):
            expected = counts.pop((account, blob), 0)
            if refs != expected:
                found.append(f"Blob {blob.hex()} of account {account} is counted {refs} times instead of {expected}.")
        found += [f"Blob {blob.hex()} is used by account {account} and not kept." for account, blob in counts]
        for account, content, refs, expected in connection.execute(
            "SELECT l.account, l.content, l.refs, (SELECT count(*) FROM versions v WHERE v.account = l.account"
            " AND v.content = l.content AND v.parts > 1) AS expected FROM lists l WHERE l.refs <> expected"
        ):
            found.append(f"List {content.hex()} of account {account} is counted {refs} times instead of {expected}.")
        for account, used, pending, u, p in connection.execute(
            "SELECT t.account, t.used, t.pending,"
            " coalesce((SELECT sum(size) FROM holdings h WHERE h.account = t.account AND refs > 0), 0) AS u,"
            " coalesce((SELECT sum(size) FROM holdings h WHERE h.account = t.account AND refs = 0), 0) AS p"
            " FROM trees t WHERE t.used <> u OR t.pending <> p"
        ):
            found.append(f"Account {account} is said to use {used} + {pending} bytes instead of {u} + {p}.")
        for account, node in connection.execute(
            "SELECT n.account, n.id FROM nodes n WHERE n.kind = 0 AND NOT EXISTS (SELECT 1 FROM versions v"
            " WHERE v.account = n.account AND v.node = n.id AND v.revision = n.content_rev)"
        ):
            found.append(f"Node {node} of account {account} has no version for its content.")
        for account, node in connection.execute(
            "SELECT n.account, n.id FROM nodes n WHERE n.parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM nodes p"
            " WHERE p.account = n.account AND p.id = n.parent AND p.kind = 1)"
        ):
            found.append(f"Node {node} of account {account} is in no folder.")
    finally:
        connection.execute("COMMIT")
    return found


async def repair(store: SqliteStore, progress: Callable[[int, int], None] | None = None) -> RepairReport:
    """Put damaged blobs aside, so that a client that still has the bytes sends them again, and count again.

    Nothing of a file's history is removed: a version whose bytes are gone answers that they are, and is whole again as
    soon as any device uploads the same bytes.
    """
    _serving(store)
    found = await store.in_thread(lambda: check(store.root, progress))
    report = RepairReport()

    def job(rows: SqliteTransaction) -> int:
        changed = 0
        connection = rows.connection
        for damage in found.damaged:
            # The row stays, for its count: only the next upload of the same bytes makes the blob there again.
            connection.execute("UPDATE holdings SET damaged = 1 WHERE hash = ?", (bytes.fromhex(damage.blob),))
        counts = _references(connection)
        for account, blob, refs in connection.execute("SELECT account, hash, refs FROM holdings").fetchall():
            expected = counts.get((account, blob), 0)
            if refs != expected:
                connection.execute(
                    "UPDATE holdings SET refs = ?, touched = ? WHERE hash = ? AND account = ?",
                    (expected, now_ms(), blob, account),
                )
                changed += 1
        connection.execute(
            "UPDATE lists SET refs = (SELECT count(*) FROM versions v WHERE v.account = lists.account"
            " AND v.content = lists.content AND v.parts > 1)"
        )
        for (account,) in connection.execute("SELECT account FROM trees").fetchall():
            tree = rows.tree(account)
            tree.used, tree.pending = connection.execute(
                "SELECT coalesce(sum(size) FILTER (WHERE refs > 0), 0), coalesce(sum(size) FILTER (WHERE refs = 0), 0)"
                " FROM holdings WHERE account = ?",
                (account,),
            ).fetchone()
        return changed

    report.recounted = await store.write_rows(job)
    for damage in found.damaged:
        if damage.problem != "missing":
            await store.in_thread(lambda blob=damage.blob: store.blobs.put_aside(blob))  # type: ignore[misc]
        report.quarantined.append(damage)
    return report


# --- collection ------------------------------------------------------------------------------------------------------


async def collect(store: SqliteStore, min_age: int = DAY) -> CollectReport:
    """Remove blobs nothing refers to since a day, and files a crash left without a row.

    Safe beside uploads and commits: rows go first, in the order of all writes; a file goes only in the writer's thread
    right after, and never while somebody is bringing the same bytes in. Raises Busy during a backup.
    """
    _serving(store)
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


def _serving(store: SqliteStore) -> None:
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
                for blob, length in _held(copy):
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
