from __future__ import annotations

import hashlib

import dns.rdataset
import dns.zone
import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils._dns_records import (
    Box,
    DnsError,
    Mail,
    Plan,
    Signature,
    as_data,
    mta_sts_policy,
    plan,
    zone_file,
)

KEY = "v=DKIM1; k=rsa; p=" + "A" * 392
SIGNATURE = Signature("example.org", "202611a._domainkey.example.org", KEY)


def mail(**more: object) -> Mail:
    return Mail(**{"hostname": "mail.example.org", "domains": ["example.org"], **more})  # type: ignore[arg-type]


def box(**more: object) -> Box:
    declared = {"domain": "example.org", "ipv4": "203.0.113.10", "hosts": ["proxy.example.org"], "mail": mail(), **more}
    return Box(**declared)  # type: ignore[arg-type]


def values(result: Plan, fqdn: str, kind: str) -> list[str]:
    return [record.value for record in result.records if (record.fqdn, record.type) == (fqdn, kind)]


def test_a_box_with_mail_needs_all_of_this() -> None:
    result = plan(box(mail=mail(signatures=[SIGNATURE])))
    assert {(record.fqdn, record.type) for record in result.records} == {
        ("proxy.example.org", "A"),
        ("mail.example.org", "A"),
        ("mail.example.org", "TXT"),
        ("example.org", "MX"),
        ("example.org", "TXT"),
        ("example.org", "CAA"),
        ("_dmarc.example.org", "TXT"),
        ("_smtp._tls.example.org", "TXT"),
        ("_mta-sts.example.org", "TXT"),
        ("mta-sts.example.org", "A"),
        ("_submissions._tcp.example.org", "SRV"),
        ("_submission._tcp.example.org", "SRV"),
        ("_imaps._tcp.example.org", "SRV"),
        ("_autodiscover._tcp.example.org", "SRV"),
        ("autoconfig.example.org", "A"),
        ("autodiscover.example.org", "A"),
        ("202611a._domainkey.example.org", "TXT"),
        ("10.113.0.203.in-addr.arpa", "PTR"),
    }
    assert values(result, "example.org", "MX") == ["10 mail.example.org"]
    assert values(result, "example.org", "TXT") == ["v=spf1 mx -all"]
    assert values(result, "_dmarc.example.org", "TXT") == ["v=DMARC1; p=quarantine; rua=mailto:postmaster@example.org"]
    assert values(result, "10.113.0.203.in-addr.arpa", "PTR") == ["mail.example.org"]
    assert "203.0.113.10 to name it mail.example.org" in result.by_hand[0]


def test_a_box_without_mail_needs_addresses_and_the_issuer_only() -> None:
    result = plan(box(mail=None))
    assert {(record.fqdn, record.type) for record in result.records} == {
        ("proxy.example.org", "A"),
        ("example.org", "CAA"),
    }
    assert result.by_hand == []


def test_a_box_with_ipv6_has_it_everywhere() -> None:
    result = plan(box(ipv6="2001:DB8::10"))
    names = {kind: {record.fqdn for record in result.records if record.type == kind} for kind in ("A", "AAAA")}
    assert names["A"] == names["AAAA"]
    assert values(result, "mail.example.org", "AAAA") == ["2001:db8::10"]
    assert len([record for record in result.records if record.type == "PTR"]) == 2


@pytest.mark.parametrize(
    ("declared", "spf", "warned"),
    [
        ({}, "v=spf1 mx -all", False),
        ({"relay_host": "smtp.sendgrid.net"}, "v=spf1 mx include:sendgrid.net -all", False),
        (
            {"relay_host": "smtp.email.eu-frankfurt-1.oci.oraclecloud.com"},
            "v=spf1 mx include:eu.rp.oracleemaildelivery.com -all",
            False,
        ),
        (
            {"relay_host": "smtp.email.uk-london-1.oci.oraclecloud.com"},
            "v=spf1 mx include:ap.rp.oracleemaildelivery.com include:eu.rp.oracleemaildelivery.com"
            " include:rp.oracleemaildelivery.com -all",
            False,
        ),
        ({"relay_host": "[smtp.relay.example]"}, "v=spf1 mx a:smtp.relay.example -all", True),
        ({"relay_host": "192.0.2.7"}, "v=spf1 mx ip4:192.0.2.7 -all", True),
        ({"relay_host": "2001:db8::7"}, "v=spf1 mx ip6:2001:db8::7 -all", True),
        (
            {"relay_host": "smtp.sendgrid.net", "spf_includes": ["spf.one.example", "spf.two.example"]},
            "v=spf1 mx include:spf.one.example include:spf.two.example -all",
            False,
        ),
    ],
)
def test_the_relay_may_send(declared: dict[str, object], spf: str, warned: bool) -> None:
    result = plan(box(mail=mail(**declared)))
    assert values(result, "example.org", "TXT") == [spf]
    assert bool(result.warnings) == warned


def test_the_reverse_name_matters_less_behind_a_relay() -> None:
    reverse = {
        relay: next(record for record in plan(box(mail=mail(relay_host=relay))).records if record.type == "PTR")
        for relay in ("", "smtp.sendgrid.net")
    }
    assert (reverse[""].required, reverse["smtp.sendgrid.net"].required) == (True, False)


def test_every_domain_has_its_records_and_permits_reports_about_it() -> None:
    result = plan(box(mail=mail(domains=["example.org", "example.net"])))
    assert values(result, "example.net", "MX") == ["10 mail.example.org"]
    assert values(result, "_dmarc.example.net", "TXT") == ["v=DMARC1; p=quarantine; rua=mailto:postmaster@example.org"]
    assert values(result, "example.net._report._dmarc.example.org", "TXT") == ["v=DMARC1"]
    assert values(result, "mta-sts.example.net", "A") == ["203.0.113.10"]
    assert [record.zone for record in result.records if record.fqdn.endswith("example.net")].count("example.net") > 5


def test_reports_stay_with_a_domain_that_has_mail() -> None:
    result = plan(box(mail=mail(domains=["example.net"])))
    assert "postmaster@example.net" in values(result, "_dmarc.example.net", "TXT")[0]


def test_a_subdomain_needs_nobodys_permission_for_reports() -> None:
    result = plan(box(mail=mail(domains=["example.org", "news.example.org"])))
    assert not [record for record in result.records if "_report" in record.fqdn]
    assert {record.zone for record in result.records if record.fqdn.endswith("news.example.org")} == {"example.org"}


def test_the_policy_of_mta_sts_and_its_record_agree() -> None:
    digests = {
        mode: values(plan(box(mail=mail(mta_sts_mode=mode))), "_mta-sts.example.org", "TXT")
        for mode in ("enforce", "testing", "none")
    }
    policy = mta_sts_policy("mail.example.org", "enforce")
    assert policy == "version: STSv1\r\nmode: enforce\r\nmx: mail.example.org\r\nmax_age: 604800\r\n"
    assert digests["enforce"] == [f"v=STSv1; id={hashlib.sha256(policy.encode()).hexdigest()[:20]}"]
    assert digests["testing"] != digests["enforce"]
    assert digests["none"] == []


def test_only_what_is_offered_is_announced() -> None:
    offered = plan(box(mail=mail(pop3=True, managesieve=True, autoconfig=False)))
    assert values(offered, "_pop3s._tcp.example.org", "SRV") == ["0 1 995 mail.example.org"]
    assert values(offered, "_sieve._tcp.example.org", "SRV") == ["0 1 4190 mail.example.org"]
    assert values(offered, "_autodiscover._tcp.example.org", "SRV") == []
    assert values(offered, "autoconfig.example.org", "A") == []


def test_keys_are_published_in_every_state_and_announced_when_not_made_yet() -> None:
    signatures = [
        Signature("example.org", f"{state}._domainkey.example.org", None if state == "new" else KEY, state)
        for state in ("published", "active", "retired", "revoked", "new")
    ]
    result = plan(box(mail=mail(signatures=signatures)))
    keys = {record.fqdn.split(".")[0]: record.required for record in result.records if "_domainkey" in record.fqdn}
    assert keys == {"published": True, "active": True, "retired": True, "revoked": False}
    assert "new._domainkey.example.org has no value" in result.warnings[0]


def test_a_zone_file_reader_reads_just_these_records() -> None:
    result = plan(box(ipv6="2001:db8::10", mail=mail(signatures=[SIGNATURE], relay_host="smtp.sendgrid.net")))
    zone = dns.zone.from_text(zone_file(result.records, 300), "example.org.", relativize=False, check_origin=False)
    read = {
        (str(name).removesuffix("."), dns.rdatatype.to_text(rdataset.rdtype), data.to_text())
        for name, rdataset in zone.iterate_rdatasets()
        for data in rdataset
    }
    expected = {
        (record.fqdn, record.type, dns.rdata.from_text("IN", record.type, record.rdata).to_text())
        for record in result.records
        if record.type != "PTR"
    }
    assert read == expected
    assert {rdataset.ttl for _name, rdataset in zone.iterate_rdatasets()} == {300}


def test_the_reverse_name_is_a_comment_in_the_zone_file() -> None:
    text = zone_file(plan(box()).records, 3600)
    assert "; 10.113.0.203.in-addr.arpa. 3600 IN PTR mail.example.org." in text


def test_data_has_the_parts_that_providers_ask_for() -> None:
    data = {(item["fqdn"], item["type"]): item for item in (as_data(record, 60) for record in plan(box()).records)}
    mx = data["example.org", "MX"]
    srv = data["_imaps._tcp.example.org", "SRV"]
    caa = data["example.org", "CAA"]
    assert (mx["name"], mx["priority"], mx["target"]) == ("@", 10, "mail.example.org")
    assert (srv["priority"], srv["weight"], srv["port"], srv["target"]) == (0, 1, 993, "mail.example.org")
    assert (caa["flags"], caa["tag"], caa["target"]) == (0, "issue", "letsencrypt.org")
    assert data["example.org", "TXT"]["strings"] == ["v=spf1 mx -all"]
    assert len({tuple(item) for item in data.values()}) == 1


def test_names_know_their_zone() -> None:
    hosts = ["shop.example.net", "example.com", "*.apps.example.org", "MAIL.example.org"]
    result = plan(box(domain="box.example.org", hosts=hosts, zones=["example.org"], mail=None))
    assert {record.fqdn: (record.zone, record.name) for record in result.records if record.type == "A"} == {
        "shop.example.net": ("example.net", "shop"),
        "example.com": ("example.com", "@"),
        "*.apps.example.org": ("example.org", "*.apps"),
        "mail.example.org": ("example.org", "mail"),
    }


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"domain": "nodot"}, "The domain 'nodot' is no domain name"),
        ({"ipv4": "2001:db8::1"}, "is no IPv4 address"),
        ({"ipv6": "203.0.113.10"}, "is no IPv6 address"),
        ({"hosts": ["a_b.example.org"]}, "'a_b.example.org' is no domain name"),
        ({"mail": mail(domains=[])}, "name at least one"),
        ({"mail": mail(dmarc_policy="drop")}, "use none, quarantine, reject"),
        ({"mail": mail(spf_includes=["a b"])}, "'a b' is no domain name"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_named(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(DnsError, match=sentence):
        plan(box(**wrong))
