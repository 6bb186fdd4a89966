from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunModule = Callable[..., dict[str, Any]]

STACK = [{"name": "os", "expected": 1}, {"name": "docker", "expected": 1}, {"name": "npm", "expected": 1, "limit": 2}]


@pytest.mark.parametrize("check", [False, True])
def test_a_plan_that_fits_changes_nothing_and_returns_a_table(run_module: RunModule, check: bool) -> None:
    result = run_module("memory_budget", {"state": "planned", "budget": STACK, "reserve": 1}, check=check)

    assert (result["changed"], result.get("failed", False), result["problems"]) == (False, False, [])
    assert any(line.startswith("npm") for line in result["table"])


@pytest.mark.parametrize("check", [False, True])
def test_a_plan_over_the_memory_fails_with_the_table_in_its_message(run_module: RunModule, check: bool) -> None:
    budget = [*STACK, {"name": "llm", "expected": 10**8, "limit": 10**8}]

    result = run_module("memory_budget", {"state": "planned", "budget": budget}, check=check)

    assert result["failed"]
    assert "llm (100000000), npm (1)" in result["msg"]
    assert all(line in result["msg"] for line in result["table"])


def test_a_budget_that_makes_no_sense_is_refused(run_module: RunModule) -> None:
    result = run_module("memory_budget", {"state": "planned", "budget": [*STACK, STACK[2]]})

    assert result["failed"]
    assert result["msg"] == "The memory budget has two lines for npm: keep one."


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments for a host without Docker, which any machine is once its programs are out of sight."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return {"state": "measured", "state_file": f"{tmp_path}/state.json", "budget": STACK}


def test_measuring_where_nothing_runs_fails_only_when_asked_to(run_module: RunModule, measured: dict[str, Any]) -> None:
    lenient = run_module("memory_budget", measured)
    strict = run_module("memory_budget", {**measured, "fail_on": ["not_running"]})
    checked = run_module("memory_budget", {**measured, "fail_on": ["not_running"]}, check=True)

    assert [result.get("failed", False) for result in (lenient, strict, checked)] == [False, True, False]
    assert [result["changed"] for result in (lenient, strict, checked)] == [False] * 3
    assert "npm is in the budget but does not run." in strict["msg"]
    assert "warnings" not in lenient, "a host without Docker is nothing to warn about"


def test_only_a_real_run_remembers(run_module: RunModule, measured: dict[str, Any]) -> None:
    run_module("memory_budget", measured, check=True)
    checked = Path(measured["state_file"]).exists()
    run_module("memory_budget", measured)

    assert not checked
    assert Path(measured["state_file"]).exists()
