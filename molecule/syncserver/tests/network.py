"""A network namespace for each device, with a cable into the test bed's network that can be pulled."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from testbed import internet
from testbed.docker import docker

# Behind the last address that a VPS gets.
FIRST_HOST = 250


class Place:
    """Where one device stands: `command` runs a program there, `pull` and `plug` are its cable."""

    def __init__(self, number: int) -> None:
        self.name = self.cable = f"sync-device-{number}"
        self._folder = Path("/etc/netns") / self.name
        self.remove()
        address = internet.address(FIRST_HOST + number)
        subnet = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", internet.NETWORK)
        bridge = "br-" + docker("network", "inspect", "--format", "{{.Id}}", internet.NETWORK)[:12]
        _ip("netns", "add", self.name)
        # What `ip netns exec` lays over /etc: names come from the test bed's name server alone.
        self._folder.mkdir(parents=True)
        (self._folder / "resolv.conf").write_text(f"nameserver {internet.address(internet.DNS.host)}\n")
        (self._folder / "nsswitch.conf").write_text("hosts: dns\n")
        _ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("-n", self.name, "address", "add", f"{address}/{subnet.rpartition('/')[2]}", "dev", "eth0")
        _ip("-n", self.name, "link", "set", "eth0", "up")
        _ip("link", "set", self.cable, "master", bridge, "up")

    @property
    def command(self) -> list[str]:
        return [_program(), "netns", "exec", self.name]

    def pull(self) -> None:
        """Nothing answers any more, not even with a refusal."""
        _ip("link", "set", self.cable, "down")

    def plug(self) -> None:
        _ip("link", "set", self.cable, "up")

    def remove(self) -> None:
        """Remove it, and what a run that was cut off left of it."""
        for words in (("link", "delete", self.cable), ("netns", "delete", self.name)):
            subprocess.run([_program(), *words], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)


def _program() -> str:
    found = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    assert found, "Each device has a network namespace of its own, for which `ip` is missing: install iproute2."
    return found


def _ip(*words: str) -> None:
    done = subprocess.run([_program(), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        f"Each device has a network namespace of its own, which cannot be made here ({done.stderr.strip()}):"
        " run this as root, with the capabilities NET_ADMIN and SYS_ADMIN."
    )
