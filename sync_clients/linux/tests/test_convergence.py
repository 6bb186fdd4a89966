# SPDX-License-Identifier: GPL-3.0-or-later
"""Random histories of two or three devices: all end equal, and nothing anybody wrote is lost unseen.

The engines, the trees and the folders are the real ones; only the server is a model, and the network is a switch.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from contents import LINKED, content, leads_on
from devices import Device, Killed
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from model import Model

from sync_client.folder import OWN

NAMES = ["a", "b", "c"]
FAST = Path("/dev/shm")


class Devices(RuleBasedStateMachine):
    """Users, devices and a network that all do what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp(dir=FAST if FAST.is_dir() else None))
        self.values = itertools.count(1)
        self.written: set[bytes] = set()
        self.replaced: set[bytes] = set()
        self.model = Model()
        self.devices: list[Device] = []

    @initialize(count=st.integers(2, 3), patient=st.integers(0, 7))
    def begin(self, count: int, patient: int) -> None:
        for i in range(count):
            self.devices.append(Device(self.model, f"d{i}", self.top, patient=bool(patient >> i & 1)))

    # Users

    def _value(self) -> bytes:
        number = next(self.values)
        value = f"{number}:".encode() + b"x" * (number % 3)
        self.written.add(value)
        return value

    def _write(self, device: Device, path: Path, replace: bool, link: str | None = None) -> None:
        if not self._room(device, path):
            return
        self._forget(path)
        if link is not None:
            # So that each has a text of its own: it leads to the same place however often it says "here".
            text = "./" * next(self.values) + link
            self.written.add(LINKED + text.encode())
            fresh = device.root / OWN / "users-editor"
            fresh.symlink_to(text)
            fresh.rename(path)
        elif replace or path.is_symlink():
            fresh = device.root / OWN / "users-editor"
            fresh.write_bytes(self._value())
            fresh.rename(path)
        else:
            path.write_bytes(self._value())
        stamp = 10**18 + next(self.values) * 10**6
        os.utime(path, ns=(stamp, stamp), follow_symlinks=False)

    def _room(self, device: Device, path: Path) -> bool:
        """Whether a file can be put there, with the folders it needs."""
        above = [p for p in path.parents if p.is_relative_to(device.root)]
        if leads_on(path) or any(os.path.lexists(p) and not leads_on(p) for p in above):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        return True

    def _forget(self, path: Path) -> None:
        """The user has seen it, and does away with it."""
        for p in [path, *path.rglob("*")] if leads_on(path) else [path]:
            if os.path.lexists(p) and (old := content(p)) is not None:
                self.replaced.add(old)

    @rule(d=st.integers(0, 2), where=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), replace=st.booleans())
    def write(self, d: int, where: list[str], replace: bool) -> None:
        device = self.devices[d % len(self.devices)]
        self._write(device, device.root.joinpath(*where), replace)

    @rule(
        d=st.integers(0, 2),
        where=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3),
        text=st.sampled_from(["a", "b/c", "../a", "nowhere", "../../../../../../../dev/shm"]),
    )
    def link(self, d: int, where: list[str], text: str) -> None:
        device = self.devices[d % len(self.devices)]
        self._write(device, device.root.joinpath(*where), True, text)

    def _pick(self, device: Device, n: int) -> Path | None:
        files = sorted(device.files())
        return device.root / files[n % len(files)] if files else None

    @rule(d=st.integers(0, 2), n=st.integers(0, 50), replace=st.booleans())
    def edit(self, d: int, n: int, replace: bool) -> None:
        device = self.devices[d % len(self.devices)]
        path = self._pick(device, n)
        if path is not None:
            self._write(device, path, replace)

    @rule(d=st.integers(0, 2), n=st.integers(0, 50), where=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))
    def rename(self, d: int, n: int, where: list[str]) -> None:
        device = self.devices[d % len(self.devices)]
        path = self._pick(device, n)
        target = device.root.joinpath(*where)
        if path is None or target == path or path in target.parents or not self._room(device, target):
            return
        if os.path.lexists(target):
            if leads_on(path):
                return
            self._forget(target)
        path.rename(target)

    @rule(d=st.integers(0, 2), n=st.integers(0, 50), m=st.integers(0, 50))
    def swap(self, d: int, n: int, m: int) -> None:
        device = self.devices[d % len(self.devices)]
        one, two = self._pick(device, n), self._pick(device, m)
        if one is None or two is None or one == two or one in two.parents or two in one.parents:
            return
        aside = device.root / OWN / "users-swap"
        one.rename(aside)
        two.rename(one)
        aside.rename(two)

    @rule(d=st.integers(0, 2), n=st.integers(0, 50))
    def delete(self, d: int, n: int) -> None:
        device = self.devices[d % len(self.devices)]
        path = self._pick(device, n)
        if path is None:
            return
        self._forget(path)
        shutil.rmtree(path) if leads_on(path) else path.unlink()

    @rule(d=st.integers(0, 2), n=st.integers(0, 50))
    def run(self, d: int, n: int) -> None:
        device = self.devices[d % len(self.devices)]
        path = self._pick(device, n)
        if path is not None and path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode ^ 0o100)

    # Daemons and network

    @rule(d=st.integers(0, 2), steps=st.integers(1, 40))
    def sync(self, d: int, steps: int) -> None:
        device = self.devices[d % len(self.devices)]
        for _ in range(steps):
            device.step()

    @rule(d=st.integers(0, 2))
    def sync_round(self, d: int) -> None:
        device = self.devices[d % len(self.devices)]
        for _ in range(2000):
            if not device.step():
                return
        raise AssertionError("a round that does not end")

    @rule(d=st.integers(0, 2))
    def kill(self, d: int) -> None:
        self.devices[d % len(self.devices)].kill()

    @rule(d=st.integers(0, 2), down=st.booleans())
    def cable(self, d: int, down: bool) -> None:
        self.devices[d % len(self.devices)].line.down = down

    @rule(d=st.integers(0, 2))
    def lose_answer(self, d: int) -> None:
        self.devices[d % len(self.devices)].line.lose = 1

    @rule(d=st.integers(0, 2), after=st.integers(0, 2), replace=st.booleans(), edit=st.booleans(), kill=st.booleans())
    def strike(self, d: int, after: int, replace: bool, edit: bool, kill: bool) -> None:
        """The user edits the very file the client is about to change, and the client is killed before it can look."""
        device = self.devices[d % len(self.devices)]
        left = itertools.count(after, -1)

        def step(what: str, path: str) -> None:
            turn = next(left)
            if turn == 0 and edit and os.path.lexists(device.root / path):
                self._write(device, device.root / path, replace)
            if turn == (-1 if edit else 0) and kill:
                raise Killed

        device.folder.step = step

    @rule()
    def shorten_journal(self) -> None:
        self.model.horizon = self.model.rev

    # The promises

    def teardown(self) -> None:
        try:
            if self.devices:
                self._settle()
        finally:
            for device in self.devices:
                device.trees.close()
            shutil.rmtree(self.top)

    def _settle(self) -> None:
        for device in self.devices:
            device.kill()
            device.line.down, device.line.lose = False, 0
        for _ in range(12):
            before = self.model.rev
            for device in self.devices:
                for _ in range(5000):
                    if not device.step():
                        break
                else:
                    raise AssertionError("a round that does not end")
            trees = [device.files() for device in self.devices]
            if self.model.rev == before and all(tree == self.model.tree() for tree in trees):
                break
        server = self.model.tree()
        for device in self.devices:
            problems = [(e.problem, e) for e in device.trees.find("problem IS NOT NULL")]
            assert device.files() == server, problems
            stuck = device.trees.find("dirty")
            assert not stuck, stuck
            assert not device.trees.queued()
        lost = self.written - self.replaced - set(server.values())
        assert not lost, f"lost {lost}"


PROFILE = {"default": (150, 40), "more": (3_000, 60), "thorough": (20_000, 80)}[
    os.environ.get("SYNC_CLIENT_HISTORIES", "default")
]
Devices.TestCase.settings = settings(max_examples=PROFILE[0], stateful_step_count=PROFILE[1], deadline=None)
TestConvergence = Devices.TestCase


def test_a_rename_does_not_hide_what_another_device_wrote_before_it(model: Model, two: tuple[Device, Device]) -> None:
    """The revision a rename gives says nothing of a content nobody here has seen."""
    left, right = two
    (left.root / "a").write_bytes(b"draft")
    for device in (left, right, left):
        while device.step():
            pass
    (left.root / "a").rename(left.root / "b")
    (left.root / "b").write_bytes(b"left's")
    # Up to where the journal is known and the first of the two operations is about to go.
    while not left.trees.queued():
        assert left.step()
    (right.root / "a").write_bytes(b"right's")
    while right.step():
        pass
    for device in (left, right, left, right):
        while device.step():
            pass
    assert sorted(body for body in model.tree().values() if body) == [b"left's", b"right's"]
    assert left.files() == right.files() == model.tree()


def test_a_folder_deleted_here_comes_back_for_what_another_device_moved_into_it(
    model: Model, two: tuple[Device, Device]
) -> None:
    left, right = two
    (left.root / "folder").mkdir()
    (left.root / "a").write_bytes(b"content")
    for device in (left, right, left):
        while device.step():
            pass
    (left.root / "a").rename(left.root / "folder/a")
    while left.step():
        pass
    (right.root / "folder").rmdir()
    for device in (right, left, right):
        while device.step():
            pass
    assert left.files() == right.files() == model.tree() == {"folder": None, "folder/a": b"content"}


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("there", ["an edit", "a deletion"])
def test_an_edit_in_the_last_moment_survives(model: Model, two: tuple[Device, Device], there: str, kill: bool) -> None:
    """The user saves after the last look and before the rename; and then the client is killed before it can look."""
    left, right = two
    (left.root / "a").write_bytes(b"draft")
    for device in (left, right, left):
        while device.step():
            pass
    if there == "an edit":
        (left.root / "a").write_bytes(b"left's")
    else:
        (left.root / "a").unlink()
    while left.step():
        pass

    def step(what: str, path: str) -> None:
        if what.startswith("before the"):
            (right.root / "a").write_bytes(b"right's, saved in the last moment")
        elif what in ("swapped", "out of the way") and kill:
            raise Killed

    right.folder.step = step
    while right.step():
        pass
    right.folder.step = lambda what, path: None
    for device in (right, left, right, left):
        while device.step():
            pass
    kept = {body for body in model.tree().values() if body}
    assert b"right's, saved in the last moment" in kept
    assert there == "a deletion" or b"left's" in kept
    assert left.files() == right.files() == model.tree()


def test_an_edit_right_after_the_swap_is_not_taken_for_what_was_placed(tmp_path: Path) -> None:
    """Also where the clock makes no time look fresh."""
    model = Model()
    left, right = (Device(model, name, tmp_path, patient=True) for name in ("left", "right"))
    (left.root / "a").write_bytes(b"draft")
    for device in (left, right, left):
        device.round()

    def step(what: str, path: str) -> None:
        if what == "swapped":
            (right.root / "a").write_bytes(b"right's")
            os.utime(right.root / "a", ns=(10**18, 10**18))

    for edit, strike in ((b"left's first", step), (b"left's second", lambda what, path: None)):
        (left.root / "a").write_bytes(edit)
        left.round()
        right.folder.step = strike
        right.round()
    for device in (left, right, left):
        device.round()
    assert b"right's" in model.tree().values()
    assert left.files() == right.files() == model.tree()
    for device in (left, right):
        device.trees.close()


def test_an_edit_found_after_a_kill_is_kept_though_its_folder_was_moved_meanwhile(
    model: Model, two: tuple[Device, Device]
) -> None:
    left, right = two
    (left.root / "folder").mkdir()
    (left.root / "folder/a").write_bytes(b"draft")
    for device in (left, right, left):
        device.round()
    (left.root / "folder/a").write_bytes(b"left's")
    left.round()

    def step(what: str, path: str) -> None:
        if what == "before the swap":
            (right.root / "folder/a").write_bytes(b"right's")
        elif what == "swapped":
            raise Killed

    right.folder.step = step
    right.round()
    (right.root / "folder").rename(right.root / "elsewhere")
    for device in (right, left, right, left):
        device.round()
    assert {b"left's", b"right's"} <= set(model.tree().values())
    assert left.files() == right.files() == model.tree()


def test_two_edits_around_the_swap_are_both_kept(model: Model, two: tuple[Device, Device]) -> None:
    """The swap is taken back for the first, and must not do away with the second."""
    left, right = two
    (left.root / "a").write_bytes(b"draft")
    for device in (left, right, left):
        device.round()
    (left.root / "a").write_bytes(b"left's")
    left.round()

    def step(what: str, path: str) -> None:
        if what in ("before the swap", "swapped"):
            right.folder.step = step if what == "before the swap" else lambda what, path: None
            fresh = right.root / OWN / "users-editor"
            fresh.write_bytes(what.encode())
            fresh.rename(right.root / "a")

    right.folder.step = step
    for device in (right, right, left, right, left):
        device.round()
    assert {b"left's", b"before the swap", b"swapped"} <= set(model.tree().values())
    assert left.files() == right.files() == model.tree()


def test_two_folders_moved_into_each_other_end_as_the_first_has_it(model: Model, two: tuple[Device, Device]) -> None:
    left, right = two
    for name in ("a", "b"):
        (left.root / name).mkdir()
        (left.root / name / "file").write_bytes(name.encode())
    for device in (left, right, left):
        device.round()
    (left.root / "a").rename(left.root / "b/a")
    (right.root / "b").rename(right.root / "a/b")
    for device in (left, right, left, right):
        device.round()
    assert left.files() == right.files() == model.tree() == {"b": None, "b/file": b"b", "b/a": None, "b/a/file": b"a"}


def test_a_folder_moved_into_what_leaves_it_is_moved(model: Model, two: tuple[Device, Device]) -> None:
    """Seen from the server it would go into itself, until the other has left."""
    left, right = two
    (left.root / "a/b").mkdir(parents=True)
    for device in (left, right, left):
        device.round()
    (left.root / "a/b").rename(left.root / "b")
    (left.root / "a").rename(left.root / "b/a")
    for device in (left, right, left):
        device.round()
    assert left.files() == right.files() == model.tree() == {"b": None, "b/a": None}
