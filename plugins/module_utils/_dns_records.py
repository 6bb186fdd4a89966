# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The DNS records a box needs, built from what is declared about it. Private: other collections must not import it."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_record import (
    DkimError,
    parse_domain,
    quote_strings,
    split_value,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dns_relays import spf_includes

_DMARC_POLICIES = ("none", "quarantine", "reject")


class DnsError(Exception):
    """One sentence for the user."""


@dataclass(frozen=True)
class Record:
    """One record; `value` is what a zone file says behind the type, without the quotes of a text.

    `kind` names the purpose for the check: address, mail_host, mx, spf, dkim, dkim_revoked, dmarc, dmarc_reports,
    mta_sts, tls_rpt, srv, caa, ptr. `instead` lists, for a part of the value, others that have the same effect.
    """

    zone: str
    fqdn: str
    type: str
    value: str
    kind: str
    purpose: str
    required: bool = True
    instead: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.fqdn.removesuffix(self.zone).removesuffix(".") or "@"

    @property
    def strings(self) -> list[str] | None:
        return split_value(self.value) if self.type == "TXT" else None

    @property
    def rdata(self) -> str:
        """The value as a zone file writes it."""
        if self.type == "TXT":
            return quote_strings(split_value(self.value))
        if self.type == "CAA":
            flags, tag, value = self.value.split(" ", 2)
            return f"{flags} {tag} {quote_strings([value])}"
        if self.type in ("MX", "SRV", "PTR", "CNAME"):
            return f"{self.value}."
        return self.value

    def zone_line(self, ttl: int) -> str:
        return f"{self.fqdn}. {ttl} IN {self.type} {self.rdata}"


@dataclass(frozen=True)
class Signature:
    """A DKIM record; `value` is None where its key is not made yet."""

    domain: str
    fqdn: str
    value: str | None
    state: str = "active"


@dataclass(frozen=True)
class Mail:
    """What is declared about mail."""

    hostname: str
    domains: Sequence[str]
    signatures: Sequence[Signature] = ()
    relay_host: str = ""
    spf_includes: Sequence[str] = ()
    dmarc_policy: str = "quarantine"
    report_address: str = ""
    mta_sts_mode: str = "testing"
    pop3: bool = False
    managesieve: bool = False
    autoconfig: bool = True


@dataclass(frozen=True)
class Box:
    """What is declared about a box."""

    domain: str
    ipv4: str
    ipv6: str = ""
    hosts: Sequence[str] = ()
    mail: Mail | None = None
    caa_issuers: Sequence[str] = ("letsencrypt.org",)
    zones: Sequence[str] = ()


@dataclass
class Plan:
    """The records, and what has to be said about them."""

    records: list[Record] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)


def mta_sts_policy(hostname: str, mode: str, max_age: int = 604800) -> str:
    """Return the policy file of MTA-STS (RFC 8461, section 3.2); max_age in seconds."""
    return f"version: STSv1\r\nmode: {mode}\r\nmx: {hostname}\r\nmax_age: {max_age}\r\n"


def mta_sts_id(policy: str) -> str:
    """Return the id that tells senders which policy they know: another one for every other text."""
    return hashlib.sha256(policy.encode()).hexdigest()[:20]


def plan(box: Box) -> Plan:
    """Return every record a box needs; DnsError names the first declaration that makes no sense."""
    result = Plan()
    domain = _domain("domain", box.domain)
    _check_address(box.ipv4, 4)
    if box.ipv6:
        _check_address(box.ipv6, 6)
    mail = box.mail
    mail_domains = [_domain("mail domain", name) for name in mail.domains] if mail else []
    zones = _Zones([*(_domain("zone", name) for name in box.zones), domain, *mail_domains])
    hosts = [_host(name) for name in box.hosts]
    if mail is not None:
        hosts = [name for name in hosts if name != _host(mail.hostname)]
    for name in dict.fromkeys(hosts):
        result.records += _addresses(box, zones, name, "address", "Visitors reach this site here.")
    if mail is not None:
        _plan_mail(box, mail, mail_domains, zones, result)
    for name in dict.fromkeys([domain, *mail_domains]):
        for issuer in box.caa_issuers:
            purpose = "Nobody else may issue certificates for these names."
            result.records.append(
                Record(zones.of(name), name, "CAA", f"0 issue {issuer}", "caa", purpose, required=False)
            )
    result.records = _sorted(result.records, zones)
    return result


def _plan_mail(box: Box, mail: Mail, domains: Sequence[str], zones: _Zones, result: Plan) -> None:
    hostname = _host(mail.hostname)
    if mail.dmarc_policy not in _DMARC_POLICIES:
        raise DnsError(f"The DMARC policy is {mail.dmarc_policy!r}: use {', '.join(_DMARC_POLICIES)}.")
    if not domains:
        raise DnsError("Mail is on and has no domain: name at least one.")
    result.records += _addresses(box, zones, hostname, "mail_host", "The mail server and its webmail.")
    result.records.append(
        Record(
            zones.of(hostname),
            hostname,
            "TXT",
            "v=spf1 a -all",
            "spf",
            "Notices that the server sends in its own name.",
            required=False,
            instead={"a": (f"ip4:{box.ipv4}", "mx")},
        )
    )
    includes = _includes(mail, result)
    report = mail.report_address or f"postmaster@{box.domain if box.domain in domains else domains[0]}"
    for domain in domains:
        result.records += _mail_domain(box, mail, hostname, domain, includes, report, zones)
    result.records += _signatures(mail, zones, result)
    result.records += _reverse(box, mail, hostname, result)


def _includes(mail: Mail, result: Plan) -> list[str]:
    """Return the mechanisms of SPF that let the relay send."""
    if mail.spf_includes:
        return [f"include:{_host(name)}" for name in mail.spf_includes]
    if not mail.relay_host:
        return []
    relay = mail.relay_host.strip("[]").lower().removesuffix(".")
    known = spf_includes(relay)
    if known:
        return [f"include:{name}" for name in known]
    result.warnings.append(
        f"The SPF record allows the address of {relay} itself, because mailserver_spf_includes is empty: most relays"
        " send from other addresses, so ask yours for its SPF include and put it there."
    )
    if _is_address(relay):
        return [f"{'ip6' if ':' in relay else 'ip4'}:{relay}"]
    return [f"a:{_host(relay)}"]


def _mail_domain(
    box: Box, mail: Mail, hostname: str, domain: str, includes: Sequence[str], report: str, zones: _Zones
) -> list[Record]:
    zone = zones.of(domain)
    own = (f"ip4:{box.ipv4}", f"a:{hostname}", *(["a"] if hostname == domain else []))
    spf = " ".join(["v=spf1", "mx", *includes, "-all"])
    records = [
        Record(zone, domain, "MX", f"10 {hostname}", "mx", f"Mail for {domain} is delivered to this box."),
        Record(zone, domain, "TXT", spf, "spf", f"Who may send in the name of {domain}.", instead={"mx": own}),
        Record(
            zone,
            f"_dmarc.{domain}",
            "TXT",
            f"v=DMARC1; p={mail.dmarc_policy}; rua=mailto:{report}",
            "dmarc",
            "What receivers do with mail that only pretends to come from here.",
        ),
        Record(
            zone,
            f"_smtp._tls.{domain}",
            "TXT",
            f"v=TLSRPTv1; rua=mailto:{report}",
            "tls_rpt",
            "Senders report where encryption failed.",
            required=False,
        ),
    ]
    report_domain = report.rpartition("@")[2]
    if not _same_organisation(domain, report_domain):
        # RFC 7489, section 7.1: who gets reports about others has to agree.
        name = f"{domain}._report._dmarc.{report_domain}"
        purpose = f"Reports about {domain} may be sent to {report}."
        records.append(
            Record(zones.of(report_domain), name, "TXT", "v=DMARC1", "dmarc_reports", purpose, required=False)
        )
    if mail.mta_sts_mode != "none":
        policy = mta_sts_policy(hostname, mail.mta_sts_mode)
        records.append(
            Record(
                zone,
                f"_mta-sts.{domain}",
                "TXT",
                f"v=STSv1; id={mta_sts_id(policy)}",
                "mta_sts",
                "Senders look for the policy that asks for encryption.",
                required=False,
            )
        )
        records += _addresses(box, zones, f"mta-sts.{domain}", "address", "Serves that policy.", required=False)
    return records + _discovery(box, mail, hostname, domain, zones)


def _discovery(box: Box, mail: Mail, hostname: str, domain: str, zones: _Zones) -> list[Record]:
    offers = [
        ("_submissions", 465, "Sending mail"),
        ("_submission", 587, "Sending mail"),
        ("_imaps", 993, "Reading mail"),
    ]
    if mail.pop3:
        offers.append(("_pop3s", 995, "Fetching mail"))
    if mail.managesieve:
        offers.append(("_sieve", 4190, "Editing filters"))
    purpose = "Mail programs and telephones set themselves up."
    if mail.autoconfig:
        offers.append(("_autodiscover", 443, purpose))
    records = [
        Record(
            zones.of(domain),
            f"{service}._tcp.{domain}",
            "SRV",
            f"0 1 {port} {f'autodiscover.{domain}' if port == 443 else hostname}",
            "srv",
            what if port == 443 else f"{what}: where programs find it.",
            required=False,
        )
        for service, port, what in offers
    ]
    if mail.autoconfig:
        for label in ("autoconfig", "autodiscover"):
            records += _addresses(box, zones, f"{label}.{domain}", "address", purpose, required=False)
    return records


def _signatures(mail: Mail, zones: _Zones, result: Plan) -> list[Record]:
    purposes = {
        "published": "The next signing key, to be seen before it is used.",
        "active": "The key that mail is signed with.",
        "retired": "The former key, for mail on its way.",
        "revoked": "A withdrawn key; the record may also be deleted.",
    }
    records = []
    for item in mail.signatures:
        if item.value is None:
            result.warnings.append(f"{item.fqdn} has no value in this dry run, because its key is not made yet.")
            continue
        kind = "dkim_revoked" if item.state == "revoked" else "dkim"
        required = item.state != "revoked"
        purpose = purposes[item.state]
        records.append(Record(zones.of(item.domain), item.fqdn, "TXT", item.value, kind, purpose, required))
    return records


def _reverse(box: Box, mail: Mail, hostname: str, result: Plan) -> list[Record]:
    records = []
    for address in filter(None, (box.ipv4, box.ipv6)):
        # Who takes mail from a relay looks at the relay's name, not at ours.
        name = ipaddress.ip_address(address).reverse_pointer
        purpose = "Receivers refuse servers whose address has no such name."
        zone = name.split(".", 1)[1]
        records.append(Record(zone, name, "PTR", hostname, "ptr", purpose, required=not mail.relay_host))
        why = " It matters less while mail leaves through the relay." if mail.relay_host else ""
        result.by_hand.append(
            f"Ask the provider of {address} to name it {hostname} (PTR, reverse DNS): only they can, in their console"
            f" or by a request to support.{why}"
        )
    return records


def _addresses(box: Box, zones: _Zones, name: str, kind: str, purpose: str, *, required: bool = True) -> list[Record]:
    records = [Record(zones.of(name), name, "A", box.ipv4, kind, purpose, required)]
    if box.ipv6:
        address = str(ipaddress.ip_address(box.ipv6))
        records.append(Record(zones.of(name), name, "AAAA", address, kind, purpose, required))
    return records


class _Zones:
    """Knows which zone a name belongs to: the shortest known one that it lies in, else the name above it."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted(set(names), key=len)

    def of(self, fqdn: str) -> str:
        for zone in self.names:
            if fqdn == zone or fqdn.endswith(f".{zone}"):
                return zone
        return fqdn if fqdn.count(".") < 2 else fqdn.split(".", 1)[1]


def _sorted(records: Sequence[Record], zones: _Zones) -> list[Record]:
    order = {name: place for place, name in enumerate(zones.names)}
    unique = list({(record.fqdn, record.type, record.value): record for record in records}.values())
    # Reverse names last: they go to somebody else.
    return sorted(unique, key=lambda record: (record.type == "PTR", order.get(record.zone, len(order)), record.zone))


def zone_file(records: Sequence[Record], ttl: int) -> str:
    """Return the records as a zone file; what goes to the provider of the address is a comment."""
    lines: list[str] = []
    zone = None
    for record in records:
        if record.type == "PTR":
            if zone is not None:
                lines += ["", "; Not in these zones: the provider of the address sets the reverse name."]
                zone = None
            lines.append(f"; {record.zone_line(ttl)}")
            continue
        if record.zone != zone:
            zone = record.zone
            lines += [*([""] if lines else []), f"; Zone {zone}"]
        lines.append(record.zone_line(ttl))
    return "".join(f"{line}\n" for line in lines)


def as_data(record: Record, ttl: int) -> dict[str, Any]:
    """Return a record in the parts that the interfaces of providers ask for, whichever provider it is."""
    parts: dict[str, Any] = {"priority": None, "weight": None, "port": None, "target": None, "flags": None, "tag": None}
    words = record.value.split(" ")
    if record.type == "MX":
        parts |= {"priority": int(words[0]), "target": words[1]}
    elif record.type == "SRV":
        parts |= dict(zip(("priority", "weight", "port"), map(int, words[:3]), strict=True))
        parts["target"] = words[3]
    elif record.type == "CAA":
        parts |= {"flags": int(words[0]), "tag": words[1], "target": words[2]}
    elif record.type == "PTR":
        parts["target"] = record.value
    return {
        "zone": record.zone,
        "name": record.name,
        "fqdn": record.fqdn,
        "type": record.type,
        "ttl": ttl,
        "value": record.value,
        **parts,
        "strings": record.strings,
        "zone_line": record.zone_line(ttl),
        "purpose": record.purpose,
        "required": record.required,
    }


def _domain(what: str, name: str) -> str:
    try:
        return parse_domain(name)
    except DkimError as error:
        raise DnsError(f"The {what} {error}") from error


def _host(name: str) -> str:
    stem = name.removeprefix("*.")
    return name.removesuffix(stem) + _domain("name", stem)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check_address(address: str, version: int) -> None:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        found = None
    if found is None or found.version != version:
        raise DnsError(f"{address!r} is no IPv{version} address: give the one the world reaches the box at.")


def _same_organisation(one: str, other: str) -> bool:
    return f".{one}".endswith(f".{other}") or f".{other}".endswith(f".{one}")
