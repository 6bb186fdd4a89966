"""One request, as a route sees it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from sync_server.http import body
from sync_server.http.problems import ProblemError
from sync_server.store.interface import Identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope

    from sync_server.config import Config
    from sync_server.http.routing import Operation
    from sync_server.services import Services

T = TypeVar("T")

# Bodies up to this size are not counted: nobody is kept from logging in.
_SMALL = 128 * 1024
_NOBODY = Identity(0, 0)


class Call:
    """A request: who asks, for what, with which body. Everything is read when it is asked for."""

    __slots__ = (
        "_body_read",
        "_gathered",
        "_headers",
        "identity",
        "operation",
        "receive",
        "scope",
        "services",
        "words",
    )

    def __init__(
        self, scope: Scope, receive: Receive, services: Services, operation: Operation, words: tuple[str, ...]
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.services = services
        self.operation = operation
        self.words = words
        """The variable parts of the path, decoded."""
        self.identity: Identity = _NOBODY
        self._headers: dict[bytes, bytes] | None = None
        self._body_read = False
        self._gathered = 0

    @property
    def config(self) -> Config:
        return self.services.config

    def header(self, name: str) -> str | None:
        """A header by its lower-case name; of one that comes twice, both, as RFC 9110 section 5.3 joins them."""
        if self._headers is None:
            headers: dict[bytes, bytes] = {}
            for key, value in self.scope["headers"]:
                headers[key] = headers[key] + b", " + value if key in headers else value
            self._headers = headers
        found = self._headers.get(name.encode("latin-1"))
        return None if found is None else found.decode("latin-1")

    @property
    def body_read(self) -> bool:
        """Whether nothing of the body is left to come."""
        return self._body_read or body_is_empty(self.scope)

    @property
    def address(self) -> str:
        """Where the request comes from: the nearest address that is not a trusted proxy."""
        return self.client_address()

    def client_address(self) -> str:
        """The same, for who may not need it: behind a proxy it costs as much as the rest of the check."""
        client = self.scope.get("client")
        address = str(client[0]) if client else "unknown"
        trusted = self.config.trusted_proxies
        if not trusted:
            return address
        for hop in reversed((self.header("x-forwarded-for") or "").split(",")):
            try:
                parsed = ipaddress.ip_address(address)
                # A socket for both kinds of address writes the old ones as ::ffff:192.0.2.1.
                nearest = getattr(parsed, "ipv4_mapped", None) or parsed
                if not any(nearest in network for network in trusted):
                    break
                address = str(ipaddress.ip_address(hop.strip()))
            except ValueError:
                break
        return address

    def query(self, kind: type[T]) -> T:
        """The query string as the given type; unknown, doubled and wrong parameters are refused."""
        text = self.scope["query_string"]
        if not text:
            pairs = []
        else:
            try:
                pairs = parse_qsl(
                    text.decode("ascii"),
                    keep_blank_values=True,
                    strict_parsing=True,
                    errors="strict",
                    max_num_fields=20,
                )
            except ValueError:
                raise ProblemError("malformed", "the query string cannot be read") from None
        values = dict(pairs)
        if len(values) != len(pairs):
            raise ProblemError("invalid", "a parameter of the query occurs twice")
        if "null" in map(str.lower, values.values()):
            # Lax conversion takes the word for nothing at all.
            raise ProblemError("invalid", "query: leave a parameter out instead of sending null")
        try:
            return msgspec.convert(values, kind, strict=False)
        except (msgspec.ValidationError, OverflowError) as error:
            raise ProblemError("invalid", f"query: {error}") from None

    def word(self, index: int, kind: Any, what: str) -> Any:
        """A variable part of the path as the given type; what cannot be one does not exist."""
        try:
            return msgspec.convert(self.words[index], kind)
        except msgspec.ValidationError:
            raise ProblemError("not-found", f"there is no such {what}") from None

    async def read(self, limit: int, into: bytearray | None = None) -> bytearray:
        """The whole body, at most `limit` bytes of it; when it breaks off, what came is in `into`."""
        data = bytearray() if into is None else into
        async for piece in self.pieces(limit):
            if limit > _SMALL:
                self.services.gathered.take(len(piece))
                self._gathered += len(piece)
            data += piece
        return data

    def release(self) -> None:
        """The request is over, and its body no longer in memory."""
        if self._gathered:
            self.services.gathered.give_back(self._gathered)
            self._gathered = 0

    async def pieces(self, limit: int) -> AsyncIterator[bytes]:
        """The decoded body, piece by piece; raises NotAuthenticated when the device is revoked meanwhile."""
        async for piece in body.pieces(
            self.receive,
            encoding=self.header("content-encoding"),
            length=self.header("content-length"),
            limit=limit,
            idle=self.config.body_idle_seconds,
            min_rate=self.config.body_min_rate,
        ):
            self.check_live()
            yield piece
        self._body_read = True
        self.check_live()

    def check_live(self) -> None:
        """Raise NotAuthenticated when the device was revoked since the request began."""
        if self.operation.scope is not None:
            self.services.auth.check_live(self.identity)

    async def json(self, kind: type[T], limit: int = 64 * 1024) -> T:
        """The JSON body as the given type: 415 for another kind of body, 400 for broken JSON, 422 for a wrong one."""
        media = (self.header("content-type") or "").partition(";")[0].strip().lower()
        if media != "application/json":
            raise ProblemError("media-type", "send application/json", {"accept": "application/json"})
        data = await self.read(limit)
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.ValidationError as error:
            raise ProblemError("invalid", str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ProblemError("malformed", "the body is not valid JSON") from None
        except RecursionError:
            raise ProblemError("malformed", "the JSON is nested too deeply") from None


def body_is_empty(scope: Scope) -> bool:
    """Whether the headers announce no body."""
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return False
    return True


def decode_path(raw: bytes) -> str:
    """A path decoded once; raises ProblemError when it is not UTF-8."""
    try:
        return unquote_to_bytes(raw).decode("utf-8") if b"%" in raw else raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ProblemError("malformed", "the path is not valid UTF-8") from None
