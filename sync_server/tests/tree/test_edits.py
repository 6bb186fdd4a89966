"""Promise 2: nothing is silently overwritten."""

from __future__ import annotations

import pytest

from sync_protocol.types import Mkdir, Put
from sync_server.store.interface import Invalid

from .conftest import World
from .device import Device


async def test_an_edit_on_the_newest_content_becomes_it(laptop: Device) -> None:
    made = await laptop.create("a.txt", b"one")
    edited = await laptop.edit(made.node, made.revision, b"two")
    assert edited.status == "ok"
    assert await laptop.texts() == {"a.txt": b"two"}


async def test_of_two_edits_the_later_one_is_kept_beside_the_first(laptop: Device, phone: Device) -> None:
    made = await laptop.create("a.txt", b"one")
    await laptop.edit(made.node, made.revision, b"from the laptop")
    late = await phone.edit(made.node, made.revision, b"from the phone")
    assert late.status == "conflict_copy"
    assert late.current is not None
    assert late.current.name == "a.txt"
    texts = await laptop.texts()
    assert sorted(texts.values()) == [b"from the laptop", b"from the phone"]
    assert texts["a.txt"] == b"from the laptop"


async def test_a_late_edit_may_ask_to_fail_instead(laptop: Device, phone: Device) -> None:
    made = await laptop.create("a.txt", b"one")
    await laptop.edit(made.node, made.revision, b"from the laptop")
    late = await phone.edit(made.node, made.revision, b"from the phone", on_conflict="fail")
    assert late.status == "conflict"
    assert await laptop.texts() == {"a.txt": b"from the laptop"}


async def test_the_same_content_on_both_sides_is_no_conflict(laptop: Device, phone: Device) -> None:
    made = await laptop.create("a.txt", b"one")
    await laptop.edit(made.node, made.revision, b"both")
    late = await phone.edit(made.node, made.revision, b"both")
    assert late.status == "same"
    assert await phone.names() == ["a.txt"]


async def test_the_same_new_file_on_both_sides_is_one_file(laptop: Device, phone: Device) -> None:
    made = await laptop.create("a.txt", b"both")
    late = await phone.create("a.txt", b"both")
    assert (late.status, late.node) == ("same", made.node)


async def test_two_new_files_of_one_name_are_both_kept(laptop: Device, phone: Device) -> None:
    await laptop.create("a.txt", b"from the laptop")
    late = await phone.create("a.txt", b"from the phone")
    assert late.status == "conflict_copy"
    assert sorted((await laptop.texts()).values()) == [b"from the laptop", b"from the phone"]


async def test_a_touch_is_no_edit(laptop: Device, phone: Device) -> None:
    made = await laptop.create("a.txt", b"one")
    await laptop.edit(made.node, made.revision, b"two")
    touched = await phone.edit(made.node, made.revision, b"one")
    assert touched.status == "stale"
    assert await phone.texts() == {"a.txt": b"two"}


async def test_a_copy_never_gets_copies_of_copies(laptop: Device, phone: Device) -> None:
    made = await laptop.create("a.txt", b"one")
    await laptop.edit(made.node, made.revision, b"two")
    copy = await phone.edit(made.node, made.revision, b"three")
    await phone.edit(copy.node, copy.revision, b"four")
    late = await laptop.edit(copy.node, copy.revision, b"five")
    assert late.status == "conflict_copy"
    assert late.entry is not None
    assert late.entry.name.count("sync-conflict") == 1
    assert sorted((await laptop.texts()).values()) == [b"five", b"four", b"two"]


async def test_the_same_late_edit_of_two_devices_is_one_copy(world: World, laptop: Device, phone: Device) -> None:
    made = await laptop.create("a.txt", b"one")
    await laptop.edit(made.node, made.revision, b"two")
    desk = Device(world.tree, 1, 3)
    first = await phone.edit(made.node, made.revision, b"three")
    second = await desk.edit(made.node, made.revision, b"three")
    assert (second.status, second.node) == ("conflict_copy", first.node)
    assert len(await laptop.names()) == 2


async def test_who_moved_a_file_cannot_overwrite_content_it_never_saw(laptop: Device, phone: Device) -> None:
    made = await laptop.create("a.txt", b"one")
    await phone.edit(made.node, made.revision, b"from the phone")
    moved = await laptop.move(made.node, made.revision, "root", "b.txt")
    assert moved.status == "ok"
    late = await laptop.edit(made.node, moved.revision, b"from the laptop")
    assert late.status == "conflict_copy"
    assert sorted((await laptop.texts()).values()) == [b"from the laptop", b"from the phone"]


async def test_an_edit_and_a_rename_of_two_devices_are_both_done(laptop: Device, phone: Device) -> None:
    made = await laptop.create("a.txt", b"one")
    await laptop.move(made.node, made.revision, "root", "b.txt")
    assert (await phone.edit(made.node, made.revision, b"two")).status == "ok"
    assert await phone.texts() == {"b.txt": b"two"}


async def test_the_executable_bit_travels(laptop: Device) -> None:
    made = await laptop.create("run", b"#!")
    assert (await laptop.edit(made.node, made.revision, b"#!", executable=True)).status == "ok"
    assert (await laptop.at("run")).executable


async def test_content_that_was_not_uploaded_is_asked_for(laptop: Device) -> None:
    absent = "ab" * 32
    result = await laptop.one(Put([absent], 3, 0, parent="root", name="a"))
    assert (result.status, result.missing) == ("missing_blobs", [absent])
    assert await laptop.names() == []


async def test_a_size_that_is_not_that_of_the_blobs_is_refused(laptop: Device) -> None:
    blobs = await laptop.upload(b"three")
    assert (await laptop.one(Put(blobs, 4, 0, parent="root", name="a"))).status == "invalid"


async def test_a_base_of_the_future_is_refused(laptop: Device) -> None:
    made = await laptop.create("a", b"1")
    assert (await laptop.edit(made.node, 10_000, b"2")).status == "invalid"


async def test_an_atomic_commit_with_one_failure_changes_nothing(laptop: Device) -> None:
    answer = await laptop.commit(Mkdir("root", "a"), Mkdir("nabc", "b"), Mkdir("root", "c"), atomic=True)
    assert [result.status for result in answer.results] == ["aborted", "not_found", "aborted"]
    assert await laptop.names() == []
    assert await laptop.pull() == []


async def test_an_operation_may_use_what_an_earlier_one_of_the_commit_made(laptop: Device) -> None:
    blobs = await laptop.upload(b"x")
    answer = await laptop.commit(Mkdir("root", "a"), Mkdir("@0", "b"), Put(blobs, 1, 0, parent="@1", name="c"))
    assert [result.status for result in answer.results] == ["ok"] * 3
    assert await laptop.texts() == {"a/b/c": b"x"}


async def test_the_same_operation_again_gives_the_same_answer(laptop: Device) -> None:
    first = await laptop.commit(Mkdir("root", "a"), op_id="operation-a")
    again = await laptop.commit(Mkdir("root", "a"), op_id="operation-a")
    assert again.results == first.results
    assert again.results[0].status == "ok"
    assert again.replayed
    assert len(await laptop.pull()) == 1


async def test_an_op_id_is_not_used_for_something_else(laptop: Device) -> None:
    await laptop.commit(Mkdir("root", "a"), op_id="operation-a")
    with pytest.raises(Invalid):
        await laptop.commit(Mkdir("root", "b"), op_id="operation-a")


async def test_two_devices_may_use_the_same_op_id(laptop: Device, phone: Device) -> None:
    await laptop.commit(Mkdir("root", "a"), op_id="operation-a")
    answer = await phone.commit(Mkdir("root", "b"), op_id="operation-a")
    assert not answer.replayed
    assert await laptop.names() == ["a", "b"]
