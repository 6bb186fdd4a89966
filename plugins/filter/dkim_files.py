# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: dkim_files
short_description: The files a signer needs, out of the DKIM selectors of each domain
version_added: 0.1.0
author: Diego Nepomuceno Marcos (@diegonmarcos)
description:
  - Takes RV(diegonmarcos.servers.dkim_selectors#module:selectors) and returns entries for
    M(diegonmarcos.servers.config_files), with the private keys of the active selectors, the tables that name
    them, and the removal of keys that sign no more.
  - The private keys are read on the controller. Their entries have C(no_diff), and the task needs no C(no_log).
positional: _input
options:
  _input:
    description: The selectors.
    type: list
    elements: dict
    required: true
  directory:
    description:
      - The folder C(opendkim) or C(rspamd) among docker-mailserver's settings, as the host sees it.
      - Its parent must exist or be listed among the files.
    type: str
    required: true
  engine:
    description: Which program signs. V(opendkim) is given RSA keys only.
    type: str
    choices: [opendkim, rspamd]
    default: opendkim
  key_directory:
    description:
      - Folder of the keys as the program sees it. docker-mailserver's own, V(/etc/opendkim/keys) or
        V(/tmp/docker-mailserver/rspamd/dkim), where it is not given.
    type: str
  owner:
    description: Owner of the files of keys and of their folders.
    type: str
    default: root
  group:
    description: Group of the files of keys and of their folders.
    type: str
    default: root
"""

EXAMPLES = r"""
- name: Let OpenDKIM sign
  diegonmarcos.servers.config_files:
    files: "{{ dkim.selectors | diegonmarcos.servers.dkim_files(directory='/opt/servers/mailserver/config/opendkim') }}"
"""

RETURN = r"""
_value:
  description: Entries for O(diegonmarcos.servers.config_files#module:files).
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.diegonmarcos.servers.plugins.module_utils import _dkim_layout as layout
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_record import DkimError


def dkim_files(
    selectors: Sequence[Mapping[str, Any]],
    directory: str,
    engine: str = "opendkim",
    key_directory: str | None = None,
    owner: str = "root",
    group: str = "root",
) -> list[dict[str, Any]]:
    """Return the files of one signer; AnsibleFilterError says in one sentence which key cannot be had."""
    if engine not in ("opendkim", "rspamd"):
        raise AnsibleFilterError(f"engine is {engine!r}: use opendkim or rspamd.")
    usable = [item for item in selectors if engine == "rspamd" or item["key_type"] == "rsa"]
    active = [item for item in usable if item["state"] == "active"]
    keys = [layout.SigningKey(item["domain"], item["selector"], item["key_type"]) for item in active]
    folder = f"{directory}/keys" if engine == "opendkim" else f"{directory}/dkim"
    own = {"owner": str(owner), "group": str(group)}
    folders = [folder, *(f"{folder}/{domain}" for domain in dict.fromkeys(item["domain"] for item in selectors))]
    files: list[dict[str, Any]] = [{"path": directory, "state": "directory"}]
    files += [{"path": path, "state": "directory", "mode": "0700", **own} for path in folders]
    try:
        for item, key in zip(active, keys, strict=True):
            content = _private_key(item, engine)
            path = f"{folder}/{_file(key, engine)}"
            files.append({"path": path, "content": content, "mode": "0600", "no_diff": True, **own})
        if engine == "opendkim":
            tables = layout.opendkim_tables(keys, key_directory or layout.OPENDKIM_KEYS)
            files += [{"path": f"{directory}/{name}", "content": text} for name, text in tables.items()]
        else:
            settings = layout.rspamd_settings(keys, key_directory or layout.RSPAMD_KEYS)
            files.append({"path": f"{directory}/override.d", "state": "directory"})
            files.append({"path": f"{directory}/override.d/dkim_signing.conf", "content": settings})
    except DkimError as error:
        raise AnsibleFilterError(str(error)) from error
    for item in usable:
        if item["state"] in ("retired", "revoked"):
            gone = layout.SigningKey(item["domain"], item["selector"], item["key_type"])
            files.append({"path": f"{folder}/{_file(gone, engine)}", "state": "absent"})
    return files


def _file(key: layout.SigningKey, engine: str) -> str:
    return layout.rspamd_file(key) if engine == "rspamd" else f"{key.domain}/{key.selector}.private"


def _private_key(item: Mapping[str, Any], engine: str) -> str:
    if not item["exists"]:
        # Check mode on a new domain: nothing was made, and nothing will be written.
        return ""
    path = Path(item["private_key_path"])
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise AnsibleFilterError(f"{path} cannot be read ({error.strerror}): restore it.") from error
    return layout.private_key_text(pem, item["key_type"], engine)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., list[dict[str, Any]]]]:
        return {"dkim_files": dkim_files}
