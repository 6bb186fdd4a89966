"""A small client that follows the five published rules and nothing else: test code, not the product.

Each device keeps three trees: *local* (its disk), *synced* (what local and server last agreed on) and *remote* (what
the journal told). It speaks to any `Server`: the one in this process or a real one over HTTP.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from sync_protocol.hashing import blob_id, content_id
from sync_protocol.names import conflict_name
from sync_protocol.types import (
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
)

from .disk import ROOT, Disk


class Lost(Exception):
    """The request or its answer was lost: whether the server did it is unknown."""


class Server(Protocol):
    """One device's way to the server."""

    @property
    def name(self) -> str: ...
    def changes(self, cursor: str | None, limit: int) -> ChangesPage: ...
    def commit(self, request: CommitRequest) -> CommitAnswer: ...
    def put_blob(self, data: bytes) -> None: ...
    def get_blob(self, name: str) -> bytes: ...


@dataclass
class Synced:
    """What this device and the server last agreed on about a node.

    Two bases: the answer to a move says nothing about the content, which another device may have changed before it.
    """

    parent: str
    name: str
    folder: bool
    content: str | None
    inode: int
    content_base: int
    place_base: int

    @property
    def newest(self) -> int:
        return max(self.content_base, self.place_base)


@dataclass(frozen=True)
class Intent:
    """One operation that was decided: where it came from, to judge its result by."""

    op: Op
    inode: int | None
    node: str | None
    data: bytes = b""


@dataclass(frozen=True)
class Queued:
    """A commit whose result is not known yet (rule 3)."""

    request: CommitRequest
    intents: tuple[Intent, ...]


@dataclass
class Flaws:
    """Rules that can be broken on purpose, to see that the tests notice."""

    skips_dirty_changes: bool = False
    overwrites_dirty_files: bool = False
    new_op_id_after_loss: bool = False
    forces_its_writes: bool = False
    delete_ignores_pending: bool = False


@dataclass
class Client:
    name: str
    server: Server
    flaws: Flaws = field(default_factory=Flaws)
    disk: Disk = field(default_factory=Disk)
    synced: dict[str, Synced] = field(default_factory=dict)
    remote: dict[str, NodeEntry] = field(default_factory=dict)
    # Nodes of which the journal must tell something at least so new before it is believed.
    wait_for: dict[str, int] = field(default_factory=dict)
    # Local moves that lost against another device's: the server's place counts.
    given_up: set[str] = field(default_factory=set)
    queue: Queued | None = None
    cursor: str | None = None
    seen: int = 0
    # Node -> revision -> content: what the server said it keeps.
    acknowledged: dict[str, dict[int, str]] = field(default_factory=dict)
    counter: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # --- pull: the journal into the remote tree -------------------------------------------------------------

    def pull(self, limit: int = 1000) -> bool:
        """Fetch one page; True when there was something."""
        page = self.server.changes(self.cursor, limit)
        for change in page.changes:
            node = change.node
            if self.flaws.skips_dirty_changes and self._dirty(node.id):
                continue
            if node.parent is None:
                continue
            if change.op == "delete" or node.deleted:
                for inner in self._below(node.id):
                    self.remote[inner] = _with(self.remote[inner], deleted=True)
                if node.id in self.remote:
                    self.remote[node.id] = _with(self.remote[node.id], deleted=True, revision=node.revision)
                else:
                    self.remote[node.id] = _with(node, deleted=True)
            else:
                self.remote[node.id] = node
            self.seen = max(self.seen, node.revision)
        self.cursor = page.cursor
        return bool(page.changes)

    def _below(self, node: str) -> list[str]:
        """Live nodes inside, as the remote tree has it."""
        found, waiting = [], [node]
        while waiting:
            parent = waiting.pop()
            inner = [entry.id for entry in self.remote.values() if entry.parent == parent and not entry.deleted]
            found += inner
            waiting += inner
        return found

    # --- apply: the remote tree onto the disk, where it is clean (rules 1 and 2) ----------------------------

    def apply(self) -> bool:
        """Bring over whatever is not in the way of a local change; True when anything changed."""
        progress = self._adopt_revived()
        while self._apply_pass():
            progress = True
        return progress

    def _apply_pass(self) -> bool:
        done = self._apply_moves() | self._adopt_revived()
        for entry in sorted(self.remote.values(), key=lambda entry: entry.revision):
            if self._pending(entry.id) or entry.revision < self.wait_for.get(entry.id, 0):
                continue
            synced = self.synced.get(entry.id)
            if entry.deleted:
                done |= synced is not None and self._apply_delete(entry.id, synced)
            elif synced is None:
                done |= self._apply_new(entry)
            elif entry.revision >= synced.newest:
                done |= self._apply_change(entry, synced)
        return done

    def _apply_delete(self, node: str, synced: Synced) -> bool:
        inode = self.disk.inodes.get(synced.inode)
        if inode is not None:
            overwrites = self.flaws.overwrites_dirty_files and not synced.folder
            if not overwrites and (self._content_dirty(synced) or self._place_dirty(node, synced)):
                return False
            if synced.folder and self.disk.children(synced.inode):
                return False
            self.disk.remove(synced.inode)
        self._forget(node)
        return True

    def _apply_new(self, entry: NodeEntry) -> bool:
        parent = self._inode_of(entry.parent)
        if parent is None:
            return False
        folder = entry.kind == "folder"
        taken = self.disk.lookup(parent, entry.name)
        if taken is not None and self._leaves(taken):
            # It waits for a place that this one may be part of.
            node = self._node_of(taken)
            assert node is not None
            self.given_up.add(node)
            self.disk.move(taken, ROOT, self._free(ROOT, f".moving-{node}"))
            taken = None
        if taken is None:
            data = b"" if folder else self._download(entry)
            taken = self.disk.create(parent, entry.name, folder, data)
        elif self._node_of(taken) is not None or self._asked(taken) or self.disk.inodes[taken].folder != folder:
            return False
        elif not folder and content_of(self.disk.inodes[taken].data) != entry.content:
            if not self.flaws.overwrites_dirty_files:
                return False
            self.disk.inodes[taken].data = self._download(entry)
        self._agree(entry, taken)
        return True

    def _apply_change(self, entry: NodeEntry, synced: Synced) -> bool:
        inode = self.disk.inodes.get(synced.inode)
        moved = (entry.parent, entry.name) != (synced.parent, synced.name)
        edited = not synced.folder and entry.content != synced.content
        if inode is None:
            if not (moved or edited):
                return False
            # Deleted here, changed there: what was changed comes back.
            self._forget(entry.id)
            return True
        if not moved:
            synced.place_base = entry.revision
        if edited:
            if content_of(inode.data) != entry.content:
                if self._content_dirty(synced) and not self.flaws.overwrites_dirty_files:
                    return False
                inode.data = self._download(entry)
            synced.content = entry.content
        synced.content_base = entry.revision
        return edited

    def _apply_moves(self) -> bool:
        """All at once, by way of names nobody uses: two files may have changed places."""
        wanted: dict[str, tuple[int, str]] = {}
        for node, synced in self.synced.items():
            entry = self.remote.get(node)
            if entry is None or entry.deleted or self._pending(node) or entry.revision < synced.newest:
                continue
            if entry.revision < self.wait_for.get(node, 0) or synced.inode not in self.disk.inodes:
                continue
            parent = self._inode_of(entry.parent)
            if parent is None or self._place_dirty(node, synced):
                continue
            inode = self.disk.inodes[synced.inode]
            moved = (entry.parent, entry.name) != (synced.parent, synced.name)
            if moved or (node in self.given_up and (inode.parent, inode.name) != (parent, entry.name)):
                wanted[node] = (parent, entry.name)
        while True:
            leaving = {self.synced[node].inode for node in wanted}
            blocked = [
                node
                for node, (parent, name) in wanted.items()
                if self.disk.lookup(parent, name) not in {None, *leaving} or self._would_cycle(node, wanted)
            ]
            if not blocked:
                break
            for node in blocked:
                del wanted[node]
        for node in wanted:
            inode = self.disk.inodes[self.synced[node].inode]
            inode.parent, inode.name = ROOT, f"\0{node}"
        for node, (parent, name) in wanted.items():
            entry, synced = self.remote[node], self.synced[node]
            self.disk.move(synced.inode, parent, name)
            assert entry.parent is not None
            synced.parent, synced.name = entry.parent, entry.name
            synced.place_base = entry.revision
            self.given_up.discard(node)
        return bool(wanted)

    def _would_cycle(self, node: str, wanted: dict[str, tuple[int, str]]) -> bool:
        """Whether the disk would have a ring of folders if all of `wanted` were done."""
        targets = {self.synced[one].inode: parent for one, (parent, _) in wanted.items()}
        number, met = self.synced[node].inode, set()
        while number != ROOT:
            if number in met:
                return True
            met.add(number)
            number = targets.get(number, self.disk.inodes[number].parent)
        return False

    def _leaves(self, inode: int) -> bool:
        """What is here is to go elsewhere, as another device had it."""
        node = self._node_of(inode)
        entry = self.remote.get(node or "")
        if node is None or node == "root" or entry is None or entry.deleted or self._pending(node):
            return False
        synced = self.synced[node]
        if entry.revision < max(synced.newest, self.wait_for.get(node, 0)) or self._place_dirty(node, synced):
            return False
        place = self.disk.inodes[inode]
        return (entry.parent, entry.name) != (self._node_of(place.parent), place.name)

    # --- push: the disk into the queue, the queue to the server (rule 3) ------------------------------------

    def push(self, batch: int = 1, tell: Callable[[str], None] = lambda line: None) -> bool:
        """Send what is queued, or the next local changes; True when there was something to do."""
        if self.queue is None:
            intents = self._decide(batch)
            if not intents:
                return False
            self.queue = Queued(
                CommitRequest(f"{self.name}-{next(self.counter):06}", [intent.op for intent in intents]),
                tuple(intents),
            )
        queued = self.queue
        tell(f"{self.name} sends {queued.request.op_id} {[_short(op) for op in queued.request.ops]}")
        try:
            for intent in queued.intents:
                if isinstance(intent.op, Put):
                    self.server.put_blob(intent.data)
            answer = self.server.commit(queued.request)
        except Lost:
            if self.flaws.new_op_id_after_loss:
                self.queue = None
            raise
        self.queue = None
        tell(f"{self.name} hears {[(one.status, one.node, one.revision, one.entry) for one in answer.results]}")
        for intent, result in zip(queued.intents, answer.results, strict=True):
            self._settle(intent, result)
        return True

    def _decide(self, batch: int) -> list[Intent]:
        self._adopt_revived()
        self._adopt_replaced()
        moves: list[str] = []
        edits: list[str] = []
        deletes: list[str] = []
        folders: list[int] = []
        files: list[int] = []
        for number, inode in sorted(self.disk.inodes.items()):
            if number == ROOT:
                continue
            node, parent = self._node_of(number), self._node_of(inode.parent)
            if node is None:
                if parent is not None:
                    (folders if inode.folder else files).append(number)
                continue
            synced = self.synced[node]
            if parent is not None and self._place_dirty(node, synced):
                moves.append(node)
            if self._content_dirty(synced):
                edits.append(node)
        for node, synced in sorted(self.synced.items()):
            if synced.inode not in self.disk.inodes and (
                synced.parent == "root" or self._inode_of(synced.parent) is not None
            ):
                deletes.append(node)

        for number in folders:
            if not self._blocked(number):
                return [self._mkdir(number)]
        for node in moves:
            if not self._blocked(self.synced[node].inode):
                return [self._move(node)]
        if edits:
            return [self._edit(node) for node in edits[:batch]]
        ready = [number for number in files if not self._blocked(number)]
        if ready:
            return [self._new(number) for number in ready[:batch]]
        for node in deletes:
            inner = self._synced_below(node)
            if any(self.synced[one].inode in self.disk.inodes for one in inner):
                continue
            if not self.flaws.delete_ignores_pending and self._unseen_inside(node, inner):
                for one in [node, *inner]:
                    self._forget(one)
                return self._decide(batch)
            synced = self.synced[node]
            if synced.newest > self.seen:
                # The journal may still tell what another device did to it before our own last change.
                continue
            return [Intent(Delete(node, min(synced.content_base, synced.place_base), self.seen), None, node)]
        for node, synced in sorted(self.synced.items()):
            # Everything waits for something else: two changed places. One steps aside.
            if self._place_dirty(node, synced) and not synced.name.startswith(".moving-"):
                aside = f".moving-{node}-{synced.place_base}"
                return [Intent(Move(node, synced.place_base, "root", aside), synced.inode, node)]
        for node in sorted(self.given_up):
            # What stands in its way here waits for it to go: then its place here counts after all.
            if node in self.synced and self.wait_for.get(node, 0) <= self.seen:
                self.given_up.discard(node)
                entry, synced = self.remote.get(node), self.synced[node]
                if entry is not None and entry.parent is not None and not entry.deleted:
                    synced.parent, synced.name, synced.place_base = entry.parent, entry.name, entry.revision
                    if self._place_dirty(node, synced):
                        return self._decide(batch)
        return []

    def _adopt_replaced(self) -> None:
        """A new file where a known one was is that file, saved anew: programs write beside and rename."""
        for synced in self.synced.values():
            if synced.inode in self.disk.inodes:
                continue
            parent = self._inode_of(synced.parent)
            found = None if parent is None else self.disk.lookup(parent, synced.name)
            if found is not None and self._node_of(found) is None and self.disk.inodes[found].folder == synced.folder:
                synced.inode = found

    def _adopt_revived(self) -> bool:
        """A folder another device deleted and the server made anew, because something here was put into it."""
        found = False
        for node, synced in list(self.synced.items()):
            if synced.inode not in self.disk.inodes or node not in self.synced:
                continue
            inode = self.disk.inodes[synced.inode]
            # By name; and, where the name was taken meanwhile, by what the server put into it.
            if synced.folder and self._gone(node):
                same_name = (self._node_of(inode.parent), inode.name)
                for entry in list(self.remote.values()):
                    if (entry.parent, entry.name) == same_name and self._rebind(node, entry.id):
                        found = True
                        break
            above = self._node_of(inode.parent)
            if above is not None and above != synced.parent and self._gone(above):
                found |= self._rebind(above, synced.parent)
        return found

    def _gone(self, node: str) -> bool:
        return node in self.remote and self.remote[node].deleted

    def _rebind(self, old: str, new: str) -> bool:
        """The folder here is from now on `new`, and moves to where that is."""
        entry = self.remote.get(new)
        if entry is None or entry.deleted or entry.kind != "folder" or new in self.synced:
            return False
        if entry.revision < self.wait_for.get(new, 0):
            return False
        inode = self.synced[old].inode
        parent = self._node_of(self.disk.inodes[inode].parent)
        self._forget(old)
        self._agree(entry, inode)
        if parent is not None:
            self.synced[new].parent, self.synced[new].name = parent, self.disk.inodes[inode].name
        for inner in self.synced.values():
            if inner.parent == old:
                inner.parent = new
        return True

    def _mkdir(self, number: int) -> Intent:
        inode = self.disk.inodes[number]
        parent = self._node_of(inode.parent)
        assert parent is not None
        return Intent(Mkdir(parent, inode.name), number, None)

    def _move(self, node: str) -> Intent:
        synced = self.synced[node]
        inode = self.disk.inodes[synced.inode]
        parent = self._node_of(inode.parent)
        assert parent is not None
        return Intent(Move(node, synced.place_base, parent, inode.name), synced.inode, node)

    def _edit(self, node: str) -> Intent:
        synced = self.synced[node]
        data = self.disk.inodes[synced.inode].data
        base = (
            self.remote[node].revision if self.flaws.forces_its_writes and node in self.remote else synced.content_base
        )
        return Intent(Put([blob_id(data)], len(data), 0, node=node, base=base), synced.inode, node, data)

    def _new(self, number: int) -> Intent:
        inode = self.disk.inodes[number]
        parent = self._node_of(inode.parent)
        op = Put([blob_id(inode.data)], len(inode.data), 0, parent=parent, name=inode.name)
        return Intent(op, number, None, inode.data)

    def _blocked(self, number: int) -> bool:
        """The name is that of a node that is to go away first: deleted or moved here, not yet told to the server."""
        inode = self.disk.inodes[number]
        parent = self._node_of(inode.parent)
        return any(
            (synced.parent, synced.name) == (parent, inode.name) and synced.inode != number
            for synced in self.synced.values()
        )

    def _unseen_inside(self, node: str, inner: list[str]) -> bool:
        """Another device changed something in there that was not brought here yet: its user has not seen it."""
        for one in {node, *inner, *self._below(node)}:
            entry, synced = self.remote.get(one), self.synced.get(one)
            if entry is None or entry.deleted:
                continue
            if synced is None:
                if entry.revision >= self.wait_for.get(one, 0):
                    return True
            elif entry.revision > min(synced.content_base, synced.place_base):
                return True
        return False

    # --- results --------------------------------------------------------------------------------------------

    def _settle(self, intent: Intent, result: OpResult) -> None:
        settle: dict[type, Callable[[Intent, OpResult], None]] = {
            Put: self._settle_put,
            Mkdir: self._settle_mkdir,
            Move: self._settle_move,
            Delete: self._settle_delete,
        }
        settle[type(intent.op)](intent, result)

    def _settle_put(self, intent: Intent, result: OpResult) -> None:
        op = intent.op
        assert isinstance(op, Put)
        content = content_of(intent.data)
        assert result.status in {"ok", "same", "conflict_copy", "not_found"}, result
        if result.status == "not_found":
            if intent.node is not None:
                self._forget(intent.node)
            return
        assert result.node is not None
        assert result.revision is not None
        if result.status != "same":
            self.acknowledged.setdefault(result.node, {})[result.revision] = content
        if intent.node is not None and result.node == intent.node:
            if intent.node in self.synced:
                synced = self.synced[intent.node]
                synced.content, synced.content_base = content, result.revision
                if result.entry is not None and result.entry.parent is not None:
                    synced.parent, synced.name = result.entry.parent, result.entry.name
                    synced.place_base = result.revision
            return
        entry = result.entry
        if result.status == "conflict_copy":
            assert entry is not None
            assert result.current is not None
            self.wait_for[result.current.id] = result.current.revision
        inode = self.disk.inodes.get(intent.inode) if intent.inode is not None else None
        if inode is None or intent.inode is None:
            return
        unchanged = inode.data == intent.data
        if result.status == "conflict_copy" and not unchanged:
            # The newer edit was made without seeing what the older one ran into: its base stays (rule 5).
            return
        if self._node_of(intent.inode) == result.node:
            # The journal told it before the answer did.
            return
        if result.node in self.synced:
            # The same file is here under another name, which another device changed to this one meanwhile.
            if unchanged:
                self.disk.remove(intent.inode)
            return
        where = self._node_of(inode.parent), inode.name
        before = self.synced.get(intent.node or "")
        asked = (before.parent, before.name) if before is not None else (op.parent, op.name)
        if intent.node is not None:
            self._forget(intent.node)
        known = entry is not None and entry.id == result.node
        parent, name = (entry.parent, entry.name) if known and entry is not None else (op.parent, op.name)
        assert parent is not None
        assert name is not None
        self.synced[result.node] = Synced(parent, name, False, content, intent.inode, result.revision, result.revision)
        if known and where == asked:
            self._rename_here(intent.inode, parent, name)

    def _settle_mkdir(self, intent: Intent, result: OpResult) -> None:
        op = intent.op
        assert isinstance(op, Mkdir)
        assert result.status in {"ok", "same", "conflict_copy", "not_found"}, result
        if result.status == "not_found":
            self._forget(op.parent)
            return
        assert result.node is not None
        assert result.revision is not None
        if intent.inode not in self.disk.inodes or intent.inode is None:
            return
        if self._node_of(intent.inode) == result.node:
            return
        if result.node in self.synced:
            self._merge_folders(intent.inode, self.synced[result.node].inode)
            return
        entry = result.entry if result.entry is not None and result.entry.id == result.node else None
        parent, name = (entry.parent, entry.name) if entry is not None else (op.parent, op.name)
        assert parent is not None
        self.synced[result.node] = Synced(parent, name, True, None, intent.inode, result.revision, result.revision)
        inode = self.disk.inodes[intent.inode]
        if entry is not None and (self._node_of(inode.parent), inode.name) == (op.parent, op.name):
            self._rename_here(intent.inode, parent, name)

    def _merge_folders(self, extra: int, kept: int) -> None:
        """A folder made here is one that another device moved to this name: what is in it goes into that one."""
        if kept not in self.disk.inodes or kept in self.disk.inside(extra) or extra in self.disk.ancestors(kept):
            return
        for name, child in self.disk.children(extra).items():
            self.disk.move(child, kept, self._free(kept, name))
        self.disk.remove(extra)

    def _settle_move(self, intent: Intent, result: OpResult) -> None:
        op = intent.op
        assert isinstance(op, Move)
        synced = self.synced.get(op.node)
        if synced is None:
            return
        if result.status in {"ok", "same", "conflict_copy"}:
            assert result.revision is not None
            entry = result.entry if result.entry is not None and result.entry.id == op.node else None
            parent, name = (entry.parent, entry.name) if entry is not None else (op.parent, op.name)
            assert parent is not None
            asked_for = (op.parent, op.name)
            synced.parent, synced.name, synced.place_base = parent, name, result.revision
            if (parent, name) != asked_for and intent.inode in self.disk.inodes and intent.inode is not None:
                inode = self.disk.inodes[intent.inode]
                if (self._node_of(inode.parent), inode.name) == asked_for:
                    self._rename_here(intent.inode, parent, name)
        elif result.status == "not_found":
            self._forget(op.node)
        else:
            self.given_up.add(op.node)
            if result.current is not None and result.current.id == op.node:
                self.wait_for[op.node] = result.current.revision

    def _settle_delete(self, intent: Intent, result: OpResult) -> None:
        op = intent.op
        assert isinstance(op, Delete)
        assert result.status in {"ok", "same", "stale", "not_found"}, result
        inner = self._synced_below(op.node)
        if result.status in {"ok", "same"}:
            for one in [op.node, *self._below(op.node)]:
                self.wait_for[one] = (result.revision or 0) + (0 if one == op.node else 1)
        elif result.current is not None and result.current.id == op.node:
            self.wait_for[op.node] = result.current.revision
        for one in [op.node, *inner]:
            if one in self.synced and self.synced[one].inode not in self.disk.inodes:
                self._forget(one)

    # --- small things ---------------------------------------------------------------------------------------

    def _agree(self, entry: NodeEntry, inode: int) -> None:
        assert entry.parent is not None
        folder = entry.kind == "folder"
        self.synced[entry.id] = Synced(
            entry.parent, entry.name, folder, entry.content, inode, entry.revision, entry.revision
        )

    def _forget(self, node: str) -> None:
        self.synced.pop(node, None)
        self.given_up.discard(node)

    def _rename_here(self, inode: int, parent: str, name: str) -> None:
        target = self._inode_of(parent)
        if target is None or inode in self.disk.ancestors(target)[:-1]:
            return
        if self.disk.lookup(target, name) != inode:
            self.disk.move(inode, target, self._free(target, name))

    def _free(self, parent: int, name: str) -> str:
        return next(
            tried
            for tried in itertools.chain(
                [name], (conflict_name(name, 0, self.name, number) for number in itertools.count(1))
            )
            if self.disk.lookup(parent, tried) is None
        )

    def _inode_of(self, node: str | None) -> int | None:
        if node == "root":
            return ROOT
        synced = self.synced.get(node or "")
        return synced.inode if synced is not None and synced.inode in self.disk.inodes else None

    def _node_of(self, inode: int) -> str | None:
        if inode == ROOT:
            return "root"
        return next((node for node, synced in self.synced.items() if synced.inode == inode), None)

    def _pending(self, node: str) -> bool:
        return self.queue is not None and any(
            intent.node == node or (intent.inode is not None and self._node_of(intent.inode) == node)
            for intent in self.queue.intents
        )

    def _asked(self, inode: int) -> bool:
        """An answer about it is awaited, which may make it another node."""
        return self.queue is not None and any(intent.inode == inode for intent in self.queue.intents)

    def _content_dirty(self, synced: Synced) -> bool:
        inode = self.disk.inodes.get(synced.inode)
        return inode is not None and not synced.folder and content_of(inode.data) != synced.content

    def _place_dirty(self, node: str, synced: Synced) -> bool:
        inode = self.disk.inodes.get(synced.inode)
        # Until the journal has told our own last change of it, its place on the server is not known.
        if inode is None or node in self.given_up or synced.newest > self.seen:
            return False
        return (self._node_of(inode.parent), inode.name) != (synced.parent, synced.name)

    def _dirty(self, node: str) -> bool:
        synced = self.synced.get(node)
        return synced is not None and (
            synced.inode not in self.disk.inodes or self._content_dirty(synced) or self._place_dirty(node, synced)
        )

    def _synced_below(self, node: str) -> list[str]:
        found, waiting = [], [node]
        while waiting:
            parent = waiting.pop()
            inner = [one for one, synced in self.synced.items() if synced.parent == parent]
            found += inner
            waiting += inner
        return found

    def _download(self, entry: NodeEntry) -> bytes:
        if entry.blobs is None or entry.content is None:
            # Pruned meanwhile: the journal has a later change of it.
            raise Lost
        return b"".join(self.server.get_blob(name) for name in entry.blobs)


def content_of(data: bytes) -> str:
    return content_id([blob_id(data)])


def _with(entry: NodeEntry, *, deleted: bool, revision: int | None = None) -> NodeEntry:
    return replace(entry, deleted=deleted, revision=entry.revision if revision is None else revision)


def _short(op: Op) -> str:
    return f"{type(op).__name__} {getattr(op, 'node', '')} {getattr(op, 'parent', '')}/{getattr(op, 'name', '')}"
