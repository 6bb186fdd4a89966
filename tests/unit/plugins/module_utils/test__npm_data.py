"""Reading what the container may write, as root and without being led astray."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_access_list import read_htpasswd
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import NpmError
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_certificate import certbot_problems

REPORT = (
    "reported these problems:\n  Domain: a.example.org\n  Type:   dns\n  Detail: "
    "not for everybody's eyes\n\nHint: none\n"
)
PLACES = ("access/1", "logs/letsencrypt.log")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    for place in PLACES:
        (data / place).parent.mkdir(parents=True)
    (tmp_path / "access").mkdir()
    (tmp_path / "access/1").write_text("u:hash\n")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/letsencrypt.log").write_text(REPORT)
    return data


def pipe(data: Path, place: str) -> None:
    os.mkfifo(data / place)


def endless_device(data: Path, place: str) -> None:
    (data / place).symlink_to("/dev/zero")


def file_elsewhere(data: Path, place: str) -> None:
    (data / place).symlink_to(data.parent / place)


def folder_elsewhere(data: Path, place: str) -> None:
    folder = Path(place).parent
    (data / folder).rmdir()
    (data / folder).symlink_to(data.parent / folder)


def folder_in_its_place(data: Path, place: str) -> None:
    (data / place).mkdir()


TRAPS = (pipe, endless_device, file_elsewhere, folder_elsewhere, folder_in_its_place)


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_in_place_of_the_hashes_is_named_and_not_read(data: Path, trap: t.Callable[[Path, str], None]) -> None:
    trap(data, PLACES[0])

    with pytest.raises(NpmError, match=r"access/1 cannot be read as a plain file"):
        read_htpasswd(data, 1)


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_in_place_of_the_log_explains_nothing(data: Path, trap: t.Callable[[Path, str], None]) -> None:
    trap(data, PLACES[1])

    assert certbot_problems(data, 0) == ""


def test_of_an_overgrown_log_only_the_newest_part_is_read(data: Path) -> None:
    with (data / PLACES[1]).open("w") as log:
        # Takes no room on disk, and all memory if it were read.
        log.truncate(1 << 40)
        log.seek(0, os.SEEK_END)
        log.write(REPORT)

    assert certbot_problems(data, 0) == "a.example.org: not for everybody's eyes (dns)."
