"""Answers: JSON, compressed when it pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import zstandard
from isal import igzip
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def json(call: Call, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The value as JSON."""
    data = _encoder.encode(value)
    every = {"cache-control": "no-store", **(headers or {})}
    if len(data) >= _PAYS_FROM:
        every["vary"] = "accept-encoding"
        encoding = accepted_encoding(call.header("accept-encoding"))
        if encoding is not None:
            data = compress(data, encoding)
            every["content-encoding"] = encoding
    return Response(data, status, every, "application/json")


def empty(status: int = 204, headers: Mapping[str, str] | None = None) -> Response:
    """No body."""
    return Response(None, status, dict(headers or {}))
