"""Wrong input stops the whole play with one sentence, before the box is even spoken to."""

from __future__ import annotations

import json
import os
import re
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


WRONG: list[tuple[dict[str, Any], str]] = [
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
]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one run of site.yml says to each wrong value, and to none (`good`): each is a host of its own."""
    values = {str(number): GOOD | wrong for number, (wrong, _) in enumerate(WRONG)} | {"good": GOOD}
    hosts = {name: {key: value for key, value in given.items() if value is not None} for name, given in values.items()}
    inventory = tmp_path_factory.mktemp("play") / "hosts.json"
    inventory.write_text(json.dumps({"servers": {"hosts": hosts}}))
    command = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(inventory), "site.yml"]
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "COLUMNS": "400", "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240
    )
    told, _, recap = done.stdout.partition("PLAY RECAP")
    parts = re.split(r"^(?:\[ERROR\]|fatal: \[(\w+)\]|TASK |ok: |skipping: )", told, flags=re.MULTILINE)
    found = {name: " ".join(text.split()) for name, text in zip(parts[1::2], parts[2::2], strict=True) if name}
    for name in hosts:
        assert re.search(rf"^{name} .* changed=0 .* failed=1 ", recap, re.MULTILINE), done.stdout
    return found


@pytest.mark.parametrize(
    ("case", "sentence"),
    [(str(number), sentence) for number, (_, sentence) in enumerate(WRONG)],
    ids=[f"{next(iter(wrong))}-{sentence}" for wrong, sentence in WRONG],
)
def test_a_wrong_value_is_named_with_its_remedy_before_the_box_is_spoken_to(
    said: dict[str, str], case: str, sentence: str
) -> None:
    assert sentence in said[case]
    assert "does not answer by SSH" not in said[case]


def test_a_mistake_in_the_arguments_is_told_without_the_whole_specification(said: dict[str, str]) -> None:
    assert all(len(text) < 1000 for text in said.values())


def test_a_box_that_does_not_answer_is_named_with_what_to_check(said: dict[str, str]) -> None:
    assert "good does not answer by SSH" in said["good"]
    assert "check ansible_host, ansible_user and" in said["good"]
