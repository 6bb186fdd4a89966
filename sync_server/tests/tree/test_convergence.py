"""Promises 2, 3 and 5, for any history: three devices that follow the published rules, lost answers, replays, a server
that is stopped and opened again. Nothing acknowledged is lost, nothing overwritten unseen, everybody ends alike.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sync_protocol.hashing import blob_id
from sync_protocol.names import name_key
from sync_protocol.types import (
    CommitRequest,
    Delete,
    Mkdir,
    Move,
    NodeEntry,
    Op,
    OpResult,
    Put,
)
from sync_server.store.check import check
from sync_server.store.interface import Identity
from sync_server.store.maintenance import collect
from sync_server.store.sqlite import SqliteStore, StoreSettings
from sync_server.tree import Tree, TreeSettings

from .conftest import people

T = TypeVar("T")

NAMES = st.sampled_from(["a", "b", "A", "é", "e\u0301", "c.txt"])
KEEP = 5

# HISTORIES=3000 for a long look.
PROFILE = settings(
    max_examples=int(os.environ.get("HISTORIES", "50")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Known:
    """What a device knows of a node, and the content it would show its user."""

    entry: NodeEntry
    content: str | None


@dataclass
class Replica:
    """One device: what it knows (synced), and what it wants done and does not know the answer of (queue)."""

    who: Identity
    cursor: str | None = None
    known: dict[str, Known] = field(default_factory=dict)
    unanswered: CommitRequest | None = None
    seen: int = 0
    # Its own new files, which it has before the journal tells of them: id → (folder, content).
    made: dict[str, tuple[str, str]] = field(default_factory=dict)


class Histories(RuleBasedStateMachine):
    """The model is poor on purpose: contents that were acknowledged, and those somebody replaced who had seen them."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="sync-histories-", dir=memory if memory.is_dir() else None))
        self.numbers = 0
        self.acknowledged: set[str] = set()
        self.replaced: set[str] = set()
        self.replicas: list[Replica] = []
        self.store: SqliteStore
        self.tree: Tree

    def run(self, job: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(job)

    @initialize()
    def begin(self) -> None:
        self.open()
        self.run(self.store.sql_write(people))
        self.replicas = [Replica(Identity(1, number)) for number in (1, 2, 3)]

    def open(self) -> None:
        self.store = self.run(SqliteStore.open(self.folder / "data", StoreSettings(free_floor=0)))
        self.tree = Tree(self.store, TreeSettings(keep_versions=KEEP))

    def teardown(self) -> None:
        try:
            if self.replicas:
                self.quiesce()
        finally:
            if self.replicas:
                self.run(self.store.close())
            self.loop.close()
            shutil.rmtree(self.folder)

    # --- what users and networks do ---

    devices = st.integers(0, 2)
    fate = st.sampled_from(["arrives", "arrives", "arrives", "request lost", "answer lost"])

    @rule(device=devices, name=NAMES, pick=st.integers(0, 100), fate=fate)
    def create(self, device: int, name: str, pick: int, fate: str) -> None:
        replica = self.replicas[device]
        self.send(replica, self.put_of(replica, parent=self.some_folder(replica, pick), name=name), fate)

    @rule(device=devices, pick=st.integers(0, 100), fate=fate)
    def edit(self, device: int, pick: int, fate: str) -> None:
        replica = self.replicas[device]
        known = self.some(replica, pick, "file")
        if known is not None:
            self.send(replica, self.put_of(replica, node=known.entry.id, base=known.entry.revision), fate)

    @rule(device=devices, name=NAMES, pick=st.integers(0, 100), fate=fate)
    def mkdir(self, device: int, name: str, pick: int, fate: str) -> None:
        replica = self.replicas[device]
        self.send(replica, Mkdir(self.some_folder(replica, pick), name), fate)

    @rule(device=devices, name=NAMES, pick=st.integers(0, 100), to=st.integers(0, 100), fate=fate)
    def move(self, device: int, name: str, pick: int, to: int, fate: str) -> None:
        replica = self.replicas[device]
        known = self.some(replica, pick)
        if known is not None:
            target = self.some_folder(replica, to)
            self.send(replica, Move(known.entry.id, known.entry.revision, target, name), fate)

    @rule(device=devices, pick=st.integers(0, 100), fate=fate)
    def delete(self, device: int, pick: int, fate: str) -> None:
        replica = self.replicas[device]
        known = self.some(replica, pick)
        if known is not None:
            self.send(replica, Delete(known.entry.id, known.entry.revision, replica.seen), fate)

    @rule(device=devices)
    def pull(self, device: int) -> None:
        self.catch_up(self.replicas[device], limit=3, pages=1)

    @rule(device=devices)
    def replay(self, device: int) -> None:
        self.settle(self.replicas[device])

    @rule()
    def restart(self) -> None:
        self.run(self.store.close())
        self.open()

    @rule()
    def collect_garbage(self) -> None:
        # With no age at all: whatever is referenced must survive by being referenced.
        self.run(collect(self.store, min_age=-1000))

    @rule(pick=st.integers(0, 100), keep=st.sampled_from(["mine", "theirs", "both"]))
    def resolve(self, pick: int, keep: Any) -> None:
        who = self.replicas[0].who
        found = self.run(self.tree.conflicts(who, False, None, 100)).conflicts
        if not found:
            return
        conflict = found[pick % len(found)]
        if conflict.theirs.node.deleted or conflict.theirs.node.kind == "folder":
            keep = "both"
        self.run(self.tree.resolve(who, conflict.id, keep))
        mine, theirs = conflict.mine.node.content, conflict.theirs.node.content
        if keep == "mine" and theirs is not None:
            self.replaced.add(theirs)
        if keep == "theirs" and mine is not None:
            self.replaced.add(mine)

    # --- one device ---

    def some(self, replica: Replica, pick: int, kind: str | None = None) -> Known | None:
        known = [each for _, each in sorted(replica.known.items()) if kind in {None, each.entry.kind}]
        return known[pick % len(known)] if known else None

    def some_folder(self, replica: Replica, pick: int) -> str:
        folder = self.some(replica, pick, "folder")
        return "root" if folder is None or pick % 3 == 0 else folder.entry.id

    def put_of(self, replica: Replica, **target: Any) -> Put:
        self.numbers += 1
        data = f"content {self.numbers}".encode()
        self.run(self.tree.put_blobs(replica.who, [(blob_id(data), data)]))
        return Put([blob_id(data)], len(data), 0, **target)

    def send(self, replica: Replica, op: Op, fate: str) -> None:
        self.settle(replica)
        self.numbers += 1
        request = CommitRequest(f"operation-{self.numbers}", [op])
        if fate == "request lost":
            replica.unanswered = request
            return
        answer = self.run(self.tree.commit(replica.who, request))
        self.account_for(replica, op, answer.results[0])
        if fate == "answer lost":
            replica.unanswered = request
        else:
            self.learn(replica, op, answer.results[0])

    def settle(self, replica: Replica) -> None:
        """A device sends nothing new before it knows what became of the last."""
        if replica.unanswered is not None:
            request, replica.unanswered = replica.unanswered, None
            answer = self.run(self.tree.commit(replica.who, request))
            result = answer.results[0]
            if result.status == "missing_blobs":
                # Collected meanwhile: sent again under a new id, as the protocol says.
                op = request.ops[0]
                assert isinstance(op, Put)
                self.numbers += 1
                fresh = self.put_of(
                    replica, node=op.node, base=op.base, parent=op.parent, name=op.name, on_conflict=op.on_conflict
                )
                request = CommitRequest(f"operation-{self.numbers}-again", [fresh])
                result = self.run(self.tree.commit(replica.who, request)).results[0]
            self.account_for(replica, request.ops[0], result)
            self.learn(replica, request.ops[0], result)

    def account_for(self, replica: Replica, op: Op, result: OpResult) -> None:
        """What the model, which sees through lost answers, makes of it."""
        if isinstance(op, Put) and result.status in {"ok", "conflict_copy"}:
            self.acknowledged.add(op.blobs[0])
            if op.node is None and result.node is not None:
                place = result.entry.parent if result.entry is not None else op.parent
                replica.made[result.node] = (place or "root", op.blobs[0])
            before = replica.known.get(op.node or "")
            if result.status == "ok" and before is not None and before.content is not None:
                self.replaced.add(before.content)
        if isinstance(op, Move) and result.status in {"ok", "conflict_copy"}:
            # It is there for this device too before the journal tells: deleting the folder deletes it, knowingly.
            known = replica.known[op.node]
            known.entry = msgspec.structs.replace(known.entry, parent=op.parent)
            if op.node in replica.made:
                replica.made[op.node] = (op.parent, replica.made[op.node][1])
        if isinstance(op, Delete) and result.status == "ok":
            below = self.below(replica, op.node)
            self.replaced |= {known.content for known in below if known.content is not None}
            folders = {known.entry.id for known in below}
            self.replaced |= {content for folder, content in replica.made.values() if folder in folders}

    def learn(self, replica: Replica, op: Op, result: OpResult) -> None:
        if result.status != "ok":
            return
        if isinstance(op, Delete):
            for known in self.below(replica, op.node):
                replica.known.pop(known.entry.id, None)
        if isinstance(op, Put) and op.node == result.node and result.node in replica.known:
            known = replica.known[result.node]
            known.content = op.blobs[0]
            known.entry = replace_entry(known.entry, result.revision or 0, op.blobs[0])

    def below(self, replica: Replica, node: str) -> list[Known]:
        found = [known for known in replica.known.values() if known.entry.id == node]
        inside = [known for known in replica.known.values() if known.entry.parent == node]
        for known in inside:
            found += self.below(replica, known.entry.id)
        return found

    def catch_up(self, replica: Replica, limit: int, pages: int) -> None:
        self.settle(replica)
        for _ in range(pages):
            page = self.run(self.tree.changes(replica.who, replica.cursor, limit))
            replica.cursor = page.cursor
            for change in page.changes:
                replica.seen = max(replica.seen, change.node.revision)
                if change.node.deleted:
                    for known in self.below(replica, change.node.id):
                        replica.known.pop(known.entry.id, None)
                    continue
                known_now = replica.known.get(change.node.id)
                if known_now is None or known_now.entry.revision <= change.node.revision:
                    replica.known[change.node.id] = Known(change.node, change.node.content)
            if not page.more:
                return

    # --- what must be true ---

    def entries(self) -> dict[str, NodeEntry]:
        found: dict[str, NodeEntry] = {}
        page = self.run(self.tree.snapshot(self.replicas[0].who, None, 1000))
        while True:
            found |= {entry.id: entry for entry in page.entries}
            if page.next is None:
                return found
            page = self.run(self.tree.snapshot(self.replicas[0].who, page.next, 1000))

    @precondition(lambda self: bool(self.replicas))
    @invariant()
    def no_acknowledged_content_is_lost(self) -> None:
        """Each is somebody's current content, or somebody who had it replaced or deleted it."""
        current = {entry.content for entry in self.entries().values()}
        lost = self.acknowledged - self.replaced - current
        assert not lost, f"{len(lost)} contents are gone"

    @precondition(lambda self: bool(self.replicas))
    @invariant()
    def names_are_unique_and_everything_hangs_together(self) -> None:
        entries = self.entries()
        places = [(entry.parent, name_key(entry.name)) for entry in entries.values()]
        assert len(places) == len(set(places))
        for entry in entries.values():
            at, steps = entry, 0
            while at.parent != "root":
                at = entries[at.parent or ""]
                steps += 1
                assert steps <= len(entries), "a folder is inside itself"

    def quiesce(self) -> None:
        for replica in self.replicas:
            self.settle(replica)
        for replica in self.replicas:
            self.catch_up(replica, limit=7, pages=1000)
        truth = {
            key: (entry.parent, entry.name, entry.kind, entry.content, entry.revision)
            for key, entry in self.entries().items()
        }
        for replica in self.replicas:
            mine = {
                key: (known.entry.parent, known.entry.name, known.entry.kind, known.entry.content, known.entry.revision)
                for key, known in replica.known.items()
            }
            assert mine == truth, f"device {replica.who.device_id} has another tree than the server"
        report = check(self.store.root)
        assert report.ok, report


def replace_entry(entry: NodeEntry, revision: int, content: str) -> NodeEntry:
    return NodeEntry(entry.id, entry.kind, entry.name, entry.parent, revision, entry.size, entry.mtime, content=content)


Histories.TestCase.settings = PROFILE
test_any_history_of_three_devices_converges_and_loses_nothing = Histories.TestCase
