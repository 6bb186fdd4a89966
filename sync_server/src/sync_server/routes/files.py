"""Whole files by their path: the door for curl and scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from sync_protocol.types import MAX_PAGE, Listing, Millis, NodeEntry, Path, Request, Revision, VersionList
from sync_server.http import answers
from sync_server.http.call import Call
from sync_server.http.content import Download, bare_etags, check_etag_list
from sync_server.http.content import answer as content_answer
from sync_server.http.problems import ProblemError
from sync_server.http.routing import Bytes, Header, Routes, Star, Tags
from sync_server.routes.changes import Limit, Page, PageQuery
from sync_server.routes.tree import CONTENT_HEADERS
from sync_server.store.interface import Stale
from sync_server.tree import Expect

if TYPE_CHECKING:
    from starlette.types import ASGIApp

routes = Routes("files")

FilePath = Annotated[
    str, Meta(min_length=1, max_length=4096, description="below the root, with slashes", examples=["notes/today.txt"])
]
_CONDITIONS = (
    Header("if-match", 'The tag it must have now, as in `"abc"`, or `*` for any: 412 otherwise.', Tags),
    Header("if-none-match", "`*`: only if there is nothing yet, 412 otherwise.", Star),
)


class GetQuery(Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[Revision, Meta(description="of an old version of the file")] | None = None
    page: Page | None = None
    limit: Limit = MAX_PAGE


class PutQuery(Struct, frozen=True, forbid_unknown_fields=True):
    mtime: Millis | None = None
    executable: bool | None = None
    parents: Annotated[bool, Meta(description="make folders that are missing")] = False


class MkdirAction(Request, frozen=True, tag_field="action", tag="mkdir"):
    """Make a folder here; one that is there already is fine."""

    parents: bool = False


class MoveAction(Request, frozen=True, tag_field="action", tag="move"):
    """Move or rename to `to`; with `overwrite`, what is there goes to the trash."""

    to: Path
    overwrite: bool = False


class RestoreAction(Request, frozen=True, tag_field="action", tag="restore"):
    """Make an old version the current one."""

    version: Revision


FileAction = MkdirAction | MoveAction | RestoreAction


def expectation(call: Call) -> Expect:
    """The conditions of a request that changes something."""
    match = call.header("if-match")
    none_match = call.header("if-none-match")
    contents: frozenset[str] | None = None
    exists = False
    if match is not None:
        check_etag_list(match, "If-Match")
        exists = match.strip() == "*"
        contents = None if exists else bare_etags(match)
    if none_match is not None and none_match.strip() != "*":
        raise ProblemError("malformed", "If-None-Match can only be * here")
    return Expect(contents=contents, exists=exists, absent=none_match is not None)


def _precondition(call: Call, error: Stale) -> Exception:
    """Stale as the answer to a condition is 412."""
    if call.header("if-match") is None and call.header("if-none-match") is None:
        return error
    headers = {}
    if error.current is not None and error.current.content:
        headers["etag"] = f'"{error.current.content}"'
    return ProblemError("precondition", error.detail, headers)


def _etag(entry: NodeEntry) -> dict[str, str]:
    return {"etag": f'"{entry.content}"', "x-node": entry.id} if entry.content else {"x-node": entry.id}


@routes(
    "GET", "/files", scope="read", query=PageQuery, answers={200: Listing},
)  # fmt: skip
async def list_root(call: Call) -> ASGIApp:
    """List the top folder."""
    query = call.query(PageQuery)
    return answers.json(call, await call.services.tree.children(call.identity, "root", query.page, query.limit))


@routes(
    "GET", "/files/{path}", scope="read", words=(FilePath,), query=GetQuery, headers=CONTENT_HEADERS,
    answers={200: (Bytes(), Listing), 206: Bytes(), 304: None}, problems=(410, 412, 416, 503),
)  # fmt: skip
async def get_file(call: Call) -> ASGIApp:
    """Download a file, or list a folder.

    A file comes with its tag (ETag) and, when it pays and the client takes it, compressed.
    """
    query = call.query(GetQuery)
    tree = call.services.tree
    entry = await tree.find(call.identity, call.words[0])
    if entry.kind == "folder":
        return answers.json(call, await tree.children(call.identity, entry.id, query.page, query.limit))
    content = await tree.open(call.identity, entry.id, query.version)
    headers = (("x-node", entry.id), ("x-revision", str(content.entry.revision)))
    return content_answer(call, Download(content.parts, content.size, content.etag, entry.name, content.mtime, headers))


@routes(
    "PUT", "/files/{path}", scope="write", words=(FilePath,), query=PutQuery,
    headers=_CONDITIONS, body=Bytes(description="The content; gzip or zstd as Content-Encoding says."),
    answers={200: NodeEntry, 201: NodeEntry}, problems=(409, 412),
)  # fmt: skip
async def put_file(call: Call) -> ASGIApp:
    """Upload a file, as a new one or as the next version of the one that is there."""
    query = call.query(PutQuery)
    expect = expectation(call)
    length = call.header("content-length")
    size = int(length) if length and length.isascii() and length.isdigit() and len(length) < 16 else None
    if size is not None and size > call.config.max_file_size:
        raise ProblemError("too-large", f"a file may have at most {call.config.max_file_size} bytes")
    if call.header("content-range") is not None:
        # RFC 9110 section 14.5: taking it for the whole file would destroy the rest.
        raise ProblemError("malformed", "a PUT of a part is not possible: use /uploads")
    try:
        upload = await call.services.tree.write_file(
            call.identity, call.words[0], size=size if call.header("content-encoding") is None else None,
            expect=expect, parents=query.parents,
        )  # fmt: skip
        try:
            async for piece in call.pieces(call.config.max_file_size):
                await upload.write(piece)
            call.services.metrics.bytes_in.inc(upload.size)
            result = await upload.finish(mtime=query.mtime, executable=query.executable)
        finally:
            upload.abort()
    except Stale as error:
        raise _precondition(call, error) from None
    return answers.json(call, result.entry, 201 if result.created else 200, _etag(result.entry))


@routes(
    "DELETE", "/files/{path}", scope="write", words=(FilePath,), headers=_CONDITIONS, answers={204: None},
    problems=(409, 412, 422),
)  # fmt: skip
async def delete_file(call: Call) -> ASGIApp:
    """Put a file, or a folder with everything inside, into the trash."""
    try:
        entry = await call.services.tree.delete_path(call.identity, call.words[0], expectation(call))
    except Stale as error:
        raise _precondition(call, error) from None
    return answers.empty(204, {"x-node": entry.id})


@routes(
    "POST", "/files/{path}", scope="write", words=(FilePath,), headers=_CONDITIONS, body=FileAction,
    answers={200: NodeEntry, 201: NodeEntry}, problems=(409, 410, 412),
)  # fmt: skip
async def act_on_file(call: Call) -> ASGIApp:
    """Make a folder, move a file or folder, or bring an old version back."""
    tree = call.services.tree
    path = call.words[0]
    expect = expectation(call)
    action: FileAction = await call.json(FileAction)  # type: ignore[arg-type]
    status = 200
    try:
        if isinstance(action, MkdirAction):
            entry, created = await tree.mkdir_path(call.identity, path, expect, parents=action.parents)
            status = 201 if created else 200
        elif isinstance(action, MoveAction):
            entry = await tree.move_path(call.identity, path, action.to, expect, overwrite=action.overwrite)
        else:
            entry = await tree.restore_path(call.identity, path, action.version, expect)
    except Stale as error:
        raise _precondition(call, error) from None
    return answers.json(call, entry, status, _etag(entry))


@routes("GET", "/versions/{path}", scope="read", words=(FilePath,), answers={200: VersionList}, problems=(422,))
async def list_file_versions(call: Call) -> ASGIApp:
    """List the versions of the file at a path, the newest first."""
    entry = await call.services.tree.find(call.identity, call.words[0])
    return answers.json(call, await call.services.tree.versions(call.identity, entry.id))
