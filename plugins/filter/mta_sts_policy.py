# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: mta_sts_policy
short_description: The file that asks senders for encryption
version_added: 0.1.0
author: Diego Nepomuceno Marcos (@diegonmarcos)
description:
  - Returns what C(https://mta-sts.DOMAIN/.well-known/mta-sts.txt) has to say (RFC 8461). The record of
    M(diegonmarcos.servers.dns_records_info) carries a digest of just this text.
positional: _input
options:
  _input:
    description: Name of the mail server, as its MX record and its certificate have it.
    type: str
    required: true
  mode:
    description: V(enforce) refuses to deliver without encryption, V(testing) only has it reported.
    type: str
    choices: [enforce, testing, none]
    default: testing
  max_age:
    description: Seconds that senders remember the policy.
    type: int
    default: 604800
"""

EXAMPLES = r"""
- name: Write the policy
  diegonmarcos.servers.config_files:
    files:
      - path: /opt/servers/web/mta-sts.txt
        content: "{{ 'mail.example.org' | diegonmarcos.servers.mta_sts_policy(mode='enforce') }}"
"""

RETURN = r"""
_value:
  description: The text of the file.
  type: str
"""

from collections.abc import Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.diegonmarcos.servers.plugins.module_utils import _dns_records


def mta_sts_policy(hostname: str, mode: str = "testing", max_age: int = 604800) -> str:
    """Return the policy file; AnsibleFilterError where the mode is none of the three."""
    if mode not in ("enforce", "testing", "none"):
        raise AnsibleFilterError(f"mode is {mode!r}: use enforce, testing or none.")
    return _dns_records.mta_sts_policy(hostname, mode, max_age)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., str]]:
        return {"mta_sts_policy": mta_sts_policy}
