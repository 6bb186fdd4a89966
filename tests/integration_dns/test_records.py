"""The records a box needs before a real name server: right, wrong, missing, twice, in pieces, or silent."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
from conftest import ADDRESS, DOMAIN, OTHER_PORT, Declared, Result


def verdicts(result: Result) -> dict[tuple[str, str], str]:
    return {(finding["fqdn"], finding["type"]): finding["status"] for finding in result["findings"]}


def sentence(result: Result, fqdn: str, kind: str) -> str:
    (found,) = [item for item in result["findings"] if (item["fqdn"], item["type"]) == (fqdn, kind)]
    return t.cast(str, found["sentence"])


def test_the_zone_file_served_as_it_is_is_right(declared: Declared) -> None:
    declared.name_server.serve(declared.zones())

    result = declared.ask()

    assert result["problems"] == []
    assert set(verdicts(result).values()) == {"right"}
    assert len(result["findings"]) == len(result["records"]) == 19
    assert result["confirmed"] == [key["fqdn"] for key in declared.options["mail"]["selectors"]]


def test_a_name_server_that_knows_nothing_lacks_everything(declared: Declared) -> None:
    declared.name_server.serve({})
    result = declared.ask()
    assert set(verdicts(result).values()) == {"missing"}
    assert f"www.{DOMAIN} does not exist: add A {ADDRESS}." in result["problems"]


def test_checkdmarc_finds_the_same_zone_right_and_wrong(declared: Declared) -> None:
    """A second opinion by a checker that is not ours."""
    declared.name_server.serve(declared.zones())
    opinion = second_opinion(declared)
    assert opinion["spf"]["valid"], opinion["spf"]
    assert opinion["spf"]["record"] == "v=spf1 mx include:spf.relay.example -all"
    assert (opinion["dmarc"]["valid"], opinion["dmarc"]["tags"]["p"]["value"]) == (True, "quarantine")
    assert opinion["smtp_tls_reporting"]["valid"], opinion["smtp_tls_reporting"]
    assert [host["hostname"] for host in opinion["mx"]["hosts"]] == [f"mail.{DOMAIN}"]

    twice = f'{DOMAIN}. IN TXT "v=spf1 -all"\n_dmarc.{DOMAIN}. IN TXT "v=DMARC1; p=none"'
    declared.name_server.serve(declared.zones(more=twice))
    opinion = second_opinion(declared)
    ours = verdicts(declared.ask())
    assert (opinion["spf"]["valid"], ours[DOMAIN, "TXT"]) == (False, "duplicate")
    assert (opinion["dmarc"]["valid"], ours[f"_dmarc.{DOMAIN}", "TXT"]) == (False, "duplicate")


def second_opinion(declared: Declared) -> Result:
    program = str(Path(sys.executable).with_name("checkdmarc"))
    command = [program, "-n", declared.name_server.address, "-t", "2", "--skip-tls", "-f", "json", DOMAIN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return t.cast(Result, json.loads(done.stdout))


# What is taken out of the right zone, what is put in, and what has to be said about it.
CASES = {
    "wrong address": (
        (f"www.{DOMAIN}",),
        f"www.{DOMAIN}. IN A 192.0.2.1",
        (f"www.{DOMAIN}", "A", "wrong", f"leads to 192.0.2.1, not to {ADDRESS}"),
    ),
    "stray IPv6 address": (
        (),
        f"www.{DOMAIN}. IN AAAA 2001:db8::bad",
        (f"www.{DOMAIN}", "AAAA", "wrong", "is tried first: remove that AAAA record"),
    ),
    "address through a CNAME": (
        (f"www.{DOMAIN}",),
        f"www.{DOMAIN}. IN CNAME mail.{DOMAIN}.",
        (f"www.{DOMAIN}", "A", "right", f"through mail.{DOMAIN}"),
    ),
    "CNAME in the way of the mail server": (
        (f"mail.{DOMAIN}",),
        f"mail.{DOMAIN}. IN CNAME www.{DOMAIN}.",
        (f"mail.{DOMAIN}", "A", "wrong", "which a mail server's name must not be (RFC 2181)"),
    ),
    "CNAME to nowhere": (
        (f"_dmarc.{DOMAIN}",),
        f"_dmarc.{DOMAIN}. IN CNAME gone.relay.example.",
        (f"_dmarc.{DOMAIN}", "TXT", "wrong", "is a CNAME to gone.relay.example, which has no TXT record"),
    ),
    "mail elsewhere": (
        (f"{DOMAIN}. 3600 IN MX",),
        f"{DOMAIN}. IN MX 10 mx.relay.example.",
        (DOMAIN, "MX", "wrong", "goes to mx.relay.example"),
    ),
    "two SPF records": (
        (),
        f'{DOMAIN}. IN TXT "v=spf1 -all"',
        (DOMAIN, "TXT", "duplicate", "has 2 SPF records, and receivers then ignore all of them"),
    ),
    "relay not allowed": (
        (f'{DOMAIN}. 3600 IN TXT "v=spf1',),
        f'{DOMAIN}. IN TXT "v=spf1 mx -all"',
        (DOMAIN, "TXT", "wrong", "does not allow the relay to send: add include:spf.relay.example"),
    ),
    "SPF in two strings": (
        (f'{DOMAIN}. 3600 IN TXT "v=spf1',),
        f'{DOMAIN}. IN TXT "v=spf1 mx include:spf." "relay.example -all"',
        (DOMAIN, "TXT", "right", "is right"),
    ),
    "quoted by the provider": (
        (f'{DOMAIN}. 3600 IN TXT "v=spf1',),
        f'{DOMAIN}. IN TXT "\\"v=spf1 mx include:spf.relay.example -all\\""',
        (DOMAIN, "TXT", "wrong", "has quotation marks inside its value"),
    ),
    "weaker policy": (
        (f"_dmarc.{DOMAIN}",),
        f'_dmarc.{DOMAIN}. IN TXT "v=DMARC1; p=none"',
        (f"_dmarc.{DOMAIN}", "TXT", "wrong", "asks receivers for p=none, which is less than quarantine"),
    ),
    "domain appended by the provider": (
        (f"_dmarc.{DOMAIN}",),
        f'_dmarc.{DOMAIN}.{DOMAIN}. IN TXT "v=DMARC1; p=quarantine"',
        (f"_dmarc.{DOMAIN}", "TXT", "missing", "your provider appends the domain, so enter the name as _dmarc."),
    ),
    "other issuer": (
        (f"{DOMAIN}. 3600 IN CAA",),
        f'{DOMAIN}. IN CAA 0 issue "sectigo.com"',
        (DOMAIN, "CAA", "wrong", "lets only sectigo.com issue certificates"),
    ),
    "other port": (
        (f"_imaps._tcp.{DOMAIN}",),
        f"_imaps._tcp.{DOMAIN}. IN SRV 0 1 143 mail.{DOMAIN}.",
        (f"_imaps._tcp.{DOMAIN}", "SRV", "wrong", f"says 0 1 143 mail.{DOMAIN}, not 0 1 993 mail.{DOMAIN}"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_difference_is_explained(declared: Declared, case: str) -> None:
    without, more, (fqdn, kind, status, said) = CASES[case]
    declared.name_server.serve(declared.zones(without=without, more=more))

    result = declared.ask()

    assert verdicts(result)[fqdn, kind] == status, result["problems"]
    assert said in sentence(result, fqdn, kind)
    # Nothing else is accused, but what really hangs on it.
    accused = {name for name, verdict in verdicts(result).items() if verdict != "right"} - {(fqdn, kind)}
    assert accused == ({(f"mail.{DOMAIN}", "TXT")} if case.startswith("CNAME in the way") else set())


@pytest.mark.parametrize(
    ("arrange", "status", "said"),
    [
        (lambda value: [[value[:255], value[255:]]], "right", "is right"),
        (lambda value: [[value[:100], value[100:300], value[300:]]], "right", "is right"),
        (lambda value: [[value[:255]], [value[255:]]], "duplicate", "is split into 2 records"),
        (lambda value: [[value[:255]]], "wrong", "is cut off after 255 characters"),
        (lambda value: [[value[:255], value[255:-8] + "AAAAIDAQ"]], "wrong", "shows another key"),
        (lambda value: [[part] for part in ("v=DKIM1; k=rsa; p=",)], "wrong", "says that its key is withdrawn"),
    ],
    ids=["two strings", "three strings", "two records", "cut off", "another key", "withdrawn"],
)
def test_a_key_in_pieces(declared: Declared, arrange: t.Any, status: str, said: str) -> None:
    key = declared.options["mail"]["selectors"][0]
    lines = [
        f"{key['fqdn']}. IN TXT " + " ".join(f'"{text}"' for text in strings) for strings in arrange(key["record"])
    ]
    declared.name_server.serve(declared.zones(without=(f"{key['fqdn']}.",), more="\n".join(lines)))

    result = declared.ask()

    assert verdicts(result)[key["fqdn"], "TXT"] == status
    assert said in sentence(result, key["fqdn"], "TXT")
    assert (key["fqdn"] in result["confirmed"]) == (status == "right")


def test_a_wrong_reverse_name_is_the_providers_to_change(declared: Declared) -> None:
    declared.name_server.serve(declared.zones(reverse="10 IN PTR vps-1.provider.example.\n"))
    result = declared.ask()
    assert "is named vps-1.provider.example, not mail.example.org" in result["problems"][0]
    assert "Ask the provider of 203.0.113.10" in result["by_hand"][0]


def test_a_resolver_on_another_port_is_asked(declared: Declared) -> None:
    declared.name_server.serve(declared.zones())
    assert declared.ask(port=OTHER_PORT)["problems"] == []


def test_a_silent_resolver_is_told_once_and_soon(declared: Declared) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        began = time.monotonic()
        result = declared.ask(resolver="127.0.0.1", port=silent.getsockname()[1], timeout=1)
        took = time.monotonic() - began

    assert set(verdicts(result).values()) == {"unknown"}
    assert len(result["problems"]) == 1
    assert "did not answer within 1 s" in result["problems"][0]
    assert result["confirmed"] == []
    assert took < 6


def test_a_zone_that_is_broken_is_told(declared: Declared) -> None:
    # The server keeps to the last good state of a zone it has served.
    declared.name_server.serve({})
    declared.name_server.serve({**declared.zones(), DOMAIN: "this is no record\n"})
    result = declared.ask()
    assert {verdicts(result)[name, "A"] for name in (f"www.{DOMAIN}", f"mail.{DOMAIN}")} == {"unknown"}
    assert "SERVFAIL" in " ".join(result["problems"])


def test_without_a_check_nobody_is_asked(declared: Declared) -> None:
    result = declared.ask(check=False, resolver="192.0.2.1")
    assert (result["findings"], len(result["records"])) == ([], 19)
