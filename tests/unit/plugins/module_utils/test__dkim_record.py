from __future__ import annotations

import base64

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from dns.rdtypes.ANY.TXT import TXT

from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_record import (
    DkimError,
    TxtRecord,
    key_record,
    parse_domain,
    parse_selector,
    quote_strings,
    record_value,
    split_value,
)


@pytest.mark.parametrize("value", ["", "a", "a" * 255, "a" * 256, "a" * 1000, "é" * 300, "a" + "é" * 300, "€" * 200])
def test_strings_have_at_most_255_bytes_and_join_to_the_value(value: str) -> None:
    strings = split_value(value)
    assert "".join(strings) == value
    assert all(len(text.encode()) <= 255 for text in strings)
    assert len(strings) <= max(1, -(-len(value.encode()) // 253))


@pytest.mark.parametrize("value", ["v=DKIM1; k=rsa; p=" + "A" * 392, 'say "no" \\ more', "x; y"])
def test_a_zone_file_reader_gets_the_value_back(value: str) -> None:
    line = TxtRecord("example.org", "s._domainkey.example.org", value).zone_line()
    name, ttl, _class, kind, text = line.split(" ", 4)
    read = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.TXT, text)
    assert isinstance(read, TXT)

    assert (name, ttl, kind) == ("s._domainkey.example.org.", "3600", "TXT")
    assert b"".join(read.strings).decode() == value


def test_quotes_and_backslashes_are_escaped() -> None:
    assert quote_strings(['a"b\\']) == '"a\\"b\\\\"'


@pytest.mark.parametrize(
    ("given", "domain"),
    [
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        (" a-b.co.uk ", "a-b.co.uk"),
    ],
)
def test_domains_take_the_form_of_the_dns(given: str, domain: str) -> None:
    assert parse_domain(given) == domain


@pytest.mark.parametrize("given", ["", "org", "a..org", "-a.org", "a_b.org", "a b.org", "a" * 64 + ".org", "a." * 130])
def test_what_is_no_domain_is_refused(given: str) -> None:
    with pytest.raises(DkimError, match="no domain name"):
        parse_domain(given)


@pytest.mark.parametrize("given", ["", "a_b", "a b", "-a", "a" * 64, "a..b", "a/b", "../a"])
def test_what_is_no_selector_is_refused(given: str) -> None:
    with pytest.raises(DkimError, match="no selector"):
        parse_selector(given)


def test_selectors_are_lower_case_and_may_have_dots() -> None:
    assert parse_selector("2026.Mail") == "2026.mail"


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        ({}, "v=DKIM1; k=rsa; p=AQI="),
        ({"testing": True}, "v=DKIM1; k=rsa; t=y; p=AQI="),
        ({"strict": True}, "v=DKIM1; k=rsa; t=s; p=AQI="),
        ({"testing": True, "strict": True}, "v=DKIM1; k=rsa; t=y:s; p=AQI="),
    ],
)
def test_flags_are_said_in_one_tag(flags: dict[str, bool], value: str) -> None:
    assert record_value("rsa", b"\1\2", **flags) == value


def test_the_example_key_of_rfc_8463_has_the_record_of_rfc_8463() -> None:
    public = base64.b64decode("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    assert record_value("ed25519", public) == "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


def test_a_withdrawn_key_has_an_empty_p() -> None:
    assert record_value("rsa", b"").endswith("; p=")


def test_a_record_has_a_name_within_its_zone() -> None:
    assert key_record("mail.example.org", "s", "v", zone="example.org").name == "s._domainkey.mail"
    assert key_record("example.org", "s", "v").name == "s._domainkey"


def test_a_zone_that_does_not_hold_the_domain_is_refused() -> None:
    with pytest.raises(DkimError, match="does not lie in the zone"):
        key_record("badexample.org", "s", "v", zone="example.org")


def test_a_name_above_253_characters_is_refused() -> None:
    domain = ".".join(["a" * 60] * 4)
    with pytest.raises(DkimError, match="knows no name above 253"):
        key_record(domain, "selector", "v")
