"""What the script that upgrades Matomo makes of interruptions. Docker is a stand-in; molecule has the real one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = (Path(__file__).parents[3] / "roles/matomo/files/program.sh").read_text()

# Says what an engine would say whose containers are of the new images already.
DOCKER = """#!/bin/sh
case "$*" in
    *"inspect --format {{.Config.Image}} matomo-db") echo mariadb:new ;;
    *"inspect --format {{.Config.Image}} matomo") echo matomo:new-fpm ;;
    *Version.php) echo "const VERSION = '5.14.0';" ;;
esac
"""


class Box:
    """A folder of the role, and the commands that the script finds first."""

    def __init__(self, place: Path) -> None:
        self.folder, self.commands = place / "matomo", place / "commands"
        self.html, self.work = self.folder / "data/html", self.folder / "data/upgrade"
        for folder in (self.commands, self.html / "core", self.html / "config", self.work):
            folder.mkdir(parents=True)
        (self.html / "core/Version.php").write_text("const MAJOR_VERSION = 5;\nconst VERSION = '5.13.0';\n")
        (self.html / "config/config.ini.php").write_text("precious")
        self.command("docker", DOCKER)

    def command(self, name: str, content: str) -> None:
        path = self.commands / name
        path.write_text(content)
        path.chmod(0o755)

    def run(self, verb: str, *more: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PATH": f"{self.commands}:{os.environ['PATH']}"}
        # Its own lock: a box of the test bed may hold the usual one.
        program = PROGRAM.replace("/run/matomo.lock", f"{self.folder}/lock")
        command = ["bash", "-c", program, verb, str(self.folder), *more]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    def found(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.run("look").stdout.splitlines())


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_an_upgrade_whose_end_is_cut_off_is_not_taken_back(box: Box) -> None:
    (box.folder / "data/html.old").mkdir()
    (box.work / "unfinished").write_text("matomo:old-fpm\nmariadb:old\n")
    (box.work / "migrating").touch()
    box.command("rm", '#!/bin/sh\ncase "$*" in *html.old*) exit 1 ;; esac\nexec /bin/rm "$@"\n')

    assert box.run("finish").returncode != 0

    assert "unfinished" not in box.found()


def test_a_cut_off_upgrade_is_known_by_what_ran_before(box: Box) -> None:
    (box.work / "unfinished").write_text("matomo:old-fpm\nmariadb:old\n")

    found = box.found()

    assert (found["image"], found["database_image"]) == ("matomo:old-fpm", "mariadb:old")
    assert (found["version"], found["unfinished"]) == ("5.13.0", "yes")


def test_a_box_at_rest_is_known_by_what_runs(box: Box) -> None:
    assert (box.found()["image"], box.found()["database_image"]) == ("matomo:new-fpm", "mariadb:new")


def test_after_a_step_back_the_next_run_looks_at_the_program_again(box: Box) -> None:
    (box.work / "image").write_text("matomo:new-fpm\n")
    (box.work / "unfinished").write_text("matomo:old-fpm\nmariadb:old\n")
    (box.folder / "data/html.old/core").mkdir(parents=True)

    assert box.run("back").returncode == 0

    assert "unpacked" not in box.found()
    assert "unfinished" not in box.found()
    assert not (box.folder / "data/html.old").exists()


def test_a_configuration_without_its_program_is_not_thrown_away(box: Box) -> None:
    (box.html / "core/Version.php").unlink()

    done = box.run("forward", "matomo:new-fpm", "")

    assert done.returncode == 1
    assert "has a configuration and no program" in done.stderr
    assert (box.html / "config/config.ini.php").read_text() == "precious"
