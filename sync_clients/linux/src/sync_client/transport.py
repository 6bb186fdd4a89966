# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP to the server: one kept connection for each thread, tokens renewed by themselves, every failure in one sentence.

Only the standard library: an HTTP package would double the memory of the daemon at rest.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import msgspec

from sync_client import __version__
from sync_client.errors import CursorGone, Incompatible, NotAllowed, Offline, Refused
from sync_protocol.hashing import blob_id
from sync_protocol.types import (
    MAX_BLOB,
    BatchAnswer,
    ChangesPage,
    CommitAnswer,
    ConflictEntry,
    ConflictPage,
    DeviceCodeAnswer,
    DeviceCodeRequest,
    DeviceTokenRequest,
    HaveAnswer,
    HaveRequest,
    LoginRequest,
    NodeEntry,
    Problem,
    RefreshRequest,
    ResolveRequest,
    Snapshot,
    TokenPair,
    TrashPage,
    VersionList,
)

T = TypeVar("T")

_TIMEOUT = 60
_PIECE = 64 * 1024
_FRAME = 36
# Above this rate of the line, compressing costs more time than it saves.
_FAST = 25_000_000
_MAX_ANSWER = 64 * 1024 * 1024


class Tokens(msgspec.Struct, frozen=True):
    """What is kept of a login."""

    refresh_token: str
    device: str = ""


@dataclass(slots=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Throttle:
    """A bandwidth limit in bytes a second; 0 is none."""

    def __init__(self, rate: int = 0) -> None:
        self.rate = rate
        self._next = 0.0
        self._lock = threading.Lock()

    def spend(self, size: int) -> None:
        if self.rate <= 0:
            return
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next, now) + size / self.rate
            wait = self._next - now
        if wait > 0:
            time.sleep(wait)


def _parsed(url: str) -> SplitResult:
    """The parts of an address; whatever is none is refused, and so is one with a password, which would be shown."""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        fit = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fit = False
    if not fit or not url.isprintable() or " " in url:
        raise Incompatible(f"“{url}” is not the address of a server; it looks like https://sync.example.org")
    if "@" in parts.netloc:
        raise Incompatible("A name and a password do not belong into the address of the server; use --user NAME.")
    return parts


def _account(access_token: str) -> str:
    """Whose token it is: the claim `sub`."""
    try:
        claims = access_token.split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(claims + "=="))["sub"])
    except (IndexError, KeyError, ValueError):
        return ""


class Transport:
    """The server, as the rest of the client sees it."""

    def __init__(
        self,
        url: str,
        *,
        tokens: Tokens | None = None,
        save: Callable[[Tokens], None] = lambda tokens: None,
        ca: Path | None = None,
        up: Throttle | None = None,
        down: Throttle | None = None,
    ) -> None:
        parts = _parsed(url)
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._host, self._port = parts.hostname or "", parts.port
        self._prefix = parts.path.rstrip("/") + "/api/v1"
        self._tls: ssl.SSLContext | None = None
        self.trust(ca)
        self.account = ""
        self._tokens = tokens
        self._save = save
        self._access = ""
        self._access_until = 0.0
        self._auth = threading.Lock()
        self._local = threading.local()
        self.up = up or Throttle()
        self.down = down or Throttle()
        self._rate = 0.0
        self.wire_sent = 0
        self.wire_received = 0

    def trust(self, ca: Path | None) -> None:
        """Believe certificates of this authority, or those of the system's."""
        if self.url.startswith("https://") or ca is not None:
            try:
                context = ssl.create_default_context(cafile=str(ca) if ca else None)
            except OSError as error:
                raise Incompatible(
                    f"{ca} cannot be read as a certificate ({error.strerror or error}); name a PEM file with"
                    f" `sync-client login {self.url} --ca FILE`."
                ) from error
            self._tls = context if self.url.startswith("https://") else None

    # Connections

    def _connection(self, timeout: float) -> tuple[http.client.HTTPConnection, bool]:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(timeout)
            return connection, True
        if self._tls is not None:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._local.connection = connection
        return connection, False

    def close(self) -> None:
        """Close this thread's connection."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _once(self, method: str, path: str, body: bytes, headers: dict[str, str], timeout: float) -> Answer:
        connection, reused = self._connection(timeout)
        try:
            try:
                self._send(connection, method, path, body, headers)
                response = connection.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                if not reused:
                    raise
                # A kept connection the server closed meanwhile; every request here may be repeated.
                self.close()
                connection, _ = self._connection(timeout)
                self._send(connection, method, path, body, headers)
                response = connection.getresponse()
            data = self._receive(response)
        except BaseException:
            self.close()
            raise
        if response.will_close:
            self.close()
        return Answer(response.status, response.headers, data)

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> None:
        # With a second Host, nginx answers 400 (RFC 9112, 3.2).
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body or method in ("POST", "PUT"):
            connection.putheader("Content-Length", str(len(body)))
        if len(body) <= _PIECE and not self.up.rate:
            connection.endheaders(body or None)
        else:
            connection.endheaders()
            view = memoryview(body)
            step = _PIECE if self.up.rate else len(body)
            for start in range(0, len(body), step):
                piece = view[start : start + step]
                self.up.spend(len(piece))
                connection.send(piece)
        self.wire_sent += len(body) + 300

    def _receive(self, response: http.client.HTTPResponse) -> bytes:
        pieces = []
        size = 0
        while piece := response.read(_PIECE if self.down.rate else 1024 * 1024):
            self.down.spend(len(piece))
            pieces.append(piece)
            size += len(piece)
            if size > _MAX_ANSWER:
                raise Incompatible(f"{self.url} sent an answer larger than any sync server's")
        self.wire_received += size + 200
        data = b"".join(pieces)
        if response.headers.get("Content-Encoding") == "gzip":
            unpacker = zlib.decompressobj(31)
            data = unpacker.decompress(data, _MAX_ANSWER)
            if unpacker.unconsumed_tail:
                raise Incompatible(f"{self.url} sent an answer larger than any sync server's")
        return data

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        auth: bool = True,
        timeout: float = _TIMEOUT,
        packed: bool = True,
    ) -> Answer:
        """One request, with the login renewed where needed; raises the errors of errors.py."""
        for attempt in (1, 2):
            sent = {"Host": self._netloc(), "User-Agent": f"sync-client/{__version__}"}
            if packed:
                sent["Accept-Encoding"] = "gzip"
            if auth:
                sent["Authorization"] = f"Bearer {self._token(fresh=attempt == 2)}"
            answer = self._guarded(method, self._prefix + path, body, sent | (headers or {}), timeout)
            if answer.status == 401 and auth and attempt == 1:
                continue
            return self._checked(answer, path)
        raise AssertionError

    def _netloc(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}" if self._port else host

    def _guarded(self, method: str, path: str, body: bytes, headers: dict[str, str], timeout: float) -> Answer:
        try:
            return self._once(method, path, body, headers, timeout)
        except ssl.SSLCertVerificationError as error:
            raise Incompatible(
                f"The certificate of {self._host} is not trusted ({error.verify_message}). Nothing was sent. If it"
                " is your own authority's, name it with `sync-client login --ca FILE`."
            ) from error
        except ssl.SSLError as error:
            raise Incompatible(
                f"{self._host} does not speak TLS on this port ({error.reason}); check the address."
            ) from error
        except socket.gaierror as error:
            raise Offline(f"{self._host} is not known to the DNS; check the address or the network.") from error
        except (OSError, http.client.HTTPException) as error:
            what = str(error) or type(error).__name__
            raise Offline(f"{self.url} cannot be reached ({what}); it is tried again by itself.") from error

    def _checked(self, answer: Answer, path: str) -> Answer:
        if 200 <= answer.status < 300:
            return answer
        try:
            problem = msgspec.json.decode(answer.body, type=Problem)
        except (msgspec.DecodeError, UnicodeDecodeError):
            if answer.status in (502, 503, 504):
                raise Offline(f"{self.url} answers {answer.status}: the server behind the proxy is down.") from None
            raise Incompatible(
                f"{self.url} answered {answer.status} and is no sync server this client can talk to; check the address."
            ) from None
        slug = problem.type.rpartition(":")[2]
        detail = problem.detail or problem.title
        if answer.status == 401:
            raise NotAllowed(f"The login is no longer valid ({detail}). Run `sync-client login {self.url}`.")
        if answer.status == 403:
            raise NotAllowed(f"This login may not do that: {detail}.")
        if answer.status == 410:
            raise CursorGone(detail)
        if answer.status in (429, 503, 500, 408) or slug == "no-space":
            raise Offline(f"The server says: {detail}. It is tried again by itself.")
        if slug == "method-not-allowed" or (answer.status == 404 and "no such address" in detail):
            raise Incompatible(
                f"The server does not know {path.split('?')[0]}: it is older than this client; update it."
            )
        raise Refused(detail, status=answer.status, type=slug, missing=problem.missing)

    def call(self, method: str, path: str, answer: type[T], body: msgspec.Struct | None = None, **options: Any) -> T:
        """A request with JSON both ways."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        data = msgspec.json.encode(body) if body is not None else b""
        return self._decode(self.request(method, path, data, headers=headers, **options), answer)

    def _decode(self, answer: Answer, type: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.body, type=type)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Incompatible(
                f"{self.url} answered something this client does not understand: one of the two is old; update both."
            ) from error

    # Login

    def _token(self, *, fresh: bool) -> str:
        with self._auth:
            if self._access and not fresh and time.monotonic() < self._access_until:
                return self._access
            if self._tokens is None:
                raise NotAllowed(f"Not logged in. Run `sync-client login {self.url}`.")
            try:
                pair = self.call(
                    "POST", "/auth/refresh", TokenPair, RefreshRequest(self._tokens.refresh_token), auth=False
                )
            except Refused as error:
                raise NotAllowed(f"The login was refused ({error}). Run `sync-client login {self.url}`.") from error
            self._take(pair)
            return self._access

    def _take(self, pair: TokenPair) -> None:
        self._tokens = Tokens(pair.refresh_token, pair.device)
        # On disk before anything that came with it is used: the server's rule.
        self._save(self._tokens)
        self._access = pair.access_token
        self.account = _account(pair.access_token)
        self._access_until = time.monotonic() + max(10, pair.expires_in - 60)

    def tokens_saved_by(self, save: Callable[[Tokens], None]) -> None:
        self._save = save

    def reachable(self) -> None:
        """Whether a sync server answers, without a login."""
        answer = self._guarded("GET", self._prefix + "/devices", b"", {"Host": self._netloc()}, 20)
        if answer.status != 401:
            self._checked(answer, "/devices")

    def set_tokens(self, tokens: Tokens | None) -> None:
        with self._auth:
            self._tokens, self._access = tokens, ""

    def login(self, user: str, password: str, device: str) -> None:
        try:
            pair = self.call("POST", "/auth/login", TokenPair, LoginRequest(user, password, device), auth=False)
        except NotAllowed as error:
            raise NotAllowed("The name or the password is wrong.") from error
        with self._auth:
            self._take(pair)

    def begin_pairing(self, device: str) -> DeviceCodeAnswer:
        return self.call("POST", "/auth/device/code", DeviceCodeAnswer, DeviceCodeRequest(device), auth=False)

    def poll_pairing(self, code: str) -> str | None:
        """None once it is done, else why not yet: `authorization_pending`, `slow_down`."""
        answer = self._guarded(
            "POST",
            self._prefix + "/auth/device/token",
            msgspec.json.encode(DeviceTokenRequest(code)),
            {"Host": self._netloc(), "Content-Type": "application/json"},
            _TIMEOUT,
        )
        if answer.status == 400:
            error = str(json.loads(answer.body).get("error", ""))
            if error in ("authorization_pending", "slow_down"):
                return error
            raise NotAllowed(
                "The code was turned down." if error == "access_denied" else "The code has expired; log in again."
            )
        pair = self._decode(self._checked(answer, "/auth/device/token"), TokenPair)
        with self._auth:
            self._take(pair)
        return None

    def logout(self) -> None:
        self.request("POST", "/auth/logout")

    # The tree

    def changes(self, cursor: str, wait: int = 0) -> ChangesPage:
        query = {"cursor": cursor, "limit": "1000"} | ({"wait": str(wait)} if wait else {})
        return self.call("GET", f"/changes?{urlencode(query)}", ChangesPage, timeout=_TIMEOUT + wait)

    def snapshot(self, page: str | None) -> Snapshot:
        query = {"limit": "1000"} | ({"page": page} if page else {})
        return self.call("GET", f"/snapshot?{urlencode(query)}", Snapshot)

    def node(self, node: str) -> NodeEntry:
        return self.call("GET", f"/nodes/{quote(node)}", NodeEntry)

    def commit(self, request: bytes) -> CommitAnswer:
        headers = {"Content-Type": "application/json"}
        if len(request) > 4096 and 0 < self._rate < _FAST:
            request = gzip.compress(request, 1)
            headers["Content-Encoding"] = "gzip"
        return self._decode(self.request("POST", "/commit", request, headers=headers, timeout=300), CommitAnswer)

    # Content

    def have(self, blobs: list[str]) -> list[str]:
        return self.call("POST", "/blobs/have", HaveAnswer, HaveRequest(blobs)).missing

    def put_blobs(self, blobs: list[tuple[str, bytes]]) -> None:
        small: list[tuple[str, bytes]] = []
        for name, data in blobs:
            if len(data) > MAX_BLOB // 2:
                self._upload("PUT", f"/blobs/{name}", data)
            else:
                small.append((name, data))
        while small:
            body: list[bytes] = []
            size = count = 0
            while small and count < 1000 and size + len(small[0][1]) + _FRAME <= 6 * 1024 * 1024:
                name, data = small.pop(0)
                body += [bytes.fromhex(name), len(data).to_bytes(4, "big"), data]
                size += len(data) + _FRAME
                count += 1
            answer = self._decode(self._upload("POST", "/blobs/batch", b"".join(body)), BatchAnswer)
            for result in answer.results:
                if result.status == "quota":
                    raise Refused("there is no room left in the account; free some, or ask for more", type="quota")
                if result.status != "ok":
                    raise Refused(f"the server did not take a content ({result.status})", type=result.status)

    def _upload(self, method: str, path: str, body: bytes) -> Answer:
        headers = {"Content-Type": "application/octet-stream"}
        plain = len(body)
        if 0 < self._rate < _FAST or self.up.rate:
            sample = body[: 64 * 1024]
            if len(zlib.compress(sample, 1)) < len(sample) * 0.9:
                body = gzip.compress(body, 1)
                headers["Content-Encoding"] = "gzip"
        started = time.monotonic()
        answer = self.request(method, path, body, headers=headers, timeout=300)
        if plain > 100_000:
            rate = len(body) / max(1e-6, time.monotonic() - started)
            self._rate = rate if not self._rate else 0.7 * self._rate + 0.3 * rate
        return answer

    def get_blobs(self, blobs: list[str]) -> Iterable[bytes]:
        if len(blobs) == 1:
            data = self.request("GET", f"/blobs/{blobs[0]}", packed=False, timeout=300).body
            if blob_id(data) != blobs[0]:
                raise Offline("A content arrived damaged; it is fetched again.")
            return [data]
        found = dict(self._fetch(blobs))
        missing = [name for name in blobs if name not in found]
        if missing:
            raise Refused("a content is gone from the server", status=404, type="not-found")
        return [found[name] for name in blobs]

    def _fetch(self, blobs: list[str]) -> Iterator[tuple[str, bytes]]:
        slow = bool(0 < self._rate < _FAST or self.down.rate)
        body = msgspec.json.encode(HaveRequest(blobs))
        headers = {"Content-Type": "application/json"}
        data = self.request("POST", "/blobs/fetch", body, headers=headers, timeout=300, packed=slow).body
        at = 0
        while at < len(data):
            size = int.from_bytes(data[at + 32 : at + _FRAME], "big")
            name, piece = data[at : at + 32].hex(), data[at + _FRAME : at + _FRAME + size]
            if blob_id(piece) != name:
                raise Offline("A content arrived damaged; it is fetched again.")
            yield name, piece
            at += _FRAME + size

    # What people ask for

    def versions(self, node: str) -> VersionList:
        return self.call("GET", f"/nodes/{quote(node)}/versions", VersionList)

    def restore(self, node: str, version: int | None, base: int | None) -> NodeEntry:
        body = msgspec.json.encode({k: v for k, v in (("version", version), ("base", base)) if v is not None})
        answer = self.request(
            "POST", f"/nodes/{quote(node)}/restore", body, headers={"Content-Type": "application/json"}
        )
        return self._decode(answer, NodeEntry)

    def trash(self, page: str | None = None) -> TrashPage:
        return self.call("GET", "/trash" + (f"?{urlencode({'page': page})}" if page else ""), TrashPage)

    def conflicts(self) -> list[ConflictEntry]:
        found: list[ConflictEntry] = []
        page: str | None = None
        while True:
            part = self.call("GET", "/conflicts" + (f"?{urlencode({'page': page})}" if page else ""), ConflictPage)
            found += part.conflicts
            page = part.next
            if page is None:
                return found

    def resolve(self, conflict: str, keep: str) -> ConflictEntry:
        request = msgspec.convert({"keep": keep}, ResolveRequest)
        return self.call("POST", f"/conflicts/{quote(conflict)}/resolve", ConflictEntry, request)
