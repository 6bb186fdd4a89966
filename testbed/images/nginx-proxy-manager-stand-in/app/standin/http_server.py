"""HTTP on 127.0.0.1:3000, behind nginx's port 81: reads requests, writes answers, maps errors once."""

from __future__ import annotations

import email.parser
import email.policy
import json
import os
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from . import log
from .errors import ApiError, Denied, internal, not_found
from .routes import Answer, Api, Request

_MAX_JSON = 100 * 1024
_HEADERS = {
    "X-XSS-Protection": "1; mode=block",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": os.environ.get("X_FRAME_OPTIONS") or "DENY",
    "Cache-Control": "no-cache, no-store, max-age=0, must-revalidate",
    "Pragma": "no-cache",
    "Expires": "0",
}


def serve(api: Api, port: int) -> None:
    handler = type("Handler", (_Handler,), {"api": api})
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()


class _Handler(BaseHTTPRequestHandler):
    api: Api
    protocol_version = "HTTP/1.1"
    server_version = "npm-stand-in"
    # A stalled client must not hold a thread for ever.
    timeout = 120

    def _handle(self) -> None:
        started = time.monotonic()
        path = urlsplit(self.path).path
        answer = self._answer(path)
        self._send(answer)
        log.write("Express", f"{self.command} {path} {answer.status} {(time.monotonic() - started) * 1000:.0f} ms")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = _handle

    def _answer(self, path: str) -> Answer:
        try:
            return self.api.answer(self._read(path))
        except Denied:
            return _failure(not_found(path), path)
        except ApiError as error:
            return _failure(error, path)
        except Exception as error:
            log.write("Express", traceback.format_exc())
            return _failure(internal(str(error)), path)

    def _read(self, path: str) -> Request:
        # HEAD is answered like GET, without the body.
        method = "GET" if self.command == "HEAD" else self.command
        request = Request(method, path, dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True)))
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        request.token = token if scheme == "Bearer" and token else None
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart/form-data"):
            request.body, request.files = {}, _parts(kind, raw)
        elif kind.startswith("application/x-www-form-urlencoded"):
            request.body = dict(parse_qsl(raw.decode(errors="replace")))
        elif kind.startswith("application/json") and raw:
            request.body = _parse_json(raw)
        return request

    def _send(self, answer: Answer) -> None:
        if isinstance(answer.body, bytes):
            kind, body = "application/zip", answer.body
        elif answer.body is None:
            kind, body = "text/plain; charset=utf-8", b""
        else:
            text = json.dumps(answer.body, separators=(",", ":"), ensure_ascii=False)
            kind, body = "application/json; charset=utf-8", text.encode()
        self.send_response(answer.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if answer.file_name:
            self.send_header("Content-Disposition", f'attachment; filename="{answer.file_name}"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the base class would log query strings."""


def _failure(error: ApiError, path: str) -> Answer:
    detail: dict[str, Any] = {"code": error.status, "message": error.message if error.public else "Internal Error"}
    if error.i18n:
        detail["message_i18n"] = error.i18n
    payload: dict[str, Any] = {"error": detail}
    if "nginx/certificates" in path:
        payload["debug"] = {"stack": f"Error: {error.message}".split("\n")}
        if error.previous:
            payload["debug"]["previous"] = error.previous
    return Answer(error.status, payload)


def _parse_json(raw: bytes) -> Any:
    if len(raw) > _MAX_JSON:
        raise internal("request entity too large", status=413)
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise internal(str(error), status=400) from None
    if not isinstance(body, dict | list):
        raise internal("Unexpected token in JSON", status=400)
    return body


def _parts(kind: str, raw: bytes) -> dict[str, str]:
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + raw)
    files: dict[str, str] = {}
    for part in message.iter_parts():
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if isinstance(name, str) and part.get_filename() is not None and isinstance(content, bytes):
            files[name] = content.decode(errors="replace")
    return files
