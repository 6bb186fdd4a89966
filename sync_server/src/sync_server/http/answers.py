"""Answers: JSON, compressed when it pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import zstandard
from isal import igzip
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from sync_server.http.call import Call

# Below one packet it saves nothing.
_PAYS_FROM = 1400

_encoder = msgspec.json.Encoder()


def accepted_encoding(header: str | None) -> str | None:
    """zstd, gzip or None, as Accept-Encoding prefers (RFC 9110 section 12.5.3); zstd when it likes both the same."""
    if not header:
        return None
    weights: dict[str, float] = {}
    for item in header.lower().split(","):
        name, _, parameter = item.partition(";")
        weight = 1.0
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
        weights[name.strip()] = weight
    everything = weights.get("*", 0.0)
    zstd, gzip = weights.get("zstd", everything), weights.get("gzip", weights.get("x-gzip", everything))
    if max(zstd, gzip) <= 0:
        return None
    return "zstd" if zstd >= gzip else "gzip"


def compress(data: bytes, encoding: str) -> bytes:
    """The bytes in one of the encodings above, quickly rather than smally."""
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=1).compress(data)
    return igzip.compress(data, compresslevel=1)


class Json:
    """A JSON answer. Starlette's response class would do the same in four times the time, for every request."""

    __slots__ = ("_body", "headers", "status_code")

    def __init__(self, body: bytes, status: int) -> None:
        self._body = body
        self.status_code = status
        self.headers: list[tuple[bytes, bytes]] = [
            (b"content-type", b"application/json"),
            (b"x-content-type-options", b"nosniff"),
            (b"content-length", str(len(body)).encode()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.headers})
        await send({"type": "http.response.body", "body": self._body})


def json(call: Call, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Json:
    """The value as JSON, which nobody on the way may keep."""
    data = _encoder.encode(value)
    encoding = None
    long = len(data) >= _PAYS_FROM
    if long:
        encoding = accepted_encoding(call.header("accept-encoding"))
        if encoding is not None:
            data = compress(data, encoding)
    answer = Json(data, status)
    if headers is None or "cache-control" not in headers:
        answer.headers.append((b"cache-control", b"no-store"))
    if long:
        answer.headers.append((b"vary", b"accept-encoding"))
    if encoding is not None:
        answer.headers.append((b"content-encoding", encoding.encode()))
    if headers is not None:
        answer.headers += [(name.encode("latin-1"), text.encode("latin-1")) for name, text in headers.items()]
    return answer


def empty(status: int = 204, headers: Mapping[str, str] | None = None) -> Response:
    """No body."""
    return Response(None, status, {"x-content-type-options": "nosniff", **(headers or {})})
