"""One device of one account, as short as a test needs it."""

from __future__ import annotations

import itertools
from hashlib import sha256

from sync_protocol.types import (
    Change,
    CommitAnswer,
    CommitRequest,
    Delete,
    Mkdir,
    Move,
    NodeEntry,
    OnConflict,
    Op,
    OpResult,
    Put,
    Restore,
)
from sync_server.store.interface import Identity
from sync_server.tree import Tree

_numbers = itertools.count(1)


class Device:
    def __init__(self, tree: Tree, account: int, device: int) -> None:
        self.tree = tree
        self.who = Identity(account, device)
        self.cursor: str | None = None

    async def upload(self, data: bytes) -> list[str]:
        if not data:
            return []
        name = sha256(data).hexdigest()
        assert [result.status for result in await self.tree.put_blobs(self.who, [(name, data)])] == ["ok"]
        return [name]

    async def commit(self, *ops: Op, op_id: str | None = None, atomic: bool = False) -> CommitAnswer:
        request = CommitRequest(op_id or f"operation-{next(_numbers)}", list(ops), atomic)
        return await self.tree.commit(self.who, request)

    async def one(self, op: Op) -> OpResult:
        (result,) = (await self.commit(op)).results
        return result

    async def create(
        self, name: str, data: bytes = b"", parent: str = "root", on_conflict: OnConflict = "copy"
    ) -> OpResult:
        blobs = await self.upload(data)
        return await self.one(Put(blobs, len(data), 0, parent=parent, name=name, on_conflict=on_conflict))

    async def edit(
        self,
        node: str | None,
        base: int | None,
        data: bytes,
        on_conflict: OnConflict = "copy",
        executable: bool = False,
    ) -> OpResult:
        blobs = await self.upload(data)
        return await self.one(
            Put(blobs, len(data), 0, node=node, base=base, on_conflict=on_conflict, executable=executable)
        )

    async def mkdir(self, name: str, parent: str = "root") -> OpResult:
        return await self.one(Mkdir(parent, name))

    async def move(
        self, node: str | None, base: int | None, parent: str, name: str, on_conflict: OnConflict = "copy"
    ) -> OpResult:
        return await self.one(Move(node or "", base or 0, parent, name, on_conflict))

    async def delete(self, node: str | None, base: int | None, seen: int | None = None) -> OpResult:
        return await self.one(Delete(node or "", base or 0, seen))

    async def restore(self, node: str | None, version: int | None = None, base: int | None = None) -> OpResult:
        return await self.one(Restore(node or "", version, base))

    async def pull(self) -> list[Change]:
        found: list[Change] = []
        while True:
            page = await self.tree.changes(self.who, self.cursor, 100)
            found += page.changes
            self.cursor = page.cursor
            if not page.more:
                return found

    async def read(self, node: str | None, revision: int | None = None) -> bytes:
        content = await self.tree.open(self.who, node or "", revision)
        return b"".join(part.path.read_bytes() for part in content.parts)

    async def names(self, folder: str = "root") -> list[str]:
        return [entry.name for entry in (await self.tree.children(self.who, folder, None, 1000)).entries]

    async def at(self, path: str) -> NodeEntry:
        return await self.tree.find(self.who, path)

    async def texts(self, folder: str = "root") -> dict[str, bytes]:
        """Path and content of every file."""
        found: dict[str, bytes] = {}
        listing = await self.tree.children(self.who, folder, None, 1000)
        for entry in listing.entries:
            if entry.kind == "file":
                found[entry.name] = await self.read(entry.id)
            else:
                inside = await self.texts(entry.id)
                found |= {f"{entry.name}/{path}": data for path, data in inside.items()}
        return found
