"""A symbolic link is a file whose content is its text: kept like one, and never taken for one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sync_protocol.types import MAX_LINK, OpResult, Put
from sync_server.store.migrate import migrate, migrations
from sync_server.store.sqlite import StoreSettings, connect, opened

from .conftest import people, world_of
from .device import Device


async def _put(
    device: Device, text: bytes, made: OpResult | str, *, symlink: bool | None = True, executable: bool = False
) -> OpResult:
    """A new name in the root, or the next content of what an earlier operation made."""
    blobs = await device.upload(text)
    if isinstance(made, str):
        put = Put(blobs, len(text), 0, parent="root", name=made, symlink=symlink, executable=executable)
    else:
        put = Put(blobs, len(text), 0, node=made.node, base=made.revision, symlink=symlink, executable=executable)
    return await device.one(put)


async def test_a_link_comes_back_as_one_wherever_it_is_told(laptop: Device) -> None:
    made = await _put(laptop, b"../b", "a")
    assert (await laptop.at("a")).symlink
    assert [change.node.symlink for change in await laptop.pull()] == [True]
    assert (await laptop.tree.snapshot(laptop.who, None, 10)).entries[0].symlink
    assert (await laptop.tree.node(laptop.who, made.node or "")).symlink
    assert await laptop.read(made.node) == b"../b"


async def test_a_file_becomes_a_link_and_back_and_each_version_stays_what_it_was(laptop: Device) -> None:
    first = await laptop.create("a", b"text")
    second = await _put(laptop, b"text", first)
    third = await _put(laptop, b"text", second, symlink=False)
    assert [result.status for result in (first, second, third)] == ["ok", "ok", "ok"]
    kept = (await laptop.tree.versions(laptop.who, first.node or "")).versions
    assert [version.symlink for version in kept] == [False, True, False]
    assert (await laptop.restore(first.node, second.revision)).status == "ok"
    assert (await laptop.at("a")).symlink


@pytest.mark.parametrize("symlink", [True, False])
async def test_a_link_and_a_file_of_the_same_bytes_are_a_conflict(laptop: Device, phone: Device, symlink: bool) -> None:
    await _put(laptop, b"text", "a", symlink=symlink)
    late = await _put(phone, b"text", "a", symlink=not symlink)
    assert late.status == "conflict_copy"
    assert late.entry is not None
    assert (await laptop.at("a")).symlink is symlink
    assert late.entry.symlink is not symlink


async def test_a_late_link_of_the_bytes_a_file_got_meanwhile_is_kept_beside_it(laptop: Device, phone: Device) -> None:
    made = await laptop.create("a", b"one")
    await laptop.edit(made.node, made.revision, b"text")
    late = await _put(phone, b"text", made)
    assert late.status == "conflict_copy"
    assert not (await laptop.at("a")).symlink


async def test_who_knows_nothing_of_links_breaks_none_it_did_not_edit(laptop: Device, phone: Device) -> None:
    made = await _put(laptop, b"../b", "a")
    again = await _put(phone, b"../b", made, symlink=None, executable=True)
    assert again.status == "same"
    assert again.entry is not None
    assert (again.entry.symlink, again.entry.executable) == (True, False)
    edited = await _put(phone, b"a whole letter", made, symlink=None)
    assert edited.status == "ok"
    assert not (await laptop.at("a")).symlink
    assert (await laptop.tree.versions(laptop.who, made.node or "")).versions[1].symlink


async def test_a_resolved_conflict_keeps_what_is_a_link(laptop: Device, phone: Device) -> None:
    await laptop.create("a", b"text")
    await _put(phone, b"text", "a")
    (conflict,) = (await laptop.tree.conflicts(laptop.who, False, None, 10)).conflicts
    await laptop.tree.resolve(laptop.who, conflict.id, "mine")
    assert (await laptop.at("a")).symlink


@pytest.mark.parametrize("text", [b"", b"x" * (MAX_LINK + 1)])
async def test_a_text_no_system_takes_for_a_link_is_refused(laptop: Device, text: bytes) -> None:
    assert (await _put(laptop, text, "a")).status == "invalid"
    assert await laptop.names() == []


async def test_a_link_is_no_folder(laptop: Device) -> None:
    made = await _put(laptop, b"/etc", "a")
    inside = await laptop.create("passwd", b"root::0:0", parent=made.node or "")
    assert inside.status == "invalid"
    assert (await laptop.mkdir("cron.d", made.node or "")).status == "invalid"
    victim = await laptop.create("b", b"b")
    assert (await laptop.move(victim.node, victim.revision, made.node or "", "passwd")).status == "invalid"
    assert await laptop.names() == ["a", "b"]


async def test_files_of_before_are_no_links(data: Path) -> None:
    """A database of the version before, with a file in it, is brought up to this one."""
    data.mkdir()
    connection = connect(data / "db.sqlite3")
    old = data / "old"
    old.mkdir()
    for number, name, text in migrations():
        if number < 3:
            (old / name).write_text(text)
    migrate(connection, data / "backups", old)
    people(connection)
    connection.execute("INSERT INTO trees (account, generation, seq, next_node) VALUES (1, 'g', 1, 2)")
    _old_node(connection, 0, None, "", 1, None)
    _old_node(connection, 1, 0, "a", 0, b"\0" * 32)
    connection.close()
    async with opened(data, StoreSettings(free_floor=0)) as store:
        laptop = world_of(store).laptop
        assert [
            (entry.name, entry.symlink) for entry in (await laptop.tree.children(laptop.who, "root", None, 10)).entries
        ] == [("a", False)]


def _old_node(
    connection: sqlite3.Connection, node: int, parent: int | None, name: str, kind: int, content: bytes | None
) -> None:
    connection.execute(
        "INSERT INTO nodes (account, id, parent, name, key, kind, revision, content_rev, place_rev, content, parts)"
        " VALUES (1, ?, ?, ?, ?, ?, 1, 1, 1, ?, ?)",
        (node, parent, name, name, kind, content, int(content is not None)),
    )
