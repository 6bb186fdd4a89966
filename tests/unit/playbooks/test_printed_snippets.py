"""The lines for the pages, shown on request from what the last run wrote on this machine; no box is asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]


def show(inventory: Path) -> subprocess.CompletedProcess[str]:
    command = [
        str(ROOT / ".venv/bin/ansible-playbook"),
        "-i",
        str(inventory),
        str(ROOT / "playbooks/matomo_snippets.yml"),
    ]
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def inventory(folder: Path) -> Path:
    path = folder / "hosts.yml"
    path.write_text("servers: {hosts: {vps: {ansible_host: 192.0.2.1}}}\n")
    return path


def test_each_file_is_shown(tmp_path: Path) -> None:
    lines = tmp_path / ".matomo-snippets/vps"
    lines.mkdir(parents=True)
    (lines / "home.html").write_text("<script>home</script>\n")
    (lines / "home.gtm.html").write_text("<script>tag</script>\n")

    done = show(inventory(tmp_path))

    assert done.returncode == 0, done.stdout
    assert "<script>home</script>" in done.stdout
    assert "<script>tag</script>" in done.stdout


def test_where_there_are_none_it_says_how_to_get_them(tmp_path: Path) -> None:
    done = show(inventory(tmp_path))

    assert done.returncode != 0
    assert "has no lines for any site: run site.yml with matomo in servers_services first" in " ".join(
        done.stdout.split()
    )
