"""The way back after a failed upgrade of the sync server: it runs as root, in a folder that is the server's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/syncserver/files/back.sh"
COPY = "before-0002-20260102-030405-000000.sqlite3"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What a server leaves that has migrated its database and did not stay up."""
    folder = tmp_path / "service/data"
    (folder / "backups").mkdir(parents=True)
    (folder / "db.sqlite3").write_text("new")
    (folder / "db.sqlite3-wal").write_text("newest")
    (folder / "backups" / COPY).write_text("old")
    return folder


def back(data: Path, *known: str, broken: str = "") -> subprocess.CompletedProcess[str]:
    commands = data.parent / "commands"
    commands.mkdir()
    # There is no container to stop here.
    for name, code in {"docker": 0, **({broken: 1} if broken else {})}.items():
        (commands / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (commands / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}"}
    command = ["sh", "-c", PROGRAM.read_text(), "back.sh", str(data.parent), *known]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_copy_is_put_back_and_the_newer_database_kept(data: Path) -> None:
    done = back(data)

    assert done.returncode == 0, done.stderr
    assert (data / "db.sqlite3").read_text() == "old"
    assert not (data / "db.sqlite3-wal").exists()
    (kept,) = data.glob("backups/after-failed-upgrade-*")
    assert {file.name: file.read_text() for file in kept.iterdir()} == {"db.sqlite3": "new", "db.sqlite3-wal": "newest"}
    assert str(kept) in done.stdout


def test_a_copy_of_an_earlier_upgrade_is_left_alone(data: Path) -> None:
    done = back(data, COPY)

    assert (done.returncode, done.stdout) == (0, "")
    assert (data / "db.sqlite3").read_text() == "new"


@pytest.mark.parametrize("place", ["cp", "ln", "rm", "mv"])
def test_where_it_is_cut_off_there_is_a_database_nevertheless(data: Path, place: str) -> None:
    assert back(data, broken=place).returncode != 0

    assert (data / "db.sqlite3").read_text() == "new"


def test_links_are_not_followed(data: Path, tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("of the box")
    (data / "db.sqlite3.new").symlink_to(tmp_path / "shadow")
    (data / "backups/before-0001-link.sqlite3").symlink_to(tmp_path / "shadow")

    assert back(data).returncode == 0

    assert (tmp_path / "shadow").read_text() == "of the box"
    assert (data / "db.sqlite3").read_text() == "old"


def test_a_folder_of_copies_that_is_a_link_is_refused(data: Path, tmp_path: Path) -> None:
    (data / "backups").rename(tmp_path / "elsewhere")
    (data / "backups").symlink_to(tmp_path / "elsewhere")

    done = back(data)

    assert done.returncode == 1
    assert "backups is a link: nothing was put back" in done.stderr
