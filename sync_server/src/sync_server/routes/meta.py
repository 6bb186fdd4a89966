"""The server itself: health, figures, description."""

from __future__ import annotations

import hmac
import ipaddress
from functools import cache
from typing import TYPE_CHECKING

from msgspec import Struct
from starlette.responses import Response

from sync_server import __version__, docs, openapi
from sync_server.health import Health
from sync_server.http import answers
from sync_server.http.call import Call
from sync_server.http.problems import ProblemError
from sync_server.http.routing import Bytes, Routes
from sync_server.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from starlette.types import ASGIApp

routes = Routes("server", prefix="")


class Start(Struct, frozen=True):
    """Where everything is."""

    version: str
    api: str = "/api/v1"
    openapi: str = "/openapi.json"
    docs: str = "/docs"


@routes("GET", "/", scope=None, answers={200: Start})
async def start(call: Call) -> ASGIApp:
    """Say what this server is."""
    return answers.json(call, Start(__version__))


@routes("GET", "/healthz", scope=None, answers={200: Health, 503: Health})
async def health(call: Call) -> ASGIApp:
    """Say whether the server can work: 503 when it cannot write or the disk is full."""
    found = await call.services.prober.look(__version__)
    return answers.json(call, found, 200 if found.status == "ok" else 503)


@routes("GET", "/metrics", scope=None, answers={200: Bytes("text/plain")}, problems=(401, 403))
async def metrics(call: Call) -> ASGIApp:
    """Figures for Prometheus: with the token of the configuration, or, when there is none, from this machine only."""
    token = call.config.metrics_token
    if token:
        given = (call.header("authorization") or "").encode("latin-1")
        if not hmac.compare_digest(given, b"Bearer " + token.encode()):
            raise ProblemError("not-authenticated", "send the metrics token", {"www-authenticate": "Bearer"})
    elif not _is_local(call):
        raise ProblemError("not-allowed", "only from this machine, as no metrics_token is set")
    await _refresh(call)
    return Response(
        call.services.metrics.text(),
        200,
        {"cache-control": "no-store", "x-content-type-options": "nosniff"},
        CONTENT_TYPE,
    )


def _is_local(call: Call) -> bool:
    # Through a proxy on this machine everybody would seem to be local.
    if call.header("x-forwarded-for") is not None or call.header("forwarded") is not None:
        return False
    client = call.scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(str(client[0])).is_loopback
    except ValueError:
        return False


async def _refresh(call: Call) -> None:
    services = call.services
    found = await services.prober.look(__version__)
    services.metrics.writable.set(found.writable)
    services.metrics.free_bytes.set(services.store.free_bytes())
    services.metrics.checked.set((found.last_check or 0) / 1000)
    services.metrics.check_ok.set(found.last_check_ok is True)


@routes("GET", "/openapi.json", scope=None, answers={200: Bytes("application/json")}, problems=(404,))
async def describe(call: Call) -> ASGIApp:
    """Get this description (OpenAPI 3.1)."""
    _check_docs(call)
    return _compressed(call, _description(), {}, "application/json")


@routes("GET", "/docs", scope=None, answers={200: Bytes("text/html")}, problems=(404,))
async def documentation(call: Call) -> ASGIApp:
    """Read this description as a page."""
    _check_docs(call)
    page, policy = _page()
    headers = {"content-security-policy": policy, "referrer-policy": "no-referrer"}
    return _compressed(call, page, headers, "text/html; charset=utf-8")


def _compressed(call: Call, data: bytes, headers: dict[str, str], media: str) -> ASGIApp:
    headers |= {"cache-control": "no-cache", "vary": "accept-encoding", "x-content-type-options": "nosniff"}
    encoding = answers.accepted_encoding(call.header("accept-encoding"))
    if encoding is not None:
        data = answers.compress(data, encoding)
        headers["content-encoding"] = encoding
    return Response(data, 200, headers, media)


def _check_docs(call: Call) -> None:
    if not call.config.docs:
        raise ProblemError("not-found", "this server does not publish its description")


@cache
def _description() -> bytes:
    from sync_server.app import OPERATIONS

    return openapi.encode(OPERATIONS)


@cache
def _page() -> tuple[bytes, str]:
    from sync_server.app import OPERATIONS

    return docs.render(openapi.build(OPERATIONS))
