# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the tree in SQLite: all SQL of the store but that of maintenance."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from sync_protocol.hashing import EMPTY
from sync_server.store.interface import (
    ROOT,
    ConflictRow,
    JournalOp,
    JournalRow,
    MissingBlobs,
    NodeKind,
    NodeRow,
    NotFound,
    TreeRow,
    UploadRow,
    VersionRow,
)

KINDS: tuple[NodeKind, ...] = ("file", "folder")
OPS: tuple[JournalOp, ...] = ("put", "mkdir", "move", "delete", "restore")
_KIND = {kind: number for number, kind in enumerate(KINDS)}
_OP = {op: number for number, op in enumerate(OPS)}

_NODE = (
    "id, parent, name, key, kind, revision, content_rev, place_rev, deleted, deleted_by, size, mtime, executable, "
    "content, parts, symlink"
)
_NODE_NOW = (
    f"SELECT {_NODE},"
    " (SELECT c.id FROM conflicts c WHERE c.account = n.account AND c.copy = n.id AND c.resolved IS NULL),"
    " (SELECT t.seq FROM trees t WHERE t.account = n.account)"
    " FROM nodes n WHERE account = ? AND id = ?"
)
_VERSION = "node, revision, size, mtime, executable, content, parts, device, time, symlink"
_CONFLICT = (
    "account, id, node, copy, node_rev, copy_rev, mine_device, theirs_device, theirs_time, created, resolved, "
    "resolved_at, undo"
)
_UPLOAD = "id, account, device, path, size, mtime, executable, base, blobs, start, part, touched, node"

_ABOVE_ALL = 2**62


def now_ms() -> int:
    """The clock; nothing is decided by it but ages."""
    return time.time_ns() // 1_000_000


def pack(blobs: Iterable[str]) -> bytes:
    """Hashes one after the other."""
    return b"".join(map(bytes.fromhex, blobs))


def unpack(packed: bytes) -> tuple[str, ...]:
    """The reverse of pack."""
    return tuple(packed[at : at + 32].hex() for at in range(0, len(packed), 32))


def _node(account: int, row: tuple[object, ...]) -> NodeRow:
    node, parent, name, key, kind, revision, content_rev, place_rev, deleted, by, size, mtime, exe, *more = row
    content, parts, symlink = more
    return NodeRow(
        account,
        node,  # type: ignore[arg-type]
        parent,  # type: ignore[arg-type]
        name,  # type: ignore[arg-type]
        key,  # type: ignore[arg-type]
        KINDS[kind],  # type: ignore[call-overload]
        revision,  # type: ignore[arg-type]
        content_rev,  # type: ignore[arg-type]
        place_rev,  # type: ignore[arg-type]
        deleted,  # type: ignore[arg-type]
        by,  # type: ignore[arg-type]
        size,  # type: ignore[arg-type]
        mtime,  # type: ignore[arg-type]
        bool(exe),
        content.hex() if isinstance(content, bytes) else None,
        parts,  # type: ignore[arg-type]
        bool(symlink),
    )


def _version(row: Sequence[object]) -> VersionRow:
    node, revision, size, mtime, exe, content, parts, device, when, symlink = row
    assert isinstance(content, bytes)
    return VersionRow(
        node,  # type: ignore[arg-type]
        revision,  # type: ignore[arg-type]
        size,  # type: ignore[arg-type]
        mtime,  # type: ignore[arg-type]
        bool(exe),
        content.hex(),
        parts,  # type: ignore[arg-type]
        device,  # type: ignore[arg-type]
        when,  # type: ignore[arg-type]
        bool(symlink),
    )


class SqliteReader:
    """Reads; see store.interface.Reader."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def _one(self, sql: str, *values: object) -> tuple[object, ...] | None:
        row: tuple[object, ...] | None = self.connection.execute(sql, values).fetchone()
        return row

    def _all(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        return self.connection.execute(sql, values).fetchall()

    def tree(self, account: int) -> TreeRow:
        row = self._one(
            "SELECT account, generation, seq, horizon, next_node, used, pending, quota FROM trees WHERE account = ?",
            account,
        )
        if row is None:
            raise NotFound("The account has no tree yet.")
        return TreeRow(*row)  # type: ignore[arg-type]

    def node(self, account: int, node: int) -> NodeRow | None:
        row = self._one(f"SELECT {_NODE} FROM nodes WHERE account = ? AND id = ?", account, node)
        return None if row is None else _node(account, row)

    def node_now(self, account: int, node: int) -> tuple[NodeRow, int | None, int] | None:
        row = self._one(_NODE_NOW, account, node)
        return None if row is None else (_node(account, row[:-2]), row[-2], row[-1])  # type: ignore[return-value]

    def child(self, account: int, parent: int, key: str) -> NodeRow | None:
        row = self._one(
            f"SELECT {_NODE} FROM nodes WHERE account = ? AND parent = ? AND key = ? AND deleted = 0",
            account,
            parent,
            key,
        )
        return None if row is None else _node(account, row)

    def children(self, account: int, parent: int, after: str, limit: int) -> list[NodeRow]:
        rows = self._all(
            f"SELECT {_NODE} FROM nodes WHERE account = ? AND parent = ? AND key > ? AND deleted = 0"
            " ORDER BY key LIMIT ?",
            account,
            parent,
            after,
            limit,
        )
        return [_node(account, row) for row in rows]

    def trashed_children(self, account: int, parent: int) -> list[NodeRow]:
        rows = self._all(
            f"SELECT {_NODE} FROM nodes WHERE account = ? AND parent = ? AND deleted <> 0", account, parent
        )
        return [_node(account, row) for row in rows]

    def nodes(self, account: int, after: int, limit: int) -> list[NodeRow]:
        rows = self._all(
            f"SELECT {_NODE} FROM nodes WHERE account = ? AND id > ? AND deleted = 0 ORDER BY id LIMIT ?",
            account,
            after,
            limit,
        )
        return [_node(account, row) for row in rows]

    def trash(self, account: int, before: tuple[int, int] | None, limit: int) -> list[NodeRow]:
        when, node = before or (_ABOVE_ALL, _ABOVE_ALL)
        rows = self._all(
            f"SELECT {_NODE} FROM nodes INDEXED BY nodes_trash WHERE account = ? AND deleted <> 0"
            " AND (deleted, id) < (?, ?) ORDER BY deleted DESC, id DESC LIMIT ?",
            account,
            when,
            node,
            limit,
        )
        return [_node(account, row) for row in rows]

    def version(self, account: int, node: int, revision: int) -> VersionRow | None:
        row = self._one(
            f"SELECT {_VERSION} FROM versions WHERE account = ? AND node = ? AND revision = ?", account, node, revision
        )
        return None if row is None else _version(row)

    def versions(self, account: int, node: int) -> list[VersionRow]:
        rows = self._all(
            f"SELECT {_VERSION} FROM versions WHERE account = ? AND node = ? ORDER BY revision DESC", account, node
        )
        return [_version(row) for row in rows]

    def blobs_of(self, account: int, content: str, parts: int) -> tuple[str, ...]:
        if parts == 0:
            return ()
        if parts == 1:
            return (content,)
        row = self._one("SELECT blobs FROM lists WHERE account = ? AND content = ?", account, bytes.fromhex(content))
        if row is None or not isinstance(row[0], bytes):
            raise NotFound("The content is no longer kept.")
        return unpack(row[0])

    def journal(self, account: int, after: int, limit: int) -> list[JournalRow]:
        rows = self._all(
            "SELECT j.seq, j.node, j.op, j.kind, j.parent, j.name, j.deleted, j.device, j.time, v.revision, v.size,"
            " v.mtime, v.executable, v.content, v.parts, v.device, v.time, v.symlink"
            " FROM journal j LEFT JOIN versions v"
            " ON v.account = j.account AND v.node = j.node AND v.revision = j.content_rev"
            " WHERE j.account = ? AND j.seq > ? ORDER BY j.seq LIMIT ?",
            account,
            after,
            limit,
        )
        return [
            JournalRow(
                row[0],  # type: ignore[arg-type]
                row[1],  # type: ignore[arg-type]
                OPS[row[2]],  # type: ignore[call-overload]
                KINDS[row[3]],  # type: ignore[call-overload]
                row[4],  # type: ignore[arg-type]
                row[5],  # type: ignore[arg-type]
                bool(row[6]),
                None if row[9] is None else _version((row[1], *row[9:])),
                row[7],  # type: ignore[arg-type]
                row[8],  # type: ignore[arg-type]
            )
            for row in rows
        ]

    def latest(self, account: int) -> int:
        row = self._one("SELECT time FROM journal WHERE account = ? ORDER BY seq DESC LIMIT 1", account)
        return 0 if row is None else row[0]  # type: ignore[return-value]

    def changed_by_others(self, account: int, after: int, device: int) -> Iterator[int]:
        cursor = self.connection.execute(
            "SELECT node FROM journal WHERE account = ? AND seq > ? AND device IS NOT ? ORDER BY seq",
            (account, after, device),
        )
        for (node,) in cursor:
            yield node

    def holding(self, account: int, blob: str) -> int | None:
        row = self._one(
            "SELECT size FROM holdings WHERE hash = ? AND account = ? AND damaged = 0", bytes.fromhex(blob), account
        )
        return None if row is None else row[0]  # type: ignore[return-value]

    def missing(self, account: int, blobs: Iterable[str]) -> list[str]:
        return [blob for blob in dict.fromkeys(blobs) if blob != EMPTY and self.holding(account, blob) is None]

    def idle(self, account: int, blobs: Iterable[str], before: int) -> list[str]:
        """Those nothing refers to that were last touched before."""
        return [
            blob
            for blob in blobs
            if self._one(
                "SELECT 1 FROM holdings WHERE hash = ? AND account = ? AND refs = 0 AND touched < ?",
                bytes.fromhex(blob),
                account,
                before,
            )
        ]

    def conflict(self, account: int, conflict: int) -> ConflictRow | None:
        row = self._one(f"SELECT {_CONFLICT} FROM conflicts WHERE account = ? AND id = ?", account, conflict)
        return None if row is None else ConflictRow(*row)  # type: ignore[arg-type]

    def conflict_of_copy(self, account: int, copy: int) -> ConflictRow | None:
        row = self._one(
            f"SELECT {_CONFLICT} FROM conflicts WHERE account = ? AND copy = ? AND resolved IS NULL", account, copy
        )
        return None if row is None else ConflictRow(*row)  # type: ignore[arg-type]

    def conflicts_of_node(self, account: int, node: int) -> list[ConflictRow]:
        rows = self._all(
            f"SELECT {_CONFLICT} FROM conflicts WHERE account = ? AND node = ? AND resolved IS NULL ORDER BY id",
            account,
            node,
        )
        return [ConflictRow(*row) for row in rows]  # type: ignore[arg-type]

    def conflicts(self, account: int, resolved: bool, before: int | None, limit: int) -> list[ConflictRow]:
        rows = self._all(
            f"SELECT {_CONFLICT} FROM conflicts WHERE account = ? AND (resolved IS NOT NULL) = ? AND id < ?"
            " ORDER BY id DESC LIMIT ?",
            account,
            int(resolved),
            _ABOVE_ALL if before is None else before,
            limit,
        )
        return [ConflictRow(*row) for row in rows]  # type: ignore[arg-type]

    def device_name(self, device: int | None) -> str | None:
        if device is None:
            return None
        row = self._one("SELECT name FROM devices WHERE id = ?", device)
        return None if row is None else str(row[0])

    def parts_of_uploads(self, account: int, but: str) -> int:
        row = self._one(
            "SELECT coalesce(sum(part), 0) FROM uploads WHERE account = ? AND id <> ? AND node IS NULL", account, but
        )
        return 0 if row is None else row[0]  # type: ignore[return-value]

    def upload(self, account: int, upload: str) -> UploadRow | None:
        row = self._one(f"SELECT {_UPLOAD} FROM uploads WHERE account = ? AND id = ?", account, upload)
        return None if row is None else _upload(row)


def _upload(row: Sequence[object]) -> UploadRow:
    identity, account, device, path, size, mtime, exe, base, blobs, start, part, touched, node = row
    assert isinstance(blobs, bytes)
    return UploadRow(
        identity,  # type: ignore[arg-type]
        account,  # type: ignore[arg-type]
        device,  # type: ignore[arg-type]
        path,  # type: ignore[arg-type]
        size,  # type: ignore[arg-type]
        mtime,  # type: ignore[arg-type]
        bool(exe),
        base,  # type: ignore[arg-type]
        unpack(blobs),
        start,  # type: ignore[arg-type]
        part,  # type: ignore[arg-type]
        touched,  # type: ignore[arg-type]
        node,  # type: ignore[arg-type]
    )


class SqliteTransaction(SqliteReader):
    """Reads and writes of one job of the writer; see store.interface.Transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._trees: dict[int, TreeRow] = {}
        self._saved: dict[int, TreeRow] = {}
        self._depth = 0
        self.after_commit: list[Callable[[], None]] = []

    # --- the job's frame, for the writer ---

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Everything inside or, when it raises, nothing of it."""
        trees = {account: replace(row) for account, row in self._trees.items()}
        name = f"s{self._depth}"
        self._depth += 1
        self.connection.execute(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            # A full disk may have ended the whole transaction already.
            if self.connection.in_transaction:
                self.connection.execute(f"ROLLBACK TO {name}")
                self.connection.execute(f"RELEASE {name}")
            self._trees = trees
            raise
        else:
            self.connection.execute(f"RELEASE {name}")
        finally:
            self._depth -= 1

    def flush(self) -> dict[int, int]:
        """Write the counters; returns the journal number of each account that has a new one."""
        changed = {}
        for account, row in self._trees.items():
            saved = self._saved.get(account)
            if saved == row:
                continue
            self.connection.execute(
                "UPDATE trees SET generation = ?, seq = ?, horizon = ?, next_node = ?, used = ?, pending = ?, quota = ?"
                " WHERE account = ?",
                (
                    row.generation,
                    row.seq,
                    row.horizon,
                    row.next_node,
                    row.used,
                    row.pending,
                    row.quota,
                    account,
                ),
            )
            if saved is None or saved.seq != row.seq:
                changed[account] = row.seq
        return changed

    # --- trees ---

    def tree(self, account: int) -> TreeRow:
        row = self._trees.get(account)
        if row is None:
            row = super().tree(account)
            self._saved[account] = replace(row)
            self._trees[account] = row
        return row

    def ensure_tree(self, account: int, quota: int | None) -> None:
        if self._one("SELECT 1 FROM trees WHERE account = ?", account):
            return
        self.connection.execute(
            "INSERT INTO trees (account, generation, quota) VALUES (?, ?, ?)", (account, secrets.token_hex(4), quota)
        )
        self.add_node(NodeRow(account, ROOT, None, "", "", "folder", 0, 0, 0, 0, None, 0, 0, False, None, 0))

    # --- nodes ---

    def add_node(self, row: NodeRow) -> None:
        self.connection.execute(
            f"INSERT INTO nodes (account, {_NODE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row.account, row.id, *_node_values(row)),
        )

    def set_node(self, row: NodeRow) -> None:
        self.connection.execute(
            "UPDATE nodes SET parent = ?, name = ?, key = ?, kind = ?, revision = ?, content_rev = ?, place_rev = ?,"
            " deleted = ?, deleted_by = ?, size = ?, mtime = ?, executable = ?, content = ?, parts = ?, symlink = ?"
            " WHERE account = ? AND id = ?",
            (*_node_values(row), row.account, row.id),
        )

    def remove_node(self, account: int, node: int) -> None:
        self._drop_versions(account, node, 0)
        self.connection.execute("DELETE FROM nodes WHERE account = ? AND id = ?", (account, node))

    # --- versions ---

    def add_version(self, account: int, row: VersionRow, blobs: Sequence[str]) -> None:
        self._refer(account, row.content, blobs)
        self.connection.execute(
            f"INSERT INTO versions (account, {_VERSION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                account,
                row.node,
                row.revision,
                row.size,
                row.mtime,
                row.executable,
                bytes.fromhex(row.content),
                len(blobs),
                row.device,
                row.time,
                row.symlink,
            ),
        )

    def prune_versions(self, account: int, node: int, keep: int) -> None:
        self._drop_versions(account, node, keep)

    def _drop_versions(self, account: int, node: int, keep: int) -> None:
        rows = self._all(
            "SELECT revision, content, parts FROM versions WHERE account = ? AND node = ?"
            " ORDER BY revision DESC LIMIT -1 OFFSET ?",
            account,
            node,
            keep,
        )
        for revision, content, parts in rows:
            self.connection.execute(
                "DELETE FROM versions WHERE account = ? AND node = ? AND revision = ?", (account, node, revision)
            )
            assert isinstance(content, bytes)
            assert isinstance(parts, int)
            self._unrefer(account, content, parts)

    def _refer(self, account: int, content: str, blobs: Sequence[str]) -> None:
        if len(blobs) > 1:
            key = bytes.fromhex(content)
            updated = self.connection.execute(
                "UPDATE lists SET refs = refs + 1 WHERE account = ? AND content = ?", (account, key)
            )
            if updated.rowcount:
                return
            self.connection.execute(
                "INSERT INTO lists (account, content, blobs, refs) VALUES (?, ?, ?, 1)", (account, key, pack(blobs))
            )
        tree = self.tree(account)
        for blob in dict.fromkeys(blobs):
            row = self.connection.execute(
                "UPDATE holdings SET refs = refs + 1 WHERE hash = ? AND account = ? RETURNING refs, size",
                (bytes.fromhex(blob), account),
            ).fetchone()
            if row is None:
                raise MissingBlobs([blob])
            if row[0] == 1:
                tree.used += row[1]
                tree.pending -= row[1]

    def _unrefer(self, account: int, content: bytes, parts: int) -> None:
        if parts == 0:
            return
        blobs: Iterable[bytes] = (content,)
        if parts > 1:
            row = self._one(
                "UPDATE lists SET refs = refs - 1 WHERE account = ? AND content = ? RETURNING refs, blobs",
                account,
                content,
            )
            assert row is not None
            if row[0]:
                return
            self.connection.execute("DELETE FROM lists WHERE account = ? AND content = ?", (account, content))
            packed = row[1]
            assert isinstance(packed, bytes)
            blobs = dict.fromkeys(packed[at : at + 32] for at in range(0, len(packed), 32))
        tree = self.tree(account)
        for blob in blobs:
            # The day the collection waits begins here: a client may just have been told that it need not send it.
            refs, size = self.connection.execute(
                "UPDATE holdings SET refs = refs - 1, touched = ? WHERE hash = ? AND account = ? RETURNING refs, size",
                (now_ms(), blob, account),
            ).fetchone()
            if refs == 0:
                tree.used -= size
                tree.pending += size

    # --- blobs ---

    def hold(self, account: int, blob: str, size: int, now: int) -> None:
        """Let the account see a blob whose file is durable."""
        key = bytes.fromhex(blob)
        updated = self.connection.execute(
            "UPDATE holdings SET touched = ?, damaged = 0 WHERE hash = ? AND account = ?", (now, key, account)
        )
        if updated.rowcount:
            return
        self.connection.execute(
            "INSERT INTO holdings (hash, account, size, touched) VALUES (?, ?, ?, ?)", (key, account, size, now)
        )
        self.tree(account).pending += size

    def touch(self, account: int, blobs: Iterable[str], now: int) -> None:
        self.connection.executemany(
            "UPDATE holdings SET touched = ? WHERE hash = ? AND account = ? AND refs = 0",
            [(now, bytes.fromhex(blob), account) for blob in blobs],
        )

    def touch_uploads(self, now: int) -> None:
        """Keep what has arrived of unfinished uploads: they may be paused for longer than the collection waits."""
        for account, packed in self._all("SELECT account, blobs FROM uploads WHERE node IS NULL"):
            assert isinstance(account, int)
            assert isinstance(packed, bytes)
            self.touch(account, unpack(packed), now)

    def drop_idle(self, before: int, limit: int) -> list[str]:
        """Let go of blobs nothing refers to since before; returns those nobody holds any more."""
        rows = self._all(
            "SELECT hash, account, size FROM holdings INDEXED BY holdings_idle WHERE refs = 0 AND touched < ? LIMIT ?",
            before,
            limit,
        )
        for blob, account, size in rows:
            self.connection.execute("DELETE FROM holdings WHERE hash = ? AND account = ?", (blob, account))
            self.tree(account).pending -= size  # type: ignore[arg-type, operator]
        return [
            blob.hex()
            for blob in dict.fromkeys(row[0] for row in rows)
            if isinstance(blob, bytes) and not self._one("SELECT 1 FROM holdings WHERE hash = ?", blob)
        ]

    def held_by_anyone(self, blob: str) -> bool:
        return self._one("SELECT 1 FROM holdings WHERE hash = ?", bytes.fromhex(blob)) is not None

    # --- journal, answers ---

    def add_journal(self, row: NodeRow, op: JournalOp, device: int | None, now: int) -> None:
        self.connection.execute(
            "INSERT INTO journal (account, seq, node, op, kind, parent, name, deleted, content_rev, device, time)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.account,
                row.revision,
                row.id,
                _OP[op],
                _KIND[row.kind],
                row.parent,
                row.name,
                row.deleted != 0,
                row.content_rev,
                device,
                now,
            ),
        )

    def replay(self, device: int, op_id: str) -> tuple[bytes, bytes] | None:
        row = self._one("SELECT digest, answer FROM answers WHERE device = ? AND op_id = ?", device, op_id)
        return None if row is None else (row[0], row[1])  # type: ignore[return-value]

    def remember(self, device: int, op_id: str, digest: bytes, answer: bytes, now: int) -> None:
        self.connection.execute(
            "INSERT INTO answers (device, op_id, digest, answer, time) VALUES (?, ?, ?, ?, ?)",
            (device, op_id, digest, answer, now),
        )

    # --- conflicts ---

    def add_conflict(self, row: ConflictRow) -> int:
        (row.id,) = self.connection.execute(
            "SELECT coalesce(max(id), 0) + 1 FROM conflicts WHERE account = ?", (row.account,)
        ).fetchone()
        self.connection.execute(
            f"INSERT INTO conflicts ({_CONFLICT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _conflict_values(row)
        )
        return row.id

    def set_conflict(self, row: ConflictRow) -> None:
        self.connection.execute(
            f"REPLACE INTO conflicts ({_CONFLICT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            _conflict_values(row),
        )

    # --- quota, uploads, ages ---

    def set_quota(self, account: int, quota: int | None) -> None:
        self.tree(account).quota = quota

    def set_upload(self, row: UploadRow) -> None:
        self.connection.execute(
            f"REPLACE INTO uploads ({_UPLOAD}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.id,
                row.account,
                row.device,
                row.path,
                row.size,
                row.mtime,
                row.executable,
                row.base,
                pack(row.blobs),
                row.offset,
                row.part,
                row.touched,
                row.node,
            ),
        )

    def remove_upload(self, account: int, upload: str) -> None:
        self.connection.execute("DELETE FROM uploads WHERE account = ? AND id = ?", (account, upload))

    def forget(self, *, ops_before: int, journal_before: int, limit: int) -> bool:
        removed = self.connection.execute(
            "DELETE FROM answers WHERE (device, op_id) IN (SELECT device, op_id FROM answers WHERE time < ? LIMIT ?)",
            (ops_before, limit),
        ).rowcount
        for (account,) in self._all("SELECT account FROM trees"):
            assert isinstance(account, int)
            tree = self.tree(account)
            # The oldest rows only, one after the other: a clock that jumped must not make a hole.
            rows = self._all("SELECT seq, time FROM journal WHERE account = ? ORDER BY seq LIMIT ?", account, limit)
            last = tree.horizon
            for seq, when in rows:
                assert isinstance(seq, int)
                assert isinstance(when, int)
                if when >= journal_before:
                    break
                last = seq
            if last > tree.horizon:
                removed += self.connection.execute(
                    "DELETE FROM journal WHERE account = ? AND seq <= ?", (account, last)
                ).rowcount
                tree.horizon = last
        return removed > 0

    def expired_trash(self, before: int, limit: int) -> list[NodeRow]:
        rows = self._all(
            f"SELECT account, {_NODE} FROM nodes INDEXED BY nodes_expiring WHERE deleted <> 0 AND deleted < ? LIMIT ?",
            before,
            limit,
        )
        return [_node(row[0], row[1:]) for row in rows]  # type: ignore[arg-type]

    def expired_uploads(self, before: int) -> list[UploadRow]:
        return [_upload(row) for row in self._all(f"SELECT {_UPLOAD} FROM uploads WHERE touched < ?", before)]


def _node_values(row: NodeRow) -> tuple[object, ...]:
    return (
        row.parent,
        row.name,
        row.key,
        _KIND[row.kind],
        row.revision,
        row.content_rev,
        row.place_rev,
        row.deleted,
        row.deleted_by,
        row.size,
        row.mtime,
        row.executable,
        None if row.content is None else bytes.fromhex(row.content),
        row.parts,
        row.symlink,
    )


def _conflict_values(row: ConflictRow) -> tuple[object, ...]:
    return (
        row.account,
        row.id,
        row.node,
        row.copy,
        row.node_rev,
        row.copy_rev,
        row.mine_device,
        row.theirs_device,
        row.theirs_time,
        row.created,
        row.resolved,
        row.resolved_at,
        row.undo,
    )
