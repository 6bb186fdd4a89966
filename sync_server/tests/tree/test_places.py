"""Names, moves, deletes: what becomes of them when two devices disagree."""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable

import pytest

from sync_protocol.names import name_key
from sync_protocol.types import Delete, Mkdir, Move, NodeEntry
from sync_server.store.interface import Invalid

from .conftest import World
from .device import Device


async def test_a_move_keeps_identity_and_history(laptop: Device) -> None:
    folder = await laptop.mkdir("folder")
    made = await laptop.create("a", b"one")
    edited = await laptop.edit(made.node, made.revision, b"two")
    moved = await laptop.move(made.node, edited.revision, folder.node or "", "b")
    assert (moved.status, moved.node) == ("ok", made.node)
    history = await laptop.tree.versions(laptop.who, made.node or "")
    assert [version.revision for version in history.versions] == [edited.revision, made.revision]


async def test_moving_a_folder_is_one_row_of_the_journal(laptop: Device, phone: Device) -> None:
    folder = await laptop.mkdir("folder")
    for number in range(20):
        await laptop.create(str(number), b"x", parent=folder.node or "")
    await phone.pull()
    await laptop.move(folder.node, folder.revision, "root", "renamed")
    assert [(change.op, change.node.name) for change in await phone.pull()] == [("move", "renamed")]
    assert len(await phone.names(folder.node or "")) == 20


async def test_a_folder_cannot_go_into_itself(laptop: Device) -> None:
    outer = await laptop.mkdir("outer")
    inner = await laptop.mkdir("inner", outer.node or "")
    assert (await laptop.move(outer.node, outer.revision, inner.node or "", "x")).status == "cycle"
    assert (await laptop.move(outer.node, outer.revision, outer.node or "", "x")).status == "cycle"


async def test_two_devices_cannot_move_two_folders_into_each_other(laptop: Device, phone: Device) -> None:
    a, b = await laptop.mkdir("a"), await laptop.mkdir("b")
    assert (await laptop.move(a.node, a.revision, b.node or "", "a")).status == "ok"
    assert (await phone.move(b.node, b.revision, a.node or "", "b")).status == "cycle"
    assert await laptop.names() == ["b"]


async def test_the_second_of_two_moves_is_stale(laptop: Device, phone: Device) -> None:
    made = await laptop.create("a", b"x")
    await laptop.move(made.node, made.revision, "root", "b")
    late = await phone.move(made.node, made.revision, "root", "c")
    assert late.status == "stale"
    assert late.current is not None
    assert late.current.name == "b"


async def test_a_move_onto_another_file_keeps_both(laptop: Device, phone: Device) -> None:
    a, _ = await laptop.create("a", b"1"), await phone.create("b", b"2")
    moved = await laptop.move(a.node, a.revision, "root", "b")
    assert moved.status == "conflict_copy"
    assert sorted((await laptop.texts()).values()) == [b"1", b"2"]
    assert (await laptop.texts())["b"] == b"2"


@pytest.mark.parametrize(("first", "second"), [("README", "readme"), ("Straße", "STRASSE"), ("ǅ", "ǆ")])
async def test_twins_in_case_are_refused_and_said_clearly(laptop: Device, first: str, second: str) -> None:
    await laptop.create(first, b"1")
    late = await laptop.create(second, b"2")
    assert late.status == "clash"
    assert late.detail is not None
    assert first in late.detail
    assert second in late.detail
    assert await laptop.names() == [first]


async def test_a_composed_and_a_decomposed_name_are_one_name(laptop: Device, phone: Device) -> None:
    composed, decomposed = "Müller", unicodedata.normalize("NFD", "Müller")
    made = await laptop.create(composed, b"1")
    same = await phone.create(decomposed, b"1")
    assert (same.status, same.node) == ("same", made.node)
    other = await phone.create(decomposed, b"2")
    assert other.status == "conflict_copy"
    assert len(await laptop.names()) == 2


async def test_only_the_case_of_a_name_may_change(laptop: Device) -> None:
    made = await laptop.create("readme", b"1")
    assert (await laptop.move(made.node, made.revision, "root", "README")).status == "ok"
    assert await laptop.names() == ["README"]


async def test_a_name_is_stored_as_it_was_given(laptop: Device) -> None:
    name = unicodedata.normalize("NFD", "Ärger?.txt ")
    await laptop.create(name, b"1")
    assert await laptop.names() == [name]
    assert name_key(name) != name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "x" * 256, "é" * 128])
async def test_a_name_no_system_can_store_is_refused(laptop: Device, name: str) -> None:
    assert (await laptop.one(Mkdir("root", name))).status == "invalid"


async def test_a_name_that_is_no_unicode_is_refused(laptop: Device) -> None:
    with pytest.raises(Invalid):
        await laptop.mkdir("\ud800")


async def test_a_path_that_is_too_long_is_refused(laptop: Device) -> None:
    parent = "root"
    for _ in range(16):
        parent = (await laptop.mkdir("x" * 250, parent)).node or ""
    assert (await laptop.mkdir("y" * 250, parent)).status == "invalid"


async def test_the_same_folder_on_both_sides_is_one(laptop: Device, phone: Device) -> None:
    made = await laptop.mkdir("folder")
    again = await phone.mkdir("folder")
    assert (again.status, again.node) == ("same", made.node)


async def test_the_root_stays(laptop: Device) -> None:
    assert (await laptop.one(Delete("root", 0))).status == "invalid"
    assert (await laptop.one(Move("root", 0, "root", "x"))).status == "invalid"


# --- deletes ---


async def test_a_delete_that_did_not_see_an_edit_is_stale(laptop: Device, phone: Device) -> None:
    made = await laptop.create("a", b"one")
    await phone.edit(made.node, made.revision, b"two")
    assert (await laptop.delete(made.node, made.revision)).status == "stale"
    assert await laptop.texts() == {"a": b"two"}


async def test_an_edit_beats_a_delete(laptop: Device, phone: Device) -> None:
    made = await laptop.create("a", b"one")
    await laptop.delete(made.node, made.revision)
    late = await phone.edit(made.node, made.revision, b"two")
    assert (late.status, late.node) == ("ok", made.node)
    assert await laptop.texts() == {"a": b"two"}


async def test_an_edit_beats_the_delete_of_its_folder_and_only_it_comes_back(laptop: Device, phone: Device) -> None:
    folder = await laptop.mkdir("folder")
    kept = await laptop.create("kept", b"one", parent=folder.node or "")
    await laptop.create("gone", b"x", parent=folder.node or "")
    await phone.pull()
    await laptop.delete(folder.node, folder.revision)
    late = await phone.edit(kept.node, kept.revision, b"two")
    assert late.status == "ok"
    assert late.entry is not None
    assert late.entry.parent != folder.node
    assert await laptop.texts() == {"folder/kept": b"two"}
    restored = await laptop.restore(folder.node)
    assert restored.status == "ok"
    assert sorted((await laptop.texts()).values()) == [b"two", b"x"]


async def test_a_new_file_in_a_deleted_folder_brings_the_folder_back(laptop: Device, phone: Device) -> None:
    outer = await laptop.mkdir("outer")
    inner = await laptop.mkdir("inner", outer.node or "")
    await laptop.delete(outer.node, inner.revision)
    late = await phone.create("new", b"x", parent=inner.node or "")
    assert late.status == "ok"
    assert await laptop.texts() == {"outer/inner/new": b"x"}


async def test_a_file_whose_name_is_taken_meanwhile_comes_back_beside_it(laptop: Device, phone: Device) -> None:
    made = await laptop.create("a", b"one")
    await laptop.delete(made.node, made.revision)
    await laptop.create("a", b"another")
    late = await phone.edit(made.node, made.revision, b"two")
    assert late.status == "conflict_copy"
    texts = await laptop.texts()
    assert texts["a"] == b"another"
    assert sorted(texts.values()) == [b"another", b"two"]


async def test_a_folder_in_which_another_device_changed_something_is_not_deleted(laptop: Device, phone: Device) -> None:
    folder = await laptop.mkdir("folder")
    inner = await laptop.mkdir("inner", folder.node or "")
    seen = inner.revision
    await phone.create("new", b"x", parent=inner.node or "")
    assert (await laptop.delete(folder.node, folder.revision, seen=seen)).status == "stale"
    assert (await laptop.delete(folder.node, folder.revision, seen=(seen or 0) + 1)).status == "ok"


async def test_own_changes_do_not_make_a_delete_stale(laptop: Device) -> None:
    folder = await laptop.mkdir("folder")
    await laptop.create("new", b"x", parent=folder.node or "")
    assert (await laptop.delete(folder.node, folder.revision)).status == "ok"
    assert await laptop.names() == []


async def test_deleting_twice_is_harmless(laptop: Device) -> None:
    made = await laptop.create("a", b"x")
    assert (await laptop.delete(made.node, made.revision)).status == "ok"
    assert (await laptop.delete(made.node, made.revision)).status == "same"


async def test_a_move_of_what_another_device_deleted_is_stale(laptop: Device, phone: Device) -> None:
    made = await laptop.create("a", b"x")
    await laptop.delete(made.node, made.revision)
    late = await phone.move(made.node, made.revision, "root", "b")
    assert late.status == "stale"
    assert late.current is not None
    assert late.current.deleted


# --- trash ---


async def test_a_folder_comes_back_with_everything_and_one_row_each(laptop: Device, phone: Device) -> None:
    folder = await laptop.mkdir("folder")
    inner = await laptop.mkdir("inner", folder.node or "")
    await laptop.create("a", b"1", parent=inner.node or "")
    before = await laptop.texts()
    await laptop.delete(folder.node, folder.revision)
    assert await laptop.names() == []
    await phone.pull()
    await laptop.restore(folder.node)
    assert await laptop.texts() == before
    assert [change.node.name for change in await phone.pull()] == ["folder", "inner", "a"]


async def test_what_is_deep_in_a_deleted_folder_is_deleted_until_that_comes_back(laptop: Device) -> None:
    outer = await laptop.mkdir("outer")
    inner = await laptop.mkdir("inner", outer.node or "")
    made = await laptop.create("a", b"x", parent=inner.node or "")

    async def deleted() -> bool:
        # Twice: the second answer comes from what the first one learnt.
        first, second = [(await laptop.tree.node(laptop.who, made.node or "")).deleted for _ in range(2)]
        assert first == second
        return first

    assert not await deleted()
    gone = await laptop.delete(outer.node, outer.revision)
    assert await deleted()
    await laptop.restore(outer.node)
    assert not await deleted()
    await laptop.delete(inner.node, inner.revision)
    assert await deleted()
    assert gone.status == "ok"


async def test_a_folder_with_the_same_number_in_another_account_has_nothing_to_do_with_it(world: World) -> None:
    def of(device: Device, node: str) -> Awaitable[NodeEntry]:
        return device.tree.node(device.who, node)

    folders = [await device.mkdir("folder") for device in (world.laptop, world.stranger)]
    files = [
        await device.create("a", b"x", parent=folder.node or "")
        for device, folder in zip((world.laptop, world.stranger), folders, strict=True)
    ]
    assert folders[0].node == folders[1].node
    await world.laptop.delete(folders[0].node, folders[0].revision)
    await world.stranger.mkdir("as many changes as the other")
    assert (await of(world.laptop, files[0].node or "")).deleted
    assert not (await of(world.stranger, files[1].node or "")).deleted


async def test_what_comes_back_to_a_taken_name_gets_another(laptop: Device) -> None:
    made = await laptop.create("a.txt", b"old")
    await laptop.delete(made.node, made.revision)
    await laptop.create("a.txt", b"new")
    await laptop.restore(made.node)
    assert await laptop.texts() == {"a.txt": b"new", "a (restored).txt": b"old"}


async def test_the_trash_says_where_things_were_and_who_deleted_them(laptop: Device) -> None:
    folder = await laptop.mkdir("folder")
    made = await laptop.create("a", b"1", parent=folder.node or "")
    await laptop.delete(made.node, made.revision)
    (entry,) = (await laptop.tree.trash(laptop.who, None, 10)).entries
    assert (entry.path, entry.device) == ("folder/a", "laptop")


async def test_purging_removes_for_good_and_gives_the_bytes_back(laptop: Device) -> None:
    folder = await laptop.mkdir("folder")
    for number in range(3):
        await laptop.create(str(number), str(number).encode(), parent=folder.node or "")
    await laptop.delete(folder.node, folder.revision)
    assert (await laptop.tree.usage(laptop.who)).used == 3
    assert await laptop.tree.empty_trash(laptop.who) == 1
    usage = await laptop.tree.usage(laptop.who)
    assert (usage.used, usage.pending) == (0, 3)
    assert (await laptop.restore(folder.node)).status == "not_found"
