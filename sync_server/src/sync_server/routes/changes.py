"""What changed: the journal, waiting for it, and the whole tree."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from sync_protocol.types import MAX_PAGE, ChangesPage, Cursor, Snapshot
from sync_server.http import answers
from sync_server.http.call import Call
from sync_server.http.routing import Bytes, Routes
from sync_server.waiting import first_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger("sync_server.http")

routes = Routes("changes")

MAX_WAIT = 55
_HEARTBEAT = 15.0

Page = Annotated[str, Meta(min_length=1, max_length=1500)]
Limit = Annotated[int, Meta(ge=1, le=MAX_PAGE)]


class ChangesQuery(Struct, frozen=True, forbid_unknown_fields=True):
    cursor: Cursor | None = None
    limit: Limit = MAX_PAGE
    wait: Annotated[int, Meta(ge=0, le=MAX_WAIT, description="seconds to wait when there is nothing")] = 0


class EventsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    cursor: Cursor | None = None


class PageQuery(Struct, frozen=True, forbid_unknown_fields=True):
    page: Page | None = None
    limit: Limit = MAX_PAGE


@routes("GET", "/changes", scope="read", query=ChangesQuery, answers={200: ChangesPage}, problems=(410,))
async def changes(call: Call) -> ASGIApp:
    """List what changed since a cursor; with `wait`, answer only when something did.

    Without a cursor, from the beginning. 410 means the cursor is older than what is kept: start again with a snapshot.
    """
    query = call.query(ChangesQuery)
    services = call.services
    page = await services.tree.changes(call.identity, query.cursor, query.limit)
    if query.wait and not page.changes and not services.stopping.is_set():
        with services.waiting.place(call.identity.device_id):
            await first_of(
                services.tree.wait(call.identity, page.cursor, query.wait),
                services.auth.until_revoked(call.identity),
                services.stopping.wait(),
                # Who hangs up must not keep a place: a telephone on a train comes back many times a minute.
                until_gone(call.receive),
            )
        services.auth.check_live(call.identity)
        page = await services.tree.changes(call.identity, page.cursor, query.limit)
    return answers.json(call, page)


@routes(
    "GET",
    "/events",
    scope="read",
    query=EventsQuery,
    answers={200: Bytes("text/event-stream", "`event: change` with the cursor to ask /changes from, and comments.")},
    problems=(410,),
)
async def events(call: Call) -> ASGIApp:
    """Be told of changes as they happen (server-sent events).

    `event: change` comes when there is something after the cursor told last; then ask /changes. `Last-Event-ID` stands
    for the cursor when a browser connects again.
    """
    query = call.query(EventsQuery)
    cursor = query.cursor
    if cursor is None and (last := call.header("last-event-id")):
        try:
            cursor = msgspec.convert(last, Cursor)
        except msgspec.ValidationError:
            cursor = None
    # Tells 410 and the like while there is still a status to tell them by.
    page = None if cursor is None else await call.services.tree.changes(call.identity, cursor, 1)
    return _Events(call, cursor, page)


class _Events:
    status_code = 200

    def __init__(self, call: Call, cursor: str | None, page: ChangesPage | None) -> None:
        self._call = call
        self._cursor = cursor
        self._page = page
        self._place = call.services.waiting.place(call.identity.device_id)
        self._place.__enter__()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [
                        (b"content-type", b"text/event-stream"),
                        (b"cache-control", b"no-store"),
                        (b"x-content-type-options", b"nosniff"),
                        # Proxies of the nginx family would keep the events until a buffer is full.
                        (b"x-accel-buffering", b"no"),
                    ],
                }
            )
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            gone = asyncio.ensure_future(until_gone(receive))
            try:
                await self._tell(send, gone)
            finally:
                gone.cancel()
        finally:
            self._place.__exit__(None, None, None)

    async def _tell(self, send: Send, gone: asyncio.Future[None]) -> None:
        services, who = self._call.services, self._call.identity
        told = self._cursor
        if told is None or self._page is None:
            told = await self._head()
            await send({"type": "http.response.body", "body": b": waiting\n\n", "more_body": True})
        elif not self._page.changes:
            told = self._page.cursor
            await send({"type": "http.response.body", "body": b": waiting\n\n", "more_body": True})
        while not gone.done() and not services.stopping.is_set() and services.auth.is_live(who):
            head = await self._head()
            if head != told:
                told = head
                await self._event(send, head)
            await first_of(
                services.tree.wait(who, told, _HEARTBEAT),
                services.auth.until_revoked(who),
                services.stopping.wait(),
                _finished(gone),
            )
            # Goes through even when nothing happened: a connection that died unseen shows itself.
            await send({"type": "http.response.body", "body": b": still here\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _head(self) -> str:
        """The newest cursor."""
        return (await self._call.services.tree.snapshot(self._call.identity, None, 1)).cursor

    async def _event(self, send: Send, cursor: str) -> None:
        text = f'event: change\nid: {cursor}\ndata: {{"cursor":"{cursor}"}}\n\n'
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def until_gone(receive: Receive) -> None:
    """Return when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _finished(future: asyncio.Future[None]) -> None:
    await asyncio.wait([future])


@routes("GET", "/snapshot", scope="read", query=PageQuery, answers={200: Snapshot}, problems=(410,))
async def snapshot(call: Call) -> ASGIApp:
    """List every file and folder, page by page, with the cursor to go on from."""
    query = call.query(PageQuery)
    return answers.json(call, await call.services.tree.snapshot(call.identity, query.page, query.limit))
