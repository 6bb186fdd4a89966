# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Speaks the REST API of Nginx Proxy Manager: login, waiting, and errors a person can act on. Private."""

from __future__ import annotations

import json
import secrets
import time
import typing as t
from dataclasses import dataclass, field, replace

OLDEST_VERSION = (2, 13, 0)
# certbot asks the authority, the authority asks us; slow boxes need minutes.
ACME_TIMEOUT = 600.0
_TIMEOUT = 60.0
# What nginx answers while the API behind it starts or restarts.
_GATEWAY_ERRORS = frozenset({502, 503, 504})

Json = dict[str, t.Any]


class NpmError(Exception):
    """What went wrong and what to do about it, in sentences for the person who runs the play."""


class Unreachable(NpmError):
    """Nothing answers at the address, or only nginx without the API behind it."""


class WrongPassword(NpmError):
    """The account or its password was refused."""


class Interrupted(NpmError):
    """The API died while it worked on a request, so nobody knows whether it was carried out."""


class RequestFailed(NpmError):
    """The API understood the request and refused or failed it."""

    def __init__(self, message: str, *, status: int, stack: t.Sequence[str] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.stack = tuple(stack)


@dataclass(frozen=True)
class Reply:
    """One HTTP answer; `body` is the parsed JSON, or None where it was something else (nginx's HTML)."""

    status: int
    body: t.Any

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def message(self) -> str:
        error = self.body.get("error") if isinstance(self.body, dict) else None
        return str(error.get("message", "")) if isinstance(error, dict) else ""

    @property
    def stack(self) -> tuple[str, ...]:
        debug = self.body.get("debug") if isinstance(self.body, dict) else None
        lines = debug.get("stack") if isinstance(debug, dict) else None
        return tuple(str(line) for line in lines or ())


class Transport(t.Protocol):
    """Sends one request to the path below /api; raises OSError when no answer came."""

    def __call__(
        self, method: str, path: str, data: bytes | None, headers: t.Mapping[str, str], timeout: float
    ) -> tuple[int, bytes]: ...


@dataclass(frozen=True)
class Status:
    """What the health address says: whether a first administrator exists, and the version."""

    setup: bool
    version: tuple[int, int, int]

    @property
    def version_text(self) -> str:
        return ".".join(str(part) for part in self.version)


def parse_reply(status: int, content: bytes) -> Reply:
    try:
        return Reply(status, json.loads(content))
    except ValueError:
        return Reply(status, None)


def looks_unauthorised(method: str, reply: Reply) -> bool:
    """Whether an answer may mean "log in again".

    2.15.1 says 404 with the address for a missing token or right, and 500 for a token it cannot read; later
    versions say 403. A missing object is a 404 with its number instead.
    """
    if reply.status in (401, 403):
        return True
    if reply.status == 404:
        return reply.message.startswith("Not Found - /")
    return reply.status == 500 and method == "GET"


def parse_status(reply: Reply) -> Status | None:
    """The state of a started API; None while nginx answers and the API does not yet."""
    body = reply.body
    if not (reply.ok and isinstance(body, dict) and body.get("status") == "OK"):
        return None
    version = body.get("version") or {}
    numbers = (int(version.get(part) or 0) for part in ("major", "minor", "revision"))
    major, minor, revision = numbers
    # Before 2.13 there was always an administrator with a known password, and no `setup`.
    return Status(setup=bool(body.get("setup", True)), version=(major, minor, revision))


def check_version(status: Status) -> None:
    if status.version < OLDEST_VERSION:
        oldest = ".".join(str(part) for part in OLDEST_VERSION[:2])
        raise NpmError(
            f"Nginx Proxy Manager {status.version_text} is too old, its API differs too much: "
            f"set npm_image to version {oldest} or newer."
        )


def multipart(files: t.Mapping[str, str]) -> tuple[bytes, str]:
    """The body of a file upload and its content type."""
    boundary = secrets.token_hex(16)
    parts = []
    for name, text in files.items():
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.pem"\r\n'
            f"Content-Type: application/x-pem-file\r\n\r\n{text}\r\n"
        )
    parts.append(f"--{boundary}--\r\n")
    return "".join(parts).encode(), f"multipart/form-data; boundary={boundary}"


@dataclass(frozen=True)
class _Request:
    """One request; only a repeatable one is sent again when nobody knows whether it was carried out."""

    method: str
    path: str
    data: bytes | None = field(default=None, repr=False)
    content_type: str = "application/json"
    timeout: float = _TIMEOUT
    repeatable: bool = True

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def _json_request(method: str, path: str, body: Json | None) -> _Request:
    return _Request(method, path, None if body is None else json.dumps(body).encode())


class Api:
    """The API of one instance, as one account, patient with restarts."""

    def __init__(
        self,
        transport: Transport,
        *,
        url: str,
        email: str | None = None,
        password: str | None = None,
        token: str | None = None,
        wait: float = 60.0,
        sleep: t.Callable[[float], None] = time.sleep,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        # Accounts are looked up in lower case, but stored as they were given.
        self.email = email.strip().lower() if email else None
        self.token = token or None
        self.wait = wait
        self._password = password
        self._token_is_fresh = False
        self._transport = transport
        self._sleep = sleep
        self._clock = clock

    def status(self, *, patient: bool = True) -> Status:
        """Waits until the API itself answers. Not patient: one refused connection is an answer as well."""

        def started(reply: Reply) -> bool:
            return parse_status(reply) is not None

        status = parse_status(self._send_patiently(_Request("GET", "/"), done=started, patient=patient))
        if status is None:
            raise Unreachable(f"{self.url} answers, but not with the API of Nginx Proxy Manager.")
        check_version(status)
        return status

    def login(self, password: str | None = None) -> str:
        """Fetches a token; a given password is tried instead of the account's own."""
        secret = password or self._password
        if not self.email or not secret:
            raise NpmError("Nginx Proxy Manager refused the token: give email and password, or a fresh token.")
        reply = self._send_patiently(_json_request("POST", "/tokens", {"identity": self.email, "secret": secret}))
        body = reply.body if isinstance(reply.body, dict) else {}
        if reply.ok and body.get("requires_2fa"):
            raise NpmError(
                f"The account {self.email} asks for a second factor, which a module cannot give: switch it off for "
                "this account or name another administrator in npm_admin_email."
            )
        if reply.status in (400, 401, 403):
            raise WrongPassword(f"Nginx Proxy Manager refused the password of {self.email}.")
        token = body.get("token")
        if not reply.ok or not isinstance(token, str):
            raise _failed("log in", reply)
        if password is None or password == self._password:
            self.token, self._token_is_fresh = token, True
        return token

    def use(self, token: str) -> None:
        self.token, self._token_is_fresh = token, True

    def get(self, path: str) -> t.Any:
        return self._call(_Request("GET", path))

    def put(self, path: str, body: Json) -> Json:
        return t.cast(Json, self._call(_json_request("PUT", path, body)))

    def delete(self, path: str) -> None:
        """Deletes; already gone is as good."""
        try:
            self._call(_Request("DELETE", path))
        except RequestFailed as error:
            if error.status != 404:
                raise

    def post(self, path: str, body: Json | None = None, *, timeout: float = _TIMEOUT) -> t.Any:
        """Sends once; raises Interrupted, after the API is back, when its fate is unknown."""
        return self._call(replace(_json_request("POST", path, body), timeout=timeout, repeatable=False))

    def upload(self, path: str, files: t.Mapping[str, str]) -> None:
        data, content_type = multipart(files)
        self._call(_Request("POST", path, data, content_type, repeatable=False))

    def create(self, path: str, body: Json, find: t.Callable[[], Json | None]) -> Json:
        """Creates an object exactly once, even when the API dies half-way: `find` says whether it exists by now."""
        try:
            return t.cast(Json, self.post(path, body))
        except Interrupted:
            return find() or t.cast(Json, self.post(path, body))

    def _call(self, request: _Request) -> t.Any:
        if self.token is None:
            self.login()
        while True:
            reply = self._send_patiently(request)
            if looks_unauthorised(request.method, reply) and not self._token_is_fresh:
                self.login()
                continue
            break
        if not reply.ok:
            raise _failed(str(request), reply, account=self.email)
        return reply.body

    def _send_patiently(
        self, request: _Request, *, patient: bool = True, done: t.Callable[[Reply], bool] | None = None
    ) -> Reply:
        headers = {"Accept": "application/json"}
        if self.token and request.path not in ("/", "/tokens"):
            headers["Authorization"] = f"Bearer {self.token}"
        if request.data is not None:
            headers["Content-Type"] = request.content_type
        deadline = self._clock() + self.wait
        while True:
            # A refused connection alone says that the request was not carried out.
            uncertain = True
            try:
                reply = parse_reply(
                    *self._transport(request.method, request.path, request.data, headers, request.timeout)
                )
            except OSError as error:
                trouble, uncertain = str(error), not isinstance(error, ConnectionRefusedError)
                if not (uncertain or patient):
                    raise Unreachable(f"Nothing answers at {self.url} ({trouble}).") from error
            else:
                if reply.status in _GATEWAY_ERRORS:
                    trouble = f"HTTP {reply.status}: nginx answers, the API behind it does not"
                elif done is None or done(reply):
                    return reply
                else:
                    trouble = f"HTTP {reply.status} without the expected JSON"
            if uncertain and not request.repeatable:
                self._wait_until_back()
                raise Interrupted(f"Nginx Proxy Manager went away during {request} ({trouble}).")
            if self._clock() >= deadline:
                raise Unreachable(
                    f"Nginx Proxy Manager does not answer at {self.url} within {self.wait:g} s ({trouble}): "
                    "look at `docker logs npm`; below 128 MB of memory its API keeps dying."
                )
            self._sleep(1.0)

    def _wait_until_back(self) -> None:
        self._send_patiently(_Request("GET", "/"), done=lambda reply: parse_status(reply) is not None)


def _failed(what: str, reply: Reply, account: str | None = None) -> RequestFailed:
    text = reply.message or f"HTTP {reply.status}"
    if looks_unauthorised("", reply):
        text = (
            f"{text}; the account {account or 'of this token'} must be an administrator, or have the right to do this"
        )
    elif reply.status == 500 and text == "Internal Error" and not reply.stack:
        text = (
            "Internal Error, which usually means that nginx refuses its configuration since a certificate in use was "
            "deleted: `docker exec npm nginx -t` names the file below data/nginx to remove, then restart npm"
        )
    return RequestFailed(f"Nginx Proxy Manager refused to {what}: {text}.", status=reply.status, stack=reply.stack)
