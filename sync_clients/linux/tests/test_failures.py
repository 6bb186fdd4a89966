# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills, cut cables, full disks and large transfers, with real processes: nothing is lost, everything goes on."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import (
    Account,
    Cable,
    Machine,
    Server,
    conflict_copies,
    empty,
    equal,
    eventually,
)

Make = Callable[[str], Machine]


@pytest.fixture
def cable(shared_server: Server) -> Iterator[Cable]:
    one = Cable(shared_server.port)
    yield one
    one.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_ten_thousand_small_files_arrive_whole(account: Account, machine: Make) -> None:
    left, right = machine("left"), machine("right")
    left.join(account)
    right.join(account)
    chance = random.Random(1)
    for i in range(10_000):
        left.write(f"d{i // 100}/f{i}", chance.randbytes(chance.choice([0, 10, 300])))
    left.start()
    right.start()
    equal(left, right, seconds=120)
    assert len([body for body in right.files().values() if body is not None]) == 10_000


def test_one_changed_byte_in_a_big_file_moves_little(
    account: Account, machine: Make, cable: Cable, pytestconfig: pytest.Config
) -> None:
    size = int(pytestconfig.getoption("--big-file-mb")) * 1_000_000
    left, right = machine("left"), machine("right")
    left.join(account, url=cable.url)
    right.join(account, url=cable.url)
    chance = random.Random(2)
    big = left.write("big.img", b"")
    with big.open("wb") as file:
        for _ in range(size // 1_000_000):
            file.write(chance.randbytes(1_000_000))
    left.start()
    right.start()
    there = right.folder / "big.img"
    eventually(lambda: there.exists() and there.stat().st_size == size, 200, right.log)
    eventually(lambda: right.status()["state"] == "up to date")
    sent, received = cable.sent, cable.received
    with big.open("r+b") as file:
        file.seek(size // 2)
        byte = file.read(1)
        file.seek(size // 2)
        file.write(bytes([byte[0] ^ 1]))
    eventually(lambda: there.stat().st_mtime_ns // 10**6 == big.stat().st_mtime_ns // 10**6, 100)
    subprocess.run(["cmp", big, there], check=True)
    # A blob is 4 MiB at most; it and its neighbour, once up and once down. For a gigabyte that is below one percent.
    assert cable.sent - sent < max(size // 100, 9_000_000)
    assert cable.received - received < max(size // 100, 9_000_000)


def test_a_cut_cable_is_survived_and_the_transfer_goes_on(account: Account, machine: Make, cable: Cable) -> None:
    left, right = machine("left"), machine("right")
    left.join(account, url=cable.url)
    right.join(account)
    chance = random.Random(3)
    left.write("big.bin", chance.randbytes(30_000_000))
    left.run("limit", "--up", "10000")
    left.start()
    right.start()
    eventually(lambda: cable.sent > 10_000_000, 60)
    cable.cut()
    eventually(lambda: left.status()["state"] == "offline")
    left.write("meanwhile.txt", "written offline")
    before = cable.sent
    cable.mend()
    equal(left, right)
    # What had arrived is not sent again.
    assert cable.sent - before < 26_000_000
    assert right.has("meanwhile.txt", "written offline")


def test_after_a_hiccup_of_the_line_no_content_is_sent_twice(account: Account, machine: Make, cable: Cable) -> None:
    one = machine("one")
    one.join(account, url=cable.url)
    one.write("big.bin", random.Random(3).randbytes(30_000_000))
    one.run("limit", "--up", "4000")
    one.start()
    # The first 4.7 MB are answered for, the next 5.4 MB are on the line, and 4.9 MB are ready to follow.
    eventually(lambda: cable.sent > 6_000_000, 60)
    before = cable.sent
    # The upload tries again at once, and fails; what is ready to follow would get through.
    cable.hiccup(refused=1)
    eventually(lambda: one.status()["state"] == "offline")
    one.write("meanwhile.txt", "written")
    equal(one)
    assert cable.sent - before < 26_000_000


def test_killed_daemons_lose_nothing(account: Account, machine: Make) -> None:
    left, right = machine("left"), machine("right")
    chance = random.Random(4)
    for one in (left, right):
        one.join(account)
        for i in range(150):
            one.write(f"{one.name}/{i % 7}/{i}", chance.randbytes(20_000))
    left.write("both.txt", "left's")
    right.write("both.txt", "right's")
    for _ in range(5):
        for one in (left, right):
            one.start()
        time.sleep(chance.uniform(0.1, 0.8))
        for one in (left, right):
            one.kill()
        left.write(f"more/{chance.randrange(10)}", chance.randbytes(100))
        right.write(f"more/{chance.randrange(10, 20)}", chance.randbytes(100))
    left.start()
    right.start()
    equal(left, right, seconds=90)
    assert len(conflict_copies(left)) == 1
    assert {left.files()["both.txt"], left.files()[conflict_copies(left)[0]]} == {b"left's", b"right's"}
    assert sum(1 for path in left.files() if path.count("/") == 2) == 300


def test_a_killed_server_loses_nothing(server: Server, machine: Make) -> None:
    account = server.account()
    left, right = machine("left"), machine("right")
    left.join(account)
    right.join(account)
    left.start()
    right.start()
    chance = random.Random(5)
    for turn in range(4):
        for i in range(60):
            left.write(f"t{turn}/{i}", chance.randbytes(30_000))
        time.sleep(chance.uniform(0.05, 0.6))
        server.kill()
        left.write("edited.txt", f"turn {turn}")
        server.start()
        left.run("sync", ok=False)
    equal(left, right, seconds=90)
    assert len([body for body in right.files().values() if body is not None]) == 241
    assert not conflict_copies(right)


def test_a_full_disk_here_is_said_and_goes_on_when_there_is_room(
    account: Account, machine: Make, small_disk: Path
) -> None:
    left, right = machine("left"), machine("right")
    left.join(account)
    right.folder = small_disk / "Sync"
    right.join(account)
    chance = random.Random(6)
    filler = right.write("filler.bin", chance.randbytes(12_000_000))
    left.write("film.mkv", chance.randbytes(15_000_000))
    left.write("small.txt", "small")
    left.start()
    right.start()
    eventually(lambda: "full" in right.status()["problem"], 60, right.log)
    assert filler.stat().st_size == 12_000_000
    eventually(lambda: left.has("filler.bin", filler.read_bytes()), 60, right.log)
    filler.unlink()
    right.run("sync", ok=False)
    equal(left, right, seconds=60)


def test_a_full_server_is_said_and_goes_on_when_there_is_room(machine: Make, tmp_path: Path, small_disk: Path) -> None:
    server = Server(small_disk / "server")
    server.options = ["--free-space-floor", "4M"]
    server.start()
    try:
        account = server.account()
        left, right = machine("left"), machine("right")
        left.join(account)
        right.join(account)
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 11_000_000)
        chance = random.Random(7)
        left.write("film.mkv", chance.randbytes(12_000_000))
        left.start()
        right.start()
        eventually(lambda: bool(left.status()["problem"]), 60, left.log)
        assert "full" in left.status()["problem"] or "space" in left.status()["problem"]
        assert (left.folder / "film.mkv").stat().st_size == 12_000_000
        ballast.unlink()
        time.sleep(1)
        left.run("sync", ok=False)
        equal(left, right, seconds=60)
    finally:
        server.stop()


def test_a_mass_deletion_stops_and_asks_and_can_be_undone_or_allowed(account: Account, machine: Make) -> None:
    left, right = machine("left"), machine("right")
    for one in (left, right):
        one.join(account)
    for i in range(60):
        left.write(f"d/{i}", str(i))
    left.start()
    right.start()
    equal(left, right)
    # An answer before the question would be one to whatever is deleted next.
    unasked = left.run("deletions", "allow", ok=False)
    assert unasked.returncode == 1
    assert "no question to answer" in unasked.stderr
    empty(left.folder)
    eventually(lambda: left.status()["state"] == "waiting for you", why=left.log)
    assert "60 of 60 files vanished" in left.status()["problem"]
    assert len(right.files()) == 61
    left.run("deletions", "undo")
    equal(left, right)
    assert len(left.files()) == 61
    empty(left.folder)
    eventually(lambda: left.status()["state"] == "waiting for you", why=left.log)
    left.run("deletions", "allow")
    eventually(lambda: not right.files(), why=left.log)
    equal(left, right)


def test_moving_everything_is_no_mass_deletion(account: Account, machine: Make) -> None:
    left, right = machine("left"), machine("right")
    for one in (left, right):
        one.join(account)
    for i in range(60):
        left.write(f"d/{i}", str(i))
    left.start()
    right.start()
    equal(left, right)
    (left.folder / "new").mkdir()
    for i in range(60):
        (left.folder / "d" / str(i)).rename(left.folder / "new" / f"n{i}")
    eventually(lambda: right.has("new/n59", "59"), why=left.log)
    equal(left, right)


def test_an_unmounted_folder_deletes_nothing(account: Account, machine: Make) -> None:
    left, right = machine("left"), machine("right")
    for one in (left, right):
        one.join(account)
    left.write("a.txt", "a")
    left.start()
    right.start()
    equal(left, right)
    left.folder.rename(left.home / "elsewhere")
    left.folder.mkdir()
    left.run("sync", ok=False)
    eventually(lambda: left.status()["state"] == "folder missing")
    assert "mounted" in left.status()["problem"]
    left.folder.rmdir()
    (left.home / "elsewhere").rename(left.folder)
    left.write("b.txt", "b")
    equal(left, right)
    assert right.has("b.txt", "b")
    assert right.has("a.txt", "a")


def test_an_overflow_of_the_event_queue_is_noticed_and_healed(account: Account, machine: Make) -> None:
    left = machine("left")
    left.join(account)
    (left.folder / "many").mkdir(parents=True)
    left.start()
    eventually(lambda: left.status()["state"] == "up to date")
    assert left.process is not None
    os.kill(left.process.pid, 19)
    try:
        # Two events for each file, and the queue of the system holds 16,384 of them.
        for i in range(9000):
            (left.folder / "many" / f"f{i}").touch()
    finally:
        os.kill(left.process.pid, 18)
    eventually(lambda: left.status()["files"] == 9000 and left.status()["waiting"] == 0, 100, left.status)
    assert left.status()["overflows"] >= 1


def test_too_few_watches_are_said_and_made_up_for(account: Account, machine: Make) -> None:
    left, right = machine("left"), machine("right")
    for one in (left, right):
        one.join(account)
    settings = left.home / ".config" / "sync-client" / "default" / "config.toml"
    text = settings.read_text().replace("max_watches = 0", "max_watches = 3")
    settings.write_text(text.replace("poll_seconds = 10", "poll_seconds = 1"))
    for i in range(8):
        left.write(f"d{i}/a.txt", "a")
    left.start()
    right.start()
    equal(left, right)
    for i in range(8):
        left.write(f"d{i}/deep/b.txt", "b")
    equal(left, right)
    assert right.has("d7/deep/b.txt", "b")
    assert left.status()["polling"]
    assert "fs.inotify.max_user_watches" in left.log()
