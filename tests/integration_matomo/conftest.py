"""One real MariaDB for all tests, and a Matomo for each file of them that asks for one."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from matomo import Box, Matomo

from testbed.docker import ensure_engine


@pytest.fixture(scope="session")
def box() -> t.Iterator[Box]:
    ensure_engine(Path(__file__).parents[2] / ".cache")
    box = Box()
    try:
        box.up()
        yield box
    finally:
        box.down()


@pytest.fixture(scope="session")
def _bare(box: Box) -> Matomo:
    return box.start()


@pytest.fixture
def bare(box: Box, _bare: Matomo) -> Matomo:
    """One that nobody has installed, whatever the test before made of it."""
    box.empty(_bare)
    return _bare


@pytest.fixture(scope="module")
def fresh(box: Box) -> Matomo:
    """One that nobody has installed."""
    return box.start()


@pytest.fixture(scope="module")
def matomo(box: Box) -> Matomo:
    """One that is installed, with the site Example."""
    instance = box.start()
    result = instance.install()
    assert not result.get("failed"), result
    instance.token = result["token"]
    return instance
