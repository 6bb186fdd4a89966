#!/usr/bin/python
# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: npm_setting
short_description: Choose what Nginx Proxy Manager shows for unknown sites
version_added: 0.1.0
description:
  - Sets the default site, which answers plain HTTP requests for a name that no host serves.
author:
  - "Diego Nepomuceno Marcos (@diegonmarcos)"
extends_documentation_fragment:
  - diegonmarcos.servers.attributes
  - diegonmarcos.servers.npm
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  default_site:
    description:
      - V(404) says that there is nothing, V(444) hangs up, V(congratulations) is upstream's own page,
        V(redirect) sends the visitor to O(redirect_url), V(html) shows O(html).
    type: str
    required: true
    choices: ["404", "444", congratulations, html, redirect]
  redirect_url:
    description:
      - Where V(redirect) leads.
    type: str
  html:
    description:
      - The page of V(html).
    type: str
"""

EXAMPLES = r"""
- name: Send visitors of unknown names to the main site
  diegonmarcos.servers.npm_setting:
    token: "{{ npm_login.token }}"
    default_site: redirect
    redirect_url: https://www.example.org/
"""

RETURN = r"""
default_site:
  description: The setting as it is now.
  returned: success
  type: dict
  sample: {value: "404", meta: {}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import Json, NpmError
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_module import (
    CONNECTION,
    api_of,
    fail,
    read_or_predict,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_setting import (
    PAGES,
    read_default_site,
    wanted_default_site,
    write_default_site,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            "default_site": {"type": "str", "required": True, "choices": list(PAGES)},
            "redirect_url": {"type": "str"},
            "html": {"type": "str"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        wanted = wanted_default_site(params["default_site"], redirect_url=params["redirect_url"], html=params["html"])
        api = api_of(module)
        empty: Json = {"value": "congratulations", "meta": {}}
        before = read_or_predict(module, api, lambda: read_default_site(api), empty)
        changed = before != wanted
        if changed and not module.check_mode:
            write_default_site(api, wanted)
    except NpmError as error:
        fail(module, error)
    module.exit_json(changed=changed, default_site=wanted, diff={"before": before, "after": wanted})


if __name__ == "__main__":
    main()
