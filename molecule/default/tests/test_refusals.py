"""What only a look at the box can tell is told before the first change, in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]

HOST = {"domain_names": ["nowhere.invalid"], "forward_host": "web", "forward_port": 80}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"servers_memory_reserve": 100_000}, "lower"),
        ({"npm_admin_password": "not the one it was set up with"}, "npm_admin_password"),
        ({"npm_proxy_hosts": [HOST]}, "nowhere.invalid, which the DNS does not know: publish an A record to"),
        ({"_servers_supported": ["Plan 9"]}, "which is not supported: reinstall it with Ubuntu 24.04"),
        ({"_servers_disk_needed": 10**9}, "MB of disk free below servers_root and needs"),
        ({"_servers_clock_tolerance": -1}, "set it (sudo timedatectl set-ntp true)"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_the_play_stops_before_any_change(inventory: Path, wrong: dict[str, Any], sentence: str) -> None:
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), "site.yml"]
    # A controller in another time zone must find the box's clock right all the same.
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "TZ": "Asia/Kolkata"}
    done = subprocess.run(
        [*command, "-e", json.dumps(wrong)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    output = " ".join(done.stdout.split())
    assert done.returncode != 0, output
    assert "changed=0" in output
    assert sentence in output
