"""Which access lists change, without ever being told the passwords in force."""

from __future__ import annotations

import json
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_access_list import (
    WantedList,
    apr1,
    check_wanted,
    plan_lists,
    read_htpasswd,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import NpmError

RECORDED = {
    one["label"]: one["response"]
    for one in json.loads((Path(__file__).parents[1] / "data_npm/exchanges.json").read_text())["exchanges"]
}
# Name office, user u with password p, 192.168.0.0/24 allowed, either is enough.
ROW = RECORDED["access list update keep pw"]


def office(**fields: t.Any) -> WantedList:
    same = {"satisfy_any": True, "passwords": {"u": "p"}, "allow": ("192.168.0.0/24",)}
    return WantedList("office", **{**same, **fields})


def test_a_list_as_wanted_is_kept() -> None:
    assert plan_lists([office()], [ROW])[0].action == "keep"


@pytest.mark.parametrize(
    "change",
    [
        {"satisfy_any": False},
        {"pass_auth": True},
        {"passwords": {"u": "p", "v": "q"}},
        {"passwords": {"v": "p"}},
        {"passwords": {"u": "q"}},
        {"passwords": {"u": "pp"}},
        {"allow": ("192.168.0.0/24", "10.0.0.0/8")},
        {"deny": ("192.168.0.7",)},
    ],
)
def test_every_option_is_noticed(change: dict[str, t.Any]) -> None:
    assert plan_lists([office(**change)], [ROW])[0].action == "update"


def test_a_missing_list_is_created_and_a_diff_shows_no_password() -> None:
    step = plan_lists([office(passwords={"u": "hunter2"})], [])[0]

    assert (step.action, step.after["users"]) == ("create", ["u"])
    assert "hunter2" not in repr(step) + str(step.after)


def test_a_password_that_looks_alike_is_told_apart_by_the_hash_on_disk(tmp_path: Path) -> None:
    row = {**ROW, "items": [{"username": "u", "hint": "s****"}]}
    (tmp_path / "access").mkdir()
    (tmp_path / f"access/{row['id']}").write_text(f"u:{apr1('sesam', 'aBcDeFgH')}\n")

    assert plan_lists([office(passwords={"u": "super"})], [row])[0].action == "keep"
    step = plan_lists([office(passwords={"u": "super"})], [row], tmp_path)[0]
    assert (step.action, step.after["new_passwords_for"]) == ("update", ["u"])
    assert plan_lists([office(passwords={"u": "sesam"})], [row], tmp_path)[0].action == "keep"


def test_a_user_missing_from_the_file_gets_the_password_again(tmp_path: Path) -> None:
    assert read_htpasswd(tmp_path, 1) == {}
    assert plan_lists([office()], [ROW], tmp_path)[0].action == "update"


@pytest.mark.parametrize("password", ["p", "correct horse battery staple", "ünïcode", "x" * 64, "sixteen bytes ok", ""])
def test_the_hash_is_the_one_openssl_makes(password: str) -> None:
    made = subprocess.run(
        ["openssl", "passwd", "-apr1", "-salt", "aBcDeFgH", "-stdin"],
        input=password + "\n",
        capture_output=True,
        text=True,
        check=True,
    )

    assert apr1(password, "aBcDeFgH") == made.stdout.strip()


def test_exceptions_come_before_what_they_are_exceptions_from() -> None:
    wanted = office(deny=("192.168.0.7",))

    assert wanted.rules == [("deny", "192.168.0.7"), ("allow", "192.168.0.0/24")]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (WantedList("x"), "protects nothing"),
        (WantedList("x", deny=("192.0.2.1",)), "addresses to allow"),
        (WantedList("x", allow=("office",)), '"office" in the access list "x" is no address'),
        (WantedList("x", passwords={"a:b": "c"}), "without a colon"),
        (WantedList("x", passwords={"a": ""}), 'user "a" of the access list "x" has no password'),
    ],
)
def test_a_list_that_cannot_work_is_refused(wanted: WantedList, message: str) -> None:
    with pytest.raises(NpmError, match=message):
        check_wanted(wanted)


@pytest.mark.parametrize("address", ["192.0.2.1", "192.0.2.0/24", "2001:db8::/32", "all"])
def test_addresses_and_networks_of_both_families_are_fine(address: str) -> None:
    check_wanted(WantedList("x", allow=(address,)))


def test_an_absent_list_need_not_make_sense() -> None:
    check_wanted(WantedList("x", present=False))
