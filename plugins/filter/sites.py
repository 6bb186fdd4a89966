# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: sites
short_description: What the proxied hosts promise the world
version_added: 0.1.0
author: Diego Nepomuceno Marcos (@diegonmarcos)
description:
  - Turns C(npm_proxy_hosts) into one entry for each name that is served through TLS, as
    M(diegonmarcos.servers.site_probe) takes them.
positional: _input
options:
  _input:
    description: The proxied hosts, as in C(npm_proxy_hosts).
    type: list
    elements: dict
    required: true
  certificate:
    description: Only hosts with this kind of certificate.
    type: str
  ca:
    description: PEM of a private certificate authority that signs the sites.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Look at every site from outside
  diegonmarcos.servers.site_probe:
    address: 203.0.113.10
    sites: "{{ npm_proxy_hosts | diegonmarcos.servers.sites }}"
"""

RETURN = r"""
_value:
  description: One entry for each name.
  type: list
  elements: dict
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Site = dict[str, Any]


def sites(hosts: Iterable[Mapping[str, Any]], certificate: str | None = None, ca: str = "") -> list[Site]:
    """Return name, authority (PEM) and what is switched off of each name that is served through TLS."""
    found: list[Site] = []
    for host in hosts:
        kind = host.get("certificate", "letsencrypt")
        if kind == "none" or host.get("enabled") is False or certificate not in (None, kind):
            continue
        site: Site = {"ca": ca} if ca else {}
        if host.get("ssl_forced") is False:
            # A site that is served in clear too cannot ask browsers to insist on TLS.
            site |= {"redirect": False, "hsts": False}
        if host.get("hsts") is False:
            site["hsts"] = False
        # A name with a wildcard stands for any; nobody can ask for it as it is.
        found += [{"name": str(name).lower(), **site} for name in host["domain_names"] if not str(name).startswith("*")]
    return found


class FilterModule:
    def filters(self) -> dict[str, Callable[..., list[Site]]]:
        return {"sites": sites}
