"""A real virtual machine, made fresh and set up by site.yml."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.vm.machine import NAME, OPEN, SHUT, Machine

_FIGURES: dict[str, str] = {}


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine that was bare, after the first run of site.yml."""
    machine = Machine(tmp_path_factory.mktemp("inventory"), _FIGURES)
    (machine.folder / "hosts.yml").write_text("servers:\n  hosts:\n    vps:\n")
    machine.up("--fresh")
    try:
        dry = machine.play("--check", name="dry run on the bare machine")
        assert dry.failed == 0, dry.output
        # Nothing answers behind the table's extra port yet, which the verification would rightly report.
        first = machine.play("--skip-tags", "verify", name="first run")
        assert first.failed == 0, first.output
        machine.run(
            "docker run -d --init --restart unless-stopped --name web"
            f" -p {OPEN}:80 -p {SHUT}:80 busybox:1.37.0 httpd -f -p 80 -h /etc"
        )
        yield machine
    finally:
        machine.testbed("down", NAME)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.section("figures of the virtual machine")
    for name, value in _FIGURES.items():
        terminalreporter.write_line(f"{name}: {value}")
