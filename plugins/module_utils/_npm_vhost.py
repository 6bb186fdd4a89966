# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What all kinds of hosts of Nginx Proxy Manager have in common: finding, saving again, checking. Private."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import Api, Json, NpmError

KINDS = ("proxy", "redirection", "dead")


@dataclass(frozen=True)
class Vhost:
    """A host of one kind, as the API gave it."""

    kind: str
    row: Json

    @property
    def path(self) -> str:
        return f"/nginx/{self.kind}-hosts/{self.row['id']}"

    @property
    def names(self) -> frozenset[str]:
        return lower_names(self.row.get("domain_names") or ())

    @property
    def label(self) -> str:
        return ", ".join(sorted(self.names))


def lower_names(names: t.Iterable[str]) -> frozenset[str]:
    """A set of domain names as DNS compares them: the API keeps the case it was given."""
    return frozenset(name.strip().lower() for name in names)


def read_vhosts(api: Api, *, names: frozenset[str]) -> list[Vhost]:
    """All hosts, of whatever kind, that serve one of the names; asks only as far as names are left."""
    found: list[Vhost] = []
    missing = names
    for kind in KINDS:
        if not missing:
            break
        for row in api.get(f"/nginx/{kind}-hosts"):
            vhost = Vhost(kind, row)
            if vhost.names & names:
                found.append(vhost)
                missing -= vhost.names
    return found


def save_again(api: Api, vhosts: t.Iterable[Vhost]) -> list[Vhost]:
    """Saves hosts as they are, so that nginx gets their whole configuration again."""
    saved = []
    for vhost in vhosts:
        api.put(vhost.path, {"domain_names": vhost.row["domain_names"]})
        saved.append(vhost)
    return saved


def nginx_error(row: Json) -> str | None:
    """What nginx says against a host, or None; a broken host is created with 201 all the same."""
    meta = row.get("meta") or {}
    if not row.get("enabled", True) or meta.get("nginx_online") is not False:
        return None
    lines = [line for line in str(meta.get("nginx_err") or "").splitlines() if "[emerg]" in line]
    text = lines[0] if lines else str(meta.get("nginx_err") or "no reason given").strip()
    # Between the mark and the message nginx puts its process and thread number.
    return re.sub(r"^.*\[emerg\] (\d+#\d+: )?", "", text)


def check_online(api: Api, vhosts: t.Iterable[Vhost]) -> None:
    """Reads the given hosts anew and fails when nginx refused one: only a later GET tells."""
    for vhost in vhosts:
        error = nginx_error(api.get(vhost.path))
        if error:
            raise NpmError(f"nginx does not serve {vhost.label}: {error}.")
