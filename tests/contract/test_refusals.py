"""Wrong requests are refused in the words of the real software's validator, which clients and people read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from npm import Npm

REFUSALS = json.loads((Path(__file__).parent / "data/refusals.json").read_text(encoding="utf-8"))["refusals"]


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: f"{case['method']} {case['path']}")
def test_is_refused_in_the_same_words(npm: Npm, case: Any) -> None:
    answer = npm.api(case["method"], case["path"], case["body"])

    assert (answer.status, answer.json["error"]) == (400, {"code": 400, "message": case["message"]})


@pytest.mark.parametrize("path", ["/nginx/proxy-hosts", "/nginx/certificates", "/nginx/access-lists", "/users"])
def test_relations_that_do_not_exist_are_an_error(npm: Npm, path: str) -> None:
    assert npm.api("GET", f"{path}?expand=bogus").status == 500


def test_a_body_that_is_no_json_is_refused(npm: Npm) -> None:
    answer = npm.send(81, "POST", "/api/tokens", {"Content-Type": "application/json"}, b"{")

    assert (answer.status, answer.json) == (400, {"error": {"code": 400, "message": "Internal Error"}})
