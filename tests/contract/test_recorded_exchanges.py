"""The stand-in answers recorded requests as the real software did.

One instance, from an empty database, gets every recorded request in order; then each answer is compared with the
recorded one, and with the published description of the API.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from npm import Answer, Npm, Part, Start
from pem import self_signed

RECORDING = json.loads((Path(__file__).parent / "data/exchanges.json").read_text(encoding="utf-8"))["exchanges"]
# Numbered, because some labels occur twice.
CASES = [pytest.param(number, id=f"{number}-{case['label']}") for number, case in enumerate(RECORDING)]
# Moments, random values and texts of other programs: present and of the same type is enough.
UNSTABLE = {
    "avatar",
    "cmd",
    "created_on",
    "expires",
    "expires_on",
    "from",
    "issuer",
    "modified_on",
    "nginx_err",
    "stack",
    "to",
    "token",
}
MORE = re.compile(r"\.\.\. \d+ more")


@pytest.fixture(scope="module")
def stand_in(start: Start, acme: dict[str, str]) -> Npm:
    return start(acme, named=("analytics", "mail", "sync"))


@pytest.fixture(scope="module")
def description(stand_in: Npm) -> Any:
    return stand_in.ok("GET", "/schema", token=None)


@pytest.fixture(scope="module")
def answers(stand_in: Npm) -> list[Answer]:
    return [_replay(stand_in, number, case) for number, case in enumerate(RECORDING)]


def _replay(stand_in: Npm, number: int, case: dict[str, Any]) -> Answer:
    request, label = case["request"], case["label"]
    _between(stand_in, number)
    parts = None
    if request["body"] is None and label in ("validate", "upload"):
        parts = [Part("certificate", CERTIFICATE), Part("certificate_key", KEY)]
    elif label == "validate mismatched key":
        parts = [Part("certificate", CERTIFICATE), Part("certificate_key", OTHER_KEY)]
    elif label == "validate garbage":
        parts = [Part("certificate", CERTIFICATE), Part("certificate_key", "garbage")]
    token = {"no token": None, "garbage token": "garbage"}.get(label, "")
    answer = stand_in.api(request["method"], request["path"], request["body"], token=token, parts=parts)
    if label == "login":
        stand_in.token = answer.json["token"]
    return answer


def _between(stand_in: Npm, number: int) -> None:
    """What happened to the recorded instance between two recorded requests."""
    if RECORDING[number]["label"] == "list with unknown expand":
        change = {"forward_host": "web", "forward_port": 80, "block_exploits": False, "allow_websocket_upgrade": False}
        stand_in.ok("PUT", "/nginx/proxy-hosts/1", change)
    if RECORDING[number]["label"] == "renew":
        # The certificate was requested for a live name, which leaves the host without a place for the challenge.
        # The recorded ACME server remembered the name from the last time; here it asks each time.
        stand_in.ok("PUT", "/nginx/proxy-hosts/1", {"certificate_id": 2})
    if RECORDING[number]["label"] == "repair":
        stand_in.inside("rm", "/data/nginx/proxy_host/1.conf")


CERTIFICATE, KEY = self_signed("analytics.example.com")
_, OTHER_KEY = self_signed("other.example.com")


@pytest.mark.parametrize("number", CASES)
def test_answers_as_recorded(answers: list[Answer], number: int) -> None:
    case, answer = RECORDING[number], answers[number]
    recorded, got = _like(case["response"], answer.json)
    assert (answer.status, _stable(got)) == (case["status"], _stable(recorded))


@pytest.mark.parametrize("number", [case for case in CASES if RECORDING[case.values[0]]["status"] < 300])
def test_deviates_from_the_published_description_only_where_the_real_software_does(
    answers: list[Answer], description: Any, number: int
) -> None:
    case, answer = RECORDING[number], answers[number]
    schema = _schema(description, case["request"]["path"], case["request"]["method"], case["status"])
    recorded, got = _like(case["response"], answer.json)
    assert _deviations(schema, got) == _deviations(schema, recorded)


def _schema(description: Any, path: str, method: str, status: int) -> Any:
    path = path.partition("?")[0]
    templates = [path, *(template for template in description["paths"] if _fits(template, path))]
    paths = description["paths"]
    operations = next(paths[template] for template in templates if template in paths)
    # Of some answers the description says nothing but that they are JSON.
    return operations[method.lower()]["responses"][str(status)]["content"]["application/json"].get("schema", {})


def _fits(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) is not None


def _deviations(schema: Any, value: Any) -> set[tuple[str, str]]:
    """Where a value breaks the description, and by which keyword."""
    errors = jsonschema.Draft202012Validator(schema).iter_errors(value)
    return {("/".join(map(str, error.absolute_path)), str(error.validator)) for error in errors}


def _like(recorded: Any, got: Any) -> tuple[Any, Any]:
    """Cut both to the rows that the recording kept of a long list."""
    if isinstance(recorded, list) and recorded and isinstance(recorded[-1], str) and MORE.fullmatch(recorded[-1]):
        kept = len(recorded) - 1
        return recorded[:kept], got[:kept]
    return recorded, got


def _stable(value: Any, name: str = "") -> Any:
    """Blank what differs from run to run."""
    if name in UNSTABLE:
        return type(value).__name__
    if isinstance(value, dict):
        # The number of a line in the audit log counts what was not recorded, too.
        unnumbered = {"id": None} if "object_type" in value else {}
        return {key: _stable(inner, key) for key, inner in (value | unnumbered).items()}
    if isinstance(value, list):
        return [_stable(inner) for inner in value]
    return "<pem>" if isinstance(value, str) and "-----BEGIN" in value else value
