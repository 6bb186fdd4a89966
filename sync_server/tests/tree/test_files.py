"""Whole files by path, uploads that are interrupted, and the limits of space."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import pytest

from sync_protocol.hashing import EMPTY, blob_id
from sync_protocol.types import MAX_BLOB, Mkdir, Put, UploadRequest
from sync_server.store.interface import Busy, Clash, Invalid, NoSpace, NotFound, QuotaExceeded, Stale, TooLarge
from sync_server.store.maintenance import collect
from sync_server.store.sqlite import StoreSettings, opened
from sync_server.tree import Expect

from .conftest import World, people, world_of
from .device import Device

MIB = 1024 * 1024


async def put(device: Device, path: str, data: bytes, expect: Expect | None = None, *, parents: bool = False) -> str:
    upload = await device.tree.write_file(device.who, path, len(data), expect or Expect(), parents=parents)
    try:
        for at in range(0, len(data), MIB):
            await upload.write(data[at : at + MIB])
        return (await upload.finish()).entry.content or ""
    finally:
        upload.abort()


@pytest.mark.parametrize("size", [0, 1, MAX_BLOB, MAX_BLOB + 1, 3 * MAX_BLOB])
async def test_a_file_comes_back_as_it_was_put(laptop: Device, size: int) -> None:
    data = os.urandom(size)
    await put(laptop, "a", data)
    assert await laptop.read((await laptop.at("a")).id) == data


async def test_putting_again_is_a_new_version(laptop: Device) -> None:
    await put(laptop, "a", b"one")
    await put(laptop, "a", b"two")
    entry = await laptop.at("a")
    assert [version.size for version in (await laptop.tree.versions(laptop.who, entry.id)).versions] == [3, 3]


async def test_a_condition_that_is_not_met_changes_nothing(laptop: Device) -> None:
    with pytest.raises(Stale):
        await put(laptop, "a", b"x", Expect(exists=True))
    old = await put(laptop, "a", b"one")
    with pytest.raises(Stale):
        await put(laptop, "a", b"x", Expect(absent=True))
    await put(laptop, "a", b"two", Expect(contents=frozenset({old})))
    with pytest.raises(Stale):
        await put(laptop, "a", b"x", Expect(contents=frozenset({old})))
    assert await laptop.texts() == {"a": b"two"}


async def test_a_condition_is_checked_again_at_the_end(laptop: Device) -> None:
    old = await put(laptop, "a", b"one")
    slow = await laptop.tree.write_file(laptop.who, "a", None, Expect(contents=frozenset({old})))
    await slow.write(b"slow")
    await put(laptop, "a", b"quick")
    with pytest.raises(Stale):
        await slow.finish()
    assert await laptop.texts() == {"a": b"quick"}


async def test_a_folder_must_be_there_or_asked_for(laptop: Device) -> None:
    with pytest.raises(NotFound):
        await put(laptop, "x/y/a", b"1")
    await put(laptop, "x/y/a", b"1", parents=True)
    assert await laptop.texts() == {"x/y/a": b"1"}


async def test_a_folder_is_not_overwritten_by_a_file(laptop: Device) -> None:
    await laptop.mkdir("a")
    with pytest.raises(Clash):
        await put(laptop, "a", b"x")


@pytest.mark.parametrize("path", ["../a", "a/../b", "/a", "a//b", "./a", "a\0", "x" * 300, "a/" * 2500 + "b"])
async def test_a_path_that_leads_elsewhere_is_refused(laptop: Device, path: str) -> None:
    with pytest.raises(Invalid):
        await put(laptop, path, b"x", parents=True)
    with pytest.raises(Invalid):
        await laptop.at(path)
    assert await laptop.pull() == []


async def test_a_path_that_differs_in_case_is_another_one_and_refused(laptop: Device) -> None:
    await put(laptop, "Folder/Report.txt", b"1", parents=True)
    with pytest.raises(NotFound):
        await laptop.at("folder/report.txt")
    with pytest.raises(Clash):
        await put(laptop, "Folder/REPORT.TXT", b"2")
    with pytest.raises(Clash):
        await put(laptop, "folder/other.txt", b"2", parents=True)
    with pytest.raises(Clash):
        await laptop.tree.mkdir_path(laptop.who, "FOLDER")
    await put(laptop, "Folder/u\u0308", b"1")
    await put(laptop, "Folder/\u00fc", b"2")
    assert await laptop.texts() == {"Folder/Report.txt": b"1", "Folder/u\u0308": b"2"}


async def test_an_upload_that_is_broken_off_leaves_nothing(world: World, laptop: Device) -> None:
    upload = await laptop.tree.write_file(laptop.who, "a")
    for _ in range(9):
        await upload.write(os.urandom(MIB))
    upload.abort()
    assert (await laptop.tree.usage(laptop.who)).pending == 0
    assert list(world.store.blobs.temporary.iterdir()) == []


async def test_a_large_file_counts_against_the_quota_while_it_comes(laptop: Device) -> None:
    await laptop.tree.set_quota(1, 10 * MIB)
    upload = await laptop.tree.write_file(laptop.who, "a")
    for _ in range(12):
        await upload.write(os.urandom(MIB))
    with pytest.raises(QuotaExceeded):
        await upload.write(os.urandom(MIB))
    upload.abort()
    assert await laptop.names() == []


async def test_the_blob_of_no_bytes_is_always_there(laptop: Device) -> None:
    upload = laptop.tree.upload_blob(laptop.who, EMPTY)
    assert await upload.finish() == EMPTY
    assert await laptop.tree.have(laptop.who, [EMPTY]) == []
    assert (await laptop.tree.blob(laptop.who, EMPTY)).path.read_bytes() == b""


async def test_files_are_moved_and_deleted_by_path(laptop: Device) -> None:
    await put(laptop, "a", b"1")
    await laptop.tree.mkdir_path(laptop.who, "d/e", parents=True)
    await laptop.tree.move_path(laptop.who, "a", "d/e/b")
    assert await laptop.texts() == {"d/e/b": b"1"}
    await put(laptop, "a", b"2")
    with pytest.raises(Clash):
        await laptop.tree.move_path(laptop.who, "a", "d/e/b")
    await laptop.tree.move_path(laptop.who, "a", "d/e/b", overwrite=True)
    assert await laptop.texts() == {"d/e/b": b"2"}
    assert len((await laptop.tree.trash(laptop.who, None, 9)).entries) == 1
    await laptop.tree.delete_path(laptop.who, "d")
    assert await laptop.names() == []


async def test_a_folder_is_not_overwritten_by_what_is_in_it(laptop: Device) -> None:
    await put(laptop, "d/a", b"1", parents=True)
    with pytest.raises(Invalid):
        await laptop.tree.move_path(laptop.who, "d/a", "d", overwrite=True)
    assert await laptop.texts() == {"d/a": b"1"}


# --- resumable uploads ---


async def test_an_interrupted_upload_goes_on_where_it_was(data: Path) -> None:
    content = os.urandom(2 * MAX_BLOB + 5000)
    cuts = [0, 1000, MAX_BLOB + 17, 2 * MAX_BLOB, len(content)]
    upload = ""
    for number, (begin, end) in enumerate(itertools.pairwise(cuts)):
        # A new process each time: only what is on disk can be gone on with.
        async with opened(data, StoreSettings(free_floor=0)) as store:
            if not number:
                await store.sql_write(people)
            laptop = world_of(store).laptop
            if not number:
                upload = (await laptop.tree.begin_upload(laptop.who, UploadRequest("a", len(content)))).id
            assert (await laptop.tree.upload_state(laptop.who, upload)).offset == begin
            part = await laptop.tree.resume_upload(laptop.who, upload, begin)
            await part.write(content[begin:end])
            state = await part.finish()
            assert state.offset == end
            if end == len(content):
                assert state.entry is not None
                assert await laptop.read(state.entry.id) == content


async def test_what_was_not_acknowledged_of_an_upload_does_not_count(world: World, laptop: Device) -> None:
    upload = (await laptop.tree.begin_upload(laptop.who, UploadRequest("a", 10))).id
    part = await laptop.tree.resume_upload(laptop.who, upload, 0)
    await part.write(b"12345")
    part.abort()
    assert (await laptop.tree.upload_state(laptop.who, upload)).offset == 0
    part = await laptop.tree.resume_upload(laptop.who, upload, 0)
    await part.write(b"abcdefghij")
    state = await part.finish()
    assert state.entry is not None
    assert await laptop.read(state.entry.id) == b"abcdefghij"


async def test_what_arrived_of_a_paused_upload_is_not_collected(world: World, laptop: Device) -> None:
    content = os.urandom(MAX_BLOB + 10)
    upload = (await laptop.tree.begin_upload(laptop.who, UploadRequest("a", len(content)))).id
    part = await laptop.tree.resume_upload(laptop.who, upload, 0)
    await part.write(content[:MAX_BLOB])
    await part.finish()
    await asyncio.sleep(0.01)
    await collect(world.store, min_age=0)
    part = await laptop.tree.resume_upload(laptop.who, upload, MAX_BLOB)
    await part.write(content[MAX_BLOB:])
    state = await part.finish()
    assert state.entry is not None
    assert await laptop.read(state.entry.id) == content


async def test_an_upload_beyond_the_quota_is_refused_when_it_is_announced(laptop: Device) -> None:
    await laptop.tree.set_quota(1, 100)
    with pytest.raises(QuotaExceeded):
        await laptop.tree.begin_upload(laptop.who, UploadRequest("a", 101))


async def test_unfinished_uploads_are_not_a_way_around_the_quota(laptop: Device) -> None:
    await laptop.tree.set_quota(1, 100)
    for number in range(2):
        upload = (await laptop.tree.begin_upload(laptop.who, UploadRequest(f"a{number}", 60))).id
        part = await laptop.tree.resume_upload(laptop.who, upload, 0)
        if number:
            with pytest.raises(QuotaExceeded):
                await part.write(b"x" * 59)
        else:
            await part.write(b"x" * 59)
        await part.finish()


async def test_an_upload_refuses_another_offset_a_second_sender_and_too_much(laptop: Device, stranger: Device) -> None:
    upload = (await laptop.tree.begin_upload(laptop.who, UploadRequest("a", 10))).id
    with pytest.raises(Stale):
        await laptop.tree.resume_upload(laptop.who, upload, 3)
    with pytest.raises(NotFound):
        await stranger.tree.upload_state(stranger.who, upload)
    part = await laptop.tree.resume_upload(laptop.who, upload, 0)
    with pytest.raises(Busy):
        await laptop.tree.resume_upload(laptop.who, upload, 0)
    with pytest.raises(TooLarge):
        await part.write(b"x" * 11)
    part.abort()
    await laptop.tree.cancel_upload(laptop.who, upload)
    with pytest.raises(NotFound):
        await laptop.tree.upload_state(laptop.who, upload)


async def test_an_upload_based_on_an_old_revision_is_stale_and_not_lost(laptop: Device) -> None:
    await put(laptop, "a", b"one")
    base = (await laptop.at("a")).revision
    upload = (await laptop.tree.begin_upload(laptop.who, UploadRequest("a", 3, base=base))).id
    await put(laptop, "a", b"two")
    part = await laptop.tree.resume_upload(laptop.who, upload, 0)
    await part.write(b"new")
    with pytest.raises(Stale):
        await part.finish()
    assert await laptop.texts() == {"a": b"two"}
    # Never “all has arrived”, which clients take for “done”.
    with pytest.raises(Stale):
        await laptop.tree.upload_state(laptop.who, upload)
    with pytest.raises(Stale):
        await laptop.tree.begin_upload(laptop.who, UploadRequest("a", 3, base=base))
    await laptop.tree.move_path(laptop.who, "a", "b")
    state = await laptop.tree.upload_state(laptop.who, upload)
    assert (state.offset, state.entry is not None) == (3, True)
    assert await laptop.texts() == {"a": b"new", "b": b"two"}


async def test_an_upload_to_a_name_that_is_taken_is_refused_when_it_is_announced(laptop: Device) -> None:
    await put(laptop, "a", b"one")
    with pytest.raises(Stale):
        await laptop.tree.begin_upload(laptop.who, UploadRequest("a", 3))


async def test_an_upload_the_server_did_not_get_to_end_is_ended_when_it_is_asked_for(data: Path) -> None:
    async with opened(data, StoreSettings(free_floor=0)) as store:
        await store.sql_write(people)
        laptop = world_of(store).laptop
        upload = (await laptop.tree.begin_upload(laptop.who, UploadRequest("a", MAX_BLOB))).id
        part = await laptop.tree.resume_upload(laptop.who, upload, 0)
        await part.write(b"x" * MAX_BLOB)
        part.abort()
    async with opened(data, StoreSettings(free_floor=0)) as store:
        laptop = world_of(store).laptop
        assert (await laptop.tree.upload_state(laptop.who, upload)).entry is not None
        assert await laptop.texts() == {"a": b"x" * MAX_BLOB}


async def test_an_upload_of_nothing_is_done_when_it_is_announced(laptop: Device) -> None:
    state = await laptop.tree.begin_upload(laptop.who, UploadRequest("a", 0))
    assert state.entry is not None
    part = await laptop.tree.resume_upload(laptop.who, state.id, 0)
    assert (await part.finish()).entry == state.entry
    assert await laptop.texts() == {"a": b""}


# --- space ---


async def test_more_than_the_quota_is_refused_before_it_is_stored(laptop: Device) -> None:
    await laptop.tree.set_quota(1, 10)
    await put(laptop, "a", b"12345678")
    with pytest.raises(QuotaExceeded):
        await put(laptop, "b", b"abcd")
    assert [result.status for result in await laptop.tree.put_blobs(laptop.who, [("0" * 64, b"x")])] == ["mismatch"]
    assert await laptop.texts() == {"a": b"12345678"}
    usage = await laptop.tree.usage(laptop.who)
    assert (usage.used, usage.quota) == (8, 10)


async def test_the_same_again_costs_no_quota(laptop: Device) -> None:
    """Retries, when there is hardly anything left: of a content, of many, of a file before and after it is there."""
    small, large = b"x" * 1000, os.urandom(2 * MAX_BLOB + 1000)
    await laptop.tree.set_quota(1, len(large) + len(small) + 1)

    async def one(content: bytes) -> None:
        upload = laptop.tree.upload_blob(laptop.who)
        upload.write(content)
        await upload.finish()

    parts = [large[at : at + MAX_BLOB] for at in range(0, len(large), MAX_BLOB)]
    for _ in range(2):
        for part in parts:
            await one(part)
        (result,) = await laptop.tree.put_blobs(laptop.who, [(blob_id(small), small)])
        assert result.status == "ok"
    for _ in range(2):
        await put(laptop, "a", small)
        await put(laptop, "b", large)
    (result,) = await laptop.tree.put_blobs(laptop.who, [(blob_id(b"more"), b"more")])
    assert result.status == "quota"
    with pytest.raises(QuotaExceeded):
        await put(laptop, "c", b"more")


async def test_uploads_at_the_same_time_do_not_pass_the_quota_together(world: World, laptop: Device) -> None:
    await laptop.tree.set_quota(1, 100)

    async def bring(content: bytes) -> None:
        upload = world.store.upload_blob(1)
        upload.write(content)
        await upload.finish()

    done = await asyncio.gather(*(bring(bytes([number]) * 60) for number in range(4)), return_exceptions=True)
    assert [type(error) for error in done if error is not None] == [QuotaExceeded] * 3
    assert (await laptop.tree.usage(laptop.who)).pending == 60


async def test_a_commit_beyond_the_quota_is_answered_and_the_rest_of_it_done(laptop: Device) -> None:
    first, second = await laptop.upload(b"123456"), await laptop.upload(b"abcdef")
    await laptop.tree.set_quota(1, 10)
    answer = await laptop.commit(
        Put(first, 6, 0, parent="root", name="a"), Put(second, 6, 0, parent="root", name="b"), Mkdir("root", "c")
    )
    assert [result.status for result in answer.results] == ["ok", "quota", "ok"]
    assert await laptop.names() == ["a", "c"]


async def test_content_that_is_there_already_costs_no_quota(laptop: Device) -> None:
    await laptop.tree.set_quota(1, 10)
    await put(laptop, "a", b"12345678")
    entry = await laptop.at("a")
    result = await laptop.one(Put([entry.content or ""], 8, 0, parent="root", name="copy"))
    assert result.status == "ok"


async def test_below_the_floor_of_free_space_nothing_is_taken_but_deletes_are(data: Path) -> None:
    async with opened(data, StoreSettings(free_floor=0)) as store:
        await store.sql_write(people)
        laptop = world_of(store).laptop
        made = await laptop.create("a", b"x")
    async with opened(data, StoreSettings(free_floor=2**60)) as store:
        laptop = world_of(store).laptop
        with pytest.raises(NoSpace):
            await put(laptop, "b", b"x")
        with pytest.raises(NoSpace):
            await laptop.upload(b"y")
        with pytest.raises(NoSpace):
            await laptop.edit(made.node, made.revision, b"")
        assert (await laptop.delete(made.node, made.revision)).status == "ok"
