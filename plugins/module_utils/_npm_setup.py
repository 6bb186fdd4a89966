# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The first run of Nginx Proxy Manager: its administrator, and a change of the password. Private."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import (
    Api,
    NpmError,
    RequestFailed,
    WrongPassword,
)

# What a change of the password demands; creating the account would take anything.
SHORTEST, LONGEST = 8, 64


@dataclass(frozen=True)
class SetupResult:
    """What was, or in check mode would be, done; no token where the account does not exist yet."""

    action: str
    version: str
    token: str | None = None


def check_password(password: str) -> None:
    if not SHORTEST <= len(password) <= LONGEST:
        raise NpmError(
            f"npm_admin_password has {len(password)} characters, Nginx Proxy Manager takes {SHORTEST} to {LONGEST}: "
            "choose one of that length."
        )


def was_started(data_dir: Path | None) -> bool:
    """Whether an instance has worked on this data volume before."""
    return data_dir is not None and (data_dir / "database.sqlite").exists()


def set_up(
    api: Api,
    *,
    email: str,
    password: str,
    password_old: str | None,
    name: str,
    check: bool,
    patient: bool = True,
) -> SetupResult:
    """Makes the first administrator where there is none, else proves the password, changing the old one if given."""
    status = api.status(patient=patient)
    version = status.version_text
    if not status.setup:
        check_password(password)
        if check:
            return SetupResult("create", version)
        if _create(api, email=email.strip().lower(), password=password, name=name):
            return SetupResult("create", version, api.login())
    try:
        return SetupResult("keep", version, api.login())
    except WrongPassword:
        return SetupResult("password", version, _change(api, email, password, password_old, check=check))


def _create(api: Api, *, email: str, password: str, name: str) -> bool:
    """False when somebody else was faster: the address closes with the first administrator."""
    body = {
        "name": name,
        "nickname": name,
        "email": email,
        "roles": ["admin"],
        "is_disabled": False,
        "auth": {"type": "password", "secret": password},
    }
    api.use("")  # open to anybody until the first administrator exists
    try:
        api.create("/users", body, find=lambda: {"email": email} if api.status().setup else None)
    except RequestFailed as error:
        if error.status in (401, 403, 404):
            return False
        raise
    return True


def _change(api: Api, email: str, password: str, old: str | None, *, check: bool) -> str:
    try:
        if not old:
            raise WrongPassword
        token = api.login(old)
    except WrongPassword:
        raise WrongPassword(
            f"Nginx Proxy Manager is already set up and refuses npm_admin_password for {email}: give the password it "
            "was set up with, or both that one in npm_admin_password_old and the new one in npm_admin_password."
        ) from None
    check_password(password)
    api.use(token)
    if check:
        # The rest of a check run can still look around with it.
        return token
    user = api.get("/users/me")
    api.put(f"/users/{user['id']}/auth", {"type": "password", "current": old, "secret": password})
    return api.login()
