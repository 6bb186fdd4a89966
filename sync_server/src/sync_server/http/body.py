"""Bodies of requests: streamed, bounded in size, in ratio and in time."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Protocol, cast

import zstandard
from isal import isal_zlib

from sync_server.http.problems import ClientGone, ProblemError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.types import Receive

_PIECE = 256 * 1024
# A blob of zeros shrinks to a thousandth and is honest: the ratio counts only beyond the size of one blob.
_FREE_OF_RATIO = 4 * 1024 * 1024
_MAX_RATIO = 100
# RFC 8878 asks every decoder for 8 MB of window and warns of more.
_MAX_WINDOW = 8 * 1024 * 1024
# What one call gives back is bounded by the format only: 128 KiB for each 4 bytes, here 16 MiB at the very worst.
_BITE = 512
# Its type information calls the class an instance.
_GZIP_ERROR = cast("type[Exception]", isal_zlib.IsalError)


class Gathered:
    """Bytes of large bodies that are in memory now, those of all requests together: the memory of a small machine is
    that of a few of them."""

    LIMIT = 32 * 1024 * 1024

    def __init__(self) -> None:
        self._bytes = 0

    def take(self, size: int) -> None:
        """Count what came in; raises ProblemError 503 when there is no room for it."""
        if self._bytes + size > self.LIMIT:
            raise ProblemError(
                "unavailable", "too much is being sent at once: try again in a few seconds", {"retry-after": "5"}
            )
        self._bytes += size

    def give_back(self, size: int) -> None:
        """Count what is no longer there."""
        self._bytes -= size


class Decoder(Protocol):
    """Turns compressed pieces into pieces of bounded size."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...
    def end(self) -> None:
        """Raise ProblemError when the body breaks off before its end."""


class _Gzip:
    def __init__(self) -> None:
        self._inner = isal_zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            while data:
                if self._inner.eof:  # a second member may follow: RFC 1952 section 2.2
                    self._inner = isal_zlib.decompressobj(16 + zlib.MAX_WBITS)
                self._begun = True
                piece = self._inner.decompress(data, _PIECE)
                data = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
                if piece:
                    yield piece
                # Output that filled the buffer exactly may leave more inside without any input left.
                while not data and not self._inner.eof and len(piece) == _PIECE:
                    piece = self._inner.decompress(b"", _PIECE)
                    if piece:
                        yield piece
        except (_GZIP_ERROR, zlib.error):
            raise ProblemError("malformed", "the body is not valid gzip") from None

    def end(self) -> None:
        if self._begun and not self._inner.eof:
            raise ProblemError("malformed", "the gzip body breaks off")


class _Zstd:
    def __init__(self) -> None:
        self._context = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        self._inner = self._context.decompressobj(write_size=_PIECE)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            for start in range(0, len(data), _BITE):
                bite = data[start : start + _BITE]
                while bite:
                    if self._inner.eof:
                        self._inner = self._context.decompressobj(write_size=_PIECE)
                    self._begun = True
                    piece = self._inner.decompress(bite)
                    bite = self._inner.unused_data if self._inner.eof else b""
                    if piece:
                        yield piece
        except zstandard.ZstdError:
            raise ProblemError("malformed", "the body is not valid zstd") from None

    def end(self) -> None:
        if self._begun and not self._inner.eof:
            raise ProblemError("malformed", "the zstd body breaks off")


def decoder_for(encoding: str | None) -> Decoder | None:
    """What undoes a Content-Encoding; raises ProblemError 415 for one that is not taken."""
    match (encoding or "identity").strip().lower():
        case "identity" | "":
            return None
        case "gzip" | "x-gzip":
            return _Gzip()
        case "zstd":
            return _Zstd()
        case _:
            raise ProblemError(
                "media-type", "Content-Encoding may be gzip, zstd or none", {"accept-encoding": "gzip, zstd, identity"}
            )


async def pieces(
    receive: Receive, *, encoding: str | None, length: str | None, limit: int, idle: float, min_rate: int
) -> AsyncIterator[bytes]:
    """The decoded body in pieces; no more than `limit` bytes, no slower than `min_rate` after `idle` seconds."""
    decoder = decoder_for(encoding)
    if length is not None:
        if not length.isascii() or not length.isdigit():
            raise ProblemError("malformed", "Content-Length is not a number")
        if decoder is None and int(length) > limit:
            raise _too_large(limit)
    received = given = 0
    loop = asyncio.get_running_loop()
    began = loop.time()
    more = True
    while more:
        try:
            # Around this alone: what is done with a piece may take as long as the disk needs.
            async with asyncio.timeout(idle):
                message = await receive()
        except TimeoutError:
            raise _too_slow(idle) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        data: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        received += len(data)
        passed = loop.time() - began
        if passed > idle and more and received < passed * min_rate:
            raise _too_slow(idle)
        if decoder is None:
            given += len(data)
            if given > limit:
                raise _too_large(limit)
            if data:
                yield data
            continue
        for piece in decoder.feed(data):
            given += len(piece)
            if given > limit:
                raise _too_large(limit)
            if given > _FREE_OF_RATIO + received * _MAX_RATIO:
                raise ProblemError("too-large", f"the body unpacks to more than {_MAX_RATIO} times its size")
            yield piece
    if decoder is not None:
        decoder.end()


def _too_large(limit: int) -> ProblemError:
    return ProblemError("too-large", f"the body may have at most {limit} bytes")


def _too_slow(idle: float) -> ProblemError:
    return ProblemError("too-slow", f"nothing, or too little, came for {idle:.0f} seconds")
