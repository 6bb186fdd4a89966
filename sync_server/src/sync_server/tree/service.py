# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door to the tree: what a route, a command and a test call."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar, cast

import msgspec

from sync_protocol.hashing import EMPTY
from sync_protocol.names import InvalidName
from sync_protocol.types import (
    BlobResult,
    BlobStatus,
    ChangesPage,
    CommitAnswer,
    CommitRequest,
    ConflictEntry,
    ConflictPage,
    Keep,
    Listing,
    NodeEntry,
    Put,
    Restore,
    Snapshot,
    TrashPage,
    UploadRequest,
    UploadState,
    Usage,
    VersionList,
)
from sync_server.store.interface import (
    BlobFile,
    BlobWriter,
    Clash,
    Identity,
    Invalid,
    MissingBlobs,
    NodeRow,
    NotFound,
    QuotaExceeded,
    Reader,
    Stale,
    Store,
    SyncError,
    Transaction,
)
from sync_server.store.rows import now_ms
from sync_server.tree import conflicts, files, pages, uploads
from sync_server.tree.entries import parse_cursor, path_of
from sync_server.tree.places import Places
from sync_server.tree.rules import Refused, Rules

T = TypeVar("T")

_DAY = 24 * 3600 * 1000
# Blobs a client was just told it need not send live on for a day; a touch an hour is enough for that.
_TOUCH_AFTER = 3600 * 1000

_HASH = re.compile(r"[0-9a-f]{64}")
_encoder = msgspec.json.Encoder()
_answers = msgspec.json.Decoder(CommitAnswer)


@dataclass(frozen=True, slots=True)
class TreeSettings:
    keep_versions: int = 5
    """Versions kept before the current one."""
    trash_days: int = 30
    journal_days: int = 90
    op_days: int = 30
    upload_days: int = 7
    quota: int | None = None
    """Bytes of a new account; None: as many as there are."""


class Tree:
    """All accounts' trees. Every method acts for one identity and sees nothing of another account."""

    def __init__(self, store: Store, settings: TreeSettings | None = None) -> None:
        self.store = store
        self.settings = settings or TreeSettings()
        self._known: set[int] = set()
        self._places = Places()
        self._began = now_ms() - int(time.monotonic() * 1000)

    def _steady(self) -> int:
        """The start plus what has passed since: a clock that jumps ahead must not empty the trash."""
        return self._began + int(time.monotonic() * 1000)

    # --- changes ---

    async def commit(self, who: Identity, request: CommitRequest) -> CommitAnswer:
        """Do the operations of a commit, in one transaction; each has its own result.

        The same op id again, of the same device, gives the same answer; with another body it raises Invalid. NoSpace is
        raised before anything is done.
        """
        try:
            digest = sha256(_encoder.encode(request)).digest()
        except UnicodeEncodeError as error:
            raise Invalid("A name must be valid Unicode.") from error
        if any(isinstance(op, Put) for op in request.ops):
            self.store.check_space()

        def job(rows: Transaction) -> CommitAnswer:
            earlier = rows.replay(who.device_id, request.op_id)
            if earlier is not None:
                if earlier[0] != digest:
                    raise Invalid("This op id was used for another commit: every commit needs its own.")
                return msgspec.structs.replace(_answers.decode(zlib.decompress(earlier[1])), replayed=True)
            rules = self._rules(rows, who)
            results = rules.commit(request.ops, atomic=request.atomic)
            answer = CommitAnswer(results, rows.tree(who.account_id).seq)
            rows.remember(who.device_id, request.op_id, digest, zlib.compress(_encoder.encode(answer), 1), rules.now)
            return answer

        return await self.store.write(job)

    async def apply(self, who: Identity, job: Callable[[Rules], T]) -> T:
        """Run some rules in one transaction, with errors instead of results: for a route that does one thing."""

        def run(rows: Transaction) -> T:
            try:
                return job(self._rules(rows, who))
            except Refused as refused:
                raise error_of(refused) from None
            except InvalidName as error:
                raise Invalid(str(error)) from error

        return await self.store.write(run)

    def _rules(self, rows: Transaction, who: Identity) -> Rules:
        rows.ensure_tree(who.account_id, self.settings.quota)
        return Rules(rows, who, now_ms(), self._steady(), self.settings.keep_versions)

    async def restore(
        self,
        who: Identity,
        node: str,
        version: int | None = None,
        base: int | None = None,
        parent: str | None = None,
        name: str | None = None,
    ) -> NodeEntry:
        """From the trash, or an old version as the current one; raises NotFound, Stale, Clash, Invalid."""
        operation = Restore(node, version, base, parent, name)

        def job(rules: Rules) -> NodeEntry:
            return self._done(rules, rules.apply(operation).node)

        return await self.apply(who, job)

    @staticmethod
    def _done(rules: Rules, node: str | None) -> NodeEntry:
        return pages.full_entry(rules.rows, pages.find(rules.rows, rules.account, node or "root"))

    async def purge(self, who: Identity, node: str) -> None:
        """Remove something in the trash for good, with its versions; raises NotFound, Invalid."""
        await self._ready(who)
        row = await self.store.read(lambda rows: pages.find(rows, who.account_id, node))
        if not row.deleted:
            raise Invalid("It is not in the trash: delete it first.")
        await self._purge(row)

    async def empty_trash(self, who: Identity) -> int:
        """Remove everything in the trash for good; returns how many entries it had."""
        await self._ready(who)
        count = 0
        while True:
            found = await self.store.read(lambda rows: rows.trash(who.account_id, None, 100))
            if not found:
                return count
            for row in found:
                await self._purge(row)
                count += 1

    async def _purge(self, row: NodeRow) -> None:
        # In pieces: others wait for the writer meanwhile.
        while not await self.store.write(lambda rows: _purge_some(rows, row, 500)):
            pass

    # --- reading ---

    async def _ready(self, who: Identity) -> None:
        if who.account_id in self._known:
            return
        try:
            await self.store.read(lambda rows: rows.tree(who.account_id))
        except NotFound:
            await self.store.write(lambda rows: rows.ensure_tree(who.account_id, self.settings.quota))
        self._known.add(who.account_id)

    async def changes(self, who: Identity, cursor: str | None, limit: int) -> ChangesPage:
        """What happened after the cursor (None: from the beginning); raises Gone."""
        await self._ready(who)
        return await self.store.read(lambda rows: pages.changes(rows, who, cursor, limit))

    async def wait(self, who: Identity, cursor: str | None, timeout: float) -> bool:
        """Return when there is something after the cursor (True) or the seconds are over (False); raises Gone."""
        await self._ready(who)
        after = await self.store.read(lambda rows: parse_cursor(rows.tree(who.account_id), cursor))
        return await self.store.wait_for_change(who.account_id, after, timeout)

    async def snapshot(self, who: Identity, page: str | None, limit: int) -> Snapshot:
        """Everything there is, in pages; raises Gone when the paging took longer than the journal is kept."""
        await self._ready(who)
        return await self.store.read(lambda rows: pages.snapshot(rows, who, page, limit))

    async def node(self, who: Identity, node: str) -> NodeEntry:
        """A node with all its blobs, in the trash or not; raises NotFound."""
        await self._ready(who)
        quick = self.store.glance(lambda rows: pages.quick_entry(rows, self._places, who.account_id, node))
        if quick is not None:
            return quick

        return await self.store.read(
            lambda rows: pages.full_entry(rows, pages.find(rows, who.account_id, node), self._places.look_up)
        )

    async def path(self, who: Identity, node: str) -> str:
        """Where a node is or was; raises NotFound."""
        await self._ready(who)
        return await self.store.read(lambda rows: path_of(rows, pages.find(rows, who.account_id, node)))

    async def find(self, who: Identity, path: str) -> NodeEntry:
        """The live node at a path ("" is the root); raises NotFound, Invalid."""
        await self._ready(who)
        return await self.store.read(
            lambda rows: pages.full_entry(rows, files.at_path(rows, who.account_id, files.names_of(path)))
        )

    async def children(self, who: Identity, node: str, page: str | None, limit: int) -> Listing:
        """What is in a folder, by name; raises NotFound."""
        await self._ready(who)
        return await self.store.read(lambda rows: pages.children(rows, who.account_id, node, page, limit))

    async def versions(self, who: Identity, node: str) -> VersionList:
        """The versions of a file, the newest first; raises NotFound, Invalid for a folder."""
        await self._ready(who)
        return await self.store.read(lambda rows: pages.versions(rows, who.account_id, node))

    async def trash(self, who: Identity, page: str | None, limit: int) -> TrashPage:
        """What was deleted, the latest first."""
        await self._ready(who)
        keep = self.settings.trash_days * _DAY
        return await self.store.read(lambda rows: pages.trash(rows, who.account_id, page, limit, keep))

    async def usage(self, who: Identity) -> Usage:
        """How much the account keeps."""
        await self._ready(who)
        tree = await self.store.read(lambda rows: rows.tree(who.account_id))
        return Usage(tree.used, tree.pending, tree.quota)

    async def set_quota(self, account: int, quota: int | None) -> None:
        """Bytes the account may keep; None: no limit."""

        def job(rows: Transaction) -> None:
            rows.ensure_tree(account, quota)
            rows.set_quota(account, quota)

        await self.store.write(job)

    # --- conflicts ---

    async def conflicts(self, who: Identity, resolved: bool, page: str | None, limit: int) -> ConflictPage:
        """Open or resolved ones, the latest first."""
        await self._ready(who)
        return await self.store.read(lambda rows: conflicts.listing(rows, who.account_id, resolved, page, limit))

    async def conflict(self, who: Identity, conflict: str) -> ConflictEntry:
        """One conflict; raises NotFound."""
        await self._ready(who)
        return await self.store.read(lambda rows: conflicts.one(rows, who.account_id, conflict))

    async def resolve(self, who: Identity, conflict: str, keep: Keep) -> ConflictEntry:
        """Keep mine, theirs or both; again the same is harmless. Raises NotFound, Stale."""

        def job(rules: Rules) -> ConflictEntry:
            conflicts.resolve(rules.rows, rules, conflict, keep)
            return conflicts.one(rules.rows, who.account_id, conflict)

        return await self.apply(who, job)

    async def undo(self, who: Identity, conflict: str) -> ConflictEntry:
        """Open it again as it was; raises NotFound, Stale."""

        def job(rules: Rules) -> ConflictEntry:
            conflicts.undo(rules.rows, rules, conflict)
            return conflicts.one(rules.rows, who.account_id, conflict)

        return await self.apply(who, job)

    # --- blobs ---

    async def have(self, who: Identity, blobs: Sequence[str]) -> list[str]:
        """Which of them the account has to upload; those it need not are kept for a day at least."""
        await self._ready(who)
        before = now_ms() - _TOUCH_AFTER

        def look(rows: Reader) -> tuple[list[str], list[str]]:
            return rows.missing(who.account_id, blobs), rows.idle(who.account_id, blobs, before)

        missing, idle = await self.store.read(look)
        if not idle:
            return missing

        def keep(rows: Transaction) -> list[str]:
            rows.touch(who.account_id, idle, now_ms())
            return rows.missing(who.account_id, blobs)

        return await self.store.write(keep)

    def upload_blob(self, who: Identity, blob: str | None = None) -> BlobWriter:
        """Begin one blob; raises Invalid for a name that is no hash, NoSpace, QuotaExceeded."""
        if blob is not None and not _HASH.fullmatch(blob):
            raise Invalid("A blob is named by its SHA-256 in lower-case hex.")
        return self.store.upload_blob(who.account_id, blob)

    async def put_blobs(self, who: Identity, blobs: Sequence[tuple[str, bytes | memoryview]]) -> list[BlobResult]:
        """Many small blobs at the cost of one; raises NoSpace."""
        await self._ready(who)
        statuses = await self.store.put_blobs(who.account_id, blobs)
        return [BlobResult(blob, cast(BlobStatus, status)) for (blob, _), status in zip(blobs, statuses, strict=True)]

    async def blob(self, who: Identity, blob: str) -> BlobFile:
        """Where the bytes are; raises NotFound also for what only others have."""
        if not _HASH.fullmatch(blob):
            raise NotFound("There is no such blob.")
        await self._ready(who)
        size = await self.store.read(lambda rows: rows.holding(who.account_id, blob))
        if blob == EMPTY:
            return self.store.blob_file(blob, 0)
        if size is None:
            raise NotFound("There is no such blob.")
        return self.store.blob_file(blob, size)

    # --- whole files ---

    async def open(self, who: Identity, node: str, revision: int | None = None) -> files.Content:
        """The content of a file, or of one of its versions; raises NotFound, Invalid for a folder."""
        await self._ready(who)
        return await self.store.read(lambda rows: files.content(self.store, rows, who, node, revision))

    async def write_file(
        self,
        who: Identity,
        path: str,
        size: int | None = None,
        expect: files.Expect = files.ANYTHING,
        *,
        parents: bool = False,
    ) -> files.FileUpload:
        """Begin a whole file of any size; raises NotFound for a missing folder, Stale, NoSpace, QuotaExceeded."""
        await self._ready(who)
        names = files.names_of(path)
        await self.store.read(lambda rows: files.check(rows, who.account_id, names, expect, parents=parents))
        self.store.check_space(size or 0)
        return files.FileUpload(self, who, names, expect, parents=parents)

    async def delete_path(self, who: Identity, path: str, expect: files.Expect = files.ANYTHING) -> NodeEntry:
        """Into the trash; raises NotFound, Stale, Invalid for the root."""
        names = files.names_of(path)
        return await self.apply(who, lambda rules: files.delete(rules, names, expect))

    async def move_path(
        self,
        who: Identity,
        path: str,
        to: str,
        expect: files.Expect = files.ANYTHING,
        *,
        overwrite: bool = False,
    ) -> NodeEntry:
        """Rename or move; what `overwrite` replaces goes to the trash. Raises NotFound, Clash, Stale, Invalid."""
        names, target = files.names_of(path), files.names_of(to)
        return await self.apply(who, lambda rules: files.move(rules, names, target, expect, overwrite=overwrite))

    async def restore_path(
        self, who: Identity, path: str, version: int, expect: files.Expect = files.ANYTHING
    ) -> NodeEntry:
        """An old version of the file at a path as the current one; raises NotFound, Stale, Invalid."""
        names = files.names_of(path)
        return await self.apply(who, lambda rules: files.restore(rules, names, version, expect))

    async def mkdir_path(
        self, who: Identity, path: str, expect: files.Expect = files.ANYTHING, *, parents: bool = False
    ) -> tuple[NodeEntry, bool]:
        """A folder, and whether it is new; raises NotFound, Stale, Clash, Invalid."""
        names = files.names_of(path)
        return await self.apply(who, lambda rules: files.mkdir(rules, names, expect, parents=parents))

    # --- resumable uploads ---

    async def begin_upload(self, who: Identity, request: UploadRequest) -> UploadState:
        """Begin a file whose upload may be interrupted; raises as write_file does, Stale also for a name that is taken
        without a base."""
        await self._ready(who)
        return await uploads.begin(self, who, request)

    async def upload_state(self, who: Identity, upload: str) -> UploadState:
        """How far it is; raises NotFound, and what its end was refused for."""
        await self._ready(who)
        return await uploads.state(self, who, upload)

    async def resume_upload(self, who: Identity, upload: str, offset: int) -> uploads.ResumedUpload:
        """Go on at the offset the server told; raises Stale for another one, Busy when somebody else is at it."""
        await self._ready(who)
        return await uploads.resume(self, who, upload, offset)

    async def cancel_upload(self, who: Identity, upload: str) -> None:
        """Forget it; raises NotFound."""
        await self._ready(who)
        await uploads.cancel(self, who, upload)

    # --- ages ---

    async def housekeeping(self) -> None:
        """Let go of what is older than promised: trash, answers, journal, uploads. Call it every hour."""
        # A clock that was ahead when the server started, and was put right since, must not empty the trash either.
        now = min(self._steady(), now_ms())
        days = self.settings
        while True:
            expired = await self.store.write(lambda rows: rows.expired_trash(now - days.trash_days * _DAY, 100))
            if not expired:
                break
            for row in expired:
                await self._purge(row)
        while await self.store.write(
            lambda rows: rows.forget(
                ops_before=now - days.op_days * _DAY, journal_before=now - days.journal_days * _DAY, limit=1000
            )
        ):
            pass
        await uploads.forget(self, now - days.upload_days * _DAY)


def error_of(refused: Refused) -> SyncError:
    """What a refused operation is for a route that does only this one."""
    result = refused.result
    detail = result.detail or result.status
    match result.status:
        case "clash":
            return Clash(detail, result.current)
        case "stale" | "conflict":
            return Stale(detail, result.current)
        case "missing_blobs":
            return MissingBlobs(result.missing)
        case "not_found":
            return NotFound(detail)
        case "quota":
            return QuotaExceeded(detail)
        case _:
            return Invalid(detail)


def _purge_some(rows: Transaction, top: NodeRow, limit: int) -> bool:
    """Remove up to so many nodes of what is in the trash, the innermost first; True when all is gone."""
    account = top.account
    now = rows.node(account, top.id)
    if now is None or not now.deleted:
        # Somebody restored it meanwhile.
        return True
    removed = 0
    path = [now]
    while path:
        row = path[-1]
        inside = rows.children(account, row.id, "", 1) or rows.trashed_children(account, row.id)[:1]
        if inside:
            path.append(inside[0])
            continue
        if removed == limit:
            return False
        conflict = rows.conflict_of_copy(account, row.id)
        for open_ in [*rows.conflicts_of_node(account, row.id), *([conflict] if conflict else [])]:
            open_.resolved, open_.resolved_at, open_.undo = "both", now_ms(), None
            rows.set_conflict(open_)
        rows.remove_node(account, row.id)
        removed += 1
        path.pop()
    return True
