#!/usr/bin/python
# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_key
short_description: Private keys for DKIM, and the DNS records that go with them
version_added: 0.1.0
description:
  - Makes the private keys that mail is signed with, RSA or Ed25519 (RFC 8463), and returns the record of each
    in every form that a name server or a provider's web page asks for.
  - A key that exists is never replaced unless O(keys[].regenerate=always) asks for it, because its record is
    published. Another default size in a later version replaces nothing either.
  - Needs Python's C(cryptography) or the program C(openssl), whichever is there.
extends_documentation_fragment:
  - diegonmarcos.servers.attributes
attributes:
  check_mode:
    support: full
    details:
      - No key is made. What would follow from a new key is V(null) then, and RV(keys[].would_create) is true.
  diff_mode:
    support: full
    details:
      - Shows kind, size and digest of the public key, never the private one.
  idempotent:
    support: partial
    details:
      - Every run of O(keys[].regenerate=always) makes a new key.
options:
  keys:
    description:
      - The keys. To sign with both kinds side by side, list an RSA and an Ed25519 key with two selectors.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: File of the private key (PEM). Its directory must exist.
        type: path
        required: true
      domain:
        description: The domain that signs. Names in other scripts are converted (IDNA).
        type: str
        required: true
      selector:
        description: The name of the key below C(_domainkey).
        type: str
        required: true
      key_type:
        description:
          - The kind of key. Many receivers do not know V(ed25519) yet, and OpenDKIM cannot sign with it.
        type: str
        choices: [rsa, ed25519]
        default: rsa
      key_size:
        description:
          - Size of an RSA key in bits. Without it, an existing key of any size will do and a new one has 2048.
          - The record of 4096 bits does not fit into every provider's form, nor into a small UDP answer.
        type: int
        choices: [2048, 3072, 4096]
      regenerate:
        description:
          - V(never) keeps an existing key whatever its kind and size are, and returns the record of that.
          - V(fail) stops where its kind or size is another than asked for.
          - V(always) makes a new key at each run, which voids the published record.
          - A file that holds no usable key is an error with the first two.
        type: str
        choices: [never, fail, always]
        default: fail
      state:
        description: V(absent) removes the private key.
        type: str
        choices: [present, absent]
        default: present
      owner:
        description: Owner of the file. An existing file keeps its own where this is not given.
        type: str
      group:
        description: Group of the file. An existing file keeps its own where this is not given.
        type: str
      mode:
        description: Quoted octal mode. The file never has a wider one, not even while it is written.
        type: str
        default: "0600"
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
  - module: diegonmarcos.servers.dkim_key_info
  - module: diegonmarcos.servers.dkim_selectors
author:
  - Diego Nepomuceno Marcos (@diegonmarcos)
"""

EXAMPLES = r"""
- name: Make an RSA and an Ed25519 key
  diegonmarcos.servers.dkim_key:
    keys:
      - path: /etc/dkim/example.org.rsa.pem
        domain: example.org
        selector: 202611a
      - path: /etc/dkim/example.org.ed25519.pem
        domain: example.org
        selector: 202611a-ed25519
        key_type: ed25519
  register: dkim

- name: Show what to publish
  ansible.builtin.debug:
    msg: "{{ dkim['keys'] | map(attribute='zone_line') }}"
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
    domain:
      description: The domain as the DNS writes it.
      type: str
      sample: example.org
    selector:
      description: The selector in lower case.
      type: str
      sample: 202611a
    key_type:
      description: The kind of the key that is there; V(null) where there is none.
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
    would_create:
      description: Whether this is check mode and the key is still to be made.
      type: bool
      sample: false
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_key import (
    RSA_SIZES,
    KeyOutcome,
    WantedKey,
    ensure_key,
    key_tool,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_record import (
    DkimError,
    key_record,
    parse_domain,
    parse_selector,
    record_value,
)


def describe(raw: dict[str, t.Any], outcome: KeyOutcome, ttl: int) -> dict[str, t.Any]:
    """Return what the module says about one key; the shape is the same whether there is one or not."""
    domain, selector = parse_domain(raw["domain"]), parse_selector(raw["selector"])
    zone = parse_domain(raw["zone"]) if raw["zone"] else domain
    facts = outcome.facts
    value = (
        record_value(facts.key_type, facts.public, testing=raw["testing"], strict=raw["strict"])
        if facts is not None
        else None
    )
    record = key_record(domain, selector, value or "", zone=zone)
    return {
        "path": raw["path"],
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
        "would_create": outcome.would_create,
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
                    "key_type": {"type": "str", "choices": ["rsa", "ed25519"], "default": "rsa"},
                    "key_size": {"type": "int", "choices": list(RSA_SIZES)},
                    "regenerate": {"type": "str", "choices": ["never", "fail", "always"], "default": "fail"},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                    "owner": {"type": "str"},
                    "group": {"type": "str"},
                    "mode": {"type": "str", "default": "0600"},
                    "zone": {"type": "str"},
                    "testing": {"type": "bool", "default": False},
                    "strict": {"type": "bool", "default": False},
                },
            },
            "ttl": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    raw_keys = module.params["keys"]
    tool = key_tool()
    try:
        # Every name is judged before the first key is made.
        for raw in raw_keys:
            describe(raw, KeyOutcome(False, None, False, {}), module.params["ttl"])
        _refuse_doubles(raw_keys)
        outcomes = [
            ensure_key(_wanted(raw), tool=tool, check=module.check_mode, temporary_directory=Path(module.tmpdir))
            for raw in raw_keys
        ]
    except DkimError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=any(outcome.changed for outcome in outcomes),
        keys=[describe(raw, outcome, module.params["ttl"]) for raw, outcome in zip(raw_keys, outcomes, strict=True)],
        diff=[outcome.diff for outcome in outcomes if outcome.diff],
    )


def _wanted(raw: dict[str, t.Any]) -> WantedKey:
    return WantedKey(
        path=Path(raw["path"]),
        key_type=raw["key_type"],
        key_size=raw["key_size"],
        regenerate=raw["regenerate"],
        state=raw["state"],
        owner=raw["owner"],
        group=raw["group"],
        mode=raw["mode"],
    )


def _refuse_doubles(raw_keys: list[dict[str, t.Any]]) -> None:
    paths = [raw["path"] for raw in raw_keys]
    for path in paths:
        if paths.count(path) > 1:
            raise DkimError(f"{path} is listed twice: give each key a file of its own.")


if __name__ == "__main__":
    main()
