# Copyright (c) 2026, Diego Nepomuceno Marcos
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packs sources into an archive that is the same, byte for byte, wherever and whenever it is made."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

# What tools leave behind between the sources.
LEFT_OVER = frozenset({"__pycache__", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "dist"})


class ContextError(Exception):
    """Names the path that cannot be packed."""


def sources(root: Path, paths: Iterable[str], exclude: Iterable[str]) -> Iterator[Path]:
    """Yield the files below `paths`, relative to `root`, in a fixed order, without `exclude` and what tools leave."""
    unwanted = {Path(path) for path in exclude}
    for name in sorted(paths):
        start = root / name
        if not start.exists():
            raise ContextError(f"{start} is missing: the collection is incomplete, install it again.")
        found = [start] if start.is_file() else sorted(start.rglob("*"))
        for path in found:
            inside = path.relative_to(root)
            if path.is_file() and not LEFT_OVER & set(inside.parts) and not unwanted & {inside, *inside.parents}:
                yield inside


def pack(root: Path, files: Iterable[Path]) -> bytes:
    """Return a gzipped tar of `files`: owner, time and umask of this machine do not show, the executable bit does."""
    with tempfile.SpooledTemporaryFile() as plain:
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for inside in files:
                path = root / inside
                entry = tarfile.TarInfo(inside.as_posix())
                entry.size = path.stat().st_size
                entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                with path.open("rb") as content:
                    archive.addfile(entry, content)
        plain.seek(0)
        return gzip.compress(plain.read(), mtime=0)


def digest(root: Path, files: Iterable[Path], *more: str) -> str:
    """Digest names, modes and bytes of `files`, and what else the build depends on; compression has no say in it."""
    state = hashlib.sha256("\0".join(more).encode())
    for inside in files:
        path = root / inside
        state.update(f"\0{inside.as_posix()}\0{path.stat().st_mode & 0o100}\0{path.stat().st_size}\0".encode())
        state.update(path.read_bytes())
    return state.hexdigest()


def write(path: Path, content: bytes) -> None:
    """Put an archive in place in one step, readable to its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
