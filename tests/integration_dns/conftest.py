"""A real name server (BIND) for the modules to ask, and OpenDKIM's own tools beside it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
import typing as t
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import dns.exception
import dns.resolver
import pytest
from dns.rdtypes.ANY.TXT import TXT

from testbed import images
from testbed.docker import docker, ensure_engine, succeeds

# Not below .test: OpenDKIM's resolver answers for that itself, that there is nothing.
DOMAIN = "example.org"
ADDRESS = "203.0.113.10"
REPOSITORY = Path(__file__).resolve().parents[2]
OTHER_PORT = 5300

_RUN_MODULE = """
import json, runpy, sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": json.load(sys.stdin)}).encode()
basic._ANSIBLE_PROFILE = "legacy"
runpy.run_module("ansible_collections.diegonmarcos.servers.plugins.modules." + sys.argv[1], run_name="__main__")
"""

Result = dict[str, t.Any]


def run_module(name: str, *, dry_run: bool = False, **options: t.Any) -> Result:
    """Run a module as Ansible would, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN_MODULE, name],
        input=json.dumps({**options, "_ansible_check_mode": dry_run, "_ansible_diff": True}),
        capture_output=True,
        text=True,
        cwd=REPOSITORY / ".collections",
        check=False,
    )
    assert done.stdout, done.stderr
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def run_playbook(
    name: str, inventory: Path, *options: str, collections: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a playbook of this collection, or of a copy of it, and return what it printed."""
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(collections or REPOSITORY / ".collections"),
        "ANSIBLE_NOCOLOR": "1",
    }
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    return subprocess.run(
        [program, "-i", str(inventory), *options, f"playbooks/{name}"],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass
class NameServer:
    """A running name server; `address` is where to ask it."""

    container: str
    address: str
    folder: Path
    _serial: Iterator[int] = field(default_factory=lambda: itertools.count(int(time.time())))

    def serve(self, zones: Mapping[str, str]) -> None:
        """Answer for these zones and no other; a text is what follows the records every zone begins with."""
        serial = next(self._serial)
        self._write("zones.conf", "".join(_zone_clause(name) for name in [*zones, "serial.example"]))
        for name, text in {**zones, "serial.example": ""}.items():
            begin = f"$TTL 60\n@ IN SOA ns root {serial} 60 60 60 60\n@ IN NS ns\nns IN A 127.0.0.1\n"
            self._write(f"{name}.zone", begin + text)
        docker("kill", "--signal", "HUP", self.container)
        deadline = time.monotonic() + 20
        while self.ask("serial.example", "SOA")[0].split()[2:3] != [str(serial)]:
            assert time.monotonic() < deadline, docker("logs", self.container)
            time.sleep(0.1)

    def ask(self, name: str, kind: str) -> list[str]:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = [self.address]
        resolver.lifetime = 5
        try:
            return [item.to_text() for item in resolver.resolve(name, kind)]
        except dns.exception.DNSException:
            return [""]

    def text(self, name: str) -> bytes | None:
        """Return a TXT record joined as a verifier reads it, for dkimpy."""
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = [self.address]
        try:
            record = next(iter(resolver.resolve(name, "TXT")))
        except dns.exception.DNSException:
            return None
        assert isinstance(record, TXT)
        return b"".join(record.strings)

    def run(self, *command: str, stdin: str | None = None) -> str:
        return docker("exec", "-i", self.container, *command, stdin=stdin)

    def try_to_run(self, *command: str) -> subprocess.CompletedProcess[str]:
        whole = ["docker", "exec", self.container, *command]
        return subprocess.run(whole, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")


def _zone_clause(name: str) -> str:
    return f'zone "{name}" {{ type primary; file "/zones/{name}.zone"; }};\n'


@pytest.fixture(scope="session")
def name_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NameServer]:
    ensure_engine(REPOSITORY / ".cache")
    images.build_debian()
    tag = f"{images.PREFIX}/integration-dns"
    folder = Path(__file__).parent / "image"
    # A client without the buildx plug-in still has the old builder, but only when told so.
    environment = os.environ if succeeds("docker", "buildx", "version") else {**os.environ, "DOCKER_BUILDKIT": "0"}
    build = ["docker", "build", "-q", "--build-arg", f"BASE={images.DEBIAN}", "-t", tag, str(folder)]
    subprocess.run(build, env=environment, check=True, capture_output=True)
    container = f"dns-{os.getpid()}"
    zones = tmp_path_factory.mktemp("zones")
    (zones / "zones.conf").touch()
    docker("run", "-d", "--name", container, "-v", f"{zones}:/zones:ro", tag)
    try:
        address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", container)
        server = NameServer(container, address, zones)
        server.serve({})
        yield server
    finally:
        docker("rm", "-fv", container)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """The DKIM keys of the domain, RSA and Ed25519 side by side."""
    directory = tmp_path_factory.mktemp("keys") / "dkim"
    made = run_module("dkim_selectors", directory=str(directory), domains=[DOMAIN], key_types=["rsa", "ed25519"])
    selectors: list[Result] = made["selectors"]
    return selectors


class Declared:
    """A box as it is declared, asked about through the module."""

    def __init__(self, name_server: NameServer, keys: list[Result]) -> None:
        self.name_server = name_server
        self.options: dict[str, t.Any] = {
            "domain": DOMAIN,
            "public_ip": ADDRESS,
            "hosts": [f"www.{DOMAIN}"],
            "mail": {
                "hostname": f"mail.{DOMAIN}",
                "domains": [DOMAIN],
                "selectors": keys,
                "relay_host": "smtp.relay.example",
                "spf_includes": ["spf.relay.example"],
            },
        }

        self._right = run_module("dns_records_info", **self.options, check=False)["zone_file"].splitlines()

    def ask(self, **more: t.Any) -> Result:
        where = {"resolver": self.name_server.address, "timeout": 2}
        return run_module("dns_records_info", **{**self.options, **where, **more})

    def zones(self, *, without: tuple[str, ...] = (), more: str = "", reverse: str = "") -> dict[str, str]:
        """Return the zones the module itself wants, less the lines that begin so, and with further ones."""
        kept = [line for line in self._right if line and not line.startswith((";", *without))]
        return {
            DOMAIN: "\n".join([*kept, more, ""]),
            "relay.example": '@ IN A 192.0.2.7\nspf IN TXT "v=spf1 ip4:192.0.2.7 -all"\n',
            "113.0.203.in-addr.arpa": reverse or f"10 IN PTR mail.{DOMAIN}.\n",
        }


@pytest.fixture(scope="session")
def declared(name_server: NameServer, keys: list[Result]) -> Declared:
    return Declared(name_server, keys)
