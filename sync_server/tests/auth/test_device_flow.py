"""Pairing by code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from conftest import log_in, problem
from real_process.server import RunningServer

from sync_server.auth.device_flow import LIFETIME, DeviceFlow
from sync_server.auth.errors import DeviceFlowPending, TooManyAttempts


def _poll(client: httpx.Client, code: str) -> tuple[int, str]:
    answer = client.post("/auth/device/token", json={"device_code": code})
    return answer.status_code, answer.json().get("error", "")


def test_a_code_shown_here_and_approved_there_logs_in(alice: httpx.Client, anybody: httpx.Client) -> None:
    code = anybody.post("/auth/device/code", json={"device": "watch", "scope": "read"}).json()
    assert code["expires_in"] == 600
    assert _poll(anybody, code["device_code"]) == (400, "authorization_pending")
    shown = alice.get("/auth/device/pending", params={"user_code": code["user_code"]}).json()
    assert (shown["device"], shown["scope"]) == ("watch", "read")
    typed = code["user_code"].lower().replace("-", " ")
    assert alice.post("/auth/device/approve", json={"user_code": typed}).status_code == 204
    tokens = anybody.post("/auth/device/token", json={"device_code": code["device_code"]}).json()
    anybody.headers["authorization"] = f"Bearer {tokens['access_token']}"
    assert anybody.get("/usage").status_code == 200
    assert problem(anybody.put("/files/x", content=b"x")) == (403, "not-allowed")
    assert _poll(anybody, code["device_code"]) == (400, "expired_token")


def test_asking_too_often_is_told_and_then_waits_longer(anybody: httpx.Client) -> None:
    code = anybody.post("/auth/device/code", json={"device": "tv"}).json()["device_code"]
    assert _poll(anybody, code) == (400, "authorization_pending")
    assert _poll(anybody, code) == (400, "slow_down")


def test_a_code_turned_down_is_told(alice: httpx.Client, anybody: httpx.Client) -> None:
    code = anybody.post("/auth/device/code", json={"device": "tv"}).json()
    answer = alice.post("/auth/device/approve", json={"user_code": code["user_code"], "approve": False})
    assert answer.status_code == 204
    assert _poll(anybody, code["device_code"]) == (400, "access_denied")


def test_nobody_approves_more_than_they_have(new_device: Callable[..., httpx.Client], anybody: httpx.Client) -> None:
    code = anybody.post("/auth/device/code", json={"device": "tv", "scope": "read write"}).json()
    approver = new_device(scope="account read")
    assert approver.post("/auth/device/approve", json={"user_code": code["user_code"]}).status_code == 204
    tokens = anybody.post("/auth/device/token", json={"device_code": code["device_code"]}).json()
    assert tokens["scope"] == "read"


def test_what_a_device_approved_that_was_cut_off_since_is_worthless(
    new_device: Callable[..., httpx.Client], anybody: httpx.Client
) -> None:
    code = anybody.post("/auth/device/code", json={"device": "tv"}).json()
    stolen = new_device()
    assert stolen.post("/auth/device/approve", json={"user_code": code["user_code"]}).status_code == 204
    assert stolen.post("/auth/logout").status_code == 204
    assert _poll(anybody, code["device_code"]) == (400, "access_denied")


def test_guessing_codes_is_limited(new_device: Callable[..., httpx.Client]) -> None:
    client = new_device("bob")
    statuses = [client.get("/auth/device/pending", params={"user_code": f"BBBB-BBB{x}"}).status_code for x in "BCDFGH"]
    assert statuses == [404] * 5 + [429]


def test_one_address_has_few_codes_pending(anybody: httpx.Client) -> None:
    statuses = [anybody.post("/auth/device/code", json={"device": "tv"}).status_code for _ in range(6)]
    assert statuses == [200] * 5 + [429]


def test_a_restart_between_showing_and_approving_is_told_to_both_sides(tmp_path: Path) -> None:
    server = RunningServer(tmp_path / "data")
    server.add_user("alice")
    server.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}/api/v1", timeout=30) as client:
        log_in(client)
        codes = [client.post("/auth/device/code", json={"device": "tv"}).json() for _ in range(2)]
        approved = client.post("/auth/device/approve", json={"user_code": codes[0]["user_code"]})
        assert approved.status_code == 204
        assert server.stop() == 0
        server.start()
        late = client.post("/auth/device/approve", json={"user_code": codes[1]["user_code"]})
        assert problem(late) == (404, "not-found")
        assert late.json()["detail"].endswith("restart of the server; have the device show a new one")
        for code in codes:
            polled = client.post("/auth/device/token", json={"device_code": code["device_code"]})
            assert (polled.status_code, polled.json()["error"]) == (400, "expired_token")
            assert polled.json()["detail"].endswith("restart of the server; ask for a new one")
    assert server.stop() == 0


def test_codes_expire_and_their_number_is_bounded() -> None:
    now = [0.0]
    flow = DeviceFlow(clock=lambda: now[0])
    secret, pending = flow.begin("tv", frozenset({"read"}), "a")
    for number in range(999):
        flow.begin("tv", frozenset({"read"}), f"address {number}")
    with pytest.raises(TooManyAttempts):
        flow.begin("tv", frozenset({"read"}), "one more")
    now[0] = LIFETIME
    assert flow.find(pending.user_code) is None
    with pytest.raises(DeviceFlowPending, match="any more"):
        flow.poll(secret)
    flow.begin("tv", frozenset({"read"}), "one more")
