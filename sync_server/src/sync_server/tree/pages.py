# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client reads, page by page. Every page costs what it holds, however large the tree is."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from sync_protocol.types import (
    INLINE_BLOBS,
    Change,
    ChangesPage,
    Listing,
    NodeEntry,
    Snapshot,
    TrashEntry,
    TrashPage,
    VersionList,
)
from sync_server.store.interface import ROOT, Identity, Invalid, JournalRow, NodeRow, NotFound, Reader
from sync_server.tree.entries import (
    conflict_id,
    cursor_of,
    entry,
    is_live,
    node_id,
    page_of_key,
    parse_cursor,
    parse_node,
    parse_numbers,
    parse_page_of_key,
    path_of,
    shown,
    version_entry,
)
from sync_server.tree.places import Places


class DeviceNames:
    """The names of devices, each asked for once."""

    def __init__(self, rows: Reader) -> None:
        self._rows = rows
        self._known: dict[int | None, str | None] = {}

    def __getitem__(self, device: int | None) -> str | None:
        if device not in self._known:
            self._known[device] = self._rows.device_name(device)
        return self._known[device]


def find(rows: Reader, account: int, text: str) -> NodeRow:
    """The node of a wire id; raises NotFound."""
    node = rows.node(account, parse_node(text))
    if node is None:
        raise NotFound("There is no such node.")
    return node


def full_entry(rows: Reader, node: NodeRow, live: Callable[[Reader, NodeRow], bool] = is_live) -> NodeEntry:
    """A node with everything about it; `deleted` also when it is its folder that is in the trash."""
    full = entry(rows, node, full=True, marks=True)
    return full if live(rows, node) else replace(full, deleted=True)


def quick_entry(rows: Reader, places: Places, account: int, text: str) -> NodeEntry | None:
    """As full_entry of find, in one statement; None when it takes another one. Raises NotFound."""
    found = rows.node_now(account, parse_node(text))
    if found is None:
        raise NotFound("There is no such node.")
    node, conflict, seq = found
    live = places.is_live(node, seq)
    if live is None or node.parts > 1:
        return None
    blobs = None if node.content is None else [node.content] if node.parts else []
    mark = None if conflict is None or node.kind != "file" else conflict_id(conflict)
    return shown(node, blobs, mark, deleted=not live)


def changes(rows: Reader, who: Identity, cursor: str | None, limit: int) -> ChangesPage:
    """The journal after a cursor; raises Gone."""
    tree = rows.tree(who.account_id)
    after = parse_cursor(tree, cursor)
    journal = rows.journal(who.account_id, after, limit)
    names = DeviceNames(rows)
    last = journal[-1].seq if journal else after
    return ChangesPage(
        [
            Change(
                row.op,
                _entry_then(rows, who.account_id, row),
                names[row.device],
                row.device == who.device_id,
                row.time,
            )
            for row in journal
        ],
        cursor_of(tree, last),
        last < tree.seq,
    )


def _entry_then(rows: Reader, account: int, row: JournalRow) -> NodeEntry:
    parent = None if row.parent is None else node_id(row.parent)
    version = row.version
    if version is None:
        return NodeEntry(node_id(row.node), row.kind, row.name, parent, row.seq, deleted=row.deleted)
    blobs = None
    if version.parts <= INLINE_BLOBS:
        blobs = list(rows.blobs_of(account, version.content, version.parts))
    return NodeEntry(
        node_id(row.node),
        row.kind,
        row.name,
        parent,
        row.seq,
        version.size,
        version.mtime,
        version.executable,
        version.content,
        blobs,
        row.deleted,
        symlink=version.symlink,
    )


def snapshot(rows: Reader, who: Identity, page: str | None, limit: int) -> Snapshot:
    """All live nodes by id; what changes meanwhile comes with the cursor of the first page."""
    tree = rows.tree(who.account_id)
    if page is None:
        cursor, after = cursor_of(tree), ROOT
    else:
        cursor, dot, number = page.rpartition(".")
        if not dot:
            raise Invalid("The page is none this server gave.")
        (after,) = parse_numbers(number, 1)
        parse_cursor(tree, cursor)
    nodes = rows.nodes(who.account_id, after, limit)
    live: dict[int, bool] = {ROOT: True}
    entries = [entry(rows, node) for node in nodes if _is_live(rows, node, live)]
    following = f"{cursor}.{nodes[-1].id}" if len(nodes) == limit else None
    return Snapshot(entries, cursor, following)


def _is_live(rows: Reader, node: NodeRow, known: dict[int, bool]) -> bool:
    """As is_live, remembering the folders of the page."""
    trail = []
    parent = node.parent
    while parent is not None and parent not in known:
        trail.append(parent)
        folder = rows.node(node.account, parent)
        if folder is None or folder.deleted:
            known[parent] = False
            break
        parent = folder.parent
    answer = parent is not None and known[parent]
    known.update(dict.fromkeys(trail, answer))
    return answer


def children(rows: Reader, account: int, text: str, page: str | None, limit: int) -> Listing:
    """What is in a live folder, by name."""
    folder = find(rows, account, text)
    if folder.kind != "folder" or not is_live(rows, folder):
        raise NotFound("There is no such folder.")
    found = rows.children(account, folder.id, parse_page_of_key(page), limit)
    following = page_of_key(found[-1].key) if len(found) == limit else None
    return Listing(entry(rows, folder), [entry(rows, node, marks=True) for node in found], following)


def versions(rows: Reader, account: int, text: str) -> VersionList:
    """The versions of a file, the newest first; of one in the trash too."""
    node = find(rows, account, text)
    if node.kind != "file":
        raise Invalid("A folder has no versions.")
    names = DeviceNames(rows)
    return VersionList(
        full_entry(rows, node),
        [
            version_entry(rows, account, version, names[version.device], version.revision == node.content_rev)
            for version in rows.versions(account, node.id)
        ],
    )


def trash(rows: Reader, account: int, page: str | None, limit: int, keep: int) -> TrashPage:
    """What was deleted, the latest first; `keep` in milliseconds."""
    before = None
    if page is not None:
        when, number = parse_numbers(page, 2)
        before = (when, number)
    found = rows.trash(account, before, limit)
    names = DeviceNames(rows)
    entries = [
        TrashEntry(entry(rows, node), path_of(rows, node), node.deleted, names[node.deleted_by], node.deleted + keep)
        for node in found
    ]
    following = f"{found[-1].deleted}.{found[-1].id}" if len(found) == limit else None
    return TrashPage(entries, following)
