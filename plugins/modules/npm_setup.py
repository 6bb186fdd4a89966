#!/usr/bin/python
# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: npm_setup
short_description: Give Nginx Proxy Manager its first administrator, and log in
version_added: 0.1.0
description:
  - Waits until the API of Nginx Proxy Manager answers and creates the first administrator where there is none.
  - That goes through the API and never through the container's environment, which upstream writes to its log.
  - On an instance that is already set up it proves that the password still opens it, or changes it.
  - Returns a token for the other modules. Set C(no_log) on the task that registers it.
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
  email:
    required: true
  password:
    description:
      - Must have 8 to 64 characters.
    required: true
  password_old:
    description:
      - The password up to now. Where O(password) does not open the account and this one does, it is replaced.
    type: str
  name:
    description:
      - The name of a newly created administrator.
    type: str
    default: Administrator
  token:
    description:
      - Not used by this module.
  data_dir:
    description:
      - The data volume, as seen from the host the module runs on.
      - In check mode an instance with a database in there is waited for when it refuses connections, since it may be
        starting. One without counts as new at once.
    type: path
"""

EXAMPLES = r"""
- name: Set up Nginx Proxy Manager and log in
  diegonmarcos.servers.npm_setup:
    email: admin@example.org
    password: "{{ npm_admin_password }}"
  register: npm_login
  no_log: true

- name: Change the administrator's password
  diegonmarcos.servers.npm_setup:
    email: admin@example.org
    password: "{{ new_password }}"
    password_old: "{{ old_password }}"
"""

RETURN = r"""
token:
  description: Opens the API for a day. Missing in check mode when there is no account yet.
  returned: when the account exists
  type: str
  sample: eyJhbGciOiJSUzI1NiJ9...
version:
  description: The version of Nginx Proxy Manager.
  returned: when it answers
  type: str
  sample: 2.15.1
reachable:
  description: Whether the API answered. Only check mode goes on without it.
  returned: success
  type: bool
action:
  description: Whether the account was found as wanted, created, or given a new password.
  returned: success
  type: str
  sample: keep
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import NpmError, Unreachable
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_module import (
    CONNECTION,
    DATA_DIR,
    api_of,
    data_dir,
    fail,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_setup import SetupResult, set_up, was_started


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            **DATA_DIR,
            "email": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "password_old": {"type": "str", "no_log": True},
            "name": {"type": "str", "default": "Administrator"},
        },
        supports_check_mode=True,
    )
    params = module.params
    reachable = True
    try:
        result = set_up(
            api_of(module),
            email=params["email"],
            password=params["password"],
            password_old=params["password_old"],
            name=params["name"],
            check=module.check_mode,
            patient=not module.check_mode or was_started(data_dir(module)),
        )
    except Unreachable as error:
        if not module.check_mode:
            fail(module, error)
        reachable, result = False, SetupResult("create", "")
    except NpmError as error:
        fail(module, error)
    email = params["email"].strip().lower()
    before = {} if result.action == "create" else {"administrator": email}
    after = {"administrator": email, **({"password": "(replaced)"} if result.action == "password" else {})}
    output = {
        "changed": result.action != "keep",
        "action": result.action,
        "reachable": reachable,
        "diff": {"before": before, "after": after},
    }
    if result.token:
        output["token"] = result.token
    if result.version:
        output["version"] = result.version
    module.exit_json(**output)


if __name__ == "__main__":
    main()
