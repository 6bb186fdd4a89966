#!/usr/bin/python
# Copyright (c) 2026, Diego Nepomuceno Marcos
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: build_context
short_description: Pack sources into a build context that is named by its content
version_added: 0.1.0
description:
  - Packs files of this machine into one archive for C(docker build), and digests them, so that an image can be tagged
    by what it is made of and is built again only when that changes.
  - Owners and times do not matter. What Python tools leave behind (caches, environments) is left out.
  - Run it where the sources are, usually with C(delegate_to=localhost).
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
  root:
    description: The folder that names in the archive are relative to.
    type: path
    required: true
  paths:
    description: Files and folders below O(root) that belong to the build.
    type: list
    elements: str
    required: true
  exclude:
    description: Files and folders below O(root) that do not.
    type: list
    elements: str
    default: []
  depends_on:
    description: What else the result depends on, such as the name of the base image. It becomes part of RV(digest).
    type: list
    elements: str
    default: []
  dest:
    description: The folder that the archive is written to, under a name made from RV(digest).
    type: path
    required: true
author:
  - Diego Nepomuceno Marcos (@diegonmarcos)
"""

EXAMPLES = r"""
- name: Pack what the image is built from
  diegonmarcos.servers.build_context:
    root: "{{ playbook_dir }}/app"
    paths: [Dockerfile, src]
    dest: ~/.cache/contexts
  delegate_to: localhost
  register: context

- name: Show the tag
  ansible.builtin.debug:
    msg: "app:{{ context.digest[:12] }}"
"""

RETURN = r"""
digest:
  description: SHA-256 of names, executable bits and contents of all files, and of O(depends_on).
  type: str
  returned: always
  sample: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
path:
  description: The archive, a gzipped tar. In check mode it may not be there yet.
  type: str
  returned: always
  sample: /home/ana/.cache/contexts/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824.tar.gz
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils import _build_context


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "paths": {"type": "list", "elements": "str", "required": True},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "depends_on": {"type": "list", "elements": "str", "default": []},
            "dest": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    root = Path(module.params["root"])
    try:
        files = list(_build_context.sources(root, module.params["paths"], module.params["exclude"]))
        digest = _build_context.digest(root, files, *module.params["depends_on"])
        path = Path(module.params["dest"]) / f"{digest}.tar.gz"
        changed = not path.exists()
        if changed and not module.check_mode:
            _build_context.write(path, _build_context.pack(root, files))
    except _build_context.ContextError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"The sources cannot be packed: {error}. Check the permissions of {root} and the disk.")
    module.exit_json(changed=changed, digest=digest, path=str(path))


if __name__ == "__main__":
    main()
