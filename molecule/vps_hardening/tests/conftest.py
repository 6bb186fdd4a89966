"""What the tests of hardening need: logging in with odd options, running the role again, a stranger on the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hardened_box import BOX, INVENTORY, PROJECT, Run, wait_until
from testinfra.host import Host

IMAGE = "servers-testbed/vps:latest"
# The start of the stranger's name lets the test bed's own clean-up find it.
STRANGER = "servers-testbed-stranger"
SUITE = {
    "debian-12": "Hardened Debian 12 (version 3)",
    "debian-13": "Hardened Debian 13 (version 1)",
    "ubuntu-24.04": "Hardened Ubuntu Server 24.04 LTS (version 2)",
}


@pytest.fixture(scope="session")
def login(shell: Run) -> Run:
    """Log in to the box as a fresh connection, with further options of ssh; `remote` is the command there."""

    def attempt(*options: str, user: str = "ubuntu", remote: str = "true") -> subprocess.CompletedProcess[str]:
        values = json.loads((INVENTORY / "host_vars" / "vps.yml").read_text().removeprefix("---"))
        return shell(
            *("ssh", "-F", "none", "-i", values["ansible_ssh_private_key_file"], "-o", "BatchMode=yes"),
            *("-o", "ControlPath=none", "-o", "ConnectTimeout=5", *values["ansible_ssh_common_args"].split()),
            *(*options, f"{user}@{values['ansible_host']}", remote),
        )

    return attempt


@pytest.fixture(scope="session")
def play() -> Run:
    """Run the role again, with variables of this run only."""

    def run(**variables: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(INVENTORY)),
                *(str(PROJECT / "molecule" / "shared" / "converge.yml"), "-e", json.dumps(variables)),
            ],
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "MOLECULE_SCENARIO_NAME": "vps_hardening",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def system(host: Host) -> str:
    """Release of the box, such as debian-13."""
    return str(host.check_output(". /etc/os-release && echo $ID-$VERSION_ID"))


@pytest.fixture(scope="module")
def ssh_policy(system: str) -> str:
    return SUITE[system]


@pytest.fixture(scope="module")
def stranger(shell: Run) -> Iterator[Run]:
    """Another machine on the network of the box, to attack from: what befalls it does not befall the tests."""
    shell("docker", "rm", "-f", STRANGER)
    started = shell(
        *("docker", "run", "-d", "--name", STRANGER, "--network", "servers-testbed", "--entrypoint", "sleep"),
        *(IMAGE, "900"),
    )
    assert started.returncode == 0, started.stderr
    yield lambda line: shell("docker", "exec", STRANGER, "bash", "-c", line)
    shell("docker", "rm", "-f", STRANGER)


@pytest.fixture(scope="session")
def console(shell: Run) -> Callable[[str], str]:
    """Run a shell line as root on what a provider calls the console: it works when SSH does not."""

    def run(line: str) -> str:
        done = shell("docker", "exec", BOX, "bash", "-c", line)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def restart_box(shell: Run, login: Run) -> Callable[[], None]:
    """Pull the plug and put it back: what a power cut leaves on the disk is what boots."""

    def restart() -> None:
        assert shell("docker", "kill", "--signal", "KILL", BOX).returncode == 0
        assert shell("docker", "start", BOX).returncode == 0
        wait_until(lambda: login().returncode == 0, seconds=60)

    return restart
