"""The accounts' tables are in the store's database; this is the way to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")


class Rows(Protocol):
    """What a statement gives."""

    @property
    def lastrowid(self) -> int | None: ...
    def fetchone(self) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    """As much of `sqlite3.Connection` as the accounts use."""

    def execute(self, sql: str, parameters: tuple[Any, ...] = ..., /) -> Rows: ...
    def executemany(self, sql: str, parameters: Iterable[tuple[Any, ...]], /) -> object: ...


class AccountStore(Protocol):
    """As much of the store."""

    def sql(self, sql: str, params: tuple[Any, ...] = ...) -> list[Any]: ...
    async def sql_write(self, work: Callable[[Any], T]) -> T: ...


class _Found:
    lastrowid = None

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def fetchone(self) -> Any:
        return self._rows[0] if self._rows else None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)


class Reads:
    """Point reads on the event loop, in the shape of a connection."""

    def __init__(self, store: AccountStore) -> None:
        self._store = store

    def execute(self, sql: str, parameters: tuple[Any, ...] = (), /) -> Rows:
        return _Found(self._store.sql(sql, parameters))

    def executemany(self, sql: str, parameters: Iterable[tuple[Any, ...]], /) -> object:
        raise TypeError("reads only")
