"""The server's published rules in one page of Python, without HTTP, files or a database.

It is a stand-in of the real server, for thousands of histories a second: the rules of the client are tested against it,
and the same property then runs against the real server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sync_protocol.hashing import blob_id, content_id
from sync_protocol.names import conflict_name, name_key
from sync_protocol.types import (
    Change,
    ChangesPage,
    CommitAnswer,
    CommitRequest,
    Delete,
    Kind,
    Mkdir,
    Move,
    NodeEntry,
    Op,
    OpResult,
    Put,
)


@dataclass
class Node:
    id: str
    folder: bool
    parent: str | None
    name: str
    revision: int = 0
    placed: int = 0
    filled: int = 0
    content: str | None = None
    blobs: list[str] = field(default_factory=list)
    deleted: bool = False
    versions: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class PublishedDevice:
    """A device's way to it that never fails."""

    server: PublishedServer
    name: str

    def changes(self, cursor: str | None, limit: int) -> ChangesPage:
        return self.server.changes(cursor, limit)

    def commit(self, request: CommitRequest) -> CommitAnswer:
        return self.server.commit(self.name, request)

    def put_blob(self, data: bytes) -> None:
        self.server.put_blob(data)

    def get_blob(self, name: str) -> bytes:
        return self.server.get_blob(name)


class PublishedServer:
    """One account."""

    def __init__(self) -> None:
        self.nodes = {"root": Node("root", True, None, "")}
        self.blobs: dict[str, bytes] = {}
        self.journal: list[Change] = []
        self.results: dict[tuple[str, str], CommitAnswer] = {}
        self._device = ""

    def device(self, name: str) -> PublishedDevice:
        return PublishedDevice(self, name)

    # --- what a client asks ---------------------------------------------------------------------------------

    def put_blob(self, data: bytes) -> None:
        self.blobs[blob_id(data)] = data

    def get_blob(self, name: str) -> bytes:
        return self.blobs[name]

    def changes(self, cursor: str | None, limit: int) -> ChangesPage:
        begin = int(cursor or 0)
        page = self.journal[begin : begin + limit]
        return ChangesPage(page, str(begin + len(page)), begin + len(page) < len(self.journal))

    def commit(self, device: str, request: CommitRequest) -> CommitAnswer:
        self._device = device
        key = (self._device, request.op_id)
        if key not in self.results:
            results = [self._do(op) for op in request.ops]
            self.results[key] = CommitAnswer(results, len(self.journal))
        return self.results[key]

    def live(self) -> dict[str, bytes | None]:
        """Path -> content, None for a folder."""
        found: dict[str, bytes | None] = {}
        for node in self.nodes.values():
            if node.id != "root" and self._alive(node.id):
                content = None if node.folder else b"".join(self.blobs[blob] for blob in node.blobs)
                found[self._path(node.id)] = content
        return found

    def versions(self, node: str) -> list[str]:
        """The current content and the five before it, the newest first."""
        return [content for _, content in reversed(self.nodes[node].versions[-6:])]

    # --- the rules ------------------------------------------------------------------------------------------

    def _do(self, op: Op) -> OpResult:
        does: dict[type, Callable[..., OpResult]] = {
            Put: self._put,
            Mkdir: self._mkdir,
            Move: self._move,
            Delete: self._delete,
        }
        return does[type(op)](op)

    def _put(self, op: Put) -> OpResult:
        content = content_id(op.blobs)
        if op.node is None:
            assert op.parent is not None
            assert op.name is not None
            if op.parent not in self.nodes:
                return OpResult("not_found")
            parent, revived = self._revived(op.parent)
            taken = self._child(parent, op.name)
            if taken is not None and taken.content == content and not taken.folder:
                return OpResult("same", taken.id, taken.revision, self._entry(taken) if revived else None)
            if taken is not None:
                return self._copy(parent, op, taken, False)
            node = self._new(parent, op.name, False)
            self._fill(node, op.blobs)
            return OpResult("ok", node.id, node.revision, self._entry(node) if revived else None)
        node_ = self.nodes.get(op.node)
        if node_ is None:
            return OpResult("not_found")
        node, base = node_, op.base or 0
        known = [version for revision, version in node.versions if revision <= base]
        if not self._alive(node.id):
            if known and known[-1] == content:
                return OpResult("stale", current=self._entry(node))
            parent, _ = self._revived(node.parent or "root")
            if self._child(parent, node.name) is not None:
                return self._copy(parent, op, node, False)
            node.deleted, node.parent = False, parent
            node.placed = len(self.journal) + 1
            self._fill(node, op.blobs)
            return OpResult("ok", node.id, node.revision, self._entry(node))
        if node.content == content:
            return OpResult("same", node.id, node.revision)
        if node.filled > base:
            if known and known[-1] == content:
                return OpResult("stale", current=self._entry(node))
            return self._copy(node.parent or "root", op, node, False)
        self._fill(node, op.blobs)
        return OpResult("ok", node.id, node.revision)

    def _mkdir(self, op: Mkdir) -> OpResult:
        if op.parent not in self.nodes:
            return OpResult("not_found")
        parent, revived = self._revived(op.parent)
        taken = self._child(parent, op.name)
        if taken is not None and taken.folder:
            return OpResult("same", taken.id, taken.revision, self._entry(taken) if revived else None)
        if taken is not None:
            return self._copy(parent, op, taken, True)
        node = self._new(parent, op.name, True)
        self._tell("mkdir", node)
        return OpResult("ok", node.id, node.revision, self._entry(node) if revived else None)

    def _move(self, op: Move) -> OpResult:
        node = self.nodes.get(op.node)
        if node is None or op.parent not in self.nodes:
            return OpResult("not_found")
        if not self._alive(node.id) or node.placed > op.base:
            if self._alive(node.id) and (node.parent, node.name) == (op.parent, op.name):
                return OpResult("same", node.id, node.revision)
            return OpResult("stale", current=self._entry(node))
        parent, revived = self._revived(op.parent)
        if parent == node.id or node.id in self._ancestors(parent):
            return OpResult("cycle", current=self._entry(node))
        if (node.parent, node.name) == (parent, op.name):
            return OpResult("same", node.id, node.revision)
        taken, name = self._child(parent, op.name), op.name
        if taken is not None and taken.id != node.id:
            name = self._free(parent, op.name)
        node.parent, node.name, node.placed = parent, name, len(self.journal) + 1
        self._tell("move", node)
        if name != op.name:
            return OpResult("conflict_copy", node.id, node.revision, self._entry(node), self._entry(taken or node))
        return OpResult("ok", node.id, node.revision, self._entry(node) if revived else None)

    def _delete(self, op: Delete) -> OpResult:
        node = self.nodes.get(op.node)
        if node is None:
            return OpResult("not_found")
        if not self._alive(node.id):
            return OpResult("same", node.id, node.revision)
        seen = op.base if op.seen is None else op.seen
        inside = [one for one in self.nodes.values() if node.id in self._ancestors(one.id) and self._alive(one.id)]
        foreign = [change for change in self.journal[seen:] if change.device != self._device]
        touched = {change.node.id for change in foreign}
        if node.revision > op.base or (node.folder and touched & {one.id for one in inside}):
            return OpResult("stale", current=self._entry(node))
        node.deleted = True
        self._tell("delete", node)
        return OpResult("ok", node.id, node.revision)

    # --- small things ---------------------------------------------------------------------------------------

    def _copy(self, parent: str, op: Put | Mkdir, taken: Node, folder: bool) -> OpResult:
        copy = self._new(parent, self._free(parent, op.name if op.name is not None else taken.name), folder)
        if isinstance(op, Put):
            self._fill(copy, op.blobs)
        else:
            self._tell("mkdir", copy)
        return OpResult("conflict_copy", copy.id, copy.revision, self._entry(copy), self._entry(taken))

    def _free(self, parent: str, name: str) -> str:
        attempt = 1
        while self._child(parent, found := conflict_name(name, 0, self._device, attempt)) is not None:
            attempt += 1
        return found

    def _new(self, parent: str, name: str, folder: bool) -> Node:
        node = Node(f"n{len(self.nodes)}", folder, parent, name, placed=len(self.journal) + 1)
        self.nodes[node.id] = node
        return node

    def _fill(self, node: Node, blobs: list[str]) -> None:
        assert all(blob in self.blobs for blob in blobs)
        node.content, node.blobs, node.filled = content_id(blobs), list(blobs), len(self.journal) + 1
        node.versions.append((node.filled, node.content))
        self._tell("put", node)

    def _tell(self, op: str, node: Node) -> None:
        node.revision = len(self.journal) + 1
        self.journal.append(Change(op, self._entry(node), self._device))  # type: ignore[arg-type]

    def _entry(self, node: Node) -> NodeEntry:
        kind: Kind = "folder" if node.folder else "file"
        return NodeEntry(
            node.id, kind, node.name, node.parent, node.revision, content=node.content,
            blobs=None if node.folder else list(node.blobs), deleted=not self._alive(node.id),
        )  # fmt: skip

    def _revived(self, folder: str) -> tuple[str, bool]:
        """A live folder where `folder` is or was, made anew when it was deleted; and whether it is another one."""
        node = self.nodes[folder]
        if self._alive(folder):
            return folder, False
        parent, _ = self._revived(node.parent or "root")
        taken = self._child(parent, node.name)
        if taken is not None and taken.folder:
            return taken.id, True
        made = self._new(parent, node.name if taken is None else self._free(parent, node.name), True)
        self._tell("mkdir", made)
        return made.id, True

    def _child(self, parent: str, name: str) -> Node | None:
        key = name_key(name)
        return next(
            (
                node
                for node in self.nodes.values()
                if node.parent == parent and not node.deleted and name_key(node.name) == key
            ),
            None,
        )

    def _ancestors(self, node: str) -> set[str]:
        found: set[str] = set()
        current: str | None = node
        while current is not None:
            found.add(current)
            current = self.nodes[current].parent
        return found

    def _alive(self, node: str) -> bool:
        return not any(self.nodes[one].deleted for one in self._ancestors(node))

    def _path(self, node: str) -> str:
        names = []
        while node != "root":
            names.append(self.nodes[node].name)
            node = self.nodes[node].parent or "root"
        return "/".join(reversed(names))
