"""Which request does what: one line per operation of the API."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import VERSION, hosts
from .access import Access
from .access_lists import AccessLists
from .audit_log import AuditLog
from .certificates import Certificates
from .database import Database, Graph, UnknownRelation, parse_graph
from .errors import ApiError, internal, invalid, not_found
from .json_schema import validate
from .settings import Settings
from .tokens import Keys
from .users import Users

_UPLOAD_MISSING = {"error": "No files were uploaded"}


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    # None when nothing was sent, as in upstream's body parser.
    body: Any = None
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    status: int
    # bytes go out as they are, None is an empty body, anything else is JSON.
    body: Any
    file_name: str | None = None


@dataclass(frozen=True)
class Call:
    """A request that found its route."""

    request: Request
    access: Access
    arguments: dict[str, str]

    @property
    def expand(self) -> Graph:
        wanted = self.request.query.get("expand")
        if wanted is None:
            return {}
        try:
            return parse_graph(wanted.split(","))
        except UnknownRelation as error:
            raise internal(str(error)) from None

    @property
    def search(self) -> str | None:
        wanted = self.request.query.get("query")
        if wanted is not None and not 1 <= len(wanted) <= 255:
            raise internal("data/query must NOT have fewer than 1 characters", status=400)
        return wanted

    @property
    def id(self) -> int:
        """The number in the path: 0 when it is none, which then is not found."""
        (text,) = self.arguments.values()
        if text == "me" and "userID" in self.arguments:
            return self.access.user_id
        digits = re.match(r"\d+", text)
        return int(digits[0]) if digits else 0


Action = Callable[[Call], Any]


class Api:
    def __init__(self, database: Database, keys: Keys, schema_file: Path) -> None:
        self._database = database
        self._keys = keys
        self._schema_file = schema_file
        description = json.loads(schema_file.read_text(encoding="utf-8"))
        self._bodies = {
            (method, path): operation["requestBody"]["content"]["application/json"]["schema"]
            for path, operations in description["paths"].items()
            for method, operation in operations.items()
            if "application/json" in operation.get("requestBody", {}).get("content", {})
        }
        self._audit_log = AuditLog(database)
        self.users = Users(database, keys, self._audit_log)
        self._settings = Settings(database)
        self.certificates = Certificates(database, self._audit_log)
        self._access_lists = AccessLists(database, self._audit_log)
        self._hosts = {
            "proxy": self._host_kind(hosts.PROXY),
            "redirection": self._host_kind(hosts.REDIRECTION),
            "stream": self._host_kind(hosts.STREAM),
            "dead": self._host_kind(hosts.DEAD),
        }
        self._routes = [
            (re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), path, actions)
            for path, actions in self._table().items()
        ]

    def _host_kind(self, kind: hosts.Kind) -> hosts.Hosts:
        return hosts.Hosts(kind, self._database, self._audit_log, self.certificates)

    def answer(self, request: Request) -> Answer:
        for pattern, path, actions in self._routes:
            match = pattern.fullmatch(request.path)
            if not match:
                continue
            if request.method == "OPTIONS":
                return Answer(204, None)
            # Where a token is of no use it is not looked at; everywhere else a bad one is an error even
            # on routes that need none.
            token = None if (request.method, path) in _NO_TOKEN else request.token
            access = Access(self._database, self._keys, token)
            action = actions.get(request.method.lower())
            if action is None:
                break
            if request.method in ("POST", "PUT") and (request.method.lower(), path) in self._bodies:
                self._prepare_body(request, path)
            try:
                result = action(Call(request, access, match.groupdict()))
            except UnknownRelation as error:
                raise internal(str(error)) from None
            return result if isinstance(result, Answer) else Answer(200, result)
        raise not_found(request.path)

    def _prepare_body(self, request: Request, path: str) -> None:
        if path == "/users" and not self.users.exist:
            if not isinstance(request.body, dict):
                raise internal("Cannot set properties of undefined")
            # Whoever comes first becomes the administrator, token or not.
            roles = request.body.get("roles")
            request.body["roles"] = roles if isinstance(roles, list) else []
            request.body["is_disabled"] = False
            if "admin" not in request.body["roles"]:
                request.body["roles"].append("admin")
        if request.body is None:
            raise invalid("Payload is undefined")
        request.body = validate(self._bodies[request.method.lower(), path], request.body)

    def _table(self) -> dict[str, dict[str, Action]]:
        table: dict[str, dict[str, Action]] = {
            "/": {"get": self._health},
            "/schema": {"get": lambda _: json.loads(self._schema_file.read_text(encoding="utf-8"))},
            "/version/check": {"get": lambda _: {"current": None, "latest": None, "update_available": False}},
            "/tokens": {
                "get": lambda c: self.users.refresh(c.access, c.request.query.get("expiry")),
                "post": lambda c: self.users.log_in(c.request.body["identity"], c.request.body["secret"]),
            },
            "/users": {
                "get": lambda c: self.users.find(c.access, c.expand, c.search),
                "post": self._create_user,
            },
            "/users/{userID}": {
                "get": lambda c: self.users.get(c.access, c.id, c.expand),
                "put": lambda c: self.users.update(c.access, c.id, c.request.body),
                "delete": lambda c: self.users.delete(c.access, c.id),
            },
            "/users/{userID}/auth": {"put": lambda c: self.users.set_password(c.access, c.id, c.request.body)},
            "/users/{userID}/permissions": {
                "put": lambda c: self.users.set_permissions(c.access, c.id, c.request.body)
            },
            "/users/{userID}/login": {"post": lambda c: self.users.log_in_as(c.access, c.id)},
            "/audit-log": {"get": lambda c: self._audit_log.find(c.access, c.expand, c.search)},
            "/audit-log/{id}": {"get": lambda c: self._audit_log.get(c.access, c.id, c.expand)},
            "/reports/hosts": {"get": self._report},
            "/settings": {"get": lambda c: self._settings.find(c.access)},
            "/settings/{settingID}": {
                "get": lambda c: self._settings.get(c.access, c.arguments["settingID"]),
                "put": lambda c: self._settings.update(c.access, c.arguments["settingID"], c.request.body),
            },
            "/nginx/access-lists": self._collection(self._access_lists),
            "/nginx/access-lists/{listID}": self._member(self._access_lists),
            "/nginx/certificates": self._collection(self.certificates),
            "/nginx/certificates/dns-providers": {"get": _dns_providers},
            "/nginx/certificates/test-http": {"post": self._test_http},
            "/nginx/certificates/validate": {"post": self._validate_certificate},
            "/nginx/certificates/{certID}": {
                "get": lambda c: self.certificates.get(c.access, c.id, c.expand),
                "delete": lambda c: self.certificates.delete(c.access, c.id),
            },
            "/nginx/certificates/{certID}/upload": {"post": self._upload_certificate},
            "/nginx/certificates/{certID}/renew": {"post": lambda c: self.certificates.renew(c.access, c.id)},
            "/nginx/certificates/{certID}/download": {"get": self._download_certificate},
        }
        for name, kind in self._hosts.items():
            base = "/nginx/streams" if name == "stream" else f"/nginx/{name}-hosts"
            member = f"{base}/{{streamID}}" if name == "stream" else f"{base}/{{hostID}}"
            table |= {base: self._collection(kind), member: self._member(kind), **self._switch(member, kind)}
        return table

    @staticmethod
    def _switch(member: str, kind: hosts.Hosts) -> dict[str, dict[str, Action]]:
        return {
            f"{member}/enable": {"post": lambda c: kind.enable(c.access, c.id)},
            f"{member}/disable": {"post": lambda c: kind.disable(c.access, c.id)},
        }

    @staticmethod
    def _collection(things: hosts.Hosts | AccessLists | Certificates) -> dict[str, Action]:
        return {
            "get": lambda c: things.find(c.access, c.expand, c.search),
            "post": lambda c: Answer(201, things.create(c.access, c.request.body)),
        }

    @staticmethod
    def _member(things: hosts.Hosts | AccessLists) -> dict[str, Action]:
        return {
            "get": lambda c: things.get(c.access, c.id, c.expand),
            "put": lambda c: things.update(c.access, c.id, c.request.body),
            "delete": lambda c: things.delete(c.access, c.id),
        }

    def _health(self, _: Call) -> dict[str, Any]:
        version = dict(zip(("major", "minor", "revision"), VERSION, strict=True))
        return {"status": "OK", "setup": self.users.exist, "version": version}

    def _create_user(self, call: Call) -> Answer:
        access = call.access if self.users.exist else self.internal_access()
        return Answer(201, self.users.create(access, call.request.body))

    def _report(self, call: Call) -> dict[str, int]:
        call.access.require("reports:hosts")
        return {name: kind.count(call.access) for name, kind in self._hosts.items()}

    def _test_http(self, call: Call) -> dict[str, str]:
        # Upstream asks a web service; a test bed stays offline, which upstream reports as a failure.
        call.access.require("certificates:list")
        return dict.fromkeys(call.request.body["domains"], "failed")

    def _validate_certificate(self, call: Call) -> Any:
        if not call.request.files:
            return Answer(400, _UPLOAD_MISSING)
        return self.certificates.validate(call.request.files)

    def _upload_certificate(self, call: Call) -> Any:
        if not call.request.files:
            return Answer(400, _UPLOAD_MISSING)
        return self.certificates.upload(call.access, call.id, call.request.files)

    def _download_certificate(self, call: Call) -> Answer:
        name, content = self.certificates.download(call.access, call.id)
        return Answer(200, content, name)

    def internal_access(self) -> Access:
        """The software acting by itself."""
        return Access(self._database, self._keys, None, internal=True)


_NO_TOKEN = {("GET", "/"), ("GET", "/schema"), ("GET", "/version/check"), ("POST", "/tokens")}


def _dns_providers(call: Call) -> list[dict[str, str]]:
    if not call.access.user_id:
        raise ApiError(403, "Permission Denied")
    return [
        {
            "id": "acmedns",
            "name": "ACME-DNS",
            "credentials": "dns_acmedns_api_url = http://acmedns-server/\n"
            "dns_acmedns_registration_file = /data/acme-registration.json",
        },
        {
            "id": "active24",
            "name": "Active24",
            "credentials": "dns_active24_api_key = <identifier>\ndns_active24_secret = <secret>",
        },
    ]
