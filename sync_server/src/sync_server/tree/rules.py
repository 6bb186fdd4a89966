# SPDX-License-Identifier: GPL-3.0-or-later
"""What each operation does to the tree, and what becomes of it when two devices disagree.

Nothing is decided by a time. An operation names the revision it is based on; whether that is stale is asked of the
aspect it changes: a put of the content, a move of the place, a delete of both. Edit beats delete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from sync_protocol.hashing import content_id, normal_blobs
from sync_protocol.names import (
    MAX_PATH_BYTES,
    InvalidName,
    check_name,
    conflict_name,
    name_key,
    normal,
    restored_name,
)
from sync_protocol.types import APPLIED, MAX_LINK, Delete, Mkdir, Move, NodeEntry, Op, OpResult, Put, Restore, Status
from sync_server.store.interface import (
    ROOT,
    ConflictRow,
    Identity,
    JournalOp,
    MissingBlobs,
    NodeRow,
    NotFound,
    QuotaExceeded,
    Transaction,
    VersionRow,
)
from sync_server.tree.entries import entry, is_live, node_id, parse_node

# A change by hand in the database could make a circle; nobody nests this deep.
MAX_DEPTH = 512


class Refused(Exception):
    """Ends an operation without a trace; carries what to answer."""

    def __init__(self, result: OpResult) -> None:
        super().__init__(result.status)
        self.result = result


class AtomicFailed(Exception):
    """Ends an atomic commit without a trace."""

    def __init__(self, results: list[OpResult]) -> None:
        super().__init__("atomic")
        self.results = results


class Rules:
    """The operations of one commit, on the rows of one transaction.

    `now` is the clock's time, `steady` that of a clock which never jumps; both in milliseconds since 1970.
    """

    def __init__(self, rows: Transaction, who: Identity, now: int, steady: int, keep_versions: int) -> None:
        self.rows = rows
        self.account = who.account_id
        self.device = who.device_id
        self.now = now
        self._steady = steady
        self._keep = keep_versions + 1
        self._results: list[OpResult] = []
        # Of folders: the length of the path, None when it is in the trash.
        self._folders: dict[int, int | None] = {}

    # --- a commit ---

    def commit(self, operations: Sequence[Op], *, atomic: bool) -> list[OpResult]:
        """Do them one after the other; each is done whole or leaves no trace."""
        if not atomic:
            return [self._attempt(operation) for operation in operations]
        try:
            with self.rows.savepoint():
                for operation in operations:
                    if self._attempt(operation).status not in APPLIED:
                        raise AtomicFailed(list(self._results))
        except AtomicFailed as failed:
            failing = failed.results[-1]
            aborted = OpResult("aborted", detail="Another operation of the same commit could not be done.")
            self._results = [aborted] * (len(failed.results) - 1)
            self._results.append(failing)
            self._results += [aborted] * (len(operations) - len(self._results))
        return self._results

    def _attempt(self, operation: Op) -> OpResult:
        try:
            with self.rows.savepoint():
                result = self.apply(operation)
        except Refused as refused:
            result = refused.result
        except InvalidName as error:
            result = OpResult("invalid", detail=str(error))
        except NotFound as error:
            result = OpResult("not_found", detail=error.detail)
        except MissingBlobs as error:
            result = OpResult("missing_blobs", missing=list(error.missing), detail=error.detail)
        except QuotaExceeded as error:
            result = OpResult("quota", detail=error.detail)
        if result.status not in APPLIED:
            self._folders.clear()
        self._results.append(result)
        return result

    def apply(self, operation: Op) -> OpResult:
        """Do one; raises Refused, InvalidName, NotFound, MissingBlobs, QuotaExceeded. The caller has the savepoint."""
        used = self.rows.tree(self.account).used
        match operation:
            case Put():
                result = self._put(operation)
            case Mkdir():
                result = self._mkdir(operation)
            case Move():
                result = self._move(operation)
            case Delete():
                result = self._delete(operation)
            case Restore():
                result = self._restore(operation)
        tree = self.rows.tree(self.account)
        if tree.quota is not None and tree.used > tree.quota and tree.used > used:
            raise QuotaExceeded(f"The account may keep {tree.quota} bytes, and {used} are used.")
        return result

    # --- put ---

    def _put(self, op: Put) -> OpResult:
        blobs = normal_blobs(op.blobs)
        missing, size = [], 0
        for blob in blobs:
            held = self.rows.holding(self.account, blob)
            if held is None:
                missing.append(blob)
            else:
                size += held
        if missing:
            raise MissingBlobs(list(dict.fromkeys(missing)))
        if size != op.size:
            raise self._invalid(f"The blobs have {size} bytes together, not {op.size}.")
        if op.symlink and not 0 < size <= MAX_LINK:
            raise self._invalid(f"The text of a symbolic link has 1 to {MAX_LINK} bytes, not {size}.")
        if op.node is not None:
            if op.parent is not None or op.name is not None:
                raise self._invalid("Give a node and its base, or a parent and a name, not both.")
            node = self._find(op.node)
            if op.base is None:
                raise self._invalid("Say the revision the content is based on.")
            return self._put_existing(op, node, self._base(op.base), blobs)
        if op.parent is None or op.name is None:
            raise self._invalid("Give a node and its base, or a parent and a name.")
        return self._put_new(op, op.parent, check_name(op.name), blobs)

    def _put_existing(self, op: Put, node: NodeRow, base: int, blobs: tuple[str, ...]) -> OpResult:
        if node.kind != "file":
            raise self._invalid("A folder has no content.")
        content = content_id(blobs)
        before = self._content_at(node, base)
        if op.symlink is None and before is not None and before.symlink and before.content == content:
            op = replace(op, symlink=True)
        kind = _kind(op)
        unedited = before is not None and before.content == content and _kind(before) == kind
        if not is_live(self.rows, node):
            if unedited:
                raise self._refuse("stale", node, "It is in the trash, and the content is that before.")
            if op.on_conflict == "fail":
                raise self._refuse("conflict", node, "It is in the trash.")
            return self._put_deleted(op, node, blobs)
        same = content == node.content and bool(op.symlink) == node.symlink
        if same and (kind == _kind(node) or base < node.content_rev):
            return self._answer("same", node, changed=op.executable != node.executable)
        if base >= node.content_rev:
            self._write(node, blobs, op, "put")
            return self._answer("ok", node)
        if unedited:
            raise self._refuse("stale", node, "Another device changed the content, and this is the one before.")
        if op.on_conflict == "fail":
            raise self._refuse("conflict", node, "Another device changed the content meanwhile.")
        return self._keep_copy(op, node, node.parent or ROOT, node.name, blobs)

    def _put_deleted(self, op: Put, node: NodeRow, blobs: tuple[str, ...]) -> OpResult:
        parent = self._revive(node.parent or ROOT)
        other = self.rows.child(self.account, parent, node.key)
        rival = None
        if other is not None and other.id != node.id:
            if _is(other, content_id(blobs), op):
                return self._answer("same", other, changed=True)
            node.name = self._free_name(parent, lambda attempt: self._conflict_name(node.name, attempt))
            node.key = name_key(node.name)
            rival = other
        node.parent, node.deleted, node.deleted_by = parent, 0, None
        self._write(node, blobs, op, "put", placed=True)
        if rival is None:
            return self._answer("ok", node, changed=True)
        self._note_conflict(rival, node)
        return self._answer("conflict_copy", node, current=rival)

    def _put_new(self, op: Put, where: str, name: str, blobs: tuple[str, ...]) -> OpResult:
        parent, revived = self._destination(where, op.on_conflict)
        self._check_path(parent, name)
        key = name_key(name)
        other = self.rows.child(self.account, parent, key)
        if other is None:
            node = self._new("file", parent, name, key)
            self._write(node, blobs, op, "put", new=True)
            return self._answer("ok", node, changed=revived)
        if normal(other.name) != normal(name):
            raise self._refuse("clash", other, _twin(name, other))
        if _is(other, content_id(blobs), op):
            return self._answer("same", other, changed=other.executable != op.executable or other.name != name)
        if op.on_conflict == "fail":
            raise self._refuse("clash", other, "The name is taken.")
        return self._keep_copy(op, other, parent, name, blobs)

    def _keep_copy(self, op: Put, rival: NodeRow, parent: int, name: str, blobs: tuple[str, ...]) -> OpResult:
        """Nothing is overwritten: the later content gets a name of its own beside the earlier one."""
        content = content_id(blobs)
        current = rival
        first = self.rows.conflict_of_copy(self.account, rival.id)
        if first is not None:
            # A copy does not get copies: they are all of the one file.
            rival = self.rows.node(self.account, first.node) or rival
        for conflict in self.rows.conflicts_of_node(self.account, rival.id):
            there = self.rows.node(self.account, conflict.copy)
            if there is not None and _is(there, content, op) and is_live(self.rows, there):
                return self._answer("conflict_copy", there, current=current)
        free = self._free_name(parent, lambda attempt: self._conflict_name(name, attempt))
        copy = self._new("file", parent, free, name_key(free))
        self._write(copy, blobs, op, "put", new=True)
        self._note_conflict(rival, copy)
        return self._answer("conflict_copy", copy, current=current)

    # --- mkdir, move ---

    def _mkdir(self, op: Mkdir) -> OpResult:
        name = check_name(op.name)
        parent, revived = self._destination(op.parent, op.on_conflict)
        key = name_key(name)
        other = self.rows.child(self.account, parent, key)
        if other is not None:
            if normal(other.name) != normal(name):
                raise self._refuse("clash", other, _twin(name, other))
            if other.kind == "folder":
                return self._answer("same", other, changed=revived or other.name != name)
            if op.on_conflict == "fail":
                raise self._refuse("clash", other, "The name is taken by a file.")
            name = self._free_name(parent, lambda attempt: self._conflict_name(op.name, attempt))
        self._check_path(parent, name)
        folder = self._make_folder(parent, name)
        if other is not None:
            return self._answer("conflict_copy", folder, current=other)
        return self._answer("ok", folder, changed=revived)

    def _move(self, op: Move) -> OpResult:
        name = check_name(op.name)
        node = self._find(op.node)
        if node.id == ROOT:
            raise self._invalid("The root cannot be moved.")
        base = self._base(op.base)
        if not is_live(self.rows, node):
            raise self._refuse("stale", node, "It is in the trash.")
        parent, revived = self._destination(op.parent, op.on_conflict)
        if node.parent == parent and node.name == name:
            return self._moved(base, self._answer("same", node, changed=revived), node)
        if base < node.place_rev:
            raise self._refuse("stale", node, "Another device moved it meanwhile.")
        if node.kind == "folder" and self._is_within(parent, node.id):
            raise self._refuse("cycle", node, "A folder cannot go into itself.")
        self._check_path(parent, name)
        other = self.rows.child(self.account, parent, name_key(name))
        if other is not None and other.id != node.id:
            if normal(other.name) != normal(name):
                raise self._refuse("clash", other, _twin(name, other))
            if op.on_conflict == "fail":
                raise self._refuse("clash", other, "The name is taken.")
            name = self._free_name(parent, lambda attempt: self._conflict_name(op.name, attempt))
        else:
            other = None
        node.parent, node.name, node.key = parent, name, name_key(name)
        self._placed(node, "move")
        if other is None:
            return self._moved(base, self._answer("ok", node, changed=revived), node)
        if node.kind == "file":
            self._note_conflict(other, node)
        return self._moved(base, self._answer("conflict_copy", node, current=other), node)

    def _moved(self, base: int, result: OpResult, node: NodeRow) -> OpResult:
        """Who moves a file knows its new place, not content that came meanwhile: the old base stays the base."""
        if base >= node.content_rev:
            return result
        return replace(result, revision=base, entry=entry(self.rows, node))

    # --- delete, restore ---

    def _delete(self, op: Delete) -> OpResult:
        node = self._find(op.node)
        if node.id == ROOT:
            raise self._invalid("The root cannot be deleted.")
        base = self._base(op.base)
        if not is_live(self.rows, node):
            return self._answer("same", node)
        if base < node.revision if node.kind == "file" else base < node.place_rev:
            raise self._refuse("stale", node, "Another device changed it meanwhile.")
        if node.kind == "folder":
            self._refuse_unseen(node, base if op.seen is None else self._base(op.seen))
        self.trash(node)
        return self._answer("ok", node)

    def _refuse_unseen(self, folder: NodeRow, seen: int) -> None:
        """A folder is not deleted while something in it is news to the one who deletes it."""
        if seen < self.rows.tree(self.account).horizon:
            raise self._refuse("stale", folder, "What changed inside since then is no longer known.")
        inside: dict[int, bool] = {ROOT: False, folder.id: True}
        for changed in self.rows.changed_by_others(self.account, seen, self.device):
            node = self.rows.node(self.account, changed)
            if node is not None and not node.deleted and node.id != folder.id and self._inside(node, inside):
                raise self._refuse("stale", folder, f"Another device changed “{node.name}” inside it meanwhile.")

    def _inside(self, node: NodeRow, known: dict[int, bool]) -> bool:
        trail = []
        at: NodeRow | None = node
        while at is not None and at.id not in known:
            trail.append(at.id)
            if at.deleted:
                known[at.id] = False
                break
            at = None if at.parent is None else self.rows.node(self.account, at.parent)
        answer = at is not None and known[at.id]
        known.update(dict.fromkeys(trail, answer))
        return answer

    def trash(self, node: NodeRow) -> None:
        """Into the trash, with everything inside, by one row."""
        # A clock that jumped back must not make it look old enough to be removed.
        node.deleted, node.deleted_by = max(self.now, self._steady, self.rows.latest(self.account)), self.device
        self._placed(node, "delete")
        conflict = self.rows.conflict_of_copy(self.account, node.id)
        if conflict is not None:
            conflict.resolved, conflict.resolved_at, conflict.undo = "theirs", self.now, ""
            self.rows.set_conflict(conflict)

    def _restore(self, op: Restore) -> OpResult:
        node = self._find(op.node)
        version = None
        if op.version is not None:
            version = self.rows.version(self.account, node.id, op.version)
            if version is None:
                raise NotFound("There is no such version of it.")
        if is_live(self.rows, node):
            if op.parent is not None or op.name is not None:
                raise self._invalid("It is not in the trash: move it.")
            if version is None:
                return self._answer("same", node)
            if op.base is not None and self._base(op.base) < node.content_rev:
                raise self._refuse("stale", node, "Another device changed the content meanwhile.")
            if version.revision == node.content_rev:
                return self._answer("same", node)
            self.put_version(node, version, "restore")
            return self._answer("ok", node, changed=True)
        parent = self._revive(node.parent or ROOT) if op.parent is None else self._destination(op.parent, "fail")[0]
        name = node.name if op.name is None else check_name(op.name)
        self.untrash(node, parent, name, exact=op.name is not None)
        if version is not None and version.revision != node.content_rev:
            self.put_version(node, version, "restore")
        return self._answer("ok", node, changed=True)

    def untrash(self, node: NodeRow, parent: int, name: str, *, exact: bool = False) -> None:
        """Back into the tree with everything inside: one row each, so that nobody must remember what was in it."""
        self._check_path(parent, name)
        other = self.rows.child(self.account, parent, name_key(name))
        if other is not None and other.id != node.id:
            if exact:
                raise self._refuse("clash", other, "The name is taken.")
            name = self._free_name(parent, lambda attempt: restored_name(node.name, attempt))
        node.parent, node.name, node.key = parent, name, name_key(name)
        node.deleted, node.deleted_by = 0, None
        self._placed(node, "restore")
        folders = [node] if node.kind == "folder" else []
        while folders:
            folder = folders.pop()
            after = ""
            while page := self.rows.children(self.account, folder.id, after, 500):
                after = page[-1].key
                for child in page:
                    self._record(child, "restore")
                    if child.kind == "folder":
                        folders.append(child)

    def untrash_home(self, node: NodeRow) -> None:
        """Back to where it was, whatever became of its folder."""
        if not is_live(self.rows, node):
            self.untrash(node, self._revive(node.parent or ROOT), node.name)

    def put_version(self, node: NodeRow, version: VersionRow, op: JournalOp) -> None:
        """An old version as the new current one."""
        blobs = self.rows.blobs_of(self.account, version.content, version.parts)
        self._write(node, blobs, version, op)

    # --- what they share ---

    def _find(self, reference: str) -> NodeRow:
        node = self.rows.node(self.account, self._reference(reference))
        if node is None:
            raise NotFound("There is no such node.")
        return node

    def _reference(self, reference: str) -> int:
        if not reference.startswith("@"):
            return parse_node(reference)
        number = reference[1:]
        if not number.isascii() or not number.isdecimal() or len(number) > 5 or int(number) >= len(self._results):
            raise self._invalid(f"“{reference}” is no earlier operation of this commit.")
        earlier = self._results[int(number)].node
        if earlier is None:
            raise NotFound(f"Operation {number} of this commit gave no node.")
        return parse_node(earlier)

    def _base(self, base: int) -> int:
        if base > self.rows.tree(self.account).seq:
            raise self._invalid("The revision is one the server has not reached yet.")
        return base

    def _content_at(self, node: NodeRow, base: int) -> VersionRow | None:
        """What the client had at its base, where that is still known."""
        for version in self.rows.versions(self.account, node.id):
            if version.revision <= base:
                return version
        return None

    def _destination(self, reference: str, on_conflict: str) -> tuple[int, bool]:
        """The folder to put something in, and whether it had to be made anew because another device deleted it."""
        number = self._reference(reference)
        if self._folders.get(number) is not None:
            return number, False
        row = self.rows.node(self.account, number)
        if row is None:
            raise NotFound("There is no such folder.")
        if row.kind != "folder":
            raise self._invalid("The parent is a file.")
        if self._path_length(row) is not None:
            return number, False
        if on_conflict == "fail":
            raise self._refuse("conflict", row, "The folder is in the trash.")
        return self._revive(number), True

    def _revive(self, folder: int) -> int:
        """The live folder at the place of one that may be in the trash: edit beats delete.

        What else was in the deleted folder stays in the trash, so the folder is made anew instead of restored.
        """
        chain: list[NodeRow] = []
        at = folder
        while at != ROOT:
            row = self.rows.node(self.account, at)
            if row is None or row.parent is None:
                break
            chain.append(row)
            at = row.parent
        live = ROOT
        for row in reversed(chain):
            if row.parent == live and not row.deleted:
                live = row.id
                continue
            there = self.rows.child(self.account, live, row.key)
            if there is not None and there.kind == "folder":
                live = there.id
                continue
            name = row.name
            if there is not None:
                name = self._free_name(live, lambda attempt, old=row.name: restored_name(old, attempt))  # type: ignore[misc]
            live = self._make_folder(live, name).id
        return live

    def _path_length(self, folder: NodeRow) -> int | None:
        """Bytes of the folder's path with the slash behind it; None in the trash."""
        trail = []
        at: NodeRow | None = folder
        while at is not None and at.id not in self._folders:
            trail.append(at)
            if at.deleted or len(trail) > MAX_DEPTH:
                at = None
                break
            if at.parent is None:
                self._folders[at.id] = 0
                trail.pop()
                break
            at = self.rows.node(self.account, at.parent)
        length = None if at is None else self._folders[at.id]
        for row in reversed(trail):
            if length is not None:
                length += len(row.name.encode()) + 1
            self._folders[row.id] = length
        return length

    def _check_path(self, parent: int, name: str) -> None:
        row = self.rows.node(self.account, parent)
        length = self._folders.get(parent)
        if length is None and row is not None:
            length = self._path_length(row)
        total = (length or 0) + len(name.encode())
        if total > MAX_PATH_BYTES:
            raise InvalidName(f"A path cannot be longer than {MAX_PATH_BYTES} bytes; this one has {total}.")

    def _is_within(self, folder: int, ancestor: int) -> bool:
        at: int | None = folder
        while at is not None:
            if at == ancestor:
                return True
            row = self.rows.node(self.account, at)
            at = None if row is None else row.parent
        return False

    def _free_name(self, parent: int, candidate: Callable[[int], str]) -> str:
        attempt = 1
        while True:
            name = candidate(attempt)
            if self.rows.child(self.account, parent, name_key(name)) is None:
                return name
            attempt += 1

    def _conflict_name(self, name: str, attempt: int) -> str:
        return conflict_name(name, self.now, self.rows.device_name(self.device) or "device", attempt)

    def _new(self, kind: str, parent: int, name: str, key: str) -> NodeRow:
        tree = self.rows.tree(self.account)
        number = tree.next_node
        tree.next_node += 1
        return NodeRow(
            self.account,
            number,
            parent,
            name,
            key,
            "folder" if kind == "folder" else "file",
            0,
            0,
            0,
            0,
            None,
            0,
            0,
            False,
            None,
            0,
        )

    def _make_folder(self, parent: int, name: str) -> NodeRow:
        folder = self._new("folder", parent, name, name_key(name))
        tree = self.rows.tree(self.account)
        tree.seq += 1
        folder.revision = folder.place_rev = tree.seq
        self.rows.add_node(folder)
        self.rows.add_journal(folder, "mkdir", self.device, self.now)
        return folder

    def _write(
        self,
        node: NodeRow,
        blobs: Sequence[str],
        what: Put | VersionRow,
        op: JournalOp,
        *,
        new: bool = False,
        placed: bool = False,
    ) -> None:
        """A new version of the file; those beyond the ones to keep go."""
        tree = self.rows.tree(self.account)
        tree.seq += 1
        node.revision = node.content_rev = tree.seq
        if new or placed:
            node.place_rev = tree.seq
        node.size, node.mtime = what.size, what.mtime
        node.executable, node.symlink = _kind(what)
        node.content, node.parts = content_id(blobs), len(blobs)
        if new:
            self.rows.add_node(node)
        else:
            self.rows.set_node(node)
        version = VersionRow(
            node.id,
            node.revision,
            node.size,
            node.mtime,
            node.executable,
            node.content,
            node.parts,
            self.device,
            self.now,
            node.symlink,
        )
        self.rows.add_version(self.account, version, blobs)
        if not new:
            self.rows.prune_versions(self.account, node.id, self._keep)
        self.rows.add_journal(node, op, self.device, self.now)

    def _placed(self, node: NodeRow, op: JournalOp) -> None:
        self._record(node, op)
        node.place_rev = node.revision
        self.rows.set_node(node)
        if node.kind == "folder":
            self._folders.clear()

    def _record(self, node: NodeRow, op: JournalOp) -> None:
        tree = self.rows.tree(self.account)
        tree.seq += 1
        node.revision = tree.seq
        self.rows.set_node(node)
        self.rows.add_journal(node, op, self.device, self.now)

    def _note_conflict(self, rival: NodeRow, copy: NodeRow) -> None:
        theirs = None if rival.kind == "folder" else self.rows.version(self.account, rival.id, rival.content_rev)
        self.rows.add_conflict(
            ConflictRow(
                self.account,
                0,
                rival.id,
                copy.id,
                rival.content_rev,
                copy.content_rev,
                self.device,
                None if theirs is None else theirs.device,
                self.now if theirs is None else theirs.time,
                self.now,
                None,
                None,
                None,
            )
        )

    # --- answers ---

    def _answer(
        self, status: Status, node: NodeRow, *, changed: bool = False, current: NodeRow | None = None
    ) -> OpResult:
        return OpResult(
            status,
            node_id(node.id),
            node.revision,
            entry(self.rows, node) if changed or current is not None else None,
            None if current is None else self._seen(current),
        )

    def _refuse(self, status: Status, current: NodeRow, detail: str) -> Refused:
        return Refused(
            OpResult(
                status,
                node_id(current.id),
                current.revision,
                current=self._seen(current),
                detail=detail,
            )
        )

    def _seen(self, node: NodeRow) -> NodeEntry:
        shown = entry(self.rows, node)
        return shown if is_live(self.rows, node) else replace(shown, deleted=True)

    def _invalid(self, detail: str) -> Refused:
        return Refused(OpResult("invalid", detail=detail))


def _kind(what: Put | NodeRow | VersionRow) -> tuple[bool, bool]:
    """Whether a file can be run, and whether it is a symbolic link; a link has no mode of its own."""
    return what.executable and not what.symlink, bool(what.symlink)


def _is(node: NodeRow, content: str, op: Put) -> bool:
    return node.kind == "file" and node.content == content and node.symlink == bool(op.symlink)


def _twin(name: str, other: NodeRow) -> str:
    return f"“{name}” and “{other.name}” are the same name on macOS, Windows and Android: rename one of them."
