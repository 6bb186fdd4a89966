# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Nginx Proxy Manager's own administration as a proxied site behind a password. Private.

An access list with users alone makes it unusable: the page sends its token in the header that the browser sends the
password in, and nginx takes the one for the other (upstream's FAQ and issues 827, 843, 3804). So a good password earns
a cookie, which counts as the password from then on, until the list's users or passwords change.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import socket
import typing as t
from dataclasses import dataclass, field

# Where the administration listens inside the container, and the API behind it.
_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback", "npm", "npm.proxy"})
_PORTS = (81, 3000)
_SECRET = re.compile(r'\$cookie_npm_gate != "([A-Za-z0-9_-]{32,})"')
_SEAL = re.compile(r"# users ([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True)
class AccessList:
    """What a host needs to know of a list; `accounts` differ as soon as a user or password does."""

    id: int
    asks_password: bool = False
    satisfy_any: bool = False
    rules: tuple[str, ...] = ()
    accounts: tuple[str, ...] = field(default=(), repr=False)


def is_own_admin(forward_host: str, forward_port: int) -> bool:
    if forward_port not in _PORTS:
        return False
    # What follows a slash in there is taken for a path.
    name = forward_host.partition("/")[0].strip().lower().removesuffix(".")
    address = _address(name.removeprefix("[").removesuffix("]"))
    if address is None:
        return name in _NAMES or name.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        try:
            # 127.1, 0 and 0x7f000001 are addresses to nginx, since they are to the C library.
            return ipaddress.IPv4Address(socket.inet_aton(text))
        except (OSError, ValueError):
            return None
    return getattr(address, "ipv4_mapped", None) or address


def parse_list(row: dict[str, t.Any], hashes: t.Mapping[str, str] | None = None) -> AccessList:
    """`hashes` are those nginx checks against, by user: the API itself tells little more than the names."""
    users = {str(item["username"]): [item.get("id"), item.get("hint")] for item in row.get("items") or ()}
    accounts = [json.dumps([user, *users[user], (hashes or {}).get(user)]) for user in sorted(users)]
    return AccessList(
        id=int(row["id"]),
        asks_password=bool(row.get("items")),
        satisfy_any=bool(row.get("satisfy_any")),
        rules=tuple(f"{client['directive']} {client['address']};" for client in row.get("clients") or ()),
        accounts=tuple(accounts),
    )


def gate(access_list: AccessList, before: str) -> str:
    """The lines that let a browser in; the secret in them stays the one that `before` has for the same accounts."""
    found, sealed = _SECRET.search(before), _SEAL.search(before)
    secret = found.group(1) if found else ""
    if not (secret and sealed and hmac.compare_digest(sealed.group(1), _seal(secret, access_list))):
        secret = secrets.token_urlsafe(32)
    rules = [*access_list.rules, "deny all;"] if access_list.rules else []
    proxy = ["add_header Strict-Transport-Security $hsts_header always;", "include conf.d/include/proxy.conf;"]
    with_cookie = [
        "error_page 418 = @password;",
        f'if ($cookie_npm_gate != "{secret}") {{ return 418; }}',
        # Where either is enough, the cookie stands for the password.
        *([] if access_list.satisfy_any else rules),
        *proxy,
    ]
    with_password = [
        'auth_basic "Authorization required";',
        f"auth_basic_user_file /data/access/{access_list.id};",
        *rules,
        f"satisfy {'any' if access_list.satisfy_any else 'all'};",
        'proxy_set_header Authorization "";',
        f'add_header Set-Cookie "npm_gate={secret}; Path=/; Secure; HttpOnly; SameSite=Strict";',
        *proxy,
    ]
    seal = f"# users {_seal(secret, access_list)}"
    return "\n".join(
        [seal, "location / {", *_indent(with_cookie), "}", "location @password {", *_indent(with_password), "}"]
    )


def without_secret(config: str) -> str:
    """The same lines, fit to be shown."""
    found = _SECRET.search(config)
    return config.replace(found.group(1), "(secret)") if found else config


def _seal(secret: str, access_list: AccessList) -> str:
    """Ties a secret to the accounts it was made for, and tells nothing about their hashes."""
    state = json.dumps([access_list.id, *access_list.accounts])
    return hmac.new(secret.encode(), state.encode(), hashlib.sha256).hexdigest()


def _indent(lines: t.Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]
