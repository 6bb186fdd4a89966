#!/usr/bin/python
# Copyright (c) 2026, Diego Nepomuceno Marcos
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mail_route_info
short_description: Tell which ways out of a box are open to its mail
version_added: 0.1.0
description:
  - Logs in to the relay as the mail server will, greets mail servers of the world on port 25, and looks up the name
    behind the box's address. It sends no mail.
extends_documentation_fragment:
  - diegonmarcos.servers.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
    details: Reads only.
  idempotent:
    support: full
options:
  relay_host:
    description: The relay; nothing is asked where it is empty.
    type: str
    default: ""
  relay_port:
    description: Its port. V(465) is spoken to in TLS from the start, any other with STARTTLS.
    type: int
    default: 587
  relay_username:
    description: The user to log in as; empty for a relay that knows the box by its address.
    type: str
    default: ""
  relay_password:
    description: That user's password.
    type: str
    default: ""
  relay_ca:
    description: PEM of the authority that signed the relay's certificate, where the world does not know it.
    type: str
    default: ""
  relay_verify:
    description: Whether the relay's certificate must be valid for its name.
    type: bool
    default: true
  port_25_hosts:
    description: Mail servers to greet on port 25 (or the port after a colon); none is greeted where the list is empty.
    type: list
    elements: str
    default: []
  address:
    description: The address whose name is looked up; none where it is empty.
    type: str
    default: ""
  resolve:
    description: Names to look up with the box's own resolver.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait for each answer.
    type: int
    default: 15
author:
  - Diego Nepomuceno Marcos (@diegonmarcos)
"""

EXAMPLES = r"""
- name: See whether mail can leave
  diegonmarcos.servers.mail_route_info:
    relay_host: smtp.relay.example
    relay_username: box
    relay_password: "{{ relay_password }}"
    port_25_hosts: [mx.example.org]
    address: 203.0.113.10
"""

RETURN = r"""
relay_problem:
  description: What is in the way of the relay, in one sentence; empty where nothing is, or none was asked.
  returned: success
  type: str
port_25:
  description: What each of O(port_25_hosts) said, empty where it did not answer.
  returned: success
  type: dict
  sample: {"mx.example.org": "220 mx.example.org ESMTP"}
reverse_name:
  description: The name behind O(address), or nothing.
  returned: success
  type: str
  sample: mail.example.org
reverse_name_points_back:
  description: Whether that name leads to O(address) again.
  returned: success
  type: bool
resolved:
  description:
    - IPv4 addresses of each name in O(resolve), an empty list where there is none.
    - Nothing at all where the resolver does not answer.
  returned: success
  type: dict
  sample: {"mail.example.org": ["203.0.113.10"]}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils import _mail_route, _preflight


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "relay_host": {"type": "str", "default": ""},
            "relay_port": {"type": "int", "default": 587},
            "relay_username": {"type": "str", "default": ""},
            "relay_password": {"type": "str", "default": "", "no_log": True},
            "relay_ca": {"type": "str", "default": ""},
            "relay_verify": {"type": "bool", "default": True},
            "port_25_hosts": {"type": "list", "elements": "str", "default": []},
            "address": {"type": "str", "default": ""},
            "resolve": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 15},
        },
        supports_check_mode=True,
    )
    given = module.params
    problem = ""
    if given["relay_host"]:
        relay = _mail_route.Relay(
            given["relay_host"],
            given["relay_port"],
            given["relay_username"],
            given["relay_password"],
            given["relay_ca"],
            given["relay_verify"],
        )
        problem = _mail_route.relay_problem(relay, given["timeout"])
    name = _mail_route.reverse_name(given["address"]) if given["address"] else ""
    module.exit_json(
        changed=False,
        relay_problem=problem,
        port_25=_mail_route.port_25_answers(given["port_25_hosts"], given["timeout"]),
        reverse_name=name,
        reverse_name_points_back=bool(name) and _mail_route.points_back(name, given["address"]),
        resolved=_preflight.resolve(given["resolve"]),
    )


if __name__ == "__main__":
    main()
