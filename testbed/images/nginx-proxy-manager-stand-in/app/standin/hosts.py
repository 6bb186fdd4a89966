"""Proxy, redirection and dead (404) hosts, and streams: one life cycle, few differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import nginx
from .access import Access
from .audit_log import AuditLog
from .database import Database, Graph, Row
from .errors import invalid, not_found

if TYPE_CHECKING:
    from .certificates import Certificates

_WEB_TABLES = ("proxy_host", "redirection_host", "dead_host")


@dataclass(frozen=True)
class Kind:
    """What differs between the four."""

    table: str
    permission: str
    noun: str
    order: str
    relations: Graph
    # What an answer leaves out of an expanded relation. The rest, `is_deleted` and all, upstream lets through.
    omit: tuple[tuple[str, str], ...] = ()


_PLAIN: Graph = {"owner": {}, "certificate": {}}
_WITH_LIST: Graph = {**_PLAIN, "access_list": {"clients": {}, "items": {}}}

PROXY = Kind("proxy_host", "proxy_hosts", "Host", "domain_names", _WITH_LIST, (("owner", "is_deleted"),))
REDIRECTION = Kind("redirection_host", "redirection_hosts", "Host", "domain_names", _PLAIN)
DEAD = Kind("dead_host", "dead_hosts", "Host", "domain_names", _PLAIN)
STREAM = Kind(
    "stream",
    "streams",
    "Stream",
    "incoming_port",
    _PLAIN,
    (("owner", "is_deleted"), ("certificate", "is_deleted")),
)


def with_any_name(database: Database, names: list[str]) -> list[tuple[str, Row]]:
    """Every web host that has one of the names, with its table; case does not matter."""
    wanted = {name.lower() for name in names}
    return [
        (table, row)
        for table in _WEB_TABLES
        for row in database.rows(table)
        if wanted & {name.lower() for name in row["domain_names"]}
    ]


class Hosts:
    def __init__(self, kind: Kind, database: Database, audit_log: AuditLog, certificates: Certificates) -> None:
        self._kind = kind
        self._database = database
        self._audit_log = audit_log
        self._certificates = certificates

    def find(self, access: Access, expand: Graph, query: str | None) -> list[Row]:
        access.require(f"{self._kind.permission}:list")
        where, values = self._visible(access)
        if query:
            where, values = f"{where} and {self._kind.order} like ?", [*values, f"%{query}%"]
        rows = self._database.rows(self._kind.table, where, *values, order=self._kind.order)
        self._database.expand(self._kind.table, rows, expand, self._kind.relations)
        return [self._present(row) for row in rows]

    def get(self, access: Access, host_id: int, expand: Graph) -> Row:
        return self._present(self._fetch(access, host_id, expand))

    def count(self, access: Access) -> int:
        where, values = self._visible(access)
        return self._database.count(self._kind.table, where, *values)

    def create(self, access: Access, data: Row) -> Row:
        new_certificate = _takes_new_certificate(data)
        access.require(f"{self._kind.permission}:create")
        names = data.get("domain_names", [])
        self._refuse_taken(names)
        meta = data.get("meta", {})
        row = {"meta": {}, **self._consistent(data), "owner_user_id": access.owner_id}
        if self._kind is STREAM:
            row.pop("domain_names", None)
        host_id = self._database.insert(self._kind.table, row)
        if new_certificate:
            # A failure leaves the host behind, stored but not served.
            certificate = self._certificates.request(access, names, meta)
            self.update(access, host_id, {"certificate_id": certificate["id"]})
        host = self._fetch(access, host_id, self._kind.relations)
        nginx.configure(self._database, self._kind.table, host)
        self._log(access, "created", host_id, {**data, "meta": host["meta"]})
        return self._present(host)

    def update(self, access: Access, host_id: int, data: Row) -> Row:
        new_certificate = _takes_new_certificate(data)
        access.require(f"{self._kind.permission}:update", host_id)
        self._refuse_taken(data.get("domain_names", []), but=host_id)
        row = self._fetch(access, host_id)
        if new_certificate:
            names: list[str] = data["domain_names"] if "domain_names" in data else row.get("domain_names", [])
            meta = {**row["meta"], **data.get("meta", {})}
            data["certificate_id"] = self._certificates.request(access, names, meta)["id"]
        change = self._consistent(data, row)
        if self._kind is STREAM:
            change.pop("domain_names", None)
        self._database.patch(self._kind.table, host_id, change)
        self._log(access, "updated", host_id, {"domain_names": row.get("domain_names"), **data})
        host = self._fetch(access, host_id, self._kind.relations)
        if self._kind is PROXY and not host["enabled"]:
            # Its old file stays, and goes on being served.
            return self._present(host)
        host["meta"] = nginx.configure(self._database, self._kind.table, host)
        return self._present(host)

    def delete(self, access: Access, host_id: int) -> bool:
        access.require(f"{self._kind.permission}:delete", host_id)
        row = self._fetch(access, host_id)
        self._database.patch(self._kind.table, host_id, {"is_deleted": True})
        nginx.remove(self._kind.table, host_id)
        self._log(access, "deleted", host_id, self._present(row))
        return True

    def enable(self, access: Access, host_id: int) -> bool:
        access.require(f"{self._kind.permission}:update", host_id)
        # One level only: an access list comes without its users and addresses, so the host opens to everybody.
        row = self._fetch(access, host_id, {name: {} for name in self._kind.relations})
        if row["enabled"]:
            raise invalid(f"{self._kind.noun} is already enabled")
        row["enabled"] = True
        self._database.patch(self._kind.table, host_id, {"enabled": True})
        nginx.configure(self._database, self._kind.table, row)
        self._log(access, "enabled", host_id, self._present(row))
        return True

    def disable(self, access: Access, host_id: int) -> bool:
        access.require(f"{self._kind.permission}:update", host_id)
        row = self._fetch(access, host_id)
        if not row["enabled"]:
            raise invalid(f"{self._kind.noun} is already disabled")
        self._database.patch(self._kind.table, host_id, {"enabled": False})
        nginx.remove(self._kind.table, host_id)
        self._log(access, "disabled", host_id, self._present(row))
        return True

    def _visible(self, access: Access) -> tuple[str, list[object]]:
        return ("1 = 1", []) if access.sees_all else ("owner_user_id = ?", [access.owner_id])

    def _fetch(self, access: Access, host_id: int, expand: Graph | None = None) -> Row:
        access.require(f"{self._kind.permission}:get", host_id)
        where, values = self._visible(access)
        row = self._database.first(self._kind.table, f"id = ? and {where}", host_id, *values)
        if row is None:
            raise not_found(host_id)
        self._database.expand(self._kind.table, [row], expand or {}, self._kind.relations)
        if row.get("certificate"):
            row["certificate"]["meta"] = {}
        return row

    def _present(self, row: Row) -> Row:
        for relation, column in self._kind.omit:
            if row.get(relation):
                row[relation].pop(column, None)
        if row.get("certificate"):
            row["certificate"]["meta"] = {}
        return {name: value for name, value in row.items() if name != "is_deleted"}

    def _refuse_taken(self, names: list[str], but: int = 0) -> None:
        for name in names:
            for table, row in with_any_name(self._database, [name]):
                if (table, row["id"]) != (self._kind.table, but):
                    raise invalid(f"{name} is already in use")

    def _consistent(self, data: Row, row: Row | None = None) -> Row:
        """Upstream's rule that TLS options need a certificate.

        Any `certificate_id` that was sent counts as one, 0 included (see json_schema); a stored 0 does not.
        """
        merged = {**(row or {}), **data}
        if "domain_names" in merged:
            merged["domain_names"] = sorted(merged["domain_names"])
        if self._kind is STREAM:
            return merged
        if not merged.get("certificate_id"):
            merged["ssl_forced"] = merged["http2_support"] = False
        if not merged.get("ssl_forced"):
            merged["hsts_enabled"] = False
        if not merged.get("hsts_enabled"):
            merged["hsts_subdomains"] = False
        return merged

    def _log(self, access: Access, action: str, host_id: int, meta: Row) -> None:
        self._audit_log.add(access, action, self._kind.table.replace("_", "-"), host_id, meta)


def _takes_new_certificate(data: Row) -> bool:
    if data.get("certificate_id") == "new":
        del data["certificate_id"]
        return True
    return False
