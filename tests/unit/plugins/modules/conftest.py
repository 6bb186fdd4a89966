from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def run_module(tmp_path: Path) -> RunModule:
    """Run a module of this collection as a task of a play on this machine, and return what the task returns."""

    def run_module(name: str, arguments: dict[str, Any], *, check: bool = False) -> dict[str, Any]:
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [{f"diegonmarcos.servers.{name}": arguments}],
        }
        playbook = tmp_path / "playbook.json"
        playbook.write_text(json.dumps([play]))
        command = [
            sys.executable,
            "-m",
            "ansible",
            "playbook",
            "--inventory=localhost,",
            "--connection=local",
            "--diff",
            f"--extra-vars=ansible_python_interpreter={sys.executable}",
            *(["--check"] if check else []),
            str(playbook),
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            # Newer versions of Ansible return the invocation only when asked to.
            env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_INJECT_INVOCATION": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.startswith("{"), done.stdout + done.stderr
        result: dict[str, Any] = json.loads(done.stdout)["plays"][0]["tasks"][0]["hosts"]["localhost"]
        return result

    return run_module
