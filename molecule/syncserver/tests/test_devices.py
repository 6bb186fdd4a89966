"""Real daemons, each in a network of its own, in step with the server on the box through the proxy and TLS."""

from __future__ import annotations

import json
import random
import secrets
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Ask
from network import Place

# The machines of the client's own tests, here with another way to their server.
sys.path += [str(ROOT / "sync_clients/linux" / folder) for folder in ("src", "tests")]
from machines import PASSWORD, Account, Machine, conflict_copies, equal, eventually

OnBox = Callable[[str], str]
CLIENT = ROOT / "sync_server/.venv/bin/sync-client"
DEVICES = 3
TESTS = 7


@pytest.fixture(scope="module")
def places() -> Iterator[list[Place]]:
    """Where devices stand."""
    subprocess.run([ROOT / "testbed/setup-sync"], check=True, timeout=600)
    made = []
    try:
        for number in range(1, DEVICES + 1):
            made.append(Place(number))
        yield made
    finally:
        for place in made:
            place.remove()


@pytest.fixture(scope="module")
def accounts(on_box: OnBox, domain: str) -> list[Account]:
    """An account of its own for each test, none of which an earlier run has used."""
    names = [f"owner-{secrets.token_hex(4)}" for _ in range(TESTS)]
    wanted = json.dumps([{"name": name, "password": PASSWORD} for name in names])
    on_box(f"echo {shlex.quote(wanted)} | docker exec -i syncserver sync-server user apply")
    return [Account(f"https://sync.{domain}", name) for name in names]


@pytest.fixture
def account(accounts: list[Account]) -> Account:
    return accounts.pop()


@pytest.fixture
def device(
    account: Account, places: list[Place], variables: dict[str, Any], tmp_path: Path
) -> Iterator[Callable[[str], Machine]]:
    """Log the next device in, and start its daemon."""
    ca = tmp_path / "ca.pem"
    ca.write_text(variables["servers_private_ca"])
    made: list[Machine] = []

    def make(name: str) -> Machine:
        one = Machine(tmp_path / name, name, client=[*places[len(made)].command, CLIENT])
        made.append(one)
        one.join(account, "--ca", ca)
        one.start()
        return one

    yield make
    for place in places:
        place.plug()
    for one in made:
        one.stop()


@pytest.fixture
def pair(device: Callable[[str], Machine]) -> tuple[Machine, Machine]:
    return device("laptop"), device("desktop")


def under_way(one: Machine, megabytes: int) -> None:
    """Wait until a device has sent so much, and has more to send."""
    eventually(lambda: one.status()["wire_sent"] > megabytes * 1_000_000, 120, one.log)
    assert one.status()["state"] == "syncing"


def acknowledged(one: Machine) -> None:
    """Wait until the server has everything of a device."""
    equal(one)


def throw(here: Machine, there: Machine, text: str) -> None:
    """Write something on one device, and wait until it is on the other."""
    here.write("ball.txt", text)
    eventually(lambda: there.has("ball.txt", text), 60, there.log)


def test_files_and_edits_travel_both_ways_and_deletions_are_undone(pair: tuple[Machine, Machine]) -> None:
    left, right = pair
    left.write("letters/a.txt", "first")
    eventually(lambda: right.has("letters/a.txt", "first"), why=right.log)
    right.write("letters/a.txt", "second")
    eventually(lambda: left.has("letters/a.txt", "second"), why=left.log)
    assert left.run("versions", "letters/a.txt").stdout.count("\n") == 2
    (left.folder / "letters/a.txt").unlink()
    eventually(lambda: not (right.folder / "letters/a.txt").exists(), why=right.log)
    right.run("restore", "letters/a.txt")
    eventually(lambda: left.has("letters/a.txt", "second") and right.has("letters/a.txt", "second"), why=left.log)
    equal(left, right)


def test_a_folder_of_a_thousand_files_moves_as_one(pair: tuple[Machine, Machine]) -> None:
    left, right = pair
    for number in range(1000):
        left.write(f"photos/{number % 10}/{number}.jpg", f"picture {number}")
    equal(left, right, seconds=120)
    sent, received = left.status()["wire_sent"], right.status()["wire_received"]
    (left.folder / "photos").rename(left.folder / "pictures")
    eventually(lambda: right.has("pictures/7/997.jpg", "picture 997"), why=right.log)
    equal(left, right)
    assert not (right.folder / "photos").exists()
    assert len(right.files()) == 1011
    assert left.status()["wire_sent"] - sent < 20_000
    assert right.status()["wire_received"] - received < 20_000


def test_edits_while_the_network_is_down_keep_both(pair: tuple[Machine, Machine], places: list[Place]) -> None:
    left, right = pair
    left.write("plan.txt", "draft")
    equal(left, right)
    places[1].pull()
    right.write("plan.txt", "the desktop's")
    left.write("plan.txt", "the laptop's")
    acknowledged(left)
    assert right.has("plan.txt", "the desktop's")
    places[1].plug()
    equal(left, right)
    (copy,) = conflict_copies(left)
    assert copy.endswith("-desktop.txt")
    assert left.has("plan.txt", "the laptop's")
    assert left.has(copy, "the desktop's")
    assert "plan.txt" in right.run("conflicts").stdout


def test_an_excluded_folder_is_not_fetched_until_it_is_wanted(pair: tuple[Machine, Machine]) -> None:
    left, right = pair
    left.write("films/a.mkv", b"x" * 100_000)
    equal(left, right)
    right.run("exclude", "add", "films")
    eventually(lambda: not (right.folder / "films").exists(), why=right.log)
    left.write("films/b.mkv", b"y" * 1000)
    left.write("notes.txt", "later")
    eventually(lambda: right.has("notes.txt", "later"), why=right.log)
    assert not (right.folder / "films").exists()
    assert left.has("films/a.mkv", b"x" * 100_000)
    right.run("exclude", "remove", "films")
    equal(left, right)
    assert right.has("films/b.mkv", b"y" * 1000)


def test_a_paused_device_stands_still_while_the_others_go_on(
    pair: tuple[Machine, Machine], device: Callable[[str], Machine]
) -> None:
    left, right = pair
    paused = device("attic")
    paused.run("pause")
    paused.write("mine.txt", "mine")
    left.write("1.txt", "1")
    eventually(lambda: right.has("1.txt", "1"), why=right.log)
    right.write("2.txt", "2")
    eventually(lambda: left.has("2.txt", "2"), why=left.log)
    assert set(paused.files()) == {"mine.txt"}
    assert set(left.files()) == {"1.txt", "2.txt"}
    paused.run("resume")
    equal(left, right, paused)
    assert set(left.files()) == {"1.txt", "2.txt", "mine.txt"}


def test_news_reach_a_waiting_device_before_its_wait_is_over(
    pair: tuple[Machine, Machine], ask: Ask, token: str
) -> None:
    """The proxy holds no answer back: a wait as long as theirs, begun before and without news, outlasts them all."""
    left, right = pair
    equal(left, right)
    cursor = json.loads(ask("GET", "/api/v1/changes?limit=1000", token=token)[2])["cursor"]
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        ask("GET", f"/api/v1/changes?cursor={cursor}&wait=50", token=token)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    begun.wait()
    for turn in range(3):
        throw(left, right, f"{turn} there")
        throw(right, left, f"{turn} back")
    assert waiting.is_alive()


def test_devices_the_server_and_the_network_fail_during_transfers_and_nothing_is_lost(
    pair: tuple[Machine, Machine],
    device: Callable[[str], Machine],
    places: list[Place],
    account: Account,
    on_box: OnBox,
    ask: Ask,
    log_in: Callable[..., str],
) -> None:
    chance = random.Random(1)
    written: dict[str, bytes] = {}
    diary: list[bytes] = []

    def write(one: Machine, path: str, content: bytes) -> None:
        written[path] = content
        one.write(path, content)

    def load(one: Machine, turn: int) -> None:
        """Enough to fail in the middle of, at four megabytes a second."""
        for number in range(100):
            write(one, f"{one.name}/{turn}/{number % 7}/{number}", chance.randbytes(20_000))
        write(one, f"{one.name}/{turn}/film.mkv", chance.randbytes(10_000_000))

    def note(one: Machine) -> None:
        """One more version that the server has acknowledged."""
        diary.append(b"day %d of %s" % (len(diary), one.name.encode()))
        write(one, "diary.txt", diary[-1])
        equal(*devices, seconds=180)

    left, right = pair
    third = device("attic")
    devices = [left, right, third]
    for one in devices:
        one.run("limit", "--up", "4000")
    note(left)

    # A device dies while it sends, and one while it fetches.
    load(left, 1)
    under_way(left, 3)
    left.kill()
    third.kill()
    left.start()
    third.start()
    note(right)

    # The server dies while one device sends and others fetch.
    load(right, 2)
    under_way(right, 3)
    main = "docker inspect --format '{{.State.Pid}}' syncserver"
    on_box(f"kill -KILL $({main})")
    note(third)

    # The network of a device is gone while it sends, the others go on.
    sent = third.status()["wire_sent"]
    load(third, 3)
    under_way(third, 3 + sent // 1_000_000)
    places[2].pull()
    write(third, "written-offline.txt", b"offline")
    write(left, "meanwhile.txt", b"online")
    equal(left, right)
    assert not right.has(f"{third.name}/3/film.mkv", written[f"{third.name}/3/film.mkv"])
    assert not third.has("meanwhile.txt", b"online")
    places[2].plug()
    note(left)

    # All at once.
    for one in devices:
        load(one, 4)
        one.write("all.txt", one.name)
    under_way(right, 3)
    on_box(f"kill -KILL $({main})")
    places[0].pull()
    right.kill()
    third.kill()
    right.start()
    third.start()
    places[0].plug()
    note(third)

    found = left.files()
    assert {path: body for path, body in found.items() if path in written} == written
    copies = conflict_copies(left)
    assert {found["all.txt"], *(found[path] for path in copies)} == {b"laptop", b"desktop", b"attic"}
    assert {path for path, body in found.items() if body is not None} == {*written, "all.txt", *copies}

    # The server itself says the same: all contents whole, and every version that was acknowledged.
    token = log_in(account.name, PASSWORD, "judge")
    versions = json.loads(ask("GET", "/api/v1/versions/diary.txt", token=token)[2])["versions"]
    kept = [ask("GET", f"/api/v1/files/diary.txt?version={v['revision']}", token=token)[2] for v in versions]
    assert kept == diary[::-1]
    assert "all good" in on_box("docker exec syncserver sync-server check")
