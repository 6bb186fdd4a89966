# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the database to the newest form, with a copy of the old one first."""

from __future__ import annotations

import os
import re
import sqlite3
from datetime import UTC, datetime
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from sync_server.store.blobs import fsync_folder
from sync_server.store.interface import StoreFailed

_NAME = re.compile(r"(\d{4})_\w+\.sql")


def migrations(folder: Traversable | None = None) -> list[tuple[int, str, str]]:
    """Number, name and text of each, in order."""
    source = folder or resources.files("sync_server.store") / "migrations"
    found = []
    for entry in source.iterdir():
        match = _NAME.fullmatch(entry.name)
        if match is not None:
            found.append((int(match[1]), entry.name, entry.read_text(encoding="utf-8")))
    return sorted(found)


def migrate(connection: sqlite3.Connection, backups: Path, folder: Traversable | None = None) -> Path | None:
    """Apply what is missing, each in one transaction; returns the copy made before, if there was something to copy.

    A database newer than this program is refused: going on would damage what it does not know.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    known = migrations(folder)
    newest = known[-1][0] if known else 0
    if version > newest:
        raise StoreFailed(
            f"The database is of a newer version ({version}) than this program knows ({newest}): update the program."
        )
    missing = [entry for entry in known if entry[0] > version]
    if not missing:
        return None
    copy = None
    if version > 0:
        backups.mkdir(mode=0o700, exist_ok=True)
        copy = backups / f"before-{missing[-1][0]:04d}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.sqlite3"
        # Under its name only when it is whole: one that was cut off must never be taken for a way back.
        partial = copy.with_suffix(".partial")
        try:
            connection.execute("VACUUM INTO ?", (str(partial),))
        except sqlite3.Error:
            partial.unlink(missing_ok=True)
            raise
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(copy)
        fsync_folder(backups)
    for number, name, text in missing:
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{text}\nPRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise StoreFailed(
                f"The migration {name} failed ({error}); nothing was changed"
                + (f", and the database before it is {copy}." if copy else ".")
            ) from error
    return copy
