# SPDX-License-Identifier: GPL-3.0-or-later
"""Symbolic links travel as links, and are never followed: neither to read nor to write, neither here nor on the way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from contents import LINKED, content
from devices import Device
from machines import Machine, conflict_copies, equal, eventually
from model import Model, Node

from sync_client.folder import OWN
from sync_client.ignore import Ignore
from sync_client.trees import Trees
from sync_protocol.hashing import blob_id
from sync_protocol.types import MAX_LINK


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that is none of our business, with a secret in it."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret").write_text("secret")
    return place


def _untouched(outside: Path) -> bool:
    return [item.name for item in outside.iterdir()] == ["secret"] and (outside / "secret").read_text() == "secret"


def _serve(model: Model, parent: str, name: str, text: bytes, *, symlink: bool = False) -> Node:
    """What a hostile server, or the device of somebody who is one, puts there without asking the rules."""
    node = model._new("file", parent, name)
    model.blobs[blob_id(text)] = text
    node.blobs, node.size, node.symlink = (blob_id(text),), len(text), symlink
    model._log("put", node, "mallory", content=True, place=True)
    return node


# They travel


@pytest.mark.parametrize("text", ["nowhere", "a.txt", "d", "../left", "/etc/passwd", "./d/../d//", "x" * 3000])
def test_a_link_arrives_with_its_text(two: tuple[Device, Device], text: str) -> None:
    left, right = two
    (left.root / "a.txt").write_text("a")
    (left.root / "d").mkdir()
    (left.root / "link").symlink_to(text)
    os.utime(left.root / "link", ns=(10**18, 10**18), follow_symlinks=False)
    for device in (left, right, left):
        device.round()
    assert os.readlink(right.root / "link") == text  # noqa: PTH115 -- pathlib would tidy it up
    assert (right.root / "link").lstat().st_mtime_ns == 10**18
    assert left.files() == right.files()
    assert not left.problems() | right.problems()


def test_nothing_behind_a_link_to_a_folder_is_read(two: tuple[Device, Device], model: Model, outside: Path) -> None:
    left, right = two
    (left.root / "link").symlink_to(outside)
    left.round()
    right.round()
    assert model.tree() == right.files() == {"link": LINKED + bytes(outside)}


def test_a_file_becomes_a_link_and_a_file_again(two: tuple[Device, Device], outside: Path) -> None:
    left, right = two
    place = left.root / "a"
    place.write_text("text")
    for text in (str(outside / "secret"), "elsewhere", None, "text"):
        for device in (left, right, left):
            device.round()
        place.unlink()
        place.write_text("text") if text is None else place.symlink_to(text)
        for device in (left, right, left):
            device.round()
        assert content(right.root / "a") == content(place)
        assert content(place) == (b"text" if text is None else LINKED + text.encode())
    assert not (right.root / "a").lstat().st_mode & 0o111 or (right.root / "a").is_symlink()
    assert _untouched(outside)


def test_a_file_that_was_a_link_is_not_open_to_everybody(two: tuple[Device, Device]) -> None:
    left, right = two
    (left.root / "a").symlink_to("b")
    for device in (left, right, left):
        device.round()
    (left.root / "a").unlink()
    (left.root / "a").write_text("private")
    for device in (left, right, left):
        device.round()
    assert (right.root / "a").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def test_a_folder_that_becomes_a_link_takes_its_files_along(two: tuple[Device, Device], outside: Path) -> None:
    left, right = two
    (left.root / "d").mkdir()
    (left.root / "d" / "a").write_text("a")
    for device in (left, right, left):
        device.round()
    shutil.rmtree(left.root / "d")
    (left.root / "d").symlink_to(outside)
    for device in (left, right, left, right):
        device.round()
    assert left.files() == right.files() == {"d": LINKED + bytes(outside)}
    (left.root / "d").unlink()
    (left.root / "d").mkdir()
    (left.root / "d" / "b").write_text("b")
    for device in (left, right, left, right):
        device.round()
    assert left.files() == right.files() == {"d": None, "d/b": b"b"}
    assert _untouched(outside)


@pytest.mark.parametrize("there", ["-> other", "text"])
def test_a_link_and_what_another_device_made_of_it_are_both_kept(two: tuple[Device, Device], there: str) -> None:
    left, right = two
    (left.root / "a").symlink_to("first")
    for device in (left, right, left):
        device.round()
    for device, text in ((left, "-> mine"), (right, there)):
        (device.root / "a").unlink()
        if text.startswith("-> "):
            (device.root / "a").symlink_to(text[3:])
        else:
            (device.root / "a").write_text(text)
    for device in (left, right, left, right):
        device.round()
    assert left.files() == right.files()
    assert sorted(body or b"" for body in left.files().values()) == sorted([b"-> mine", there.encode()])


def test_what_an_older_client_took_for_a_file_becomes_the_link_it_is(
    model: Model, two: tuple[Device, Device], tmp_path: Path
) -> None:
    left, right = two
    (left.root / "a").write_text("b")
    right.trees.close()
    right.trees = Trees(tmp_path / "state.db")
    right.kill()
    for device in (left, right, left):
        device.round()
    # It was a link from the beginning, only that nobody told this client, or it did not listen.
    for node in model.nodes.values():
        node.symlink = node.name == "a"
    right.trees.db.execute("PRAGMA user_version=1")
    right.trees.close()
    right.trees = Trees(tmp_path / "state.db")
    right.kill()
    right.round()
    assert content(right.root / "a") == LINKED + b"b"
    assert model.tree() == {"a": LINKED + b"b"}


# Hostile ones


def test_nothing_is_written_through_a_link_of_the_server(
    two: tuple[Device, Device], model: Model, outside: Path
) -> None:
    left, right = two
    link = _serve(model, "root", "a", bytes(outside), symlink=True)
    right.round()
    assert content(right.root / "a") == LINKED + bytes(outside)
    _serve(model, link.id, "passwd", b"root::0:0")
    _serve(model, link.id, "secret", b"overwritten")
    model._log("mkdir", model._new("folder", link.id, "cron.d"), "mallory", place=True)
    for _ in range(3):
        right.round()
        left.round()
    assert _untouched(outside)
    assert right.files() == left.files() == {"a": LINKED + bytes(outside)}
    assert any("a/passwd" in path for path in right.problems())


def test_the_clients_own_corner_is_nothing_a_server_can_reach(
    two: tuple[Device, Device], model: Model, outside: Path
) -> None:
    """Otherwise a link could lie where the next download is written to."""
    _, right = two
    corner = model._new("folder", "root", OWN)
    model._log("mkdir", corner, "mallory", place=True)
    tmp = model._new("folder", corner.id, "tmp")
    model._log("mkdir", tmp, "mallory", place=True)
    right.round()
    coming = right.trees.db.execute("SELECT max(id) FROM entry").fetchone()[0] + 1
    for number in range(coming, coming + 20):
        _serve(model, tmp.id, f"{number}-{blob_id(b'loot')[:24]}.part", bytes(outside / "loot"), symlink=True)
    right.round()
    _serve(model, "root", "file", b"loot")
    for _ in range(3):
        right.round()
    assert _untouched(outside)
    assert right.files() == {"file": b"loot"}
    assert "own folder" in right.problems()[OWN]
    assert not [item.name for item in (right.root / OWN / "tmp").iterdir()]


def test_rules_are_neither_read_nor_written_through_a_link(tmp_path: Path, outside: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (outside / "secret").write_text("*.txt\n")
    (root / ".syncignore").symlink_to(outside / "secret")
    rules = Ignore(root)
    assert not rules("a.txt", False)
    with pytest.raises(Exception, match="no plain file"):
        rules.add("*.o")
    (root / ".syncignore").unlink()
    (root / ".syncignore.part").symlink_to(outside / "secret")
    rules.add("*.o")
    assert (outside / "secret").read_text() == "*.txt\n"
    assert not (root / ".syncignore").is_symlink()
    (root / ".syncignore").unlink()
    os.mkfifo(root / ".syncignore")
    # A pipe that nobody writes to must not hold the daemon up.
    rules.reload()
    assert not rules("a.o", False)


def test_a_folder_swapped_for_a_link_at_any_moment_leads_nowhere(tmp_path: Path, outside: Path) -> None:
    """Between any two steps of a round the user moves the folder away and puts a link in its place."""
    for moment in range(1000):
        model = Model()
        (tmp_path / str(moment)).mkdir()
        left, right = (Device(model, name, tmp_path / str(moment), patient=False) for name in ("left", "right"))
        (left.root / "d" / "deep").mkdir(parents=True)
        for name in ("gone", "edited", "moved"):
            (left.root / "d" / "deep" / name).write_text(name)
        for device in (left, right, left):
            device.round()
        (left.root / "d" / "deep" / "gone").unlink()
        (left.root / "d" / "deep" / "edited").write_text("edited again")
        (left.root / "d" / "deep" / "moved").rename(left.root / "d" / "deep" / "moved-2")
        (left.root / "d" / "deep" / "new").write_text("new")
        (left.root / "d" / "deep" / "newer").mkdir()
        left.round()
        going = True
        for _ in range(moment):
            going = right.step()
            if not going:
                break
        (right.root / "d").rename(tmp_path / str(moment) / "away")
        (right.root / "d").symlink_to(outside)
        (outside / "deep").mkdir()
        for device in (right, left, right, left):
            device.round()
        (outside / "deep").rmdir()
        assert _untouched(outside), moment
        # It stood in the way of what another device changed below it, or is what became of the folder.
        links = {path for path, body in right.files().items() if body == LINKED + bytes(outside)}
        assert links, moment
        assert left.files() == right.files() == model.tree(), moment
        for device in (left, right):
            device.trees.close()
        if not going:
            return
    raise AssertionError("a round that does not end")


# Those that cannot travel


def test_a_link_with_a_text_others_cannot_keep_is_listed(two: tuple[Device, Device], model: Model) -> None:
    left, right = two
    (left.root / "good").symlink_to("good")
    (left.root / "bad").symlink_to(os.fsdecode(b"bad\xff"))
    left.round()
    assert "UTF-8" in left.problems()["bad"]
    assert model.tree() == {"good": LINKED + b"good"}
    _serve(model, "root", "long", b"x" * (MAX_LINK + 1), symlink=True)
    _serve(model, "root", "nul", b"a\0b", symlink=True)
    _serve(model, "root", "empty", b"", symlink=True)
    right.round()
    right.round()
    assert right.problems().keys() == {"long", "nul", "empty"}
    assert all("no other device could keep" in reason for reason in right.problems().values())
    assert right.files() == {"good": LINKED + b"good"}
    assert not [item.name for item in (right.root / OWN / "tmp").iterdir() if item.name.startswith("swap")]


# Left out by choice


def test_left_out_is_neither_sent_nor_fetched_nor_deleted(two: tuple[Device, Device], model: Model) -> None:
    left, right = two
    (left.root / "both").write_text("text")
    (left.root / "known").symlink_to("known")
    for device in (left, right, left):
        device.round()
    right.cycle.rules.skip_links = True
    (left.root / "new").symlink_to("left")
    (left.root / "both").write_text("changed")
    (right.root / "mine").symlink_to("right")
    (right.root / "both").unlink()
    (right.root / "both").symlink_to("right")
    for device in (left, right, left, right):
        device.round()
    assert right.files() == {"known": b"-> known", "mine": b"-> right", "both": b"-> right"}
    assert model.tree() == left.files() == {"known": b"-> known", "new": b"-> left", "both": b"changed"}
    assert {"new", "mine", "both"} <= right.problems().keys()
    right.cycle.rules.skip_links = False
    for device in (right, left, right, left):
        device.round()
    assert left.files() == right.files()
    assert {b"-> known", b"-> left", b"-> right", b"changed"} == set(left.files().values())
    assert not right.problems()


# With real daemons


def test_links_of_two_computers(pair: tuple[Machine, Machine], tmp_path: Path) -> None:
    left, right = pair
    outside = tmp_path / "outside"
    outside.mkdir()
    left.write("d/a.txt", "a")
    (left.folder / "d" / "link").symlink_to("a.txt")
    (left.folder / "out").symlink_to(outside)
    equal(left, right)
    assert right.files()["d/link"] == b"-> a.txt"
    assert "link@" in right.run("ls", "d").stdout
    (right.folder / "out").unlink()
    (right.folder / "out").symlink_to("elsewhere")
    eventually(lambda: left.files().get("out") == b"-> elsewhere", why=left.log)
    oldest = left.run("versions", "out").stdout.splitlines()[-1].split()[0]
    left.run("restore", "out", "--version", oldest)
    eventually(lambda: right.files().get("out") == LINKED + bytes(outside), why=right.log)
    equal(left, right)
    assert not list(outside.iterdir())
    for one in pair:
        one.stop()
        (one.folder / "d" / "link").unlink()
        (one.folder / "d" / "link").symlink_to(one.name)
    for one in pair:
        one.start()
    equal(left, right)
    assert len(conflict_copies(left)) == 1
    assert {left.files()["d/link"], left.files()[conflict_copies(left)[0]]} == {b"-> left", b"-> right"}


def test_links_are_left_out_where_the_user_says_so(pair: tuple[Machine, Machine]) -> None:
    left, right = pair
    assert right.run("symlinks").stdout == "keep\n"
    assert right.run("symlinks", "skip").stdout == "skip\n"
    (left.folder / "link").symlink_to("nowhere")
    left.write("a.txt", "a")
    eventually(lambda: right.has("a.txt", "a"))
    eventually(lambda: [problem["path"] for problem in right.status()["problems"]] == ["link"])
    assert not os.path.lexists(right.folder / "link")
    assert right.run("sync", ok=False).returncode == 11
    right.run("symlinks", "keep")
    equal(left, right)
    assert right.files()["link"] == b"-> nowhere"
    assert right.run("sync").returncode == 0
