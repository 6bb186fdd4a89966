# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks for what keeps syncing from working and names the remedy of each."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sync_client import control, credentials
from sync_client.agent import open_trees
from sync_client.config import Places, load
from sync_client.errors import SyncError
from sync_client.folder import OWN
from sync_client.transport import Transport


@dataclass(slots=True)
class Finding:
    ok: bool
    what: str
    remedy: str = ""


def examine(places: Places) -> Iterator[Finding]:
    try:
        settings = load(places)
    except SyncError as error:
        yield Finding(False, "The settings cannot be read.", str(error))
        return
    yield Finding(bool(settings.server), "A server is set.", "Run `sync-client login https://…`.")
    yield Finding(bool(settings.folder), "A folder is set.", "Run `sync-client init FOLDER`.")
    status = control.ask(places.socket, {"do": "status"}, timeout=30) if places.socket.exists() else None
    yield Finding(status is not None, "The daemon runs.", "Run `sync-client service install`, or `sync-client start`.")
    if settings.server:
        yield from _server(places, settings.server, settings.ca, status is not None)
    yield from _database(places)
    if settings.folder:
        yield from _folder(Path(settings.folder))
    yield from _watches(Path(settings.folder) if settings.folder else None)
    if status is not None:
        yield Finding(not status["problem"], "The last round went through.", status["problem"])
        for problem in status["problems"][:50]:
            yield Finding(False, f"{problem['path']}", str(problem["reason"]))


def _server(places: Places, server: str, ca: str, daemon: bool) -> Iterator[Finding]:
    try:
        tokens = credentials.load(places)
        yield Finding(tokens is not None, "A login is kept.", f"Run `sync-client login {server}`.")
        transport = Transport(server, tokens=None if daemon else tokens, ca=Path(ca) if ca else None)
        transport.tokens_saved_by(lambda fresh: credentials.store(places, fresh))
        if daemon:
            # The daemon alone renews the login; here only the way to the server is tried.
            transport.reachable()
            yield Finding(True, f"{server} answers.")
        elif tokens is not None:
            transport.snapshot(None)
            yield Finding(True, f"{server} answers and the login is valid.")
    except SyncError as error:
        yield Finding(False, "The server and the login.", str(error))


def _database(places: Places) -> Iterator[Finding]:
    if not places.database.exists():
        return
    try:
        open_trees(places).close()
        yield Finding(True, "The state database is sound.")
    except SyncError as error:
        yield Finding(False, "The state database.", str(error))


def _folder(root: Path) -> Iterator[Finding]:
    if not root.is_dir():
        yield Finding(False, f"{root} is there.", "Mount its disk, or run `sync-client init FOLDER` for another one.")
        return
    yield Finding(
        (root / OWN / "id").exists(), f"{root} has its mark.", f"Is its disk mounted? If so: `sync-client init {root}`."
    )
    yield Finding(
        os.access(root, os.W_OK), f"{root} can be written to.", "Make it writable; until then nothing is fetched."
    )
    free = shutil.disk_usage(root).free
    yield Finding(free > 100_000_000, "The disk has room.", f"Only {free // 1_000_000} MB are left: free some space.")
    aside = [*(root / OWN / "tmp").glob("swap-*"), *(root / OWN / "tmp").glob("gone-*")]
    yield Finding(
        not aside,
        "Nothing lies out of the way.",
        f"Run `sync-client sync`: {len(aside)} edits made while a newer version arrived wait in {root / OWN / 'tmp'}.",
    )


def _watches(root: Path | None) -> Iterator[Finding]:
    try:
        limit = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text())
    except (OSError, ValueError):
        return
    folders = 0
    if root is not None and root.is_dir():
        for _ in os.walk(root):
            folders += 1
    yield Finding(
        folders < limit * 0.9,
        f"The system lets {limit} folders be watched; there are {folders}.",
        "Raise it: echo fs.inotify.max_user_watches=524288 | sudo tee /etc/sysctl.d/60-inotify.conf"
        " && sudo sysctl --system",
    )


def repair(places: Places) -> list[str]:
    """Set a damaged state database aside; the next round makes it anew from the folder and the server."""
    done = []
    try:
        open_trees(places).close()
        return ["The state database is sound; nothing to repair."]
    except SyncError:
        pass
    mark = None
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", "-wal", "-shm"):
        file = places.database.with_name(places.database.name + suffix)
        if file.exists():
            file.rename(file.with_name(f"{places.database.name}.damaged-{stamp}{suffix}"))
    settings = load(places)
    trees = open_trees(places)
    if settings.folder:
        with_mark = Path(settings.folder) / OWN / "id"
        mark = with_mark.read_text().strip() if with_mark.exists() else None
    if mark:
        with trees.change():
            trees.remember("mark", mark)
    trees.close()
    done.append(f"Set the damaged database aside as {places.database}.damaged-{stamp} and made a new one.")
    done.append(
        "The next round compares the folder with the server: what is equal stays, what differs is kept twice, and what"
        " was deleted on one side only comes back."
    )
    return done
