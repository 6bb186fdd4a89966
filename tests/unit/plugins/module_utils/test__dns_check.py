from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils._dns_check import (
    Answer,
    Finding,
    check,
    questions,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dns_records import (
    Box,
    Mail,
    Record,
    Signature,
    plan,
)

KEY = "v=DKIM1; k=rsa; p=" + "QUJD" * 98
SELECTOR = "s._domainkey.example.org"
Zone = Mapping[tuple[str, str], "Answer | list[str]"]


def records(**more: object) -> list[Record]:
    declared = {
        "hostname": "mail.example.org",
        "domains": ["example.org"],
        "signatures": [Signature("example.org", SELECTOR, KEY)],
        "spf_includes": ["spf.relay.example"],
        **more,
    }
    box = Box("example.org", "203.0.113.10", hosts=["www.example.org", "example.org"], mail=Mail(**declared))  # type: ignore[arg-type]
    return plan(box).records


def lookup(zone: Zone) -> Callable[[str, str], Answer]:
    def ask(name: str, kind: str) -> Answer:
        known = zone.get((name, kind))
        if isinstance(known, Answer):
            return known
        if known:
            return Answer("found", tuple(known), name)
        exists = any(owner == name for owner, _kind in zone)
        return Answer("empty" if exists else "nxdomain", canonical=name)

    return ask


def right_zone(wanted: list[Record]) -> dict[tuple[str, str], Answer | list[str]]:
    zone: dict[tuple[str, str], Answer | list[str]] = {("spf.relay.example", "TXT"): ["v=spf1 ip4:192.0.2.7 -all"]}
    for record in wanted:
        zone[record.fqdn, record.type] = [record.value]
    return zone


def verdict(fqdn: str, kind: str, answer: Answer | list[str] | None, **more: object) -> Finding:
    """Return the verdict on one record of a zone that is right otherwise."""
    wanted = records(**more)
    zone = right_zone(wanted)
    if answer is None:
        del zone[fqdn, kind]
    else:
        zone[fqdn, kind] = answer
    found = check(wanted, lookup(zone))
    others = [finding for finding in found if (finding.record.fqdn, finding.record.type) != (fqdn, kind)]
    assert {finding.status for finding in others} <= {"right"}, others
    (one,) = [finding for finding in found if (finding.record.fqdn, finding.record.type) == (fqdn, kind)]
    return one


def test_a_right_zone_is_right() -> None:
    wanted = records()
    findings = check(wanted, lookup(right_zone(wanted)))
    assert len(findings) == len(wanted)
    assert {finding.status for finding in findings} == {"right"}


def test_nothing_there_is_all_missing() -> None:
    wanted = records()
    findings = check(wanted, lookup({}))
    assert {finding.status for finding in findings} == {"missing"}
    assert "www.example.org does not exist: add A 203.0.113.10." in [finding.sentence for finding in findings]


def test_everything_that_is_needed_first_is_asked_at_once() -> None:
    wanted = records()
    asked: list[tuple[str, str]] = []
    answers = lookup(right_zone(wanted))

    def watched(name: str, kind: str) -> Answer:
        asked.append((name, kind))
        return answers(name, kind)

    check(wanted, watched)
    assert set(asked) - set(questions(wanted)) == {("spf.relay.example", "TXT")}


@pytest.mark.parametrize(
    ("fqdn", "kind", "answer", "status", "sentence"),
    [
        # Addresses
        ("www.example.org", "A", ["192.0.2.1"], "wrong", "leads to 192.0.2.1, not to 203.0.113.10: correct the A"),
        ("www.example.org", "A", ["192.0.2.1", "203.0.113.10"], "duplicate", "also leads to 192.0.2.1, where some"),
        ("www.example.org", "A", None, "missing", "www.example.org does not exist: add A 203.0.113.10."),
        (
            "www.example.org",
            "A",
            Answer("found", ("203.0.113.10",), "box.example.net"),
            "right",
            "is right, through box.example.net",
        ),
        (
            "www.example.org",
            "A",
            Answer("nxdomain", (), "old.example.net"),
            "wrong",
            "is a CNAME to old.example.net, which has no A record: replace it by A 203.0.113.10",
        ),
        (
            "mail.example.org",
            "A",
            Answer("found", ("203.0.113.10",), "example.org"),
            "wrong",
            "is a CNAME to example.org, which a mail server's name must not be (RFC 2181)",
        ),
        (
            "example.org",
            "A",
            Answer("found", ("203.0.113.10",), "lb.example.net"),
            "wrong",
            "is a CNAME to lb.example.net, which hides every other record of the domain",
        ),
        # MX
        ("example.org", "MX", ["10 mx.example.net"], "wrong", "goes to mx.example.net, not to mail.example.org"),
        ("example.org", "MX", ["0 ."], "wrong", "takes no mail at all (null MX)"),
        ("example.org", "MX", ["10 mail.example.org", "20 mx.example.net"], "duplicate", "also goes to mx.example.net"),
        ("example.org", "MX", ["5 mail.example.org"], "right", "is right"),
        # SPF
        (
            "example.org",
            "TXT",
            ["v=spf1 mx include:spf.relay.example -all", "v=spf1 -all"],
            "duplicate",
            "has 2 SPF records, and receivers then ignore all of them: merge them into one, v=spf1 mx include:",
        ),
        ("example.org", "TXT", ["v=spf1 mx -all"], "wrong", "does not allow the relay to send: add include:spf.relay"),
        ("example.org", "TXT", ["v=spf1 include:spf.relay.example -all"], "wrong", "does not allow this box to send"),
        (
            "example.org",
            "TXT",
            ["v=spf1 ip4:203.0.113.10 include:spf.relay.example ~all", "site-verification=1"],
            "right",
            "is right",
        ),
        ("example.org", "TXT", ["v=spf1 +mx include:spf.relay.example ip4:192.0.2.9 -all"], "right", "is right"),
        ("example.org", "TXT", ["V=SPF1 MX INCLUDE:SPF.RELAY.EXAMPLE -ALL"], "right", "is right"),
        (
            "example.org",
            "TXT",
            ["v=spf1 mx -all include:spf.relay.example"],
            "wrong",
            "behind -all, where nobody reads",
        ),
        ("example.org", "TXT", ["v=spf1 mx include:spf.relay.example +all"], "wrong", "lets everybody send"),
        (
            "example.org",
            "TXT",
            ["v=spf1 mx include:spf.relay.example"],
            "wrong",
            "does not say what holds for everybody",
        ),
        (
            "example.org",
            "TXT",
            ['"v=spf1 mx include:spf.relay.example -all"'],
            "wrong",
            "has quotation marks inside its value, which your provider adds by itself",
        ),
        (
            "example.org",
            "TXT",
            ["v=spf1 mx include:spf.relay.example include:none.example -all"],
            "wrong",
            "has include:none.example in its SPF record, and none.example has none, which voids both",
        ),
        (
            "example.org",
            "TXT",
            ["v=spf1 mx include:spf.relay.example include:example.org -all"],
            "wrong",
            "includes itself",
        ),
        (
            "example.org",
            "TXT",
            ["v=spf1 mx include:spf.relay.example " + " ".join(f"a:h{n}.example.net" for n in range(9)) + " -all"],
            "wrong",
            "look up 11 names for its SPF record, and they give up at 10",
        ),
        ("example.org", "TXT", ["something else"], "missing", "example.org has no TXT record: add TXT v=spf1 mx"),
        # DKIM
        (SELECTOR, "TXT", [KEY.replace("; ", ";").replace("k=rsa;", "")], "right", "is right"),
        (SELECTOR, "TXT", [KEY[:255] + " " + KEY[255:]], "right", "is right"),
        (SELECTOR, "TXT", [KEY[:255]], "wrong", "is cut off after 255 characters: enter all 410"),
        (SELECTOR, "TXT", [KEY[:255], KEY[255:]], "duplicate", "is split into 2 records, whose order nobody can know"),
        (SELECTOR, "TXT", [KEY[255:], KEY[:255]], "duplicate", "is split into 2 records"),
        (SELECTOR, "TXT", [KEY, KEY.replace("QUJD", "QUJE")], "duplicate", "has 2 such records"),
        (SELECTOR, "TXT", [f'"{KEY[:255]}" "{KEY[255:]}"'], "wrong", "has quotation marks inside its value"),
        (SELECTOR, "TXT", [KEY.replace(";", "\\;")], "wrong", "has backslashes inside its value"),
        (SELECTOR, "TXT", [KEY.replace("QUJD", "QUJE")], "wrong", "shows another key than the one mail is signed with"),
        (SELECTOR, "TXT", ["v=DKIM1; k=rsa; p="], "wrong", "says that its key is withdrawn"),
        (SELECTOR, "TXT", ["v=DKIM1; k=rsa"], "wrong", "holds no key at all"),
        (SELECTOR, "TXT", [KEY.replace("k=rsa", "k=ed25519")], "wrong", "says k=ed25519"),
        (SELECTOR, "TXT", [KEY.replace("k=rsa", "h=sha1; k=rsa")], "wrong", "allows only h=sha1"),
        (SELECTOR, "TXT", [KEY.replace("k=rsa", "k=rsa; t=y")], "right", "says that it is a test (t=y)"),
        (SELECTOR, "TXT", Answer("found", (KEY,), "s.keys.example.net"), "right", "through s.keys.example.net"),
        # DMARC and the reports
        (
            "_dmarc.example.org",
            "TXT",
            ["v=DMARC1; p=none; rua=mailto:a@b.example"],
            "wrong",
            "asks receivers for p=none",
        ),
        ("_dmarc.example.org", "TXT", ["v=DMARC1; p=reject; rua=mailto:a@b.example"], "right", "is right"),
        ("_dmarc.example.org", "TXT", ["v=DMARC1; p=reject"], "right", "though nobody gets its reports"),
        ("_dmarc.example.org", "TXT", ["v=DMARC1; p=reject; rua=mailto:a@b.example; pct=10"], "right", "10 %"),
        (
            "_dmarc.example.org",
            "TXT",
            ["v=DMARC1; rua=mailto:a@b.example"],
            "wrong",
            "has no policy that receivers know",
        ),
        ("_dmarc.example.org", "TXT", ["v=DMARC1; p=none", "v=DMARC1; p=reject"], "duplicate", "has 2 DMARC records"),
        ("_mta-sts.example.org", "TXT", ["v=STSv1; id=1"], "wrong", "has another id than the policy that is served"),
        ("_smtp._tls.example.org", "TXT", ["v=TLSRPTv1;"], "wrong", "names nobody to report to"),
        ("_smtp._tls.example.org", "TXT", None, "missing", "rua=mailto:postmaster@example.org (recommended)."),
        # SRV, CAA, PTR
        ("_imaps._tcp.example.org", "SRV", ["0 1 143 mail.example.org"], "wrong", "not 0 1 993 mail.example.org"),
        ("_imaps._tcp.example.org", "SRV", ["10 5 993 mail.example.org"], "right", "another priority or weight"),
        ("example.org", "CAA", ["0 issue sectigo.com"], "wrong", "lets only sectigo.com issue certificates"),
        ("example.org", "CAA", ["0 issue sectigo.com", "0 issue letsencrypt.org; x=y"], "right", "is right"),
        ("example.org", "CAA", ["0 iodef mailto:a@b.example"], "missing", "names no issuer"),
        (
            "10.113.0.203.in-addr.arpa",
            "PTR",
            ["vps-1.provider.example"],
            "wrong",
            "is named vps-1.provider.example, not",
        ),
        (
            "10.113.0.203.in-addr.arpa",
            "PTR",
            ["mail.example.org", "vps-1.provider.example"],
            "duplicate",
            "also says vps-1.provider.example",
        ),
        # The resolver
        ("www.example.org", "A", Answer("silent", detail="it did not answer"), "unknown", "it did not answer"),
        ("www.example.org", "A", Answer("failed", detail="it failed"), "unknown", "Nothing is known about www"),
    ],
)
def test_each_difference_is_one_sentence(
    fqdn: str, kind: str, answer: Answer | list[str] | None, status: str, sentence: str
) -> None:
    found = verdict(fqdn, kind, answer)
    assert (found.status, sentence in found.sentence) == (status, True), found.sentence
    assert found.sentence.count(". ") == 0
    assert found.sentence.endswith(".")
    assert "\n" not in found.sentence


def test_a_name_that_the_provider_lengthened_is_found() -> None:
    wanted = records()
    zone = right_zone(wanted)
    zone[f"{SELECTOR}.example.org", "TXT"] = zone.pop((SELECTOR, "TXT"))
    (found,) = [finding for finding in check(wanted, lookup(zone)) if finding.status != "right"]
    assert found.sentence == (
        f"{SELECTOR} has no TXT, because it stands at {SELECTOR}.example.org: your provider appends the domain, so"
        " enter the name as s._domainkey."
    )


def test_an_address_of_the_newer_kind_that_nobody_declared_is_found() -> None:
    wanted = records()
    zone = right_zone(wanted)
    zone["www.example.org", "AAAA"] = ["2001:db8::bad"]
    (found,) = [finding for finding in check(wanted, lookup(zone)) if finding.status != "right"]
    assert (found.record.type, found.status) == ("AAAA", "wrong")
    assert "www.example.org also leads to 2001:db8::bad" in found.sentence


@pytest.mark.parametrize("answer", [["v=DKIM1; k=rsa; p="], None])
def test_a_withdrawn_key_may_be_empty_or_gone(answer: list[str] | None) -> None:
    withdrawn = [Signature("example.org", SELECTOR, "v=DKIM1; k=rsa; p=", "revoked")]
    assert verdict(SELECTOR, "TXT", answer, signatures=withdrawn).status == "right"


def test_a_withdrawn_key_that_still_stands_there_is_told() -> None:
    withdrawn = [Signature("example.org", SELECTOR, "v=DKIM1; k=rsa; p=", "revoked")]
    found = verdict(SELECTOR, "TXT", [KEY], signatures=withdrawn)
    assert (found.status, "still shows a withdrawn key" in found.sentence) == ("wrong", True)


def test_includes_count_with_what_they_include() -> None:
    wanted = records()
    zone = right_zone(wanted)
    zone["spf.relay.example", "TXT"] = ["v=spf1 " + " ".join(f"include:i{n}.example" for n in range(9)) + " -all"]
    for number in range(9):
        zone[f"i{number}.example", "TXT"] = ["v=spf1 ip4:192.0.2.1 -all"]
    (found,) = [finding for finding in check(wanted, lookup(zone)) if finding.status != "right"]
    assert "look up 11 names" in found.sentence
