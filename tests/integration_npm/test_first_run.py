"""npm_setup, from an instance nobody has touched to a changed password."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conftest import EMAIL, PASSWORD, Instance, run_module

NEW_PASSWORD = "another long password"


def test_the_first_administrator_is_made_once(fresh: Instance) -> None:
    results = [fresh.run("npm_setup", check=check) for check in (True, False, True, False)]

    assert [one["changed"] for one in results] == [True, True, False, False]
    assert "token" not in results[0]
    assert results[1]["version"] == "2.15.1"


def test_the_account_is_found_whatever_the_case_of_its_address(fresh: Instance) -> None:
    assert fresh.run("npm_setup", email=EMAIL.upper())["changed"] is False


def test_the_password_appears_nowhere_in_the_output(fresh: Instance) -> None:
    assert PASSWORD not in fresh.run("npm_setup")["output"]


def test_a_wrong_password_is_refused_in_one_sentence_with_the_remedy(fresh: Instance) -> None:
    result = fresh.run("npm_setup", password="not the right one")

    assert result["failed"] is True
    assert "already set up and refuses npm_admin_password" in result["msg"]
    assert "npm_admin_password_old" in result["msg"]
    assert result["msg"].count(". ") == 0


def test_a_password_is_changed_when_the_old_one_is_given(fresh: Instance) -> None:
    change = {"password": NEW_PASSWORD, "password_old": PASSWORD}
    results = [fresh.run("npm_setup", check=check, **change) for check in (True, False, True, False)]

    assert [one["changed"] for one in results] == [True, True, False, False]
    assert fresh.run("npm_setup", password=NEW_PASSWORD)["changed"] is False
    assert fresh.run("npm_setup")["failed"] is True


def test_a_password_the_api_would_not_take_is_refused(fresh: Instance) -> None:
    result = fresh.run("npm_setup", password="short", password_old=NEW_PASSWORD)

    assert "npm_admin_password has 5 characters" in result["msg"]


@contextlib.contextmanager
def starting(instance: Instance, seconds: float) -> Iterator[str]:
    """An address that refuses connections at first and then leads to the instance, as a published port does."""
    door = socket.socket()
    door.bind(("127.0.0.1", 0))

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError), source.makefile("rb", 0) as incoming, target.makefile("wb", 0) as outgoing:
            shutil.copyfileobj(incoming, outgoing)
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        time.sleep(seconds)
        door.listen()
        with contextlib.suppress(OSError):
            while True:
                visitor, _ = door.accept()
                inside = socket.create_connection((instance.address, 81))
                for pair in ((visitor, inside), (inside, visitor)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            door.shutdown(socket.SHUT_RDWR)
        door.close()


def test_a_dry_run_waits_for_an_instance_that_was_set_up_before_and_is_starting(fresh: Instance) -> None:
    wrong: dict[str, Any] = {"password": "not the right one", "data_dir": str(fresh.data), "check": True}

    with starting(fresh, 3) as url:
        result = fresh.run("npm_setup", url=url, **wrong)

    assert "already set up and refuses npm_admin_password" in result.get("msg", str(result))


def test_a_dry_run_does_not_wait_for_what_was_never_set_up(tmp_path: Path, fresh: Instance) -> None:
    began = time.monotonic()

    result = fresh.run("npm_setup", url="http://127.0.0.1:9", data_dir=str(tmp_path), check=True)

    assert (result["changed"], result["reachable"]) == (True, False)
    assert time.monotonic() - began < 15


def test_a_dry_run_goes_on_when_what_was_set_up_does_not_come_back(fresh: Instance) -> None:
    gone: dict[str, Any] = {"url": "http://127.0.0.1:9", "data_dir": str(fresh.data), "wait_timeout": 2}

    result = fresh.run("npm_setup", check=True, **gone)

    assert result["reachable"] is False


def test_a_check_run_on_a_bare_host_predicts_everything() -> None:
    nobody: dict[str, Any] = {"url": "http://127.0.0.1:9", "email": EMAIL, "password": PASSWORD, "check": True}
    setup = run_module("npm_setup", **nobody)
    hosts = [{"domain_names": ["a.npmmod.test"], "forward_host": "a", "forward_port": 1, "access_list": "x"}]

    assert (setup["changed"], setup["reachable"]) == (True, False)
    assert run_module("npm_proxy_host", hosts=hosts, **nobody)["changed"] is True
    assert (
        run_module("npm_certificate", certificates=[{"domain_names": ["a.npmmod.test"]}], **nobody)["changed"] is True
    )
    assert run_module("npm_access_list", lists=[{"name": "x", "allow": ["all"]}], **nobody)["changed"] is True
    assert run_module("npm_setting", default_site="404", **nobody)["changed"] is True
