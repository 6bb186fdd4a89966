"""What the tests of the sync server need: running the role again, and devices that are logged in."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
INVENTORY = ROOT / ".cache/molecule/syncserver"
Body = bytes | Iterable[bytes] | None
Ask = Callable[..., tuple[int, dict[str, str], bytes]]


@pytest.fixture(scope="module")
def play() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the role again with other values, as its user would."""

    def run(*options: str, **values: Any) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(INVENTORY), *options]
        command += ["-e", json.dumps(values), str(ROOT / "molecule/syncserver/converge.yml")]
        environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)

    return run


class Reached(http.client.HTTPSConnection):
    """A connection to the box by address, checked for the name of the site."""

    def __init__(self, name: str, address: str, ca: str) -> None:
        super().__init__(name, timeout=60, context=ssl.create_default_context(cadata=ca))
        self._address = address

    def connect(self) -> None:
        plain = socket.create_connection((self._address, 443), self.timeout)
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def ask(address: str, domain: str, variables: dict[str, Any]) -> Ask:
    """Send a request to the server through the proxy; a body may be streamed."""

    def request(
        method: str, path: str, *, token: str = "", body: Body = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = Reached(f"sync.{domain}", address, variables["servers_private_ca"])
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            given["Authorization"] = f"Bearer {token}"
        connection.request(method, path, body, given)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        content = response.read()
        connection.close()
        return response.status, found, content

    return request


@pytest.fixture(scope="module")
def log_in(ask: Ask) -> Callable[[str, str, str], str]:
    """Log a device in and return its access token."""

    def run(user: str, password: str, device: str) -> str:
        wanted = json.dumps({"user": user, "password": password, "device": device}).encode()
        status, _, body = ask("POST", "/api/v1/auth/login", body=wanted, Content_Type="application/json")
        assert status == 200, body
        return str(json.loads(body)["access_token"])

    return run


@pytest.fixture(scope="module")
def ana_password() -> str:
    return (INVENTORY / ".secrets/vps/syncserver_ana_password").read_text().strip()


@pytest.fixture(scope="module")
def token(log_in: Callable[..., str], ana_password: str) -> str:
    return log_in("ana", ana_password, "laptop")
