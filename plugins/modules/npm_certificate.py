#!/usr/bin/python
# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: npm_certificate
short_description: Manage certificates of Nginx Proxy Manager
version_added: 0.1.0
description:
  - Requests certificates from Let's Encrypt or uploads your own. All are done in one task.
  - M(diegonmarcos.servers.npm_proxy_host) requests the certificates of its hosts by itself. This module is for names
    without a host (a mail server), for your own certificates, and for wildcard names.
  - A certificate for the same set of names is never requested twice, and no run asks the authority more than once
    for a set of names.
  - After a request every host that has one of the names is saved again, as upstream leaves it without TLS and password.
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
      - Shows which texts are replaced, never the texts.
  idempotent:
    support: full
options:
  certificates:
    description:
      - The certificates.
    type: list
    elements: dict
    required: true
    suboptions:
      provider:
        description:
          - Where the certificate comes from. V(custom) is one of your own.
        type: str
        choices: [custom, letsencrypt]
        default: letsencrypt
      domain_names:
        description:
          - The names in the certificate. Required for V(letsencrypt), whose certificates are told apart by them.
        type: list
        elements: str
        default: []
      name:
        description:
          - How hosts refer to the certificate. Required for V(custom).
        type: str
      state:
        description:
          - V(absent) takes the certificate off every host that uses it and then deletes it.
        type: str
        choices: [absent, present]
        default: present
      certificate:
        description:
          - Your own certificate as PEM text.
        type: str
      certificate_key:
        description:
          - Its key as PEM text, without a passphrase.
        type: str
      intermediate_certificate:
        description:
          - The certificates between yours and the root, as PEM text.
        type: str
      key_type:
        description:
          - The kind of key of a newly requested certificate. Left out it is ECDSA.
        type: str
        choices: [ecdsa, rsa]
      dns_provider:
        description:
          - Proves the names by DNS records instead of port 80, through this provider of C(certbot).
        type: str
      dns_credentials:
        description:
          - What O(certificates[].dns_provider) needs to log in, as lines of its configuration file.
        type: str
      dns_propagation_seconds:
        description:
          - How long to wait until the DNS records are seen everywhere.
        type: int
"""

EXAMPLES = r"""
- name: Get a certificate for the mail server
  diegonmarcos.servers.npm_certificate:
    token: "{{ npm_login.token }}"
    certificates:
      - domain_names: [mail.example.org]
  register: mail_certificate

- name: Bring a certificate of our own
  diegonmarcos.servers.npm_certificate:
    token: "{{ npm_login.token }}"
    certificates:
      - provider: custom
        name: office
        certificate: "{{ lookup('ansible.builtin.file', 'office.pem') }}"
        certificate_key: "{{ lookup('community.general.passwordstore', 'office.key') }}"
"""

RETURN = r"""
certificates:
  description: The certificates that are present now, in the order of the option.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The number, which its folder carries.
      type: int
    provider:
      description: Where it comes from.
      type: str
    name:
      description: What the API calls it.
      type: str
    domain_names:
      description: The names in it.
      type: list
      elements: str
    expires_on:
      description: When it ends, in UTC.
      type: str
    folder:
      description: Where C(fullchain.pem) and C(privkey.pem) lie inside the container.
      type: str
  sample:
    - id: 3
      provider: letsencrypt
      name: mail.example.org
      domain_names: [mail.example.org]
      expires_on: "2027-02-20 07:10:16"
      folder: /etc/letsencrypt/live/npm-3
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import Json, NpmError
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_certificate import (
    PEM_PARTS,
    Certificate,
    WantedCertificate,
    apply_certificates,
    check_pem,
    plan_certificates,
    read_certificates,
    tidy_pem,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_module import (
    CONNECTION,
    DATA_DIR,
    api_of,
    data_dir,
    fail,
    read_or_predict,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_vhost import lower_names


def wanted_of(entry: Json) -> WantedCertificate:
    domains = lower_names(entry["domain_names"])
    requested = entry["provider"] == "letsencrypt" and entry["state"] == "present"
    if requested and not entry["dns_provider"] and any(name.startswith("*.") for name in domains):
        raise NpmError(
            f"{', '.join(sorted(domains))}: a wildcard name is only proven by DNS, so give dns_provider and "
            "dns_credentials."
        )
    wanted = WantedCertificate(
        provider=entry["provider"],
        domains=domains,
        name=entry["name"] or "",
        present=entry["state"] == "present",
        pem={part: tidy_pem(entry[part]) for part in PEM_PARTS if entry[part]},
        key_type=entry["key_type"],
        dns_provider=entry["dns_provider"],
        dns_credentials=entry["dns_credentials"],
        dns_propagation_seconds=entry["dns_propagation_seconds"],
    )
    if wanted.provider == "custom" and wanted.present:
        check_pem(wanted)
    return wanted


def main() -> None:
    entry = {
        "provider": {"type": "str", "choices": ["custom", "letsencrypt"], "default": "letsencrypt"},
        "domain_names": {"type": "list", "elements": "str", "default": []},
        "name": {"type": "str"},
        "state": {"type": "str", "choices": ["absent", "present"], "default": "present"},
        "certificate": {"type": "str"},
        "certificate_key": {"type": "str", "no_log": True},
        "intermediate_certificate": {"type": "str"},
        "key_type": {"type": "str", "choices": ["ecdsa", "rsa"], "no_log": False},
        "dns_provider": {"type": "str"},
        "dns_credentials": {"type": "str", "no_log": True},
        "dns_propagation_seconds": {"type": "int"},
    }
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            **DATA_DIR,
            "certificates": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": entry,
                "required_if": [("provider", "letsencrypt", ["domain_names"]), ("provider", "custom", ["name"])],
                "required_together": [("certificate", "certificate_key")],
                "required_by": {"dns_credentials": ["dns_provider"]},
            },
        },
        supports_check_mode=True,
    )
    try:
        wanted = [wanted_of(one) for one in module.params["certificates"]]
        api = api_of(module)
        existing: list[Certificate] = read_or_predict(module, api, lambda: read_certificates(api), [])
        steps = plan_certificates(wanted, existing)
        present = (
            [step.found for step in steps if step.found and step.wanted.present]
            if module.check_mode
            else apply_certificates(api, steps, data_dir=data_dir(module))
        )
    except NpmError as error:
        fail(module, error)
    changed = [step for step in steps if step.action != "keep"]
    module.exit_json(
        changed=bool(changed),
        certificates=[one.describe() for one in present],
        diff={
            "before": {step.wanted.label: step.before for step in changed if step.before},
            "after": {step.wanted.label: step.after for step in changed if step.after},
        },
    )


if __name__ == "__main__":
    main()
