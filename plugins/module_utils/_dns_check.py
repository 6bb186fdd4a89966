# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare what the DNS says with what it should say, one sentence each.

Private: other collections must not import it.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.diegonmarcos.servers.plugins.module_utils._dns_records import Record

# RFC 7208, section 4.6.4.
_SPF_LOOKUPS = 10
_DMARC_ORDER = ("none", "quarantine", "reject")
_MARKERS = {
    "spf": "v=spf1",
    "dmarc": "v=dmarc1",
    "dmarc_reports": "v=dmarc1",
    "mta_sts": "v=stsv1",
    "tls_rpt": "v=tlsrptv1",
}


@dataclass(frozen=True)
class Answer:
    """What a resolver said: found, empty (the name has other types), nxdomain, failed or silent.

    `values` are written as in a Record; `canonical` is the name at the end of CNAMEs; `detail` says why there is none.
    """

    status: str
    values: tuple[str, ...] = ()
    canonical: str = ""
    detail: str = ""


Lookup = Callable[[str, str], Answer]
"""Asks for a name (without last dot) and a type; never raises."""


@dataclass(frozen=True)
class Finding:
    """The verdict on one record: right, wrong, missing, duplicate, or unknown where the resolver gave no answer."""

    record: Record
    status: str
    found: tuple[str, ...]
    sentence: str


def questions(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Return what a check of these records asks first, so that it can be asked at the same time."""
    asked = [(record.fqdn, record.type) for record in records]
    asked += [(record.fqdn, "AAAA") for record in records if record.type == "A"]
    return list(dict.fromkeys(asked))


def check(records: Sequence[Record], lookup: Lookup) -> list[Finding]:
    """Return one verdict for each record, and one more for each address that should not be there."""
    findings = []
    for record in records:
        findings.append(_check_record(record, records, lookup))
        if record.type == "A" and not any(item.fqdn == record.fqdn and item.type == "AAAA" for item in records):
            findings += _unexpected_ipv6(record, lookup)
    return findings


def _check_record(record: Record, records: Sequence[Record], lookup: Lookup) -> Finding:
    answer = lookup(record.fqdn, record.type)
    if answer.status in ("failed", "silent"):
        return Finding(record, "unknown", (), f"Nothing is known about {record.fqdn} {record.type}: {answer.detail}.")
    in_the_way = _alias_in_the_way(record, records, answer)
    if in_the_way:
        return Finding(record, "wrong", answer.values, in_the_way)
    if record.type == "TXT":
        return _check_text(record, answer, lookup)
    if answer.status != "found":
        return _missing(record, answer, lookup)
    if record.type in ("A", "AAAA"):
        return _check_address(record, answer)
    if record.type == "MX":
        return _check_mx(record, answer)
    if record.type == "CAA":
        return _check_caa(record, answer)
    return _check_value(record, answer)


def _alias_in_the_way(record: Record, records: Sequence[Record], answer: Answer) -> str:
    if not answer.canonical or answer.canonical == record.fqdn or record.type == "PTR":
        return ""
    alias = f"{record.fqdn} is a CNAME to {answer.canonical}"
    if record.fqdn == record.zone:
        return f"{alias}, which hides every other record of the domain: replace it by the records listed here."
    if record.kind == "mail_host" and record.type in ("A", "AAAA"):
        return f"{alias}, which a mail server's name must not be (RFC 2181): replace it by {_short(record)}."
    others = sorted({item.type for item in records if item.fqdn == record.fqdn and item.type != record.type} - {"AAAA"})
    if others:
        return f"{alias}, beside which its {', '.join(others)} cannot exist: replace it by {_short(record)}."
    if answer.status != "found":
        return f"{alias}, which has no {record.type} record: replace it by {_short(record)}."
    return ""


def _missing(record: Record, answer: Answer, lookup: Lookup) -> Finding:
    if record.kind == "dkim_revoked":
        return Finding(record, "right", (), f"{record.fqdn} is gone, as a withdrawn key may be.")
    # The commonest mistake in a provider's form: it appends the domain to a name that has it already.
    doubled = f"{record.fqdn}.{record.zone}"
    if record.type != "PTR" and len(doubled) <= 253 and lookup(doubled, record.type).status == "found":
        return Finding(
            record,
            "missing",
            (),
            f"{record.fqdn} has no {record.type}, because it stands at {doubled}: your provider appends the domain, so"
            f" enter the name as {record.name}.",
        )
    what = (
        f"{record.fqdn} does not exist" if answer.status == "nxdomain" else f"{record.fqdn} has no {record.type} record"
    )
    return Finding(record, "missing", (), f"{what}: add {_short(record)}{_urgency(record)}.")


def _urgency(record: Record) -> str:
    return "" if record.required else " (recommended)"


def _short(record: Record) -> str:
    value = record.value if len(record.value) <= 80 else f"{record.value[:60]}…"
    return f"{record.type} {value}"


def _right(record: Record, found: Sequence[str], note: str = "") -> Finding:
    return Finding(record, "right", tuple(found), f"{record.fqdn} {record.type} is right{f', {note}' if note else ''}.")


# Addresses, names and servers


def _check_address(record: Record, answer: Answer) -> Finding:
    found = [str(ipaddress.ip_address(value)) for value in answer.values]
    others = [value for value in found if value != record.value]
    if record.value not in found:
        sentence = (
            f"{record.fqdn} leads to {', '.join(found)}, not to {record.value}: correct the {record.type} record."
        )
        return Finding(record, "wrong", tuple(found), sentence)
    if others:
        sentence = (
            f"{record.fqdn} also leads to {', '.join(others)}, where some visitors end up: remove that {record.type}."
        )
        return Finding(record, "duplicate", tuple(found), sentence)
    through = f"through {answer.canonical}" if answer.canonical not in ("", record.fqdn) else ""
    return _right(record, found, through)


def _unexpected_ipv6(record: Record, lookup: Lookup) -> list[Finding]:
    answer = lookup(record.fqdn, "AAAA")
    if answer.status != "found":
        return []
    found = ", ".join(answer.values)
    expected = Record(record.zone, record.fqdn, "AAAA", "", record.kind, record.purpose, record.required)
    sentence = (
        f"{record.fqdn} also leads to {found}, which is no declared address of the box and is tried first: remove that"
        " AAAA record, or declare the box's IPv6 address."
    )
    return [Finding(expected, "wrong", answer.values, sentence)]


def _check_mx(record: Record, answer: Answer) -> Finding:
    wanted = record.value.split(" ")[1]
    targets = {value.split(" ")[1] if " " in value else value for value in answer.values}
    if wanted not in targets:
        if targets <= {"", "."}:
            sentence = f"{record.fqdn} says that it takes no mail at all (null MX): replace it by {_short(record)}."
        else:
            sentence = (
                f"Mail for {record.fqdn} goes to {', '.join(sorted(targets))}, not to {wanted}: replace that MX record."
            )
        return Finding(record, "wrong", answer.values, sentence)
    others = sorted(targets - {wanted})
    if others:
        sentence = (
            f"Mail for {record.fqdn} also goes to {', '.join(others)}, where it is lost to this box: remove that MX."
        )
        return Finding(record, "duplicate", answer.values, sentence)
    return _right(record, answer.values)


def _check_caa(record: Record, answer: Answer) -> Finding:
    issuers = [
        value.split(" ", 2)[2].split(";")[0].strip() for value in answer.values if value.split(" ")[1] == "issue"
    ]
    wanted = record.value.split(" ")[2]
    if wanted in issuers:
        return _right(record, answer.values)
    if not issuers:
        return Finding(
            record, "missing", answer.values, f"{record.fqdn} names no issuer: add CAA {record.value} (recommended)."
        )
    sentence = (
        f"{record.fqdn} lets only {', '.join(name or 'nobody' for name in issuers)} issue certificates, so {wanted}"
        f" refuses to: add CAA {record.value}."
    )
    return Finding(record, "wrong", answer.values, sentence)


def _check_value(record: Record, answer: Answer) -> Finding:
    """Judge SRV and PTR, where the value has to be just that."""
    if record.value in answer.values:
        others = [value for value in answer.values if value != record.value]
        if others:
            sentence = f"{record.fqdn} also says {', '.join(others)}: remove that {record.type}."
            return Finding(record, "duplicate", answer.values, sentence)
        return _right(record, answer.values)
    if record.type == "SRV" and any(_same_service(record.value, value) for value in answer.values):
        return _right(record, answer.values, "with another priority or weight")
    if record.type == "PTR":
        sentence = (
            f"The address behind {record.fqdn} is named {', '.join(answer.values)}, not {record.value}: have the"
            " provider of the address change its reverse name."
        )
        return Finding(record, "wrong", answer.values, sentence)
    sentence = f"{record.fqdn} says {', '.join(answer.values)}, not {record.value}: replace that {record.type} record."
    return Finding(record, "wrong", answer.values, sentence)


def _same_service(one: str, other: str) -> bool:
    return one.split(" ")[2:] == other.split(" ")[2:]


# Texts


def _check_text(record: Record, answer: Answer, lookup: Lookup) -> Finding:
    marker = _MARKERS.get(record.kind)
    values = [value for value in answer.values if marker is None or _clean(value).lower().startswith(marker)]
    if not values:
        return _missing(record, answer, lookup)
    if len(values) > 1:
        return _several(record, values)
    value = values[0]
    form = _form_mistake(record, value)
    if form:
        return Finding(record, "wrong", (value,), form)
    judge = {
        "spf": _judge_spf,
        "dkim": _judge_dkim,
        "dkim_revoked": _judge_dkim,
        "dmarc": _judge_dmarc,
        "mta_sts": _judge_mta_sts,
        "tls_rpt": _judge_tls_rpt,
    }.get(record.kind)
    wrong, note = judge(record, value, lookup) if judge else ("", "")
    if wrong:
        return Finding(record, "wrong", (value,), wrong)
    if answer.canonical not in ("", record.fqdn):
        note = f"through {answer.canonical}"
    return _right(record, (value,), note)


def _clean(value: str) -> str:
    """Take off what providers' forms leave in a value: quotes and backslashes."""
    value = value.strip()
    if '"' in value:
        parts = re.findall(r'"([^"]*)"', value)
        value = "".join(parts) if parts else value.replace('"', "")
    return value.replace("\\", "").strip()


def _form_mistake(record: Record, value: str) -> str:
    if '"' in value:
        return (
            f"{record.fqdn} has quotation marks inside its value, which your provider adds by itself: enter the text"
            " without them."
        )
    if "\\" in value:
        return (
            f"{record.fqdn} has backslashes inside its value, which belong into zone files only: enter it without them."
        )
    if value != value.strip():
        return f"{record.fqdn} has blanks around its value, so that some readers do not know it: enter it without them."
    return ""


def _several(record: Record, values: Sequence[str]) -> Finding:
    found = tuple(values)
    if _pieces_of(record.value, values):
        sentence = (
            f"{record.fqdn} is split into {len(values)} records, whose order nobody can know: enter it as one record"
            " (of several strings, where your provider asks for that)."
        )
        return Finding(record, "duplicate", found, sentence)
    if record.kind == "spf":
        sentence = (
            f"{record.fqdn} has {len(values)} SPF records, and receivers then ignore all of them: merge them into one,"
            f" {record.value}."
        )
    elif record.kind == "dmarc":
        sentence = f"{record.fqdn} has {len(values)} DMARC records, and receivers then apply none: keep {record.value}."
    else:
        sentence = (
            f"{record.fqdn} has {len(values)} such records, of which receivers take any or none: keep one,"
            f" {_short(record)}."
        )
    return Finding(record, "duplicate", found, sentence)


def _pieces_of(whole: str, values: Sequence[str]) -> bool:
    wanted = "".join(whole.split())
    pieces = ["".join(_clean(value).split()) for value in values]
    return len(pieces) <= 4 and any("".join(order) == wanted for order in itertools.permutations(pieces))


def _tags(value: str) -> dict[str, str]:
    pairs = (part.split("=", 1) for part in value.split(";") if "=" in part)
    return {name.strip().lower(): text.strip() for name, text in pairs}


def _judge_dkim(record: Record, value: str, _lookup: Lookup) -> tuple[str, str]:
    name = record.fqdn
    found, wanted = _tags(value), _tags(record.value)
    # Readers leave white space inside the key out (RFC 6376, section 3.2), and so do we.
    key, expected = "".join(found.get("p", "").split()), wanted["p"]
    if "p" not in found:
        return f"{name} holds no key at all (no p=): replace its value by the one listed here.", ""
    if not expected:
        return ("" if not key else f"{name} still shows a withdrawn key: empty its p=, or delete the record."), ""
    if not key:
        return f"{name} says that its key is withdrawn (empty p=): replace its value by the one listed here.", ""
    if key != expected and expected.startswith(key):
        return (
            f"{name} is cut off after {len(value)} characters: enter all {len(record.value)}, where your provider"
            f" allows no more than 255 as strings of {' + '.join(str(len(text)) for text in record.strings or [])}.",
            "",
        )
    if key != expected:
        return (
            f"{name} shows another key than the one mail is signed with: replace its value by the one listed here.",
            "",
        )
    if found.get("k", "rsa").lower() != wanted["k"]:
        return f"{name} says k={found.get('k', 'rsa')}, and the key is of the kind {wanted['k']}: correct that.", ""
    if "h" in found and "sha256" not in found["h"].lower().replace(" ", "").split(":"):
        return f"{name} allows only h={found['h']}, and mail is signed with sha256: remove h=.", ""
    if "y" in found.get("t", "").split(":"):
        return "", "but says that it is a test (t=y), so receivers may act as if there was no signature"
    return "", ""


def _judge_dmarc(record: Record, value: str, _lookup: Lookup) -> tuple[str, str]:
    found, wanted = _tags(value), _tags(record.value)
    policy = found.get("p", "").lower()
    if policy not in _DMARC_ORDER:
        return f"{record.fqdn} has no policy that receivers know (p=): replace it by {record.value}.", ""
    if _DMARC_ORDER.index(policy) < _DMARC_ORDER.index(wanted["p"]):
        return f"{record.fqdn} asks receivers for p={policy}, which is less than {wanted['p']}: change that.", ""
    if found.get("pct", "100") != "100":
        return "", f"though for {found['pct']} % of the messages only"
    return "", "" if "rua" in found else "though nobody gets its reports (rua=)"


def _judge_mta_sts(record: Record, value: str, _lookup: Lookup) -> tuple[str, str]:
    if _tags(value).get("id") != _tags(record.value)["id"]:
        return (
            f"{record.fqdn} has another id than the policy that is served, so senders keep to the old one: replace it"
            f" by {record.value}.",
            "",
        )
    return "", ""


def _judge_tls_rpt(record: Record, value: str, _lookup: Lookup) -> tuple[str, str]:
    if not _tags(value).get("rua"):
        return f"{record.fqdn} names nobody to report to (rua=): replace it by {record.value}.", ""
    return "", ""


def _judge_spf(record: Record, value: str, lookup: Lookup) -> tuple[str, str]:
    terms = [term.lower() for term in value.split()[1:]]
    end = next((place for place, term in enumerate(terms) if term.lstrip("+-~?") == "all"), None)
    heard = [term.removeprefix("+") for term in (terms if end is None else terms[:end])]
    for wanted in record.value.lower().split()[1:-1]:
        if any(term in heard for term in (wanted, *record.instead.get(wanted, ()))):
            continue
        if wanted in terms:
            return (
                f"{record.fqdn} has {wanted} behind {terms[end or 0]}, where nobody reads it: move it to the front.",
                "",
            )
        what = "the relay" if wanted.startswith(("include:", "a:", "ip")) else "this box"
        return f"{record.fqdn} does not allow {what} to send: add {wanted} to its SPF record.", ""
    if end is None and not any(term.startswith("redirect=") for term in terms):
        return f"{record.fqdn} does not say what holds for everybody else: end its SPF record with -all.", ""
    if end is not None and terms[end] in ("all", "+all", "?all"):
        return f"{record.fqdn} lets everybody send in its name ({terms[end]}): end its SPF record with -all.", ""
    count, trouble = _spf_lookups(record.fqdn, terms, lookup, frozenset({record.fqdn}))
    if trouble:
        return trouble, ""
    if count > _SPF_LOOKUPS:
        return (
            f"{record.fqdn} makes receivers look up {count} names for its SPF record, and they give up at"
            f" {_SPF_LOOKUPS}: remove includes that are not needed.",
            "",
        )
    return "", ""


def _spf_lookups(name: str, terms: Sequence[str], lookup: Lookup, seen: frozenset[str]) -> tuple[int, str]:
    """Count the look-ups a receiver needs, and say what makes it give up before."""
    count = 0
    for term in terms:
        bare = term.lstrip("+-~?")
        mechanism, _colon, target = bare.replace("=", ":", 1).partition(":")
        if mechanism.split("/")[0] not in ("include", "a", "mx", "ptr", "exists", "redirect"):
            continue
        count += 1
        # Macros need a message to be filled in.
        if mechanism not in ("include", "redirect") or "%" in target or len(seen) > 2 * _SPF_LOOKUPS:
            continue
        if target in seen:
            return count, f"{name} has an SPF record that includes itself by {bare}: remove that."
        answer = lookup(target, "TXT")
        if answer.status in ("failed", "silent"):
            continue
        policies = [value for value in answer.values if value.lower().split(" ")[0] == "v=spf1"]
        if not policies:
            return (
                count,
                f"{name} has {bare} in its SPF record, and {target} has none, which voids both: correct the name.",
            )
        inner, trouble = _spf_lookups(target, policies[0].lower().split()[1:], lookup, seen | {target})
        if trouble:
            return count, trouble
        count += inner
    return count, ""
