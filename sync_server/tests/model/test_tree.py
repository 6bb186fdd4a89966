"""The same random histories against the real rules and the real store, in this process: no network between."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sync_protocol.hashing import blob_id
from sync_protocol.types import ChangesPage, CommitAnswer, CommitRequest, NodeEntry
from sync_server.store.interface import Identity, NotFound
from sync_server.store.sqlite import SqliteStore, StoreSettings
from sync_server.tree import Tree, TreeSettings

from .histories import Line, live_through, tree_of
from .rules_client import Flaws, Lost

HISTORIES = int(os.environ.get("MODEL_TREE_HISTORIES", "60"))
T = TypeVar("T")


class Account:
    """One account on the real tree; every call runs the loop until it is answered."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: SqliteStore, tree: Tree, number: int) -> None:
        self.loop, self.store, self.tree, self.number = loop, store, tree, number

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO accounts (id, name) VALUES (?, ?)", (number, f"account{number}"))

        self.run(store.sql_write(insert))

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    def device(self, name: str, number: int) -> Device:
        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO devices (id, account_id, name) VALUES (?, ?, ?)", (number, self.number, name)
            )

        self.run(self.store.sql_write(insert))
        return Device(self, name, Identity(self.number, number, frozenset({"read", "write"})))


class Device:
    def __init__(self, account: Account, name: str, who: Identity) -> None:
        self.account, self.name, self.who = account, name, who
        self.tree = account.tree

    def changes(self, cursor: str | None, limit: int) -> ChangesPage:
        return self.account.run(self.tree.changes(self.who, cursor, limit))

    def commit(self, request: CommitRequest) -> CommitAnswer:
        return self.account.run(self.tree.commit(self.who, request))

    def put_blob(self, data: bytes) -> None:
        self.account.run(self.tree.put_blobs(self.who, [(blob_id(data), data)]))

    def get_blob(self, name: str) -> bytes:
        try:
            return self.account.run(self.tree.blob(self.who, name)).path.read_bytes()
        except NotFound:
            raise Lost from None

    def live(self) -> dict[str, bytes | None]:
        """The whole tree as a new device gets it."""
        entries: dict[str, NodeEntry] = {}
        page: str | None = None
        while True:
            snapshot = self.account.run(self.tree.snapshot(self.who, page, 7))
            entries |= {entry.id: entry for entry in snapshot.entries}
            page = snapshot.next
            if page is None:
                break
        return tree_of(entries, self.get_blob)

    def versions(self, node: str) -> list[str]:
        return [version.content for version in self.account.run(self.tree.versions(self.who, node)).versions]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("part", range(2))
def test_devices_converge_and_nothing_is_lost_on_the_real_tree(
    part: int, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    store = loop.run_until_complete(SqliteStore.open(tmp_path, StoreSettings(free_floor=0)))
    try:
        tree = Tree(store, TreeSettings())
        for seed in range(part, HISTORIES, 2):
            choose = random.Random(seed)
            account = Account(loop, store, tree, seed + 1)
            devices = [
                account.device(name, 3 * seed + number + 1)
                for number, name in enumerate(("anna", "ben", "cleo")[: 2 + seed % 2])
            ]
            try:
                world = live_through([Line(device, choose) for device in devices], choose, 60, Flaws())
                world.check(devices[0].live(), devices[0].versions)
            except Exception as error:
                raise AssertionError(f"history {seed}") from error
    finally:
        loop.run_until_complete(store.close())
