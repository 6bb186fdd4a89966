"""A served process of each HTTP server, and clients that are logged in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from real_process.server import PASSWORD, RunningServer

# Requests from this network are believed about where they come from: tests can come from anywhere.
SETTINGS = {"trusted_proxies": "127.0.0.1", "body_idle_seconds": "1", "max_file_size": "32M"}
_numbers = itertools.count(1)


@pytest.fixture(scope="session", params=["granian", "uvicorn"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the accounts alice and bob, shared by the tests of one HTTP server."""
    data: Path = tmp_path_factory.mktemp(request.param) / "data"
    running = RunningServer(data, {**SETTINGS, "server": request.param})
    running.add_user("alice")
    running.add_user("bob")
    running.start()
    yield running
    assert running.stop() == 0, running.said()
    log = (data.parent / "data.log").read_text()
    assert "an operation failed" not in log, log[-5000:]
    assert PASSWORD not in log
    assert "eyJ" not in log


@pytest.fixture(scope="session")
def base_url(server: RunningServer) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture
def anybody(base_url: str) -> Iterator[httpx.Client]:
    """Somebody who is not logged in, from an address of their own."""
    number = next(_numbers)
    with httpx.Client(
        base_url=f"{base_url}/api/v1",
        headers={"x-forwarded-for": f"192.0.{number // 250}.{number % 250 + 1}"},
        timeout=30,
    ) as client:
        yield client


def log_in(client: httpx.Client, user: str = "alice", **more: str) -> dict[str, object]:
    """Log the client in; returns the answer."""
    answer = client.post("/auth/login", json={"user": user, "password": PASSWORD, "device": "test", **more})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, object] = answer.json()
    client.headers["authorization"] = f"Bearer {tokens['access_token']}"
    return tokens


@pytest.fixture
def new_device(base_url: str) -> Iterator[Callable[..., httpx.Client]]:
    """Makes clients, each a device of its own."""
    clients: list[httpx.Client] = []

    def make(user: str = "alice", **more: str) -> httpx.Client:
        client = httpx.Client(base_url=f"{base_url}/api/v1", timeout=30)
        clients.append(client)
        log_in(client, user, **more)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def _alice(base_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{base_url}/api/v1", timeout=30) as client:
        log_in(client, device="alice's laptop")
        yield client


@pytest.fixture(scope="session")
def _bob(base_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{base_url}/api/v1", timeout=30) as client:
        log_in(client, "bob")
        yield client


@pytest.fixture
def alice(_alice: httpx.Client) -> httpx.Client:
    """A device of alice."""
    return _alice


@pytest.fixture
def bob(_bob: httpx.Client) -> httpx.Client:
    """A device of another account."""
    return _bob


@pytest.fixture
def folder(alice: httpx.Client) -> str:
    """The path of an empty folder of alice's."""
    name = f"folder-{next(_numbers)}"
    answer = alice.post(f"/files/{name}", json={"action": "mkdir"})
    assert answer.status_code == 201, answer.text
    return name


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and slug of a problem document, which it must be."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    assert "Traceback" not in answer.text
    assert "/tmp" not in answer.text
    return answer.status_code, body["type"].removeprefix("urn:sync:problem:")
