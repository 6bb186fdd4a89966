# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Access lists of Nginx Proxy Manager: who may see a site, by password or by address. Private."""

from __future__ import annotations

import hashlib
import ipaddress
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import Api, Json, NpmError
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_data import read_data
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_vhost import Vhost, check_online, save_again

_ITOA64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class WantedList:
    """One entry of the module's list; `passwords` by user name."""

    name: str
    present: bool = True
    satisfy_any: bool = False
    pass_auth: bool = False
    passwords: t.Mapping[str, str] = field(default_factory=dict, repr=False)
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    @property
    def rules(self) -> list[tuple[str, str]]:
        """In nginx's order, where the first match wins: exceptions come before what they are exceptions from."""
        return [("deny", one) for one in self.deny] + [("allow", one) for one in self.allow]

    @property
    def payload(self) -> Json:
        # Settings are only taken together with the name, and a user without a password makes the API hang.
        return {
            "name": self.name,
            "satisfy_any": self.satisfy_any,
            "pass_auth": self.pass_auth,
            "items": [{"username": user, "password": secret} for user, secret in self.passwords.items()],
            "clients": [{"address": address, "directive": directive} for directive, address in self.rules],
        }


@dataclass(frozen=True)
class ListStep:
    """What one entry needs: `keep`, `create`, `update` or `remove`; no secrets in it but `wanted`."""

    wanted: WantedList
    action: str
    row: Json | None = None
    new_passwords: tuple[str, ...] = ()

    @property
    def before(self) -> Json:
        return {} if self.row is None or self.action == "keep" else _visible(self.row)

    @property
    def after(self) -> Json:
        if self.action in ("keep", "remove"):
            return {}
        after = _visible(self.wanted.payload)
        if self.action == "update" and self.new_passwords:
            after["new_passwords_for"] = list(self.new_passwords)
        return after


def check_wanted(wanted: WantedList) -> None:
    """Refuses what the API would take and nginx would not, or what protects nothing."""
    if not wanted.present:
        return
    if not wanted.passwords and not wanted.rules:
        raise NpmError(f'The access list "{wanted.name}" protects nothing: give it users, or addresses to allow.')
    if wanted.rules and not wanted.allow:
        raise NpmError(
            f'The access list "{wanted.name}" only denies, and all others are denied anyway: '
            "give the addresses to allow."
        )
    for user, secret in wanted.passwords.items():
        if not user or ":" in user:
            raise NpmError(f'"{user}" in the access list "{wanted.name}" is no user name: use one without a colon.')
        if not secret:
            raise NpmError(f'The user "{user}" of the access list "{wanted.name}" has no password: give one.')
    for _directive, address in wanted.rules:
        if address == "all":
            continue
        try:
            ipaddress.ip_network(address, strict=False)
        except ValueError:
            raise NpmError(
                f'"{address}" in the access list "{wanted.name}" is no address: give an IPv4 or IPv6 address or '
                "network such as 192.0.2.0/24, or all."
            ) from None


def read_lists(api: Api) -> list[Json]:
    return list(api.get("/nginx/access-lists?expand=items,clients"))


def plan_lists(wanted: t.Iterable[WantedList], rows: t.Sequence[Json], data_dir: Path | None = None) -> list[ListStep]:
    return [_plan_one(one, rows, data_dir) for one in wanted]


def _plan_one(wanted: WantedList, rows: t.Sequence[Json], data_dir: Path | None) -> ListStep:
    # Nothing keeps names unique; the oldest is the one hosts are likely to use.
    row = min((row for row in rows if row["name"] == wanted.name), key=lambda one: int(one["id"]), default=None)
    if not wanted.present:
        return ListStep(wanted, "remove" if row else "keep", row)
    if row is None:
        return ListStep(wanted, "create")
    hashes = read_htpasswd(data_dir, int(row["id"])) if data_dir else None
    hints = {str(item["username"]): str(item.get("hint") or "") for item in row.get("items") or ()}
    changed = tuple(
        user
        for user, secret in wanted.passwords.items()
        if user in hints and not _password_is(secret, hints[user], None if hashes is None else hashes.get(user, ""))
    )
    same = not changed and _visible(row) == _visible(wanted.payload)
    return ListStep(wanted, "keep" if same else "update", row, changed)


def apply_lists(api: Api, steps: t.Iterable[ListStep]) -> dict[str, int]:
    """Carries the steps out; returns the number of each list that is present."""
    numbers: dict[str, int] = {}
    for step in steps:
        name, row = step.wanted.name, step.row
        if step.action == "create":
            row = api.create("/nginx/access-lists", step.wanted.payload, find=_finder(api, name))
        elif step.action == "update" and row is not None:
            api.put(f"/nginx/access-lists/{row['id']}", step.wanted.payload)
            # Changing a list has cost its hosts their TLS or the list itself in many versions.
            check_online(api, save_again(api, _hosts_of(api, int(row["id"]))))
        elif step.action == "remove" and row is not None:
            # Deleting a list opens its sites to everybody, which nobody asks for by removing a list.
            users = _hosts_of(api, int(row["id"]))
            if users:
                sites = "; ".join(host.label for host in users)
                raise NpmError(
                    f'The access list "{name}" still protects {sites}: give these hosts another list, or '
                    "remove them, before the list."
                )
            api.delete(f"/nginx/access-lists/{row['id']}")
            continue
        if row is not None:
            numbers[name] = int(row["id"])
    return numbers


def read_htpasswd(data_dir: Path, list_id: int) -> dict[str, str]:
    """The hashes nginx checks against, by user; empty when the file is missing."""
    name = f"access/{list_id}"
    try:
        lines = read_data(data_dir, name).text.splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise NpmError(
            f"{data_dir / name} cannot be read as a plain file ({error.strerror}), and Nginx Proxy Manager makes "
            "nothing else there: find out who did, remove it, and run again."
        ) from error
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {user: digest for user, _colon, digest in pairs}


def apr1(password: str, salt: str) -> str:
    """Apache's variant of MD5-crypt, the only hash Nginx Proxy Manager writes (`openssl passwd -apr1`)."""
    secret, salted = password.encode(), salt[:8].encode()

    def md5(data: bytes) -> bytes:
        return hashlib.md5(data, usedforsecurity=False).digest()

    inner = md5(secret + salted + secret)
    data = secret + b"$apr1$" + salted + (inner * (len(secret) // 16 + 1))[: len(secret)]
    length = len(secret)
    while length:
        data += b"\0" if length & 1 else secret[:1]
        length >>= 1
    digest = md5(data)
    for turn in range(1000):
        data = secret if turn & 1 else digest
        if turn % 3:
            data += salted
        if turn % 7:
            data += secret
        data += digest if turn & 1 else secret
        digest = md5(data)
    groups = [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)]
    text = "".join(_base64(digest[a] << 16 | digest[b] << 8 | digest[c], 4) for a, b, c in groups)
    return f"$apr1${salt[:8]}${text}{_base64(digest[11], 2)}"


def _base64(value: int, count: int) -> str:
    return "".join(_ITOA64[value >> 6 * position & 63] for position in range(count))


def _password_is(secret: str, hint: str, digest: str | None) -> bool:
    if digest is not None:
        parts = digest.split("$")
        return len(parts) == 4 and parts[1] == "apr1" and apr1(secret, parts[2]) == digest
    # Without the file, first letter and length are all there is to compare.
    return hint == secret[0] + "*" * (len(secret) - 1)


def _visible(row: Json) -> Json:
    """What may be shown, and what the API gives back: all but the passwords."""
    return {
        "name": row["name"],
        "satisfy_any": bool(row.get("satisfy_any")),
        "pass_auth": bool(row.get("pass_auth")),
        "users": sorted(str(item["username"]) for item in row.get("items") or ()),
        "rules": [f"{client['directive']} {client['address']}" for client in row.get("clients") or ()],
    }


def _hosts_of(api: Api, list_id: int) -> list[Vhost]:
    return [Vhost("proxy", row) for row in api.get("/nginx/proxy-hosts") if row.get("access_list_id") == list_id]


def _finder(api: Api, name: str) -> t.Callable[[], Json | None]:
    return lambda: next((row for row in read_lists(api) if row["name"] == name), None)
