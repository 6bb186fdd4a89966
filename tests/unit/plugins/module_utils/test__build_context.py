from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils import _build_context


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "app/src/main.py",
        "app/src/__pycache__/main.pyc",
        "app/tests/test_main.py",
        "shared/types.py",
        "other",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def pick(root: Path) -> list[Path]:
    return list(_build_context.sources(root, ["shared", "app"], ["app/tests"]))


def test_only_what_is_named_is_packed_and_neither_tests_nor_left_overs(tree: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(_build_context.pack(tree, pick(tree)))) as archive:
        assert archive.getnames() == ["app/src/main.py", "shared/types.py"]
        content = archive.extractfile("shared/types.py")
        assert content is not None
        assert content.read() == b"shared/types.py"


def test_neither_times_nor_the_umask_change_archive_or_digest(tree: Path) -> None:
    before = _build_context.pack(tree, pick(tree)), _build_context.digest(tree, pick(tree))
    (tree / "app/src/main.py").chmod(0o600)
    os.utime(tree / "app/src/main.py", (1, 1))
    assert (_build_context.pack(tree, pick(tree)), _build_context.digest(tree, pick(tree))) == before


@pytest.mark.parametrize("change", ["content", "mode", "new file", "moved byte", "dependency"])
def test_whatever_changes_the_image_changes_the_digest(tree: Path, change: str) -> None:
    before = _build_context.digest(tree, pick(tree), "python:3.13")
    dependency = "python:3.13"
    if change == "content":
        (tree / "shared/types.py").write_text("else")
    elif change == "mode":
        (tree / "shared/types.py").chmod(0o755)
    elif change == "new file":
        (tree / "shared/empty.py").touch()
    elif change == "moved byte":
        (tree / "app/src/main.py").rename(tree / "app/src/main.p")
        (tree / "app/src/main.p").write_text("yapp/src/main.py")
    else:
        dependency = "python:3.14"
    assert _build_context.digest(tree, pick(tree), dependency) != before


def test_an_incomplete_collection_is_told(tree: Path) -> None:
    with pytest.raises(_build_context.ContextError, match=r"app/Dockerfile is missing: .* install it again"):
        list(_build_context.sources(tree, ["app/Dockerfile"], []))


def test_the_archive_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "contexts" / "x.tar.gz"
    _build_context.write(path, b"x")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert [found.name for found in path.parent.iterdir()] == ["x.tar.gz"]
