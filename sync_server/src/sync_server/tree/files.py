# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole files by path: the door for scripts, browsers and WebDAV. The bytes are cut every 4 MiB."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync_protocol.names import InvalidName, name_key, normal, split_path
from sync_protocol.types import MAX_BLOB, Delete, Mkdir, Move, NodeEntry, Put, Restore
from sync_server.store.interface import (
    ROOT,
    BlobFile,
    BlobWriter,
    Clash,
    Identity,
    Invalid,
    NodeRow,
    NotFound,
    Reader,
    Stale,
    Store,
)
from sync_server.store.rows import now_ms
from sync_server.tree import pages
from sync_server.tree.entries import is_live, node_id
from sync_server.tree.rules import Rules

if TYPE_CHECKING:
    from sync_server.tree.service import Tree


@dataclass(frozen=True, slots=True)
class Expect:
    """What must be true of the file for a request to go through (RFC 9110, 13.1)."""

    contents: frozenset[str] | None = None
    """If-Match: the content is one of these."""
    exists: bool = False
    """If-Match: *"""
    absent: bool = False
    """If-None-Match: *"""


ANYTHING = Expect()


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file: its parts one after the other."""

    entry: NodeEntry
    etag: str
    size: int
    mtime: int
    parts: tuple[BlobFile, ...]


@dataclass(frozen=True, slots=True)
class FileResult:
    entry: NodeEntry
    created: bool


def names_of(path: str) -> tuple[str, ...]:
    """The checked names of a path; raises Invalid. A slash at the end is allowed."""
    try:
        return split_path(path.removesuffix("/"))
    except InvalidName as error:
        raise Invalid(str(error)) from error


def at_path(rows: Reader, account: int, names: tuple[str, ...]) -> NodeRow:
    """The live node at a path; raises NotFound."""
    node = rows.node(account, ROOT)
    for name in names:
        if node is not None:
            node = rows.child(account, node.id, name_key(name))
        # A twin in case is another name: it is not there, and cannot be made beside this one.
        if node is None or normal(node.name) != normal(name):
            raise NotFound("There is nothing at this path.")
    assert node is not None
    return node


def check(rows: Reader, account: int, names: tuple[str, ...], expect: Expect, *, parents: bool) -> NodeRow | None:
    """The file a request is about, None when it is to be new; raises NotFound, Stale, Clash, Invalid."""
    if not names:
        raise Invalid("The root is a folder.")
    try:
        node: NodeRow | None = at_path(rows, account, names)
    except NotFound:
        node = None
        if not parents:
            above = at_path(rows, account, names[:-1])
            if above.kind != "folder":
                raise NotFound("There is no such folder.") from None
    _check(rows, node, expect)
    if node is not None and node.kind == "folder":
        raise Clash("There is a folder at this path.", pages.full_entry(rows, node))
    return node


def _check(rows: Reader, node: NodeRow | None, expect: Expect) -> None:
    if node is None:
        if expect.exists or expect.contents is not None:
            raise Stale("There is no such file.")
        return
    if expect.absent:
        raise Stale("There is something at this path already.", pages.full_entry(rows, node))
    if expect.contents is not None and node.content not in expect.contents:
        raise Stale("The file is another one by now.", pages.full_entry(rows, node))


def content(store: Store, rows: Reader, who: Identity, text: str, revision: int | None) -> Content:
    """See Tree.open."""
    node = pages.find(rows, who.account_id, text)
    if node.kind != "file":
        raise Invalid("A folder has no content.")
    version = rows.version(who.account_id, node.id, node.content_rev if revision is None else revision)
    if version is None or (revision is None and not is_live(rows, node)):
        raise NotFound("There is no such version of it.")
    parts = []
    for blob in rows.blobs_of(who.account_id, version.content, version.parts):
        size = rows.holding(who.account_id, blob)
        if size is None:
            raise NotFound("A part of the content is missing: ask the one who runs the server for `sync-server check`.")
        parts.append(store.blob_file(blob, size))
    return Content(pages.full_entry(rows, node), f'"{version.content}"', version.size, version.mtime, tuple(parts))


class BlobCutter:
    """Cuts what comes in into blobs of 4 MiB. Memory holds one piece of a request at most.

    Nothing is acknowledged before the end, so nothing is synced before it: all blobs are made durable together, and an
    upload that is broken off leaves none.
    """

    def __init__(self, store: Store, account: int) -> None:
        self._store = store
        self._account = account
        self._written: list[BlobWriter] = []
        self._current: BlobWriter | None = None
        self._cost = 0
        self.size = 0

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append."""
        left = memoryview(data)
        while left:
            if self._current is None:
                # What the account has already costs nothing: a retry must go through where the first try did.
                self._store.check_quota(self._account, self._cost)
                self._current = self._store.upload_blob(self._account)
                self._written.append(self._current)
            room = MAX_BLOB - self._current.size
            self._current.write(left[:room])
            self.size += min(room, len(left))
            left = left[room:]
            if self._current.size == MAX_BLOB:
                self._current.pause()
                self._cost += self._current.cost()
                self._current = None

    async def finish(self) -> list[str]:
        """Make all blobs durable; returns their hashes in order."""
        self._current = None
        return await self._store.finish_blobs(self._account, self._written)

    def abort(self) -> None:
        """Forget what is not finished."""
        for blob in self._written:
            blob.abort()
        self._written.clear()
        self._current = None


class FileUpload:
    """A whole file on its way in."""

    def __init__(self, tree: Tree, who: Identity, names: tuple[str, ...], expect: Expect, *, parents: bool) -> None:
        self._tree = tree
        self._who = who
        self._names = names
        self._expect = expect
        self._parents = parents
        self._cutter = BlobCutter(tree.store, who.account_id)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._cutter.size

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; raises NoSpace, QuotaExceeded."""
        await self._cutter.write(data)

    async def finish(self, mtime: int | None = None, executable: bool | None = None) -> FileResult:
        """Make it the file's new version, or a new file; raises what write_file does, if things changed meanwhile."""
        blobs, size = await self._cutter.finish(), self._cutter.size

        def job(rules: Rules) -> FileResult:
            return put(rules, self._names, blobs, size, mtime, executable, self._expect, parents=self._parents)

        return await self._tree.apply(self._who, job)

    def abort(self) -> None:
        """Forget it; harmless after finish."""
        self._cutter.abort()


def put(
    rules: Rules,
    names: tuple[str, ...],
    blobs: list[str],
    size: int,
    mtime: int | None,
    executable: bool | None,
    expect: Expect,
    *,
    parents: bool = False,
    base: int | None = None,
) -> FileResult:
    """Content for the file at a path. Without an expectation it becomes a new version: the one before is kept."""
    rows, account = rules.rows, rules.account
    node = check(rows, account, names, expect, parents=parents)
    when = now_ms() if mtime is None else mtime
    if node is None:
        parent = node_id(_folder(rules, names[:-1], parents=parents).id)
        new = Put(blobs, size, when, parent=parent, name=names[-1], executable=bool(executable), on_conflict="fail")
        return FileResult(_entry(rules, rules.apply(new).node), True)
    mode = node.executable if executable is None else executable
    known = node.revision if base is None else base
    old = Put(blobs, size, when, node=node_id(node.id), base=known, executable=mode, on_conflict="fail")
    return FileResult(_entry(rules, rules.apply(old).node), False)


def delete(rules: Rules, names: tuple[str, ...], expect: Expect) -> NodeEntry:
    """See Tree.delete_path."""
    node = at_path(rules.rows, rules.account, names)
    _check(rules.rows, node, expect)
    seen = rules.rows.tree(rules.account).seq
    rules.apply(Delete(node_id(node.id), node.revision, seen))
    return _entry(rules, node_id(node.id))


def move(
    rules: Rules, names: tuple[str, ...], target: tuple[str, ...], expect: Expect, *, overwrite: bool
) -> NodeEntry:
    """See Tree.move_path."""
    if not target:
        raise Invalid("The root is there already.")
    node = at_path(rules.rows, rules.account, names)
    _check(rules.rows, node, expect)
    parent = at_path(rules.rows, rules.account, target[:-1])
    other = rules.rows.child(rules.account, parent.id, name_key(target[-1]))
    if overwrite and other is not None and other.id != node.id:
        if target[: len(names)] == names or names[: len(target)] == target:
            raise Invalid("One of the two is inside the other.")
        rules.apply(Delete(node_id(other.id), other.revision, rules.rows.tree(rules.account).seq))
    rules.apply(Move(node_id(node.id), node.revision, node_id(parent.id), target[-1], "fail"))
    return _entry(rules, node_id(node.id))


def restore(rules: Rules, names: tuple[str, ...], version: int, expect: Expect) -> NodeEntry:
    """See Tree.restore_path."""
    node = at_path(rules.rows, rules.account, names)
    _check(rules.rows, node, expect)
    return _entry(rules, rules.apply(Restore(node_id(node.id), version)).node)


def mkdir(rules: Rules, names: tuple[str, ...], expect: Expect, *, parents: bool) -> tuple[NodeEntry, bool]:
    """See Tree.mkdir_path."""
    there = None
    with contextlib.suppress(NotFound):
        there = at_path(rules.rows, rules.account, names)
    _check(rules.rows, there, expect)
    if not names:
        return _entry(rules, "root"), False
    parent = _folder(rules, names[:-1], parents=parents)
    result = rules.apply(Mkdir(node_id(parent.id), names[-1], "fail"))
    return _entry(rules, result.node), result.status == "ok"


def _folder(rules: Rules, names: tuple[str, ...], *, parents: bool) -> NodeRow:
    at = at_path(rules.rows, rules.account, ())
    for number, name in enumerate(names):
        there = rules.rows.child(rules.account, at.id, name_key(name))
        if there is None or normal(there.name) != normal(name):
            if not parents:
                raise NotFound(f"There is no folder “{'/'.join(names[: number + 1])}”.")
            made = rules.apply(Mkdir(node_id(at.id), name, "fail"))
            there = pages.find(rules.rows, rules.account, made.node or "")
        if there.kind != "folder":
            raise NotFound(f"“{'/'.join(names[: number + 1])}” is a file.")
        at = there
    return at


def _entry(rules: Rules, node: str | None) -> NodeEntry:
    return pages.full_entry(rules.rows, pages.find(rules.rows, rules.account, node or "root"))
