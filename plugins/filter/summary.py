# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: summary
short_description: The table a play ends with
version_added: 0.1.0
author: Diego Nepomuceno Marcos (@diegonmarcos)
description:
  - Turns the lines that M(diegonmarcos.servers.memory_budget) measured into one table of what runs, where it is
    reached, whether it is healthy, and how much memory it uses.
positional: _input
options:
  _input:
    description: RV(diegonmarcos.servers.memory_budget#module:lines).
    type: list
    elements: dict
    required: true
  hosts:
    description:
      - The proxied hosts, as in C(npm_proxy_hosts). One that leads to no service of the table is the proxy's own.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Show what runs
  ansible.builtin.debug:
    msg: "{{ memory.lines | diegonmarcos.servers.summary(hosts=npm_proxy_hosts) }}"
"""

RETURN = r"""
_value:
  description: The table, one line per service and one more for each further address.
  type: str
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.diegonmarcos.servers.plugins.module_utils._table import align

_PROXY = "npm"


def summary(lines: Sequence[Mapping[str, Any]], hosts: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return the table of a box: service, URL, health, memory used and limit (MB), verdict."""
    rows = [("service", "url", "health", "used", "limit", "memory")]
    services = {line["name"] for line in lines}
    for line in lines:
        first, *others = _urls(line["name"], services, hosts) or ["-"]
        limit = "-" if line["limit"] is None else f"{line['limit']:.0f} MB"
        used = "-" if line["working_set"] is None else f"{line['working_set']:.0f} MB"
        rows.append((line["name"], first, line.get("health") or "-", used, limit, line["verdict"].replace("_", " ")))
        rows += [("", url, "", "", "", "") for url in others]
    return "\n".join(align(rows, text_columns=(0, 1, 2, 5)))


def _urls(service: str, services: set[str], hosts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the addresses under which the proxied hosts reach a service."""
    return [
        ("http://" if host.get("certificate") == "none" else "https://") + str(name).lower()
        for host in hosts
        if (host["forward_host"] if host["forward_host"] in services else _PROXY) == service
        for name in host["domain_names"]
    ]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., str]]:
        return {"summary": summary}
