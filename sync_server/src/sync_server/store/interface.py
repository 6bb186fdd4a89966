# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rules (`tree/`) need of a store, and the errors both raise.

A store runs a function over its rows: `read(fn)` with a consistent view, `write(fn)` as one transaction that is on disk
when it returns. The function is synchronous and quick; where it runs (on the loop, in a writer thread, beside a pool of
connections) is the store's business. Ids of nodes are integers here; hashes are 64 hex digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from sync_protocol.types import NodeEntry

T = TypeVar("T")

ROOT = 0


# --- errors ----------------------------------------------------------------------------------------------------------


class SyncError(Exception):
    """Everything a caller is to be told; `detail` is one sentence for a person."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotFound(SyncError):
    """It is not there, or not this account's: nobody can tell which."""


class Invalid(SyncError):
    """The request makes no sense, whatever the state is."""


class TooLarge(Invalid):
    """More bytes than one blob, one file or one request may have."""


class Mismatch(Invalid):
    """The bytes are not what their name says."""


class Stale(SyncError):
    """It was changed meanwhile; `current` is how it is now (None: it is gone)."""

    def __init__(self, detail: str, current: NodeEntry | None = None) -> None:
        super().__init__(detail)
        self.current = current


class Clash(SyncError):
    """The name is taken by `current`."""

    def __init__(self, detail: str, current: NodeEntry | None = None) -> None:
        super().__init__(detail)
        self.current = current


class Gone(SyncError):
    """The cursor or page is older than what is kept, or of another life of the store: start again with a snapshot."""


class MissingBlobs(SyncError):
    """The content was not uploaded, or not by this account."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(f"{len(missing)} blobs are missing: upload them first.")
        self.missing = tuple(missing)


class QuotaExceeded(SyncError):
    """The account's bytes are used up."""


class NoSpace(SyncError):
    """The disk is full, or has less left than the floor."""


class Busy(SyncError):
    """Another process or job has it; try later."""


class StoreFailed(SyncError):
    """The disk refused to keep what it was given: nothing is written until the server is started anew."""


# --- rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identity:
    """On whose behalf."""

    account_id: int
    device_id: int
    scopes: frozenset[str] = frozenset()


NodeKind = Literal["file", "folder"]
JournalOp = Literal["put", "mkdir", "move", "delete", "restore"]


@dataclass(slots=True)
class TreeRow:
    """The counters of one account."""

    account: int
    generation: str
    """Another one after a restored backup, so that no cursor of a lost time is taken for valid."""
    seq: int
    horizon: int
    """Journal rows up to this number are no longer kept."""
    next_node: int
    used: int
    pending: int
    quota: int | None


@dataclass(slots=True)
class NodeRow:
    account: int
    id: int
    parent: int | None
    name: str
    key: str
    kind: NodeKind
    revision: int
    content_rev: int
    """Journal number of the last change of content; 0 for a folder."""
    place_rev: int
    """Journal number of the last change of parent, name or being there."""
    deleted: int
    """When it went into the trash, in milliseconds; 0: it did not (an ancestor may have)."""
    deleted_by: int | None
    size: int
    mtime: int
    executable: bool
    content: str | None
    parts: int
    """How many blobs the content has."""
    symlink: bool = False


@dataclass(frozen=True, slots=True)
class VersionRow:
    node: int
    revision: int
    size: int
    mtime: int
    executable: bool
    content: str
    parts: int
    device: int | None
    time: int
    symlink: bool = False


@dataclass(frozen=True, slots=True)
class JournalRow:
    seq: int
    node: int
    op: JournalOp
    kind: NodeKind
    parent: int | None
    name: str
    deleted: bool
    version: VersionRow | None
    """The content the node had then; None for a folder, and for a file when that version is gone."""
    device: int | None
    time: int


@dataclass(slots=True)
class ConflictRow:
    account: int
    id: int
    node: int
    copy: int
    node_rev: int
    """The content that kept the name."""
    copy_rev: int
    """The content that became the copy."""
    mine_device: int | None
    theirs_device: int | None
    theirs_time: int
    created: int
    resolved: str | None
    resolved_at: int | None
    undo: str | None
    """What resolving changed, as the rules need it to undo it."""


@dataclass(slots=True)
class UploadRow:
    id: str
    account: int
    device: int
    path: str
    size: int
    mtime: int | None
    executable: bool
    base: int | None
    blobs: tuple[str, ...]
    offset: int
    """Bytes in the blobs."""
    part: int
    """Bytes on disk in the part file, after those."""
    touched: int
    node: int | None


# --- the store -------------------------------------------------------------------------------------------------------


class Reader(Protocol):
    """A consistent view of the rows. Everything takes the account: nothing reads across accounts."""

    def tree(self, account: int) -> TreeRow: ...
    def node(self, account: int, node: int) -> NodeRow | None: ...
    def child(self, account: int, parent: int, key: str) -> NodeRow | None:
        """The one that has the name and is not in the trash by itself."""
        ...

    def children(self, account: int, parent: int, after: str, limit: int) -> list[NodeRow]:
        """Those not in the trash by themselves, by key, from after `after`."""
        ...

    def trashed_children(self, account: int, parent: int) -> list[NodeRow]: ...
    def nodes(self, account: int, after: int, limit: int) -> list[NodeRow]:
        """Those not in the trash by themselves, by id, from after `after`."""
        ...

    def trash(self, account: int, before: tuple[int, int] | None, limit: int) -> list[NodeRow]:
        """Those in the trash by themselves, the latest first, from before (time, id)."""
        ...

    def version(self, account: int, node: int, revision: int) -> VersionRow | None: ...
    def versions(self, account: int, node: int) -> list[VersionRow]:
        """The newest first."""
        ...

    def blobs_of(self, account: int, content: str, parts: int) -> tuple[str, ...]:
        """The blobs of a content some version of the account has."""
        ...

    def journal(self, account: int, after: int, limit: int) -> list[JournalRow]: ...
    def latest(self, account: int) -> int:
        """The time of the last row of the journal, 0 without one."""
        ...

    def changed_by_others(self, account: int, after: int, device: int) -> Iterable[int]:
        """Nodes that other devices changed after the journal number."""
        ...

    def holding(self, account: int, blob: str) -> int | None:
        """The size of a blob the account may see."""
        ...

    def missing(self, account: int, blobs: Iterable[str]) -> list[str]: ...
    def idle(self, account: int, blobs: Iterable[str], before: int) -> list[str]:
        """Those nothing refers to that were last touched before that time."""
        ...

    def conflict(self, account: int, conflict: int) -> ConflictRow | None: ...
    def node_now(self, account: int, node: int) -> tuple[NodeRow, int | None, int] | None:
        """In one statement: a node, the open conflict it is the copy of, and the account's last journal number."""
        ...

    def conflict_of_copy(self, account: int, copy: int) -> ConflictRow | None:
        """The open one."""
        ...

    def conflicts_of_node(self, account: int, node: int) -> list[ConflictRow]:
        """The open ones."""
        ...

    def conflicts(self, account: int, resolved: bool, before: int | None, limit: int) -> list[ConflictRow]:
        """The latest first, from before the id."""
        ...

    def device_name(self, device: int | None) -> str | None: ...
    def upload(self, account: int, upload: str) -> UploadRow | None: ...
    def parts_of_uploads(self, account: int, but: str) -> int:
        """Bytes of the account's unfinished uploads that are no blobs yet, without those of one of them."""
        ...


class Transaction(Reader, Protocol):
    """The rows, and changing them. `tree(account)` is the row itself: change it in place."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Everything inside or, when it raises, nothing of it."""
        ...

    def ensure_tree(self, account: int, quota: int | None) -> None:
        """Make the account's tree, with its root, unless it has one."""
        ...

    def add_node(self, row: NodeRow) -> None: ...
    def set_node(self, row: NodeRow) -> None: ...
    def remove_node(self, account: int, node: int) -> None:
        """With its versions."""
        ...

    def add_version(self, account: int, row: VersionRow, blobs: Sequence[str]) -> None: ...
    def prune_versions(self, account: int, node: int, keep: int) -> None: ...
    def add_journal(self, row: NodeRow, op: JournalOp, device: int | None, now: int) -> None:
        """Note what the node is now, under its revision."""
        ...

    def touch(self, account: int, blobs: Iterable[str], now: int) -> None:
        """Keep blobs nothing refers to from being collected for another day."""
        ...

    def replay(self, device: int, op_id: str) -> tuple[bytes, bytes] | None:
        """Digest of the request and the answer given to it."""
        ...

    def remember(self, device: int, op_id: str, digest: bytes, answer: bytes, now: int) -> None: ...
    def add_conflict(self, row: ConflictRow) -> int: ...
    def set_conflict(self, row: ConflictRow) -> None: ...
    def set_quota(self, account: int, quota: int | None) -> None: ...
    def set_upload(self, row: UploadRow) -> None: ...
    def remove_upload(self, account: int, upload: str) -> None: ...
    def forget(self, *, ops_before: int, journal_before: int, limit: int) -> bool:
        """Drop some remembered answers and journal rows older than these times, and move the horizons; False: none."""
        ...

    def expired_trash(self, before: int, limit: int) -> list[NodeRow]:
        """Of all accounts."""
        ...

    def expired_uploads(self, before: int) -> list[UploadRow]:
        """Of all accounts."""
        ...


@dataclass(frozen=True, slots=True)
class BlobFile:
    """Where a blob's bytes are."""

    hash: str
    path: Path
    size: int


class BlobWriter(Protocol):
    """One blob on its way in; memory does not grow with it."""

    @property
    def size(self) -> int: ...
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Raises TooLarge, NoSpace."""
        ...

    def pause(self) -> None:
        """No more is to be written; finish comes later."""
        ...

    def cost(self) -> int:
        """How much more the account would keep with it: nothing when it has the same already."""
        ...

    async def finish(self) -> str:
        """Make it durable and the account's; returns its hash. Raises Mismatch, QuotaExceeded, NoSpace."""
        ...

    def abort(self) -> None:
        """Forget it; harmless after finish."""
        ...


class Store(Protocol):
    async def read(self, job: Callable[[Reader], T]) -> T: ...
    def glance(self, job: Callable[[Reader], T]) -> T:
        """A read of one statement, which is consistent without a transaction around it."""
        ...

    async def write(self, job: Callable[[Transaction], T]) -> T: ...
    def upload_blob(self, account: int, expected: str | None = None) -> BlobWriter:
        """Raises NoSpace, QuotaExceeded at once when there is no use in beginning."""
        ...

    async def finish_blobs(self, account: int, blobs: Sequence[BlobWriter]) -> list[str]:
        """Make several written ones durable together and the account's; raises as finish does, and then keeps none."""
        ...

    def check_quota(self, account: int, size: int) -> None:
        """Raises QuotaExceeded when the account cannot keep so many bytes more."""
        ...

    async def put_blobs(self, account: int, blobs: Sequence[tuple[str, bytes | memoryview]]) -> list[str]:
        """Many small ones, made durable together; a status for each: ok, mismatch, too_large, quota."""
        ...

    def blob_file(self, blob: str, size: int) -> BlobFile: ...
    def part_file(self, upload: str) -> Path:
        """Where the part of a resumable upload is that is not a blob yet."""
        ...

    def free_bytes(self) -> int: ...
    def check_space(self, size: int = 0) -> None:
        """Raises NoSpace when less than the floor would be left."""
        ...

    async def wait_for_change(self, account: int, after: int, timeout: float) -> bool:
        """Return once the account's journal is beyond `after` (True) or the seconds are over (False)."""
        ...

    @property
    def failed(self) -> str | None:
        """Why nothing can be written any more, if so."""
        ...
