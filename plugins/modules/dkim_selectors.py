#!/usr/bin/python
# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: dkim_selectors
short_description: The DKIM keys of each domain, from their first day to their last
version_added: 0.1.0
description:
  - Keeps, in one folder of the controller, the private keys of every domain that sends mail and the state of each
    selector. Hosts that send for one domain share its keys, and the records can be published before a host exists.
  - A selector is C(published) (made, does not sign yet), C(active) (signs), C(retired) (signs no more, its record stays
    for mail on its way), C(revoked) (its private key is deleted, its record is empty), and forgotten at last.
  - The first keys of a domain are active at once. Later ones become active only when O(confirmed) names their record,
    so signing never switches to a key that the DNS does not show.
  - A run that is stopped anywhere is continued by the next one. A PEM file that you put into the folder of a domain
    yourself is taken up under its name.
extends_documentation_fragment:
  - diegonmarcos.servers.attributes
attributes:
  check_mode:
    support: full
    details:
      - No key is made. RV(selectors[].record) of a new one is V(null) then.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  directory:
    description:
      - Folder of the keys, one folder below it for each domain. It is made, readable by its owner alone.
    type: path
    required: true
  domains:
    description: Domains that send mail.
    type: list
    elements: str
    required: true
  key_types:
    description:
      - The kinds of key each domain has. OpenDKIM signs with V(rsa) only; Rspamd with both side by side.
    type: list
    elements: str
    choices: [rsa, ed25519]
    default: [rsa]
  key_size:
    description: Size of new RSA keys in bits. Keys that are there are never replaced for their size.
    type: int
    choices: [2048, 3072, 4096]
    default: 2048
  begin:
    description:
      - Whether to make the key of a next rotation. V(due) does once the active one is older than O(max_age), V(now)
        in any case. Neither does while a rotation is under way, which lasts until the old key is withdrawn.
    type: str
    choices: [never, due, now]
    default: never
  max_age:
    description: Days that a key signs.
    type: int
    default: 180
  confirmed:
    description: Full names of key records that the DNS is known to show as they are wanted.
    type: list
    elements: str
    default: []
  wait:
    description: Hours between the making of a key and its use, so that no resolver still remembers its absence.
    type: float
    default: 48
  applied:
    description:
      - States that every mail server has been configured with what this module said last. Only then does the overlap
        begin, and are retired keys withdrawn after it.
    type: bool
    default: false
  overlap:
    description: Days that the record of a retired key stays for mail on its way.
    type: float
    default: 7
  revoked:
    description: Days that the record of a revoked key is to be empty before it is forgotten.
    type: float
    default: 30
  ttl:
    description: Seconds that RV(selectors[].zone_line) lets resolvers keep the record.
    type: int
    default: 3600
seealso:
  - module: diegonmarcos.servers.dkim_key
  - plugin: diegonmarcos.servers.dkim_files
    plugin_type: filter
author:
  - Diego Nepomuceno Marcos (@diegonmarcos)
"""

EXAMPLES = r"""
- name: Make the first keys of two domains, or read those that are there
  diegonmarcos.servers.dkim_selectors:
    directory: "{{ inventory_dir }}/.secrets/dkim"
    domains: [example.org, example.net]
  delegate_to: localhost
  register: dkim

- name: Put those that sign in place
  diegonmarcos.servers.config_files:
    files: "{{ dkim.selectors | diegonmarcos.servers.dkim_files(directory='/opt/mail/config/opendkim') }}"
"""

RETURN = r"""
selectors:
  description: Every selector of every domain, oldest first.
  type: list
  elements: dict
  returned: success
  contains:
    domain:
      description: The domain as the DNS writes it.
      type: str
      sample: example.org
    selector:
      description: The selector.
      type: str
      sample: 202611a
    key_type:
      description: The kind of key.
      type: str
      sample: rsa
    key_size:
      description: Its size in bits; V(null) where the key does not exist.
      type: int
      sample: 2048
    state:
      description: One of V(published), V(active), V(retired), V(revoked).
      type: str
      sample: active
    since:
      description: When this state began (ISO 8601, UTC).
      type: str
      sample: "2026-11-22T13:00:00+00:00"
    applied:
      description: When every mail server had followed into V(active) or V(retired); V(null) before, and elsewhere.
      type: str
      sample: null
    private_key_path:
      description: File of the private key on the controller.
      type: str
      sample: /home/me/inventory/.secrets/dkim/example.org/202611a.pem
    exists:
      description: Whether that file exists. False for revoked keys, and in check mode for new ones.
      type: bool
      sample: true
    fqdn:
      description: Full name of the record.
      type: str
      sample: 202611a._domainkey.example.org
    name:
      description: Its name within the zone, where the domain is a zone of its own.
      type: str
      sample: 202611a._domainkey
    record:
      description: The value to publish in one piece; with nothing behind C(p=) for a revoked key.
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
    next_step:
      description: One sentence on what is to be done with it, and when.
      type: str
      sample: Signs; to be replaced after 2027-05-21 13:00 UTC.
actions:
  description: One sentence for each thing that was done, or would be in check mode.
  type: list
  elements: str
  returned: success
  sample: ["202611a._domainkey.example.org is active, a new rsa key."]
"""

import typing as t
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_key import RSA_SIZES, key_tool
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_record import DkimError, key_record
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_selectors import (
    Entry,
    Outcome,
    Policy,
    ensure_selectors,
)


def describe(entry: Entry, ttl: int) -> dict[str, t.Any]:
    item, record = entry.selector, entry.record
    name = key_record(entry.domain, item.name, "")
    return {
        "domain": entry.domain,
        "selector": item.name,
        "key_type": item.key_type,
        "key_size": entry.facts.size if entry.facts else None,
        "state": item.state,
        "since": item.since.isoformat(),
        "applied": item.applied.isoformat() if item.applied else None,
        "private_key_path": str(entry.path),
        "exists": entry.facts is not None,
        "fqdn": name.fqdn,
        "name": name.name,
        "record": record.value if record else None,
        "strings": record.strings if record else None,
        "zone_line": record.zone_line(ttl) if record else None,
        "next_step": entry.next_step,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "domains": {"type": "list", "elements": "str", "required": True},
            "key_types": {
                "type": "list",
                "elements": "str",
                "choices": ["rsa", "ed25519"],
                "default": ["rsa"],
                "no_log": False,
            },
            "key_size": {"type": "int", "choices": list(RSA_SIZES), "default": 2048},
            "begin": {"type": "str", "choices": ["never", "due", "now"], "default": "never"},
            "max_age": {"type": "int", "default": 180},
            "confirmed": {"type": "list", "elements": "str", "default": []},
            "wait": {"type": "float", "default": 48},
            "applied": {"type": "bool", "default": False},
            "overlap": {"type": "float", "default": 7},
            "revoked": {"type": "float", "default": 30},
            "ttl": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    params = module.params
    policy = Policy(
        key_types=tuple(dict.fromkeys(params["key_types"])),
        key_size=params["key_size"],
        begin=params["begin"],
        max_age=timedelta(days=params["max_age"]),
        confirmed=frozenset(name.lower().removesuffix(".") for name in params["confirmed"]),
        wait=timedelta(hours=params["wait"]),
        applied=params["applied"],
        overlap=timedelta(days=params["overlap"]),
        revoked=timedelta(days=params["revoked"]),
    )
    try:
        outcome = ensure_selectors(
            Path(params["directory"]),
            params["domains"],
            policy,
            tool=key_tool(),
            now=datetime.now(UTC).replace(microsecond=0),
            check=module.check_mode,
            temporary_directory=Path(module.tmpdir),
        )
    except DkimError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=outcome.changed,
        selectors=[describe(entry, params["ttl"]) for entry in outcome.entries],
        actions=outcome.actions,
        diff=_diff(outcome),
    )


def _diff(outcome: Outcome) -> list[dict[str, str]]:
    def text(lines: list[str]) -> str:
        return "".join(f"{line}\n" for line in lines)

    return [
        {
            "before_header": f"selectors of {domain}",
            "after_header": f"selectors of {domain}",
            "before": text(before),
            "after": text(outcome.after[domain]),
        }
        for domain, before in outcome.before.items()
        if before != outcome.after[domain]
    ]


if __name__ == "__main__":
    main()
