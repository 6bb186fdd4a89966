"""Commits, nodes, versions, trash and conflicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from sync_protocol.types import (
    MAX_PAGE,
    CommitAnswer,
    CommitRequest,
    ConflictEntry,
    ConflictPage,
    Listing,
    Name,
    NodeEntry,
    NodeId,
    Request,
    ResolveRequest,
    Revision,
    TrashPage,
    Usage,
    VersionList,
)
from sync_server.http import answers
from sync_server.http.call import Call
from sync_server.http.content import Download
from sync_server.http.content import answer as content_answer
from sync_server.http.routing import Bytes, Header, Routes, Tags
from sync_server.routes.changes import Limit, Page, PageQuery

if TYPE_CHECKING:
    from starlette.types import ASGIApp

routes = Routes("tree")

ConflictId = Annotated[str, Meta(min_length=1, max_length=24, pattern="^[a-z0-9]+$", examples=["c1"])]


class RestoreRequest(Request, frozen=True):
    """Without `version`: from the trash, to where it was or to `parent` and `name`. With it: an old version as the
    new current one, if the file is still at `base`."""

    version: Revision | None = None
    base: Revision | None = None
    parent: NodeId | None = None
    name: Name | None = None


class NodePath(Struct, frozen=True):
    path: str


class ContentQuery(Struct, frozen=True, forbid_unknown_fields=True):
    revision: Annotated[Revision, Meta(description="of a version; the current one without it")] | None = None


class ConflictsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    resolved: bool = False
    page: Page | None = None
    limit: Limit = MAX_PAGE


CONTENT_HEADERS = (
    Header("if-none-match", "Tags one already has: 304 when it is among them.", Tags),
    Header("if-match", "Tags one of which it must have: 412 otherwise.", Tags),
    Header("range", "Part of the content, as `bytes=0-99`."),
    Header("if-range", "The tag the range belongs to: the whole content when it is another one."),
)


@routes("POST", "/commit", scope="write", body=CommitRequest, answers={200: CommitAnswer})
async def commit(call: Call) -> ASGIApp:
    """Change the tree: put, mkdir, move, delete, restore, each with the revision it is based on.

    Look at each result: 200 says that all of them were looked at. The same `op_id` again gives the same answer, so that
    a commit whose answer was lost can be repeated.
    """
    request = await call.json(CommitRequest, call.config.max_json_bytes)
    return answers.json(call, await call.services.tree.commit(call.identity, request))


@routes("GET", "/nodes/{node}", scope="read", words=(NodeId,), answers={200: NodeEntry})
async def get_node(call: Call) -> ASGIApp:
    """Get a file or folder by its id, in the trash or not."""
    return answers.json(call, await call.services.tree.node(call.identity, call.words[0]))


@routes("GET", "/nodes/{node}/path", scope="read", words=(NodeId,), answers={200: NodePath})
async def get_path(call: Call) -> ASGIApp:
    """Get the path of a node, or where it was."""
    return answers.json(call, NodePath(await call.services.tree.path(call.identity, call.words[0])))


@routes("GET", "/nodes/{node}/children", scope="read", words=(NodeId,), query=PageQuery, answers={200: Listing})
async def list_children(call: Call) -> ASGIApp:
    """List what is in a folder, by name."""
    query = call.query(PageQuery)
    return answers.json(call, await call.services.tree.children(call.identity, call.words[0], query.page, query.limit))


@routes("GET", "/nodes/{node}/versions", scope="read", words=(NodeId,), answers={200: VersionList}, problems=(422,))
async def list_versions(call: Call) -> ASGIApp:
    """List the versions of a file, the newest first."""
    return answers.json(call, await call.services.tree.versions(call.identity, call.words[0]))


@routes(
    "GET", "/nodes/{node}/content", scope="read", words=(NodeId,), query=ContentQuery, headers=CONTENT_HEADERS,
    answers={200: Bytes(), 206: Bytes(), 304: None}, problems=(410, 412, 416, 503),
)  # fmt: skip
async def get_content(call: Call) -> ASGIApp:
    """Download a file by its id, or one of its versions."""
    query = call.query(ContentQuery)
    content = await call.services.tree.open(call.identity, call.words[0], query.revision)
    return content_answer(call, Download(content.parts, content.size, content.etag, content.entry.name, content.mtime))


@routes(
    "POST", "/nodes/{node}/restore", scope="write", words=(NodeId,), body=RestoreRequest, answers={200: NodeEntry},
    problems=(409, 410),
)  # fmt: skip
async def restore(call: Call) -> ASGIApp:
    """Bring back what is in the trash, or an old version of a file."""
    request = await call.json(RestoreRequest)
    # In a commit "@0" would be a node too; where the tree only reads, it parses the id itself.
    node = call.word(0, NodeId, "node")
    entry = await call.services.tree.restore(
        call.identity, node, version=request.version, base=request.base, parent=request.parent, name=request.name
    )
    return answers.json(call, entry)


@routes("GET", "/trash", scope="read", query=PageQuery, answers={200: TrashPage})
async def list_trash(call: Call) -> ASGIApp:
    """List what was deleted and can be restored, the latest first."""
    query = call.query(PageQuery)
    return answers.json(call, await call.services.tree.trash(call.identity, query.page, query.limit))


@routes("DELETE", "/trash", scope="write", answers={204: None})
async def empty_trash(call: Call) -> ASGIApp:
    """Remove everything in the trash for good."""
    await call.services.tree.empty_trash(call.identity)
    return answers.empty()


@routes("DELETE", "/trash/{node}", scope="write", words=(NodeId,), answers={204: None}, problems=(409, 422))
async def purge(call: Call) -> ASGIApp:
    """Remove one thing in the trash for good."""
    await call.services.tree.purge(call.identity, call.words[0])
    return answers.empty()


@routes("GET", "/conflicts", scope="read", query=ConflictsQuery, answers={200: ConflictPage})
async def list_conflicts(call: Call) -> ASGIApp:
    """List files that two devices changed at the same time; both contents are kept until somebody decides."""
    query = call.query(ConflictsQuery)
    page = await call.services.tree.conflicts(call.identity, query.resolved, query.page, query.limit)
    return answers.json(call, page)


@routes(
    "POST", "/conflicts/{conflict}/resolve", scope="write", words=(ConflictId,), body=ResolveRequest,
    answers={200: ConflictEntry}, problems=(409, 410),
)  # fmt: skip
async def resolve_conflict(call: Call) -> ASGIApp:
    """Decide a conflict: mine (the copy's content becomes the file's), theirs (the copy goes to the trash), or both."""
    request = await call.json(ResolveRequest)
    conflict = call.word(0, ConflictId, "conflict")
    return answers.json(call, await call.services.tree.resolve(call.identity, conflict, request.keep))


@routes(
    "POST", "/conflicts/{conflict}/undo", scope="write", words=(ConflictId,), answers={200: ConflictEntry},
    problems=(409, 410, 422),
)  # fmt: skip
async def undo_conflict(call: Call) -> ASGIApp:
    """Take the decision of a conflict back."""
    conflict = call.word(0, ConflictId, "conflict")
    return answers.json(call, await call.services.tree.undo(call.identity, conflict))


@routes("GET", "/usage", scope="read", answers={200: Usage})
async def usage(call: Call) -> ASGIApp:
    """Say how much of the space is used."""
    return answers.json(call, await call.services.tree.usage(call.identity))
