#!/usr/bin/python
# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: npm_proxy_host
short_description: Manage the sites that Nginx Proxy Manager serves, with their certificates
version_added: 0.1.0
description:
  - Makes the proxy hosts as listed, each with a certificate from Let's Encrypt unless told otherwise.
  - A host is known by its set of domain names. All hosts are done in one task.
  - A certificate that the authority refuses leaves its host on plain HTTP, does not keep the other hosts from being
    done, and fails the task with the authority's reason and the remedy. A later run asks again, once.
  - A change that nginx refuses is taken back and fails the task with what nginx says.
  - A host that leads to Nginx Proxy Manager's own administration needs an access list. A password then earns a cookie,
    because the page itself needs the header that passwords are sent in; the next run of this module after a change of
    the list's users or passwords makes all earlier cookies void.
author:
  - "Diego Nepomuceno Marcos (@diegonmarcos)"
extends_documentation_fragment:
  - diegonmarcos.servers.attributes
  - diegonmarcos.servers.npm
  - diegonmarcos.servers.npm.data
attributes:
  check_mode:
    support: full
    details:
      - Access lists and certificates that do not exist yet are taken as made by an earlier task.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  hosts:
    description:
      - The hosts.
    type: list
    elements: dict
    required: true
    suboptions:
      domain_names:
        description:
          - The names the host answers to.
        type: list
        elements: str
        required: true
      forward_host:
        description:
          - Name or address of the service behind the host. Required unless O(hosts[].state=absent).
        type: str
      forward_port:
        description:
          - Port of the service behind the host. Required unless O(hosts[].state=absent).
        type: int
      forward_scheme:
        description:
          - How the service behind the host is spoken to.
        type: str
        choices: [http, https]
        default: http
      certificate:
        description:
          - V(letsencrypt) requests one for exactly these names, V(none) serves plain HTTP, anything else is the name
            of a certificate that exists.
        type: str
        default: letsencrypt
      access_list:
        description:
          - The name of the access list that protects the host.
        type: str
      ssl_forced:
        description:
          - Whether plain HTTP leads to HTTPS. Only with a certificate.
        type: bool
        default: true
      http2:
        description:
          - Whether HTTP/2 is spoken. Only with a certificate.
        type: bool
        default: true
      hsts:
        description:
          - Whether browsers are told to come by HTTPS only, for two years. Only with O(hosts[].ssl_forced).
        type: bool
        default: true
      trust_forwarded_proto:
        description:
          - Whether the scheme a proxy in front of this one reports is believed. Needs version 2.14.
        type: bool
        default: false
      block_exploits:
        description:
          - Whether requests that look like common attacks are refused. Loses tracking hits of Matomo.
        type: bool
        default: true
      caching:
        description:
          - Whether assets are cached, with the cache headers of the service dropped.
        type: bool
        default: false
      websockets:
        description:
          - Whether connections may be upgraded to websockets.
        type: bool
        default: true
      advanced_config:
        description:
          - Lines for nginx inside the server block.
        type: str
        default: ""
      locations:
        description:
          - Paths that another service answers.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description:
              - The path.
            type: str
            required: true
          forward_scheme:
            description:
              - How that service is spoken to.
            type: str
            choices: [http, https]
            default: http
          forward_host:
            description:
              - Name or address of that service.
            type: str
            required: true
          forward_port:
            description:
              - Its port.
            type: int
            required: true
          forward_path:
            description:
              - The path at that service, if it is another one.
            type: str
            default: ""
          advanced_config:
            description:
              - Lines for nginx inside the location block.
            type: str
            default: ""
      enabled:
        description:
          - Whether the host is served. A host that is switched off keeps its settings and requests no certificate.
        type: bool
        default: true
      state:
        description:
          - Whether the host exists.
        type: str
        choices: [absent, present]
        default: present
  hsts_subdomains:
    description:
      - Whether HSTS covers subdomains. nginx knows one value for the whole server, so it is no option of a host.
    type: bool
    default: false
  managed_by:
    description:
      - The mark that hosts of this list carry.
    type: str
    default: diegonmarcos.servers
  remove_unlisted:
    description:
      - Whether hosts that carry the mark O(managed_by) and are not listed are removed. Others never are.
      - A certificate that this module requested for a removed host goes with it, unless something else uses it.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Serve two sites over TLS
  diegonmarcos.servers.npm_proxy_host:
    token: "{{ npm_login.token }}"
    hosts:
      - domain_names: [www.example.org, example.org]
        forward_host: website
        forward_port: 8080
      - domain_names: [proxy.example.org]
        forward_host: 127.0.0.1
        forward_port: 81
        access_list: admins
    remove_unlisted: true
"""

RETURN = r"""
hosts:
  description: The hosts of the option that are present now.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The number of the host.
      type: int
    domain_names:
      description: The names it answers to.
      type: list
      elements: str
    urls:
      description: Where it is to be seen.
      type: list
      elements: str
    forward:
      description: What is behind it.
      type: str
    certificate_id:
      description: The number of its certificate, 0 without one.
      type: int
    certificate_expires_on:
      description: When its certificate ends, in UTC.
      type: str
    access_list:
      description: The access list that protects it.
      type: str
    enabled:
      description: Whether it is served.
      type: bool
    managed_by:
      description: The mark it carries.
      type: str
  sample:
    - id: 1
      domain_names: [www.example.org]
      urls: ["https://www.example.org/"]
      forward: http://website:8080
      certificate_id: 1
      certificate_expires_on: "2027-02-20 07:10:16"
      access_list: null
      enabled: true
      managed_by: diegonmarcos.servers
actions:
  description: What was done with each host that changed, by its names.
  returned: success
  type: dict
  sample: {www.example.org: create}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import Json, NpmError
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_module import (
    CONNECTION,
    DATA_DIR,
    api_of,
    data_dir,
    fail,
    read_or_predict,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_proxy_host import (
    LETSENCRYPT,
    Policy,
    WantedHost,
    World,
    apply_hosts,
    check_wanted,
    describe,
    hsts_contradictions,
    plan_hosts,
    read_world,
    settings_of,
    show,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_vhost import lower_names

LOCATION: Json = {
    "path": {"type": "str", "required": True},
    "forward_scheme": {"type": "str", "choices": ["http", "https"], "default": "http"},
    "forward_host": {"type": "str", "required": True},
    "forward_port": {"type": "int", "required": True},
    "forward_path": {"type": "str", "default": ""},
    "advanced_config": {"type": "str", "default": ""},
}

HOST: Json = {
    "domain_names": {"type": "list", "elements": "str", "required": True},
    "forward_host": {"type": "str"},
    "forward_port": {"type": "int"},
    "forward_scheme": {"type": "str", "choices": ["http", "https"], "default": "http"},
    "certificate": {"type": "str", "default": LETSENCRYPT},
    "access_list": {"type": "str"},
    "ssl_forced": {"type": "bool", "default": True},
    "http2": {"type": "bool", "default": True},
    "hsts": {"type": "bool", "default": True},
    "trust_forwarded_proto": {"type": "bool", "default": False},
    "block_exploits": {"type": "bool", "default": True},
    "caching": {"type": "bool", "default": False},
    "websockets": {"type": "bool", "default": True},
    "advanced_config": {"type": "str", "default": ""},
    "locations": {"type": "list", "elements": "dict", "default": [], "options": LOCATION},
    "enabled": {"type": "bool", "default": True},
    "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
}


def wanted_of(entry: Json) -> WantedHost:
    fields = {key: value for key, value in entry.items() if key not in ("domain_names", "state", "locations")}
    fields["forward_host"] = fields["forward_host"] or ""
    fields["forward_port"] = fields["forward_port"] or 0
    return WantedHost(
        domains=lower_names(entry["domain_names"]),
        locations=tuple(entry["locations"]),
        present=entry["state"] == "present",
        **fields,
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            **DATA_DIR,
            "hosts": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": HOST,
                "required_if": [("state", "present", ["forward_host", "forward_port"])],
            },
            "hsts_subdomains": {"type": "bool", "default": False},
            "managed_by": {"type": "str", "default": "diegonmarcos.servers"},
            "remove_unlisted": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    policy = Policy(params["managed_by"], params["hsts_subdomains"], params["remove_unlisted"])
    changed = False
    diff: Json = {"before": {}, "after": {}}
    try:
        wanted = [wanted_of(one) for one in params["hosts"]]
        check_wanted(wanted)
        api = api_of(module)
        world = read_or_predict(module, api, lambda: read_world(api, wanted, data_dir(module)), World())
        steps = plan_hosts(wanted, world, policy, predict=module.check_mode)
        todo = [step for step in steps if step.action != "keep"]
        changed = bool(todo)
        diff = {
            "before": {step.label: show(step.before, world) for step in todo if step.before},
            "after": {step.label: show(step.after, world) for step in todo if step.after},
        }
        rows = (
            list(world.rows) if module.check_mode else apply_hosts(api, steps, world, policy, data_dir=data_dir(module))
        )
    except NpmError as error:
        fail(module, error, changed=changed, diff=diff)
    for names in hsts_contradictions(rows, policy):
        module.warn(f"hsts_subdomains may not hold: {names} is served without it, and nginx has one value for all.")
    present = {tuple(sorted(host.domains)) for host in wanted if host.present}
    module.exit_json(
        changed=changed,
        actions={step.label: step.action for step in todo},
        hosts=[describe(row) for row in rows if settings_of(row).domain_names in present],
        diff=diff,
    )


if __name__ == "__main__":
    main()
