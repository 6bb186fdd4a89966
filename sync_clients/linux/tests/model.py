# SPDX-License-Identifier: GPL-3.0-or-later
"""A model of the server: the rules of its documentation in memory, without HTTP, a database or speed.

A stand-in for the property test alone; every other test runs the real server.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
from contents import LINKED

from sync_client.errors import CursorGone, Offline
from sync_protocol.hashing import blob_id, content_id
from sync_protocol.names import conflict_name, name_key
from sync_protocol.types import (
    Change,
    ChangesPage,
    CommitAnswer,
    CommitRequest,
    Delete,
    Mkdir,
    Move,
    NodeEntry,
    Op,
    OpResult,
    Put,
    Snapshot,
)


@dataclass
class Node:
    id: str
    kind: str
    parent: str | None
    name: str
    rev: int = 0
    content_rev: int = 0
    place_rev: int = 0
    device: str = ""
    blobs: tuple[str, ...] = ()
    size: int = 0
    mtime: int = 0
    executable: bool = False
    symlink: bool = False
    deleted: bool = False

    @property
    def content(self) -> tuple[tuple[str, ...], bool, bool]:
        return self.blobs, self.executable, self.symlink

    def entry(self) -> NodeEntry:
        return NodeEntry(
            id=self.id,
            kind=self.kind,  # type: ignore[arg-type]
            name=self.name,
            parent=self.parent,
            revision=self.rev,
            size=self.size,
            mtime=self.mtime,
            executable=self.executable,
            content=content_id(self.blobs) if self.kind == "file" else None,
            blobs=list(self.blobs) if self.kind == "file" else None,
            deleted=self.deleted,
            symlink=self.symlink,
        )


@dataclass
class Model:
    """One account."""

    rev: int = 0
    nodes: dict[str, Node] = field(default_factory=lambda: {"root": Node("root", "folder", None, "")})
    journal: list[Change] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    results: dict[tuple[str, str], CommitAnswer] = field(default_factory=dict)
    horizon: int = 0
    page: int = 3

    def live(self, node: Node) -> bool:
        while True:
            if node.deleted:
                return False
            if node.parent is None:
                return True
            node = self.nodes[node.parent]

    def child(self, parent: str, name: str) -> Node | None:
        for node in self.nodes.values():
            if node.parent == parent and not node.deleted and name_key(node.name) == name_key(name):
                return node
        return None

    def path(self, node: Node) -> str:
        return "" if node.parent is None else f"{self.path(self.nodes[node.parent])}/{node.name}".lstrip("/")

    def tree(self) -> dict[str, bytes | None]:
        return {
            self.path(node): self.text(node)
            for node in self.nodes.values()
            if node.parent is not None and self.live(node)
        }

    def text(self, node: Node) -> bytes | None:
        if node.kind == "folder":
            return None
        return (LINKED if node.symlink else b"") + b"".join(self.blobs[b] for b in node.blobs)

    def inside(self, node: str | None, ancestor: str) -> bool:
        while node is not None:
            if node == ancestor:
                return True
            node = self.nodes[node].parent
        return False

    def _log(self, op: str, node: Node, device: str, *, content: bool = False, place: bool = False) -> None:
        self.rev += 1
        node.rev, node.device = self.rev, device
        if content:
            node.content_rev = self.rev
        if place:
            node.place_rev = self.rev
        self.journal.append(Change(op=op, node=node.entry(), device=device))  # type: ignore[arg-type]

    def _new(self, kind: str, parent: str, name: str) -> Node:
        node = Node(f"n{len(self.nodes)}", kind, parent, name)
        self.nodes[node.id] = node
        return node

    def _folder(self, ref: str, made: list[OpResult], device: str) -> Node | None:
        if ref.startswith("@"):
            result = made[int(ref[1:])]
            if result.node is None:
                return None
            ref = result.node
        node = self.nodes.get(ref)
        if node is None or node.kind != "folder":
            return None
        return self._alive(node, device)

    def _alive(self, node: Node, device: str) -> Node:
        """The folder, or one in its old place when it is in the trash."""
        if self.live(node):
            return node
        assert node.parent is not None
        parent = self._alive(self.nodes[node.parent], device)
        there = self.child(parent.id, node.name)
        if there is not None and there.kind == "folder":
            return there
        name = node.name if there is None else self._free(parent.id, node.name, device)
        anew = self._new("folder", parent.id, name)
        self._log("mkdir", anew, device, place=True)
        return anew

    def _free(self, parent: str, name: str, device: str) -> str:
        for attempt in range(1, 10_000):
            copy = conflict_name(name, self.rev * 1000, device, attempt)
            if self.child(parent, copy) is None:
                return copy
        raise AssertionError

    def commit(self, device: str, body: bytes) -> CommitAnswer:
        request = msgspec.json.decode(body, type=CommitRequest)
        known = self.results.get((device, request.op_id))
        if known is not None:
            return known
        made: list[OpResult] = []
        for op in request.ops:
            result = self._op(op, made, device)
            made.append(result)
        answer = CommitAnswer(results=made, revision=self.rev)
        self.results[(device, request.op_id)] = answer
        return answer

    def _op(self, op: Op, made: list[OpResult], device: str) -> OpResult:
        if isinstance(op, Put):
            return self._put(op, made, device)
        if isinstance(op, Mkdir):
            return self._mkdir(op, made, device)
        if isinstance(op, Move):
            return self._move(op, made, device)
        assert isinstance(op, Delete)
        return self._delete(op, device)

    def _fill(self, node: Node, op: Put) -> None:
        node.blobs, node.size, node.mtime, node.executable = tuple(op.blobs), op.size, op.mtime, op.executable
        node.symlink = bool(op.symlink)

    def _put(self, op: Put, made: list[OpResult], device: str) -> OpResult:
        missing = [b for b in op.blobs if b not in self.blobs]
        if missing:
            return OpResult("missing_blobs", missing=missing)
        wanted = (tuple(op.blobs), op.executable, bool(op.symlink))
        if op.node is None:
            assert op.parent is not None
            assert op.name is not None
            parent = self._folder(op.parent, made, device)
            if parent is None:
                return OpResult("not_found")
            there = self.child(parent.id, op.name)
            moved = parent.id != op.parent and not op.parent.startswith("@")
            if there is None:
                node = self._new("file", parent.id, op.name)
                self._fill(node, op)
                self._log("put", node, device, content=True, place=True)
                return OpResult("ok", node=node.id, revision=node.rev, entry=node.entry() if moved else None)
            if there.name != op.name:
                return OpResult("clash", current=there.entry())
            if there.kind == "file" and there.content == wanted:
                return OpResult("same", node=there.id, revision=there.rev, entry=there.entry() if moved else None)
            return self._copy(op, there, parent.id, op.name, device)
        node = self.nodes.get(op.node)  # type: ignore[assignment]
        if node is None:
            return OpResult("not_found")
        if not self.live(node):
            assert node.parent is not None
            parent = self._alive(self.nodes[node.parent], device)
            node.deleted = False
            node.parent = parent.id
            taken = [n for n in self.nodes.values() if n.parent == parent.id and not n.deleted and n is not node]
            if any(name_key(n.name) == name_key(node.name) for n in taken):
                node.name = self._free(parent.id, node.name, device)
            self._fill(node, op)
            self._log("restore", node, device, content=True, place=True)
            return OpResult("ok", node=node.id, revision=node.rev, entry=node.entry())
        if node.content_rev > (op.base or 0):
            if node.content == wanted:
                return OpResult("same", node=node.id, revision=node.rev)
            assert node.parent is not None
            return self._copy(op, node, node.parent, node.name, device)
        if node.content == wanted:
            return OpResult("stale", current=node.entry())
        self._fill(node, op)
        self._log("put", node, device, content=True)
        return OpResult("ok", node=node.id, revision=node.rev)

    def _copy(self, op: Put, there: Node, parent: str, name: str, device: str) -> OpResult:
        copy = self._new("file", parent, self._free(parent, name, device))
        self._fill(copy, op)
        self._log("put", copy, device, content=True, place=True)
        return OpResult("conflict_copy", node=copy.id, revision=copy.rev, entry=copy.entry(), current=there.entry())

    def _mkdir(self, op: Mkdir, made: list[OpResult], device: str) -> OpResult:
        parent = self._folder(op.parent, made, device)
        if parent is None:
            return OpResult("not_found")
        moved = parent.id != op.parent and not op.parent.startswith("@")
        there = self.child(parent.id, op.name)
        name = op.name
        if there is not None:
            if there.name != op.name:
                return OpResult("clash", current=there.entry())
            if there.kind == "folder":
                return OpResult("same", node=there.id, revision=there.rev, entry=there.entry() if moved else None)
            name = self._free(parent.id, op.name, device)
        node = self._new("folder", parent.id, name)
        self._log("mkdir", node, device, place=True)
        if there is not None:
            return OpResult("conflict_copy", node=node.id, revision=node.rev, entry=node.entry(), current=there.entry())
        return OpResult("ok", node=node.id, revision=node.rev, entry=node.entry() if moved else None)

    def _move(self, op: Move, made: list[OpResult], device: str) -> OpResult:
        node = self.nodes.get(op.node)
        if node is None or not self.live(node):
            return OpResult("not_found")
        if node.place_rev > op.base:
            return OpResult("stale", current=node.entry())
        parent = self._folder(op.parent, made, device)
        if parent is None:
            return OpResult("not_found")
        if self.inside(parent.id, node.id):
            return OpResult("cycle")
        moved = parent.id != op.parent and not op.parent.startswith("@")
        if (node.parent, node.name) == (parent.id, op.name):
            return OpResult("same", node=node.id, revision=node.rev)
        there = self.child(parent.id, op.name)
        name, status = op.name, "ok"
        if there is not None and there is not node:
            if there.name != op.name:
                return OpResult("clash", current=there.entry())
            name, status = self._free(parent.id, op.name, device), "conflict_copy"
        node.parent, node.name = parent.id, name
        self._log("move", node, device, place=True)
        return OpResult(
            status,  # type: ignore[arg-type]
            node=node.id,
            revision=node.rev,
            entry=node.entry() if moved or status != "ok" else None,
            current=there.entry() if status != "ok" and there is not None else None,
        )

    def _delete(self, op: Delete, device: str) -> OpResult:
        node = self.nodes.get(op.node)
        if node is None or not self.live(node):
            return OpResult("same", node=op.node)
        if node.rev > op.base:
            return OpResult("stale", current=node.entry())
        if node.kind == "folder":
            for other in self.nodes.values():
                unseen = other.rev > (op.seen or op.base) and other.device != device
                if unseen and other is not node and self.live(other) and self.inside(other.id, node.id):
                    return OpResult("stale", current=node.entry())
        node.deleted = True
        self._log("delete", node, device)
        return OpResult("ok", node=node.id, revision=node.rev)


class Line:
    """One device's connection: it can be down, and it can lose an answer after the server did what was asked."""

    def __init__(self, model: Model, device: str) -> None:
        self.model = model
        self.device = device
        self.down = False
        self.lose = 0

    def _up(self) -> None:
        if self.down:
            raise Offline("no connection")

    def _back(self) -> None:
        if self.lose:
            self.lose -= 1
            raise Offline("the answer was lost")

    def changes(self, cursor: str) -> ChangesPage:
        self._up()
        at = int(cursor)
        if at < self.model.horizon:
            raise CursorGone("gone")
        rows = [c for c in self.model.journal if c.node.revision > at]
        page = rows[: self.model.page]
        return ChangesPage(
            changes=page,
            cursor=str(page[-1].node.revision if page else max(at, self.model.rev)),
            more=len(rows) > len(page),
        )

    def snapshot(self, page: str | None) -> Snapshot:
        self._up()
        live = sorted((n for n in self.model.nodes.values() if self.model.live(n)), key=lambda n: n.id)
        start = int(page or 0)
        part = live[start : start + self.model.page]
        more = start + len(part) < len(live)
        return Snapshot(
            entries=[n.entry() for n in part],
            cursor=str(self.model.rev),
            next=str(start + len(part)) if more else None,
        )

    def node(self, node: str) -> NodeEntry:
        self._up()
        return self.model.nodes[node].entry()

    def have(self, blobs: list[str]) -> list[str]:
        self._up()
        return [b for b in blobs if b not in self.model.blobs]

    def put_blobs(self, blobs: list[tuple[str, bytes]]) -> None:
        self._up()
        for name, data in blobs:
            assert blob_id(data) == name
            self.model.blobs[name] = data
        self._back()

    def get_blobs(self, blobs: list[str]) -> Iterable[bytes]:
        self._up()
        return [self.model.blobs[b] for b in blobs]

    def commit(self, request: bytes) -> CommitAnswer:
        self._up()
        answer = self.model.commit(self.device, request)
        self._back()
        return answer
