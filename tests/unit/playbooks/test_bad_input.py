"""Wrong input stops the whole play with one sentence, before the box is even spoken to."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SSH = {"port": 22, "name": "ssh", "service": "host"}

GOOD: dict[str, Any] = {
    # Kept free for documentation (RFC 5737): nothing answers there, so a play that gets this far cannot pass.
    "ansible_host": "192.0.2.1",
    "ansible_ssh_common_args": "-o ConnectTimeout=1 -o ConnectionAttempts=1",
    "ansible_ssh_retries": 0,
    "servers_domain": "example.org",
    "servers_admin_email": "admin@example.org",
    "servers_public_ip": "192.0.2.1",
}


def play(tmp_path: Path, **wrong: Any) -> str:
    """Run site.yml with good values and these wrong ones, and return what it printed."""
    values = {name: value for name, value in (GOOD | wrong).items() if value is not None}
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"servers": {"hosts": {"vps": values}}}))
    command = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(inventory), "site.yml"]
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "COLUMNS": "400", "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    assert done.returncode != 0, done.stdout
    assert "changed=0" in done.stdout, done.stdout
    return " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"servers_domain": "localhost"}, 'servers_domain is "localhost", which is no full domain name'),
        ({"servers_domain": "-bad.example"}, "which is no full domain name"),
        ({"servers_domain": None}, "missing required arguments: servers_domain"),
        ({"servers_admin_email": "admin"}, 'servers_admin_email is "admin", which is no mail address'),
        ({"servers_public_ip": "10.0.0.256"}, 'servers_public_ip is "10.0.0.256", which is no IPv4 address'),
        ({"servers_root": "/opt"}, 'servers_root is "/opt": give a folder of its own'),
        ({"servers_services": ["npm", "gopher"]}, "Got no match for: gopher"),
        ({"servers_ports": [SSH, {"port": 70000, "name": "x", "service": "npm"}]}, "70000, which is no port"),
        ({"servers_ports": [SSH, {"port": 81, "name": "x", "service": "npm"}]}, "opens 81, which is never public"),
        ({"servers_ports": [SSH, SSH]}, "has port 22 twice"),
        ({"servers_ports": [SSH, {"port": 70, "name": "x", "service": "gopher"}]}, "unknown service gopher"),
        ({"ansible_port": 2222}, "ansible_port is 2222, which no row of servers_ports keeps open"),
        ({"servers_services": "npm"}, "servers_services is a text, not a list"),
        ({"servers_services": ["npm", "npm"]}, "servers_services names a service twice"),
        ({"servers_timezone": "../../etc/passwd"}, "which is no time zone"),
        ({"npm_memory_limit": "lots"}, "npm_memory_limit"),
        ({"npm_purge_data": "false"}, "npm_purge_data is a text, not true or false"),
        ({"servers_domian": "example.org"}, "servers_domian is no site-wide variable"),
        ({"npm_proxy_hosts": [{"domain_names": ["a_b"], "forward_host": "x", "forward_port": 1}]}, "npm_proxy_hosts"),
        ({"npm_proxy_hosts": [{"domain_names": ["a.example.org"]}]}, "forward_host"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_wrong_value_is_named_with_its_remedy_before_the_box_is_spoken_to(
    tmp_path: Path, wrong: dict[str, Any], sentence: str
) -> None:
    output = play(tmp_path, **wrong)
    assert sentence in output
    assert "does not answer by SSH" not in output


def test_a_mistake_in_the_arguments_is_told_without_the_whole_specification(tmp_path: Path) -> None:
    output = play(tmp_path, servers_services=["gopher"])
    assert len(output) < 2000


def test_a_box_that_does_not_answer_is_named_with_what_to_check(tmp_path: Path) -> None:
    output = play(tmp_path)
    assert "vps does not answer by SSH" in output
    assert "check ansible_host, ansible_user and" in output
