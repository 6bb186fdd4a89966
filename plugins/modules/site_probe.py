#!/usr/bin/python
# Copyright (c) 2026, Diego Nepomuceno Marcos
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: site_probe
short_description: See whether a box answers the world as it should, and nowhere else
version_added: 0.1.0
description:
  - Looks at a box from outside, so it is meant to run with C(delegate_to=localhost). It connects to ports that should
    be open and to those that must not be, and checks TLS, certificate, redirect and answer of each site.
  - Every difference is one sentence with its likely cause. Nothing is changed, ever.
  - It takes below 20 seconds, also where a firewall drops everything, though it looks twice at a site that seems wrong.
  - Only TCP is probed. Rows of O(open_ports) for UDP are returned as V(not probed), since an open port and a dropping
    firewall look the same there.
extends_documentation_fragment:
  - diegonmarcos.servers.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  address:
    description: Address, or name, that everything is asked of. Sites are asked of it too, whatever the DNS says.
    type: str
    required: true
  open_ports:
    description: What should be open.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: Number of the port.
        type: int
        required: true
      protocol:
        description: Protocol of the port.
        type: str
        choices: [tcp, udp]
        default: tcp
      name:
        description: Its name in messages.
        type: str
        default: ""
      service:
        description: Not used here, so that rows of a firewall table can be given as they are.
        type: str
  closed_ports:
    description:
      - What must not be open. Defaults to about 150 ports that are often open by mistake (databases, caches, the Docker
        API, admin pages, development servers), less those of O(open_ports) and O(sites).
    type: list
    elements: int
  sites:
    description: What should be served.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Host name of the site.
        type: str
        required: true
      ca:
        description: PEM of a private authority that may have signed its certificate, next to those this machine trusts.
        type: str
      redirect:
        description: Whether HTTP should lead to HTTPS.
        type: bool
        default: true
      hsts:
        description: Whether it should send an HSTS header.
        type: bool
        default: true
      expect_status:
        description: Status codes it may answer with. Without it anything below 500 will do.
        type: list
        elements: int
      path:
        description: What is asked for.
        type: str
        default: /
      port:
        description: Port of HTTPS.
        type: int
        default: 443
      http_port:
        description: Port of HTTP.
        type: int
        default: 80
  minimum_days:
    description: Days a certificate must have left. One that renews in time never has less than 20.
    type: int
    default: 14
  timeout:
    description: Seconds to wait for one connection.
    type: float
    default: 2.5
  fail:
    description: Whether to fail when something differs, or only to return it.
    type: bool
    default: true
author:
  - Diego Nepomuceno Marcos (@diegonmarcos)
"""

EXAMPLES = r"""
- name: Look at the box from outside
  diegonmarcos.servers.site_probe:
    address: 203.0.113.10
    open_ports:
      - {port: 22, name: ssh}
      - {port: 80, name: http}
      - {port: 443, name: https}
    sites:
      - name: app.example.org
      - name: private.example.org
        expect_status: [401]
  delegate_to: localhost
  become: false
"""

RETURN = r"""
problems:
  description: One sentence for each difference; empty when all is as it should be.
  type: list
  elements: str
  returned: always
  sample: ["Port 443 (https) is filtered: open it in the Oracle security list too."]
table:
  description: The result for people, one aligned line each.
  type: list
  elements: str
  returned: always
ports:
  description: Every port that was looked at.
  type: list
  elements: dict
  returned: always
  contains:
    port:
      description: Number of the port.
      type: int
      returned: always
    protocol:
      description: V(tcp) or V(udp).
      type: str
      returned: always
    name:
      description: Its name as given.
      type: str
      returned: always
    expected:
      description: V(open) or V(closed).
      type: str
      returned: always
    state:
      description: V(open), V(closed) (refused), V(filtered) (no answer, or that of a firewall) or V(not probed).
      type: str
      returned: always
    ok:
      description: Whether it is as it should be.
      type: bool
      returned: always
sites:
  description: Every site. What could not be found out is null.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: Host name of the site.
      type: str
      returned: always
    tls:
      description: Best version both sides speak.
      type: str
      returned: always
      sample: TLSv1.3
    alpn:
      description: Protocol that was settled on, of V(h2) and V(http/1.1).
      type: str
      returned: always
    legacy_tls:
      description: Whether V(TLS 1.0) and V(TLS 1.1) are V(refused), V(accepted) or V(unknown).
      type: dict
      returned: always
    certificate_names:
      description: Names in the certificate.
      type: list
      elements: str
      returned: always
    issuer:
      description: Who issued it.
      type: str
      returned: always
    days_left:
      description: Days until the certificate ends, below zero once it has.
      type: int
      returned: always
    trusted:
      description: Whether its chain leads to an authority that this machine or O(sites[].ca) trusts.
      type: bool
      returned: always
    status:
      description: Status of the answer by HTTPS.
      type: int
      returned: always
    hsts:
      description: The HSTS header.
      type: str
      returned: always
    redirect:
      description: V(https) when HTTP leads there, else what it does.
      type: str
      returned: always
    ok:
      description: Whether the site is as it should be.
      type: bool
      returned: always
"""

import asyncio
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._site_probe import (
    PortState,
    ProbeError,
    SiteState,
    parse_ports,
    parse_sites,
    probe,
)


def _port(state: PortState) -> dict[str, t.Any]:
    return {
        "port": state.port.port,
        "protocol": state.port.protocol,
        "name": state.port.name,
        "expected": "open" if state.port.open else "closed",
        "state": state.state,
        "ok": state.ok,
    }


def _site(look: SiteState) -> dict[str, t.Any]:
    return {
        "name": look.site.name,
        "tls": look.tls,
        "alpn": look.alpn,
        "legacy_tls": look.legacy,
        "certificate_names": look.names,
        "issuer": look.issuer,
        "days_left": look.days_left,
        "trusted": look.trusted,
        "status": look.status,
        "hsts": look.hsts,
        "redirect": look.redirect,
        "ok": not look.problems,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "open_ports": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "port": {"type": "int", "required": True},
                    "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
                    "name": {"type": "str", "default": ""},
                    "service": {"type": "str"},
                },
            },
            "closed_ports": {"type": "list", "elements": "int"},
            "sites": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "ca": {"type": "str"},
                    "redirect": {"type": "bool", "default": True},
                    "hsts": {"type": "bool", "default": True},
                    "expect_status": {"type": "list", "elements": "int"},
                    "path": {"type": "str", "default": "/"},
                    "port": {"type": "int", "default": 443},
                    "http_port": {"type": "int", "default": 80},
                },
            },
            "minimum_days": {"type": "int", "default": 14},
            "timeout": {"type": "float", "default": 2.5},
            "fail": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        sites = parse_sites(params["sites"])
        ports = parse_ports(params["open_ports"], params["closed_ports"], sites)
        report = asyncio.run(
            probe(params["address"], ports, sites, timeout=params["timeout"], minimum_days=params["minimum_days"])
        )
    except ProbeError as error:
        module.fail_json(msg=str(error))
    result = {
        "problems": report.problems,
        "table": report.table,
        "ports": [_port(state) for state in report.ports],
        "sites": [_site(look) for look in report.sites],
    }
    if report.problems and params["fail"]:
        module.fail_json(msg="\n".join([*report.problems, "", *report.table]), **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
