"""`sync-server user apply`: accounts as a configuration tool lists them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ANA = {"name": "ana", "password": "correct horse", "quota": "1G"}


@pytest.fixture
def apply(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(wanted: object, *flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sync_server", "user", "apply", "--data-dir", str(tmp_path / "data"), *flags]
        return subprocess.run(command, input=json.dumps(wanted), capture_output=True, text=True, timeout=60)

    return run


def test_a_list_is_applied_once(apply: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert apply([ANA], "--dry-run").stdout == "made account ana\n"
    assert apply([ANA]).stdout == "made account ana\n"
    assert apply([ANA]).stdout == ""


def test_only_what_differs_is_corrected(apply: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    apply([ANA])
    changed = [{**ANA, "password": "another horse"}, {"name": "ben", "password": "correct horse"}]
    wanted = "set the password of ana\nmade account ben\n"
    assert apply(changed, "--dry-run").stdout == wanted
    assert apply(changed).stdout == wanted
    assert apply(changed).stdout == ""
    assert apply([{**changed[0], "quota": "2G"}]).stdout == "set the quota of ana to 2G\n"
    assert apply([{"name": "ana", "password": "another horse"}]).stdout == "set the quota of ana to the default\n"


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ([ANA, {"name": "ben", "password": "short"}], "at least 10 characters"),
        (
            [ANA, {"name": "ben", "password": "correct horse", "quota": "big"}],
            "the quota of ben must be a whole number",
        ),
        ([ANA, {"name": "ben", "pasword": "correct horse"}], "the list cannot be used"),
        ({"ana": "correct horse"}, "the list cannot be used"),
    ],
)
def test_one_mistake_in_the_list_changes_nothing(
    apply: Callable[..., subprocess.CompletedProcess[str]], wanted: object, sentence: str
) -> None:
    refused = apply(wanted)
    assert refused.returncode == 1
    assert sentence in refused.stderr
    assert "horse" not in refused.stderr
    assert apply([ANA], "--dry-run").stdout == "made account ana\n"
