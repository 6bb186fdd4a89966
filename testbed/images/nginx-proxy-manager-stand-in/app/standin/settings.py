"""The one setting there is: what a request for an unknown name gets."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from . import nginx
from .access import Access
from .database import Database, Row
from .errors import not_found

_DESCRIPTION = "What to show when Nginx is hit with an unknown Host"


class Settings:
    def __init__(self, database: Database) -> None:
        self._database = database
        database.run(
            "insert or ignore into setting values (?, ?, ?, ?, ?)",
            "default-site",
            "Default Site",
            _DESCRIPTION,
            "congratulations",
            "{}",
        )

    def find(self, access: Access) -> list[Row]:
        access.require("settings:list")
        return [_row(found) for found in self._database.run("select * from setting order by description")]

    def get(self, access: Access, setting_id: str) -> Row:
        access.require("settings:get", setting_id)
        found = self._database.run("select * from setting where id = ?", setting_id)
        if not found:
            raise not_found(setting_id)
        return _row(found[0])

    def update(self, access: Access, setting_id: str, data: Row) -> Row | None:
        access.require("settings:update", setting_id)
        row = {**self.get(access, setting_id), **data}
        self._database.run(
            "update setting set value = ?, meta = ? where id = ?",
            row["value"],
            json.dumps(row["meta"]),
            setting_id,
        )
        if row["value"] == "html":
            page = Path("/data/nginx/default_www/index.html")
            page.write_text(row["meta"].get("html", ""), encoding="utf-8")
        with nginx.LOCK:
            nginx.write_default_site(row)
            try:
                nginx.reload()
            except nginx.NginxError:
                nginx.delete("default", 0)
                nginx.reload()
                # Upstream's refusal gets lost in a detached promise: the client sees 200 and an empty body.
                return None
        return row


def _row(found: sqlite3.Row) -> Row:
    return {**dict(found), "meta": json.loads(found["meta"])}
