from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is open."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("check", [False, True])
def test_a_box_as_it_should_be_passes(run_module: RunModule, port: int, check: bool) -> None:
    row = {"port": port, "protocol": "tcp", "name": "ssh", "service": "host"}

    result = run_module("site_probe", {"address": "127.0.0.1", "open_ports": [row], "closed_ports": []}, check=check)

    assert (result["changed"], result["problems"], result["sites"]) == (False, [], [])
    assert result["ports"] == [
        {"port": port, "protocol": "tcp", "name": "ssh", "expected": "open", "state": "open", "ok": True}
    ]


@pytest.mark.parametrize("fail", [False, True])
def test_a_difference_fails_with_the_table_unless_told_not_to(run_module: RunModule, port: int, fail: bool) -> None:
    arguments = {"address": "127.0.0.1", "closed_ports": [port], "fail": fail}

    result = run_module("site_probe", arguments)

    assert result.get("failed", False) is fail
    assert len(result["problems"]) == 1
    assert any(line.startswith(f"{port}/tcp") for line in result["table"])
    if fail:
        assert result["problems"][0] in result["msg"]


def test_a_site_that_cannot_be_reached_is_returned_with_what_is_not_known(run_module: RunModule, port: int) -> None:
    site = {"name": "site.test", "port": port, "http_port": port, "expect_status": [200]}

    result = run_module(
        "site_probe", {"address": "127.0.0.1", "closed_ports": [], "sites": [site], "fail": False, "timeout": 0.3}
    )

    assert [(found["name"], found["ok"], found["status"]) for found in result["sites"]] == [("site.test", False, None)]


def test_what_makes_no_sense_is_one_sentence(run_module: RunModule) -> None:
    result = run_module("site_probe", {"address": "127.0.0.1", "closed_ports": [], "sites": [{"name": "*.test"}]})

    assert result["failed"]
    assert result["msg"] == "'*.test' is no host name, so no site can be asked for by it."
