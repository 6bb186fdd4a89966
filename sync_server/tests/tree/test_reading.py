"""Pages, cursors, news; and that an account sees nothing of another."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from sync_protocol.hashing import blob_id
from sync_protocol.types import CommitRequest, Delete, Mkdir, Move, Put, Restore
from sync_server.store.interface import Gone, Invalid, NotFound
from sync_server.store.sqlite import StoreSettings, opened
from sync_server.tree import TreeSettings

from .conftest import World, people, world_of
from .device import Device


async def test_the_journal_comes_in_pages_and_ends(laptop: Device, phone: Device) -> None:
    await laptop.commit(*(Mkdir("root", f"{number:03}") for number in range(25)))
    first = await phone.tree.changes(phone.who, None, 10)
    assert (len(first.changes), first.more) == (10, True)
    second = await phone.tree.changes(phone.who, first.cursor, 100)
    assert (len(second.changes), second.more) == (15, False)
    assert (await phone.tree.changes(phone.who, second.cursor, 10)).changes == []


async def test_a_change_says_whose_it_was(laptop: Device, phone: Device) -> None:
    await laptop.mkdir("a")
    (seen,) = await phone.pull()
    assert (seen.device, seen.mine) == ("laptop", False)
    (own,) = await laptop.pull()
    assert own.mine


async def test_a_cursor_older_than_the_journal_is_gone(data: Path) -> None:
    async with opened(data, StoreSettings(free_floor=0)) as store:
        await store.sql_write(people)
        world = world_of(store, TreeSettings(journal_days=-1))
        await world.laptop.mkdir("a")
        old = (await world.phone.tree.changes(world.phone.who, None, 1)).cursor
        await world.laptop.mkdir("b")
        await world.tree.housekeeping()
        with pytest.raises(Gone):
            await world.phone.tree.changes(world.phone.who, old, 10)
        with pytest.raises(Gone):
            await world.phone.tree.changes(world.phone.who, None, 10)
        snapshot = await world.phone.tree.snapshot(world.phone.who, None, 10)
        assert {entry.name for entry in snapshot.entries} == {"a", "b"}
        await world.laptop.mkdir("c")
        after = await world.phone.tree.changes(world.phone.who, snapshot.cursor, 10)
        assert [change.node.name for change in after.changes] == ["c"]


@pytest.mark.parametrize("cursor", ["", "x", "1.2.3", "x.y", "x.-1", "x.٣"])
async def test_a_cursor_nobody_gave_is_refused(laptop: Device, cursor: str) -> None:
    with pytest.raises((Invalid, Gone)):
        await laptop.tree.changes(laptop.who, cursor, 10)


async def test_a_snapshot_and_the_changes_after_it_are_the_whole_tree(laptop: Device, phone: Device) -> None:
    folder = await laptop.mkdir("folder")
    made = [await laptop.create(str(number), b"x", parent=folder.node or "") for number in range(6)]
    gone = await laptop.mkdir("gone")
    await laptop.create("inside", b"x", parent=gone.node or "")
    await laptop.delete(gone.node, gone.revision)
    page = await phone.tree.snapshot(phone.who, None, 4)
    known = {entry.id: entry for entry in page.entries}
    cursor = page.cursor
    await laptop.move(made[0].node, made[0].revision, "root", "moved")
    await laptop.delete(made[5].node, made[5].revision)
    await laptop.restore(gone.node)
    while page.next is not None:
        page = await phone.tree.snapshot(phone.who, page.next, 4)
        known |= {entry.id: entry for entry in page.entries}
    for change in (await phone.tree.changes(phone.who, cursor, 100)).changes:
        if change.node.deleted:
            known.pop(change.node.id, None)
        elif change.node.id not in known or known[change.node.id].revision < change.node.revision:
            known[change.node.id] = change.node
    paths = {await laptop.tree.path(laptop.who, node) for node in known}
    assert paths == {"folder", *(f"folder/{number}" for number in range(1, 5)), "moved", "gone", "gone/inside"}


async def test_what_is_in_a_deleted_folder_is_in_no_snapshot(laptop: Device) -> None:
    folder = await laptop.mkdir("folder")
    inner = await laptop.mkdir("inner", folder.node or "")
    await laptop.create("a", b"x", parent=inner.node or "")
    await laptop.delete(folder.node, folder.revision)
    assert (await laptop.tree.snapshot(laptop.who, None, 100)).entries == []


async def test_a_folder_is_listed_in_pages_by_name(laptop: Device) -> None:
    await laptop.commit(*(Mkdir("root", name) for name in ("b", "É", "a", "C", "ö")))
    names: list[str] = []
    page: str | None = None
    while True:
        listing = await laptop.tree.children(laptop.who, "root", page, 2)
        names += [entry.name for entry in listing.entries]
        page = listing.next
        if page is None:
            break
    assert names == ["a", "b", "C", "É", "ö"]


async def test_news_wakes_who_waits(laptop: Device, phone: Device) -> None:
    await laptop.mkdir("a")
    await phone.pull()
    waiting = asyncio.create_task(phone.tree.wait(phone.who, phone.cursor, 20))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    began = time.monotonic()
    await laptop.mkdir("b")
    assert await waiting
    assert time.monotonic() - began < 2


async def test_waiting_ends_without_news(laptop: Device) -> None:
    await laptop.mkdir("a")
    await laptop.pull()
    assert not await laptop.tree.wait(laptop.who, laptop.cursor, 0.05)


async def test_another_account_wakes_nobody(world: World) -> None:
    await world.laptop.mkdir("a")
    await world.laptop.pull()
    waiting = asyncio.create_task(world.tree.wait(world.laptop.who, world.laptop.cursor, 0.3))
    await world.stranger.mkdir("a")
    assert not await waiting


async def test_everybody_who_waits_is_let_go_when_the_server_stops(world: World) -> None:
    await world.laptop.mkdir("a")
    await world.laptop.pull()
    waiting = asyncio.create_task(world.tree.wait(world.laptop.who, world.laptop.cursor, 60))
    await asyncio.sleep(0.05)
    world.store.release_waiting()
    assert not await asyncio.wait_for(waiting, 2)


# --- isolation ---


async def test_an_account_sees_nothing_of_another(laptop: Device, stranger: Device) -> None:
    made = await laptop.create("secret", b"secret")
    node = made.node or ""
    await stranger.mkdir("own")
    for attempt in (
        stranger.tree.node(stranger.who, "n7"),
        stranger.tree.find(stranger.who, "secret"),
        stranger.tree.versions(stranger.who, "n7"),
        stranger.tree.conflict(stranger.who, "c1"),
        stranger.tree.blob(stranger.who, blob_id(b"secret")),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await stranger.names() == ["own"]
    assert [change.node.name for change in await stranger.pull()] == ["own"]
    assert (await stranger.tree.node(stranger.who, node)).name != "secret"


async def test_having_the_hash_of_a_blob_is_not_having_it(laptop: Device, stranger: Device) -> None:
    await laptop.create("secret", b"secret")
    name = blob_id(b"secret")
    assert await stranger.tree.have(stranger.who, [name]) == [name]
    assert await laptop.tree.have(laptop.who, [name]) == []
    result = await stranger.one(Put([name], 6, 0, parent="root", name="mine"))
    assert (result.status, result.missing) == ("missing_blobs", [name])


@pytest.mark.parametrize("blob", ["", "x" * 64, "AB" * 32, "ab" * 31, "ab" * 32 + "\n", "../../db.sqlite3"])
async def test_a_blob_name_that_is_none_is_refused(laptop: Device, blob: str) -> None:
    with pytest.raises(NotFound):
        await laptop.tree.blob(laptop.who, blob)
    with pytest.raises(Invalid):
        laptop.tree.upload_blob(laptop.who, blob)


@pytest.mark.parametrize("node", ["n0", "nzzzzz", "n", "x", "c1", "@0", "@", "n" + "v" * 13, "ROOT"])
async def test_a_node_that_is_none_is_not_found(laptop: Device, node: str) -> None:
    results = (
        await laptop.commit(
            Delete(node, 0),
            Move(node, 0, "root", "x"),
            Mkdir(node, "x"),
            Restore(node),
            Put([], 0, 0, node=node, base=0),
        )
    ).results
    assert {result.status for result in results} <= {"not_found", "invalid"}
    assert await laptop.pull() == []


async def test_once_its_folder_is_known_a_node_is_read_with_one_statement(world: World, laptop: Device) -> None:
    await laptop.tree.put_blobs(laptop.who, [(blob_id(b"x"), b"x")])
    puts = [Put([blob_id(b"x")], 1, 0, parent="@1", name=name) for name in ("c", "d")]
    request = CommitRequest("deep", [Mkdir("root", "a"), Mkdir("@0", "b"), *puts])
    results = (await laptop.tree.commit(laptop.who, request)).results
    top, node = results[0].node or "", results[2].node or ""
    await laptop.tree.node(laptop.who, results[3].node or "")
    statements: list[str] = []
    world.store._reader_connection.set_trace_callback(statements.append)
    entry = await laptop.tree.node(laptop.who, node)
    world.store._reader_connection.set_trace_callback(None)
    assert len(statements) == 1
    assert (entry.name, entry.blobs, entry.deleted) == ("c", [blob_id(b"x")], False)
    await laptop.tree.commit(laptop.who, CommitRequest("away", [Delete(top, results[0].revision or 0)]))
    assert (await laptop.tree.node(laptop.who, node)).deleted
    assert not (await laptop.tree.node(laptop.who, "root")).deleted
