# SPDX-License-Identifier: GPL-3.0-or-later
"""The three trees of a synced folder, and the queue of what was sent, in one SQLite file.

Every row of `entry` is one object (file or folder) seen from three sides:

- *local* (`l_`): what the last scan saw in the folder;
- *synced* (`s_`): what this device and the server last agreed upon;
- *remote* (`r_`): what the server's journal said last. It judges content and place apart, so each has the revision up
  to which it is known: a rename of ours gives a new one for the place, and says nothing of a content we have not seen.

A side without a name says that the object does not exist there. Decisions compare sides field by field, never by time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync_protocol.names import name_key

ROOT = 1
"""The row of the folder itself; its node at the server is `root`."""

FILE, DIR = "file", "folder"

LINK = 2
"""What `exec` says of a file: 0 and 1 whether it is a program, 2 that it is a symlink and its text the content."""

SCHEMA_VERSION = 2

_SCHEMA = """
CREATE TABLE setting(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entry(
  id INTEGER PRIMARY KEY,
  node TEXT UNIQUE,
  l_parent INTEGER, l_name TEXT, l_kind TEXT, l_hash TEXT, l_size INTEGER, l_mtime INTEGER, l_exec INTEGER,
  l_dev INTEGER, l_ino INTEGER, l_ctime INTEGER, l_seen INTEGER, l_blobs BLOB,
  s_parent INTEGER, s_name TEXT, s_kind TEXT, s_hash TEXT, s_exec INTEGER, s_rev INTEGER,
  r_parent INTEGER, r_name TEXT, r_key TEXT, r_kind TEXT, r_hash TEXT, r_size INTEGER, r_mtime INTEGER, r_exec INTEGER,
  r_rev INTEGER, r_content_rev INTEGER, r_place_rev INTEGER, r_blobs BLOB,
  problem TEXT,
  problem_for TEXT,
  dirty INTEGER GENERATED ALWAYS AS (
    l_parent IS NOT s_parent OR l_name IS NOT s_name OR l_kind IS NOT s_kind OR l_hash IS NOT s_hash
    OR l_exec IS NOT s_exec OR r_parent IS NOT s_parent OR r_name IS NOT s_name OR r_kind IS NOT s_kind
    OR r_hash IS NOT s_hash OR r_exec IS NOT s_exec) VIRTUAL
);
CREATE INDEX entry_dirty ON entry(id) WHERE dirty;
CREATE INDEX entry_local ON entry(l_parent, l_name);
CREATE INDEX entry_inode ON entry(l_ino) WHERE l_ino IS NOT NULL;
CREATE INDEX entry_synced ON entry(s_parent, s_name) WHERE s_name IS NOT NULL;
CREATE INDEX entry_remote ON entry(r_parent, r_key) WHERE r_name IS NOT NULL;
CREATE INDEX entry_problem ON entry(id) WHERE problem IS NOT NULL;
CREATE TABLE op(
  seq INTEGER PRIMARY KEY,
  op_id TEXT NOT NULL UNIQUE,
  request BLOB NOT NULL,
  sent BLOB NOT NULL
);
CREATE TABLE problem(path TEXT PRIMARY KEY, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE event(
  id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, path TEXT NOT NULL, detail TEXT NOT NULL
);
"""


@dataclass(slots=True)
class Entry:
    """One row of the three trees."""

    id: int
    node: str | None
    l_parent: int | None
    l_name: str | None
    l_kind: str | None
    l_hash: str | None
    l_size: int | None
    l_mtime: int | None
    l_exec: int | None
    l_dev: int | None
    l_ino: int | None
    l_ctime: int | None
    l_seen: int | None
    l_blobs: bytes | None
    s_parent: int | None
    s_name: str | None
    s_kind: str | None
    s_hash: str | None
    s_exec: int | None
    s_rev: int | None
    r_parent: int | None
    r_name: str | None
    r_key: str | None
    r_kind: str | None
    r_hash: str | None
    r_size: int | None
    r_mtime: int | None
    r_exec: int | None
    r_rev: int | None
    r_content_rev: int | None
    r_place_rev: int | None
    r_blobs: bytes | None
    problem: str | None
    problem_for: str | None

    @property
    def local(self) -> bool:
        return self.l_name is not None

    @property
    def synced(self) -> bool:
        return self.s_name is not None

    @property
    def remote(self) -> bool:
        return self.r_name is not None

    @property
    def kind(self) -> str:
        return self.l_kind or self.s_kind or self.r_kind or FILE

    @property
    def l_place(self) -> tuple[int | None, str | None]:
        return (self.l_parent, self.l_name)

    @property
    def s_place(self) -> tuple[int | None, str | None]:
        return (self.s_parent, self.s_name)

    @property
    def r_place(self) -> tuple[int | None, str | None]:
        return (self.r_parent, self.r_name)

    @property
    def l_content(self) -> tuple[str | None, int | None]:
        return (self.l_hash, self.l_exec)

    @property
    def s_content(self) -> tuple[str | None, int | None]:
        return (self.s_hash, self.s_exec)

    @property
    def r_content(self) -> tuple[str | None, int | None]:
        return (self.r_hash, self.r_exec)

    @property
    def fingerprint(self) -> str:
        """What a problem was about: it is tried again as soon as one of the sides changes."""
        return repr((self.l_place, self.l_content, self.r_place, self.r_content, self.s_place, self.s_content))


_SELECT = f"SELECT {', '.join(Entry.__slots__)} FROM entry "


class Trees:
    """The state of one synced folder. One thread at a time."""

    def __init__(self, path: Path | str) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self.db.execute("PRAGMA journal_mode=WAL")
        # After a power cut the last changes may be missing, never a part of one: the folder and the server tell them
        # again. Only the queue must be on disk before an operation is sent; see `queue`.
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.execute("PRAGMA cache_size=-2048")
        self._depth = 0
        self._folders: dict[tuple[str, int], str] = {}
        self.on_event: Callable[[str, str, str], None] | None = None
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            with self.change():
                for statement in _SCHEMA.split(";\n"):
                    if statement.strip():
                        self.db.execute(statement)
                self.db.execute(
                    "INSERT INTO entry(id, node, l_parent, l_name, l_kind, s_parent, s_name, s_kind, r_parent, r_name,"
                    " r_key, r_kind) VALUES(1, 'root', 0, '', 'folder', 0, '', 'folder', 0, '', '', 'folder')"
                )
                self.db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        elif version == 1:
            with self.change():
                # What the server told before links were known is asked again: which files are links.
                self.db.execute("DELETE FROM setting WHERE name='cursor'")
                self.db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """All or nothing; nests."""
        if self._depth == 0:
            self.db.execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0:
                self.db.execute("ROLLBACK")
                self.forget_paths()
            raise
        self._depth -= 1
        if self._depth == 0:
            self.db.execute("COMMIT")

    # Rows

    def get(self, entry: int) -> Entry | None:
        row = self.db.execute(_SELECT + "WHERE id=?", (entry,)).fetchone()
        return Entry(*row) if row else None

    def find(self, where: str, *values: Any) -> list[Entry]:
        return [Entry(*row) for row in self.db.execute(_SELECT + "WHERE " + where, values)]

    def first(self, where: str, *values: Any) -> Entry | None:
        row = self.db.execute(_SELECT + "WHERE " + where + " LIMIT 1", values).fetchone()
        return Entry(*row) if row else None

    def count(self, where: str, *values: Any) -> int:
        return int(self.db.execute("SELECT count(*) FROM entry WHERE " + where, values).fetchone()[0])

    def by_node(self, node: str) -> Entry | None:
        return self.first("node=?", node)

    def set(self, entry: int, **columns: Any) -> None:
        if ("l", entry) in self._folders or ("r", entry) in self._folders or ("s", entry) in self._folders:
            self.forget_paths()
        names = ", ".join(f"{name}=?" for name in columns)
        self.db.execute(f"UPDATE entry SET {names} WHERE id=?", (*columns.values(), entry))

    def add(self, **columns: Any) -> int:
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        cursor = self.db.execute(f"INSERT INTO entry({names}) VALUES({marks})", tuple(columns.values()))
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def drop(self, entry: int) -> None:
        self.forget_paths()
        self.db.execute("DELETE FROM entry WHERE id=?", (entry,))

    def for_node(self, node: str) -> int:
        """The row of a node of the server, made if it is new."""
        row = self.db.execute("SELECT id FROM entry WHERE node=?", (node,)).fetchone()
        return int(row[0]) if row else self.add(node=node)

    # Paths

    def path(self, entry: int, side: str = "l") -> str | None:
        """Relative path on one side, '' for the folder itself, None when a parent is missing there."""
        if entry == ROOT:
            return ""
        row = self._place(entry, side)
        if row is None:
            return None
        above = self._folder_path(row[0], side)
        return None if above is None else f"{above}/{row[1]}" if above else row[1]

    def forget_paths(self) -> None:
        """After folders moved in a way `set` does not see."""
        self._folders.clear()

    def _folder_path(self, entry: int, side: str) -> str | None:
        known = self._folders.get((side, entry))
        if known is not None:
            return known
        parts: list[str] = []
        current = entry
        while current != ROOT:
            row = self._place(current, side)
            if row is None or len(parts) > 4096:
                return None
            parts.append(row[1])
            current = row[0]
        path = "/".join(reversed(parts))
        if len(self._folders) > 5000:
            self._folders.clear()
        # Every folder on the way may change the path; each is remembered, so that `set` notices.
        current = entry
        for depth in range(len(parts)):
            self._folders[(side, current)] = "/".join(reversed(parts[depth:]))
            row = self._place(current, side)
            assert row is not None
            current = row[0]
        return path

    def _place(self, entry: int, side: str) -> tuple[int, str] | None:
        row = self.db.execute(f"SELECT {side}_parent, {side}_name FROM entry WHERE id=?", (entry,)).fetchone()
        return (row[0], row[1]) if row is not None and row[0] is not None and row[1] is not None else None

    def best_path(self, entry: int) -> str:
        """A path to show to people, from whichever side knows one."""
        for side in "lrs":
            path = self.path(entry, side)
            if path:
                return path
        row = self.get(entry)
        return (row and (row.l_name or row.r_name or row.s_name)) or f"#{entry}"

    def inside(self, entry: int, ancestor: int, side: str) -> bool:
        """Whether `entry` is `ancestor` or lies below it on one side."""
        current: int | None = entry
        for _ in range(4096):
            if current == ancestor:
                return True
            if current in (None, 0, ROOT):
                return False
            row = self.db.execute(f"SELECT {side}_parent FROM entry WHERE id=?", (current,)).fetchone()
            current = row[0] if row else None
        return False

    def below(self, entry: int, side: str) -> list[int]:
        """All rows below a folder on one side."""
        rows = self.db.execute(
            f"WITH RECURSIVE t(id) AS (SELECT id FROM entry WHERE {side}_parent=?1 AND {side}_name IS NOT NULL"
            f" UNION SELECT e.id FROM entry e JOIN t ON e.{side}_parent=t.id WHERE e.{side}_name IS NOT NULL)"
            " SELECT id FROM t",
            (entry,),
        )
        return [row[0] for row in rows]

    def at_local(self, parent: int | None, name: str | None) -> Entry | None:
        return self.first("l_parent=? AND l_name=?", parent, name)

    def at_remote(self, parent: int | None, name: str) -> list[Entry]:
        return self.find("r_parent=? AND r_key=? AND r_name IS NOT NULL", parent, name_key(name))

    # Settings, problems, events

    def setting(self, name: str, default: str = "") -> str:
        row = self.db.execute("SELECT value FROM setting WHERE name=?", (name,)).fetchone()
        return str(row[0]) if row else default

    def remember(self, name: str, value: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO setting(name, value) VALUES(?, ?)", (name, value))

    def note_problem(self, entry: Entry, reason: str) -> None:
        self.set(entry.id, problem=reason, problem_for=entry.fingerprint)

    def forget_problems(self) -> None:
        """Those that were about something else than what is there now."""
        for e in self.find("problem IS NOT NULL"):
            if e.problem_for != e.fingerprint:
                self.set(e.id, problem=None, problem_for=None)

    def event(self, at: float, kind: str, path: str, detail: str = "") -> None:
        """Remember what the user may want to know later."""
        if self.on_event is not None:
            self.on_event(kind, path, detail)
        self.db.execute("INSERT INTO event(at, kind, path, detail) VALUES(?, ?, ?, ?)", (at, kind, path, detail))

    # The queue

    def queue(self, op_id: str, request: bytes, sent: bytes) -> None:
        self.db.execute("PRAGMA synchronous=FULL")
        try:
            with self.change():
                self.db.execute("INSERT INTO op(op_id, request, sent) VALUES(?, ?, ?)", (op_id, request, sent))
        finally:
            self.db.execute("PRAGMA synchronous=NORMAL")

    def queued(self) -> list[tuple[int, str, bytes, bytes]]:
        return list(self.db.execute("SELECT seq, op_id, request, sent FROM op ORDER BY seq"))

    def unqueue(self, seq: int) -> None:
        self.db.execute("DELETE FROM op WHERE seq=?", (seq,))
