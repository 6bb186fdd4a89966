"""Promise 4: the five versions before the current one, also after delete. And conflicts, until somebody decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_protocol.types import Keep
from sync_server.store.interface import Invalid, NotFound, Stale
from sync_server.store.sqlite import StoreSettings, opened
from sync_server.tree import TreeSettings

from .conftest import people, world_of
from .device import Device


async def edited(device: Device, times: int) -> str:
    """A file with the contents 0, 1, … one after the other."""
    result = await device.create("a", b"0")
    for number in range(1, times):
        result = await device.edit(result.node, result.revision, str(number).encode())
    return result.node or ""


async def history(device: Device, node: str) -> list[bytes]:
    versions = (await device.tree.versions(device.who, node)).versions
    return [await device.read(node, version.revision) for version in versions]


async def test_the_current_version_and_the_five_before_it_are_kept(laptop: Device) -> None:
    node = await edited(laptop, 9)
    assert await history(laptop, node) == [b"8", b"7", b"6", b"5", b"4", b"3"]


async def test_the_bytes_of_a_pruned_version_no_longer_count(laptop: Device) -> None:
    await edited(laptop, 9)
    usage = await laptop.tree.usage(laptop.who)
    assert (usage.used, usage.pending) == (6, 3)


async def test_how_many_versions_are_kept_can_be_chosen(data: Path) -> None:
    async with opened(data, StoreSettings(free_floor=0)) as store:
        await store.sql_write(people)
        laptop = world_of(store, TreeSettings(keep_versions=2)).laptop
        assert await history(laptop, await edited(laptop, 9)) == [b"8", b"7", b"6"]


async def test_an_old_version_becomes_the_current_one_and_nothing_is_lost(laptop: Device) -> None:
    node = await edited(laptop, 3)
    first = (await laptop.tree.versions(laptop.who, node)).versions[-1]
    result = await laptop.restore(node, first.revision)
    assert result.status == "ok"
    assert await history(laptop, node) == [b"0", b"2", b"1", b"0"]


async def test_a_restore_that_did_not_see_an_edit_is_stale(laptop: Device, phone: Device) -> None:
    node = await edited(laptop, 2)
    versions = (await laptop.tree.versions(laptop.who, node)).versions
    await phone.edit(node, versions[0].revision, b"new")
    assert (await laptop.restore(node, versions[1].revision, base=versions[0].revision)).status == "stale"


async def test_the_versions_are_there_after_delete_and_after_restore(laptop: Device) -> None:
    node = await edited(laptop, 8)
    before = await history(laptop, node)
    await laptop.delete(node, (await laptop.at("a")).revision)
    assert await history(laptop, node) == before
    await laptop.restore(node)
    assert await history(laptop, node) == before


async def test_a_deleted_file_comes_back_as_an_older_version(laptop: Device) -> None:
    node = await edited(laptop, 3)
    first = (await laptop.tree.versions(laptop.who, node)).versions[-1]
    await laptop.delete(node, (await laptop.at("a")).revision)
    assert (await laptop.restore(node, first.revision)).status == "ok"
    assert await laptop.texts() == {"a": b"0"}


async def test_a_version_that_never_was_is_not_found(laptop: Device) -> None:
    node = await edited(laptop, 1)
    assert (await laptop.restore(node, 77)).status == "not_found"
    with pytest.raises(NotFound):
        await laptop.read(node, 77)


async def test_a_folder_has_no_versions(laptop: Device) -> None:
    with pytest.raises(Invalid):
        await laptop.tree.versions(laptop.who, "root")


# --- conflicts ---


async def conflicting(laptop: Device, phone: Device) -> str:
    made = await laptop.create("a", b"base")
    await laptop.edit(made.node, made.revision, b"laptop")
    await phone.edit(made.node, made.revision, b"phone")
    (conflict,) = (await laptop.tree.conflicts(laptop.who, False, None, 10)).conflicts
    return conflict.id


async def test_a_conflict_is_listed_with_who_did_what(laptop: Device, phone: Device) -> None:
    conflict = await laptop.tree.conflict(laptop.who, await conflicting(laptop, phone))
    assert (conflict.path, conflict.theirs.device, conflict.mine.device) == ("a", "laptop", "phone")
    assert await laptop.read(conflict.mine.node.id) == b"phone"
    assert conflict.mine.node.conflict == conflict.id


@pytest.mark.parametrize(
    ("keep", "after"), [("mine", [b"phone"]), ("theirs", [b"laptop"]), ("both", [b"laptop", b"phone"])]
)
async def test_a_conflict_is_resolved_and_the_resolution_undone(
    laptop: Device, phone: Device, keep: Keep, after: list[bytes]
) -> None:
    conflict = await conflicting(laptop, phone)
    before = await laptop.texts()
    assert (await laptop.tree.resolve(laptop.who, conflict, keep)).resolved == keep
    assert sorted((await laptop.texts()).values()) == after
    assert (await laptop.tree.conflicts(laptop.who, False, None, 10)).conflicts == []
    assert (await laptop.tree.undo(laptop.who, conflict)).resolved is None
    assert await laptop.texts() == before
    assert len((await laptop.tree.conflicts(laptop.who, False, None, 10)).conflicts) == 1


async def test_resolving_twice_alike_is_harmless_and_otherwise_refused(laptop: Device, phone: Device) -> None:
    conflict = await conflicting(laptop, phone)
    await laptop.tree.resolve(laptop.who, conflict, "mine")
    await laptop.tree.resolve(laptop.who, conflict, "mine")
    with pytest.raises(Stale):
        await laptop.tree.resolve(laptop.who, conflict, "theirs")


async def test_what_loses_a_conflict_is_in_the_history(laptop: Device, phone: Device) -> None:
    conflict = await conflicting(laptop, phone)
    resolved = await laptop.tree.resolve(laptop.who, conflict, "mine")
    assert await history(laptop, resolved.theirs.node.id) == [b"phone", b"laptop", b"base"]
    assert [entry.node.id for entry in (await laptop.tree.trash(laptop.who, None, 9)).entries] == [
        resolved.mine.node.id
    ]


async def test_undo_never_overwrites_a_later_edit(laptop: Device, phone: Device) -> None:
    conflict = await conflicting(laptop, phone)
    await laptop.tree.resolve(laptop.who, conflict, "mine")
    entry = await laptop.at("a")
    await phone.edit(entry.id, entry.revision, b"later")
    with pytest.raises(Stale):
        await laptop.tree.undo(laptop.who, conflict)
    assert (await laptop.texts())["a"] == b"later"


async def test_deleting_the_copy_resolves_the_conflict(laptop: Device, phone: Device) -> None:
    conflict = await laptop.tree.conflict(laptop.who, await conflicting(laptop, phone))
    await laptop.delete(conflict.mine.node.id, conflict.mine.node.revision)
    assert (await laptop.tree.conflicts(laptop.who, False, None, 10)).conflicts == []


# --- ages ---


async def test_the_trash_is_emptied_when_its_time_is_over_and_not_before(data: Path) -> None:
    async with opened(data, StoreSettings(free_floor=0)) as store:
        await store.sql_write(people)
        laptop = world_of(store).laptop
        node = await edited(laptop, 2)
        await laptop.delete(node, (await laptop.at("a")).revision)
        await laptop.tree.housekeeping()
        assert len((await laptop.tree.trash(laptop.who, None, 9)).entries) == 1
        later = world_of(store, TreeSettings(trash_days=-1)).laptop
        await later.tree.housekeeping()
        assert (await laptop.tree.trash(laptop.who, None, 9)).entries == []
        with pytest.raises(NotFound):
            await laptop.tree.versions(laptop.who, node)
