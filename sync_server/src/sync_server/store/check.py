# SPDX-License-Identifier: GPL-3.0-or-later
"""Is everything there that should be, and what to do if not. Memory does not grow with the store: what is to be sorted
and joined is in a file that SQLite removes by itself.

`check` only reads and runs beside a serving process; `repair` belongs to the process that serves.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from sync_server.store.blobs import BlobFolder
from sync_server.store.maintenance import held, only_serving
from sync_server.store.rows import SqliteTransaction, now_ms
from sync_server.store.sqlite import SqliteStore, connect

# Of one kind: the first few say what it is, and a million of them are no news.
_SENTENCES = 20

_TABLES = """
    CREATE TABLE scratch.refs (hash BLOB, account INTEGER, n INTEGER);
    CREATE TABLE scratch.counted (hash BLOB, account INTEGER, n INTEGER, PRIMARY KEY (hash, account)) WITHOUT ROWID;
    CREATE TABLE scratch.wrong (hash BLOB, account INTEGER, refs INTEGER, expected INTEGER);
    CREATE TABLE scratch.listed (
        content BLOB, account INTEGER, n INTEGER, PRIMARY KEY (content, account)
    ) WITHOUT ROWID;
    CREATE TABLE scratch.wrong_lists (content BLOB, account INTEGER, refs INTEGER, expected INTEGER);
    CREATE TABLE scratch.damaged (hash BLOB PRIMARY KEY, problem TEXT) WITHOUT ROWID;
    CREATE TABLE scratch.affected (content BLOB, hash BLOB, PRIMARY KEY (content, hash)) WITHOUT ROWID;
    CREATE TABLE scratch.users (
        hash BLOB, account INTEGER, node INTEGER, revision INTEGER, PRIMARY KEY (hash, account, node, revision)
    ) WITHOUT ROWID;
"""


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
    damaged: int = 0
    database: list[str] = field(default_factory=list)
    """What is wrong with the rows, one sentence each."""

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        return not self.damaged and not self.database


@dataclass(slots=True)
class RepairReport:
    quarantined: int = 0
    recounted: int = 0


def check(root: Path, tell: Callable[[Damage], object] | None = None, *, quick: bool = False) -> CheckReport:
    """Read every blob again and count the rows again; `quick` only looks whether the files are there.

    `tell` is called for each damaged blob. Blobs that come or go meanwhile are not taken for damage.
    """
    with _examined(root, quick=quick) as (connection, report):
        if tell is not None:
            for damage in _damages(connection):
                tell(damage)
    return report


async def repair(store: SqliteStore, tell: Callable[[Damage], object] | None = None) -> RepairReport:
    """Put damaged blobs aside, so that a client that still has the bytes sends them again, and count again.

    Nothing of a file's history is removed: a version whose bytes are gone answers that they are, and is whole again as
    soon as any device uploads the same bytes.
    """
    only_serving(store)
    with contextlib.ExitStack() as stack:
        connection, found = await store.in_thread(lambda: stack.enter_context(_examined(store.root)))
        (recounted,) = connection.execute("SELECT count(*) FROM scratch.wrong").fetchone()
        await store.write_rows(lambda rows: _correct(rows, connection))

        def put_aside() -> None:
            for damage in _damages(connection):
                if damage.problem != "missing":
                    store.blobs.put_aside(damage.blob)
                if tell is not None:
                    tell(damage)

        await store.in_thread(put_aside)
    return RepairReport(found.damaged, recounted)


def _correct(rows: SqliteTransaction, found: sqlite3.Connection) -> None:
    connection = rows.connection
    # The row of a damaged blob stays, for its count: only the next upload of the same bytes makes it there again.
    connection.executemany(
        "UPDATE holdings SET damaged = 1 WHERE hash = ?", found.execute("SELECT hash FROM scratch.damaged")
    )
    now = now_ms()
    connection.executemany(
        "UPDATE holdings SET refs = ?, touched = ? WHERE hash = ? AND account = ?",
        (
            (expected, now, *key)
            for expected, *key in found.execute("SELECT expected, hash, account FROM scratch.wrong")
        ),
    )
    connection.executemany(
        "UPDATE lists SET refs = ? WHERE content = ? AND account = ?",
        found.execute("SELECT expected, content, account FROM scratch.wrong_lists"),
    )
    for (account,) in connection.execute("SELECT account FROM trees").fetchall():
        tree = rows.tree(account)
        tree.used, tree.pending = connection.execute(
            "SELECT coalesce(sum(size) FILTER (WHERE refs > 0), 0), coalesce(sum(size) FILTER (WHERE refs = 0), 0)"
            " FROM holdings WHERE account = ?",
            (account,),
        ).fetchone()


@contextlib.contextmanager
def _examined(root: Path, *, quick: bool = False) -> Iterator[tuple[sqlite3.Connection, CheckReport]]:
    """The report, and a connection with what was found in its tables `scratch`."""
    folder = BlobFolder(root)
    report = CheckReport()
    with contextlib.closing(connect(root / "db.sqlite3", any_thread=True)) as connection, _sorting_in(root, connection):
        connection.execute("ATTACH '' AS scratch")
        connection.execute("PRAGMA scratch.journal_mode = OFF")
        connection.execute("PRAGMA scratch.cache_size = -4096")
        connection.executescript(_TABLES)
        report.database += [
            f"SQLite: {row[0]}" for row in connection.execute("PRAGMA main.integrity_check(20)") if row[0] != "ok"
        ]
        report.database += _some(
            f"Row {row[1]} of {row[0]} refers to nothing in {row[2]}."
            for row in connection.execute("PRAGMA main.foreign_key_check")
        )
        report.database += _count_again(connection)
        for blob, size in held(connection):
            problem = _look(folder, blob, size) if quick else folder.verify(blob, size)
            if problem is not None and _still_held(connection, blob):
                connection.execute("INSERT INTO scratch.damaged VALUES (?, ?)", (bytes.fromhex(blob), problem))
                report.damaged += 1
            report.blobs += 1
            report.bytes += size
        if report.damaged:
            _find_users(connection)
        yield connection, report


@contextlib.contextmanager
def _sorting_in(root: Path, connection: sqlite3.Connection) -> Iterator[None]:
    """Let SQLite sort in the data folder: /tmp may be the memory that it is to spare."""
    folder = str(BlobFolder(root).temporary).replace("'", "''")
    connection.execute(f"PRAGMA temp_store_directory = '{folder}'")
    try:
        yield
    finally:
        connection.execute("PRAGMA temp_store_directory = ''")


def _some(found: Iterable[str]) -> list[str]:
    rest = iter(found)
    sentences = list(islice(rest, _SENTENCES))
    if more := sum(1 for _ in rest):
        sentences.append(f"And {more} more like this.")
    return sentences


def _look(folder: BlobFolder, blob: str, size: int) -> str | None:
    try:
        actual = folder.path(blob).stat().st_size
    except FileNotFoundError:
        return "missing"
    return None if actual == size else f"has {actual} bytes instead of {size}"


def _still_held(connection: sqlite3.Connection, blob: str) -> bool:
    row = connection.execute("SELECT 1 FROM holdings WHERE hash = ?", (bytes.fromhex(blob),)).fetchone()
    return row is not None


def _blobs_of_lists(connection: sqlite3.Connection) -> Iterator[tuple[bytes, int, bytes]]:
    """Each blob of each list once, with the account and the content."""
    for account, content, packed in connection.execute("SELECT account, content, blobs FROM lists"):
        for blob in {packed[at : at + 32] for at in range(0, len(packed), 32)}:
            yield blob, account, content


def _find_users(connection: sqlite3.Connection) -> None:
    """Which versions have a damaged blob: all of them in one pass."""
    connection.execute("INSERT INTO scratch.affected SELECT hash, hash FROM scratch.damaged")
    connection.executemany(
        "INSERT OR IGNORE INTO scratch.affected SELECT ?, hash FROM scratch.damaged WHERE hash = ?",
        ((content, blob) for blob, _, content in _blobs_of_lists(connection)),
    )
    connection.execute(
        "INSERT INTO scratch.users SELECT f.hash, v.account, v.node, v.revision FROM versions v"
        " CROSS JOIN scratch.affected f ON f.content = v.content"
    )


def _damages(connection: sqlite3.Connection) -> Iterator[Damage]:
    for blob, problem in connection.execute("SELECT hash, problem FROM scratch.damaged ORDER BY hash"):
        yield Damage(blob.hex(), problem, tuple(_users_of(connection, blob)))


def _users_of(connection: sqlite3.Connection, blob: bytes) -> Iterator[str]:
    rows = connection.execute(
        "SELECT a.name, u.account, u.node, u.revision, n.content_rev FROM scratch.users u"
        " JOIN nodes n ON n.account = u.account AND n.id = u.node JOIN accounts a ON a.id = u.account WHERE u.hash = ?",
        (blob,),
    )
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


def _count_again(connection: sqlite3.Connection) -> list[str]:
    """One consistent view: a commit between two statements would look like damage."""
    found: list[str] = []
    connection.execute("BEGIN")
    try:
        connection.execute("INSERT INTO scratch.refs SELECT content, account, 1 FROM versions WHERE parts = 1")
        connection.executemany(
            "INSERT INTO scratch.refs VALUES (?, ?, 1)",
            ((blob, account) for blob, account, _ in _blobs_of_lists(connection)),
        )
        connection.execute(
            "INSERT INTO scratch.counted SELECT hash, account, sum(n) FROM scratch.refs GROUP BY hash, account"
        )
        connection.execute(
            "INSERT INTO scratch.wrong SELECT h.hash, h.account, h.refs, coalesce(c.n, 0) FROM holdings h"
            " LEFT JOIN scratch.counted c ON c.hash = h.hash AND c.account = h.account WHERE h.refs <> coalesce(c.n, 0)"
        )
        found += _some(
            f"Blob {blob.hex()} of account {account} is counted {refs} times instead of {expected}."
            for blob, account, refs, expected in connection.execute("SELECT * FROM scratch.wrong")
        )
        found += _some(
            f"Blob {blob.hex()} is used by account {account} and not kept."
            for blob, account in connection.execute(
                "SELECT c.hash, c.account FROM scratch.counted c"
                " LEFT JOIN holdings h ON h.hash = c.hash AND h.account = c.account WHERE h.hash IS NULL"
            )
        )
        connection.execute(
            "INSERT INTO scratch.listed SELECT content, account, count(*) FROM versions WHERE parts > 1"
            " GROUP BY content, account"
        )
        connection.execute(
            "INSERT INTO scratch.wrong_lists SELECT l.content, l.account, l.refs, coalesce(c.n, 0) FROM lists l"
            " LEFT JOIN scratch.listed c ON c.content = l.content AND c.account = l.account"
            " WHERE l.refs <> coalesce(c.n, 0)"
        )
        found += _some(
            f"List {content.hex()} of account {account} is counted {refs} times instead of {expected}."
            for content, account, refs, expected in connection.execute("SELECT * FROM scratch.wrong_lists")
        )
        found += _some(
            f"Account {account} is said to use {used} + {pending} bytes instead of {u} + {p}."
            for account, used, pending, u, p in connection.execute(
                "SELECT t.account, t.used, t.pending,"
                " coalesce((SELECT sum(size) FROM holdings h WHERE h.account = t.account AND refs > 0), 0) AS u,"
                " coalesce((SELECT sum(size) FROM holdings h WHERE h.account = t.account AND refs = 0), 0) AS p"
                " FROM trees t WHERE t.used <> u OR t.pending <> p"
            )
        )
        found += _some(
            f"Node {node} of account {account} has no version for its content."
            for account, node in connection.execute(
                "SELECT n.account, n.id FROM nodes n WHERE n.kind = 0 AND NOT EXISTS (SELECT 1 FROM versions v"
                " WHERE v.account = n.account AND v.node = n.id AND v.revision = n.content_rev)"
            )
        )
        found += _some(
            f"Node {node} of account {account} is in no folder."
            for account, node in connection.execute(
                "SELECT n.account, n.id FROM nodes n WHERE n.parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM nodes p"
                " WHERE p.account = n.account AND p.id = n.parent AND p.kind = 1)"
            )
        )
    finally:
        connection.execute("COMMIT")
    return found
