"""Access lists: names and passwords, allowed and denied addresses."""

from __future__ import annotations

import subprocess
from pathlib import Path

from . import nginx
from .access import Access
from .audit_log import AuditLog
from .database import Database, Graph, Row
from .errors import internal, not_found

_FOLDER = Path("/data/access")
_CONTENT: Graph = {"clients": {}, "items": {}}
_LISTED: Graph = {"owner": {}, **_CONTENT}
_ALLOWED: Graph = {**_LISTED, "proxy_hosts": {"certificate": {}, "access_list": _CONTENT}}


class AccessLists:
    def __init__(self, database: Database, audit_log: AuditLog) -> None:
        self._database = database
        self._audit_log = audit_log

    def find(self, access: Access, expand: Graph, query: str | None) -> list[Row]:
        access.require("access_lists:list")
        where, values = ("name like ?", [f"%{query}%"]) if query else ("1 = 1", [])
        if not access.sees_all:
            where, values = f"{where} and owner_user_id = ?", [*values, str(access.owner_id)]
        rows = self._database.rows("access_list", where, *values, order="name")
        # Unlike a single list, this one cannot show its hosts: 500.
        self._database.expand("access_list", rows, expand, _LISTED)
        return [_mask(self._counted(row)) for row in rows]

    def get(self, access: Access, list_id: int, expand: Graph) -> Row:
        return _mask(self._fetch(access, list_id, expand))

    def create(self, access: Access, data: Row) -> Row:
        access.require("access_lists:create")
        values = {name: data[name] for name in ("name", "satisfy_any", "pass_auth") if name in data}
        list_id = self._database.insert("access_list", {**values, "meta": {}, "owner_user_id": access.owner_id})
        if "items" not in data:
            # Upstream reads the missing list after it has stored the row.
            raise internal("Cannot read properties of undefined (reading 'map')")
        for item in data["items"]:
            self._add_item(list_id, item)
        for client in data.get("clients", []):
            self._add_client(list_id, client)
        row = self._fetch(access, list_id, {"owner": {}, **_CONTENT, "proxy_hosts": {"access_list": _CONTENT}})
        self._write(row)
        with nginx.LOCK:
            for host in row["proxy_hosts"]:
                nginx.write_host("proxy_host", host)
        self._audit_log.add(access, "created", "access-list", list_id, _mask({**data, "meta": row["meta"]}))
        return _mask(row)

    def update(self, access: Access, list_id: int, data: Row) -> Row:
        access.require("access_lists:update", list_id)
        self._fetch(access, list_id)
        if data.get("name"):
            values = {name: data[name] for name in ("name", "satisfy_any", "pass_auth") if name in data}
            self._database.patch("access_list", list_id, values)
        if "items" in data:
            self._replace_items(list_id, data["items"])
        if "clients" in data:
            self._database.run("delete from access_list_client where access_list_id = ?", list_id)
            for client in data["clients"]:
                if client.get("address"):
                    self._add_client(list_id, client)
        self._audit_log.add(access, "updated", "access-list", list_id, _mask({**data, "id": list_id}))
        row = self._fetch(access, list_id, _ALLOWED)
        self._write(row)
        with nginx.LOCK:
            for host in row["proxy_hosts"]:
                nginx.write_host("proxy_host", host)
            nginx.reload_or_500()
        return _mask(row)

    def delete(self, access: Access, list_id: int) -> bool:
        access.require("access_lists:delete", list_id)
        row = self._fetch(access, list_id, {**_CONTENT, "proxy_hosts": {}})
        self._database.patch("access_list", list_id, {"is_deleted": True})
        with nginx.LOCK:
            for host in row.pop("proxy_hosts"):
                self._database.patch("proxy_host", host["id"], {"access_list_id": 0})
                # Written without its certificate: the host loses TLS until it is saved again.
                nginx.write_host("proxy_host", {**host, "access_list_id": 0})
            nginx.reload_or_500()
        (_FOLDER / str(list_id)).unlink(missing_ok=True)
        self._audit_log.add(access, "deleted", "access-list", list_id, _mask(row))
        return True

    def _fetch(self, access: Access, list_id: int, expand: Graph | None = None) -> Row:
        access.require("access_lists:get", list_id)
        row = self._database.first("access_list", "id = ?", list_id)
        if row is None or not (access.sees_all or row["owner_user_id"] == access.owner_id):
            raise not_found(list_id)
        self._database.expand("access_list", [row], expand or {}, _ALLOWED)
        return self._counted(row)

    def _counted(self, row: Row) -> Row:
        del row["is_deleted"]
        row["proxy_host_count"] = self._database.count("proxy_host", "access_list_id = ?", row["id"])
        return row

    def _replace_items(self, list_id: int, items: list[Row]) -> None:
        kept = [item.get("username") for item in items if not item.get("password")]
        marks = ", ".join("?" * len(kept))
        self._database.run(
            f"delete from access_list_auth where access_list_id = ? and username not in ({marks})",
            list_id,
            *kept,
        )
        for item in items:
            if item.get("password"):
                self._add_item(list_id, item)

    def _add_item(self, list_id: int, item: Row) -> None:
        values = {"username": item.get("username", ""), "password": item.get("password", ""), "meta": {}}
        self._database.insert("access_list_auth", {"access_list_id": list_id, **values})

    def _add_client(self, list_id: int, client: Row) -> None:
        values = {"address": client.get("address", ""), "directive": client.get("directive", ""), "meta": {}}
        self._database.insert("access_list_client", {"access_list_id": list_id, **values})

    def _write(self, row: Row) -> None:
        lines = []
        for item in row["items"]:
            if item["password"]:
                lines.append(f"{item['username']}:{_apr1(item['password'])}\n")
        (_FOLDER / str(row["id"])).write_text("".join(lines), encoding="utf-8")


def _mask(row: Row) -> Row:
    """Hide the passwords but for their first character and their length, as upstream does."""
    if "items" in row:
        row["items"] = [_masked(item) for item in row["items"]]
    return row


def _masked(item: Row) -> Row:
    secret = item.get("password") or ""
    return {**item, "password": "", "hint": secret[:1] + "*" * (len(secret) - 1) if secret else "*" * 9}


def _apr1(password: str) -> str:
    command = ["openssl", "passwd", "-apr1", "-stdin"]
    return subprocess.run(command, input=password, capture_output=True, text=True, check=True).stdout.strip()
