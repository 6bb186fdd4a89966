# SPDX-License-Identifier: GPL-3.0-or-later
"""What people do with two computers, with real daemons and a real server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from machines import Account, Machine, conflict_copies, equal, eventually

Pair = tuple[Machine, Machine]


def test_a_file_travels_both_ways(pair: Pair) -> None:
    left, right = pair
    left.write("letters/a.txt", "hello")
    eventually(lambda: right.has("letters/a.txt", "hello"), why=left.log)
    right.write("letters/b.txt", "hi")
    eventually(lambda: left.has("letters/b.txt", "hi"), why=right.log)
    equal(left, right)


def test_an_edit_replaces_the_old_content_and_keeps_it_as_a_version(pair: Pair) -> None:
    left, right = pair
    left.write("a.txt", "one")
    eventually(lambda: right.has("a.txt", "one"))
    right.write("a.txt", "two")
    eventually(lambda: left.has("a.txt", "two"))
    assert left.run("versions", "a.txt").stdout.count("\n") == 2


def test_mode_mtime_and_executable_bit_travel(pair: Pair) -> None:
    left, right = pair
    script = left.write("run.sh", "#!/bin/sh\n")
    script.chmod(0o755)
    os.utime(script, ns=(10**18, 1_234_567_890_123 * 10**6))
    eventually(lambda: right.has("run.sh", "#!/bin/sh\n"))
    there = right.folder / "run.sh"
    eventually(lambda: bool(there.stat().st_mode & 0o100), why="executable")
    eventually(lambda: there.stat().st_mtime_ns == 1_234_567_890_123 * 10**6, why="mtime")
    there.chmod(0o600)
    equal(left, right)
    eventually(lambda: not script.stat().st_mode & 0o111, why="no longer executable")
    left.write("run.sh", "#!/bin/sh\necho\n")
    eventually(lambda: right.has("run.sh", "#!/bin/sh\necho\n"))
    assert there.stat().st_mode & 0o777 == 0o600


def test_renaming_a_folder_of_a_thousand_files_sends_one_operation(pair: Pair) -> None:
    left, right = pair
    for i in range(1000):
        left.write(f"photos/{i % 10}/{i}.jpg", f"picture {i}")
    equal(left, right)
    before = left.status()["wire_sent"]
    (left.folder / "photos").rename(left.folder / "pictures")
    eventually(lambda: right.has("pictures/7/997.jpg", "picture 997"))
    assert not (right.folder / "photos").exists()
    assert left.status()["wire_sent"] - before < 20_000
    equal(left, right)


def test_a_deletion_travels_and_restore_brings_back(pair: Pair) -> None:
    left, right = pair
    left.write("keep/a.txt", "precious")
    left.write("keep/b.txt", "also")
    equal(left, right)
    (right.folder / "keep" / "a.txt").unlink()
    eventually(lambda: not (left.folder / "keep" / "a.txt").exists())
    assert "keep/a.txt" in left.run("trash").stdout
    left.run("restore", "keep/a.txt")
    eventually(lambda: left.has("keep/a.txt", "precious") and right.has("keep/a.txt", "precious"))


def test_an_old_version_comes_back(pair: Pair) -> None:
    left, right = pair
    for text in ("one", "two", "three"):
        left.write("a.txt", text)
        eventually(lambda text=text: right.has("a.txt", text))  # type: ignore[misc]
    equal(left, right)
    oldest = left.run("versions", "a.txt").stdout.splitlines()[-1].split()[0]
    right.run("restore", "a.txt", "--version", oldest)
    eventually(lambda: left.has("a.txt", "one") and right.has("a.txt", "one"))


def test_edits_while_apart_keep_both_files_and_say_so(pair: Pair) -> None:
    left, right = pair
    left.write("plan.txt", "draft")
    equal(left, right)
    left.stop()
    right.stop()
    left.write("plan.txt", "left's")
    right.write("plan.txt", "right's")
    left.start()
    equal(left)
    right.start()
    equal(left, right)
    copies = conflict_copies(left)
    assert len(copies) == 1
    assert copies[0].startswith("plan.sync-conflict-")
    assert copies[0].endswith("-right.txt")
    assert left.has("plan.txt", "left's")
    assert left.has(copies[0], "right's")
    assert "plan.txt" in right.run("conflicts").stdout
    assert "conflict: plan.txt" in right.log()
    right.run("conflicts", "keep-local", "plan.txt")
    eventually(lambda: left.has("plan.txt", "right's") and not conflict_copies(left))
    assert "No conflicts" in right.run("conflicts").stdout
    equal(left, right)


def test_the_same_edit_on_both_sides_is_no_conflict(pair: Pair) -> None:
    left, right = pair
    left.write("a.txt", "draft")
    equal(left, right)
    left.stop()
    right.stop()
    left.write("a.txt", "final")
    right.write("a.txt", "final")
    left.start()
    right.start()
    equal(left, right)
    assert not conflict_copies(left)


def test_everything_done_offline_is_reconciled(pair: Pair) -> None:
    left, right = pair
    left.write("a/1.txt", "1")
    left.write("a/2.txt", "2")
    left.write("b/3.txt", "3")
    equal(left, right)
    right.stop()
    (right.folder / "a").rename(right.folder / "c")
    (right.folder / "c" / "1.txt").write_text("one")
    right.write("new/deep/4.txt", "4")
    (right.folder / "b" / "3.txt").unlink()
    left.write("a/5.txt", "5")
    left.write("a/2.txt", "two")
    eventually(lambda: left.status()["waiting"] == 0)
    right.start()
    equal(left, right)
    assert left.has("c/1.txt", "one")
    assert left.has("c/2.txt", "two")
    assert left.has("c/5.txt", "5")
    assert left.has("new/deep/4.txt", "4")
    assert not (left.folder / "a").exists()
    assert not (left.folder / "b" / "3.txt").exists()


def test_excluded_folders_stay_on_the_server_alone(pair: Pair) -> None:
    left, right = pair
    left.write("films/big.mkv", b"x" * 100_000)
    left.write("notes/a.txt", "a")
    equal(left, right)
    right.run("exclude", "add", "films")
    eventually(lambda: not (right.folder / "films").exists())
    left.write("films/second.mkv", b"y" * 1000)
    left.write("notes/b.txt", "b")
    eventually(lambda: right.has("notes/b.txt", "b"))
    assert left.has("films/big.mkv", b"x" * 100_000)
    assert not (right.folder / "films").exists()
    assert "excluded" in right.run("ls").stdout
    right.run("exclude", "remove", "films")
    eventually(lambda: right.has("films/big.mkv", b"x" * 100_000) and right.has("films/second.mkv", b"y" * 1000))
    equal(left, right)


def test_pause_holds_both_directions_and_resume_goes_on(pair: Pair) -> None:
    left, right = pair
    right.run("pause")
    left.write("a.txt", "a")
    right.write("b.txt", "b")
    eventually(lambda: left.status()["state"] == "up to date" and left.status()["waiting"] == 0)
    time.sleep(1)
    assert not (right.folder / "a.txt").exists()
    assert not (left.folder / "b.txt").exists()
    assert right.status()["state"] == "paused"
    right.run("resume")
    equal(left, right)
    assert left.has("b.txt", "b")


def test_ignored_files_stay_here_and_check_names_the_rule(pair: Pair) -> None:
    left, right = pair
    left.run("ignore", "add", "*.tmp")
    left.run("ignore", "add", "/build/")
    left.write("a.tmp", "no")
    left.write("build/out.o", "no")
    left.write("a.txt", "yes")
    eventually(lambda: right.has("a.txt", "yes") and (right.folder / ".syncignore").exists())
    equal_but = set(left.files()) - set(right.files())
    assert equal_but == {"a.tmp", "build", "build/out.o"}
    assert "*.tmp (line 1 of .syncignore)" in left.run("ignore", "check", "sub/a.tmp").stdout
    assert left.run("ignore", "check", "a.txt", ok=False).returncode == 1


def test_three_machines_converge(pair: Pair, account: Account, machine: Callable[[str], Machine]) -> None:
    left, right = pair
    left.write("a/x.txt", "x")
    third = machine("third")
    third.join(account)
    third.write("a/x.txt", "other")
    third.write("b/y.txt", "y")
    third.start()
    equal(left, right, third)
    assert len(conflict_copies(left)) == 1
    assert sorted(body for body in left.files().values() if body) == [b"other", b"x", b"y"]
