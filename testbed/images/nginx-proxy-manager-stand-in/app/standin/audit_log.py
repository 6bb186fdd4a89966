"""The list of who changed what."""

from __future__ import annotations

from typing import Any

from .access import Access
from .database import Database, Graph, Row
from .errors import not_found

_ALLOWED: Graph = {"user": {}}


class AuditLog:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, access: Access, action: str, object_type: str, object_id: int, meta: dict[str, Any]) -> None:
        self._database.insert(
            "audit_log",
            {
                "user_id": access.owner_id,
                "action": action,
                "object_type": object_type,
                "object_id": object_id,
                "meta": meta,
            },
        )

    def find(self, access: Access, expand: Graph, query: str | None) -> list[Row]:
        access.require("auditlog:list")
        where, values = ("meta like ?", [f"%{query}"]) if query else ("1 = 1", [])
        rows = self._database.rows("audit_log", where, *values, order="created_on desc, id desc limit 100")
        self._database.expand("audit_log", rows, expand, _ALLOWED)
        return rows

    def get(self, access: Access, event_id: int, expand: Graph) -> Row:
        access.require("auditlog:list")
        row = self._database.first("audit_log", "id = ?", event_id)
        if row is None:
            raise not_found(event_id)
        self._database.expand("audit_log", [row], expand, _ALLOWED)
        return row
