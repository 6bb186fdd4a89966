"""What the script that upgrades Matomo makes of interruptions. Docker is a stand-in; molecule has the real one."""

from __future__ import annotations

import gzip
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
    *mariadb-dump*) echo "-- Dump completed" ;;
esac
"""


class Box:
    """A folder of the role, and the commands that the script finds first."""

    def __init__(self, place: Path) -> None:
        self.folder, self.commands = place / "matomo", place / "commands"
        self.html, self.work = self.folder / "data/html", self.folder / "data/upgrade"
        self.database = self.folder / "data/db"
        for folder in (self.commands, self.html / "core", self.html / "config", self.work, self.database):
            folder.mkdir(parents=True)
        (self.html / "core/Version.php").write_text("const MAJOR_VERSION = 5;\nconst VERSION = '5.13.0';\n")
        (self.html / "config/config.ini.php").write_text("precious")
        self.command("docker", DOCKER)

    def command(self, name: str, content: str) -> None:
        path = self.commands / name
        path.write_text(content)
        path.chmod(0o755)

    def half_made_database(self) -> None:
        """What a first start leaves that is killed before there are accounts."""
        for folder, file in (("mysql", "user.frm"), ("sys", "version.frm"), ("matomo", "db.opt")):
            (self.database / folder).mkdir()
            (self.database / folder / file).touch()
        (self.database / "ibdata1").touch()

    def run(self, verb: str, *more: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PATH": f"{self.commands}:{os.environ['PATH']}"}
        # Its own lock: a box of the test bed may hold the usual one.
        program = PROGRAM.replace("/run/matomo.lock", f"{self.folder}/lock")
        command = ["bash", "-c", program, verb, str(self.folder), *more]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    def found(self, *more: str) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.run("look", *more).stdout.splitlines())


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


def test_a_database_that_was_never_ready_starts_anew(box: Box) -> None:
    (box.html / "core/Version.php").write_text("const VERSION = '5.14.0';\n")
    box.half_made_database()
    assert box.found()["empty"] == "yes"

    assert box.run("forward", "matomo:new-fpm", "renew").returncode == 0

    assert list(box.database.iterdir()) == []
    assert (box.html / "config/config.ini.php").read_text() == "precious"


@pytest.mark.parametrize("table", ["matomo/matomo_visit.ibd", "matomo/matomo_visit.frm", "of_somebody/data.MYI"])
def test_a_database_with_a_single_table_is_never_thrown_away(box: Box, table: str) -> None:
    box.half_made_database()
    (box.database / table).parent.mkdir(exist_ok=True)
    (box.database / table).write_text("precious")
    assert "empty" not in box.found()

    done = box.run("forward", "matomo:new-fpm", "renew")

    assert done.returncode == 1
    assert "is not empty: restore it from a backup" in done.stderr
    assert (box.database / table).read_text() == "precious"


def test_a_database_moved_to_another_disk_is_looked_at_through_its_link(box: Box, tmp_path: Path) -> None:
    box.half_made_database()
    (box.database / "matomo").mkdir(exist_ok=True)
    (box.database / "matomo/matomo_visit.ibd").write_text("precious")
    box.database.rename(tmp_path / "other-disk")
    box.database.symlink_to(tmp_path / "other-disk")
    assert "empty" not in box.found()


def test_a_database_that_is_not_there_yet_is_none_to_throw_away(box: Box) -> None:
    assert "empty" not in box.found()


def test_a_program_that_was_never_installed_is_replaced_and_not_upgraded(box: Box) -> None:
    (box.html / "config/config.ini.php").unlink()
    box.half_made_database()

    done = box.run("forward", "matomo:new-fpm", "")

    assert (done.returncode, done.stdout) == (0, "Matomo 5.14.0 is unpacked.\n")


def test_places_that_cannot_be_fetched_are_told_before_anything_changes(box: Box) -> None:
    address = (box.folder / "places.mmdb").as_uri()

    assert box.found(address)["trouble"].startswith(f"{address} cannot be fetched (")

    (box.folder / "places.mmdb").write_text("here")
    assert "trouble" not in box.found(address)


def test_places_that_somebody_removed_are_fetched_again(box: Box) -> None:
    (box.work / "places").write_text("https://example.org/places.mmdb")
    assert box.found()["places"] == "lost"

    (box.html / "misc").mkdir()
    (box.html / "misc/DBIP-City.mmdb").touch()
    assert box.found()["places"] == "https://example.org/places.mmdb"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("places.mmdb", b"<html>moved</html>", "is no database of places"),
        ("places.mmdb.gz", b"<html>moved</html>", "is not packed with gzip"),
        ("places.mmdb.gz", gzip.compress(b"something else"), "is no database of places"),
    ],
)
def test_what_is_no_database_of_places_takes_the_place_of_none(
    box: Box, name: str, content: bytes, reason: str
) -> None:
    (box.folder / name).write_bytes(content)
    box.command("docker", f"#!/bin/sh\ntouch {box.folder}/asked\n")

    done = box.run("places", (box.folder / name).as_uri())

    assert done.returncode == 1
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (box.folder / "asked").exists()
    assert list(box.work.iterdir()) == []


def test_a_full_disk_keeps_the_former_places(box: Box) -> None:
    (box.folder / "places.mmdb").write_text("MaxMind.com")
    (box.work / "places").write_text("former")
    box.command("docker", "#!/bin/sh\nexit 1\n")

    done = box.run("places", (box.folder / "places.mmdb").as_uri())

    assert "does not fit on the disk" in done.stderr
    assert [(file.name, file.read_text()) for file in box.work.iterdir()] == [("places", "former")]


@pytest.mark.parametrize("step", ["mariadb-dump", "--entrypoint cp", "/new/config"])
def test_an_upgrade_that_finds_no_room_changes_nothing_and_leaves_nothing(box: Box, step: str) -> None:
    box.command("docker", f'#!/bin/sh\ncase "$*" in *"{step}"*) echo half; exit 1 ;; esac\n' + DOCKER)

    done = box.run("forward", "matomo:new-fpm", "")

    assert (done.returncode, done.stderr.splitlines()[1:]) == (1, [])
    assert "make room on the disk; nothing was changed." in done.stderr
    assert (box.html / "config/config.ini.php").read_text() == "precious"
    assert [file.name for file in box.html.parent.iterdir() if file.name.startswith("html")] == ["html"]
    assert [file.name for file in box.work.iterdir() if file.name.endswith(".new")] == []
