from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils import _preflight


def test_an_image_that_never_fetched_package_lists_has_none(tmp_path: Path) -> None:
    assert not _preflight.apt_has_lists(tmp_path)


def test_a_fetched_package_list_is_seen(tmp_path: Path) -> None:
    lists = tmp_path / "var/lib/apt/lists"
    lists.mkdir(parents=True)
    (lists / "mirror_dists_noble_InRelease").touch()
    assert _preflight.apt_has_lists(tmp_path)


def test_apt_is_idle_where_nobody_holds_its_lock(tmp_path: Path) -> None:
    assert not _preflight.apt_is_busy(tmp_path)
    lock = tmp_path / "var/lib/dpkg/lock-frontend"
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert not _preflight.apt_is_busy(tmp_path)


def test_apt_is_busy_while_another_process_holds_its_lock(tmp_path: Path) -> None:
    lock = tmp_path / "var/lib/dpkg/lock-frontend"
    lock.parent.mkdir(parents=True)
    lock.touch()
    ready_read, ready_write = os.pipe()
    done_read, done_write = os.pipe()
    # A lock of one's own process never conflicts, so another one has to hold it.
    child = os.fork()
    if child == 0:
        with lock.open("ab") as handle:
            fcntl.lockf(handle, fcntl.LOCK_EX)
            os.write(ready_write, b"x")
            os.read(done_read, 1)
        os._exit(0)
    os.read(ready_read, 1)
    try:
        assert _preflight.apt_is_busy(tmp_path)
    finally:
        os.write(done_write, b"x")
        os.waitpid(child, 0)
    assert not _preflight.apt_is_busy(tmp_path)


def test_the_free_space_of_a_folder_that_does_not_exist_yet_is_that_of_its_file_system(tmp_path: Path) -> None:
    there, later = _preflight.disk_free_mib(tmp_path), _preflight.disk_free_mib(tmp_path / "not/yet")
    assert there > 0
    assert abs(there - later) < 100


def test_a_name_that_resolves_to_nothing_has_no_addresses() -> None:
    assert _preflight.resolve(["localhost", "no-such-host.invalid", "localhost"]) == {
        "localhost": ["127.0.0.1"],
        "no-such-host.invalid": [],
    }


def test_a_silent_resolver_is_asked_once_and_told_from_a_name_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def silent(name: str, *_: object, **__: object) -> None:
        asked.append(name)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    assert _preflight.resolve(["a.example", "b.example"]) is None
    assert asked == ["a.example"]
