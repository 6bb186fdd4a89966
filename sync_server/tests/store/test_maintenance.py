"""Check, repair, backup, migrations."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from sync_protocol.hashing import blob_id
from sync_protocol.types import CommitRequest, Put
from sync_server.store.check import Damage, check, repair
from sync_server.store.interface import Busy, Gone, Identity, Invalid, NotFound, StoreFailed
from sync_server.store.maintenance import backup, collect
from sync_server.store.migrate import migrate, migrations
from sync_server.store.sqlite import SqliteStore, StoreSettings, connect, opened
from sync_server.tree import Tree

from .conftest import people

ANNA = Identity(1, 1)
SETTINGS = StoreSettings(free_floor=0)


async def create(store: SqliteStore, name: str, *parts: bytes) -> str:
    await store.put_blobs(1, [(blob_id(part), part) for part in parts])
    op = Put([blob_id(part) for part in parts], sum(map(len, parts)), 0, parent="root", name=name)
    (result,) = (await Tree(store).commit(ANNA, CommitRequest(f"create-{name}", [op]))).results
    assert result.status == "ok"
    return result.node or ""


async def text(store: SqliteStore, node: str) -> bytes:
    return b"".join(part.path.read_bytes() for part in (await Tree(store).open(ANNA, node)).parts)


# --- check, repair ---


async def test_a_whole_store_is_found_whole(store: SqliteStore) -> None:
    await create(store, "a", b"one", b"two")
    await create(store, "b", b"one")
    report = check(store.root)
    assert report.ok
    assert (report.blobs, report.bytes) == (2, 6)


@pytest.mark.parametrize("damage", ["flipped", "cut", "removed"])
async def test_damage_is_found_named_and_healed_by_the_next_upload(store: SqliteStore, damage: str) -> None:
    node = await create(store, "a", b"one", b"two")
    path = store.blobs.path(blob_id(b"two"))
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(b"twx" if damage == "flipped" else b"tw")
    found: list[Damage] = []
    assert check(store.root, found.append).damaged == 1
    assert [(one.blob, one.files) for one in found] == [(blob_id(b"two"), ("anna:a",))]
    assert (await repair(store)).quarantined == 1
    tree = Tree(store)
    with pytest.raises(NotFound):
        await tree.open(ANNA, node)
    assert await tree.have(ANNA, [blob_id(b"one"), blob_id(b"two")]) == [blob_id(b"two")]
    assert len(list(store.blobs.quarantine.iterdir())) == (damage != "removed")
    await store.put_blobs(1, [(blob_id(b"two"), b"two")])
    assert await text(store, node) == b"onetwo"
    assert check(store.root).ok


async def test_a_quick_check_looks_only_whether_all_is_there(store: SqliteStore) -> None:
    await create(store, "a", b"one")
    store.blobs.path(blob_id(b"one")).write_bytes(b"xxx")
    assert check(store.root, quick=True).ok
    assert not check(store.root).ok


async def test_wrong_counts_are_found_and_counted_again(store: SqliteStore) -> None:
    await create(store, "a", b"one")
    await store.sql_write(lambda connection: connection.execute("UPDATE holdings SET refs = 0").rowcount)
    assert len(check(store.root).database) == 2
    assert (await repair(store)).recounted == 1
    assert check(store.root).ok
    await collect(store, -1000)
    assert check(store.root).ok


async def test_every_file_that_needs_a_damaged_blob_is_named(store: SqliteStore) -> None:
    node = await create(store, "a", b"one", b"two")
    revision = (await Tree(store).node(ANNA, node)).revision
    await create(store, "b", b"two", b"three")
    await create(store, "c", b"two")
    await create(store, "d", b"three")
    edit = Put([blob_id(b"three")], 5, 0, node=node, base=revision)
    assert (await Tree(store).commit(ANNA, CommitRequest("edit-1234", [edit]))).results[0].status == "ok"
    for lost in (b"one", b"two"):
        store.blobs.path(blob_id(lost)).unlink()
    found: list[Damage] = []
    check(store.root, found.append)
    assert {one.blob: set(one.files) for one in found} == {
        blob_id(b"one"): {f"anna:a (revision {revision})"},
        blob_id(b"two"): {f"anna:a (revision {revision})", "anna:b", "anna:c"},
    }


_AND_TELL_THE_PEAK = """
import sys
from sync_server.cli import main
status = main(sys.argv[1:])
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0], file=sys.stderr)
sys.exit(status)
"""


def peak_of(*arguments: str | Path) -> int:
    """What `sync-server` takes at most, in KiB."""
    command = [sys.executable, "-c", _AND_TELL_THE_PEAK, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stderr)


async def test_the_memory_of_a_check_and_a_repair_does_not_grow_with_the_store(data: Path) -> None:
    async with opened(data, SETTINGS) as store:
        await store.sql_write(people)
        await Tree(store).usage(ANNA)
    few = [peak_of(command, "--data-dir", data) for command in ("check", "repair")]
    texts = [f"{number:06}".encode() for number in range(100_000)]
    names = [sha256(text).digest() for text in texts]
    with contextlib.closing(sqlite3.connect(data / "db.sqlite3")) as db, db:
        db.executemany(
            "INSERT INTO nodes (account, id, parent, name, key, kind, revision, content_rev, place_rev, content, parts)"
            " VALUES (1, ?1, 0, ?1, ?1, 0, ?1, ?1, ?1, ?2, 1)",
            enumerate(names, 1),
        )
        db.executemany(
            "INSERT INTO versions (account, node, revision, size, mtime, executable, content, parts, time)"
            " VALUES (1, ?1, ?1, 6, 0, 0, ?2, 1, 0)",
            enumerate(names, 1),
        )
        # Wrong on purpose: a repair has something to do.
        rows = [(name,) for name in names]
        db.executemany("INSERT INTO holdings (hash, account, size, refs, touched) VALUES (?, 1, 6, 2, 0)", rows)
    for name, text_ in zip(names, texts, strict=True):
        (data / "blobs" / name.hex()[:2] / name.hex()).write_bytes(text_)
    many = peak_of("repair", "--data-dir", data), peak_of("check", "--quick", "--data-dir", data)
    assert max(many) < max(few) + 16 * 1024, (few, many)


async def test_a_check_beside_a_working_server_finds_no_damage(store: SqliteStore) -> None:
    ending = threading.Event()

    def checking() -> list[bool]:
        found = []
        while not ending.is_set():
            found.append(check(store.root).ok)
        return found

    checks = asyncio.create_task(asyncio.to_thread(checking))
    tree = Tree(store)
    for number in range(40):
        node = await create(store, str(number), str(number).encode())
        if number % 2:
            await tree.delete_path(ANNA, str(number))
            await tree.purge(ANNA, node)
            await collect(store, -1000)
    ending.set()
    assert all(await checks)


# --- backup ---


async def test_a_backup_made_while_serving_is_a_whole_store(store: SqliteStore, tmp_path: Path) -> None:
    ending = threading.Event()
    copies: list[Path] = []

    def copying() -> None:
        while not ending.is_set() or not copies:
            copies.append(backup(store.root, tmp_path / f"backup-{len(copies)}").path)

    copier = asyncio.create_task(asyncio.to_thread(copying))
    for number in range(30):
        await create(store, str(number), str(number).encode())
    ending.set()
    await copier
    for copy in copies:
        report = check(copy)
        assert report.ok, report
    async with opened(copies[-1], SETTINGS) as restored:
        for entry in (await Tree(restored).children(ANNA, "root", None, 100)).entries:
            assert await text(restored, entry.id) == entry.name.encode()


async def test_after_a_restore_clients_notice_that_time_went_back(data: Path, tmp_path: Path) -> None:
    async with opened(data, SETTINGS) as store:
        await store.sql_write(people)
        await create(store, "a", b"one")
        cursor = (await Tree(store).changes(ANNA, None, 10)).cursor
        backup(data, tmp_path / "backup")
        lost = await create(store, "lost", b"two")
        lost_revision = (await Tree(store).node(ANNA, lost)).revision
    shutil.rmtree(data)
    shutil.copytree(tmp_path / "backup", data)
    async with opened(data, SETTINGS) as store:
        tree = Tree(store)
        with pytest.raises(Gone):
            await tree.changes(ANNA, cursor, 10)
        assert [entry.name for entry in (await tree.snapshot(ANNA, None, 10)).entries] == ["a"]
        new = await create(store, "new", b"three")
        assert new != lost
        assert (await tree.node(ANNA, new)).revision > lost_revision


async def test_a_second_backup_to_the_same_place_copies_only_what_is_new(store: SqliteStore, tmp_path: Path) -> None:
    await create(store, "a", b"one")
    assert backup(store.root, tmp_path / "backup").copied == 1
    await create(store, "b", b"two")
    assert backup(store.root, tmp_path / "backup").copied == 1
    assert check(tmp_path / "backup").ok


async def test_what_an_interrupted_backup_left_is_not_trusted(store: SqliteStore, tmp_path: Path) -> None:
    await create(store, "a", b"one")
    copy = tmp_path / "backup"
    backup(store.root, copy)
    there = copy / "blobs" / blob_id(b"one")[:2] / blob_id(b"one")
    there.unlink()
    there.write_bytes(b"\0\0\0")
    (copy / "incomplete").touch()
    backup(store.root, copy)
    assert check(copy).ok


async def test_a_backup_into_the_store_itself_is_refused(store: SqliteStore) -> None:
    with pytest.raises(Invalid):
        backup(store.root, store.root / "blobs" / "backup")


# --- life ---


async def test_a_store_is_served_by_one_process(store: SqliteStore) -> None:
    with pytest.raises(Busy):
        await SqliteStore.open(store.root, SETTINGS)


async def test_a_tool_may_change_accounts_beside_it_but_collects_nothing(store: SqliteStore) -> None:
    async with opened(store.root, SETTINGS, "tool") as tool:
        await tool.sql_write(
            lambda connection: connection.execute("UPDATE accounts SET name = 'x' WHERE id = 2").rowcount
        )
        with pytest.raises(Busy):
            await collect(tool)
    assert store.sql("SELECT name FROM accounts WHERE id = 2") == [("x",)]


async def test_closing_finishes_what_was_accepted(data: Path) -> None:
    store = await SqliteStore.open(data, SETTINGS)
    await store.sql_write(people)
    tree = Tree(store)
    op = Put([], 0, 0, parent="root", name="a")
    accepted = [
        asyncio.create_task(tree.commit(ANNA, CommitRequest(f"operation-{number}", [op]))) for number in range(50)
    ]
    await asyncio.sleep(0)
    await store.close()
    answers = await asyncio.gather(*accepted)
    assert {answer.results[0].status for answer in answers} == {"ok", "same"}


# --- migrations ---


def test_a_new_database_gets_all_migrations_and_needs_no_copy(tmp_path: Path) -> None:
    connection = connect(tmp_path / "db")
    assert migrate(connection, tmp_path / "backups") is None
    assert connection.execute("PRAGMA user_version").fetchone() == (migrations()[-1][0],)
    connection.close()


def folder_of(path: Path, **texts: str) -> Path:
    path.mkdir(exist_ok=True)
    for name, sql in texts.items():
        (path / f"{name[1:]}.sql").write_text(sql)
    return path


def test_the_database_is_copied_before_a_migration(tmp_path: Path) -> None:
    connection = connect(tmp_path / "db")
    folder = folder_of(tmp_path / "m", m0001_first="CREATE TABLE a (x);\nINSERT INTO a VALUES (1);")
    migrate(connection, tmp_path / "backups", folder)
    folder_of(folder, m0002_second="UPDATE a SET x = 2;")
    copy = migrate(connection, tmp_path / "backups", folder)
    assert copy is not None
    assert sqlite3.connect(copy).execute("SELECT x FROM a").fetchall() == [(1,)]
    assert connection.execute("SELECT x FROM a").fetchall() == [(2,)]
    connection.close()


def test_a_copy_that_is_cut_off_is_not_taken_for_one(tmp_path: Path) -> None:
    connection = connect(tmp_path / "db")
    folder = folder_of(tmp_path / "m", m0001_first="CREATE TABLE a (x);\nINSERT INTO a VALUES (1);")
    migrate(connection, tmp_path / "backups", folder)
    folder_of(folder, m0002_second="UPDATE a SET x = 2;")
    seen: list[str] = []

    def cut_off() -> int:
        seen.extend(path.name for path in (tmp_path / "backups").glob("before-*"))
        return bool(seen)

    connection.set_progress_handler(cut_off, 1)
    with pytest.raises(sqlite3.Error):
        migrate(connection, tmp_path / "backups", folder)
    connection.set_progress_handler(None, 0)
    assert seen
    assert [name for name in seen if name.endswith(".sqlite3")] == []
    assert list((tmp_path / "backups").iterdir()) == []
    connection.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    connection = connect(tmp_path / "db")
    folder = folder_of(tmp_path / "m", m0001_first="CREATE TABLE a (x);\nINSERT INTO a VALUES (1);")
    migrate(connection, tmp_path / "backups", folder)
    folder_of(folder, m0002_second="UPDATE a SET x = 2;\nINSERT INTO nowhere VALUES (1);")
    with pytest.raises(StoreFailed, match="0002_second"):
        migrate(connection, tmp_path / "backups", folder)
    assert connection.execute("SELECT x FROM a").fetchall() == [(1,)]
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


def test_a_database_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    connection = connect(tmp_path / "db")
    connection.execute("PRAGMA user_version = 9999")
    with pytest.raises(StoreFailed, match="newer"):
        migrate(connection, tmp_path / "backups")
    connection.close()
