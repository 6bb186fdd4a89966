"""Users, their passwords and permissions, and logging in."""

from __future__ import annotations

import hashlib
from typing import Any

import bcrypt  # type: ignore[import-not-found]  # a Debian package, installed in the image only

from .access import Access
from .audit_log import AuditLog
from .database import Database, Graph, Row
from .errors import ApiError, internal, invalid, not_found
from .tokens import Keys, wrong_login

# Upstream uses 13 rounds, which costs a login a second on a small machine and proves nothing here.
_BCRYPT_ROUNDS = 10
_THINGS = ("proxy_hosts", "redirection_hosts", "dead_hosts", "streams", "access_lists", "certificates")
_PERMISSION_COLUMNS = ("visibility", *_THINGS)
_ALLOWED: Graph = {"permissions": {}}


class Users:
    def __init__(self, database: Database, keys: Keys, audit_log: AuditLog) -> None:
        self._database = database
        self._keys = keys
        self._audit_log = audit_log

    @property
    def exist(self) -> bool:
        """False until the first user is made: the `setup` flag."""
        return self._database.count("user") > 0

    def log_in(self, identity: str, secret: str) -> dict[str, str]:
        user = self._database.first("user", "email = ? and is_disabled = 0", identity.lower().strip())
        if user is None:
            raise wrong_login(i18n=False)
        self._check_password(user["id"], secret)
        return self._keys.sign(user["id"], ["user"], "1d")

    def refresh(self, access: Access, expiry: str | None) -> dict[str, str]:
        if not access.user_id:
            # Upstream trips over an undefined name here instead of refusing.
            raise internal("error is not defined")
        return self._keys.sign(access.user_id, access.scope, expiry or "1d")

    def log_in_as(self, access: Access, user_id: int) -> dict[str, Any]:
        access.require("users:loginas", user_id)
        user = self._fetch(user_id)
        return {**self._keys.sign(user_id, ["user"], "1d"), "user": user}

    def create(self, access: Access, data: Row) -> Row:
        credentials = data.pop("auth", None)
        data = {"roles": [], **data}
        access.require("users:create")
        return self.add(access, data, credentials)

    def add(self, access: Access, data: Row, credentials: Row | None) -> Row:
        """Store a user; nothing stops a second one with the same e-mail, here as upstream."""
        user_id = self._database.insert("user", {**data, "avatar": _avatar(data["email"])})
        if credentials:
            self._database.insert(
                "auth",
                {
                    "user_id": user_id,
                    "type": credentials["type"],
                    "secret": _hash(credentials["secret"]),
                    "meta": {},
                },
            )
        visibility = "all" if "admin" in data["roles"] else "user"
        permissions = dict.fromkeys(_THINGS, "manage")
        self._database.insert("user_permission", {"user_id": user_id, "visibility": visibility, **permissions})
        user = self._fetch(user_id, {"permissions": {}})
        self._audit_log.add(access, "created", "user", user_id, user)
        return user

    def find(self, access: Access, expand: Graph, query: str | None) -> list[Row]:
        access.require("users:list")
        where, values = ("(name like ? or email like ?)", [f"%{query}%"] * 2) if query else ("1 = 1", [])
        rows = self._database.rows("user", where, *values, order="name, id")
        return [self._present(row, expand) for row in rows]

    def get(self, access: Access, user_id: int, expand: Graph) -> Row:
        access.require("users:get", user_id)
        return self._fetch(user_id, expand)

    def update(self, access: Access, user_id: int, data: Row) -> Row:
        access.require("users:update", user_id)
        user = self._fetch(user_id)
        if "email" in data:
            data["email"] = data["email"].lower().strip()
            if self._database.first("user", "email = ? and id != ?", data["email"], user_id):
                raise invalid(f"Email address already in use - {data['email']}")
        data["avatar"] = _avatar(data["email"] if "email" in data else user["email"])
        self._database.patch("user", user_id, data)
        user = self._fetch(user_id)
        self._audit_log.add(access, "updated", "user", user_id, {**data, "id": user_id, "name": user["name"]})
        return user

    def delete(self, access: Access, user_id: int) -> bool:
        access.require("users:delete", user_id)
        user = self._fetch(user_id)
        if user_id == access.user_id:
            raise ApiError(403, "Permission Denied")
        self._database.patch("user", user_id, {"is_deleted": True})
        self._audit_log.add(access, "deleted", "user", user_id, user)
        return True

    def set_password(self, access: Access, user_id: int, data: Row) -> bool:
        access.require("users:password", user_id)
        user = self._fetch(user_id)
        if user_id == access.user_id:
            if not data.get("current"):
                raise invalid("Current password was not supplied")
            self._check_password(user_id, data["current"])
        stored = self._database.first("auth", "user_id = ? and type = ?", user_id, data["type"])
        secret = {"type": data["type"], "secret": _hash(data["secret"])}
        if stored:
            self._database.patch("auth", stored["id"], secret)
        else:
            self._database.insert("auth", {"user_id": user_id, "meta": {}, **secret})
        change = {"name": user["name"], "password_changed": True, "auth_type": data["type"]}
        self._audit_log.add(access, "updated", "user", user_id, change)
        return True

    def set_permissions(self, access: Access, user_id: int, data: Row) -> bool:
        access.require("users:permissions", user_id)
        user = self._fetch(user_id)
        stored = self._database.first("user_permission", "user_id = ?", user_id)
        assert stored is not None
        self._database.patch("user_permission", stored["id"], data)
        change = {"name": user["name"], "permissions": {**stored, **data}}
        self._audit_log.add(access, "updated", "user", user_id, change)
        return True

    def _check_password(self, user_id: int, secret: str) -> None:
        stored = self._database.first("auth", "user_id = ? and type = 'password'", user_id)
        if stored is None or not bcrypt.checkpw(secret.encode()[:72], stored["secret"].encode()):
            raise wrong_login()

    def _fetch(self, user_id: int, expand: Graph | None = None) -> Row:
        row = self._database.first("user", "id = ?", user_id)
        if row is None:
            raise not_found(user_id)
        return self._present(row, expand or {})

    def _present(self, row: Row, expand: Graph) -> Row:
        self._database.expand("user", [row], expand, _ALLOWED)
        del row["is_deleted"]
        if row.get("permissions"):
            row["permissions"] = {name: row["permissions"][name] for name in _PERMISSION_COLUMNS}
        return row


def _hash(secret: str) -> str:
    return str(bcrypt.hashpw(secret.encode()[:72], bcrypt.gensalt(_BCRYPT_ROUNDS)).decode())


def _avatar(email: str) -> str:
    digest = hashlib.md5(email.lower().strip().encode(), usedforsecurity=False).hexdigest()
    return f"//www.gravatar.com/avatar/{digest}?default=mm"
