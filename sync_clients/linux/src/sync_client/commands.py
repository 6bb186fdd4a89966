# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands do, inside the daemon or in a process of their own when none runs. One function for each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sync_client.errors import SyncError
from sync_client.trees import DIR, LINK, ROOT, Entry

if TYPE_CHECKING:
    from sync_client.agent import Agent
    from sync_client.control import Message


def run(agent: Agent, request: Message) -> Message:
    command = COMMANDS.get(str(request.get("do")))
    if command is None:
        raise SyncError(f"This daemon does not know “{request.get('do')}”: restart it after an update.")
    return command(agent, request)


def _stop(agent: Agent, request: Message) -> Message:
    agent.stop()
    return {"ok": True}


def _pause(agent: Agent, request: Message) -> Message:
    agent.settings.paused = bool(request["paused"])
    agent.apply_settings()
    return {"ok": True}


def _limit(agent: Agent, request: Message) -> Message:
    for name in ("upload_limit", "download_limit"):
        if request.get(name) is not None:
            setattr(agent.settings, name, int(request[name]))
    agent.apply_settings()
    return {"upload_limit": agent.settings.upload_limit, "download_limit": agent.settings.download_limit}


def _symlinks(agent: Agent, request: Message) -> Message:
    choice = request.get("choice")
    if choice is not None:
        agent.settings.symlinks = choice
        agent.apply_settings()
    return {"symlinks": agent.settings.symlinks}


def _exclude(agent: Agent, request: Message) -> Message:
    paths = set(agent.settings.exclude)
    for path in request.get("add", []):
        paths.add(_relative(agent, path))
    for path in request.get("remove", []):
        relative = _relative(agent, path)
        if relative not in paths:
            raise SyncError(f"“{relative}” is not excluded; `sync-client exclude list` shows what is.")
        paths.discard(relative)
    changed = sorted(paths) != agent.settings.exclude
    agent.settings.exclude = sorted(paths)
    if changed:
        agent.apply_settings()
    return {"excluded": agent.settings.exclude}


def _relative(agent: Agent, path: str) -> str:
    """A path as the user typed it, as one inside the folder."""
    given = Path(path)
    if given.is_absolute():
        for root in (agent.root, agent.root.resolve()):
            if given.is_relative_to(root):
                given = given.relative_to(root)
                break
        else:
            raise SyncError(f"{path} is not inside of {agent.root}.")
    parts = [part for part in given.parts if part != "."]
    if not parts or ".." in parts:
        raise SyncError(f"“{path}” is not a path inside of {agent.root}.")
    return "/".join(parts)


def _find(agent: Agent, path: str) -> Entry | None:
    """The row of a path, on the side of the folder or, where it is not there, of the server."""
    relative = _relative(agent, path)
    for side in "lr":
        entry: int | None = ROOT
        for part in relative.split("/"):
            row = agent.trees.first(f"{side}_parent=? AND {side}_name=?", entry, part)
            entry = row.id if row else None
            if entry is None:
                break
        if entry is not None:
            return agent.trees.get(entry)
    return None


def _ls(agent: Agent, request: Message) -> Message:
    path = request.get("path") or ""
    entry = ROOT
    if path and _is_root(agent, path):
        path = ""
    if path:
        row = _find(agent, path)
        if row is None:
            raise SyncError(f"There is no “{path}”, neither here nor on the server.")
        entry = row.id
    rows = agent.trees.find("(l_parent=?1 AND l_name IS NOT NULL) OR (r_parent=?1 AND r_name IS NOT NULL)", entry)
    if path and not rows:
        own = agent.trees.get(entry)
        rows = [own] if own else []
    items = [
        {
            "name": row.l_name or row.r_name,
            "kind": "symlink" if LINK in (row.l_exec, row.r_exec) else row.kind,
            "size": row.l_size if row.local else row.r_size,
            "state": _state(agent, row),
        }
        for row in rows
        if row.id != ROOT
    ]
    return {"items": sorted(items, key=lambda item: str(item["name"]))}


def _is_root(agent: Agent, path: str) -> bool:
    return path in (".", "") or Path(path) == agent.root


def _state(agent: Agent, row: Entry) -> str:
    if row.problem is not None and row.problem_for == row.fingerprint:
        return f"problem: {row.problem}"
    remote = agent.trees.path(row.id, "r")
    if not row.local:
        if remote is not None and agent.cycle.rules.excluded(remote):
            return "excluded"
        return "to be deleted on the server" if row.synced else "to be downloaded"
    if not row.remote:
        return "to be removed here" if row.synced else "to be uploaded"
    same = (row.l_place, row.l_content) == (row.s_place, row.s_content)
    return "synced" if same and row.r_place == row.s_place and row.r_content == row.s_content else "changing"


def _versions(agent: Agent, request: Message) -> Message:
    row = _find(agent, request["path"])
    if row is not None and row.node is not None:
        found = agent.transport.versions(row.node)
        return {
            "node": row.node,
            "versions": [
                {
                    "revision": v.revision,
                    "size": v.size,
                    "mtime": v.mtime,
                    "time": v.time,
                    "device": v.device,
                    "current": v.current,
                }
                for v in found.versions
            ],
        }
    raise SyncError(f"The server has no “{request['path']}”; `sync-client trash` lists what was deleted.")


def _trash(agent: Agent, request: Message) -> Message:
    found: list[dict[str, Any]] = []
    page: str | None = None
    while True:
        part = agent.transport.trash(page)
        found += [
            {"node": e.node.id, "path": e.path, "deleted": e.deleted_at, "device": e.device, "until": e.until}
            for e in part.entries
        ]
        page = part.next
        if page is None or len(found) >= 1000:
            return {"trash": found}


def _restore(agent: Agent, request: Message) -> Message:
    path, version = request["path"], request.get("version")
    row = _find(agent, path)
    if row is not None and row.node is not None and row.remote:
        if version is None:
            raise SyncError(f"“{path}” is not deleted. Name a version: `sync-client versions {path}` lists them.")
        agent.transport.restore(row.node, int(version), row.r_rev)
    else:
        relative = _relative(agent, path)
        for item in _trash(agent, {})["trash"]:
            if item["path"].strip("/") == relative or item["node"] == path:
                agent.transport.restore(item["node"], int(version) if version is not None else None, None)
                break
        else:
            raise SyncError(f"There is no “{path}” in the trash of the server; `sync-client trash` lists what is.")
    agent.retry_now()
    return {"ok": True}


def _conflicts(agent: Agent, request: Message) -> Message:
    return {
        "conflicts": [
            {
                "id": c.id,
                "path": c.path,
                "created": c.created,
                "copy": c.mine.node.name,
                "copy_device": c.mine.device,
                "copy_time": c.mine.time,
                "file": c.theirs.node.name,
                "file_device": c.theirs.device,
                "file_time": c.theirs.time,
            }
            for c in agent.transport.conflicts()
        ]
    }


def _resolve(agent: Agent, request: Message) -> Message:
    which, keep = str(request["conflict"]), str(request["keep"])
    matching = [c for c in agent.transport.conflicts() if which in (c.id, c.path, c.mine.node.name) or which == "all"]
    if not matching:
        raise SyncError(f"There is no open conflict “{which}”; `sync-client conflicts` lists them.")
    for conflict in matching:
        agent.transport.resolve(conflict.id, keep)
    agent.retry_now()
    return {"resolved": len(matching)}


def _deletions(agent: Agent, request: Message) -> Message:
    if not agent.asking:
        raise SyncError("There is no question to answer: no more files vanished at once than is usual.")
    if request["answer"] == "allow":
        agent.cycle.deletions_allowed = True
    else:
        # What vanished here counts as never fetched; so it is fetched.
        with agent.trees.change():
            agent.trees.db.execute(
                "UPDATE entry SET s_parent=NULL, s_name=NULL, s_kind=NULL, s_hash=NULL, s_exec=NULL, s_rev=NULL"
                " WHERE l_name IS NULL AND r_name IS NOT NULL AND s_name IS NOT NULL"
            )
    agent.retry_now()
    return {"ok": True}


def _reload(agent: Agent, request: Message) -> Message:
    agent.reload_login()
    return {"ok": True}


def _ignore(agent: Agent, request: Message) -> Message:
    if "add" in request:
        agent.ignore.add(str(request["add"]))
        agent.retry_now()
    if "check" in request:
        path = _relative(agent, str(request["check"]))
        seen = agent.folder.look(path)
        return {"rule": agent.ignore.why(path, seen is not None and seen.kind == DIR)}
    agent.ignore.reload()
    return {"rules": agent.ignore.lines()}


def _space(agent: Agent, request: Message) -> Message:
    usage = shutil.disk_usage(agent.root)
    return {"free": usage.free}


COMMANDS: dict[str, Callable[[Agent, Message], Message]] = {
    "stop": _stop,
    "pause": _pause,
    "limit": _limit,
    "symlinks": _symlinks,
    "exclude": _exclude,
    "ls": _ls,
    "versions": _versions,
    "trash": _trash,
    "restore": _restore,
    "conflicts": _conflicts,
    "resolve": _resolve,
    "deletions": _deletions,
    "reload": _reload,
    "ignore": _ignore,
    "space": _space,
}
