#!/usr/bin/python
# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: matomo_site
short_description: Manage the sites that Matomo measures
version_added: 0.1.0
description:
  - Makes the sites as listed, all in one task.
  - A site is known by its addresses. One that Matomo already has under any of them is changed, never made twice, which
    Matomo itself would do.
  - Sites that are not listed are left alone. All mistakes in the list are found before anything changes.
author:
  - "Diego Nepomuceno Marcos (@diegonmarcos)"
extends_documentation_fragment:
  - diegonmarcos.servers.attributes
  - diegonmarcos.servers.matomo
  - diegonmarcos.servers.matomo.token
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  sites:
    description:
      - The sites.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - The name of the site.
        type: str
        required: true
      urls:
        description:
          - Its addresses, the main one first. C(http) and C(https), and a slash at the end, make no difference.
        type: list
        elements: str
        required: true
      timezone:
        description:
          - The timezone of its reports, as V(Europe/Berlin). A change counts from then on. Unless given, a new site
            gets V(UTC) and an old one keeps what it has.
        type: str
      currency:
        description:
          - The currency of its goals, as V(EUR).
        type: str
      ecommerce:
        description:
          - Whether orders are measured.
        type: bool
      site_search:
        description:
          - Whether searches on the site are measured.
        type: bool
      exclude_unknown_urls:
        description:
          - Whether hits from other addresses than O(sites[].urls) are dropped, so that nobody else can send any.
        type: bool
      keep_url_fragment:
        description:
          - Whether what follows a C(#) makes a page of its own.
        type: bool
      excluded_ips:
        description:
          - Addresses whose visits are not counted.
        type: list
        elements: str
      excluded_parameters:
        description:
          - Parameters that are cut off from addresses.
        type: list
        elements: str
      excluded_user_agents:
        description:
          - Parts of the names of browsers whose visits are not counted.
        type: list
        elements: str
      state:
        description:
          - Whether the site exists. V(absent) removes it from Matomo's list at once, its raw data with the next purge.
        type: str
        choices: [absent, present]
        default: present
"""

EXAMPLES = r"""
- name: Measure two sites
  diegonmarcos.servers.matomo_site:
    host_name: analytics.example.org
    token: "{{ matomo_login.token }}"
    sites:
      - name: Example
        urls: [https://www.example.org, https://example.org]
        timezone: Europe/Berlin
      - name: Shop
        urls: [https://shop.example.org]
        ecommerce: true
        currency: EUR
"""

RETURN = r"""
sites:
  description: The listed sites that are present now, in the order of the list.
  returned: success
  type: list
  elements: dict
  contains:
    idsite:
      description: The number of the site, which its tracking code names. In check mode V(null) for a new one.
      type: int
    name:
      description: Its name.
      type: str
    urls:
      description: Its addresses.
      type: list
      elements: str
    timezone:
      description: The timezone of its reports.
      type: str
  sample:
    - {idsite: 1, name: Example, urls: ["https://www.example.org"], timezone: Europe/Berlin}
actions:
  description: What was done with each site that changed, by its name.
  returned: success
  type: dict
  sample: {Shop: create}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_api import MatomoError
from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_module import (
    CONNECTION,
    TOKEN,
    alone,
    api_of,
    fail,
    read_or_predict,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_site import (
    SETTINGS,
    Wanted,
    apply_sites,
    check_sites,
    check_timezones,
    plan_sites,
    read_sites,
    show,
)

SITE = {
    "name": {"type": "str", "required": True},
    "urls": {"type": "list", "elements": "str", "required": True},
    "timezone": {"type": "str"},
    "currency": {"type": "str"},
    "ecommerce": {"type": "bool"},
    "site_search": {"type": "bool"},
    "exclude_unknown_urls": {"type": "bool"},
    "keep_url_fragment": {"type": "bool"},
    "excluded_ips": {"type": "list", "elements": "str"},
    "excluded_parameters": {"type": "list", "elements": "str"},
    "excluded_user_agents": {"type": "list", "elements": "str"},
    "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
}


def wanted_of(entry: dict[str, Any]) -> Wanted:
    settings = {key: entry[key] for key in SETTINGS if entry[key] is not None}
    urls = tuple(url.strip() for url in entry["urls"])
    return Wanted(entry["name"].strip(), urls, settings, present=entry["state"] == "present")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            **TOKEN,
            "sites": {"type": "list", "elements": "dict", "required": True, "options": SITE},
        },
        supports_check_mode=True,
    )
    try:
        wanted = [wanted_of(entry) for entry in module.params["sites"]]
        check_sites(wanted)
        api = api_of(module)
        with alone(module):
            found = read_or_predict(module, api, lambda: read_sites(api, wanted), None)
            steps = plan_sites(wanted, found or [])
            if found is not None:
                check_timezones(api, steps)
            todo = [step for step in steps if step.action != "keep"]
            rows = apply_sites(api, steps, check=module.check_mode)
    except MatomoError as error:
        fail(module, error)
    module.exit_json(
        changed=bool(todo),
        actions={step.wanted.name: step.action for step in todo},
        sites=rows,
        diff={
            "before": {step.wanted.name: show(step.before) for step in todo if step.before},
            "after": {step.wanted.name: show(step.after) for step in todo if step.after},
        },
    )


if __name__ == "__main__":
    main()
