#!/usr/bin/python
# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: matomo_install
short_description: Install Matomo without its wizard, and get a token
version_added: 0.1.0
description:
  - Sends the forms of the installation wizard, which is open to everybody as long as it runs. Do this before anything
    publishes Matomo.
  - Every step is safe to repeat, so an installation that was interrupted anywhere is completed by the next run.
  - On an installed Matomo it proves that the token still works, and makes a new one with the password where it does
    not.
  - Returns the token for the other modules. Set C(no_log) on the task that registers it, and keep the token, because
    every run without one makes another.
author:
  - "Diego Nepomuceno Marcos (@diegonmarcos)"
extends_documentation_fragment:
  - diegonmarcos.servers.attributes
  - diegonmarcos.servers.matomo
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - Idempotent when O(token) is given.
options:
  database_host:
    description:
      - The database server, seen from Matomo's container.
    type: str
    required: true
  database_name:
    description:
      - The database.
    type: str
    default: matomo
  database_username:
    description:
      - The account of the database.
    type: str
    default: matomo
  database_password:
    description:
      - Its password.
    type: str
    required: true
  database_prefix:
    description:
      - What the names of all tables begin with.
    type: str
    default: matomo_
  admin_login:
    description:
      - The first super user.
    type: str
    required: true
  admin_email:
    description:
      - The address of that user.
    type: str
    required: true
  admin_password:
    description:
      - The password of that user, at least 6 characters. It is not changed on an installed Matomo.
    type: str
    required: true
  first_site:
    description:
      - The site that an installation cannot do without. It is not changed on an installed Matomo, which is what
        M(diegonmarcos.servers.matomo_site) is for.
    type: dict
    required: true
    suboptions:
      name:
        description:
          - The name of the site.
        type: str
        required: true
      urls:
        description:
          - Its addresses. The installation takes the first one.
        type: list
        elements: str
        required: true
      timezone:
        description:
          - The timezone of its reports.
        type: str
        default: UTC
  token:
    description:
      - The token of an earlier run.
    type: str
  token_description:
    description:
      - What a new token is called in Matomo's list of tokens.
    type: str
    default: Ansible
"""

EXAMPLES = r"""
- name: Install Matomo
  diegonmarcos.servers.matomo_install:
    host_name: analytics.example.org
    database_host: matomo_db
    database_password: "{{ matomo_database_password }}"
    admin_login: admin
    admin_email: admin@example.org
    admin_password: "{{ matomo_admin_password }}"
    first_site:
      name: Example
      urls: [https://www.example.org]
      timezone: Europe/Berlin
    token: "{{ matomo_token | default(omit) }}"
  register: matomo_login
  no_log: true
"""

RETURN = r"""
installed:
  description: Whether Matomo was installed before this run.
  returned: success
  type: bool
token:
  description: A token of the super user. Missing in check mode where there is none yet.
  returned: when there is one
  type: str
  sample: 0123456789abcdef0123456789abcdef
token_created:
  description: Whether the token was, or in check mode would be, made by this run, which is when it has to be kept.
  returned: success
  type: bool
version:
  description: The version of Matomo. Missing in check mode where there is no token yet.
  returned: when it is known
  type: str
  sample: 5.14.0
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_api import MatomoError, Unreachable
from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_install import (
    Installation,
    Outcome,
    check_wanted,
    install,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_module import (
    CONNECTION,
    alone,
    api_of,
    fail,
)

FIRST_SITE = {
    "name": {"type": "str", "required": True},
    "urls": {"type": "list", "elements": "str", "required": True},
    "timezone": {"type": "str", "default": "UTC"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            "database_host": {"type": "str", "required": True},
            "database_name": {"type": "str", "default": "matomo"},
            "database_username": {"type": "str", "default": "matomo"},
            "database_password": {"type": "str", "required": True, "no_log": True},
            "database_prefix": {"type": "str", "default": "matomo_"},
            "admin_login": {"type": "str", "required": True},
            "admin_email": {"type": "str", "required": True},
            "admin_password": {"type": "str", "required": True, "no_log": True},
            "first_site": {"type": "dict", "required": True, "options": FIRST_SITE},
            "token": {"type": "str", "no_log": True},
            "token_description": {"type": "str", "default": "Ansible", "no_log": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    site = params["first_site"]
    wanted = Installation(
        **{key: params[key] for key in params if key.startswith(("database_", "admin_"))},
        site_name=site["name"],
        site_url=site["urls"][0] if site["urls"] else "",
        site_timezone=site["timezone"],
        token_description=params["token_description"],
    )
    try:
        check_wanted(wanted)
        with alone(module):
            outcome = install(api_of(module), wanted, check=module.check_mode)
    except Unreachable as error:
        if not module.check_mode:
            fail(module, error)
        module.warn(f"Predicting for a new Matomo: {error}")
        outcome = Outcome(installed=False, token_created=True)
    except MatomoError as error:
        fail(module, error)
    output = {
        "changed": outcome.changed,
        "installed": outcome.installed,
        "token_created": outcome.token_created,
        "diff": outcome.diff(wanted),
    }
    if outcome.token:
        # Ansible hides whatever was given as a secret, but the next task has to read this one.
        module.params["token"] = None
        module.no_log_values.discard(outcome.token)
        output["token"] = outcome.token
    if outcome.version:
        output["version"] = outcome.version
    module.exit_json(**output)


if __name__ == "__main__":
    main()
