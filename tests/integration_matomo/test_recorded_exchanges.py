"""The stand-in answers recorded requests as the real software did: one instance, all of them, in order."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from matomo import DATABASE_PASSWORD, PASSWORD, Answer, Box, Matomo

RECORDING = json.loads(
    (Path(__file__).parents[1] / "unit/plugins/data_matomo/exchanges.json").read_text(encoding="utf-8")
)["exchanges"]
CASES = [pytest.param(number, id=case["label"]) for number, case in enumerate(RECORDING)]
# Moments, random values and the version: present and of the same type is enough.
UNSTABLE = {"ts_created", "5.2.0-b5", "<token>", "<HTML"}
WIZARD_BYTES = 100_000


@pytest.fixture(scope="module")
def stand_in(box: Box) -> Matomo:
    return box.start()


@pytest.fixture(scope="module")
def answers(stand_in: Matomo) -> list[Answer]:
    return [_replay(stand_in, case) for case in RECORDING]


def _secret(label: str, name: str, matomo: Matomo) -> str:
    """What stood where the recording says <secret>."""
    if name == "token_auth":
        return "0" * 32 if "bad token" in label else str(matomo.token)
    if "database" in label:
        return "wrong" if "wrong" in label else DATABASE_PASSWORD
    if "short password" in label:
        return "short"
    return "wrong" if "wrong" in label else PASSWORD


def _replay(matomo: Matomo, case: dict[str, t.Any]) -> Answer:
    form = None
    if case["form"] is not None:
        form = {
            name: _secret(case["label"], name, matomo) if value == "<secret>" else value
            for name, value in case["form"].items()
        }
        if "dbname" in form:
            form.update(host=f"{matomo.network}-db", username=matomo.database, dbname=matomo.database)
    answer = matomo.send(case["method"], case["path"], form)
    if case["label"] == "create token":
        matomo.token = answer.data["value"]
    return answer


@pytest.mark.parametrize("number", CASES)
def test_status_kind_and_redirect_are_the_recorded_ones(number: int, answers: list[Answer]) -> None:
    case, answer = RECORDING[number], answers[number]

    assert answer.status == case["status"], answer.text[-500:]
    assert answer.headers.get("location") == case["location"]
    assert answer.headers.get("content-type", "").split(";")[0] == case["content_type"]


@pytest.mark.parametrize("number", CASES)
def test_the_body_says_what_was_recorded(number: int, answers: list[Answer]) -> None:
    recorded, answer = RECORDING[number]["body"], answers[number]

    if isinstance(recorded, str):
        assert answer.text == recorded
    elif isinstance(recorded, dict) and "html_contains" in recorded:
        assert all(marker in answer.text for marker in recorded["html_contains"])
        assert (len(answer.text) > WIZARD_BYTES) == (recorded["bytes"] > WIZARD_BYTES)
    else:
        _compare(recorded, answer.data)


def _compare(recorded: t.Any, said: t.Any, name: str = "") -> None:
    if isinstance(recorded, dict):
        assert set(said) == set(recorded)
        for key, value in recorded.items():
            _compare(value, said[key], key)
    elif isinstance(recorded, list):
        assert len(said) == len(recorded)
        for one, other in zip(recorded, said, strict=True):
            _compare(one, other)
    elif name in UNSTABLE or any(str(recorded).startswith(sign) for sign in UNSTABLE):
        assert isinstance(said, type(recorded))
        assert said
    else:
        assert said == recorded
