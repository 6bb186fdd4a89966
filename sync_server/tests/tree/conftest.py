from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sync_server.store.sqlite import SqliteStore, StoreSettings, opened
from sync_server.tree import Tree, TreeSettings

from .device import Device


def people(connection: sqlite3.Connection) -> None:
    connection.executemany("INSERT INTO accounts (id, name) VALUES (?, ?)", [(1, "anna"), (2, "ben")])
    connection.executemany(
        "INSERT INTO devices (id, account_id, name) VALUES (?, ?, ?)",
        [(1, 1, "laptop"), (2, 1, "phone"), (3, 1, "desk"), (9, 2, "stranger")],
    )


@dataclass
class World:
    store: SqliteStore
    tree: Tree
    laptop: Device
    phone: Device
    stranger: Device


def world_of(store: SqliteStore, settings: TreeSettings | None = None) -> World:
    tree = Tree(store, settings)
    return World(store, tree, Device(tree, 1, 1), Device(tree, 1, 2), Device(tree, 2, 9))


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder; in memory where there is such a place, because what these tests ask is not the disk's affair."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="sync-tree-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder) / "data"


@pytest.fixture
async def world(data: Path) -> AsyncIterator[World]:
    async with opened(data, StoreSettings(free_floor=0)) as store:
        await store.sql_write(people)
        yield world_of(store)


@pytest.fixture
def laptop(world: World) -> Device:
    return world.laptop


@pytest.fixture
def phone(world: World) -> Device:
    return world.phone


@pytest.fixture
def stranger(world: World) -> Device:
    return world.stranger
