"""The commands of README.md and docs/curl.md, run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_process.server import PASSWORD, RunningServer

ROOT = Path(__file__).parents[2]


def _blocks(file: str) -> list[str]:
    text = (ROOT / file).read_text(encoding="utf-8")
    return [re.sub(r"(?m)^ {3,4}", "", block) for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]


def _bash(script: str, folder: Path, port: int) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("127.0.0.1:8080", f"127.0.0.1:{port}")],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, script + done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningServer]:
    server = RunningServer(tmp_path / "data", {"free_space_floor": "0"})
    server.add_user("alice")
    server.start()
    yield server
    server.stop()


def test_a_new_user_stores_and_restores_a_file_as_the_readme_says(tmp_path: Path) -> None:
    install, begin, use = _blocks("README.md")
    assert "pip install ./sync_server" in install
    assert PASSWORD in begin
    began = time.monotonic()
    server = RunningServer(tmp_path / "data", {"free_space_floor": "0"})
    made = begin.splitlines()[0]
    _bash(f"export SYNC_SERVER_DATA_DIR={server.data}\n{made}", tmp_path, 0)
    assert begin.splitlines()[1] == "sync-server serve &"
    server.start()
    try:
        assert _bash(use, tmp_path, server.port).endswith("hello\n")
    finally:
        server.stop()
    assert time.monotonic() - began < 60


def test_the_ten_lines_of_curl_work_one_after_the_other(own: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("first")
    (tmp_path / "newer.txt").write_text("second")
    (tmp_path / "big.bin").write_bytes(os.urandom(3_000_000))
    first, *lines, upload = _blocks("docs/curl.md")
    assert len(lines) == 10
    stored, _, replaced, versions, restored, moved, listed, deleted, changed, app_password = lines

    def run(script: str) -> str:
        return _bash(first + script, tmp_path, own.port)

    run(stored)
    run(lines[1])
    assert (tmp_path / "copy.txt").read_text() == "first"
    run(replaced)
    found = json.loads(run(versions))["versions"]
    assert [version["size"] for version in found] == [6, 5]
    run(restored.replace("REVISION", str(found[1]["revision"])))
    run(lines[1])
    assert (tmp_path / "copy.txt").read_text() == "first"
    run(moved)
    assert [entry["name"] for entry in json.loads(run(listed))["entries"]] == ["2026", "first.txt"]
    delete, restore = deleted.split("&&")
    node = re.search(r"x-node: (\w+)", run(delete))
    assert node
    cursor = json.loads(run('curl -sf -H "$AUTH" $URL/snapshot?limit=1'))["cursor"]
    run(restore.replace("NODE", node[1]))
    changes = json.loads(run(changed.replace("CURSOR", cursor)))["changes"]
    assert [change["op"] for change in changes] == ["restore"]
    password = json.loads(run(app_password))["password"]
    with_password = f"curl -sf -u alice:{password} $URL/files/letters/first.txt"
    assert run(with_password) == "first"
    run(upload)
    run('curl -sf -H "$AUTH" $URL/files/big.bin | cmp - big.bin')


def test_every_setting_and_command_the_readme_names_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    settings = subprocess.run(
        [sys.executable, "-m", "sync_server", "serve", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for name in re.findall(r"`(data_dir|host|port|trusted_proxies|public_url|default_quota|keep_versions|trash_days"
                           r"|free_space_floor|drain_seconds)`", text):  # fmt: skip
        assert f"--{name.replace('_', '-')}" in settings
    for command in re.findall(r"`sync-server (check|repair|backup|gc|serve|version|openapi)\b", text):
        done = subprocess.run(
            [sys.executable, "-m", "sync_server", command, "--help"], capture_output=True, check=False
        )
        assert done.returncode == 0, command
