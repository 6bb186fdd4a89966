# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server said becomes knowledge: journal, snapshot, and the results of what was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from sync_client.planner import TWINS, detach
from sync_client.trees import DIR, FILE, LINK, ROOT, Entry, Trees
from sync_protocol.names import name_key
from sync_protocol.types import Change, NodeEntry, OpResult

_NOTHING_REMOTE = {
    "r_parent": None,
    "r_name": None,
    "r_key": None,
    "r_kind": None,
    "r_hash": None,
    "r_size": None,
    "r_mtime": None,
    "r_exec": None,
    "r_blobs": None,
}


class Sent(msgspec.Struct, frozen=True):
    """What one operation of a queued commit said, in the terms of this side."""

    entry: int
    op: str
    parent: int | None = None
    name: str | None = None
    hash: str | None = None
    exec: int | None = None
    size: int = 0
    mtime: int = 0
    blobs: bytes | None = None


@dataclass(slots=True)
class Outcome:
    """What is left to do after a result."""

    progress: bool = False
    stale: bool = False
    conflict: str | None = None
    problem: str | None = None


def pack(blobs: list[str] | tuple[str, ...] | None) -> bytes | None:
    return None if blobs is None else b"".join(map(bytes.fromhex, blobs))


def unpack(packed: bytes | None) -> list[str] | None:
    return None if packed is None else [packed[i : i + 32].hex() for i in range(0, len(packed), 32)]


def remote_columns(trees: Trees, node: NodeEntry) -> dict[str, Any]:
    is_file = node.kind == FILE
    return {
        "r_parent": trees.for_node(node.parent or "root"),
        "r_name": node.name,
        "r_key": name_key(node.name),
        "r_kind": node.kind,
        "r_hash": node.content if is_file else None,
        "r_size": node.size if is_file else None,
        "r_mtime": node.mtime if is_file else None,
        "r_exec": LINK if is_file and node.symlink else int(node.executable) if is_file else None,
        "r_blobs": pack(node.blobs) if is_file else None,
        "r_rev": node.revision,
        "r_content_rev": node.revision,
        "r_place_rev": node.revision,
    }


def learn(trees: Trees, node: NodeEntry) -> None:
    """Take over one node as the server has it, unless something newer is known."""
    if node.id == "root":
        return
    entry = trees.for_node(node.id)
    row = trees.get(entry)
    assert row is not None
    if (row.r_rev or 0) > node.revision:
        return
    if not node.deleted:
        trees.set(entry, **remote_columns(trees, node))
        return
    for child in trees.below(entry, "r"):
        c = trees.get(child)
        if c is not None and (c.r_rev or 0) <= node.revision:
            trees.set(child, **_NOTHING_REMOTE)
    trees.set(entry, **_NOTHING_REMOTE, r_rev=node.revision)


def learn_change(trees: Trees, change: Change) -> None:
    if change.op == "delete" and not change.node.deleted:
        change = msgspec.structs.replace(change, node=msgspec.structs.replace(change.node, deleted=True))
    learn(trees, change.node)
    trees.remember("seen", str(max(int(trees.setting("seen", "0")), change.node.revision)))


class Census:
    """A snapshot in pages: what it does not name is gone at the server."""

    def __init__(self, trees: Trees) -> None:
        self.trees = trees
        trees.db.execute("CREATE TEMP TABLE IF NOT EXISTS census(node TEXT PRIMARY KEY) WITHOUT ROWID")
        trees.db.execute("DELETE FROM census")

    def page(self, entries: list[NodeEntry]) -> None:
        with self.trees.change():
            for node in entries:
                self.trees.db.execute("INSERT OR IGNORE INTO census VALUES(?)", (node.id,))
                learn(self.trees, node)
                self.trees.remember("seen", str(max(int(self.trees.setting("seen", "0")), node.revision)))

    def finish(self, cursor: str) -> None:
        with self.trees.change():
            gone = self.trees.find(f"r_name IS NOT NULL AND id<>{ROOT} AND node NOT IN (SELECT node FROM census)")
            for row in gone:
                self.trees.set(row.id, **_NOTHING_REMOTE)
            self.trees.remember("cursor", cursor)


def settle(trees: Trees, sent: Sent, result: OpResult) -> Outcome:
    """Bring the result of one operation into the trees; the same result twice does no harm."""
    e = trees.get(sent.entry)
    if e is None:
        return Outcome(progress=True)
    status = result.status
    if status in ("ok", "same", "conflict_copy"):
        if sent.op == "delete":
            _deleted(trees, e)
            return Outcome(progress=True)
        if status == "conflict_copy":
            return _copied(trees, e, sent, result)
        return _agreed(trees, e, sent, result)
    if result.current is not None:
        learn(trees, result.current)
    if status == "not_found":
        return _not_found(trees, e, sent)
    if status in ("stale", "conflict"):
        return Outcome(progress=True, stale=True)
    if status == "cycle":
        # Another device moved the target into it first: that stays, and the move here is taken back.
        trees.set(e.id, s_parent=sent.parent, s_name=sent.name)
        return Outcome(progress=True, stale=True)
    if status == "clash":
        if result.current is not None and result.current.name != sent.name:
            other = f"{TWINS} from “{result.current.name}” on the server; rename one of them"
            return Outcome(stale=True, problem=other)
        return Outcome(stale=True, problem=result.detail or "the name is taken on the server")
    if status == "quota":
        return Outcome(problem="no room left on the server; free some, or ask for a larger quota")
    if status == "missing_blobs":
        return Outcome(progress=True)
    if status == "aborted":
        return Outcome()
    return Outcome(problem=f"refused by the server: {result.detail or status}")


def _not_found(trees: Trees, e: Entry, sent: Sent) -> Outcome:
    if sent.op == "delete":
        _deleted(trees, e)
        return Outcome(progress=True)
    if sent.op == "put" and e.node is not None:
        detach(trees, e.id)
    elif sent.parent is not None and sent.parent != ROOT:
        # The folder it should go into is gone for good: it starts anew.
        parent = trees.get(sent.parent)
        if parent is not None and parent.local and not parent.remote:
            detach(trees, parent.id)
    return Outcome(progress=True, stale=True)


def _deleted(trees: Trees, e: Entry) -> None:
    for entry in [*trees.below(e.id, "r"), e.id]:
        row = trees.get(entry)
        if row is None:
            continue
        trees.set(
            entry, **_NOTHING_REMOTE, s_parent=None, s_name=None, s_kind=None, s_hash=None, s_exec=None, s_rev=None
        )


def _sent_columns(sent: Sent, side: str) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if sent.name is not None:
        columns |= {f"{side}_parent": sent.parent, f"{side}_name": sent.name}
        if side == "r":
            columns["r_key"] = name_key(sent.name)
    if sent.op == "put":
        columns |= {f"{side}_kind": FILE, f"{side}_hash": sent.hash, f"{side}_exec": sent.exec}
        if side == "r":
            columns |= {"r_size": sent.size, "r_mtime": sent.mtime, "r_blobs": sent.blobs}
    elif sent.op == "mkdir":
        columns[f"{side}_kind"] = DIR
    return columns


def _agreed(trees: Trees, e: Entry, sent: Sent, result: OpResult) -> Outcome:
    if result.node is not None and e.node != result.node:
        other = trees.by_node(result.node)
        if other is not None and other.id != e.id:
            # It was there already under a row of its own: that row and this one are the same thing.
            if other.local:
                return Outcome(progress=False, stale=True, problem="is there twice; rename one of them")
            _merge(trees, e, other)
        trees.set(e.id, node=result.node)
    remote = _sent_columns(sent, "r")
    if not e.remote and sent.op == "put" and sent.name is None:
        # Brought back from the trash: where to, the answer or the journal says.
        remote |= {"r_parent": e.s_parent, "r_name": e.s_name, "r_key": name_key(e.s_name or "")}
    trees.set(
        e.id,
        **_sent_columns(sent, "s"),
        **remote,
        **_revisions(e, sent, result.revision or 0),
        problem=None,
    )
    if result.entry is not None:
        learn(trees, result.entry)
    return Outcome(progress=True)


def _revisions(e: Entry, sent: Sent, revision: int) -> dict[str, int]:
    """What the revision of a result tells of: of what was sent, no more."""
    told = {"r_rev": max(revision, e.r_rev or 0)}
    if sent.op in ("put", "mkdir"):
        told |= {"s_rev": revision, "r_content_rev": revision}
    if sent.name is not None:
        told["r_place_rev"] = revision
    return told


def _merge(trees: Trees, e: Entry, other: Entry) -> None:
    columns = {name: getattr(other, name) for name in Entry.__slots__ if name.startswith("r_")}
    trees.forget_paths()
    for side in "lsr":
        trees.db.execute(f"UPDATE entry SET {side}_parent=? WHERE {side}_parent=?", (e.id, other.id))
    trees.drop(other.id)
    trees.set(e.id, **columns)


def _copied(trees: Trees, e: Entry, sent: Sent, result: OpResult) -> Outcome:
    """The server kept both: what was sent lives on as the copy, under its own name and node.

    The file here *is* the copy from now on; the folder follows by a rename, and what it ran into is fetched as new.
    An edit made meanwhile is an edit of the copy: nothing unseen is replaced.
    """
    copy = result.entry
    assert copy is not None
    if copy.id == e.node:
        # A rename that met a taken name: the same node under another name.
        trees.set(e.id, **_sent_columns(sent, "s"))
        learn(trees, copy)
        return Outcome(progress=True, conflict=copy.name)
    old_node = e.node
    already = trees.by_node(copy.id)
    if already is not None and already.id != e.id:
        if already.local or already.synced:
            return Outcome(progress=True, stale=True)
        trees.drop(already.id)
    if old_node is not None:
        remote = {name: getattr(e, name) for name in Entry.__slots__ if name.startswith("r_")}
        trees.set(e.id, node=None)
        trees.add(node=old_node, **remote)
    place = {"s_parent": sent.parent, "s_name": sent.name} if sent.name is not None else {}
    content = {"s_kind": FILE, "s_hash": sent.hash, "s_exec": sent.exec} if sent.op == "put" else {"s_kind": DIR}
    if old_node is not None and not place:
        place = {"s_parent": e.s_parent, "s_name": e.s_name}
    trees.set(e.id, node=copy.id, **_NOTHING_REMOTE, r_rev=None)
    trees.set(e.id, **place, **content, s_rev=result.revision, problem=None)
    learn(trees, copy)
    if sent.blobs is not None and sent.op == "put" and copy.content == sent.hash:
        trees.set(e.id, r_blobs=sent.blobs)
    if result.current is not None:
        learn(trees, result.current)
    return Outcome(progress=True, conflict=copy.name)
