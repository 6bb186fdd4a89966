# SPDX-License-Identifier: GPL-3.0-or-later
"""Conflicts: listed with who did what when, resolved, and the resolution undone."""

from __future__ import annotations

from sync_protocol.types import ConflictEntry, ConflictPage, ConflictSide, Keep
from sync_server.store.interface import ConflictRow, NodeRow, NotFound, Reader, Stale, Transaction
from sync_server.tree.entries import conflict_id, entry, is_live, parse_conflict, parse_numbers, path_of
from sync_server.tree.pages import DeviceNames, full_entry
from sync_server.tree.rules import Rules


def listing(rows: Reader, account: int, resolved: bool, page: str | None, limit: int) -> ConflictPage:
    """Open or resolved conflicts, the latest first."""
    before = None if page is None else parse_numbers(page, 1)[0]
    found = rows.conflicts(account, resolved, before, limit)
    names = DeviceNames(rows)
    shown = []
    for conflict in found:
        sides = _sides(rows, conflict)
        # The copy went with its folder: there is nothing to decide until that comes back.
        if sides is not None and (resolved or is_live(rows, sides[1])):
            shown.append(_entry(rows, conflict, sides, names))
    return ConflictPage(shown, str(found[-1].id) if len(found) == limit else None)


def one(rows: Reader, account: int, text: str) -> ConflictEntry:
    """One conflict; raises NotFound."""
    conflict = _find(rows, account, text)
    sides = _sides(rows, conflict)
    if sides is None:
        raise NotFound("Its files were removed for good.")
    return _entry(rows, conflict, sides, DeviceNames(rows))


def resolve(rows: Transaction, rules: Rules, text: str, keep: Keep) -> None:
    """Decide; what loses goes to the history or to the trash, never away."""
    conflict = _find(rows, rules.account, text)
    if conflict.resolved == keep:
        return
    if conflict.resolved is not None:
        raise Stale(f"It is resolved already (“{conflict.resolved}”): undo that first.")
    node, copy = _live_sides(rows, conflict, need_node=keep == "mine")
    undo = ""
    if keep == "mine":
        version = rows.version(rules.account, copy.id, copy.content_rev)
        if version is None or node.kind != "file":
            raise Stale("A folder has the name meanwhile: keep both, or theirs.", entry(rows, node))
        before = node.content_rev
        if (version.content, version.executable, version.symlink) != (node.content, node.executable, node.symlink):
            rules.put_version(node, version, "put")
        undo = f"{before}.{node.content_rev}"
    if keep != "both":
        rules.trash(copy)
    conflict.resolved, conflict.resolved_at, conflict.undo = keep, rules.now, undo
    rows.set_conflict(conflict)


def undo(rows: Transaction, rules: Rules, text: str) -> None:
    """As it was before it was resolved; raises Stale when one side was changed since."""
    conflict = _find(rows, rules.account, text)
    if conflict.resolved is None:
        raise Stale("It is not resolved.")
    node, copy = rows.node(rules.account, conflict.node), rows.node(rules.account, conflict.copy)
    if node is None or copy is None:
        raise NotFound("Its files were removed for good.")
    if conflict.resolved == "mine":
        before, after = parse_numbers(conflict.undo or "", 2)
        if node.content_rev != after or not is_live(rows, node):
            raise Stale("The file was changed since: restore what you miss from its versions.", full_entry(rows, node))
        if before != after:
            version = rows.version(rules.account, node.id, before)
            if version is None:
                raise Stale("The version before is no longer kept.", full_entry(rows, node))
            rules.put_version(node, version, "restore")
    rules.untrash_home(copy)
    conflict.resolved = conflict.resolved_at = conflict.undo = None
    rows.set_conflict(conflict)


def _find(rows: Reader, account: int, text: str) -> ConflictRow:
    conflict = rows.conflict(account, parse_conflict(text))
    if conflict is None:
        raise NotFound("There is no such conflict.")
    return conflict


def _sides(rows: Reader, conflict: ConflictRow) -> tuple[NodeRow, NodeRow] | None:
    node, copy = rows.node(conflict.account, conflict.node), rows.node(conflict.account, conflict.copy)
    return None if node is None or copy is None else (node, copy)


def _live_sides(rows: Reader, conflict: ConflictRow, *, need_node: bool) -> tuple[NodeRow, NodeRow]:
    sides = _sides(rows, conflict)
    if sides is None:
        raise NotFound("Its files were removed for good.")
    node, copy = sides
    if not is_live(rows, copy):
        raise Stale("The copy is in the trash.", full_entry(rows, copy))
    if need_node and not is_live(rows, node):
        raise Stale("The file is in the trash: restore it first, or keep both.", full_entry(rows, node))
    return node, copy


def _entry(rows: Reader, conflict: ConflictRow, sides: tuple[NodeRow, NodeRow], names: DeviceNames) -> ConflictEntry:
    node, copy = sides
    return ConflictEntry(
        conflict_id(conflict.id),
        path_of(rows, node),
        conflict.created,
        ConflictSide(full_entry(rows, copy), names[conflict.mine_device], conflict.created),
        ConflictSide(full_entry(rows, node), names[conflict.theirs_device], conflict.theirs_time),
        conflict.resolved,  # type: ignore[arg-type]
        conflict.resolved_at,
    )
