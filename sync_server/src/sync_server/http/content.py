"""The bytes of files: conditions, ranges, sendfile where it can be, compression where it pays."""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import os
import re
import zlib
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import quote

import zstandard
from isal import isal_zlib

from sync_server.http.answers import accepted_encoding
from sync_server.http.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from sync_server.http.call import Call
    from sync_server.store.interface import BlobFile

log = logging.getLogger("sync_server.http")

# Less costs a download more, more costs memory with each download that is slow.
_PIECE = 192 * 1024
STALLED_SECONDS = 60
_PAYS_FROM = 1400
# Beyond it, the processor of a small server is worth more than the line.
_PAYS_TO = 64 * 1024 * 1024
# The table of the library itself: what the machine's own files say would differ from host to host.
_TYPES = mimetypes.MimeTypes()
_COMPRESSIBLE = re.compile(r"text/|application/(json|xml|javascript|x-sh|sql|rtf|.*\+(json|xml))|image/svg")
_COMPRESSIBLE_SUFFIXES = (".gpx", ".md", ".log", ".csv", ".toml", ".yml", ".yaml", ".ini", ".conf", ".tex", ".org")


@dataclass(frozen=True, slots=True)
class Download:
    """What is to be sent."""

    parts: Sequence[BlobFile]
    size: int
    etag: str
    """With its quotes."""
    name: str = ""
    mtime: int | None = None
    """Milliseconds."""
    headers: tuple[tuple[str, str], ...] = ()
    compress: bool = True


def bare_etags(header: str) -> frozenset[str]:
    """The tags of an If-Match or If-None-Match header without quotes, weakness and our mark of an encoding."""
    return frozenset(re.sub(r"-(gzip|zstd)$", "", tag) for tag in re.findall(r'(?:W/)?"([^"]*)"', header))


def check_etag_list(header: str, name: str) -> None:
    """Raise ProblemError unless it is `*` or a list of quoted tags: a condition that is misread is worse than none."""
    if header.strip() != "*" and not re.fullmatch(r'\s*(?:W/)?"[^"]*"\s*(?:,\s*(?:W/)?"[^"]*"\s*)*', header):
        raise ProblemError("malformed", f'{name} must be * or tags in quotes, as in "abc"')


def answer(call: Call, download: Download) -> ASGIApp:
    """The whole, a range, or "not modified"; raises ProblemError 412 and 416."""
    tag = download.etag.strip('"')
    if (wanted := call.header("if-match")) is not None:
        check_etag_list(wanted, "If-Match")
        if wanted.strip() != "*" and tag not in bare_etags(wanted):
            raise ProblemError("precondition", "the content is not (any more) what If-Match names")
    headers = [
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
        # Never stored without being asked for again: a file may change at any moment, and is private.
        ("cache-control", "private, no-cache"),
        *download.headers,
    ]
    if download.mtime is not None:
        headers.append(("last-modified", formatdate(min(max(download.mtime, 0) / 1000, 253402300799), usegmt=True)))
    media = _media(download.name)
    encoding = None
    if download.compress and _PAYS_FROM <= download.size <= _PAYS_TO and _pays(media, download.name):
        headers.append(("vary", "accept-encoding"))
        encoding = accepted_encoding(call.header("accept-encoding"))
    # Each form of the same content has a tag of its own (RFC 9110 section 8.8.3.3).
    variant = download.etag if encoding is None else f'"{tag}-{encoding}"'
    if (known := call.header("if-none-match")) is not None:
        check_etag_list(known, "If-None-Match")
        if known.strip() == "*" or tag in bare_etags(known):
            return _Send(call.check_live, 304, [*headers, ("etag", variant)], (), 0, 0)

    whole = True
    start, end = 0, download.size
    # RFC 9110 section 14.2: ranges are defined for GET alone.
    getting = call.scope["method"] == "GET"
    wanted_range = call.header("range") if getting else None
    condition = call.header("if-range")
    if wanted_range is not None and (condition is None or condition == download.etag):
        chosen = _one_range(wanted_range, download.size)
        if chosen is not None:
            start, end = chosen
            whole = False
    # What a user stored must never run as a page of this server.
    headers += [
        ("content-type", media),
        ("content-security-policy", "default-src 'none'; sandbox"),
    ]
    if download.name:
        headers.append(("content-disposition", f"attachment; filename*=UTF-8''{quote(download.name, safe='')}"))
    if getting:
        call.services.metrics.bytes_out.inc(end - start)
    if not whole:
        headers += [("etag", download.etag), ("content-range", f"bytes {start}-{end - 1}/{download.size}")]
        return _Send(call.check_live, 206, headers, download.parts, start, end)
    headers.append(("etag", variant))
    if encoding is not None:
        headers.append(("content-encoding", encoding))
    return _Send(call.check_live, 200, headers, download.parts, 0, download.size, encoding)


def _media(name: str) -> str:
    guessed, encoding = _TYPES.guess_type(name)
    return "application/octet-stream" if guessed is None or encoding is not None else guessed


def _pays(media: str, name: str) -> bool:
    return _COMPRESSIBLE.match(media) is not None or name.lower().endswith(_COMPRESSIBLE_SUFFIXES)


def _one_range(header: str, size: int) -> tuple[int, int] | None:
    """Start and end of a single range; None for what RFC 9110 lets a server ignore (other units, several ranges)."""
    match = re.fullmatch(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", header)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = int(match[2])
        start, end = max(0, size - length), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= end:
        raise ProblemError("range", f"the content has {size} bytes", {"content-range": f"bytes */{size}"})
    return start, end


class _Send:
    """An ASGI application that sends part of some files, one after the other."""

    def __init__(
        self,
        check: Callable[[], None],
        status: int,
        headers: list[tuple[str, str]],
        parts: Sequence[BlobFile],
        start: int,
        end: int,
        encoding: str | None = None,
    ) -> None:
        self.status_code = status
        self._check = check
        self._headers = headers
        self._parts = parts
        self._start = start
        self._end = end
        self._encoding = encoding
        # Looked at before the answer begins: afterwards there is no way to say what is wrong.
        for part in parts:
            try:
                found = part.path.stat().st_size
            except OSError:
                found = -1
            if found != part.size:
                log.error(
                    "a content is missing or damaged on the disk: run `sync-server check`", extra={"blob": part.hash}
                )
                raise ProblemError(
                    "unavailable", "this content is damaged on the server; its owner has to look after it"
                )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self._headers]
        if self._encoding is None and self.status_code != 304:
            headers.append((b"content-length", str(self._end - self._start).encode()))
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        if scope["method"] == "HEAD" or self._start >= self._end:
            await send({"type": "http.response.body", "body": b""})
            return
        first = self._parts[0]
        if (
            len(self._parts) == 1
            and self._encoding is None
            and self._end - self._start == first.size
            and "http.response.pathsend" in (scope.get("extensions") or {})
        ):
            await send({"type": "http.response.pathsend", "path": str(first.path)})
            return
        await send_pieces(send, self._pieces(), self._encoding, self._check)

    async def _pieces(self) -> AsyncIterator[bytes]:
        position = 0
        for part in self._parts:
            begin, stop = max(self._start - position, 0), min(self._end - position, part.size)
            position += part.size
            if begin >= stop:
                continue
            for piece in read_pieces(part, begin, stop):
                yield piece


def read_pieces(part: BlobFile, begin: int, stop: int) -> Iterator[bytes]:
    """Some bytes of a file, a few at a time."""
    handle = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while begin < stop:
            piece = os.pread(handle, min(_PIECE, stop - begin), begin)
            if not piece:
                # Ends the connection without the promised length: the client must not take it for whole.
                raise OSError(f"{part.path} has become shorter")
            begin += len(piece)
            yield piece
    finally:
        os.close(handle)


async def send_pieces(
    send: Send, pieces: AsyncIterator[bytes], encoding: str | None, check: Callable[[], None]
) -> None:
    """The body of an answer that has begun; what `check` raises breaks it off."""
    async for piece in pieces if encoding is None else _compressed(pieces, encoding):
        check()
        # Who stops reading must not keep the connection for ever.
        async with asyncio.timeout(STALLED_SECONDS):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _compressed(pieces: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    if encoding == "zstd":
        zstd = zstandard.ZstdCompressor(level=1).compressobj()
        async for piece in pieces:
            if out := zstd.compress(piece):
                yield out
        yield zstd.flush()
        return
    gzip = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    async for piece in pieces:
        if out := gzip.compress(piece):
            yield out
    yield gzip.flush()
