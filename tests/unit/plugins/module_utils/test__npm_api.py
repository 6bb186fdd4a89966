"""The client of Nginx Proxy Manager's API, against answers recorded from 2.15.1."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import (
    Api,
    Interrupted,
    NpmError,
    RequestFailed,
    Unreachable,
    WrongPassword,
    check_version,
    looks_unauthorised,
    multipart,
    parse_reply,
    parse_status,
)

RECORDED: dict[str, dict[str, t.Any]] = {
    one["label"]: one
    for one in json.loads((Path(__file__).parents[1] / "data_npm/exchanges.json").read_text())["exchanges"]
}
BAD_GATEWAY = (502, b"<html><h1>502 Bad Gateway</h1></html>")
HEALTH = "health after setup"

Answer = str | tuple[int, bytes] | OSError


class Line:
    """Plays recorded answers back, in order, and notes what was asked and how long the client slept."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.authorizations: list[str | None] = []
        self.slept = 0.0

    def __call__(
        self, method: str, path: str, data: bytes | None, headers: t.Mapping[str, str], timeout: float
    ) -> tuple[int, bytes]:
        self.asked.append(f"{method} {path}")
        self.authorizations.append(headers.get("Authorization"))
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return recorded(answer) if isinstance(answer, str) else answer

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def api(self, **options: t.Any) -> Api:
        login = {"email": "admin@example.org", "password": "S3cret-pass-1", "wait": 5, **options}
        return Api(self, url="http://npm:81", sleep=self.sleep, clock=lambda: self.slept, **login)


def recorded(label: str) -> tuple[int, bytes]:
    return RECORDED[label]["status"], json.dumps(RECORDED[label]["response"]).encode()


@pytest.mark.parametrize(
    ("label", "suspicious"),
    [("no token", True), ("garbage token", True), ("404", False), ("empty list", False)],
)
def test_a_missing_right_is_told_from_a_missing_object(label: str, suspicious: bool) -> None:
    assert looks_unauthorised("GET", parse_reply(*recorded(label))) is suspicious


def test_a_fixed_version_that_answers_403_means_log_in_again_too() -> None:
    assert looks_unauthorised("GET", parse_reply(403, b'{"error":{"message":"Permission Denied"}}'))


@pytest.mark.parametrize("refusal", ["no token", "garbage token"])
def test_an_old_token_is_replaced_by_logging_in_once(refusal: str) -> None:
    line = Line(refusal, "login", "empty list")

    assert line.api(token="old").get("/nginx/proxy-hosts") == []
    assert line.asked == ["GET /nginx/proxy-hosts", "POST /tokens", "GET /nginx/proxy-hosts"]
    assert line.authorizations == ["Bearer old", None, "Bearer <jwt>"]


def test_an_account_without_the_right_is_named_and_not_retried_for_ever() -> None:
    line = Line("login", "no token")

    with pytest.raises(RequestFailed, match=r"admin@example\.org must be an administrator"):
        line.api().get("/nginx/proxy-hosts")


def test_an_old_token_without_a_password_asks_for_one() -> None:
    with pytest.raises(NpmError, match="give email and password"):
        Line("no token").api(token="old", email=None, password=None).get("/nginx/proxy-hosts")


def test_the_account_is_looked_up_in_lower_case() -> None:
    assert Line().api(email=" Admin@Example.ORG ").email == "admin@example.org"


def test_a_refused_password_is_an_error_of_its_own() -> None:
    with pytest.raises(WrongPassword, match=r"admin@example\.org"):
        Line("bad pw").api().login()


def test_a_second_factor_is_explained() -> None:
    line = Line((200, b'{"requires_2fa":true,"challenge_token":"x"}'))

    with pytest.raises(NpmError, match="second factor"):
        line.api().login()


def test_a_bad_gateway_is_waited_for() -> None:
    line = Line(BAD_GATEWAY, ConnectionRefusedError("refused"), BAD_GATEWAY, HEALTH)

    assert line.api().status().setup is True
    assert line.slept == 3


def test_waiting_ends_and_says_where_to_look() -> None:
    with pytest.raises(Unreachable, match=r"within 2 s.*docker logs npm"):
        Line(*[BAD_GATEWAY] * 5).api(wait=2).status()


def test_html_with_status_200_is_not_the_api() -> None:
    with pytest.raises(Unreachable):
        Line(*[(200, b"<html></html>")] * 5).api(wait=2).status()


def test_an_impatient_caller_learns_of_a_refused_connection_at_once() -> None:
    line = Line(ConnectionRefusedError("refused"))

    with pytest.raises(Unreachable):
        line.api().status(patient=False)
    assert line.slept == 0


@pytest.mark.parametrize("accident", [BAD_GATEWAY, TimeoutError("timed out"), ConnectionResetError("reset")])
def test_a_creation_that_was_interrupted_is_not_sent_twice_when_it_had_worked(accident: Answer) -> None:
    line = Line(accident, HEALTH)

    assert line.api(token="good").create("/nginx/proxy-hosts", {"a": 1}, find=lambda: {"id": 7}) == {"id": 7}
    assert line.asked == ["POST /nginx/proxy-hosts", "GET /"]


def test_a_creation_that_was_interrupted_is_repeated_when_it_had_not_worked() -> None:
    line = Line(BAD_GATEWAY, HEALTH, "create minimal")

    assert line.api(token="good").create("/nginx/proxy-hosts", {"a": 1}, find=lambda: None)["id"] == 1


def test_a_refused_connection_carries_nothing_out_so_any_request_is_sent_again() -> None:
    line = Line(ConnectionRefusedError("refused"), "create minimal")

    assert line.api(token="good").post("/nginx/proxy-hosts", {})["id"] == 1


def test_a_post_whose_fate_is_unknown_says_so_once_the_api_is_back() -> None:
    line = Line(BAD_GATEWAY, BAD_GATEWAY, HEALTH)

    with pytest.raises(Interrupted):
        line.api(token="good").post("/nginx/certificates", {})
    assert line.slept == 1


def test_deleting_what_is_gone_is_fine() -> None:
    Line("delete again").api(token="good").delete("/nginx/proxy-hosts/3")


def test_the_api_s_own_words_reach_the_user() -> None:
    line = Line("update to a domain taken by another host")

    with pytest.raises(RequestFailed, match=r"sync\.example\.com is already in use"):
        line.api(token="good").put("/nginx/proxy-hosts/6", {})


def test_an_internal_error_of_a_broken_nginx_names_the_way_out() -> None:
    line = Line("change another host while nginx -t fails")

    with pytest.raises(RequestFailed, match="docker exec npm nginx -t"):
        line.api(token="good").put("/nginx/proxy-hosts/5", {})


@pytest.mark.parametrize("version", [(2, 12, 6), (2, 10, 0), (1, 99, 0)])
def test_versions_before_2_13_are_refused(version: tuple[int, int, int]) -> None:
    major, minor, revision = version
    body = {"status": "OK", "version": {"major": major, "minor": minor, "revision": revision}}
    status = parse_status(parse_reply(200, json.dumps(body).encode()))

    assert status is not None
    with pytest.raises(NpmError, match=rf"{major}\.{minor}\.{revision} is too old.*npm_image"):
        check_version(status)


def test_the_health_address_tells_a_new_instance_from_one_in_use() -> None:
    new, used = (parse_status(parse_reply(*recorded(label))) for label in ("health before setup", HEALTH))

    assert new is not None
    assert used is not None
    assert (new.setup, used.setup, used.version_text) == (False, True, "2.15.1")


def test_an_upload_carries_each_file_under_its_name() -> None:
    body, content_type = multipart({"certificate": "PEM-1", "certificate_key": "PEM-2"})

    boundary = content_type.partition("boundary=")[2]
    parts = body.decode().split(f"--{boundary}")
    assert 'name="certificate"' in parts[1]
    assert parts[1].endswith("PEM-1\r\n")
    assert 'name="certificate_key"' in parts[2]
    assert parts[3] == "--\r\n"
