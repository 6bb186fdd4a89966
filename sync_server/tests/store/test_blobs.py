"""Bytes: verified, durable before they are known, collected only when nobody can need them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from pathlib import Path

import pytest

from sync_protocol.hashing import EMPTY, blob_id
from sync_protocol.types import MAX_BLOB, CommitRequest, Delete, Put
from sync_server.store.check import check
from sync_server.store.interface import Busy, Identity, Mismatch, NodeRow, StoreFailed, TooLarge, Transaction
from sync_server.store.maintenance import backup, collect
from sync_server.store.rows import SqliteTransaction
from sync_server.store.sqlite import SqliteStore, StoreSettings, opened
from sync_server.tree import Tree

from .conftest import people

ANNA, PHONE, BEN = Identity(1, 1), Identity(1, 2), Identity(2, 9)
NOW = -1000
"""An age everything has."""


async def commit(tree: Tree, who: Identity, op_id: str, *ops: Put | Delete) -> list[str]:
    return [result.status for result in (await tree.commit(who, CommitRequest(op_id, list(ops)))).results]


def files(store: SqliteStore) -> list[str]:
    return sorted(path.name for path in store.blobs.blobs.glob("*/*") if path.name != EMPTY)


async def test_bytes_that_are_not_what_their_name_says_are_refused(store: SqliteStore) -> None:
    upload = store.upload_blob(1, blob_id(b"right"))
    upload.write(b"wrong")
    with pytest.raises(Mismatch):
        await upload.finish()
    assert await store.put_blobs(1, [(blob_id(b"right"), b"wrong")]) == ["mismatch"]
    assert files(store) == []
    assert list(store.blobs.temporary.iterdir()) == []


async def test_a_blob_has_a_largest_size(store: SqliteStore) -> None:
    upload = store.upload_blob(1)
    upload.write(b"x" * MAX_BLOB)
    with pytest.raises(TooLarge):
        upload.write(b"x")
    upload.abort()
    big = b"x" * (MAX_BLOB + 1)
    assert await store.put_blobs(1, [(blob_id(big), big)]) == ["too_large"]
    assert list(store.blobs.temporary.iterdir()) == []


async def test_the_same_blob_from_many_at_once_is_one_file(store: SqliteStore) -> None:
    async def bring(account: int) -> str:
        upload = store.upload_blob(account, blob_id(b"same"))
        upload.write(b"same")
        return await upload.finish()

    assert set(await asyncio.gather(*(bring(1 + number % 2) for number in range(20)))) == {blob_id(b"same")}
    assert files(store) == [blob_id(b"same")]


async def test_many_small_blobs_are_made_durable_together(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    fsync = os.fsync

    def counting(descriptor: int) -> None:
        nonlocal count
        count += 1
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", counting)
    blobs = [(blob_id(data), data) for data in (str(number).encode() for number in range(200))]
    assert set(await store.put_blobs(1, blobs)) == {"ok"}
    assert count == 0  # one syncfs
    assert len(files(store)) == 200


async def test_many_commits_share_one_transaction(store: SqliteStore) -> None:
    tree = Tree(store)
    await tree.usage(ANNA)
    groups, jobs = store.written
    puts = [Put([], 0, 0, parent="root", name=str(number)) for number in range(100)]
    await asyncio.gather(*(commit(tree, ANNA, f"operation-{put.name}", put) for put in puts))
    assert store.written[1] - jobs == 100
    assert store.written[0] - groups <= 20


async def test_one_failing_job_of_a_group_harms_no_other(store: SqliteStore) -> None:
    def fails(rows: object) -> None:
        raise RuntimeError("on purpose")

    tree = Tree(store)
    results = await asyncio.gather(
        commit(tree, ANNA, "operation-1", Put([], 0, 0, parent="root", name="a")),
        store.write(fails),
        commit(tree, ANNA, "operation-2", Put([], 0, 0, parent="root", name="b")),
        return_exceptions=True,
    )
    assert results[0] == results[2] == ["ok"]
    assert isinstance(results[1], RuntimeError)


async def test_a_job_that_fails_half_way_leaves_nothing_while_its_neighbours_go_on(store: SqliteStore) -> None:
    def fails(rows: Transaction) -> None:
        rows.set_quota(1, 1)
        rows.touch(1, [blob_id(b"x")], 77)
        rows.add_node(NodeRow(1, 999, 0, "half", "half", "folder", 1, 0, 1, 0, None, 0, 0, False, None, 0))
        raise RuntimeError("on purpose")

    tree = Tree(store)
    await tree.usage(ANNA)
    results = await asyncio.gather(
        store.write(fails),
        commit(tree, ANNA, "operation-1", Put([], 0, 0, parent="root", name="a")),
        return_exceptions=True,
    )
    assert isinstance(results[0], RuntimeError)
    assert results[1] == ["ok"]
    assert [entry.name for entry in (await tree.children(ANNA, "root", None, 9)).entries] == ["a"]
    assert (await tree.usage(ANNA)).quota is None


# --- collection ---


async def test_only_what_nobody_refers_to_is_collected_and_only_when_old(store: SqliteStore) -> None:
    tree = Tree(store)
    await store.put_blobs(1, [(blob_id(data), data) for data in (b"used", b"unused")])
    await commit(tree, ANNA, "operation-1", Put([blob_id(b"used")], 4, 0, parent="root", name="a"))
    assert (await collect(store)).removed == 0
    assert len(files(store)) == 2
    assert (await collect(store, NOW)).removed == 1
    assert files(store) == [blob_id(b"used")]
    usage = await tree.usage(ANNA)
    assert (usage.used, usage.pending) == (4, 0)


async def test_what_another_account_still_has_stays_on_disk(store: SqliteStore) -> None:
    tree = Tree(store)
    for account in (1, 2):
        await store.put_blobs(account, [(blob_id(b"same"), b"same")])
    await commit(tree, BEN, "operation-1", Put([blob_id(b"same")], 4, 0, parent="root", name="a"))
    await collect(store, NOW)
    assert files(store) == [blob_id(b"same")]
    assert await tree.have(ANNA, [blob_id(b"same")]) == [blob_id(b"same")]
    assert await tree.have(BEN, [blob_id(b"same")]) == []


async def test_a_blob_a_client_was_told_it_need_not_send_lives_on(store: SqliteStore) -> None:
    tree = Tree(store)
    await store.put_blobs(1, [(blob_id(b"old"), b"old")])
    await store.sql_write(lambda connection: connection.execute("UPDATE holdings SET touched = 1").rowcount)
    assert await tree.have(ANNA, [blob_id(b"old")]) == []
    assert (await collect(store)).removed == 0


async def test_the_day_of_a_blob_begins_when_its_last_version_goes(store: SqliteStore) -> None:
    tree = Tree(store)
    await store.put_blobs(1, [(blob_id(b"old"), b"old")])
    await commit(tree, ANNA, "operation-1", Put([blob_id(b"old")], 3, 0, parent="root", name="a"))
    await store.sql_write(lambda connection: connection.execute("UPDATE holdings SET touched = 1").rowcount)
    await commit(tree, ANNA, "operation-2", Delete("n1", 1))
    await tree.empty_trash(ANNA)
    assert (await collect(store)).removed == 0
    assert (await collect(store, NOW)).removed == 1


async def test_collection_beside_uploads_and_commits_loses_nothing(store: SqliteStore) -> None:
    """The race: collected as unreferenced, and at that moment uploaded again, or committed."""
    tree = Tree(store)
    contents = [str(number).encode() for number in range(6)]
    done: list[str] = []
    ending = False

    async def collector() -> None:
        while not ending:
            await collect(store, NOW)

    async def writer(device: int) -> None:
        who = Identity(1, device)
        for turn in range(60):
            data = contents[(turn * 7 + device) % len(contents)]
            name = f"{device}-{turn}"
            for attempt in range(200):
                if await tree.have(who, [blob_id(data)]):
                    upload = store.upload_blob(1, blob_id(data))
                    upload.write(data)
                    await upload.finish()
                request = CommitRequest(f"op-{name}-{attempt}", [Put([blob_id(data)], 1, 0, parent="root", name=name)])
                result = (await tree.commit(who, request)).results[0]
                if result.status == "ok":
                    break
                assert result.status == "missing_blobs"
            else:
                raise AssertionError("it was collected each time")
            done.append(name)
            if turn % 3 == 0:
                await commit(tree, who, f"delete-{name}", Delete(result.node or "", result.revision or 0))
                await tree.purge(who, result.node or "")
                done.remove(name)

    collecting = asyncio.create_task(collector())
    await asyncio.gather(writer(1), writer(2))
    ending = True
    await collecting
    report = check(store.root)
    assert report.ok, report
    assert len((await tree.children(ANNA, "root", None, 1000)).entries) == len(done)


async def test_a_file_without_a_row_is_swept_after_a_day(store: SqliteStore) -> None:
    name = blob_id(b"orphan")
    path = store.blobs.path(name)
    path.write_bytes(b"orphan")
    assert (await collect(store)).orphans == 0
    os.utime(path, (time.time() - 90_000, time.time() - 90_000))
    assert (await collect(store)).orphans == 1
    assert files(store) == []


async def test_a_blob_on_its_way_in_is_not_collected(store: SqliteStore) -> None:
    """Its file is in place, its row is not there yet, or was just removed as unreferenced."""
    name = blob_id(b"coming")
    await store.put_blobs(1, [(name, b"coming")])
    with store.blobs.pinned([name]):
        assert (await collect(store, NOW)).removed == 0
        assert store.blobs.path(name).exists()
        os.utime(store.blobs.path(name), (1, 1))
        assert (await collect(store)).orphans == 0
        assert store.blobs.path(name).exists()
    assert (await collect(store)).orphans == 1


async def test_what_a_crash_left_under_a_blobs_name_is_not_trusted(store: SqliteStore) -> None:
    name = blob_id(b"content")
    store.blobs.path(name).write_bytes(b"\0" * 7)
    assert await Tree(store).have(ANNA, [name]) == [name]
    assert await store.put_blobs(1, [(name, b"content")]) == ["ok"]
    assert store.blobs.path(name).read_bytes() == b"content"


async def test_nothing_is_collected_during_a_backup(store: SqliteStore, tmp_path: Path) -> None:
    with (store.root / "backup.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(Busy):
            await collect(store)
    assert (await collect(store)).removed == 0
    backup(store.root, tmp_path / "backup")


async def test_a_clock_that_jumps_back_costs_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(data, StoreSettings(free_floor=0)) as store:
        await store.sql_write(people)
        tree = Tree(store)
        await store.put_blobs(1, [(blob_id(b"one"), b"one"), (blob_id(b"two"), b"two")])
        await commit(tree, ANNA, "operation-1", Put([blob_id(b"one")], 3, 0, parent="root", name="a"))
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() - 400 * 24 * 3600 * 10**9)
        assert await commit(tree, ANNA, "operation-2", Put([blob_id(b"two")], 3, 0, node="n1", base=1)) == ["ok"]
        late = Put([blob_id(b"one")], 3, 0, node="n1", base=1)
        assert await commit(tree, PHONE, "operation-3", late) == ["stale"]
        assert await commit(tree, ANNA, "operation-4", Delete("n1", 2)) == ["ok"]
        await tree.housekeeping()
        await collect(store)
        assert len((await tree.trash(ANNA, None, 9)).entries) == 1
        page = await tree.changes(PHONE, None, 100)
        assert [change.node.revision for change in page.changes] == [1, 2, 3]
        assert await commit(tree, ANNA, "operation-1", Put([blob_id(b"one")], 3, 0, parent="root", name="a")) == ["ok"]
        assert check(data).ok


@pytest.mark.parametrize("days", [-400, 400])
async def test_a_clock_that_jumps_empties_no_trash(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    tree = Tree(store)
    await commit(tree, ANNA, "operation-1", Put([], 0, 0, parent="root", name="a"))
    await commit(tree, ANNA, "operation-2", Put([], 0, 0, parent="root", name="b"))
    await commit(tree, ANNA, "operation-3", Delete("n1", 1))
    real = time.time_ns
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: real() + days * 24 * 3600 * 10**9)
        await commit(tree, ANNA, "operation-4", Delete("n2", 2))
        await tree.housekeeping()
    await tree.housekeeping()
    assert len((await tree.trash(ANNA, None, 9)).entries) == 2


async def test_a_clock_that_was_ahead_at_the_start_empties_no_trash(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Tree(store)
    await commit(tree, ANNA, "operation-1", Put([], 0, 0, parent="root", name="a"))
    await commit(tree, ANNA, "operation-2", Delete("n1", 1))
    real = time.time_ns
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: real() + 400 * 24 * 3600 * 10**9)
        started = Tree(store)
    await started.housekeeping()
    assert len((await started.trash(ANNA, None, 9)).entries) == 1


async def test_a_collection_that_was_not_kept_removed_no_file(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows go first: a file may go only when the transaction that says so is on disk."""
    await store.put_blobs(1, [(blob_id(b"idle"), b"idle")])

    def failing(rows: SqliteTransaction) -> dict[int, int]:
        raise sqlite3.OperationalError("on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteTransaction, "flush", failing)
        with pytest.raises(StoreFailed):
            await collect(store, NOW)
    assert files(store) == [blob_id(b"idle")]
    assert check(store.root).ok


async def test_what_cannot_be_removed_does_not_stop_the_writer(store: SqliteStore) -> None:
    blob = blob_id(b"stray")
    (store.blobs.path(blob) / "inside").mkdir(parents=True)
    os.utime(store.blobs.path(blob), (0, 0))
    async with asyncio.timeout(5):
        assert (await collect(store)).orphans == 0
        assert await store.put_blobs(1, [(blob_id(b"more"), b"more")]) == ["ok"]


async def test_a_blob_that_is_durable_is_replaced_only_by_one_that_is(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = [(blob_id(data), data) for data in (b"1", b"2", b"3", b"4", b"5")]
    await store.put_blobs(1, blobs[:2])
    synced: set[int] = set()
    renamed: dict[str, bool] = {}
    fsync, rename = os.fsync, Path.rename

    def note_fsync(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def note_rename(path: Path, target: Path) -> Path:
        renamed[target.name] = path.stat().st_ino in synced
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    await store.put_blobs(2, blobs)
    assert [renamed[name] for name, _ in blobs[:2]] == [True, True]
