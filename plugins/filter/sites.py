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
    """Return name, authority (PEM, optional) and expected status (optional) of each name that is served through TLS."""
    found = []
    for host in hosts:
        kind = host.get("certificate", "letsencrypt")
        if kind == "none" or host.get("enabled") is False or certificate not in (None, kind):
            continue
        for name in host["domain_names"]:
            site: Site = {"name": str(name).lower()}
            if ca:
                site["ca"] = ca
            if host.get("ssl_forced") is False:
                site["redirect"] = False
            if host.get("hsts") is False:
                site["hsts"] = False
            if host.get("access_list"):
                # Nobody gets in without a password or the right address.
                site["expect_status"] = [401, 403]
            found.append(site)
    return found


class FilterModule:
    def filters(self) -> dict[str, Callable[..., list[Site]]]:
        return {"sites": sites}
