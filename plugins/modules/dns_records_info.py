#!/usr/bin/python
# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: dns_records_info
short_description: The DNS records a box needs, and what the live DNS says instead
version_added: 0.1.0
description:
  - Builds, from what is declared about a box, every record it needs, as a zone file, as a table and as data that fits
    the interface of any provider.
  - Then asks the DNS for each and explains every difference in one sentence, be it a record that is wrong, missing,
    there twice or cut in pieces, a CNAME in its way, or quotation marks that a provider's form has left in it.
  - Changes nothing, and speaks to no box. Run it on the controller.
requirements:
  - dnspython, for O(check)
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
  domain:
    description: The domain that everything on the box lives under.
    type: str
    required: true
  public_ip:
    description: The address the world reaches the box at.
    type: str
    required: true
  public_ipv6:
    description: The same for IPv6. Without it, names are expected to have no IPv6 address.
    type: str
  hosts:
    description: Full names of the sites on the box.
    type: list
    elements: str
    default: []
  mail:
    description: What is declared about mail. Without it, no record of mail is expected.
    type: dict
    suboptions:
      hostname:
        description: Name of the mail server.
        type: str
        required: true
      domains:
        description: Domains that mail is taken for.
        type: list
        elements: str
        required: true
      selectors:
        description: The DKIM keys, as RV(diegonmarcos.servers.dkim_selectors#module:selectors) has them.
        type: list
        elements: dict
        default: []
      relay_host:
        description: The server that mail leaves through. The SPF record lets it send.
        type: str
        default: ""
      spf_includes:
        description: Domains whose SPF records name the relay's addresses. Those of well-known relays are known.
        type: list
        elements: str
        default: []
      dmarc_policy:
        description: What receivers are asked to do with mail that only pretends to come from the domains.
        type: str
        choices: [none, quarantine, reject]
        default: quarantine
      report_address:
        description: Who gets the reports of DMARC and TLS. C(postmaster) of O(domain) where it is not given.
        type: str
        default: ""
      mta_sts_mode:
        description: Mode of the MTA-STS policy that is served. V(none) expects no record of it.
        type: str
        choices: [enforce, testing, none]
        default: testing
      pop3:
        description: Whether POP3 is offered.
        type: bool
        default: false
      managesieve:
        description: Whether ManageSieve is offered.
        type: bool
        default: false
      autoconfig:
        description: Whether autoconfig and autodiscover are served.
        type: bool
        default: true
  caa_issuers:
    description: Authorities that may issue certificates. An empty list expects no CAA record.
    type: list
    elements: str
    default: [letsencrypt.org]
  zones:
    description:
      - Zones, where O(domain) is not one itself. They decide which name is asked for in a provider's form.
    type: list
    elements: str
    default: []
  ttl:
    description: Seconds that resolvers may keep the records.
    type: int
    default: 3600
  check:
    description: Whether to ask the live DNS.
    type: bool
    default: true
  resolver:
    description: Address of the resolver to ask. The machine's own where it is not given.
    type: str
  port:
    description: Port of O(resolver).
    type: int
    default: 53
  timeout:
    description: Seconds to wait for an answer. All questions together take no longer than ten times that.
    type: float
    default: 5
seealso:
  - module: diegonmarcos.servers.dkim_selectors
author:
  - Diego Nepomuceno Marcos (@diegonmarcos)
"""

EXAMPLES = r"""
- name: Compare the DNS with what a box with mail needs
  diegonmarcos.servers.dns_records_info:
    domain: example.org
    public_ip: 203.0.113.10
    hosts: [example.org, proxy.example.org]
    mail:
      hostname: mail.example.org
      domains: [example.org]
      relay_host: smtp.relay.example
      spf_includes: [spf.relay.example]
    resolver: 9.9.9.9
  delegate_to: localhost
  register: dns

- name: Show the zone file
  ansible.builtin.debug:
    msg: "{{ dns.zone_file }}"
"""

RETURN = r"""
records:
  description: The records that are needed, in parts.
  type: list
  elements: dict
  returned: success
  contains:
    zone:
      description: The zone it goes to.
      type: str
      sample: example.org
    name:
      description: Its name within the zone, C(@) for the zone itself.
      type: str
      sample: _imaps._tcp
    fqdn:
      description: Its full name.
      type: str
      sample: _imaps._tcp.example.org
    type:
      description: Its type.
      type: str
      sample: SRV
    ttl:
      description: Seconds that resolvers may keep it.
      type: int
      sample: 3600
    value:
      description: Its value in one piece, without quotes.
      type: str
      sample: 0 1 993 mail.example.org
    priority:
      description: Of MX and SRV.
      type: int
      sample: 0
    weight:
      description: Of SRV.
      type: int
      sample: 1
    port:
      description: Of SRV.
      type: int
      sample: 993
    target:
      description: The name that MX, SRV and PTR lead to, or the issuer of CAA.
      type: str
      sample: mail.example.org
    flags:
      description: Of CAA.
      type: int
      sample: 0
    tag:
      description: Of CAA.
      type: str
      sample: issue
    strings:
      description: Of TXT, the value in strings of at most 255 bytes.
      type: list
      elements: str
      sample: [v=spf1 mx -all]
    zone_line:
      description: The record as a line of a zone file.
      type: str
      sample: _imaps._tcp.example.org. 3600 IN SRV 0 1 993 mail.example.org.
    purpose:
      description: What it is good for.
      type: str
      sample: "Reading mail: where programs find it."
    required:
      description: Whether something breaks without it.
      type: bool
      sample: false
zone_file:
  description: All of them as a zone file.
  type: str
  returned: success
  sample: "; Zone example.org\nexample.org. 3600 IN A 203.0.113.10\n"
by_hand:
  description: One sentence for each thing that no DNS provider can do.
  type: list
  elements: str
  returned: success
  sample: ["Ask the provider of 203.0.113.10 to name it mail.example.org (PTR, reverse DNS)."]
warnings_about:
  description: One sentence for each thing to think about in what is declared.
  type: list
  elements: str
  returned: success
  sample: []
findings:
  description: The verdict on each record; empty where O(check=false).
  type: list
  elements: dict
  returned: success
  contains:
    fqdn:
      description: Full name of the record.
      type: str
      sample: example.org
    type:
      description: Its type.
      type: str
      sample: TXT
    status:
      description: One of V(right), V(wrong), V(missing), V(duplicate), V(unknown).
      type: str
      sample: duplicate
    expected:
      description: The value that is needed.
      type: str
      sample: v=spf1 mx -all
    found:
      description: The values that are there.
      type: list
      elements: str
      sample: [v=spf1 mx -all, v=spf1 include:spf.example.net -all]
    required:
      description: Whether something breaks without it.
      type: bool
      sample: true
    sentence:
      description: What is the matter, and what to do.
      type: str
      sample: example.org has 2 SPF records, and receivers then ignore all of them.
problems:
  description: The sentences of all findings but the right ones, those that matter most first.
  type: list
  elements: str
  returned: success
  sample: [example.org has 2 SPF records, and receivers then ignore all of them.]
confirmed:
  description: Full names of the DKIM records that the DNS shows as they should be.
  type: list
  elements: str
  returned: success
  sample: [202611a._domainkey.example.org]
table:
  description: Lines of a table of all records with their status.
  type: list
  elements: str
  returned: success
  sample: ["right    A    example.org  203.0.113.10"]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.diegonmarcos.servers.plugins.module_utils._dns_check import Finding, check, questions
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dns_lookup import DNSPYTHON_ERROR, Resolver
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dns_records import (
    Box,
    DnsError,
    Mail,
    Plan,
    Record,
    Signature,
    as_data,
    plan,
    zone_file,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._table import align

# Longer values make a line that no terminal shows; the zone file has them whole.
_TABLE_VALUE = 60
_STATUS_ORDER = ("wrong", "duplicate", "missing", "unknown")


def box(params: dict[str, t.Any]) -> Box:
    """Return the declared box; DnsError where a DKIM key does not name itself."""
    raw = params["mail"]
    mail = None
    if raw is not None:
        mail = Mail(
            hostname=raw["hostname"],
            domains=raw["domains"],
            signatures=[_signature(item) for item in raw["selectors"]],
            relay_host=raw["relay_host"],
            spf_includes=raw["spf_includes"],
            dmarc_policy=raw["dmarc_policy"],
            report_address=raw["report_address"],
            mta_sts_mode=raw["mta_sts_mode"],
            pop3=raw["pop3"],
            managesieve=raw["managesieve"],
            autoconfig=raw["autoconfig"],
        )
    return Box(
        domain=params["domain"],
        ipv4=params["public_ip"],
        ipv6=params["public_ipv6"] or "",
        hosts=params["hosts"],
        mail=mail,
        caa_issuers=params["caa_issuers"],
        zones=params["zones"],
    )


def _signature(item: dict[str, t.Any]) -> Signature:
    try:
        return Signature(item["domain"], item["fqdn"], item["record"], item["state"])
    except KeyError as error:
        raise DnsError(f"An entry of mail.selectors has no {error}: hand over what dkim_selectors returns.") from error


def table(records: t.Sequence[Record], findings: t.Sequence[Finding]) -> list[str]:
    """Return one line for each record, and one for each found thing that should not be there."""
    rows = [("status", "type", "name", "value")]
    if findings:
        rows += [
            (finding.status, finding.record.type, finding.record.fqdn, _short(finding.record.value or "(none)"))
            for finding in findings
        ]
    else:
        rows += [("-", record.type, record.fqdn, _short(record.value)) for record in records]
    return align(rows, text_columns=(0, 1, 2, 3))


def _short(value: str) -> str:
    return value if len(value) <= _TABLE_VALUE else f"{value[: _TABLE_VALUE - 1]}…"


def _ask(module: AnsibleModule, planned: Plan) -> list[Finding]:
    if DNSPYTHON_ERROR is not None:
        module.fail_json(msg=missing_required_lib("dnspython"), exception=DNSPYTHON_ERROR)
    params = module.params
    try:
        resolver = Resolver(params["resolver"], params["port"], params["timeout"])
    except ValueError as error:
        raise DnsError(
            f"resolver is {params['resolver']!r}, which cannot be asked ({error}): give an address."
        ) from error
    resolver.prefetch(questions(planned.records))
    return check(planned.records, resolver)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "domain": {"type": "str", "required": True},
            "public_ip": {"type": "str", "required": True},
            "public_ipv6": {"type": "str"},
            "hosts": {"type": "list", "elements": "str", "default": []},
            "mail": {
                "type": "dict",
                "options": {
                    "hostname": {"type": "str", "required": True},
                    "domains": {"type": "list", "elements": "str", "required": True},
                    "selectors": {"type": "list", "elements": "dict", "default": []},
                    "relay_host": {"type": "str", "default": ""},
                    "spf_includes": {"type": "list", "elements": "str", "default": []},
                    "dmarc_policy": {
                        "type": "str",
                        "choices": ["none", "quarantine", "reject"],
                        "default": "quarantine",
                    },
                    "report_address": {"type": "str", "default": ""},
                    "mta_sts_mode": {"type": "str", "choices": ["enforce", "testing", "none"], "default": "testing"},
                    "pop3": {"type": "bool", "default": False},
                    "managesieve": {"type": "bool", "default": False},
                    "autoconfig": {"type": "bool", "default": True},
                },
            },
            "caa_issuers": {"type": "list", "elements": "str", "default": ["letsencrypt.org"]},
            "zones": {"type": "list", "elements": "str", "default": []},
            "ttl": {"type": "int", "default": 3600},
            "check": {"type": "bool", "default": True},
            "resolver": {"type": "str"},
            "port": {"type": "int", "default": 53},
            "timeout": {"type": "float", "default": 5},
        },
        supports_check_mode=True,
    )
    ttl = module.params["ttl"]
    try:
        planned = plan(box(module.params))
        findings = _ask(module, planned) if module.params["check"] else []
    except DnsError as error:
        module.fail_json(msg=str(error))
    wrong = [finding for finding in findings if finding.status != "right"]
    wrong.sort(key=lambda finding: (not finding.record.required, _STATUS_ORDER.index(finding.status)))
    module.exit_json(
        changed=False,
        records=[as_data(record, ttl) for record in planned.records],
        zone_file=zone_file(planned.records, ttl),
        by_hand=planned.by_hand,
        warnings_about=planned.warnings,
        findings=[
            {
                "fqdn": finding.record.fqdn,
                "type": finding.record.type,
                "status": finding.status,
                "expected": finding.record.value,
                "found": list(finding.found),
                "required": finding.record.required,
                "sentence": finding.sentence,
            }
            for finding in findings
        ],
        # A resolver that is silent is one problem, not one for each record.
        problems=_said_once(wrong),
        confirmed=[
            finding.record.fqdn for finding in findings if finding.record.kind == "dkim" and finding.status == "right"
        ],
        table=table(planned.records, findings),
    )


def _said_once(findings: t.Sequence[Finding]) -> list[str]:
    unknown = [finding for finding in findings if finding.status == "unknown"]
    said = [finding.sentence for finding in findings if finding.status != "unknown"]
    if len(unknown) > 1:
        reason = unknown[0].sentence.split(": ", 1)[1]
        said.append(f"Nothing is known about {len(unknown)} records: {reason}")
    else:
        said += [finding.sentence for finding in unknown]
    return list(dict.fromkeys(said))


if __name__ == "__main__":
    main()
