from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sync_server.store.sqlite import SqliteStore, StoreSettings, opened


def people(connection: sqlite3.Connection) -> None:
    connection.executemany("INSERT INTO accounts (id, name) VALUES (?, ?)", [(1, "anna"), (2, "ben")])
    connection.executemany(
        "INSERT INTO devices (id, account_id, name) VALUES (?, ?, ?)",
        [(1, 1, "laptop"), (2, 1, "phone"), (9, 2, "stranger")],
    )


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder; in memory where there is such a place, because what these tests ask is not the disk's affair."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="sync-store-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder) / "data"


@pytest.fixture
async def store(data: Path) -> AsyncIterator[SqliteStore]:
    async with opened(data, StoreSettings(free_floor=0)) as opened_store:
        await opened_store.sql_write(people)
        yield opened_store
