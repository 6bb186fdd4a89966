"""Who is asking, and what they may do."""

from __future__ import annotations

from typing import Any

from .database import Database, Row
from .errors import Denied
from .tokens import Keys

_OWN_USER_ONLY = {"users:get", "users:update", "users:password"}
_ANY_USER = {"reports:hosts"}
_BY_PERMISSION = {
    "proxy_hosts",
    "redirection_hosts",
    "dead_hosts",
    "streams",
    "access_lists",
    "certificates",
}


class Access:
    """The bearer of a token, of no token, or (`internal`) the software itself."""

    def __init__(self, database: Database, keys: Keys, token: str | None, *, internal: bool = False) -> None:
        self._database = database
        self._internal = internal
        self._claims: dict[str, Any] = keys.read(token) if token else {}
        self._user: Row | None = None
        self._permissions: Row = {}

    @property
    def user_id(self) -> int:
        """The user's number; 0 without a token."""
        return int(self._claims.get("attrs", {}).get("id") or 0)

    @property
    def owner_id(self) -> int:
        """Who owns what this request makes: nobody's things belong to the first user."""
        return self.user_id or 1

    @property
    def scope(self) -> list[str]:
        return list(self._claims.get("scope", []))

    @property
    def sees_all(self) -> bool:
        return self._internal or self._permissions.get("visibility") == "all"

    def require(self, permission: str, target: object = None) -> None:
        """Raise `Denied` unless the bearer may do `permission` (`things:verb`) to `target`."""
        if self._internal:
            return
        user = self._load_user()
        if "admin" in user["roles"] or permission in _ANY_USER:
            return
        if permission in _OWN_USER_ONLY and target == self.user_id:
            return
        things, verb = permission.split(":")
        if things in _BY_PERMISSION and not user["roles"]:
            wanted = {"manage"} if verb not in ("get", "list") else {"view", "manage"}
            if self._permissions.get(things) in wanted:
                return
        raise Denied

    def _load_user(self) -> Row:
        if self._user is None:
            user = self._database.first("user", "id = ? and is_disabled = 0", self.user_id)
            if not user or not set(self.scope) <= {*user["roles"], "user"}:
                raise Denied
            self._user = user
            self._permissions = self._database.first("user_permission", "user_id = ?", user["id"]) or {}
        return self._user
