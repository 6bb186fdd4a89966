"""What the tests of all scenarios need to look at the box from outside."""

from __future__ import annotations

import resource
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

CONNECT_SECONDS = 1.0
CONNECTIONS = 4000


@pytest.fixture(scope="module")
def variables(host: Host) -> dict[str, Any]:
    """All variables the inventory of this scenario gives the box."""
    found = host.ansible.get_variables()
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def inventory(request: pytest.FixtureRequest) -> Path:
    """The folder of this scenario's inventory on this machine."""
    scenario = request.path.parents[1]
    return scenario.parents[1] / ".cache/molecule" / scenario.name


@pytest.fixture(scope="module")
def address(variables: dict[str, Any]) -> str:
    """The address the world reaches the box at."""
    return str(variables["servers_public_ip"])


@pytest.fixture(scope="module")
def domain(variables: dict[str, Any]) -> str:
    return str(variables["servers_domain"])


def _open_ports(address: str, ports: Iterable[int]) -> set[int]:
    # Too few descriptors must not look like closed ports.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    numbers = list(ports)
    size = min(CONNECTIONS, most // 2)
    found: set[int] = set()
    for start in range(0, len(numbers), size):
        found |= _open_among(address, numbers[start : start + size])
    return found


def _open_among(address: str, ports: list[int]) -> set[int]:
    """Let the kernel connect to all at once, and see later which have a peer: a busy machine distorts nothing."""
    with ExitStack() as stack:
        attempts = {port: stack.enter_context(socket.socket()) for port in ports}
        for port, attempt in attempts.items():
            attempt.setblocking(False)
            attempt.connect_ex((address, port))
        time.sleep(CONNECT_SECONDS)
        return {port for port, attempt in attempts.items() if _has_peer(attempt)}


def _has_peer(attempt: socket.socket) -> bool:
    try:
        attempt.getpeername()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def open_ports(address: str) -> Callable[[Iterable[int]], set[int]]:
    """Tell which of these TCP ports accept a connection from this machine."""
    return lambda ports: _open_ports(address, ports)


@pytest.fixture(scope="module")
def request_site(address: str, variables: dict[str, Any]) -> Callable[..., tuple[int, dict[str, str], bytes]]:
    """Ask the box for a site, over TLS unless told otherwise, trusting only the test bed's authority."""

    def request(
        name: str, path: str = "/", *, tls: bool = True, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        with socket.create_connection((address, 443 if tls else 80), timeout=10) as plain:
            connection: socket.socket = plain
            if tls:
                context = ssl.create_default_context(cadata=variables["servers_private_ca"])
                connection = context.wrap_socket(plain, server_hostname=name)
            lines = [f"GET {path} HTTP/1.1", f"Host: {name}", "Connection: close"]
            lines += [f"{key}: {value}" for key, value in (headers or {}).items()]
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            response = HTTPResponse(connection)
            response.begin()
            found = {key.lower(): value for key, value in response.getheaders()}
            body = response.read()
            connection.close()
            return response.status, found, body

    return request


@pytest.fixture(scope="module")
def on_box(host: Host) -> Callable[[str], str]:
    """Run a shell line on the box as root and return what it printed; a failure fails the test."""

    def run(line: str) -> str:
        with host.sudo():
            done = host.run(line)
        assert done.rc == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return str(done.stdout)

    return run


@pytest.fixture(scope="session")
def shell() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program on this machine, bounded in time, and return how it ended."""

    def run(*command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)

    return run
