#!/usr/bin/python
# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_key_info
short_description: Read private keys for DKIM and return their DNS records
version_added: 0.1.0
description:
  - Derives the record of each key from the private key itself, so that it cannot be out of date.
  - Needs Python's C(cryptography) or the program C(openssl), whichever is there.
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
  keys:
    description: The keys.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: File of the private key (PEM).
        type: path
        required: true
      domain:
        description: The domain that signs.
        type: str
        required: true
      selector:
        description: The name of the key below C(_domainkey).
        type: str
        required: true
      zone:
        description: The DNS zone that the record goes to, where it is not O(keys[].domain) itself.
        type: str
      testing:
        description: Tell receivers that the domain is only trying DKIM (C(t=y)).
        type: bool
        default: false
      strict:
        description: Tell receivers that the key signs for no subdomain (C(t=s)).
        type: bool
        default: false
  ttl:
    description: Seconds that RV(keys[].zone_line) lets resolvers keep the record.
    type: int
    default: 3600
seealso:
  - module: diegonmarcos.servers.dkim_key
author:
  - Diego Nepomuceno Marcos (@diegonmarcos)
"""

EXAMPLES = r"""
- name: Read the record of a key
  diegonmarcos.servers.dkim_key_info:
    keys:
      - {path: /etc/dkim/example.org.pem, domain: example.org, selector: 202611a}
  register: dkim

- name: Show it
  ansible.builtin.debug:
    msg: "{{ dkim['keys'][0].record }}"
"""

RETURN = r"""
keys:
  description: One entry for each of O(keys), in the same order.
  type: list
  elements: dict
  returned: success
  contains:
    path:
      description: File of the private key.
      type: str
      sample: /etc/dkim/example.org.pem
    exists:
      description: Whether there is a key. Where there is none, what follows from it is V(null).
      type: bool
      sample: true
    owner:
      description: Number of the file's owner.
      type: int
      sample: 0
    group:
      description: Number of the file's group.
      type: int
      sample: 0
    mode:
      description: Mode of the file.
      type: str
      sample: "0600"
    domain:
      description: The domain as the DNS writes it.
      type: str
      sample: example.org
    selector:
      description: The selector in lower case.
      type: str
      sample: 202611a
    key_type:
      description: The kind of the key.
      type: str
      sample: rsa
    key_size:
      description: Its size in bits.
      type: int
      sample: 2048
    fingerprint:
      description: SHA-256 of the public key.
      type: str
      sample: 5f1c…
    fqdn:
      description: Full name of the record.
      type: str
      sample: 202611a._domainkey.example.org
    name:
      description: Its name within the zone.
      type: str
      sample: 202611a._domainkey
    record:
      description: The value in one piece.
      type: str
      sample: v=DKIM1; k=rsa; p=MIIB…
    strings:
      description: The value in strings of at most 255 bytes.
      type: list
      elements: str
      sample: [v=DKIM1; k=rsa; p=MIIB…, 4Fh…]
    zone_line:
      description: The record as a line of a zone file.
      type: str
      sample: 202611a._domainkey.example.org. 3600 IN TXT "v=DKIM1; k=rsa; p=MIIB…" "4Fh…"
"""

import stat
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_key import KeyTool, key_tool, read_key
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_record import (
    DkimError,
    key_record,
    parse_domain,
    parse_selector,
    record_value,
)


def read(raw: dict[str, t.Any], tool: KeyTool, ttl: int) -> dict[str, t.Any]:
    """Return what there is to say about one key; the shape is the same whether there is one or not."""
    domain, selector = parse_domain(raw["domain"]), parse_selector(raw["selector"])
    zone = parse_domain(raw["zone"]) if raw["zone"] else domain
    path = Path(raw["path"])
    found = facts = value = None
    try:
        found = path.stat()
        pem = path.read_bytes()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DkimError(f"{path} cannot be read ({error.strerror}): name a file that this user may read.") from error
    else:
        facts = read_key(tool, pem, str(path))
        value = record_value(facts.key_type, facts.public, testing=raw["testing"], strict=raw["strict"])
    record = key_record(domain, selector, value or "", zone=zone)
    return {
        "path": str(path),
        "exists": facts is not None,
        "owner": found.st_uid if found else None,
        "group": found.st_gid if found else None,
        "mode": f"{stat.S_IMODE(found.st_mode):04o}" if found else None,
        "domain": domain,
        "selector": selector,
        "key_type": facts.key_type if facts else None,
        "key_size": facts.size if facts else None,
        "fingerprint": facts.fingerprint if facts else None,
        "fqdn": record.fqdn,
        "name": record.name,
        "record": value,
        "strings": record.strings if value else None,
        "zone_line": record.zone_line(ttl) if value else None,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "keys": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,
                "options": {
                    "path": {"type": "path", "required": True},
                    "domain": {"type": "str", "required": True},
                    "selector": {"type": "str", "required": True},
                    "zone": {"type": "str"},
                    "testing": {"type": "bool", "default": False},
                    "strict": {"type": "bool", "default": False},
                },
            },
            "ttl": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    tool = key_tool()
    try:
        keys = [read(raw, tool, module.params["ttl"]) for raw in module.params["keys"]]
    except DkimError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, keys=keys)


if __name__ == "__main__":
    main()
