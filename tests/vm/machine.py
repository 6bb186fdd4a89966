"""A real virtual machine of the test bed, as its tests drive it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
NAME = "vm"
CONNECT_SECONDS = 5.0
# Emulated and beside other work, a boot may take minutes.
BOOT_SECONDS = 900

OPEN, SHUT = 8000, 8001
SETTINGS: dict[str, Any] = {
    "servers_admin_email": "admin@vm.test",
    "servers_services": [],
    "servers_ports": [
        {"port": 22, "protocol": "tcp", "name": "ssh", "service": "host"},
        {"port": OPEN, "protocol": "tcp", "name": "example", "service": "host"},
    ],
}


@dataclass(frozen=True)
class Play:
    """How a play ended."""

    output: str
    changed: int
    failed: int


@dataclass
class Machine:
    """The virtual machine; `figures` are printed at the end."""

    folder: Path
    figures: dict[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        text = (self.folder / "host_vars" / "vps.yml").read_text()
        found = json.loads(text.removeprefix("---\n"))
        assert isinstance(found, dict)
        return found

    @property
    def address(self) -> str:
        return str(self.variables["ansible_host"])

    def testbed(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "testbed.vm", *arguments]
        subprocess.run(command, cwd=PROJECT, check=True, timeout=BOOT_SECONDS + 600)

    def up(self, *arguments: str) -> None:
        with self.timed("boot"):
            self.testbed("up", NAME, "--host-vars", str(self.folder / "host_vars" / "vps.yml"), *arguments)
            self.wait_until_booted()

    def shell(self, script: str, *, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a script on the machine as root."""
        config = PROJECT / ".cache" / "testbed" / NAME / "ssh_config"
        options = ["-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=10"]
        command = ["ssh", "-F", str(config), *options, NAME, "sudo sh -s"]
        return subprocess.run(command, input=script, capture_output=True, text=True, timeout=timeout, check=False)

    def run(self, script: str) -> str:
        """Run a script on the machine as root and return what it printed; a failure fails the test."""
        done = self.shell(script)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def play(self, *arguments: str, name: str, **variables: Any) -> Play:
        """Run site.yml and note how long it took."""
        values = json.dumps({**SETTINGS, **variables})
        inventory = str(self.folder / "hosts.yml")
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", inventory, "site.yml", "-e", values]
        settings = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
        with self.timed(name):
            done = subprocess.run(
                [*command, *arguments],
                cwd=PROJECT,
                env={**os.environ, **settings},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=3600,
                check=False,
            )
        recap = re.search(r"ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", done.stdout)
        assert recap, done.stdout
        self.figures[name] += f", {recap[1]} tasks, {recap[2]} changed"
        return Play(done.stdout, int(recap[2]), int(recap[3]) + int(recap[4]))

    def wait_until_booted(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while self.shell("systemctl is-system-running --wait").stdout.strip() not in ("running", "degraded"):
            assert time.monotonic() < deadline
            time.sleep(2)

    def reboot(self) -> None:
        """Ask the machine to restart, and wait until it is there again."""
        before = self.run("cat /proc/sys/kernel/random/boot_id")
        with self.timed("restart"):
            self.shell("systemctl --no-block reboot")
            deadline = time.monotonic() + BOOT_SECONDS
            while self.shell("cat /proc/sys/kernel/random/boot_id").stdout in ("", before):
                assert time.monotonic() < deadline
                time.sleep(2)
            self.wait_until_booted()

    def cut_power(self) -> None:
        """Let the machine die in the middle of whatever it does, and switch it on again."""
        subprocess.run(["docker", "kill", f"servers-testbed-vm-{NAME}"], check=True, timeout=60)
        self.up()

    def open_ports(self, ports: Iterable[int]) -> set[int]:
        """Tell which of these TCP ports accept a connection from outside."""

        async def is_open(port: int) -> bool:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(self.address, port), CONNECT_SECONDS)
            except OSError:
                return False
            writer.close()
            return True

        async def look() -> list[bool]:
            return await asyncio.gather(*(is_open(port) for port in numbers))

        numbers = list(ports)
        return {port for port, answer in zip(numbers, asyncio.run(look()), strict=True) if answer}

    def timed(self, name: str) -> _Timer:
        return _Timer(self.figures, name)


@dataclass
class _Timer:
    figures: dict[str, str]
    name: str
    began: float = 0.0

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.figures[self.name] = f"{time.monotonic() - self.began:.0f} s"
