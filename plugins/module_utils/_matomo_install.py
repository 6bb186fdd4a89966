# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The installation of Matomo by the forms of its wizard, and the token of its administrator. Private."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_api import (
    Api,
    LockedOut,
    MatomoError,
    Refused,
    Reply,
    TokenRejected,
    Unreachable,
    check_url,
    words_of,
    wrong_database_password,
)

SHORTEST_PASSWORD = 6
_REFUSED = ("Access denied", "[1045]", "[1044]", "[1049]")


@dataclass(frozen=True)
class Installation:
    """What the wizard would ask for."""

    database_host: str
    database_name: str
    database_username: str
    database_password: str = field(repr=False)
    database_prefix: str
    admin_login: str
    admin_email: str
    admin_password: str = field(repr=False)
    site_name: str
    site_url: str
    site_timezone: str
    token_description: str


@dataclass(frozen=True)
class Outcome:
    """What was found, and what was, or in check mode would be, done."""

    installed: bool
    token_created: bool
    token: str | None = field(default=None, repr=False)
    version: str = ""

    @property
    def changed(self) -> bool:
        return self.token_created or not self.installed

    def diff(self, wanted: Installation) -> dict[str, t.Any]:
        everything = {
            "database": f"{wanted.database_name} on {wanted.database_host}",
            "administrator": wanted.admin_login,
            "first_site": {"name": wanted.site_name, "url": wanted.site_url, "timezone": wanted.site_timezone},
        }
        token = {"token": "(new)"} if self.token_created else {}
        if self.installed:
            return {"before": {}, "after": token}
        return {"before": {}, "after": {**everything, **token}}


def check_wanted(wanted: Installation) -> None:
    if len(wanted.admin_password) < SHORTEST_PASSWORD:
        raise MatomoError(
            f"admin_password has {len(wanted.admin_password)} characters, Matomo takes {SHORTEST_PASSWORD} or more: "
            "choose a longer one."
        )
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", wanted.admin_email):
        raise MatomoError(f"admin_email is {wanted.admin_email!r}: give an address.")
    if not re.fullmatch(r"[A-Za-z0-9_.@+-]{2,100}", wanted.admin_login):
        raise MatomoError(
            f"admin_login is {wanted.admin_login!r}: use 2 to 100 letters, digits and the characters _.@+-"
        )
    if not re.fullmatch(r"[A-Za-z0-9_]*", wanted.database_prefix):
        raise MatomoError(f"database_prefix is {wanted.database_prefix!r}: use letters, digits and _.")
    if not wanted.site_name.strip():
        raise MatomoError("first_site has no name: give one.")
    if not wanted.site_url:
        raise MatomoError("first_site has no urls: give at least one.")
    check_url(wanted.site_url)


def install(api: Api, wanted: Installation, *, check: bool = False) -> Outcome:
    """Completes an installation, wherever it stopped, and makes sure of a token that works."""
    installed = api.is_installed(patient=not check)
    if not installed:
        if check:
            return Outcome(installed=False, token_created=True)
        _fill_in_forms(api, wanted)
    version = _version_by_token(api)
    if version:
        return Outcome(installed, False, api.token, version)
    if check:
        return Outcome(installed, token_created=True)
    api.token = _new_token(api, wanted)
    return Outcome(installed, True, api.token, str(api.call("API.getMatomoVersion")))


def _version_by_token(api: Api) -> str | None:
    """The version, which only a good token is told; also brings up whatever else is wrong with an installed Matomo."""
    try:
        version = str(api.call("API.getMatomoVersion"))
        if api.token is None:
            # Whoever made the statistics public.
            return None
        # Refused to everybody but super users.
        api.call("SitesManager.getAllSites")
    except TokenRejected:
        api.token = None
        return None
    except Refused:
        # "requires view access".
        if api.token:
            raise
        return None
    return version


def _new_token(api: Api, wanted: Installation) -> str:
    confirmed = {
        "userLogin": wanted.admin_login,
        "passwordConfirmation": wanted.admin_password,
        "description": wanted.token_description,
    }
    try:
        token = api.call("UsersManager.createAppSpecificTokenAuth", confirmed, repeatable=False)
    except LockedOut:
        raise
    except Refused as error:
        if "password" not in error.reason.lower() and "user" not in error.reason.lower():
            raise
        raise MatomoError(
            f"Matomo is installed and refuses the password of {wanted.admin_login}: give the password it was installed "
            "with, or a token that is still good."
        ) from error
    if not isinstance(token, str) or not re.fullmatch(r"[0-9a-f]{32,}", token):
        raise MatomoError("Matomo answered the request for a token with something else: is its version 5.2 or newer?")
    return token


def _fill_in_forms(api: Api, wanted: Installation) -> None:
    if _set_up_database(api, wanted):
        # Somebody else was faster.
        return
    tables = api.form("tablesCreation")
    if tables.status != 200:
        raise _stopped("create its tables", tables)
    _send(
        api,
        "setupSuperUser",
        {
            "login": wanted.admin_login,
            "password": wanted.admin_password,
            "password_bis": wanted.admin_password,
            "email": wanted.admin_email,
            "submit": "Next",
        },
        "make the administrator",
    )
    _send(
        api,
        "firstWebsiteSetup",
        {
            "siteName": wanted.site_name,
            "url": wanted.site_url,
            "timezone": wanted.site_timezone,
            "ecommerce": "0",
            "submit": "Next",
        },
        f"make the site {wanted.site_name} in the timezone {wanted.site_timezone}",
    )
    _send(
        api,
        "finished",
        {"do_not_track": "1", "anonymise_ip": "1", "setup_geoip2": "0", "submit": "Continue"},
        "end the installation",
    )
    if not api.is_installed():
        raise MatomoError("Matomo took every form and still says that it is not installed: is config/ writable for it?")


def _set_up_database(api: Api, wanted: Installation) -> bool:
    """Whether the installation is over already. A database that is still starting is waited for."""
    fields = {
        "type": "InnoDB",
        "host": wanted.database_host,
        "username": wanted.database_username,
        "password": wanted.database_password,
        "dbname": wanted.database_name,
        "tables_prefix": wanted.database_prefix,
        "adapter": "PDO\\MYSQL",
        "schema": "Mariadb",
        "submit": "Next",
    }
    try:
        reply = api.form("databaseSetup", fields)
    except Unreachable as error:
        if "database does not answer" in str(error):
            raise Unreachable(
                f"Matomo cannot reach the database server {wanted.database_host}: look at the logs of its container."
            ) from error
        raise
    if reply.status == 302:
        return False
    if reply.says_installed:
        return True
    if reply.contains("Could not connect to the database") and (
        reply.contains(*_REFUSED) or not reply.contains("SQLSTATE")
    ):
        raise wrong_database_password()
    raise _stopped("use its database", reply)


def _send(api: Api, action: str, fields: dict[str, str], what: str) -> None:
    reply = api.form(action, fields)
    # A repeated step redirects past itself.
    if reply.status != 302 and not reply.says_installed:
        raise _stopped(what, reply)


def _stopped(what: str, reply: Reply) -> MatomoError:
    return MatomoError(
        f"Matomo's installation could not {what} (HTTP {reply.status}): {words_of(reply.text).rstrip('.')}."
    )
