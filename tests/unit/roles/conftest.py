"""Runs the input checks of a role alone, as role `servers` runs them before anything changes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def said(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the ROLE of a test module says to each of its cases, BAD and FINE, which differ from GOOD as they say.

    One play for all of them, each on a host of its own.
    """
    tests = request.module
    folder = tmp_path_factory.mktemp("play")
    role = ROOT / "roles" / tests.ROLE
    given = {
        **yaml.safe_load((role / "defaults/main.yml").read_text()),
        "role_path": str(role),
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    }
    cases = {name: values for name, (values, _) in tests.BAD.items()} | tests.FINE
    names = {name: f"case{number}" for number, name in enumerate(cases)}
    hosts = {names[name]: {**given, **tests.GOOD, **values} for name, values in cases.items()}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    collect = "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'said'))) | to_json }}"
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "vars_files": [str(role / "vars/main.yml")],
            "tasks": [
                {"ansible.builtin.set_fact": {"said": ""}},
                {
                    "block": [{"ansible.builtin.include_tasks": str(role / "tasks/validate.yml")}],
                    "rescue": [{"ansible.builtin.set_fact": {"said": "{{ ansible_failed_result.msg }}"}}],
                },
                {
                    "ansible.builtin.copy": {"content": collect, "dest": str(folder / "said.json"), "mode": "0600"},
                    "run_once": True,
                },
            ],
        }
    ]
    (folder / "play.json").write_text(json.dumps(play))
    command = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(folder / "hosts.json"), str(folder / "play.json")]
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((folder / "said.json").read_text())
    return {name: found[place] for name, place in names.items()}
