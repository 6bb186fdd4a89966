# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: alias_loop
short_description: A circle among mail aliases
version_added: 0.1.0
author: Diego Nepomuceno Marcos (@diegonmarcos)
description:
  - Follows aliases from target to target and returns the first circle, with its start repeated at its end, or an empty
    list.
  - An account in its own alias keeps a copy, which is no circle.
positional: _input, accounts
options:
  _input:
    description: Aliases with C(address) and C(targets).
    type: list
    elements: dict
    required: true
  accounts:
    description: Addresses with a mailbox, where the way of a message ends.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show a circle
  ansible.builtin.debug:
    msg: "{{ aliases | diegonmarcos.servers.alias_loop | join(' to ') }}"
  vars:
    aliases:
      - {address: a@example.org, targets: [b@example.org]}
      - {address: b@example.org, targets: [a@example.org]}
"""

RETURN = r"""
_value:
  description: The addresses of the circle.
  type: list
  elements: str
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def alias_loop(aliases: Iterable[Mapping[str, Any]], accounts: Iterable[str] = ()) -> list[str]:
    """Return the first circle among aliases, such as [a, b, a]; empty where every way ends."""
    ends = {address.lower() for address in accounts}
    ways = {
        str(alias["address"]).lower(): [str(target).lower() for target in alias.get("targets") or ()]
        for alias in aliases
        if alias.get("address")
    }
    settled: set[str] = set()
    for start in ways:
        found = _follow(start, [], ways, ends, settled)
        if found:
            return found
    return []


def _follow(
    address: str, path: list[str], ways: Mapping[str, list[str]], ends: set[str], settled: set[str]
) -> list[str]:
    if address in path:
        # To itself, where it has a mailbox, is how a copy is kept.
        return [] if address in ends and path[-1] == address else [*path[path.index(address) :], address]
    if address in settled or address not in ways:
        return []
    for target in ways[address]:
        found = _follow(target, [*path, address], ways, ends, settled)
        if found:
            return found
    settled.add(address)
    return []


class FilterModule:
    def filters(self) -> dict[str, Callable[..., list[str]]]:
        return {"alias_loop": alias_loop}
