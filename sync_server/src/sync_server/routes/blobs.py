"""Content by its name: what is there, one, or many at a time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING

from sync_protocol.types import MAX_BLOB, MAX_HAVE, BatchAnswer, BlobResult, HaveAnswer, HaveRequest, Sha256
from sync_server.http import answers
from sync_server.http.answers import accepted_encoding
from sync_server.http.call import Call
from sync_server.http.content import Download, read_pieces, send_pieces
from sync_server.http.content import answer as content_answer
from sync_server.http.problems import ClientGone, ProblemError
from sync_server.http.routing import Bytes, Header, Routes, Tags
from sync_server.store.interface import NotFound, SyncError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from sync_server.store.interface import BlobFile

routes = Routes("contents")

MAX_BATCH = 8 * 1024 * 1024
FRAME = 36
_GATHERED = 256 * 1024
_CONDITIONS = (
    Header("if-none-match", "Tags one already has: 304 when it is among them.", Tags),
    Header("range", "Part of the content, as `bytes=0-99`."),
)


@routes("POST", "/blobs/have", scope="read", body=HaveRequest, answers={200: HaveAnswer})
async def have(call: Call) -> ASGIApp:
    """Ask which contents have to be uploaded. Those of other accounts count as missing.

    What the same device sent just before and was not answered for, is looked at first.
    """
    request = await call.json(HaveRequest, 128 * 1024)
    missing = await call.services.tree.have(call.identity, request.blobs)
    if missing and await call.services.arrivals.settle(call.identity.device_id):
        missing = await call.services.tree.have(call.identity, request.blobs)
    return answers.json(call, HaveAnswer(missing))


@routes(
    "PUT",
    "/blobs/{sha256}",
    scope="write",
    words=(Sha256,),
    body=Bytes(description="At most 4 MiB, whose SHA-256 is the name; gzip or zstd as Content-Encoding says."),
    answers={200: BlobResult},
)
async def put_blob(call: Call) -> ASGIApp:
    """Upload a content. It is on the disk when this is answered; the same again does no harm."""
    name = call.word(0, Sha256, "content")

    async def nothing() -> None:
        """A part of a content is none."""

    with call.services.arrivals.watch(call, nothing):
        writer = call.services.tree.upload_blob(call.identity, name)
        try:
            async for piece in call.pieces(MAX_BLOB):
                writer.write(piece)
            call.services.metrics.bytes_in.inc(writer.size)
            await writer.finish()
        finally:
            writer.abort()
    return answers.json(call, BlobResult(name, "ok"))


@routes(
    "GET", "/blobs/{sha256}", scope="read", words=(Sha256,), headers=_CONDITIONS,
    answers={200: Bytes(), 206: Bytes(), 304: None}, problems=(412, 416, 503),
)  # fmt: skip
async def get_blob(call: Call) -> ASGIApp:
    """Download a content that one of the account's files has, or had."""
    name = call.word(0, Sha256, "content")
    blob = await call.services.tree.blob(call.identity, name)
    return content_answer(call, Download((blob,), blob.size, f'"{name}"', compress=False))


@routes(
    "POST",
    "/blobs/batch",
    scope="write",
    body=Bytes(
        description="For each content: 32 bytes SHA-256, 4 bytes length (big-endian), the bytes. At most 8 MiB."
    ),
    answers={200: BatchAnswer},
)
async def put_batch(call: Call) -> ASGIApp:
    """Upload many small contents at once; they are made durable together.

    When the connection breaks, those that arrived whole stay.
    """
    media = (call.header("content-type") or "").partition(";")[0].strip().lower()
    if media != "application/octet-stream":
        raise ProblemError("media-type", "send application/octet-stream", {"accept": "application/octet-stream"})
    batch = _Batch(call)
    with call.services.arrivals.watch(call, batch.keep_whole):
        try:
            await call.read(MAX_BATCH, batch.body)
        except (ClientGone, ProblemError) as error:
            if isinstance(error, ClientGone) or error.slug == "too-slow":
                await batch.keep_whole()
            raise
        return answers.json(call, BatchAnswer(await batch.keep()))


class _Batch:
    """Contents in one body, some of which may have been kept before its end."""

    def __init__(self, call: Call) -> None:
        self.body = bytearray()
        self._call = call
        self._position = 0
        self._results: list[BlobResult] = []
        self._keeping = asyncio.Lock()

    async def keep(self) -> list[BlobResult]:
        """Keep all of the body, which has ended; returns the results of all contents."""
        async with self._keeping:
            await self._keep(memoryview(self.body), cut_off=False)
        self._call.services.metrics.bytes_in.inc(len(self.body))
        return self._results

    async def keep_whole(self) -> None:
        """Keep what has arrived whole by now, if it can be."""
        async with self._keeping:
            with contextlib.suppress(SyncError, ProblemError):
                # A copy: more may come meanwhile.
                await self._keep(memoryview(bytes(self.body)), cut_off=True)

    async def _keep(self, body: memoryview, *, cut_off: bool) -> None:
        blobs: list[tuple[str, memoryview]] = []
        position = self._position
        while position < len(body):
            length = int.from_bytes(body[position + 32 : position + FRAME], "big")
            if len(body) < position + FRAME + length:
                if cut_off:
                    break
                raise ProblemError("invalid", f"the content at byte {position} is cut off")
            blobs.append((body[position : position + 32].hex(), body[position + FRAME : position + FRAME + length]))
            position += FRAME + length
            if len(self._results) + len(blobs) > MAX_HAVE:
                raise ProblemError("too-large", f"at most {MAX_HAVE} contents at a time")
        if blobs:
            self._results += await self._call.services.tree.put_blobs(self._call.identity, blobs)
            self._position = position


@routes(
    "POST",
    "/blobs/fetch",
    scope="read",
    body=HaveRequest,
    answers={200: Bytes(description="In the form of /blobs/batch, in the order asked; what is not there is left out.")},
)
async def fetch_batch(call: Call) -> ASGIApp:
    """Download many small contents at once."""
    request = await call.json(HaveRequest, 128 * 1024)
    found: list[BlobFile] = []
    for name in dict.fromkeys(request.blobs):
        try:
            found.append(await call.services.tree.blob(call.identity, name))
        except NotFound:
            continue
    call.services.metrics.bytes_out.inc(sum(blob.size for blob in found))
    return _Frames(found, accepted_encoding(call.header("accept-encoding")), call.check_live)


class _Frames:
    status_code = 200

    def __init__(self, blobs: list[BlobFile], encoding: str | None, check: Callable[[], None]) -> None:
        self._check = check
        self._blobs = blobs
        self._encoding = encoding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"vary", b"accept-encoding"),
        ]
        if self._encoding is None:
            total = sum(FRAME + blob.size for blob in self._blobs)
            headers.append((b"content-length", str(total).encode()))
        else:
            headers.append((b"content-encoding", self._encoding.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send_pieces(send, self._pieces(), self._encoding, self._check)

    async def _pieces(self) -> AsyncIterator[bytes]:
        # Gathered to some size: a message for each small file costs more than its bytes.
        gathered: list[bytes] = []
        size = 0
        for blob in self._blobs:
            if blob.size > _GATHERED:
                yield b"".join([*gathered, bytes.fromhex(blob.hash), blob.size.to_bytes(4, "big")])
                gathered, size = [], 0
                for piece in read_pieces(blob, 0, blob.size):
                    yield piece
                continue
            data = blob.path.read_bytes()
            if len(data) != blob.size or (blob.size < 65536 and hashlib.sha256(data).hexdigest() != blob.hash):
                raise OSError(f"the content {blob.hash} is damaged: run `sync-server check`")
            gathered += [bytes.fromhex(blob.hash), blob.size.to_bytes(4, "big"), data]
            size += FRAME + blob.size
            if size >= _GATHERED:
                yield b"".join(gathered)
                gathered, size = [], 0
        if gathered:
            yield b"".join(gathered)
