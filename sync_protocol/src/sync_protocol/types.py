# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that crosses the wire under `/api/v1`.

Times are integers: milliseconds since 1970 (UTC). Node ids, conflict ids and cursors are opaque strings. A revision is
a number of the account's journal. A blob is named by the SHA-256 of its bytes, 64 lower-case hex digits.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Sha256 = Annotated[
    str, Meta(min_length=64, max_length=64, pattern="^[0-9a-f]{64}$", description="SHA-256 in lower-case hex")
]
# Also "@2" in a commit: the node that operation 2 of the same commit gave.
NodeRef = Annotated[str, Meta(min_length=1, max_length=24, pattern="^[@a-z0-9]+$", examples=["root", "n1z141z4", "@0"])]
NodeId = Annotated[str, Meta(min_length=1, max_length=24, pattern="^[a-z0-9]+$", examples=["root", "n1z141z4"])]
# The bytes and the forbidden characters are checked by names.check_name: a pattern cannot say them.
Name = Annotated[str, Meta(min_length=1, max_length=255)]
Path = Annotated[str, Meta(min_length=1, max_length=4096)]
Revision = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Millis = Annotated[int, Meta(ge=-(2**45), le=2**45, description="milliseconds since 1970, UTC")]
Size = Annotated[int, Meta(ge=0, le=2**50)]
OpId = Annotated[str, Meta(min_length=8, max_length=64, pattern="^[A-Za-z0-9_.:-]+$")]
Cursor = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[A-Za-z0-9._-]+$")]

MAX_BLOB = 4 * 1024 * 1024
MAX_BLOBS_OF_A_FILE = 65_536
MAX_OPS = 2_000
MAX_HAVE = 1_000
MAX_PAGE = 1_000
# A longer list of blobs is left out of pages: ask for the node itself.
INLINE_BLOBS = 16
# The text of a symbolic link: Linux takes no longer one (PATH_MAX with its NUL).
MAX_LINK = 4095


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """A misspelt field is refused, never ignored."""


# --- who -------------------------------------------------------------------------------------------------------------


Scope = Annotated[str, Meta(max_length=64, pattern="^(read|write|account)( (read|write|account))*$")]


class LoginRequest(Request, frozen=True):
    user: Annotated[str, Meta(min_length=1, max_length=64)]
    password: Annotated[str, Meta(min_length=1, max_length=1024)]
    device: Annotated[str, Meta(min_length=1, max_length=64, description="what this device is called")]
    scope: Scope = "read write account"


class RefreshRequest(Request, frozen=True):
    refresh_token: Annotated[str, Meta(min_length=1, max_length=512)]


class TokenPair(Struct, frozen=True):
    access_token: str
    expires_in: int
    refresh_token: str
    device: str
    token_type: Literal["Bearer"] = "Bearer"
    scope: str = ""


class PasswordRequest(Request, frozen=True):
    old: Annotated[str, Meta(min_length=1, max_length=1024)]
    new: Annotated[str, Meta(min_length=1, max_length=1024)]


class DeviceCodeRequest(Request, frozen=True):
    device: Annotated[str, Meta(min_length=1, max_length=64)]
    scope: Scope = "read write"


class DeviceCodeAnswer(Struct, frozen=True):
    device_code: str
    user_code: str
    verification_uri: str
    expires_in: int
    interval: int


class DeviceTokenRequest(Request, frozen=True):
    device_code: Annotated[str, Meta(min_length=1, max_length=512)]


class DevicePending(Struct, frozen=True):
    """What a shown code is about, for the person who is to approve it."""

    device: str
    scope: str
    address: str


class DeviceApproveRequest(Request, frozen=True):
    user_code: Annotated[str, Meta(min_length=1, max_length=32)]
    approve: bool = True


class DeviceEntry(Struct, frozen=True):
    id: str
    name: str
    kind: str
    created: Millis
    last_seen: Millis | None = None
    current: bool = False
    revoked: bool = False
    scope: str = ""
    last_address: str = ""


class DeviceList(Struct, frozen=True):
    devices: list[DeviceEntry]


class AuditEntry(Struct, frozen=True):
    """A login, a revocation, or the like; `event` is stable, made for programs."""

    id: int
    time: Millis
    event: str
    address: str
    device: str | None = None
    detail: str = ""


class AuditPage(Struct, frozen=True):
    """The newest first; `next` is the `before` to ask for, None at the end."""

    entries: list[AuditEntry]
    next: int | None


class AppPasswordRequest(Request, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    scope: Scope = "read write"


class AppPassword(Struct, frozen=True):
    """The only time the password is shown."""

    id: str
    name: str
    password: str


# --- the tree --------------------------------------------------------------------------------------------------------

Kind = Literal["file", "folder"]


class NodeEntry(Struct, frozen=True, omit_defaults=True):
    """A file or a folder as the server has it."""

    id: str
    kind: Kind
    name: str
    """Empty for the root alone."""
    parent: str | None
    """None for the root alone."""
    revision: int
    """The journal number of its last change: the `base` of the next one."""
    size: int = 0
    mtime: int = 0
    executable: bool = False
    content: str | None = None
    """What the bytes are named (hashing.content_id); None for a folder, or when that version is gone already."""
    blobs: list[str] | None = None
    """None for a folder and where there are more than INLINE_BLOBS: ask for the node itself."""
    deleted: bool = False
    conflict: str | None = None
    """The id of the open conflict this node is the copy of; only in listings and in a node asked for by itself."""
    symlink: bool = False
    """A file whose content is the text of a symbolic link. Nobody follows it here: it may lead anywhere or nowhere."""


Change_ = Literal["put", "mkdir", "move", "delete", "restore"]


class Change(Struct, frozen=True, omit_defaults=True):
    """One row of the journal: what the node was after it. `node.revision` is the number of the row.

    Whatever is inside a moved or deleted folder goes with it and has no row of its own; a restored folder brings one
    row for each thing in it, parents first.
    """

    op: Change_
    node: NodeEntry
    device: str | None = None
    """Name of the device that did it."""
    mine: bool = False
    """True when it was the asking device."""
    time: int = 0


class ChangesPage(Struct, frozen=True):
    changes: list[Change]
    cursor: str
    more: bool


class Snapshot(Struct, frozen=True):
    """Every live node, in pages by id: a child may come before its parent. `next` is the page to ask for, None at the
    end; then go on with `/changes` from `cursor`, and skip only changes of a lower revision than the entry has."""

    entries: list[NodeEntry]
    cursor: str
    next: str | None


class Listing(Struct, frozen=True):
    """What is in a folder, by name; `next` is the page to ask for, None at the end."""

    node: NodeEntry
    entries: list[NodeEntry]
    next: str | None


class TrashEntry(Struct, frozen=True):
    node: NodeEntry
    path: str
    """Where it was."""
    deleted_at: Millis
    device: str | None
    """Name of the device that deleted it."""
    until: Millis
    """When it will be removed for good."""


class TrashPage(Struct, frozen=True):
    entries: list[TrashEntry]
    next: str | None


class VersionEntry(Struct, frozen=True, omit_defaults=True):
    revision: int
    size: int
    mtime: int
    content: str
    time: int
    """When the server got it."""
    executable: bool = False
    current: bool = False
    device: str | None = None
    blobs: list[str] | None = None
    symlink: bool = False


class VersionList(Struct, frozen=True):
    node: NodeEntry
    versions: list[VersionEntry]
    """The newest first."""


class Usage(Struct, frozen=True):
    used: int
    """Bytes of everything kept: current, old versions, trash; what occurs twice counts once."""
    pending: int
    """Bytes uploaded and in no version (yet, or no longer): removed after a day."""
    quota: int | None


# --- blobs -----------------------------------------------------------------------------------------------------------


class HaveRequest(Request, frozen=True):
    blobs: Annotated[list[Sha256], Meta(max_length=MAX_HAVE)]


class HaveAnswer(Struct, frozen=True):
    missing: list[str]


BlobStatus = Literal["ok", "mismatch", "too_large", "quota"]


class BlobResult(Struct, frozen=True):
    blob: str
    status: BlobStatus


class BatchAnswer(Struct, frozen=True):
    """Of `POST /blobs/batch`, in the order of the request."""

    results: list[BlobResult]


# --- commit ----------------------------------------------------------------------------------------------------------

OnConflict = Literal["copy", "fail"]


class Put(Request, frozen=True, omit_defaults=True, tag_field="op", tag="put"):
    """Content for a file: `node` with `base` for one the client knows, `parent` and `name` for a new one.

    With `symlink` the content is the text of a symbolic link. Without it, what was one and has the same text stays one:
    a client that knows nothing of links makes none, and breaks none it did not edit.
    """

    blobs: Annotated[list[Sha256], Meta(max_length=MAX_BLOBS_OF_A_FILE)]
    size: Size
    mtime: Millis
    node: NodeRef | None = None
    base: Revision | None = None
    parent: NodeRef | None = None
    name: Name | None = None
    executable: bool = False
    symlink: bool | None = None
    on_conflict: OnConflict = "copy"


class Mkdir(Request, frozen=True, tag_field="op", tag="mkdir"):
    """A folder; one that is there already is `same`."""

    parent: NodeRef
    name: Name
    on_conflict: OnConflict = "copy"


class Move(Request, frozen=True, tag_field="op", tag="move"):
    """Rename, move, or both; the node stays the same one and keeps its history."""

    node: NodeRef
    base: Revision
    parent: NodeRef
    name: Name
    on_conflict: OnConflict = "copy"


class Delete(Request, frozen=True, tag_field="op", tag="delete"):
    """Into the trash, with everything inside.

    `seen` is the revision up to which the client knows all changes (that of its cursor's page): a folder in which
    another device changed something after it is `stale`. Without it, `base` counts.
    """

    node: NodeRef
    base: Revision
    seen: Revision | None = None


class Restore(Request, frozen=True, tag_field="op", tag="restore"):
    """From the trash (a folder with everything inside), and, with `version`, an old version as the new current one.

    Without `parent` and `name` it comes back where it was; a name taken meanwhile gets " (restored)".
    """

    node: NodeRef
    version: Revision | None = None
    base: Revision | None = None
    parent: NodeRef | None = None
    name: Name | None = None


Op = Put | Mkdir | Move | Delete | Restore


class CommitRequest(Request, frozen=True):
    """`op_id` is chosen by the client before it sends; the same one again gives the same answer for 30 days."""

    op_id: OpId
    ops: Annotated[list[Op], Meta(min_length=1, max_length=MAX_OPS)]
    atomic: bool = False


Status = Literal[
    "ok",  # done as asked
    "same",  # it was so already; nothing changed
    "conflict_copy",  # kept under another name: `entry` is the copy, `current` what it ran into
    "stale",  # another device changed it meanwhile; nothing changed, `current` says what is
    "conflict",  # the same for on_conflict=fail
    "clash",  # the name is taken (differing in case or accents' spelling, or on_conflict=fail)
    "cycle",  # a folder cannot go into itself
    "missing_blobs",  # upload `missing`, then commit again with a new op id
    "quota",
    "not_found",
    "invalid",
    "aborted",  # an atomic commit where another operation failed
]
APPLIED: frozenset[str] = frozenset({"ok", "same", "conflict_copy"})


class OpResult(Struct, frozen=True, omit_defaults=True):
    status: Status
    node: str | None = None
    """The node that has the change: of a conflict copy, the copy."""
    revision: int | None = None
    """The base of the next operation on `node`. After a move of a file whose content another device changed meanwhile
    it is the old base, so that nobody overwrites what they have not seen; `entry` has the truth then."""
    entry: NodeEntry | None = None
    """`node`, where it is not just what was asked for: a copy, a revived parent, another name."""
    current: NodeEntry | None = None
    """What the operation ran into, as the server has it."""
    missing: list[str] = field(default_factory=list)
    detail: str | None = None


class CommitAnswer(Struct, frozen=True):
    results: list[OpResult]
    revision: int
    """Of the account after it."""
    replayed: bool = False


# --- conflicts -------------------------------------------------------------------------------------------------------

Keep = Literal["mine", "theirs", "both"]


class ConflictSide(Struct, frozen=True):
    node: NodeEntry
    device: str | None
    time: int


class ConflictEntry(Struct, frozen=True):
    """`theirs` was there first and kept the name; `mine` came later and is kept as the copy."""

    id: str
    path: str
    created: Millis
    mine: ConflictSide
    theirs: ConflictSide
    resolved: Keep | None = None
    resolved_at: Millis | None = None


class ConflictPage(Struct, frozen=True):
    conflicts: list[ConflictEntry]
    next: str | None


class ResolveRequest(Request, frozen=True):
    """mine: the copy's content becomes the file's, the copy goes to the trash. theirs: the copy goes to the trash.
    both: both stay."""

    keep: Keep


# --- resumable uploads -----------------------------------------------------------------------------------------------


class UploadRequest(Request, frozen=True):
    path: Path
    size: Size
    mtime: Millis | None = None
    executable: bool = False
    base: Revision | None = None
    """The revision it is based on; None for a new file."""


class UploadState(Struct, frozen=True):
    id: str
    offset: int
    size: int
    expires: Millis
    entry: NodeEntry | None = None
    """The file, once all has arrived."""


# --- errors ----------------------------------------------------------------------------------------------------------


class Problem(Struct, frozen=True, omit_defaults=True):
    """RFC 9457, `application/problem+json`; `type` is stable, made for programs."""

    type: str
    title: str
    status: int
    detail: str | None = None
    instance: str | None = None
    current: NodeEntry | None = None
    """What stood in the way, as it is now."""
    missing: list[str] = field(default_factory=list)
    """Blobs to upload first."""
    error: str | None = None
    """The registered name of RFC 8628, while a device waits for approval."""
