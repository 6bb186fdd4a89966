#!/usr/bin/python
# Copyright (c) 2026, Diego Nepomuceno Marcos
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_files
short_description: Put many files in place as one step, all or none
version_added: 0.1.0
description:
  - Writes, removes and corrects a list of files and directories in one task, which is what makes a second run quick.
  - Every new file is written beside its target and validated before the first target is touched, then all are
    renamed into place. When one is not valid, or the disk is full, nothing has changed.
  - A symbolic link at O(files[].path) is replaced by the file; what it points to is never written.
  - With O(pending) a run that is interrupted between the change and the handler that acts on it is finished by the
    next run.
extends_documentation_fragment:
  - diegonmarcos.servers.attributes
attributes:
  check_mode:
    support: full
    details:
      - A validator that is not installed yet is left out. One that refuses the new file fails the task when it
        accepts the present one, and warns otherwise, since earlier tasks may not have prepared what it needs.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  files:
    description:
      - The files and directories. The order does not matter.
      - Only the last part of a path is protected against symbolic links, so parents must be writable by trusted
        accounts only.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path. Its directory must exist or be listed with O(files[].state=directory).
        type: str
        required: true
      state:
        description:
          - V(file) and V(directory) make it exist with this mode and owner, V(absent) removes it.
        type: str
        choices: [file, directory, absent]
        default: file
      content:
        description:
          - The text of the file, usually C(lookup('ansible.builtin.template', ...)).
          - Required for O(files[].state=file).
          - A mapping or a list is written as JSON.
          - It is neither logged nor part of the result, other than in the diff.
        type: raw
      mode:
        description: Quoted octal mode. Defaults to V("0644") for files and V("0755") for directories.
        type: str
      owner:
        description: Name or number of the owner.
        type: str
        default: root
      group:
        description: Name or number of the group.
        type: str
        default: root
      validate:
        description:
          - Command that accepts or refuses the new file, C(%s) standing for its temporary name. No shell runs it.
          - It runs only when the content changes.
        type: str
      no_diff:
        description: Keep the content out of the diff. Set it for secrets.
        type: bool
        default: false
      recursive:
        description: With O(files[].state=absent), remove a directory with all that is in it.
        type: bool
        default: false
  pending:
    description:
      - Name of a marker that is written before the first change and reports RV(ignore:changed) while it exists.
      - The handler that acts on the change removes it last.
    type: str
  pending_directory:
    description: Where the marker is kept.
    type: str
    default: /var/lib/servers/pending
notes:
  - POSIX ACLs and extended attributes of a file that is replaced are not carried over.
author:
  - Diego Nepomuceno Marcos (@diegonmarcos)
"""

EXAMPLES = r"""
- name: Configure sshd
  diegonmarcos.servers.config_files:
    pending: ssh
    files:
      - path: /etc/ssh/sshd_config.d/00-hardening.conf
        content: "{{ lookup('ansible.builtin.template', '00-hardening.conf.j2') }}"
        mode: "0600"
        validate: /usr/sbin/sshd -t -f %s
      - path: /etc/ssh/moduli.old
        state: absent
  notify: Restart ssh

- name: Write a service's settings and its secret
  diegonmarcos.servers.config_files:
    files:
      - path: /opt/servers/app/secrets
        state: directory
        mode: "0700"
      - path: /opt/servers/app/secrets/token
        content: "{{ app_token }}"
        mode: "0600"
        no_diff: true
"""

RETURN = r"""
changed_files:
  description: Paths that were changed, or would be in check mode.
  type: list
  elements: str
  returned: success
  sample: [/etc/ssh/sshd_config.d/00-hardening.conf]
pending:
  description: Whether the marker of O(pending) exists, or would exist.
  type: bool
  returned: success
  sample: true
"""

import errno
import os
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._config_files import (
    ConfigFilesError,
    ensure,
    parse_entries,
)

_VALIDATE_SECONDS = 60


class ConfigFilesModule(AnsibleModule):  # type: ignore[misc]  # ansible-core ships no type information
    """An AnsibleModule whose invocation names paths only.

    Marking `content` as no_log would not do: every text of every file, down to a single letter, would then be
    censored wherever it occurs in diffs and messages, and multi-line texts would still reach the system log.
    """

    def _without_content(self) -> dict[str, t.Any]:
        params = dict(getattr(self, "params", {}))
        files = params.get("files")
        params["files"] = [
            {key: value for key, value in entry.items() if key != "content"}
            for entry in (files if isinstance(files, list) else [])
            if isinstance(entry, dict)
        ]
        return params

    def _log_invocation(self) -> None:
        paths = [str(entry.get("path")) for entry in self._without_content()["files"]]
        self.log(f"Invoked with {len(paths)} files: {' '.join(paths)}")

    def _return_formatted(self, kwargs: dict[str, t.Any]) -> None:
        kwargs["invocation"] = {"module_args": self._without_content()}
        super()._return_formatted(kwargs)

    def run_validator(self, command: list[str]) -> tuple[int, str, str]:
        """Run a validator in the C locale, ended when it hangs."""
        program = self.get_bin_path(command[0])
        if program is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
        command = ["timeout", str(_VALIDATE_SECONDS), program, *command[1:]]
        code, output, error_output = self.run_command(
            command, handle_exceptions=False, environ_update={"LC_ALL": "C", "LANG": "C"}
        )
        return code, output, error_output


def main() -> None:
    module = ConfigFilesModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "str", "required": True},
                    "state": {"type": "str", "choices": ["file", "directory", "absent"], "default": "file"},
                    "content": {"type": "raw"},
                    "mode": {"type": "str"},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "validate": {"type": "str"},
                    "no_diff": {"type": "bool", "default": False},
                    "recursive": {"type": "bool", "default": False},
                },
            },
            "pending": {"type": "str"},
            "pending_directory": {"type": "str", "default": "/var/lib/servers/pending"},
        },
        supports_check_mode=True,
    )
    try:
        outcome = ensure(
            parse_entries(module.params["files"], accounts_may_be_missing=module.check_mode),
            run=module.run_validator,
            pending=module.params["pending"],
            pending_directory=Path(module.params["pending_directory"]),
            check=module.check_mode,
            temporary_directory=Path(module.tmpdir),
        )
    except ConfigFilesError as error:
        module.fail_json(msg=str(error))
    for warning in outcome.warnings:
        module.warn(warning)
    module.exit_json(
        changed=outcome.changed,
        changed_files=outcome.changed_files,
        pending=outcome.pending,
        diff=outcome.diff,
    )


if __name__ == "__main__":
    main()
