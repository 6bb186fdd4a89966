# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a server for the session with an account for each test, and machines that are stopped at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from devices import Device
from machines import Account, Machine, Server
from model import Model


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--big-file-mb", type=int, default=200, help="size of the file of which one byte changes")


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("server") / "data")
    one.start()
    yield one
    one.stop()


@pytest.fixture
def account(shared_server: Server) -> Account:
    """An account of its own on the server of all tests."""
    return shared_server.account()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server for this test alone, to be killed."""
    one = Server(tmp_path / "server")
    one.start()
    yield one
    one.stop()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    made: list[Machine] = []

    def make(name: str, home: Path | None = None) -> Machine:
        one = Machine(home or tmp_path / name, name)
        made.append(one)
        return one

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def pair(account: Account, machine: Callable[[str], Machine]) -> tuple[Machine, Machine]:
    """Two machines with running daemons, in step."""
    left, right = machine("left"), machine("right")
    for one in (left, right):
        one.join(account)
        one.start()
    return left, right


@pytest.fixture
def model() -> Model:
    """A server that is a model."""
    return Model()


@pytest.fixture
def two(model: Model, tmp_path: Path) -> Iterator[tuple[Device, Device]]:
    """Two devices of it, without daemons."""
    left, right = (Device(model, name, tmp_path, patient=False) for name in ("left", "right"))
    yield left, right
    for device in (left, right):
        device.trees.close()
