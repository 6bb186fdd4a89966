"""The OpenAPI 3.1 description, made from the table of operations and the types: it cannot say what is not so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from sync_protocol.types import Problem
from sync_server import __version__
from sync_server.http.problems import TITLES
from sync_server.http.routing import Bytes, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable

_REF = "#/components/schemas/{name}"
_SCOPES = {
    "read": "see files and changes",
    "write": "change files",
    "account": "manage devices, app passwords and the account's password",
}
_TAGS = {
    "who": "Logging in, devices, app passwords",
    "changes": "What changed since when, and waiting for it",
    "contents": "Contents by their SHA-256",
    "tree": "Commits, nodes, versions, trash, conflicts",
    "files": "Whole files by path, for curl and scripts",
    "uploads": "Uploads that survive an interruption (tus 1.0.0)",
    "server": "The server itself",
}


def build(operations: Iterable[Operation]) -> dict[str, Any]:
    """The description as a document."""
    operations = tuple(operations)
    types = [*{repr(kind): kind for operation in operations for kind in _types(operation)}.values(), Problem]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sync-server",
            "version": __version__,
            "summary": "A private file-sync service.",
            "description": (
                "Times are milliseconds since 1970 (UTC). "
                "Errors are problem documents (RFC 9457) whose `type` is stable: "
                + ", ".join(f"`urn:sync:problem:{slug}` ({status})" for slug, (status, _) in TITLES.items())
                + ". GET answers HEAD too."
            ),
            "license": {"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token of /auth/login. "
                    + "; ".join(f"`{name}`: {text}" for name, text in _SCOPES.items()),
                },
                "app_password": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The account's name and an app password (POST /app-passwords).",
                },
            },
        },
    }


def encode(operations: Iterable[Operation]) -> bytes:
    """The description as JSON."""
    return msgspec.json.format(msgspec.json.encode(build(operations)), indent=1)


def _types(operation: Operation) -> Iterable[Any]:
    for kind in (operation.query, operation.body, *operation.words, *(header.kind for header in operation.headers)):
        if kind is not None and not isinstance(kind, Bytes):
            yield kind
    for kind in operation.answers.values():
        for one in kind if isinstance(kind, tuple) else (kind,):
            if one is not None and not isinstance(one, Bytes):
                yield one


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    summary, _, description = operation.summary.partition("\n\n")
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": " ".join(summary.split()).removesuffix("."),
        "parameters": _parameters(operation, schemas),
        "responses": _answers(operation, schemas),
        "security": [{"token": []}, {"app_password": []}] if operation.scope else [],
    }
    notes = [" ".join(paragraph.split()) for paragraph in description.split("\n\n") if paragraph.strip()]
    if operation.scope:
        notes.append(f"Needs the scope `{operation.scope}`.")
    if notes:
        described["description"] = "\n\n".join(notes)
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body, schemas)}
    if not described["parameters"]:
        del described["parameters"]
    return described


def _parameters(operation: Operation, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, kind in zip(re.findall(r"{(\w+)}", operation.path), operation.words, strict=True):
        found.append({"name": name, "in": "path", "required": True, "schema": schemas[repr(kind)]})
    if operation.query is not None:
        for field in msgspec.structs.fields(operation.query):
            schema = dict(msgspec.json.schema_components([field.type], ref_template=_REF)[0][0])
            if field.default is not msgspec.NODEFAULT and field.default is not None:
                schema["default"] = field.default
            # In a query there is no null: a parameter is there or not.
            options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
            if len(options) == 1:
                schema = {**{key: value for key, value in schema.items() if key != "anyOf"}, **options[0]}
            if isinstance(schema.get("type"), list):
                schema["type"] = next(item for item in schema["type"] if item != "null")
            required = field.default is msgspec.NODEFAULT
            found.append({"name": field.encode_name, "in": "query", "required": required, "schema": schema})
    for header in operation.headers:
        found.append(
            {
                "name": header.name,
                "in": "header",
                "required": header.required,
                "description": header.description,
                "schema": schemas[repr(header.kind)],
            }
        )
    return found


def _content(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for one in kind if isinstance(kind, tuple) else (kind,):
        if isinstance(one, Bytes):
            content[one.media] = {} if not one.media.startswith("text/") else {"schema": {"type": "string"}}
        else:
            content["application/json"] = {"schema": schemas[repr(one)]}
    return content


def _answers(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, kind in sorted(operation.answers.items()):
        text = {200: "Done.", 201: "Made.", 204: "Done; nothing to say.", 206: "Part of it.", 304: "Not changed."}
        description = text.get(status, "See the body.")
        if isinstance(kind, Bytes) and kind.description:
            description = kind.description
        answers[str(status)] = {"description": description}
        if kind is not None:
            answers[str(status)]["content"] = _content(kind, schemas)
    for status in sorted(operation.problems):
        if str(status) in answers:
            continue
        titles = [title for of, title in TITLES.values() if of == status]
        answers[str(status)] = {
            "description": " / ".join(titles) + ".",
            "content": {"application/problem+json": {"schema": schemas[repr(Problem)]}},
        }
    return answers
