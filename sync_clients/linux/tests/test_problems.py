# SPDX-License-Identifier: GPL-3.0-or-later
"""What is listed as not synced is what is not synced, without waiting for the hourly look at everything."""

from __future__ import annotations

import os
from pathlib import Path

from devices import Device
from machines import Machine, equal, eventually
from model import Model

from sync_client.trees import ROOT


def _hint(device: Device, moved: dict[str, str] | None = None) -> None:
    """A round as the daemon makes it after an event in the folder itself."""
    for _ in device.cycle.run([ROOT], moved):
        pass


def test_a_folder_renamed_while_it_arrives_leaves_no_problem(tmp_path: Path) -> None:
    for moment in range(1000):
        model = Model()
        (tmp_path / str(moment)).mkdir()
        left, right = (Device(model, name, tmp_path / str(moment), patient=False) for name in ("left", "right"))
        (left.root / "new" / "deep").mkdir(parents=True)
        for name in ("1", "2", "deep/3"):
            (left.root / "new" / name).write_text(name)
        left.round()
        going = True
        for _ in range(moment):
            going = going and right.step()
        moved = (right.root / "new").exists()
        if moved:
            (right.root / "new").rename(right.root / "old")
        right.round()
        for _ in range(3):
            _hint(right, {"old": "new"} if moved else {})
            left.round()
        assert left.files() == right.files() == model.tree(), moment
        assert not right.problems(), moment
        assert not right.trees.find("dirty"), moment
        for device in (left, right):
            device.trees.close()
        if not going:
            return
    raise AssertionError("a round that does not end")


def test_what_is_no_longer_there_is_no_longer_listed(two: tuple[Device, Device]) -> None:
    left, _ = two
    (left.root / "d" / "deep").mkdir(parents=True)
    for path in ("pipe", "d/pipe", "d/deep/pipe"):
        os.mkfifo(left.root / path)
    left.round()
    assert left.problems().keys() == {"pipe", "d/pipe", "d/deep/pipe"}
    (left.root / "pipe").unlink()
    (left.root / "d").rename(left.root / "e")
    _hint(left, {"e": "d"})
    assert left.problems().keys() == {"e/pipe", "e/deep/pipe"}


def test_a_name_that_was_mended_is_tried_at_once(two: tuple[Device, Device]) -> None:
    left, _ = two
    (left.root / "Read.me").write_text("1")
    left.round()
    (left.root / "read.me").write_text("2")
    left.round()
    assert left.problems().keys() == {"read.me"}
    (left.root / "read.me").rename(left.root / "another")
    for _ in left.cycle.look([ROOT]):
        pass
    # It is what the daemon asks before it speaks to the server.
    assert left.trees.first("dirty AND problem IS NULL") is not None
    assert not left.problems()


def test_renaming_what_just_arrived_leaves_both_sides_equal_and_nothing_listed(pair: tuple[Machine, Machine]) -> None:
    left, right = pair
    for turn in range(4):
        for number in range(60):
            left.write(f"in-{turn}/deep/{number}", f"{turn} {number}")
        eventually((right.folder / f"in-{turn}" / "deep").exists, why=right.log)
        (right.folder / f"in-{turn}").rename(right.folder / f"out-{turn}")
    equal(left, right)
    for one in pair:
        eventually(lambda one=one: not one.status()["problems"], 5, one.status)  # type: ignore[misc]
