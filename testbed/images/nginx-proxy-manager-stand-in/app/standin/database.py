"""The SQLite file: tables with upstream's names and columns, rows as the API shows them, and expanding of relations."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Graph = dict[str, "Graph"]

_KEY = "integer not null primary key autoincrement"
_TIME = "datetime not null"
_NUMBER = "integer not null"
_FLAG = "integer not null default 0"
_TEXT = "varchar(255) not null"
_JSON = "json not null"
_SSL = {"certificate_id": _FLAG, "ssl_forced": _FLAG}
_WEB_FLAGS = ("is_deleted", "ssl_forced", "http2_support", "enabled", "hsts_enabled", "hsts_subdomains")
_HSTS = {"hsts_enabled": _FLAG, "hsts_subdomains": _FLAG}


@dataclass(frozen=True)
class Relation:
    table: str
    mine: str
    theirs: str
    many: bool = False


@dataclass(frozen=True)
class Table:
    columns: dict[str, str]
    flags: frozenset[str] = frozenset()
    documents: frozenset[str] = frozenset()
    relations: dict[str, Relation] = field(default_factory=dict)

    @property
    def soft_delete(self) -> bool:
        return "is_deleted" in self.columns


_OWNER = Relation("user", "owner_user_id", "id")
_CERTIFICATE = Relation("certificate", "certificate_id", "id")

TABLES: dict[str, Table] = {
    "auth": Table(
        {"user_id": _NUMBER, "type": "varchar(30) not null", "secret": _TEXT, "meta": _JSON, "is_deleted": _FLAG},
        documents=frozenset({"meta"}),
    ),
    "user": Table(
        {
            "is_deleted": _FLAG,
            "is_disabled": _FLAG,
            "email": _TEXT,
            "name": _TEXT,
            "nickname": _TEXT,
            "avatar": _TEXT,
            "roles": _JSON,
        },
        flags=frozenset({"is_deleted", "is_disabled"}),
        documents=frozenset({"roles"}),
        relations={"permissions": Relation("user_permission", "id", "user_id")},
    ),
    "user_permission": Table(
        {
            "user_id": _NUMBER + " unique",
            "visibility": _TEXT,
            "proxy_hosts": _TEXT,
            "redirection_hosts": _TEXT,
            "dead_hosts": _TEXT,
            "streams": _TEXT,
            "access_lists": _TEXT,
            "certificates": _TEXT,
        },
    ),
    "proxy_host": Table(
        {
            "owner_user_id": _NUMBER,
            "is_deleted": _FLAG,
            "domain_names": _JSON,
            "forward_host": _TEXT,
            "forward_port": _NUMBER,
            "access_list_id": _FLAG,
            **_SSL,
            "caching_enabled": _FLAG,
            "block_exploits": _FLAG,
            "advanced_config": "text not null default ''",
            "meta": _JSON,
            "allow_websocket_upgrade": _FLAG,
            "http2_support": _FLAG,
            "forward_scheme": "varchar(255) not null default 'http'",
            "enabled": "integer not null default 1",
            "locations": "json",
            **_HSTS,
            "trust_forwarded_proto": _FLAG,
        },
        flags=frozenset(
            [
                *_WEB_FLAGS,
                "caching_enabled",
                "block_exploits",
                "allow_websocket_upgrade",
                "trust_forwarded_proto",
            ]
        ),
        documents=frozenset({"domain_names", "meta", "locations"}),
        relations={
            "owner": _OWNER,
            "certificate": _CERTIFICATE,
            "access_list": Relation("access_list", "access_list_id", "id"),
        },
    ),
    "redirection_host": Table(
        {
            "owner_user_id": _NUMBER,
            "is_deleted": _FLAG,
            "domain_names": _JSON,
            "forward_domain_name": _TEXT,
            "preserve_path": _FLAG,
            **_SSL,
            "block_exploits": _FLAG,
            "advanced_config": "text not null default ''",
            "meta": _JSON,
            "http2_support": _FLAG,
            "enabled": "integer not null default 1",
            **_HSTS,
            "forward_scheme": "varchar(255) not null default '$scheme'",
            "forward_http_code": "integer not null default 302",
        },
        flags=frozenset([*_WEB_FLAGS, "preserve_path", "block_exploits"]),
        documents=frozenset({"domain_names", "meta"}),
        relations={"owner": _OWNER, "certificate": _CERTIFICATE},
    ),
    "dead_host": Table(
        {
            "owner_user_id": _NUMBER,
            "is_deleted": _FLAG,
            "domain_names": _JSON,
            **_SSL,
            "advanced_config": "text not null default ''",
            "meta": _JSON,
            "http2_support": _FLAG,
            "enabled": "integer not null default 1",
            **_HSTS,
        },
        flags=frozenset(_WEB_FLAGS),
        documents=frozenset({"domain_names", "meta"}),
        relations={"owner": _OWNER, "certificate": _CERTIFICATE},
    ),
    "stream": Table(
        {
            "owner_user_id": _NUMBER,
            "is_deleted": _FLAG,
            "incoming_port": _NUMBER,
            "forwarding_host": _TEXT,
            "forwarding_port": _NUMBER,
            "tcp_forwarding": _FLAG,
            "udp_forwarding": _FLAG,
            "meta": _JSON,
            "enabled": "integer not null default 1",
            "certificate_id": _FLAG,
        },
        flags=frozenset({"is_deleted", "enabled", "tcp_forwarding", "udp_forwarding"}),
        documents=frozenset({"meta"}),
        relations={"owner": _OWNER, "certificate": _CERTIFICATE},
    ),
    "access_list": Table(
        {
            "owner_user_id": _NUMBER,
            "is_deleted": _FLAG,
            "name": _TEXT,
            "meta": _JSON,
            "satisfy_any": _FLAG,
            "pass_auth": "integer not null default 1",
        },
        flags=frozenset({"is_deleted", "satisfy_any", "pass_auth"}),
        documents=frozenset({"meta"}),
        relations={
            "owner": _OWNER,
            "items": Relation("access_list_auth", "id", "access_list_id", many=True),
            "clients": Relation("access_list_client", "id", "access_list_id", many=True),
            "proxy_hosts": Relation("proxy_host", "id", "access_list_id", many=True),
        },
    ),
    "access_list_auth": Table(
        {"access_list_id": _NUMBER, "username": _TEXT, "password": _TEXT, "meta": _JSON},
        documents=frozenset({"meta"}),
    ),
    "access_list_client": Table(
        {"access_list_id": _NUMBER, "address": _TEXT, "directive": _TEXT, "meta": _JSON},
        documents=frozenset({"meta"}),
    ),
    "certificate": Table(
        {
            "owner_user_id": _NUMBER,
            "is_deleted": _FLAG,
            "provider": _TEXT,
            "nice_name": "varchar(255) not null default ''",
            "domain_names": _JSON,
            "expires_on": _TIME,
            "meta": _JSON,
        },
        flags=frozenset({"is_deleted"}),
        documents=frozenset({"domain_names", "meta"}),
        relations={
            "owner": _OWNER,
            "proxy_hosts": Relation("proxy_host", "id", "certificate_id", many=True),
            "redirection_hosts": Relation("redirection_host", "id", "certificate_id", many=True),
            "dead_hosts": Relation("dead_host", "id", "certificate_id", many=True),
            "streams": Relation("stream", "id", "certificate_id", many=True),
        },
    ),
    "audit_log": Table(
        {
            "user_id": _NUMBER,
            "object_type": "varchar(255) not null default ''",
            "object_id": _FLAG,
            "action": _TEXT,
            "meta": _JSON,
        },
        documents=frozenset({"meta"}),
        relations={"user": Relation("user", "user_id", "id")},
    ),
}

_SETTING = "create table if not exists setting (id varchar(255) primary key, name, description, value, meta json)"


class UnknownRelation(Exception):
    """The client asked to expand something that is no relation: upstream answers 500."""


def parse_graph(expand: list[str]) -> Graph:
    """Read relation expressions such as `owner` or `access_list.[clients,items]` into nested dictionaries."""
    tokens = re.findall(r"[^\[\],.\s]+|[\[\],.]", ",".join(expand))
    graph, rest = _parse_list(tokens)
    if rest:
        raise UnknownRelation(",".join(expand))
    return graph


def _parse_list(tokens: list[str]) -> tuple[Graph, list[str]]:
    graph: Graph = {}
    while tokens and tokens[0] != "]":
        if tokens[0] in "[,.":
            raise UnknownRelation(tokens[0])
        name, tokens = tokens[0], tokens[1:]
        graph[name] = {}
        if tokens[:2] == [".", "["]:
            graph[name], tokens = _parse_list(tokens[2:])
            tokens = tokens[1:]
        elif tokens[:1] == ["."]:
            graph[name], tokens = {tokens[1]: {}}, tokens[2:]
        if tokens[:1] == [","]:
            tokens = tokens[1:]
    return graph, tokens


def now() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")


class Database:
    """One connection, one lock around each statement: requests run in threads, statements take microseconds."""

    def __init__(self, path: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        self._connection.row_factory = sqlite3.Row
        for name, table in TABLES.items():
            columns = {"id": _KEY, "created_on": _TIME, "modified_on": _TIME} | table.columns
            definition = ", ".join(f"{column} {kind}" for column, kind in columns.items())
            self.run(f"create table if not exists {name} ({definition})")
        self.run(_SETTING)

    def run(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def insert(self, table: str, values: Row) -> int:
        row = {"created_on": now(), "modified_on": now()} | values
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        with self._lock:
            statement = f"insert into {table} ({names}) values ({marks})"
            cursor = self._connection.execute(statement, [*_to_sql(table, row).values()])
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def patch(self, table: str, row_id: int, values: Row) -> None:
        row = _to_sql(table, values | {"modified_on": now()})
        self.run(
            f"update {table} set {', '.join(f'{name} = ?' for name in row)} where id = ?",
            *row.values(),
            row_id,
        )

    def rows(self, table: str, where: str = "1 = 1", *values: Any, order: str = "id") -> list[Row]:
        """All rows that match and are not deleted."""
        alive = "is_deleted = 0" if TABLES[table].soft_delete else "1 = 1"
        found = self.run(f"select * from {table} where {alive} and {where} order by {order}", *values)
        return [_from_sql(table, row) for row in found]

    def first(self, table: str, where: str, *values: Any) -> Row | None:
        rows = self.rows(table, where, *values)
        return rows[0] if rows else None

    def count(self, table: str, where: str = "1 = 1", *values: Any) -> int:
        return int(self.run(f"select count(id) from {table} where is_deleted = 0 and {where}", *values)[0][0])

    def expand(self, table: str, rows: list[Row], graph: Graph, allowed: Graph | None = None) -> None:
        """Add the related rows named by `graph` to each row; refuse relations outside `allowed`."""
        for name, deeper in graph.items():
            if name not in TABLES[table].relations or (allowed is not None and name not in allowed):
                raise UnknownRelation(name)
            relation = TABLES[table].relations[name]
            for row in rows:
                related = self.rows(relation.table, f"{relation.theirs} = ?", row[relation.mine])
                self.expand(relation.table, related, deeper, allowed[name] if allowed is not None else None)
                row[name] = related if relation.many else (related[0] if related else None)


def _to_sql(table: str, row: Row) -> Row:
    shape = TABLES[table]
    converted: Row = {}
    for name, value in row.items():
        if name in shape.documents and value is not None:
            value = json.dumps(value, separators=(",", ":"))
        elif name in shape.flags:
            value = int(bool(value))
        converted[name] = value
    return converted


def _from_sql(table: str, found: sqlite3.Row) -> Row:
    shape = TABLES[table]
    row: Row = {}
    for name in found.keys():  # noqa: SIM118  (iterating over a sqlite3.Row gives its values)
        value = found[name]
        if name in shape.documents and value is not None:
            value = json.loads(value)
        elif name in shape.flags:
            value = value == 1
        row[name] = value
    return row
