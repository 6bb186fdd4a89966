"""The role's own tasks on a running instance: what they say, and when they do not ask at all."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import EMAIL, PASSWORD, Instance

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/npm"
NAME = "role.npmmod.test"
LIST_PASSWORD = "tulips and hyacinths"
NEW_PASSWORD = "yet another long password"

Play = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate with its key, as a user would give them."""
    folder = tmp_path_factory.mktemp("key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=own", "-keyout", str(folder / "key"), "-out", str(folder / "pem")]
    subprocess.run(command, check=True, capture_output=True)
    return {"certificate": (folder / "pem").read_text(), "certificate_key": (folder / "key").read_text()}


@pytest.fixture(scope="module")
def play(fresh: Instance, key: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Play:
    folder = tmp_path_factory.mktemp("play")
    (folder / "data").symlink_to(fresh.data)
    # As in site.yml, where the look at the box before the first change belongs to whichever role comes first.
    steps = {"preflight": ["always"], "setup": ["npm"], "sites": ["npm"]}
    tasks = [
        {
            "ansible.builtin.include_tasks": {"file": str(ROLE / f"tasks/{step}.yml"), "apply": {"tags": tags}},
            "tags": tags,
        }
        for step, tags in steps.items()
    ]
    files = [str(ROLE / f"{kind}/main.yml") for kind in ("defaults", "vars")]
    (folder / "play.json").write_text(
        json.dumps([{"hosts": "all", "gather_facts": False, "vars_files": files, "tasks": tasks}])
    )
    given = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "_npm_url": fresh.url,
        "_npm_folder": str(folder),
        "npm_state": "present",
        "npm_admin_email": EMAIL,
        "npm_admin_password": PASSWORD,
        "npm_access_lists": [{"name": "admins", "users": [{"username": "ana", "password": LIST_PASSWORD}]}],
        "npm_certificates": [{"provider": "custom", "name": "own", **key}],
        "npm_proxy_hosts": [
            {"domain_names": [NAME], "forward_host": "127.0.0.1", "forward_port": 81, "access_list": "admins"}
        ],
    }

    def run(*options: str, **values: Any) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", "box,", *options]
        command += ["-e", json.dumps({**given, **values}), str(folder / "play.json")]
        environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return run


def test_no_secret_is_said_however_loud_the_play(play: Play, fresh: Instance, key: dict[str, str]) -> None:
    loud = ("-vvv", "--diff")
    change = {"npm_admin_password": NEW_PASSWORD, "npm_admin_password_old": PASSWORD}
    other_list = [{"name": "admins", "users": [{"username": "ana", "password": LIST_PASSWORD + "!"}]}]
    runs = [
        play(*loud),
        play(*loud, npm_access_lists=other_list),
        play(*loud, npm_admin_password="not the right one"),
        play(*loud, "--check", **change),
    ]
    assert [run.returncode for run in runs] == [0, 0, 2, 0], "\n".join(run.stdout[-3000:] for run in runs)
    said = "".join(run.stdout + run.stderr for run in runs)

    gate = re.search(r"npm_gate=([\w-]+);", fresh.row(NAME)["advanced_config"])
    assert gate
    secrets = [PASSWORD, NEW_PASSWORD, LIST_PASSWORD, "not the right one", gate.group(1)]
    secrets += key["certificate_key"].splitlines()[1:2]
    assert "npm_access_list" in said
    assert NAME in said
    tokens = re.findall(r"eyJ[\w-]{10,}\.", said)
    assert [secret for secret in secrets if secret in said] + tokens == []


@pytest.mark.usefixtures("npm")
def test_a_lost_password_blocks_no_run_that_leaves_npm_alone(play: Play) -> None:
    lost = {"npm_admin_password": "not the right one"}

    for spared in ("--tags=vps_hardening", "--skip-tags=npm"):
        assert play(spared, **lost).returncode == 0
    for concerned in ("--tags=all", "--tags=npm", "--tags=vps_hardening,npm"):
        done = play(concerned, **lost)
        assert done.returncode != 0
        assert "refuses npm_admin_password" in " ".join(done.stdout.split())
