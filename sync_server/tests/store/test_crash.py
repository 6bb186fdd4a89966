"""Promise 1: nothing acknowledged is lost, whatever happens to the process and the disk."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sync_protocol.hashing import blob_id
from sync_protocol.types import CommitRequest, Put
from sync_server.store.check import check
from sync_server.store.interface import Identity, NoSpace, StoreFailed
from sync_server.store.sqlite import SqliteStore, StoreSettings, connect, opened
from sync_server.tree import Tree

PROCESS = Path(__file__).with_name("busy_process.py")
ANNA = Identity(1, 1)


class Told:
    """What the process said before it ended."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.words: list[str] = []

    def read(self, output: str) -> None:
        # A line cut by the kill was not said.
        for line in output.split("\n")[:-1]:
            word, *rest = line.split()
            if word == "stored":
                self.files[rest[0]] = rest[1]
            elif word == "deleting":
                self.files.pop(rest[0], None)
            else:
                self.words.append(line)


async def assert_all_there(data: Path, told: Told) -> None:
    async with opened(data, StoreSettings(free_floor=0)) as store:
        with connect(store.path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        report = check(data)
        assert report.ok, report
        tree = Tree(store)
        for name, content in told.files.items():
            entry = await tree.find(ANNA, name)
            versions = (await tree.versions(ANNA, entry.id)).versions
            assert content in {version.content for version in versions}, name


async def test_whatever_was_acknowledged_survives_a_kill_at_any_moment(data: Path) -> None:
    choose = random.Random(7)
    told = Told()
    for round_ in range(8):
        with subprocess.Popen(
            [sys.executable, PROCESS, data, str(round_), "until-killed"], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            lines = [process.stdout.readline() for _ in range(choose.randrange(25))]
            time.sleep(choose.uniform(0.0, 0.02))
            process.kill()
            told.read("".join(lines) + process.stdout.read())
        await assert_all_there(data, told)
    assert len(told.files) > 20


async def test_a_full_disk_is_told_and_is_no_damage(tmp_path: Path) -> None:
    """On a file system of 3 MB, which ends while blobs and rows are written."""
    disk = tmp_path / "disk"
    disk.mkdir()
    # Root of a container may mount, anybody else in a user namespace of their own.
    spaces = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
    mount = 'mount -t tmpfs -o size=3m tmpfs "$1"; shift; exec "$@"'
    told = Told()
    for seed in range(3):
        process = [sys.executable, str(PROCESS), str(disk / "data"), str(seed), "until-full"]
        ended = subprocess.run(
            ["unshare", *spaces, "sh", "-euc", mount, "sh", str(disk), *process],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        told.read(ended.stdout)
        assert told.words[-1] == "refused NoSpace"
        assert "after" in told.files


@pytest.mark.parametrize("after", [1, 2, 5, 9])
async def test_after_a_failed_fsync_of_the_database_nothing_is_acknowledged(data: Path, after: int) -> None:
    # Its own syncs are another matter: the failing ones are to be those of commits.
    async with opened(data, StoreSettings(free_floor=0)):
        pass
    trace = data.parent / "trace"
    process = [sys.executable, str(PROCESS), str(data), "1", "until-failed"]
    inject = f"inject=fdatasync:error=EIO:when={after}+"
    ended = subprocess.run(
        ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=fdatasync", "-e", inject, *process],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    told = Told()
    told.read(ended.stdout)
    assert "INJECTED" in trace.read_text()
    assert "failed" in told.words or "StoreFailed" in ended.stderr
    await assert_all_there(data, told)


async def test_nobody_is_answered_before_the_commit(store: SqliteStore) -> None:
    """A transaction that fails in its very last step: none of its jobs may have been answered."""

    def breaks(rows: sqlite3.Connection) -> None:
        rows.execute("PRAGMA defer_foreign_keys = ON")
        rows.execute("INSERT INTO conflicts VALUES (99, 1, 1, 1, 1, 1, 1, 1, 1, 1, NULL, NULL, NULL)")

    tree = Tree(store)
    await tree.usage(ANNA)
    op = Put([], 0, 0, parent="root", name="a")
    answers = await asyncio.gather(
        tree.commit(ANNA, CommitRequest("operation-1", [op])),
        store.sql_write(breaks),
        tree.commit(ANNA, CommitRequest("operation-2", [op])),
        return_exceptions=True,
    )
    assert isinstance(answers[1], StoreFailed)
    there = (await tree.children(ANNA, "root", None, 9)).entries
    acknowledged = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert bool(acknowledged) == bool(there)
    assert store.failed is not None


@pytest.mark.parametrize(("number", "expected"), [(errno.EIO, StoreFailed), (errno.ENOSPC, NoSpace)])
@pytest.mark.parametrize("call", [1, 2])
async def test_a_blob_whose_fsync_failed_is_not_acknowledged_nor_trusted(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception], call: int
) -> None:
    """The first fsync is that of the file, the second that of its folder."""
    calls = 0
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    tree = Tree(store)
    data = b"content"
    upload = tree.upload_blob(ANNA, blob_id(data))
    upload.write(data)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(expected):
            await upload.finish()
    assert await tree.have(ANNA, [blob_id(data)]) == [blob_id(data)]
    assert list(store.blobs.temporary.iterdir()) == []
    op = Put([blob_id(data)], len(data), 0, parent="root", name="a")
    assert (await tree.commit(ANNA, CommitRequest("operation-1", [op]))).results[0].status == "missing_blobs"
    assert [result.status for result in await tree.put_blobs(ANNA, [(blob_id(data), data)])] == ["ok"]
    assert (await tree.commit(ANNA, CommitRequest("operation-2", [op]))).results[0].status == "ok"
