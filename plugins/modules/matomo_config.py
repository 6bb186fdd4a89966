#!/usr/bin/python
# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: matomo_config
short_description: Set Matomo's configuration and how it protects visitors
version_added: 0.1.0
description:
  - Sets values of C(config.ini.php) through Matomo's own console, and the privacy settings through its API.
  - Everything is read first, from the file and the table that Matomo reads, because the API cannot be asked for
    privacy settings. Only what differs is written, and then read again.
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
    details:
      - Values whose names speak of passwords, salts or secrets are hidden.
  idempotent:
    support: full
options:
  php:
    description:
      - The command that runs PHP in Matomo's folder as the user that owns it, as a list of words.
    type: list
    elements: str
    default: [docker, exec, --user, www-data, matomo, php]
  general:
    description:
      - Values of the section C(General). Lists are written as lists.
    type: dict
    default: {}
  sections:
    description:
      - Values of other sections, by section.
    type: dict
    default: {}
  privacy:
    description:
      - How visitors are protected. What is not given is left as it is.
    type: dict
    default: {}
    suboptions:
      anonymize_ip_bytes:
        description:
          - How many bytes of an address are dropped before it is stored, 0 for none.
        type: int
        choices: [0, 1, 2, 3, 4]
      anonymize_ip_for_location:
        description:
          - Whether the location of a visitor is also taken from the shortened address.
        type: bool
      anonymize_user_id:
        description:
          - Whether user names that a site reports are replaced by a pseudonym.
        type: bool
      anonymize_order_id:
        description:
          - Whether order numbers that a site reports are replaced by a pseudonym.
        type: bool
      anonymize_referrer:
        description:
          - What is cut off from the page a visitor came from.
        type: str
        choices: ['', exclude_query, exclude_path, exclude_all]
      do_not_track:
        description:
          - Whether visitors whose browsers ask not to be tracked are not.
        type: bool
      cookieless:
        description:
          - Whether no visitor ever gets a cookie, whatever a site's tracking code says. Rewrites C(matomo.js).
        type: bool
      delete_logs_older_than_days:
        description:
          - After how many days raw data is deleted, 0 for never.
          - Written to the configuration file, and the form of the user interface that would override it is closed.
        type: int
      delete_reports_older_than_months:
        description:
          - After how many months reports are deleted, 0 for never. Otherwise as O(privacy.delete_logs_older_than_days).
        type: int
  token:
    description:
      - Needed where a privacy setting differs.
"""

EXAMPLES = r"""
- name: Trust the proxy, and keep little for not too long
  diegonmarcos.servers.matomo_config:
    host_name: analytics.example.org
    token: "{{ matomo_login.token }}"
    general:
      force_ssl: 1
      proxy_client_headers: [HTTP_X_FORWARDED_FOR]
      enable_browser_archiving_triggering: 0
    privacy:
      anonymize_ip_bytes: 2
      do_not_track: true
      delete_logs_older_than_days: 180
"""

RETURN = r"""
settings:
  description: What was, or in check mode would be, changed, as section and name with the new value.
  returned: success
  type: dict
  sample: {General.force_ssl: "1", privacy.do_not_track: true}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_api import MatomoError, Unreachable
from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_config import (
    Console,
    Settings,
    apply_settings,
    hidden,
    plan_settings,
    read_settings,
    wanted_settings,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_module import (
    CONNECTION,
    TOKEN,
    alone,
    api_of,
    fail,
)

PRIVACY = {
    "anonymize_ip_bytes": {"type": "int", "choices": [0, 1, 2, 3, 4]},
    "anonymize_ip_for_location": {"type": "bool"},
    "anonymize_user_id": {"type": "bool"},
    "anonymize_order_id": {"type": "bool"},
    "anonymize_referrer": {"type": "str", "choices": ["", "exclude_query", "exclude_path", "exclude_all"]},
    "do_not_track": {"type": "bool"},
    "cookieless": {"type": "bool"},
    "delete_logs_older_than_days": {"type": "int"},
    "delete_reports_older_than_months": {"type": "int"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            **TOKEN,
            "php": {
                "type": "list",
                "elements": "str",
                "default": ["docker", "exec", "--user", "www-data", "matomo", "php"],
            },
            "general": {"type": "dict", "default": {}},
            "sections": {"type": "dict", "default": {}},
            "privacy": {"type": "dict", "default": {}, "options": PRIVACY},
        },
        supports_check_mode=True,
    )
    params = module.params
    console = Console(lambda command: module.run_command(command, handle_exceptions=False), params["php"])
    try:
        wanted = wanted_settings({"General": params["general"], **params["sections"]}, params["privacy"])
        with alone(module):
            try:
                before = read_settings(console, wanted)
            except Unreachable as error:
                if not module.check_mode:
                    raise
                module.warn(f"Predicting for a new Matomo: {error}")
                before = Settings({}, {})
            todo = plan_settings(wanted, before)
            if todo and not module.check_mode:
                apply_settings(console, api_of(module), wanted, before)
    except MatomoError as error:
        fail(module, error)
    module.exit_json(
        changed=bool(todo),
        settings=hidden({name: after for name, (_before, after) in todo.items()}),
        diff={
            "before": hidden({name: before for name, (before, _after) in todo.items() if before is not None}),
            "after": hidden({name: after for name, (_before, after) in todo.items()}),
        },
    )


if __name__ == "__main__":
    main()
