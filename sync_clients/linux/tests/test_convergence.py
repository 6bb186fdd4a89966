# SPDX-License-Identifier: GPL-3.0-or-later
"""Random histories of two or three devices: all end equal, and nothing anybody wrote is lost unseen.

The engines, the trees and the folders are the real ones; only the server is a model, and the network is a switch.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from model import Line, Model

from sync_client.cycle import Cycle, Rules
from sync_client.errors import Offline
from sync_client.folder import OWN, Folder
from sync_client.trees import Trees

NAMES = ["a", "b", "c"]
FAST = Path("/dev/shm")


class Killed(BaseException):
    """SIGKILL between two steps: nothing may catch it."""


class Device:
    def __init__(self, model: Model, name: str, root: Path, *, patient: bool) -> None:
        self.name = name
        self.root = root / name
        self.root.mkdir()
        # The clock of a patient device runs ahead: to it no file is so fresh that its times could deceive.
        self.folder = Folder(self.root, clock=(lambda: 10**19 // 5) if patient else time.time_ns)
        self.folder.durable = False
        self.folder.prepare(name)
        self.trees = Trees(":memory:")
        self.line = Line(model, name)
        self.round: Iterator[str] | None = None
        self.cycle = self._engine()

    def _engine(self) -> Cycle:
        return Cycle(self.trees, self.folder, self.line, Rules(device=self.name, deletions_files=10**6))

    def step(self) -> bool:
        """One step further; False at the end of a round."""
        if self.round is None:
            self.round = self.cycle.run()
        try:
            next(self.round)
            return True
        except (StopIteration, Offline):
            self.round = None
            return False
        except Killed:
            self.kill()
            return False

    def kill(self) -> None:
        if self.round is not None:
            self.round.close()  # type: ignore[attr-defined]
        self.round = None
        self.folder.step = lambda what, path: None
        if self.trees.db.in_transaction:
            self.trees.db.execute("ROLLBACK")
        self.trees._depth = 0
        self.cycle = self._engine()

    def files(self) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        for top, dirs, files in os.walk(self.root):
            if Path(top) == self.root:
                dirs.remove(OWN)
            for name in dirs:
                found[str((Path(top) / name).relative_to(self.root))] = None
            for name in files:
                path = Path(top) / name
                found[str(path.relative_to(self.root))] = path.read_bytes()
        return found


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

    def _write(self, device: Device, path: Path, replace: bool) -> None:
        if path.is_dir() or any(p.is_file() for p in path.parents):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self.replaced.add(path.read_bytes())
        value = self._value()
        if replace:
            fresh = device.root / OWN / "users-editor"
            fresh.write_bytes(value)
            fresh.rename(path)
        else:
            path.write_bytes(value)
        stamp = 10**18 + next(self.values) * 10**6
        os.utime(path, ns=(stamp, stamp))

    @rule(d=st.integers(0, 2), where=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), replace=st.booleans())
    def write(self, d: int, where: list[str], replace: bool) -> None:
        device = self.devices[d % len(self.devices)]
        self._write(device, device.root.joinpath(*where), replace)

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
        if path is None or target == path or path in target.parents or any(p.is_file() for p in target.parents):
            return
        if target.exists():
            if target.is_dir() or path.is_dir():
                return
            self.replaced.add(target.read_bytes())
        target.parent.mkdir(parents=True, exist_ok=True)
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
        if path.is_dir():
            self.replaced.update(p.read_bytes() for p in path.rglob("*") if p.is_file())
            shutil.rmtree(path)
        else:
            self.replaced.add(path.read_bytes())
            path.unlink()

    @rule(d=st.integers(0, 2), n=st.integers(0, 50))
    def run(self, d: int, n: int) -> None:
        device = self.devices[d % len(self.devices)]
        path = self._pick(device, n)
        if path is not None and path.is_file():
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
            if turn == 0 and edit and (device.root / path).exists():
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


def test_a_rename_does_not_hide_what_another_device_wrote_before_it(tmp_path: Path) -> None:
    """The revision a rename gives says nothing of a content nobody here has seen."""
    model = Model()
    left, right = (Device(model, name, tmp_path, patient=False) for name in ("left", "right"))
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
    for device in (left, right):
        device.trees.close()


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("there", ["an edit", "a deletion"])
def test_an_edit_in_the_last_moment_survives(tmp_path: Path, there: str, kill: bool) -> None:
    """The user saves after the last look and before the rename; and then the client is killed before it can look."""
    model = Model()
    left, right = (Device(model, name, tmp_path, patient=False) for name in ("left", "right"))
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
    for device in (left, right):
        device.trees.close()
