"""Errors as RFC 9457 problem documents; the one place where an error gets its status."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from sync_protocol.names import InvalidName
from sync_protocol.types import Problem
from sync_server.auth.errors import (
    AuthError,
    BadCredentialInput,
    DeviceFlowPending,
    NotAllowed,
    NotAuthenticated,
    TooManyAttempts,
)
from sync_server.store.interface import (
    Busy,
    Clash,
    Gone,
    Invalid,
    Mismatch,
    MissingBlobs,
    NoSpace,
    NotFound,
    QuotaExceeded,
    Stale,
    StoreFailed,
    SyncError,
    TooLarge,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sync_protocol.types import NodeEntry

PREFIX = "urn:sync:problem:"

# slug: (status, title). The slugs are part of the interface: programs decide by them.
TITLES: dict[str, tuple[int, str]] = {
    "malformed": (400, "The request cannot be read"),
    "pending": (400, "The device is not approved"),
    "not-authenticated": (401, "Not logged in"),
    "not-allowed": (403, "Not allowed"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "This address does not know that method"),
    "too-slow": (408, "The request came too slowly"),
    "stale": (409, "It was changed meanwhile"),
    "clash": (409, "The name is taken"),
    "missing-blobs": (409, "Content is missing"),
    "offset": (409, "The upload stands at another offset"),
    "gone": (410, "Too old: start again with a snapshot"),
    "precondition": (412, "The condition of the request does not hold"),
    "too-large": (413, "Too large"),
    "media-type": (415, "The body is of a kind this address does not take"),
    "range": (416, "The range lies outside of the content"),
    "invalid": (422, "The request makes no sense"),
    "mismatch": (422, "The bytes are not what their name says"),
    "too-many": (429, "Too many requests"),
    "headers": (431, "The headers are too large"),
    "internal": (500, "The server made a mistake"),
    "unavailable": (503, "Not now"),
    "quota": (507, "The account's space is used up"),
    "no-space": (507, "The server's disk is full"),
}


class ProblemError(Exception):
    """Raised by a route for what no other layer knows of."""

    def __init__(self, slug: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail
        self.headers = dict(headers or {})


class ClientGone(Exception):
    """The client hung up: nobody to answer."""


def answer(
    slug: str,
    detail: str | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    current: NodeEntry | None = None,
    missing: tuple[str, ...] = (),
    error: str | None = None,
) -> Response:
    """The problem as a response."""
    status, title = TITLES[slug]
    body = Problem(PREFIX + slug, title, status, detail, None, current, list(missing), error)
    # Nothing of it may be stored by a cache on the way: the next try may succeed.
    return Response(
        msgspec.json.encode(body),
        status,
        {"cache-control": "no-store", "x-content-type-options": "nosniff", **(headers or {})},
        "application/problem+json",
    )


def of(error: Exception) -> Response | None:
    """The answer to an error that is known, None for one that is a bug."""
    if isinstance(error, ProblemError):
        return answer(error.slug, error.detail, error.headers)
    if isinstance(error, SyncError):
        return _of_sync_error(error)
    if isinstance(error, AuthError):
        return _of_auth_error(error)
    if isinstance(error, InvalidName):
        return answer("invalid", str(error))
    return None


def _of_sync_error(error: SyncError) -> Response:
    if isinstance(error, (Stale, Clash)):
        return answer("stale" if isinstance(error, Stale) else "clash", error.detail, current=error.current)
    if isinstance(error, MissingBlobs):
        return answer("missing-blobs", error.detail, missing=error.missing)
    if isinstance(error, (Busy, StoreFailed)):
        return answer("unavailable", error.detail, {"retry-after": "5"})
    slugs: tuple[tuple[type[SyncError], str], ...] = (
        (NotFound, "not-found"),
        (Gone, "gone"),
        (TooLarge, "too-large"),
        (Mismatch, "mismatch"),
        (Invalid, "invalid"),
        (QuotaExceeded, "quota"),
        (NoSpace, "no-space"),
    )
    for kind, slug in slugs:
        if isinstance(error, kind):
            return answer(slug, error.detail)
    return answer("invalid", error.detail)


def _of_auth_error(error: AuthError) -> Response:
    if isinstance(error, NotAuthenticated):
        return answer("not-authenticated", str(error), {"www-authenticate": 'Bearer realm="sync", Basic realm="sync"'})
    if isinstance(error, NotAllowed):
        challenge = f'Bearer realm="sync", error="insufficient_scope", scope="{error.scope}"'
        return answer("not-allowed", str(error), {"www-authenticate": challenge})
    if isinstance(error, TooManyAttempts):
        return answer("too-many", str(error), {"retry-after": str(error.retry_after)})
    if isinstance(error, DeviceFlowPending):
        return answer("pending", str(error), error=error.code)
    assert isinstance(error, BadCredentialInput)
    return answer("invalid", str(error))


def known_statuses() -> set[int]:
    """Every status a problem may have."""
    return {HTTPStatus(status).value for status, _ in TITLES.values()}
