"""Access tokens: who may come in, and who not any more."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from conftest import problem
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
    with ThreadPoolExecutor(1) as pool:
        revoking = pool.submit(server.tool, "device", "revoke", device)
        # Whoever asks all the time is looked up all the time: none of the answers may outlive the command.
        while not revoking.done():
            other.get("/usage")
        assert revoking.result().returncode == 0
    assert problem(other.get("/usage")) == (401, "not-authenticated")


def _by_request(server: RunningServer, alice: httpx.Client, device: str) -> None:
    assert alice.delete(f"/devices/{device}").status_code == 204


def _by_command(server: RunningServer, alice: httpx.Client, device: str) -> None:
    assert server.tool("device", "revoke", device).returncode == 0


@pytest.mark.parametrize("revoke", [_by_request, _by_command])
def test_revoking_a_device_ends_what_it_has_under_way(
    server: RunningServer,
    alice: httpx.Client,
    new_device: Callable[..., httpx.Client],
    revoke: Callable[[RunningServer, httpx.Client, str], None],
) -> None:
    """All of it would go on for longer than its client here waits for it."""
    other = new_device()
    other.timeout = httpx.Timeout(20)
    device = other.get("/devices").json()["devices"][-1]["id"]
    cursor = other.get("/snapshot").json()["cursor"]
    sending, revoked = threading.Event(), threading.Event()

    def listen() -> str:
        with other.stream("GET", "/events") as events:
            return "".join(events.iter_lines())

    def endlessly() -> Iterator[bytes]:
        while not revoked.wait(0.1):
            yield b"x" * 1000
            sending.set()
        yield b"x" * 1000

    with ThreadPoolExecutor(3) as pool:
        poll = pool.submit(other.get, "/changes", params={"cursor": cursor, "wait": 55})
        stream = pool.submit(listen)
        upload = pool.submit(other.put, "/files/of-a-thief", content=endlessly())
        assert sending.wait(10)
        while "sync_waiting 2.0" not in httpx.get(f"http://127.0.0.1:{server.port}/metrics").text:
            time.sleep(0.05)
        revoke(server, alice, device)
        revoked.set()
        assert problem(poll.result()) == (401, "not-authenticated")
        assert "event:" not in stream.result()
        assert problem(upload.result()) == (401, "not-authenticated")
    assert alice.get("/files/of-a-thief").status_code == 404


def test_revoking_a_device_breaks_off_what_it_is_fetching(
    alice: httpx.Client, new_device: Callable[..., httpx.Client]
) -> None:
    alice.put("/files/long", content=bytes(30_000_000)).raise_for_status()
    other = new_device()
    device = other.get("/devices").json()["devices"][-1]["id"]
    with other.stream("GET", "/files/long") as answer:
        pieces = answer.iter_raw(65536)
        next(pieces)
        assert alice.delete(f"/devices/{device}").status_code == 204
        with pytest.raises(httpx.TransportError):
            for _ in pieces:
                pass


def test_nobody_sees_or_revokes_devices_of_another_account(alice: httpx.Client, bob: httpx.Client) -> None:
    device = alice.get("/devices").json()["devices"][0]["id"]
    assert problem(bob.delete(f"/devices/{device}")) == (404, "not-found")
    assert device not in [entry["id"] for entry in bob.get("/devices").json()["devices"]]


def test_logging_out_ends_the_device(new_device: Callable[..., httpx.Client]) -> None:
    client = new_device()
    assert client.post("/auth/logout").status_code == 204
    assert problem(client.get("/usage")) == (401, "not-authenticated")
