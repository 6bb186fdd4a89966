"""The ASGI application: finds the operation, asks who is calling, turns errors into problems, counts."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from sync_server.auth.errors import NotAuthenticated
from sync_server.http import problems
from sync_server.http.call import Call, body_is_empty
from sync_server.http.problems import ClientGone, ProblemError
from sync_server.http.routing import Operation, Table
from sync_server.routes import auth, blobs, changes, files, meta, tree, uploads

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from sync_server.services import Services

log = logging.getLogger("sync_server.http")

# A path of 4096 bytes takes up to 12 KiB in percent signs, and one that is too long is to be told so. Granian refuses
# what is longer somewhere between this and twice as much. It is also what is read of a body at once (with half of it,
# an upload costs half as much again), and what a connection can take before anybody knows who is asking.
MAX_HEADER_BYTES = 128 * 1024

OPERATIONS: tuple[Operation, ...] = (
    *auth.routes.operations,
    *changes.routes.operations,
    *blobs.routes.operations,
    *tree.routes.operations,
    *files.routes.operations,
    *uploads.routes.operations,
    *meta.routes.operations,
)


class App:
    """One for each running server."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._table = Table(OPERATIONS)
        self.running = 0
        """Requests being answered now."""
        self._access_log = services.config.access_log
        # Granian has that limit of its own.
        self._check_headers = services.config.server != "granian"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        began = time.perf_counter()
        operation: Operation | None = None
        call: Call | None = None
        self.running += 1
        try:
            try:
                if self._check_headers and _size_of_headers(scope) > MAX_HEADER_BYTES:
                    raise ProblemError("headers", f"all headers together may have {MAX_HEADER_BYTES} bytes")
                operation, words = self._table.find(scope["method"], _raw_path(scope))
                call = Call(scope, receive, self._services, operation, words)
                if operation.scope is not None:
                    call.identity = self._services.auth.identify(
                        call.header("authorization"), call.client_address, operation.scope
                    )
                answer: ASGIApp = await operation.handler(call)
            except ClientGone:
                self._count(scope, operation, 499, began)
                return
            except Exception as error:
                known = problems.of(error)
                if known is None:
                    log.exception("an operation failed", extra={"operation": operation.name if operation else None})
                    known = problems.answer("internal", "this is a bug of the server; its log tells more")
                answer = known
            self._count(scope, operation, getattr(answer, "status_code", 200), began)
            if not (body_is_empty(scope) if call is None else call.body_read):
                # What is left of the body would be taken for the next request.
                send = _closing(send)
            await answer(scope, receive, send)
        except (OSError, TimeoutError, NotAuthenticated, asyncio.CancelledError):
            # The answer has begun: breaking it off is the only way to say that it is not whole.
            log.debug("an answer was broken off", exc_info=True)
            raise
        finally:
            self.running -= 1
            if call is not None:
                call.release()

    def _count(self, scope: Scope, operation: Operation | None, status: int, began: float) -> None:
        seconds = time.perf_counter() - began
        self._services.metrics.count(operation, status, seconds)
        if self._access_log:
            # The path only: a query may hold what is nobody's business.
            log.info(
                "request",
                extra={
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "ms": round(seconds * 1000, 1),
                },
            )


def _closing(send: Send) -> Send:
    """Say that the connection ends with this answer."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        await send(message)

    return closing


def _size_of_headers(scope: Scope) -> int:
    return sum(len(name) + len(value) for name, value in scope["headers"])


def _raw_path(scope: Scope) -> bytes:
    raw: bytes | None = scope.get("raw_path")
    if raw is None:  # optional in ASGI
        path: str = scope["path"]
        return path.encode("utf-8", "surrogatepass").replace(b"%", b"%25")
    return raw.partition(b"?")[0]
