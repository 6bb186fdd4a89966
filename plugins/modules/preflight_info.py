#!/usr/bin/python
# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_info
short_description: Tell what must be known of a box before the first change
version_added: 0.1.0
description:
  - Reads the clock, the free disk space, the state of apt and what the box's resolver answers, in one Python start.
author: Diego Nepomuceno Marcos (@diegonmarcos)
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
  path:
    description: The free space of the file system that holds this path, or will hold it, is returned.
    type: path
    default: /
  look_for:
    description: Files that are told of where they exist, such as those of a package that would be in the way.
    type: list
    elements: path
    default: []
  resolve:
    description: Names to look up with the box's own resolver.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Look at the box
  diegonmarcos.servers.preflight_info:
    path: /opt/servers
    resolve: [www.example.org]
"""

RETURN = r"""
apt_busy:
  description: Whether another program holds dpkg's lock.
  returned: success
  type: bool
apt_lists:
  description: Whether a package list was ever fetched.
  returned: success
  type: bool
disk_free_mb:
  description: Free space in MB of 1024 * 1024 bytes.
  returned: success
  type: int
epoch:
  description: The box's clock, in seconds since 1970.
  returned: success
  type: float
found:
  description: Which files of O(look_for) exist.
  returned: success
  type: list
  elements: str
resolved:
  description:
    - IPv4 addresses of each name in O(resolve), an empty list where there is none.
    - Nothing at all where the resolver does not answer.
  returned: success
  type: dict
  sample: {"www.example.org": ["203.0.113.10"]}
"""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils import _preflight


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/"},
            "look_for": {"type": "list", "elements": "path", "default": []},
            "resolve": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    module.exit_json(
        changed=False,
        apt_busy=_preflight.apt_is_busy(),
        apt_lists=_preflight.apt_has_lists(),
        disk_free_mb=_preflight.disk_free_mib(Path(module.params["path"])),
        epoch=time.time(),
        found=[path for path in module.params["look_for"] if Path(path).exists()],
        resolved=_preflight.resolve(module.params["resolve"]),
    )


if __name__ == "__main__":
    main()
