"""Hypothesis looks for the shortest story of three devices in which the real tree loses something or devices differ."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from sync_server.store.sqlite import SqliteStore, StoreSettings
from sync_server.tree import Tree, TreeSettings

from .histories import Line, World
from .rules_client import Client, Lost
from .test_tree import Account, Device

DEVICES = st.integers(0, 2)
# Which file, which name: as few as there are to choose from.
CHOICES = st.integers(0, 40).map(random.Random)


class Devices(RuleBasedStateMachine):
    """Every rule is a user's or a device's step; answers are lost when Hypothesis says so."""

    store: SqliteStore
    tree: Tree
    loop: asyncio.AbstractEventLoop
    numbers = itertools.count(1)

    @initialize()
    def log_in(self) -> None:
        number = next(self.numbers)
        account = Account(self.loop, self.store, self.tree, number)
        self.devices: list[Device] = [
            account.device(name, 3 * number + n) for n, name in enumerate(("anna", "ben", "cleo"))
        ]
        self.lines = [Line(device, random.Random(0)) for device in self.devices]
        self.clients = [Client(line.name, line) for line in self.lines]
        self.world = World(self.clients)

    @rule(device=DEVICES, choose=CHOICES)
    def write(self, device: int, choose: random.Random) -> None:
        self.world.write(self.clients[device], choose)

    @rule(device=DEVICES, choose=CHOICES)
    def edit(self, device: int, choose: random.Random) -> None:
        self.world.edit(self.clients[device], choose)

    @rule(device=DEVICES, choose=CHOICES)
    def make_folder(self, device: int, choose: random.Random) -> None:
        self.world.make_folder(self.clients[device], choose)

    @rule(device=DEVICES, choose=CHOICES)
    def rename(self, device: int, choose: random.Random) -> None:
        self.world.rename(self.clients[device], choose)

    @rule(device=DEVICES, choose=CHOICES)
    def exchange(self, device: int, choose: random.Random) -> None:
        self.world.exchange(self.clients[device], choose)

    @rule(device=DEVICES, choose=CHOICES)
    def delete(self, device: int, choose: random.Random) -> None:
        self.world.delete(self.clients[device], choose)

    @rule(device=DEVICES, lost=st.sampled_from([0.0, 0.0, 0.5, 1.0]), seed=st.integers(0, 20), batch=st.integers(1, 3))
    def push(self, device: int, lost: float, seed: int, batch: int) -> None:
        line = self.lines[device]
        line.loss, line.choose = lost, random.Random(seed)
        try:
            self.clients[device].push(batch)
        except Lost:
            self.world.story.append(f"{line.name} lost an answer or a request")

    @rule(device=DEVICES, limit=st.integers(1, 4))
    def pull(self, device: int, limit: int) -> None:
        self.lines[device].loss = 0.0
        self.clients[device].pull(limit)

    @rule(device=DEVICES)
    def apply(self, device: int) -> None:
        self.lines[device].loss = 0.0
        try:
            self.clients[device].apply()
        except Lost:
            self.world.story.append("what it wanted to download is an old version by now")

    @rule(device=DEVICES, rounds=st.integers(1, 4), lost=st.sampled_from([0.0, 0.0, 0.3]), seed=st.integers(0, 20))
    def sync(self, device: int, rounds: int, lost: float, seed: int) -> None:
        line, client = self.lines[device], self.clients[device]
        line.loss, line.choose = lost, random.Random(seed)
        for _ in range(rounds):
            try:
                client.push(2)
                client.pull()
                client.apply()
            except Lost:
                self.world.story.append(f"{line.name} lost an answer or a request")

    @rule(device=DEVICES, times=st.integers(1, 8), choose=CHOICES)
    def type_away(self, device: int, times: int, choose: random.Random) -> None:
        """Save, sync, save again: versions pile up."""
        self.lines[device].loss = 0.0
        self.world.write(self.clients[device], choose)
        for _ in range(times):
            self.clients[device].push()
            self.world.edit(self.clients[device], choose)

    def teardown(self) -> None:
        for line in self.lines:
            line.loss = 0.0
        self.world.settle()
        self.world.check(self.devices[0].live(), self.devices[0].versions)


def test_no_story_of_three_devices_loses_anything() -> None:
    folder = Path(tempfile.mkdtemp())
    loop = asyncio.new_event_loop()
    store = loop.run_until_complete(SqliteStore.open(folder, StoreSettings(free_floor=0)))
    try:
        Devices.loop, Devices.store, Devices.tree = loop, store, Tree(store, TreeSettings())
        run_state_machine_as_test(
            Devices,
            settings=settings(
                max_examples=60,
                stateful_step_count=40,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        loop.run_until_complete(store.close())
        loop.close()
        shutil.rmtree(folder)
