"""Uploads that go on where they were interrupted (tus 1.0.0: core, creation, termination, expiration)."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from email.utils import formatdate
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from sync_protocol.types import UploadRequest, UploadState
from sync_server.http import answers
from sync_server.http.call import Call
from sync_server.http.problems import ClientGone, ProblemError
from sync_server.http.routing import Bytes, Header, Routes
from sync_server.store.interface import Stale, SyncError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

routes = Routes("uploads")

UploadId = Annotated[str, Meta(pattern="^[0-9a-f]{24}$")]
Metadata = Annotated[str, Meta(pattern="^path ([A-Za-z0-9+/]{4}){1,20}$", examples=["path YS50eHQh"])]
Number = Annotated[str, Meta(pattern="^[0-9]{1,15}$", examples=["0"])]
_TUS = {"tus-resumable": "1.0.0"}


def _number(text: str | None, name: str) -> int:
    if text is None or not re.fullmatch(r"[0-9]{1,15}", text):
        raise ProblemError("malformed", f"{name} must be a whole number")
    return int(text)


def _headers(state: UploadState) -> dict[str, str]:
    return {
        **_TUS,
        "upload-offset": str(state.offset),
        "upload-length": str(state.size),
        "upload-expires": formatdate(state.expires / 1000, usegmt=True),
        "cache-control": "no-store",
    }


def _from_tus(call: Call) -> UploadRequest:
    """The request as tus writes it: the size in a header, the rest as base64 words."""
    size = _number(call.header("upload-length"), "Upload-Length")
    words: dict[str, str] = {}
    for item in (call.header("upload-metadata") or "").split(","):
        key, _, value = item.strip().partition(" ")
        try:
            words[key] = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise ProblemError("malformed", "Upload-Metadata must have base64 values") from None
    fields: dict[str, object] = {"path": words.get("path", words.get("filename", "")), "size": size}
    for name in ("mtime", "base", "executable"):
        if name in words:
            fields[name] = words[name]
    try:
        return msgspec.convert(fields, UploadRequest, strict=False)
    except msgspec.ValidationError as error:
        raise ProblemError("invalid", f"Upload-Metadata: {error}") from None


@routes(
    "POST", "/uploads", scope="write", body=UploadRequest, answers={201: UploadState}, problems=(404, 409),
    headers=(
        Header("upload-length", "tus: the size; then there is no JSON body.", Number),
        Header("upload-metadata", "tus: `path` and what else the JSON body would have, each in base64.", Metadata),
    ),
)  # fmt: skip
async def begin_upload(call: Call) -> ASGIApp:
    """Announce an upload; the pieces follow with PATCH to the address in Location."""
    by_tus = call.header("upload-length") is not None or call.header("upload-metadata") is not None
    request = _from_tus(call) if by_tus else await call.json(UploadRequest)
    if request.size > call.config.max_file_size:
        raise ProblemError("too-large", f"a file may have at most {call.config.max_file_size} bytes")
    state = await call.services.tree.begin_upload(call.identity, request)
    location = f"/api/v1/uploads/{state.id}"
    return answers.json(call, state, 201, {**_headers(state), "location": location})


@routes("OPTIONS", "/uploads", scope=None, answers={204: None})
async def describe_uploads(call: Call) -> ASGIApp:
    """Say what of tus is spoken."""
    headers = {
        **_TUS,
        "tus-version": "1.0.0",
        "tus-extension": "creation,termination,expiration",
        "tus-max-size": str(call.config.max_file_size),
    }
    return answers.empty(204, headers)


@routes(
    "GET", "/uploads/{upload}", scope="write", words=(UploadId,), answers={200: UploadState}, problems=(409, 503)
)  # fmt: skip
async def get_upload(call: Call) -> ASGIApp:
    """Ask how much has arrived (HEAD: in Upload-Offset).

    When all has and it cannot become the file, the answer says why, and no offset.
    """
    state = await call.services.tree.upload_state(call.identity, call.word(0, UploadId, "upload"))
    return answers.json(call, state, 200, _headers(state))


@routes(
    "PATCH", "/uploads/{upload}", scope="write", words=(UploadId,), answers={200: UploadState, 204: None},
    headers=(Header("upload-offset", "Where the piece begins: what has arrived until now.", Number, required=True),),
    body=Bytes("application/offset+octet-stream", "The next piece, of any size."), problems=(409,),
)  # fmt: skip
async def continue_upload(call: Call) -> ASGIApp:
    """Send the next piece. What arrived stays, even when the connection breaks.

    204 with the new Upload-Offset; after the last piece 200 with the file. 409 when the server stands elsewhere
    (ask with HEAD), or when the file was changed meanwhile: HEAD then says so too, until the other one is moved away.
    """
    media = (call.header("content-type") or "").partition(";")[0].strip().lower()
    if media != "application/offset+octet-stream":
        raise ProblemError(
            "media-type", "send application/offset+octet-stream", {"accept": "application/offset+octet-stream"}
        )
    upload_id = call.word(0, UploadId, "upload")
    offset = _number(call.header("upload-offset"), "Upload-Offset")
    try:
        upload = await call.services.tree.resume_upload(call.identity, upload_id, offset)
    except Stale as error:
        raise ProblemError("offset", error.detail, _TUS) from None
    finished = False
    try:
        async for piece in call.pieces(call.config.max_file_size):
            await upload.write(piece)
            call.services.metrics.bytes_in.inc(len(piece))
        finished = True
        state = await upload.finish()
    except (ClientGone, ProblemError) as error:
        if isinstance(error, ClientGone) or error.slug == "too-slow":
            with contextlib.suppress(SyncError):
                await upload.finish()
        raise
    finally:
        if not finished:
            upload.abort()
    # A tus client knows 204 only, the last piece included.
    if state.entry is None or call.header("tus-resumable") is not None:
        return answers.empty(204, _headers(state))
    return answers.json(call, state, 200, _headers(state))


@routes("DELETE", "/uploads/{upload}", scope="write", words=(UploadId,), answers={204: None})
async def cancel_upload(call: Call) -> ASGIApp:
    """Give an upload up."""
    await call.services.tree.cancel_upload(call.identity, call.word(0, UploadId, "upload"))
    return answers.empty(204, _TUS)
