"""The description is valid, complete, and what the server does is what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import log_in
from openapi_spec_validator import validate
from real_process.server import RunningServer

from sync_server import docs, openapi
from sync_server.app import OPERATIONS


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(openapi.encode(OPERATIONS))
    return loaded


def test_it_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    validate(document)


def test_every_operation_is_in_it_with_its_problems(document: dict[str, Any]) -> None:
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(operation.method, operation.path) for operation in OPERATIONS}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["summary"], path
            if operation["security"]:
                assert {"401", "403"} <= operation["responses"].keys(), path


def test_names_are_unique(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


def test_it_is_served_and_printed_alike(document: dict[str, Any], base_url: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "sync_server", "openapi"], capture_output=True, check=True, text=True
    ).stdout
    assert json.loads(printed) == document == httpx.get(f"{base_url}/openapi.json").json()


def test_the_page_shows_every_operation_and_loads_nothing(document: dict[str, Any], base_url: str) -> None:
    page = httpx.get(f"{base_url}/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    for methods in document["paths"].values():
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in page.text
    assert "<script" not in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text


def test_what_a_description_says_cannot_become_part_of_the_page() -> None:
    evil = '<img src=x onerror="alert(1)">`<b>`'
    page, _ = docs.render(
        {
            "info": {"title": evil, "version": evil, "description": evil},
            "tags": [{"name": evil, "description": evil}],
            "paths": {},
            "components": {"schemas": {evil: {"description": evil}}},
        }
    )
    assert b"<img" not in page
    assert b"<b>" not in page


CONFIG = Path(__file__).parent / "schemathesis.toml"


# The handlers are the same behind uvicorn; half a minute is better spent elsewhere.
@pytest.mark.parametrize("server", ["granian"], indirect=True, scope="session")
@pytest.mark.timeout(150)
def test_schemathesis_finds_nothing(server: RunningServer, base_url: str, tmp_path: Path) -> None:
    if "fuzz" not in server.tool("user", "list").stdout:
        server.add_user("fuzz")
    with httpx.Client(base_url=f"{base_url}/api/v1") as client:
        token = log_in(client, "fuzz")["access_token"]
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(CONFIG),
            "run", f"{base_url}/openapi.json",
            "--checks", "all",
            "--phases", "examples,coverage,fuzzing,stateful",
            "--max-examples", os.environ.get("SCHEMATHESIS_EXAMPLES", "10"),
            "--header", f"Authorization: Bearer {token}",
            # They end the session of the test itself, or wait for news that never comes.
            "--exclude-path-regex", "/auth/(logout|login|password)|/devices/|/events|/metrics",
            "--generation-database", "none", "--seed", "1", "--no-color", "--request-timeout", "20",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CONFIG.parent)},
        check=False,
        timeout=140,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-40000:] + done.stderr[-2000:]
