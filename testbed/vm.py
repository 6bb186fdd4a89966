"""The throwaway VPS as a real machine: own kernel, swap, reboot, cgroup v2; under an emulator, some ten times slower.

It stands where the container VPS of the same name would: same network, address, files below .cache/testbed/NAME.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path

from testbed import images, internet, vps
from testbed.__main__ import STATE
from testbed.docker import TestbedError, docker, ensure_engine, say, succeeds
from testbed.vps import Vps

MEMORY_MB = 1024
# An idle machine takes 45 s; one that tests on all its cores, minutes.
BOOT_SECONDS = 900
EMULATOR = "tcg,thread=multi"


class Vm(Vps):
    """A VPS whose container holds an emulated machine instead of being one."""

    @property
    def container(self) -> str:
        return f"{images.PREFIX}-vm-{self.name}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="testbed.vm", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb_up = verbs.add_parser("up", help="boot a throwaway virtual machine and everything it needs")
    verb_up.add_argument("name", help="name of the machine; its domain is NAME.test")
    verb_up.add_argument("--host-vars", type=Path, help="also write Ansible's host variables to this file")
    verb_up.add_argument("--fresh", action="store_true", help="remove a machine of that name first")
    verb_down = verbs.add_parser("down", help="remove a throwaway virtual machine with its disk")
    verb_down.add_argument("name")
    arguments = parser.parse_args()
    machine = Vm(arguments.name, STATE / arguments.name)
    try:
        if arguments.verb == "down" or arguments.fresh:
            vps.down(machine)
        if arguments.verb == "up":
            up(machine, host_vars=arguments.host_vars)
    except TestbedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1
    return 0


def up(machine: Vm, *, host_vars: Path | None = None) -> None:
    """Switch the machine on unless it runs, wait until it is reachable by SSH, and write its files."""
    if platform.machine() != "x86_64":
        raise TestbedError(f"the virtual machine is made for x86_64, and this machine is {platform.machine()}.")
    if not Path("/dev/net/tun").exists():
        raise TestbedError("/dev/net/tun is missing, which the virtual machine's network needs: load the module tun.")
    ensure_engine(STATE)
    upstream = images.registry_reachable()
    if not upstream:
        images.build_debian()
    internet.up(mirror=not upstream)
    if not succeeds("docker", "container", "inspect", machine.container):
        _make(machine, upstream=upstream)
    elif not vps.running(machine):
        say(f"switching {machine.name} on again")
        docker("start", machine.container)
    _await(machine)
    vps.write_host_vars(machine, mirror=not upstream)
    if host_vars:
        host_vars.parent.mkdir(parents=True, exist_ok=True)
        host_vars.write_text((machine.folder / "host_vars.yml").read_text())
    say(f"{machine.name} is up: ssh -F {machine.folder / 'ssh_config'} {machine.name}")


def _make(machine: Vm, *, upstream: bool) -> None:
    base = images.build("vps", base=images.UBUNTU_UPSTREAM if upstream else images.DEBIAN)
    image = images.build("vm", base=base)
    # Not by itself: /dev/kvm may be there and yet hang the guest, as in a cloud machine that is virtual itself.
    accelerator = "kvm" if os.environ.get("TESTBED_KVM") else EMULATOR
    say(f"booting {machine.name}: {MEMORY_MB} MB of memory, {image}, {accelerator}")
    vps.make_key(machine)
    devices = ["--device", "/dev/net/tun", *(["--device", "/dev/kvm"] if accelerator == "kvm" else [])]
    settings = {
        "AUTHORIZED_KEY": machine.key.with_suffix(".pub").read_text().strip(),
        "NAME_SERVER": internet.address(internet.DNS.host),
        "MEMORY": str(MEMORY_MB),
        "ACCELERATOR": accelerator,
    }
    environment = [word for key, value in settings.items() for word in ("-e", f"{key}={value}")]
    label = ["--label", "servers.testbed.vps=" + machine.name, "--name", machine.container, "--hostname", machine.name]
    place = ["--network", internet.NETWORK, "--ip", vps.free_address()]
    docker("run", "-d", *label, *place, "--cap-add", "NET_ADMIN", *devices, *environment, image)


def _await(machine: Vm) -> None:
    vps.wait_for_ssh(machine, seconds=BOOT_SECONDS)
    # Written by testbed-boot before the machine's first start.
    vps.write_ssh_config(machine, docker("exec", machine.container, "cat", "/vm/ssh_host_ed25519_key.pub"))
    internet.name_host(machine.domain, vps.address(machine))


if __name__ == "__main__":
    sys.exit(main())
