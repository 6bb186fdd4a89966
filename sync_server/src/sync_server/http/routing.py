"""Which function answers which address, and what it promises; the OpenAPI description is made from the same table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from sync_server.http.call import Call, decode_path
from sync_server.http.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.types import ASGIApp

    Handler = Callable[[Call], Awaitable[ASGIApp]]


@dataclass(frozen=True, slots=True)
class Bytes:
    """A body that is no JSON."""

    media: str = "application/octet-stream"
    description: str = ""


# A list of several is taken too; a pattern for it helps nobody.
Tags = Annotated[str, Meta(pattern=r'^(\*|"[0-9A-Za-z_-]{1,80}")$', examples=['"5891b5b5"'])]
Star = Annotated[str, Meta(pattern=r"^\*$")]


@dataclass(frozen=True, slots=True)
class Header:
    """A header of the request that changes what is done."""

    name: str
    description: str
    kind: Any = str
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one address. `path` has {words}; one that ends in {path} takes all that follows, slashes too."""

    method: str
    path: str
    handler: Handler
    tag: str
    name: str
    summary: str
    scope: str | None
    words: tuple[Any, ...] = ()
    query: type | None = None
    headers: tuple[Header, ...] = ()
    body: Any = None
    answers: dict[int, Any]
    problems: frozenset[int]


class Routes:
    """The operations of one part of the interface."""

    def __init__(self, tag: str, prefix: str = "/api/v1") -> None:
        self.tag = tag
        self.prefix = prefix
        self.operations: list[Operation] = []

    def __call__(
        self,
        method: str,
        path: str,
        *,
        scope: str | None,
        answers: dict[int, Any],
        problems: Iterable[int] = (),
        words: tuple[Any, ...] = (),
        query: type | None = None,
        headers: tuple[Header, ...] = (),
        body: Any = None,
    ) -> Callable[[Handler], Handler]:
        """Declare the decorated function as what answers; its docstring's first line is the summary."""

        def declare(handler: Handler) -> Handler:
            expected = set(problems) | {429}
            if scope is not None:
                expected |= {401, 403}
            if query is not None:
                expected |= {400, 422}
            if body is not None:
                expected |= {400, 408, 413, 415, 422}
            if "{" in path:
                expected |= {400, 404}
            if scope == "write":
                expected |= {503, 507}
            self.operations.append(
                Operation(
                    method=method,
                    path=self.prefix + path,
                    handler=handler,
                    tag=self.tag,
                    name=handler.__name__,
                    summary=(handler.__doc__ or "").strip(),
                    scope=scope,
                    words=words,
                    query=query,
                    headers=headers,
                    body=body,
                    answers=answers,
                    problems=frozenset(expected),
                )
            )
            return handler

        return declare


# Where the one variable word of a path stands: /api/v1/nodes/{node}/versions.
_VARIABLE = 4


class Table:
    """Finds the operation of a request with two looks into dictionaries."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._fixed: dict[str, dict[str, Operation]] = {}
        self._variable: dict[str, dict[str, Operation]] = {}
        self._rest: dict[str, dict[str, Operation]] = {}
        for operation in operations:
            path = operation.path
            table = self._fixed
            if path.endswith("/{path}"):
                table, path = self._rest, path.removesuffix("{path}")
            elif "{" in path:
                words = path.split("/")
                assert [index for index, word in enumerate(words) if "{" in word] == [_VARIABLE], path
                words[_VARIABLE] = "{}"
                table, path = self._variable, "/".join(words)
            table.setdefault(path, {})[operation.method] = operation

    def find(self, method: str, raw_path: bytes) -> tuple[Operation, tuple[str, ...]]:
        """The operation and the variable words; raises ProblemError 404 or 405."""
        methods, words = self._methods(raw_path)
        operation = methods.get(method)
        if operation is None and method == "HEAD":
            operation = methods.get("GET")
        if operation is None:
            allowed = sorted({*methods, "HEAD"} if "GET" in methods else methods)
            raise ProblemError(
                "method-not-allowed", f"this address knows {', '.join(allowed)}", {"allow": ", ".join(allowed)}
            )
        return operation, words

    def _methods(self, raw_path: bytes) -> tuple[dict[str, Operation], tuple[str, ...]]:
        path = raw_path.decode("latin-1")
        if (fixed := self._fixed.get(path)) is not None:
            return fixed, ()
        for prefix, methods in self._rest.items():
            if path.startswith(prefix):
                return methods, (decode_path(raw_path[len(prefix) :]),)
        words = path.split("/")
        if len(words) > _VARIABLE:
            word, words[_VARIABLE] = words[_VARIABLE], "{}"
            if (variable := self._variable.get("/".join(words))) is not None:
                return variable, (decode_path(word.encode("latin-1")),)
        raise ProblemError("not-found", "there is nothing at this address")
