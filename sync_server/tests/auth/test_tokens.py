"""Access tokens: who may come in, and who not any more."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from conftest import log_in, problem
from real_process.server import RunningServer

from sync_server.auth import keys
from sync_server.auth.errors import NotAuthenticated
from sync_server.auth.tokens import AccessTokens
from sync_server.store.interface import Identity


def _claims(client: httpx.Client) -> dict[str, Any]:
    token = client.headers["authorization"].removeprefix("Bearer ")
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_token_says_account_device_epoch_and_scope_and_lives_ten_minutes(alice: httpx.Client) -> None:
    claims = _claims(alice)
    assert set(claims) == {"sub", "dev", "epoch", "scope", "iat", "exp"}
    assert claims["exp"] - claims["iat"] == 600
    assert claims["scope"] == "account read write"


def test_the_key_is_made_at_the_first_start_for_its_user_only(server: RunningServer) -> None:
    file = server.data / keys.KEY_FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(file.read_text())) == 32


def test_a_key_file_others_can_read_is_refused(tmp_path: Path) -> None:
    keys.load_or_make(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(keys.KeyFileError, match="chmod 600"):
        keys.load_or_make(tmp_path / "key")


def _forgeries(server: RunningServer, claims: dict[str, Any]) -> dict[str, str]:
    key = keys.load_or_make(server.data / keys.KEY_FILE)
    good = {"kid": key.kid}
    later = {**claims, "exp": int(time.time()) + 600}
    none = f"{_part({'alg': 'none', 'typ': 'JWT', 'kid': key.kid})}.{_part(later)}."
    signed = jwt.encode(later, key.access, "HS256", good)
    head, body, signature = signed.split(".")
    return {
        "not a token": "abc",
        "alg none": none,
        "alg None": none.replace(_part({"alg": "none", "typ": "JWT", "kid": key.kid}), _part({"alg": "None"})),
        "another algorithm of the family": jwt.encode(later, key.access * 2, "HS512", good),
        "signed with the public part of nothing": jwt.encode(later, b"-----BEGIN PUBLIC KEY-----" * 2, "HS256", good),
        "signed with the kid": jwt.encode(later, key.kid.encode() * 2, "HS256", good),
        "signed with the refresh key": jwt.encode(later, key.refresh, "HS256", good),
        "another kid": jwt.encode(later, key.access, "HS256", {"kid": "0" * 16}),
        "no kid": jwt.encode(later, key.access, "HS256"),
        "expired": jwt.encode({**later, "exp": int(time.time()) - 1}, key.access, "HS256", good),
        "without an end": jwt.encode({k: v for k, v in later.items() if k != "exp"}, key.access, "HS256", good),
        "end as text": jwt.encode({**later, "epoch": "1"}, key.access, "HS256", good),
        "another epoch": jwt.encode({**later, "epoch": claims["epoch"] + 1}, key.access, "HS256", good),
        "a device that is not": jwt.encode({**later, "dev": 10**9}, key.access, "HS256", good),
        "body exchanged": f"{head}.{_part({**later, 'scope': 'account'})}.{signature}",
        "signature cut": f"{head}.{body}.",
        "endless": "a" * 20_000,
    }


def test_forged_and_expired_tokens_are_refused_alike(
    server: RunningServer, alice: httpx.Client, anybody: httpx.Client
) -> None:
    for name, token in _forgeries(server, _claims(alice)).items():
        answer = anybody.get("/usage", headers={"authorization": f"Bearer {token}"})
        assert problem(answer) == (401, "not-authenticated"), name
        assert "bearer" in answer.headers["www-authenticate"].lower()


def test_other_schemes_and_nothing_at_all_are_refused(anybody: httpx.Client) -> None:
    for header in (
        {},
        {"authorization": "Digest abc"},
        {"authorization": "Basic %%%"},
        {"authorization": "Basic YWxpY2U="},
    ):
        assert problem(anybody.get("/usage", headers=header)) == (401, "not-authenticated")


def test_the_account_password_is_no_app_password(anybody: httpx.Client) -> None:
    answer = anybody.get("/usage", auth=("alice", "correct horse battery"))
    assert problem(answer) == (401, "not-authenticated")


def test_a_token_without_the_scope_reads_but_does_not_write(new_device: Callable[..., httpx.Client]) -> None:
    reader = new_device(scope="read")
    assert reader.get("/usage").status_code == 200
    refused = reader.put("/files/x.txt", content=b"x")
    assert problem(refused) == (403, "not-allowed")
    assert 'scope="write"' in refused.headers["www-authenticate"]
    assert problem(reader.post("/app-passwords", json={"name": "x"})) == (403, "not-allowed")


def test_a_cached_token_expires_all_the_same() -> None:
    now = [1000.0]
    key = keys.Keys(b"a" * 32, b"b" * 32, "kid")
    tokens = AccessTokens(key, 600, {7: 1}, clock=lambda: now[0])
    token = tokens.issue(Identity(1, 7, frozenset({"read"})), 1)
    assert tokens.verify(token).device_id == 7
    now[0] += 599
    assert tokens.verify(token).device_id == 7
    now[0] += 1
    with pytest.raises(NotAuthenticated):
        tokens.verify(token)


def test_a_cached_token_of_an_older_epoch_is_refused_at_once() -> None:
    epochs = {7: 1}
    tokens = AccessTokens(keys.Keys(b"a" * 32, b"b" * 32, "kid"), 600, epochs)
    token = tokens.issue(Identity(1, 7, frozenset({"read"})), 1)
    assert tokens.verify(token).account_id == 1
    epochs[7] = 2
    with pytest.raises(NotAuthenticated):
        tokens.verify(token)


def test_revoking_a_device_counts_for_the_very_next_request(
    alice: httpx.Client, new_device: Callable[..., httpx.Client]
) -> None:
    other = new_device()
    device = other.get("/devices").json()["devices"][-1]
    assert device["current"]
    assert alice.delete(f"/devices/{device['id']}").status_code == 204
    assert problem(other.get("/usage")) == (401, "not-authenticated")
    assert device["id"] not in [entry["id"] for entry in alice.get("/devices").json()["devices"]]


def test_revoking_on_the_command_line_reaches_the_running_server(
    server: RunningServer, new_device: Callable[..., httpx.Client]
) -> None:
    other = new_device()
    device = other.get("/devices").json()["devices"][-1]["id"]
    assert server.tool("device", "revoke", device).returncode == 0
    time.sleep(1.1)
    assert problem(other.get("/usage")) == (401, "not-authenticated")


def test_nobody_sees_or_revokes_devices_of_another_account(alice: httpx.Client, bob: httpx.Client) -> None:
    device = alice.get("/devices").json()["devices"][0]["id"]
    assert problem(bob.delete(f"/devices/{device}")) == (404, "not-found")
    assert device not in [entry["id"] for entry in bob.get("/devices").json()["devices"]]


def test_logging_out_ends_the_device(new_device: Callable[..., httpx.Client]) -> None:
    client = new_device()
    assert client.post("/auth/logout").status_code == 204
    assert problem(client.get("/usage")) == (401, "not-authenticated")


def test_revocation_ends_a_long_poll(alice: httpx.Client, new_device: Callable[..., httpx.Client]) -> None:
    import threading

    other = new_device()
    cursor = other.get("/snapshot").json()["cursor"]
    device = other.get("/devices").json()["devices"][-1]["id"]
    threading.Timer(0.5, lambda: alice.delete(f"/devices/{device}")).start()
    began = time.monotonic()
    answer = other.get("/changes", params={"cursor": cursor, "wait": 30})
    assert problem(answer) == (401, "not-authenticated")
    assert time.monotonic() - began < 5


def test_app_passwords_work_until_they_are_revoked(alice: httpx.Client, anybody: httpx.Client) -> None:
    made = alice.post("/app-passwords", json={"name": "backup script", "scope": "read"})
    assert made.status_code == 201
    password, device = made.json()["password"], made.json()["id"]
    assert anybody.get("/usage", auth=("alice", password)).status_code == 200
    assert anybody.get("/usage", auth=("ALICE", password)).status_code == 200
    assert problem(anybody.get("/usage", auth=("bob", password))) == (401, "not-authenticated")
    assert problem(anybody.put("/files/x", content=b"", auth=("alice", password))) == (403, "not-allowed")
    assert alice.delete(f"/devices/{device}").status_code == 204
    assert problem(anybody.get("/usage", auth=("alice", password))) == (401, "not-authenticated")


def test_nobody_gives_an_app_password_more_than_they_have(new_device: Callable[..., httpx.Client]) -> None:
    client = new_device(scope="read account")
    assert problem(client.post("/app-passwords", json={"name": "x", "scope": "read write"})) == (403, "not-allowed")


def test_changing_the_password_needs_the_old_one_and_logs_other_devices_out(
    server: RunningServer, base_url: str, anybody: httpx.Client
) -> None:
    server.add_user("carol")
    log_in(anybody, "carol")
    with httpx.Client(base_url=f"{base_url}/api/v1") as other:
        log_in(other, "carol")
        wrong = anybody.post("/auth/password", json={"old": "not this one", "new": "a new long password"})
        assert problem(wrong) == (401, "not-authenticated")
        short = anybody.post("/auth/password", json={"old": "correct horse battery", "new": "short"})
        assert problem(short) == (422, "invalid")
        done = anybody.post("/auth/password", json={"old": "correct horse battery", "new": "a new long password"})
        assert done.status_code == 204
        assert anybody.get("/usage").status_code == 200
        assert problem(other.get("/usage")) == (401, "not-authenticated")
    old = anybody.post("/auth/login", json={"user": "carol", "password": "correct horse battery", "device": "x"})
    assert problem(old) == (401, "not-authenticated")
    new = anybody.post("/auth/login", json={"user": "carol", "password": "a new long password", "device": "x"})
    assert new.status_code == 200


def test_logins_and_revocations_are_in_the_audit_log(alice: httpx.Client, anybody: httpx.Client) -> None:
    log_in(anybody)
    anybody.post("/auth/login", json={"user": "alice", "password": "wrong", "device": "thief"})
    anybody.post("/auth/logout")
    entries = alice.get("/audit", params={"limit": 3}).json()["entries"]
    assert [entry["event"] for entry in entries] == ["logout", "login_failed", "login"]
    assert entries[0]["address"] == anybody.headers["x-forwarded-for"]
    assert "wrong" not in alice.get("/audit").text
