"""Tokens that are forged, old, stolen or someone else's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from real_process.server import PASSWORD, Connection, RunningServer

from .conftest import Everything, Loot, is_problem


def encoded(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(token: str) -> tuple[dict[str, object], dict[str, object]]:
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    return header, claims


def signed(header: object, claims: object, key: bytes) -> str:
    body = f"{encoded(header)}.{encoded(claims)}"
    return f"{body}.{encoded(hmac.digest(key, body.encode(), hashlib.sha256))}"


def true_key(server: RunningServer) -> bytes:
    """What the server signs with: to forge what a thief cannot, and see that the claims are checked as well."""
    master = bytes.fromhex((server.data / "server.key").read_text().strip())
    return hmac.digest(master, b"sync-server access", hashlib.sha256)


def forgeries(server: RunningServer, token: str) -> dict[str, str]:
    header, claims = decoded(token)
    key, now = true_key(server), int(time.time())
    head, body, signature = token.split(".")
    return {
        "alg none": f"{encoded({**header, 'alg': 'none'})}.{body}.",
        "alg NONE": f"{encoded({**header, 'alg': 'NonE'})}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "empty key": signed(header, claims, b""),
        "key id as key": signed(header, claims, str(header.get("kid")).encode()),
        "HS512 said, HS256 done": signed({**header, "alg": "HS512"}, claims, key),
        "RS256 said, HS256 done": signed({**header, "alg": "RS256"}, claims, key),
        "key id of a file": signed({**header, "kid": "../../../../dev/null"}, claims, b""),
        "own key in the header": signed({**header, "jwk": {"kty": "oct", "k": encoded(b"mine")}}, claims, b"mine"),
        "other account, old signature": f"{head}.{encoded({**claims, 'sub': '1'})}.{signature}",
        "expired": signed(header, {**claims, "exp": now - 5}, key),
        "expires never": signed(header, {name: value for name, value in claims.items() if name != "exp"}, key),
        "expires as text": signed(header, {**claims, "exp": "9999999999"}, key),
        "expires at infinity": signed(header, {**claims, "exp": 1e400}, key),
        "device unknown": signed(header, {**claims, "dev": 99_999}, key),
        "device true": signed(header, {**claims, "dev": True}, key),
        "epoch of the future": signed(header, {**claims, "epoch": 99}, key),
        "epoch missing": signed(header, {name: value for name, value in claims.items() if name != "epoch"}, key),
        "not JSON inside": f"{head}.{encoded(b'nonsense')}.{signature}",
        "deep JSON inside": signed(header, {**claims, "deep": json.loads("[" * 500 + "]" * 500)}, key),
        "three dots": "...",
        "long": "a" * 20_000,
        "not ASCII": "tok\xe9n",
    }


NAMES = [
    "alg none", "alg NONE", "no signature", "empty key", "key id as key", "HS512 said, HS256 done",
    "RS256 said, HS256 done", "key id of a file", "own key in the header", "other account, old signature", "expired",
    "expires never", "expires as text", "expires at infinity", "device unknown", "device true", "epoch of the future",
    "epoch missing", "not JSON inside", "three dots", "long", "not ASCII",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_forged_or_expired_token_opens_nothing(
    server: RunningServer, thief: Connection, everything: Everything, name: str
) -> None:
    before = everything.now()
    forged = server.connect(forgeries(server, thief.token)[name])
    for method, path in (("GET", "/changes"), ("GET", "/files"), ("DELETE", "/trash"), ("POST", "/commit")):
        answer = forged.send(method, path, b"{}" if method == "POST" else None)
        assert is_problem(answer, 401)
        assert "www-authenticate" in answer.headers
        forged.close()
    assert everything.now() == before


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic", "Basic !!!", "Basic Og==", "Digest x", "bearer  x y"]
)
def test_a_malformed_authorization_header_is_401(server: RunningServer, header: str) -> None:
    answer = server.connect().send("GET", "/changes", headers={"Authorization": header} if header else {})
    assert is_problem(answer, 401)


def test_a_refresh_token_used_twice_revokes_the_device(server: RunningServer) -> None:
    victim = server.login("owner", "stolen phone")
    first = json.dumps({"refresh_token": victim.refresh}).encode()
    second = victim.send("POST", "/auth/refresh", first).json()
    third = json.dumps({"refresh_token": second["refresh_token"]}).encode()
    newest = server.connect().send("POST", "/auth/refresh", third).json()
    # The successor was used, so the old one can only be a copy.
    assert is_problem(server.connect().send("POST", "/auth/refresh", first), 401)
    assert is_problem(server.connect(newest["access_token"]).send("GET", "/changes"), 401)
    again = json.dumps({"refresh_token": newest["refresh_token"]}).encode()
    assert is_problem(server.connect().send("POST", "/auth/refresh", again), 401)


def test_a_lost_answer_to_refresh_does_not_lock_the_device_out(server: RunningServer) -> None:
    device = server.login("owner", "train")
    body = json.dumps({"refresh_token": device.refresh}).encode()
    lost = server.connect().send("POST", "/auth/refresh", body).json()
    again = server.connect().send("POST", "/auth/refresh", body)
    assert again.status == 200
    token = again.json()["access_token"]
    assert server.connect(token).send("GET", "/changes").status == 200
    assert lost["refresh_token"] == again.json()["refresh_token"]


def test_a_refresh_token_raced_by_ten_requests_gives_no_second_line_of_tokens(server: RunningServer) -> None:
    device = server.login("owner", "race")
    body = json.dumps({"refresh_token": device.refresh}).encode()
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: server.connect().send("POST", "/auth/refresh", body), range(10)))
    tokens = {answer.json()["refresh_token"] for answer in answers if answer.status == 200}
    assert len(tokens) == 1


def test_a_revoked_device_is_out_at_once(server: RunningServer, owner: Connection) -> None:
    lost = server.login("owner", "lost phone")
    assert lost.send("GET", "/changes").status == 200
    mine = next(one for one in owner.send("GET", "/devices").json()["devices"] if one["name"] == "lost phone")
    assert owner.send("DELETE", f"/devices/{mine['id']}").status == 204
    assert is_problem(lost.send("GET", "/changes"), 401)
    body = json.dumps({"refresh_token": lost.refresh}).encode()
    assert is_problem(lost.send("POST", "/auth/refresh", body), 401)


def guess(server: RunningServer, address: str, user: str = "owner", password: str = "wrong password") -> int:
    body = json.dumps({"user": user, "password": password, "device": "x"}).encode()
    return server.connect().send("POST", "/auth/login", body, {"X-Forwarded-For": address}).status


def test_guessing_is_slowed_down_and_cannot_lock_the_owner_out(server: RunningServer, owner: Connection) -> None:
    statuses = [guess(server, "203.0.113.66") for _ in range(12)]
    assert statuses.count(429) >= 5
    assert set(statuses) <= {401, 429}
    # Even the right password is not told from that address now; from every other it works, and devices go on.
    assert guess(server, "203.0.113.66", password=PASSWORD) == 429
    assert guess(server, "198.51.100.7", password=PASSWORD) == 200
    assert owner.send("GET", "/changes").status == 200


def test_many_addresses_guessing_at_once_do_not_lock_the_owner_out(server: RunningServer) -> None:
    statuses = [guess(server, f"203.0.113.{number}") for number in range(100, 140)]
    assert set(statuses) <= {401, 429}
    assert guess(server, "198.51.100.8", password=PASSWORD) == 200


def test_an_unknown_user_is_told_nothing_else_than_a_wrong_password(server: RunningServer) -> None:
    def told(user: str) -> tuple[int, bytes, float]:
        body = json.dumps({"user": user, "password": "wrong password", "device": "x"}).encode()
        began = time.process_time_ns()
        answer = server.connect().send("POST", "/auth/login", body, {"X-Forwarded-For": f"192.0.2.{len(user)}"})
        return answer.status, answer.body, began

    known, unknown = told("owner"), told("nobody-here")
    assert known[:2] == unknown[:2]


@pytest.mark.parametrize("scope_route", [("DELETE", "/devices/1"), ("POST", "/app-passwords"), ("GET", "/audit")])
def test_an_app_password_cannot_manage_the_account(
    server: RunningServer, owner: Connection, loot: Loot, scope_route: tuple[str, str]
) -> None:
    made = owner.send("POST", "/app-passwords", json.dumps({"name": "mail client"}).encode()).json()
    basic = base64.b64encode(f"owner:{made['password']}".encode()).decode()
    method, path = scope_route
    outsider = server.connect()
    answer = outsider.send(
        method, path, b'{"name":"x"}' if method == "POST" else None, {"Authorization": f"Basic {basic}"}
    )
    assert is_problem(answer, 403)
    assert outsider.send("GET", "/files", headers={"Authorization": f"Basic {basic}"}).status == 200
    assert owner.send("DELETE", f"/devices/{made['id']}").status == 204
    assert is_problem(outsider.send("GET", "/files", headers={"Authorization": f"Basic {basic}"}), 401)
