"""Plays Matomo for the unit tests: answers recorded from 5.2.0-b5, in the order a test wants them."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path
from urllib.parse import parse_qs

from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_api import Api

RECORDED: dict[str, dict[str, t.Any]] = {
    one["label"]: one
    for one in json.loads((Path(__file__).parents[1] / "data_matomo/exchanges.json").read_text())["exchanges"]
}
INSTALLED = (200, "", b"<p>This resource is part of Matomo.</p>")
WIZARD = (200, "", b"<html><h1>Welcome</h1>" + b" " * 150_000 + b"</html>")
BAD_GATEWAY = (502, "", b"<html><h1>502 Bad Gateway</h1></html>")
NO_DATABASE = (500, "", b"<div class='alert'>SQLSTATE[HY000] [2002] Connection refused</div>")

Answer = str | tuple[int, str, bytes] | OSError


class Line:
    """Plays answers back, in order, and notes what was asked and how long the client slept."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, dict[str, list[str]]]] = []
        self.headers: list[dict[str, str]] = []
        self.slept = 0.0

    def __call__(
        self, method: str, path: str, data: bytes | None, headers: t.Mapping[str, str], timeout: float
    ) -> tuple[int, str, bytes]:
        self.asked.append((method, path, parse_qs((data or b"").decode())))
        self.headers.append(dict(headers))
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return recorded(answer) if isinstance(answer, str) else answer

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def api(self, **options: t.Any) -> Api:
        options = {"host_name": "analytics.example.org", "wait": 5, "token": "a" * 32, **options}
        return Api(self, url="http://matomo", sleep=self.sleep, clock=lambda: self.slept, **options)


def recorded(label: str) -> tuple[int, str, bytes]:
    one = RECORDED[label]
    body = one["body"]
    text = body if isinstance(body, str) else json.dumps(body)
    return one["status"], one["location"] or "", text.encode()
