"""The published rules, of client and server, against random histories: no network, no files, no database."""

from __future__ import annotations

import os
import random

import pytest

from .histories import Line, live_through
from .published_server import PublishedServer
from .rules_client import Flaws

HISTORIES = int(os.environ.get("MODEL_HISTORIES", "400"))


def history(seed: int, flaws: Flaws | None = None, steps: int = 60) -> None:
    choose = random.Random(seed)
    server = PublishedServer()
    lines = [Line(server.device(name), choose) for name in ("anna", "ben", "cleo")[: 2 + seed % 2]]
    live_through(lines, choose, steps, flaws or Flaws()).check(server.live(), server.versions)


@pytest.mark.parametrize("part", range(10))
def test_devices_converge_and_nothing_is_lost(part: int) -> None:
    for seed in range(part, HISTORIES, 10):
        try:
            history(seed)
        except Exception as error:
            raise AssertionError(f"history {seed}") from error


@pytest.mark.parametrize(
    "flaws",
    [
        Flaws(skips_dirty_changes=True),
        Flaws(overwrites_dirty_files=True),
        Flaws(new_op_id_after_loss=True),
        Flaws(forces_its_writes=True),
        Flaws(delete_ignores_pending=True),
    ],
    ids=lambda flaws: ", ".join(name for name, value in vars(flaws).items() if value),
)
def test_a_client_that_breaks_a_rule_is_caught(flaws: Flaws) -> None:
    def live_until_caught() -> None:
        for seed in range(3000):
            history(seed, flaws)

    with pytest.raises((AssertionError, KeyError)):
        live_until_caught()
