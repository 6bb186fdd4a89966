from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    own = {"owner": str(os.getuid()), "group": str(os.getgid())}
    return {
        "files": [
            {"path": f"{tmp_path}/app", "state": "directory", **own},
            {"path": f"{tmp_path}/app/conf", "content": "a = 1\n", "validate": "grep -q '^a =' %s", **own},
            {"path": f"{tmp_path}/app/token", "content": "hunter2\n", "no_diff": True, "mode": "0600", **own},
        ],
        "pending": "app",
        "pending_directory": f"{tmp_path}/pending",
    }


def test_check_then_run_then_check_then_run(run_module: RunModule, arguments: dict[str, Any], tmp_path: Path) -> None:
    predicted = run_module("config_files", arguments, check=True)
    assert not (tmp_path / "app").exists()
    done = run_module("config_files", arguments)
    (tmp_path / "pending" / "app").unlink()
    predicted_again = run_module("config_files", arguments, check=True)
    done_again = run_module("config_files", arguments)

    assert [run["changed"] for run in (predicted, done, predicted_again, done_again)] == [True, True, False, False]
    assert predicted["changed_files"] == done["changed_files"] == [entry["path"] for entry in arguments["files"]]
    assert (tmp_path / "app" / "token").read_text() == "hunter2\n"
    for run in (predicted, done):
        assert "a = 1" in str(run["diff"])
        assert "hunter2" not in str(run)


def test_a_task_reports_changed_until_its_handler_has_run(
    run_module: RunModule, arguments: dict[str, Any], tmp_path: Path
) -> None:
    run_module("config_files", arguments)

    again = run_module("config_files", arguments)

    assert (again["changed"], again["changed_files"], again["pending"]) == (True, [], True)


@pytest.fixture
def system_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the module sends to the system log, which not every machine that runs tests keeps."""
    log = tmp_path / "syslog"
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(
        "import syslog\n"
        "send = syslog.syslog\n"
        "def copy(priority, message):\n"
        f"    print(message, file=open({str(log)!r}, 'a'))\n"
        "    send(priority, message)\n"
        "syslog.syslog = copy\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "python"))
    return log


def test_no_content_is_in_the_result_or_the_system_log_however_the_task_ends(
    run_module: RunModule, arguments: dict[str, Any], system_log: Path
) -> None:
    refused = {**arguments["files"][1], "content": "hunter3\n"}
    malformed = {**arguments["files"][1], "content": "hunter4\n", "state": "prensent"}

    results = [
        run_module("config_files", {**arguments, "files": arguments["files"]}),
        run_module("config_files", {**arguments, "files": [refused]}),
        run_module("config_files", {**arguments, "files": [malformed]}),
    ]

    assert [result.get("failed", False) for result in results] == [False, True, True]
    assert "is not valid" in results[1]["msg"]
    assert "prensent" in results[2]["msg"]
    for result in results:
        assert "hunter" not in str(result)
        assert str(arguments["files"][1]["path"]) in str(result["invocation"])
    logged = system_log.read_text()
    assert str(arguments["files"][2]["path"]) in logged
    assert "hunter" not in logged
