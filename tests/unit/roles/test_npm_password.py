"""Where the administrator's password is kept when the user gives none."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def playbook(tmp_path: Path) -> Path:
    playbook = tmp_path / "plays/play.json"
    playbook.parent.mkdir()
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars": {"ansible_connection": "local"},
        "vars_files": [str(ROOT / "roles/npm/defaults/main.yml")],
        "tasks": [{"ansible.builtin.debug": {"msg": "{{ npm_admin_password | length }} characters"}}],
    }
    playbook.write_text(json.dumps([play]))
    return playbook


def run(playbook: Path, inventory: str) -> str:
    command = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", inventory, str(playbook)]
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(
        command, cwd=playbook.parents[1], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def passwords(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("npm_admin_password")}


def test_every_host_of_an_inventory_has_a_password_of_its_own_beside_it(playbook: Path, tmp_path: Path) -> None:
    inventory = tmp_path / "inventory/hosts.yml"
    inventory.parent.mkdir()
    inventory.write_text("servers: {hosts: {a: , b: }}\n")

    run(playbook, str(inventory))

    found = passwords(tmp_path)
    assert set(found) == {f"inventory/.secrets/{host}/npm_admin_password" for host in "ab"}
    assert len(set(found.values())) == 2
    run(playbook, str(inventory))
    assert passwords(tmp_path) == found


def test_without_an_inventory_it_is_kept_beside_the_playbook(playbook: Path, tmp_path: Path) -> None:
    run(playbook, "a,")

    assert set(passwords(tmp_path)) == {"plays/.secrets/a/npm_admin_password"}
