"""What the tests of the engine and of its services share."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[3]
IMAGE = "busybox:1.37.0"

OnBox = Callable[[str], str]


@dataclass(frozen=True)
class Play:
    """How a play ended, as its last line counts it."""

    output: str
    ok: int
    changed: int
    failed: int


@pytest.fixture(scope="session")
def play() -> Callable[..., Play]:
    """Run a playbook (the two services of service.yml, unless told otherwise) with these variables."""

    def run(*arguments: str, playbook: str = "molecule/docker_engine/service.yml", **variables: Any) -> Play:
        inventory = PROJECT / ".cache/molecule/docker_engine"
        command = [str(PROJECT / ".venv/bin/ansible-playbook"), "-i", str(inventory), playbook]
        settings = {
            "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
            "ANSIBLE_FORCE_COLOR": "0",
            "MOLECULE_SCENARIO_NAME": "docker_engine",
        }
        done = subprocess.run(
            [*command, "-e", json.dumps(variables), *arguments],
            cwd=PROJECT,
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        recap = re.search(r"ok=(\d+) +changed=(\d+) .*failed=(\d+)", done.stdout)
        assert recap, done.stdout
        return Play(done.stdout, *map(int, recap.groups()))

    return run


@pytest.fixture(scope="module")
def inspect(on_box: OnBox) -> Callable[[str], dict[str, Any]]:
    """Return what Docker knows of a container."""

    def look(container: str) -> dict[str, Any]:
        found = json.loads(on_box(f"docker inspect {container}"))[0]
        assert isinstance(found, dict)
        return found

    return look


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], bool], float], bool]:
    """Poll until something holds, at most so many seconds; tell whether it did."""

    def wait(what: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.3)
        return True

    return wait


@pytest.fixture(scope="session")
def cut_power() -> Callable[[], None]:
    """Let the box die without a chance to tidy up, and boot it again."""

    def cut() -> None:
        subprocess.run(["docker", "kill", "servers-testbed-vps-docker-engine"], check=True, timeout=60)
        boot = [str(PROJECT / ".venv/bin/python"), "-m", "testbed", "up", "docker-engine"]
        subprocess.run(boot, cwd=PROJECT, check=True, timeout=300)

    return cut
