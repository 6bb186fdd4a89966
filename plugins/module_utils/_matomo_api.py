# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Speaks the forms and the API of Matomo, and tells its many ways of saying no apart. Private."""

from __future__ import annotations

import html
import json
import re
import time
import typing as t
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

_TIMEOUT = 60.0
# Creating the tables takes seconds on a small box.
_FORM_TIMEOUT = 300.0
# What nginx answers while php-fpm behind it starts or restarts.
_GATEWAY_ERRORS = frozenset({502, 503, 504})
_NOT_INSTALLED = "As Matomo is not installed yet"

Params = t.Mapping[str, t.Any]


class MatomoError(Exception):
    """What went wrong and what to do about it, in a sentence for the person who runs the play."""


class Unreachable(MatomoError):
    """Nothing answers at the address, or nothing but a web server, or no database behind it."""


class NotInstalled(Unreachable):
    """The wizard answers instead of Matomo."""


class LockedOut(MatomoError):
    """Too many failed logins came from this address."""


class TokenRejected(MatomoError):
    """The token is unknown, revoked or too weak."""


class Refused(MatomoError):
    """Matomo understood the request and said no, most of the time with HTTP 200."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Reply:
    """One HTTP answer; `data` is the parsed JSON, or None where it was a page."""

    status: int
    location: str
    text: str

    @property
    def data(self) -> t.Any:
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    @property
    def is_page(self) -> bool:
        return self.data is None

    @property
    def error(self) -> str | None:
        """The message of an error hidden in an answer, whatever its status."""
        data = self.data
        if isinstance(data, dict) and data.get("result") == "error":
            return html.unescape(str(data.get("message", ""))).strip() or "no reason given"
        return None

    @property
    def says_installed(self) -> bool:
        """The wizard's short refusal; its ordinary pages are 150 KB long and may say anything."""
        return len(self.text) < 10_000 and self.contains("already installed")

    def contains(self, *sentences: str) -> bool:
        return any(sentence in self.text for sentence in sentences)


class Transport(t.Protocol):
    """Sends one request without following redirects; raises OSError when no answer came."""

    def __call__(
        self, method: str, path: str, data: bytes | None, headers: t.Mapping[str, str], timeout: float
    ) -> tuple[int, str, bytes]: ...


def words_of(page: str) -> str:
    """The first sentence that a page says to its reader, its alerts before anything else."""
    visible = re.sub(r"(?is)<(script|style|head)\b.*?</\1>", " ", page)
    alert = re.search(r"(?is)<(\w+)[^>]*class=[\"'][^\"']*(?:alert|error)[^\"']*[\"'][^>]*>(.*?)</\1>", visible)
    text = html.unescape(re.sub(r"(?s)<[^>]+>", " ", alert.group(2) if alert else visible))
    return " ".join(text.split()).partition(". ")[0][:300]


def canonical_url(url: str) -> str:
    """An address of a site as Matomo stores it."""
    return url.strip().rstrip("/")


def check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"[\s<>\"'\\]", url)
        valid = valid and parts.port != 0 and "." not in (parts.hostname or "")[:1]
    except ValueError:
        valid = False
    if not valid:
        raise MatomoError(f"{url!r} is no address of a site: write it as https://www.example.org.")


class Api:
    """One Matomo, asked with a token, patient with restarts."""

    def __init__(
        self,
        transport: Transport,
        *,
        url: str,
        host_name: str,
        token: str | None = None,
        wait: float = 60.0,
        sleep: t.Callable[[float], None] = time.sleep,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self.token = token or None
        self.wait = wait
        self._transport = transport
        # With force_ssl every request but those of the tracker is redirected that does not say so.
        self._headers = {"Host": host_name, "X-Forwarded-Proto": "https", "Accept": "application/json"}
        self._sleep = sleep
        self._clock = clock

    def is_installed(self, *, patient: bool = True) -> bool:
        """Asks the tracker, which says so in words; patient tells whether a refused connection is waited for."""
        reply = self._send("GET", "/matomo.php", None, patient=patient)
        return not reply.contains(_NOT_INSTALLED)

    def call(self, method: str, params: Params | None = None, *, repeatable: bool = True) -> t.Any:
        """Calls the API and returns its data; `value` is unpacked."""
        fields: dict[str, t.Any] = {"module": "API", "format": "json", "method": method, **(params or {})}
        if self.token:
            fields["token_auth"] = self.token
        reply = self._send("POST", "/index.php", fields, repeatable=repeatable)
        self._raise_for_trouble(reply, method)
        if reply.is_page:
            if not self.is_installed():
                raise NotInstalled(f"Matomo at {self.url} is not installed yet: run matomo_install first.")
            raise MatomoError(
                f"Matomo answered {method} with a page instead of data (HTTP {reply.status}): {words_of(reply.text)}"
            )
        data = reply.data
        return data["value"] if isinstance(data, dict) and set(data) == {"value"} else data

    def form(self, action: str, fields: Params | None = None) -> Reply:
        """Sends one form of the wizard, or gets its page."""
        path = f"/index.php?action={action}&module=Installation"
        return self._send("GET" if fields is None else "POST", path, fields, timeout=_FORM_TIMEOUT)

    def _raise_for_trouble(self, reply: Reply, method: str) -> None:
        if reply.contains("too many failed logins", "not allowed to log in"):
            raise LockedOut(
                "Matomo lets this address log in no more after too many failed attempts: wait an hour or run "
                "`console login:unblock-blocked-ips` in its container, and give a token that is still good."
            )
        if reply.contains("Database Upgrade Required", "database is out-of-date") or "CoreUpdater" in reply.location:
            raise MatomoError(
                "Matomo's files are newer than its database: run `console core:update --yes` in its container."
            )
        if reply.contains("Access denied for user", "SQLSTATE[HY000] [1045]"):
            raise wrong_database_password()
        if reply.contains("Unable to authenticate") or (reply.status == 401 and self.token):
            raise TokenRejected(
                f"Matomo refuses the token for {method}, it was revoked or is no super user's: "
                "run matomo_install with the administrator's password to get a new one."
            )
        if reply.status in (301, 302, 303, 307, 308):
            if "Installation" in reply.location:
                raise NotInstalled(f"Matomo at {self.url} is not installed yet: run matomo_install first.")
            raise MatomoError(
                f"Matomo redirects {method} to {reply.location}: its web server has to pass X-Forwarded-Proto on."
            )
        if reply.error:
            raise Refused(f"Matomo refused {method}: {reply.error.rstrip('.')}.", reason=reply.error)

    def _send(
        self,
        method: str,
        path: str,
        fields: Params | None,
        *,
        repeatable: bool = True,
        patient: bool = True,
        timeout: float = _TIMEOUT,
    ) -> Reply:
        data = None if fields is None else urlencode({k: str(v) for k, v in fields.items()}).encode()
        headers = dict(self._headers)
        if data is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        deadline = self._clock() + self.wait
        while True:
            sent = True
            try:
                status, location, content = self._transport(method, path, data, headers, timeout)
            except OSError as error:
                # A refused connection alone says that nothing was carried out.
                trouble, sent = str(error), not isinstance(error, ConnectionRefusedError)
                if not patient and not sent:
                    raise Unreachable(f"Nothing answers at {self.url} ({trouble}).") from error
            else:
                reply = Reply(status, location, content.decode(errors="replace"))
                down = _database_is_down(reply.text)
                if status not in _GATEWAY_ERRORS and not down:
                    return reply
                trouble = "its database does not answer" if down else f"HTTP {status} from the web server before it"
            if sent and not repeatable:
                raise Unreachable(f"Matomo went away during a request ({trouble}): run this again.")
            if self._clock() >= deadline:
                raise Unreachable(
                    f"Matomo does not answer at {self.url} within {self.wait:g} s ({trouble}): "
                    "look at the logs of its containers."
                )
            self._sleep(1.0)


def wrong_database_password() -> MatomoError:
    return MatomoError(
        "MariaDB refuses the account or password Matomo logs in with, because those of an existing database do not "
        "follow the variables: give the old password, or change it in the database and in Matomo's "
        "config/config.ini.php as well."
    )


def _database_is_down(text: str) -> bool:
    return bool(re.search(r"SQLSTATE\[HY000\] \[200\d\]|php_network_getaddresses|MySQL server has gone away", text))
