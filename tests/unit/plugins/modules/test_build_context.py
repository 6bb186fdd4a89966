from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_the_archive_is_made_once_and_named_by_its_content(
    run_module: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    arguments = {"root": str(tmp_path), "paths": ["Dockerfile"], "dest": str(tmp_path / "contexts")}
    planned = run_module("build_context", arguments, check=True)
    assert planned["changed"]
    assert not Path(planned["path"]).exists()
    first = run_module("build_context", arguments)
    assert first["changed"]
    assert first["digest"] in Path(first["path"]).name
    assert Path(first["path"]).exists()
    second = run_module("build_context", arguments)
    assert not second["changed"]
    assert second["digest"] == planned["digest"]


def test_a_missing_source_is_named(run_module: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    refused = run_module(
        "build_context", {"root": str(tmp_path), "paths": ["nowhere"], "dest": str(tmp_path / "contexts")}
    )
    assert refused["failed"]
    assert f"{tmp_path}/nowhere is missing" in refused["msg"]
