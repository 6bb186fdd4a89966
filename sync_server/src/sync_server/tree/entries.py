# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows as the wire shows them: ids, entries, paths, cursors."""

from __future__ import annotations

import base64
import binascii
import re

from sync_protocol.names import is_conflict_name
from sync_protocol.types import INLINE_BLOBS, NodeEntry, VersionEntry
from sync_server.store.interface import ROOT, Gone, Invalid, NodeRow, NotFound, Reader, TreeRow, VersionRow

_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_ID = re.compile(r"[nc][0-9a-v]{1,13}")
_LARGEST = 2**62


def _encode(prefix: str, number: int) -> str:
    digits = ""
    while True:
        number, rest = divmod(number, 32)
        digits = _DIGITS[rest] + digits
        if not number:
            return prefix + digits


def node_id(node: int) -> str:
    """How the wire names a node."""
    return "root" if node == ROOT else _encode("n", node)


def conflict_id(conflict: int) -> str:
    """How the wire names a conflict."""
    return _encode("c", conflict)


def parse_node(text: str) -> int:
    """The node's number; raises NotFound for what can be none."""
    return ROOT if text == "root" else _parse("n", text, "There is no such node.")


def parse_conflict(text: str) -> int:
    """The conflict's number; raises NotFound for what can be none."""
    return _parse("c", text, "There is no such conflict.")


def _parse(prefix: str, text: str, absent: str) -> int:
    if not _ID.fullmatch(text) or text[0] != prefix:
        raise NotFound(absent)
    number = int(text[1:], 32)
    if not 0 < number < _LARGEST:
        raise NotFound(absent)
    return number


def entry(rows: Reader, node: NodeRow, *, full: bool = False, marks: bool = False) -> NodeEntry:
    """A node as it is now; `full` with all its blobs, `marks` with its open conflict."""
    blobs = None
    if node.content is not None and (full or node.parts <= INLINE_BLOBS):
        blobs = list(rows.blobs_of(node.account, node.content, node.parts))
    mark = None
    if marks and node.kind == "file" and (full or is_conflict_name(node.name)):
        conflict = rows.conflict_of_copy(node.account, node.id)
        mark = None if conflict is None else conflict_id(conflict.id)
    return shown(node, blobs, mark, deleted=node.deleted != 0)


def shown(node: NodeRow, blobs: list[str] | None, mark: str | None, *, deleted: bool) -> NodeEntry:
    """A node on the wire."""
    return NodeEntry(
        node_id(node.id),
        node.kind,
        node.name,
        None if node.parent is None else node_id(node.parent),
        node.revision,
        node.size,
        node.mtime,
        node.executable,
        node.content,
        blobs,
        deleted,
        mark,
        node.symlink,
    )


def version_entry(rows: Reader, account: int, version: VersionRow, device: str | None, current: bool) -> VersionEntry:
    """A version as the wire shows it."""
    blobs = None
    if version.parts <= INLINE_BLOBS:
        blobs = list(rows.blobs_of(account, version.content, version.parts))
    return VersionEntry(
        version.revision,
        version.size,
        version.mtime,
        version.content,
        version.time,
        version.executable,
        current,
        device,
        blobs,
        version.symlink,
    )


def path_of(rows: Reader, node: NodeRow) -> str:
    """Where a node is or, in the trash, was; "" for the root."""
    names = []
    at: NodeRow | None = node
    while at is not None and at.parent is not None:
        names.append(at.name)
        at = rows.node(at.account, at.parent)
    return "/".join(reversed(names))


def is_live(rows: Reader, node: NodeRow) -> bool:
    """Tell whether neither it nor a folder it is in is in the trash."""
    at: NodeRow | None = node
    while at is not None:
        if at.deleted:
            return False
        if at.parent in (None, ROOT):
            return True
        at = rows.node(at.account, at.parent)
    return False


def cursor_of(tree: TreeRow, seq: int | None = None) -> str:
    """The cursor after a journal number."""
    return f"{tree.generation}.{tree.seq if seq is None else seq}"


def parse_cursor(tree: TreeRow, cursor: str | None) -> int:
    """The journal number to go on from; raises Gone when what follows it is no longer known, Invalid for nonsense."""
    if cursor is None:
        generation, seq = tree.generation, 0
    else:
        generation, dot, number = cursor.partition(".")
        if not dot or not number.isascii() or not number.isdecimal() or len(number) > 18:
            raise Invalid("The cursor is none this server gave.")
        seq = int(number)
    if generation != tree.generation or seq > tree.seq:
        raise Gone("The server was restored from a backup since: start again with a snapshot.")
    if seq < tree.horizon:
        raise Gone("The changes since that cursor are no longer kept: start again with a snapshot.")
    return seq


def page_of_key(key: str) -> str:
    """A page token that survives a URL."""
    return base64.urlsafe_b64encode(key.encode()).rstrip(b"=").decode()


def parse_page_of_key(page: str | None) -> str:
    """The reverse; raises Invalid."""
    if page is None:
        return ""
    try:
        return base64.b64decode(page.encode("ascii") + b"=" * (-len(page) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Invalid("The page is none this server gave.") from error


def parse_numbers(page: str, count: int) -> tuple[int, ...]:
    """A page token of numbers; raises Invalid."""
    parts = page.split(".")
    if len(parts) != count or not all(part.isascii() and part.isdecimal() and len(part) <= 18 for part in parts):
        raise Invalid("The page is none this server gave.")
    return tuple(map(int, parts))
