"""One Nginx Proxy Manager for the modules to work on, with a real ACME server and name server beside it."""

from __future__ import annotations

import json
import os
import sqlite3
import ssl
import subprocess
import sys
import time
import typing as t
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest

from testbed import images, internet
from testbed.docker import docker, succeeds

CONTAINER = "npmmod-npm"
DOMAIN = "npmmod.test"
# Far above the places that throwaway VPSs take.
PLACE = 251
EMAIL = "admin@npmmod.test"
PASSWORD = "correct horse battery"

_RUN_MODULE = """
import json, runpy, sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": json.load(sys.stdin)}).encode()
basic._ANSIBLE_PROFILE = "legacy"
runpy.run_module("ansible_collections.diegonmarcos.servers.plugins.modules." + sys.argv[1], run_name="__main__")
"""

Result = dict[str, t.Any]


def run_module(name: str, *, check: bool = False, **options: t.Any) -> Result:
    """Run a module as Ansible would, and return what it says; `output` is every byte it printed."""
    arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
    repository = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _RUN_MODULE, name],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        cwd=repository / ".collections",
        check=False,
    )
    assert done.stdout, done.stderr
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return {**result, "output": done.stdout + done.stderr}


@dataclass(frozen=True)
class Page:
    status: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Instance:
    """A running instance; `address` is where the world would reach it."""

    address: str
    data: Path

    @property
    def url(self) -> str:
        return f"http://{self.address}:81"

    def run(self, name: str, *, check: bool = False, **options: t.Any) -> Result:
        login = {"url": self.url, "email": EMAIL, "password": PASSWORD, "wait_timeout": 30}
        return run_module(name, check=check, **{**login, **options})

    def hosts(self, *hosts: Result, check: bool = False, **options: t.Any) -> Result:
        return self.run("npm_proxy_host", hosts=list(hosts), check=check, **{"data_dir": str(self.data), **options})

    def api(self, method: str, path: str, body: t.Any = None) -> t.Any:
        """Ask the API beside the modules, as an administrator with a browser would."""
        token = self._send("POST", "/tokens", {"identity": EMAIL, "secret": PASSWORD}, None)["token"]
        return self._send(method, path, body, token)

    def row(self, *names: str) -> Result:
        rows = self.api("GET", "/nginx/proxy-hosts?expand=certificate,access_list")
        return next(row for row in rows if set(row["domain_names"]) == set(names))

    def page(
        self,
        name: str,
        path: str = "/",
        *,
        tls: bool = False,
        user: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Page:
        """What a visitor gets; an answer cut off or a refused handshake is status 0."""
        headers = {"Host": name, "User-Agent": "visitor", **(headers or {})}
        if user:
            headers["Authorization"] = "Basic " + _base64(user)
        connection = _Tls(self.address, name) if tls else HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            reply = connection.getresponse()
            body = reply.read().decode(errors="replace")
            return Page(reply.status, {key.lower(): value for key, value in reply.getheaders()}, body)
        except (OSError, EOFError):
            return Page(0, {}, "")
        finally:
            connection.close()

    def serial(self, name: str) -> int:
        """The serial number of the certificate that is served."""
        connection = _Tls(self.address, name)
        try:
            connection.connect()
            found = subprocess.run(
                ["openssl", "x509", "-inform", "DER", "-noout", "-serial"],
                input=connection.sock.getpeercert(binary_form=True),
                capture_output=True,
                check=True,
            )
            return int(found.stdout.decode().partition("=")[2], 16)
        finally:
            connection.close()

    def sql(self, statement: str, *values: t.Any) -> None:
        """Leave the database as an accident would have left it."""
        with sqlite3.connect(self.data / "database.sqlite") as database:
            database.execute(statement, values)

    def kill_api(self) -> None:
        """As the kernel does when the container is out of memory; its supervisor starts the API again."""
        find = "grep -lz standin /proc/[0-9]*/cmdline | cut -d/ -f3 | grep -vx $$"
        docker("exec", CONTAINER, "sh", "-c", f"kill -9 $({find}) || true")

    def _send(self, method: str, path: str, body: t.Any, token: str | None) -> t.Any:
        connection = HTTPConnection(self.address, 81, timeout=60)
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, "/api" + path, None if body is None else json.dumps(body), headers)
        reply = connection.getresponse()
        content = reply.read()
        assert reply.status < 300, content
        return json.loads(content)


class _Tls(HTTPSConnection):
    """Names the site in the handshake although the address is what is connected to; trusts the test's authority."""

    def __init__(self, address: str, name: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        super().__init__(address, timeout=10, context=context)
        self._name = name
        self._tls = context

    def connect(self) -> None:
        HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def _base64(text: str) -> str:
    from base64 import b64encode

    return b64encode(text.encode()).decode()


def _start(data: Path) -> Instance:
    address = internet.address(PLACE)
    remove()
    image = images.build("nginx-proxy-manager-stand-in")
    environment = {
        "LE_SERVER": f"https://{internet.ACME.domain}:14000/dir",
        "REQUESTS_CA_BUNDLE": "/run/acme-ca.pem",
        "DISABLE_IPV6": "true",
        "IP_RANGES_FETCH_ENABLED": "false",
        # The modules read files of the data volume, whoever runs the tests.
        "PUID": str(os.getuid()),
        "PGID": str(os.getgid()),
    }
    command = ["create", "--name", CONTAINER, "--network", internet.NETWORK, "--ip", address]
    command += ["--dns", internet.address(internet.DNS.host), "-v", f"{data}:/data", "-v", "/etc/letsencrypt"]
    for name, value in environment.items():
        command += ["-e", f"{name}={value}"]
    docker(*command, image)
    ca_file = Path(__file__).resolve().parents[2] / ".cache" / "npmmod-ca.pem"
    ca_file.parent.mkdir(exist_ok=True)
    ca_file.write_text(internet.acme_ca() + "\n")
    docker("cp", str(ca_file), f"{CONTAINER}:/run/acme-ca.pem")
    docker("start", CONTAINER)
    # The service behind the sites: what it serves does not matter, only who gets to see it.
    docker("exec", "-d", CONTAINER, "python3", "-m", "http.server", "8099", "--directory", "/var/www/html")
    return Instance(address, data)


def remove() -> None:
    if succeeds("docker", "container", "inspect", CONTAINER):
        docker("rm", "-f", "-v", CONTAINER)


@pytest.fixture(scope="session")
def _network() -> t.Iterator[None]:
    # A running network is left as it is: others may be using it.
    if not all(succeeds("docker", "top", server.container) for server in (internet.DNS, internet.ACME)):
        internet.up(mirror=False)
    internet.name_host(DOMAIN, internet.address(PLACE))
    yield
    remove()


@pytest.fixture(scope="module")
def fresh(_network: None, tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """An instance nobody has set up."""
    return _start(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def npm(fresh: Instance) -> Instance:
    """An instance with an administrator."""
    result = fresh.run("npm_setup")
    assert not result.get("failed"), result
    return fresh


def wait_for(condition: t.Callable[[], bool], what: str, seconds: float = 10) -> None:
    """nginx takes a moment to change over to a new configuration."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
