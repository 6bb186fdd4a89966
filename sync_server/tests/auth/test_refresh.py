"""Refresh tokens: good once, found out when copied, and no trap for who loses an answer."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import httpx
import pytest
from conftest import log_in, problem

from sync_server.auth import accounts
from sync_server.auth.accounts import Refreshed, Refused
from sync_server.auth.errors import BadCredentialInput

KEY = b"k" * 32
HOUR, YEAR = 3600, 365 * 86400


@pytest.fixture
def db() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    migrations = Path(accounts.__file__).parent.parent / "store" / "migrations"
    connection.executescript((migrations / "0001_accounts.sql").read_text())
    return connection


@pytest.fixture
def first(db: sqlite3.Connection) -> str:
    account = accounts.add_account(db, "alice", "hash", 0)
    device = accounts.add_device(db, account.id, "laptop", {"read"}, "home", 0)
    return accounts.first_refresh_token(db, device, "home", 0, YEAR)


def _refresh(db: sqlite3.Connection, token: str, at: int, address: str = "home") -> str:
    done = accounts.refresh(db, KEY, token, address, at, YEAR)
    assert isinstance(done, Refreshed), done
    return done.token


def _is_theft(db: sqlite3.Connection, token: str, at: int, address: str = "home") -> bool:
    done = accounts.refresh(db, KEY, token, address, at, YEAR)
    assert isinstance(done, Refused)
    return done.revoked is not None


def _is_revoked(db: sqlite3.Connection) -> bool:
    return not accounts.live_epochs(db)


def test_each_refresh_gives_another_token(db: sqlite3.Connection, first: str) -> None:
    second = _refresh(db, first, HOUR)
    third = _refresh(db, second, 2 * HOUR)
    assert len({first, second, third}) == 3


def test_only_hashes_are_stored(db: sqlite3.Connection, first: str) -> None:
    second = _refresh(db, first, HOUR)
    dump = "\n".join(db.iterdump())
    assert first not in dump
    assert second not in dump


def test_a_lost_answer_asked_for_again_is_the_same_answer(db: sqlite3.Connection, first: str) -> None:
    lost = _refresh(db, first, HOUR)
    assert _refresh(db, first, HOUR + 10) == lost
    assert _refresh(db, lost, 2 * HOUR)


def test_an_answer_lost_before_a_long_sleep_locks_nobody_out(db: sqlite3.Connection, first: str) -> None:
    lost = _refresh(db, first, HOUR)
    again = _refresh(db, first, 100 * HOUR, "another network")
    assert again != lost
    assert _refresh(db, again, 101 * HOUR)
    assert not _is_revoked(db)


def test_a_token_whose_successor_was_used_is_proof_of_theft(db: sqlite3.Connection, first: str) -> None:
    second = _refresh(db, first, HOUR)
    _refresh(db, second, HOUR + 1)
    assert _is_theft(db, first, HOUR + 2)
    assert _is_revoked(db)


def test_of_two_that_share_a_token_the_second_is_found_out(db: sqlite3.Connection, first: str) -> None:
    owners = _refresh(db, first, HOUR)
    thiefs = _refresh(db, first, HOUR + 10, "elsewhere")
    assert owners != thiefs
    assert _is_theft(db, owners, HOUR + 600)
    assert _is_revoked(db)
    assert not _is_theft(db, thiefs, HOUR + 700), "the device is gone, and with it every token"


def test_a_thief_who_comes_first_is_found_out_by_the_owner(db: sqlite3.Connection, first: str) -> None:
    thiefs = _refresh(db, first, HOUR, "elsewhere")
    _refresh(db, thiefs, HOUR + 700, "elsewhere")
    assert _is_theft(db, first, HOUR + 800)
    assert _is_revoked(db)


def test_made_up_and_expired_tokens_revoke_nothing(db: sqlite3.Connection, first: str) -> None:
    assert not _is_theft(db, "sr_made_up", HOUR)
    assert not _is_theft(db, first, YEAR + 1)
    assert not _is_revoked(db)


def test_spent_tokens_do_not_pile_up(db: sqlite3.Connection, first: str) -> None:
    token = first
    for turn in range(1, 300):
        token = _refresh(db, token, turn * 12 * HOUR)
    assert db.execute("SELECT count(*) FROM refresh_tokens").fetchone()[0] < 40


def test_over_http_a_stolen_token_ends_the_device_and_is_in_the_audit_log(
    anybody: httpx.Client, alice: httpx.Client
) -> None:
    tokens = log_in(anybody)
    first = tokens["refresh_token"]
    second = anybody.post("/auth/refresh", json={"refresh_token": first})
    assert second.status_code == 200
    again = anybody.post("/auth/refresh", json={"refresh_token": first})
    assert again.json()["refresh_token"] == second.json()["refresh_token"]
    third = anybody.post("/auth/refresh", json={"refresh_token": second.json()["refresh_token"]})
    assert anybody.get("/usage", headers={"authorization": f"Bearer {third.json()['access_token']}"}).status_code == 200
    assert problem(anybody.post("/auth/refresh", json={"refresh_token": first})) == (401, "not-authenticated")
    assert problem(anybody.get("/usage", headers={"authorization": f"Bearer {third.json()['access_token']}"})) == (
        401,
        "not-authenticated",
    )
    assert alice.get("/audit", params={"limit": 1}).json()["entries"][0]["event"] == "refresh_token_reused"


def test_devices_nobody_uses_make_room_for_a_new_one(db: sqlite3.Connection) -> None:
    account = accounts.add_account(db, "alice", "hash", 0)
    app = accounts.add_device(db, account.id, "script", {"read"}, "home", 0, app_password="sa_x")
    for number in range(1, accounts.MAX_DEVICES):
        accounts.add_device(db, account.id, f"curl {number}", {"read"}, "home", number)
    with pytest.raises(BadCredentialInput):
        accounts.add_device(db, account.id, "too many this week", {"read"}, "home", 6 * 24 * HOUR)
    new = accounts.add_device(db, account.id, "laptop", {"read"}, "home", 8 * 24 * HOUR)
    names = [device.name for device in accounts.list_devices(db, account.id)]
    assert len(names) == accounts.MAX_DEVICES
    assert app.name in names
    assert new.name in names
    assert "curl 1" not in names
