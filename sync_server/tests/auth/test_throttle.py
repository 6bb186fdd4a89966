"""Guessing is slow, and slows only who guesses."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from conftest import log_in, problem

from sync_server.auth import accounts
from sync_server.auth.errors import TooManyAttempts
from sync_server.auth.keys import load_or_make
from sync_server.auth.passwords import PasswordQueue, hash_password
from sync_server.auth.service import Auth
from sync_server.auth.throttle import Limit, Throttle, network_of
from sync_server.config import Config
from sync_server.http.call import Call
from sync_server.store.sqlite import StoreSettings, opened

WRONG = {"user": "alice", "password": "wrong", "device": "x"}


def test_after_five_wrong_passwords_one_has_to_wait(anybody: httpx.Client) -> None:
    for _ in range(5):
        assert problem(anybody.post("/auth/login", json=WRONG)) == (401, "not-authenticated")
    refused = anybody.post("/auth/login", json=WRONG)
    assert problem(refused) == (429, "too-many")
    assert 1 <= int(refused.headers["retry-after"]) <= 12


def test_the_owner_logs_in_from_elsewhere_while_somebody_guesses(anybody: httpx.Client, base_url: str) -> None:
    for _ in range(6):
        anybody.post("/auth/login", json=WRONG)
    with httpx.Client(base_url=f"{base_url}/api/v1", headers={"x-forwarded-for": "198.51.100.7"}) as owner:
        assert log_in(owner)["token_type"] == "Bearer"


def test_devices_that_are_logged_in_do_not_notice(anybody: httpx.Client) -> None:
    tokens = log_in(anybody)
    for _ in range(6):
        anybody.post("/auth/login", json=WRONG)
    assert anybody.get("/usage").status_code == 200
    assert anybody.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]}).status_code == 200


def test_one_address_cannot_try_many_accounts(anybody: httpx.Client) -> None:
    statuses = [
        anybody.post("/auth/login", json={"user": f"user{number}", "password": "wrong", "device": "x"}).status_code
        for number in range(25)
    ]
    assert statuses[:20] == [401] * 20
    assert 429 in statuses


def test_right_passwords_do_not_count(anybody: httpx.Client) -> None:
    for _ in range(12):
        log_in(anybody)


def test_an_account_that_is_not_there_answers_like_a_wrong_password(anybody: httpx.Client) -> None:
    texts = {
        anybody.post("/auth/login", json={"user": user, "password": "wrong", "device": "x"}).text
        for user in ("alice", "nobody")
    }
    assert len(texts) == 1


async def test_the_hash_is_computed_whether_the_account_is_there_or_not() -> None:
    queue = PasswordQueue()
    stored = hash_password("the right one")
    used: dict[str, float] = {}
    for name, given in (("there", stored), ("not there", None), ("there", stored), ("not there", None)):
        # Processor time: that of the wall belongs to whoever else uses the machine.
        before = time.process_time()
        assert not await queue.verify(given, "a wrong one", known=False)
        used[name] = time.process_time() - before
    assert used["not there"] > used["there"] / 3
    queue.close()


def test_a_bucket_leaks_with_time_and_setting_the_clock_changes_nothing() -> None:
    now = [0.0]
    throttle = Throttle(clock=lambda: now[0])
    key = ("somebody", Limit(2, 10.0))
    throttle.take(key)
    throttle.take(key)
    with pytest.raises(TooManyAttempts) as refused:
        throttle.take(key)
    assert refused.value.retry_after == 10
    now[0] += 10
    throttle.take(key)


def test_the_table_of_buckets_is_bounded() -> None:
    throttle = Throttle(capacity=100)
    for number in range(1000):
        throttle.take((number, Limit(5, 10.0)))
    assert len(throttle._levels) == 100


def test_an_ipv6_customer_is_one_address() -> None:
    assert network_of("2001:db8:1:2:aaaa::1") == network_of("2001:db8:1:2:bbbb::2") == "2001:db8:1:2::/64"
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("unix:") == "unknown"


async def test_strangers_fill_their_own_lane_only() -> None:
    queue = PasswordQueue(known=2, strangers=2)
    running = [asyncio.create_task(queue.run(lambda: time.sleep(0.2), known=False)) for _ in range(3)]
    await asyncio.sleep(0.05)
    with pytest.raises(TooManyAttempts):
        await queue.run(lambda: None, known=False)
    began = time.monotonic()
    await queue.run(lambda: None, known=True)
    assert time.monotonic() - began < 0.35, "the known address waits for one computation, not for the strangers' lane"
    await asyncio.gather(*running)
    queue.close()


async def test_who_leaves_the_queue_does_not_stop_it() -> None:
    queue = PasswordQueue()
    first = asyncio.create_task(queue.run(lambda: time.sleep(0.1), known=False))
    leaver = asyncio.create_task(queue.run(lambda: None, known=False))
    last = asyncio.create_task(queue.run(lambda: 42, known=False))
    await asyncio.sleep(0.02)
    leaver.cancel()
    assert await asyncio.wait_for(last, 2) == 42
    await first
    queue.close()


async def test_an_attempt_that_was_not_looked_at_does_not_count(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", StoreSettings(free_floor=0)) as store:
        await store.sql_write(lambda db: accounts.add_account(db, "alice", hash_password("right password"), 0))
        auth = Auth(store, load_or_make(tmp_path / "key"), Config(data_dir=tmp_path))
        auth._passwords = PasswordQueue(strangers=0)
        holding = asyncio.create_task(auth._passwords.run(lambda: time.sleep(0.5), known=True))
        await asyncio.sleep(0.05)
        for _ in range(6):
            with pytest.raises(TooManyAttempts) as refused:
                await auth.login("alice", "right password", "laptop", "read", "192.0.2.1")
            assert refused.value.retry_after <= 2
        await holding
        assert (await auth.login("alice", "right password", "laptop", "read", "192.0.2.1")).device.name == "laptop"
        auth.close()


def test_a_trusted_proxy_is_known_in_either_notation() -> None:
    services = SimpleNamespace(config=Config(trusted_proxies=(ipaddress.ip_network("172.18.0.0/16"),)))
    scope = {"client": ("::ffff:172.18.0.5", 4), "headers": [(b"x-forwarded-for", b"198.51.100.7")]}
    call = Call(scope, None, services, None, ())  # type: ignore[arg-type]
    assert call.address == "198.51.100.7"
