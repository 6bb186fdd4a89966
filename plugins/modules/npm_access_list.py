#!/usr/bin/python
# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: npm_access_list
short_description: Manage access lists of Nginx Proxy Manager
version_added: 0.1.0
description:
  - An access list says who may see the sites that name it, by user and password, by address, or both.
  - All lists are done in one task. Lists that are not named are left alone.
  - After a change every host with the list is saved again, since several versions drop its TLS or the list otherwise.
author:
  - "Diego Nepomuceno Marcos (@diegonmarcos)"
extends_documentation_fragment:
  - diegonmarcos.servers.attributes
  - diegonmarcos.servers.npm
  - diegonmarcos.servers.npm.data
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows for whom a password is replaced, never a password.
  idempotent:
    support: full
    details:
      - Without O(data_dir) a new password is only noticed when its first letter or its length differs,
        since the API tells no more.
options:
  lists:
    description:
      - The access lists.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - How hosts refer to the list.
        type: str
        required: true
      state:
        description:
          - Whether the list exists. One that still protects a host is not removed, as that would open its site.
        type: str
        choices: [absent, present]
        default: present
      users:
        description:
          - Who may enter with a password. Others are removed from the list.
        type: list
        elements: dict
        default: []
        suboptions:
          username:
            description:
              - The user's name, without a colon.
            type: str
            required: true
          password:
            description:
              - The user's password.
            type: str
            required: true
      allow:
        description:
          - Addresses or networks that may enter. All others may not.
        type: list
        elements: str
        default: []
      deny:
        description:
          - Exceptions from O(lists[].allow).
        type: list
        elements: str
        default: []
      satisfy_any:
        description:
          - Whether a good password or a good address is enough. Else a visitor needs both.
        type: bool
        default: false
      pass_auth:
        description:
          - Whether the service behind the host gets to see the password.
        type: bool
        default: false
"""

EXAMPLES = r"""
- name: Let only the office and the two admins in
  diegonmarcos.servers.npm_access_list:
    token: "{{ npm_login.token }}"
    lists:
      - name: admins
        users:
          - {username: ana, password: "{{ ana_password }}"}
          - {username: ben, password: "{{ ben_password }}"}
        allow: [192.0.2.0/24]
        satisfy_any: true
"""

RETURN = r"""
lists:
  description: The number of each list that is present, by name.
  returned: success
  type: dict
  sample: {admins: 1}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_access_list import (
    WantedList,
    apply_lists,
    check_wanted,
    plan_lists,
    read_lists,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import Json, NpmError
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_module import (
    CONNECTION,
    DATA_DIR,
    api_of,
    data_dir,
    fail,
    read_or_predict,
)


def wanted_of(entry: Json) -> WantedList:
    users = [str(user["username"]) for user in entry["users"]]
    doubled = sorted({user for user in users if users.count(user) > 1})
    if doubled:
        raise NpmError(f'"{doubled[0]}" is twice in the access list "{entry["name"]}": leave the user in once.')
    return WantedList(
        name=entry["name"],
        present=entry["state"] == "present",
        satisfy_any=entry["satisfy_any"],
        pass_auth=entry["pass_auth"],
        passwords={user["username"]: user["password"] for user in entry["users"]},
        allow=tuple(entry["allow"]),
        deny=tuple(entry["deny"]),
    )


def main() -> None:
    user = {
        "username": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
    }
    entry = {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
        "users": {"type": "list", "elements": "dict", "default": [], "options": user},
        "allow": {"type": "list", "elements": "str", "default": []},
        "deny": {"type": "list", "elements": "str", "default": []},
        "satisfy_any": {"type": "bool", "default": False},
        "pass_auth": {"type": "bool", "default": False},
    }
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            **DATA_DIR,
            "lists": {"type": "list", "elements": "dict", "required": True, "options": entry},
        },
        supports_check_mode=True,
    )
    try:
        wanted = [wanted_of(one) for one in module.params["lists"]]
        for one in wanted:
            check_wanted(one)
        api = api_of(module)
        rows: list[Json] = read_or_predict(module, api, lambda: read_lists(api), [])
        steps = plan_lists(wanted, rows, data_dir(module))
        numbers = (
            {step.wanted.name: int(step.row["id"]) for step in steps if step.row and step.wanted.present}
            if module.check_mode
            else apply_lists(api, steps)
        )
    except NpmError as error:
        fail(module, error)
    changed = [step for step in steps if step.action != "keep"]
    module.exit_json(
        changed=bool(changed),
        lists=numbers,
        diff={
            "before": {step.wanted.name: step.before for step in changed if step.before},
            "after": {step.wanted.name: step.after for step in changed if step.after},
        },
    )


if __name__ == "__main__":
    main()
