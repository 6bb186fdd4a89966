"""Which certificates are requested, uploaded or removed, and what is said when the authority refuses."""

from __future__ import annotations

import json
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import NpmError
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_certificate import (
    WantedCertificate,
    acme_reason,
    acme_remedy,
    certbot_problems,
    check_pem,
    parse_certificate,
    plan_certificates,
    tidy_pem,
)

RECORDED = {
    one["label"]: one["response"]
    for one in json.loads((Path(__file__).parents[1] / "data_npm/exchanges.json").read_text())["exchanges"]
}
NAMES = frozenset({"analytics.example.com", "mail.example.com"})


def letsencrypt(**fields: t.Any) -> WantedCertificate:
    return WantedCertificate("letsencrypt", NAMES, **fields)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> t.Callable[[str], dict[str, str]]:
    """Makes a certificate with its key, by name."""
    folder = tmp_path_factory.mktemp("pem")

    def make(name: str) -> dict[str, str]:
        key, pem = folder / f"{name}.key", folder / f"{name}.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-subj", f"/CN={name}", "-keyout", str(key), "-out", str(pem)]
        subprocess.run(command, check=True, capture_output=True)
        return {"certificate": pem.read_text(), "certificate_key": key.read_text()}

    return make


def test_a_certificate_that_exists_is_not_requested_again() -> None:
    existing = [parse_certificate(RECORDED["LE create http-01 via test ACME"])]

    assert plan_certificates([letsencrypt()], existing)[0].action == "keep"


@pytest.mark.parametrize("names", [{"mail.example.com"}, NAMES | {"c.example.com"}])
def test_only_exactly_the_same_names_count(names: frozenset[str]) -> None:
    existing = [parse_certificate(RECORDED["LE create http-01 via test ACME"])]
    step = plan_certificates([WantedCertificate("letsencrypt", frozenset(names))], existing)[0]

    assert (step.action, step.after["domain_names"]) == ("request", sorted(names))


def test_an_uploaded_certificate_with_the_same_name_does_not_count() -> None:
    existing = [parse_certificate(RECORDED["list certs"][0])]
    wanted = WantedCertificate("letsencrypt", frozenset({"analytics.example.com"}))

    assert plan_certificates([wanted], existing)[0].action == "request"


def test_an_absent_certificate_is_removed_once() -> None:
    existing = [parse_certificate(RECORDED["LE create http-01 via test ACME"])]

    assert plan_certificates([letsencrypt(present=False)], existing)[0].action == "remove"
    assert plan_certificates([letsencrypt(present=False)], [])[0].action == "keep"


def test_the_folder_carries_the_number() -> None:
    assert parse_certificate(RECORDED["LE create http-01 via test ACME"]).folder == "/etc/letsencrypt/live/npm-2"
    assert parse_certificate(RECORDED["list certs"][0]).folder == "/data/custom_ssl/npm-1"


def test_no_key_is_ever_described_or_printed() -> None:
    row = {**RECORDED["list certs"][0], "meta": {"certificate_key": "PRIVATE"}}
    certificate = parse_certificate(row)

    assert "PRIVATE" not in repr(certificate) + str(certificate.describe())


def test_line_ends_do_not_make_a_certificate_new() -> None:
    row = {**RECORDED["list certs"][0], "meta": {"certificate": "A\r\nB\r\n", "certificate_key": "K\n"}}
    pem = {"certificate": tidy_pem("A\nB"), "certificate_key": tidy_pem("\nK  \n")}
    wanted = WantedCertificate("custom", name="my-custom", pem=pem)

    assert plan_certificates([wanted], [parse_certificate(row)])[0].action == "keep"


def test_a_replaced_text_is_named_in_the_diff_and_not_shown() -> None:
    row = {**RECORDED["list certs"][0], "meta": {"certificate": "A", "certificate_key": "K"}}
    wanted = WantedCertificate("custom", name="my-custom", pem={"certificate": "A", "certificate_key": "SECRET"})
    step = plan_certificates([wanted], [parse_certificate(row)])[0]

    assert step.action == "upload"
    assert step.after["certificate_key"] == "(replaced)"
    assert "certificate" not in step.after
    assert "SECRET" not in repr(step)


def test_a_key_that_belongs_to_the_certificate_is_accepted(pair: t.Callable[[str], dict[str, str]]) -> None:
    check_pem(WantedCertificate("custom", name="mine", pem=pair("one")))


def test_a_key_of_another_certificate_is_refused(pair: t.Callable[[str], dict[str, str]]) -> None:
    pem = {**pair("one"), "certificate_key": pair("two")["certificate_key"]}

    with pytest.raises(NpmError, match=r'"mine" cannot be used .*belong together'):
        check_pem(WantedCertificate("custom", name="mine", pem=pem))


def test_text_that_is_no_certificate_is_refused() -> None:
    with pytest.raises(NpmError, match='"mine" cannot be used'):
        check_pem(WantedCertificate("custom", name="mine", pem={"certificate": "x", "certificate_key": "y"}))


def test_certbot_s_words_are_cut_down_to_the_reason() -> None:
    reason = acme_reason(RECORDED["LE failing"]["debug"]["stack"])

    assert reason == "Order included DNS identifier with a value containing an illegal character: '_'"


LOG = """2026-11-22 10:02:04,479:DEBUG:certbot._internal.display.obj:Notifying user:
Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Domain: old.example.org
  Type:   dns
  Detail: an older request
2026-11-22 10:03:04,479:DEBUG:certbot._internal.display.obj:Notifying user:
Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Domain: a.example.org
  Type:   connection
  Detail: Get "http://a.example.org:80/": connect: no route to host

  Domain: b.example.org
  Type:   dns
  Detail: DNS problem: NXDOMAIN

Hint: The Certificate Authority failed to download the temporary challenge files created by Certbot.
"""


def test_the_reason_of_a_failed_challenge_is_taken_from_certbot_s_log(tmp_path: Path) -> None:
    log = tmp_path / "logs/letsencrypt.log"
    log.parent.mkdir()
    log.write_text(LOG)

    assert certbot_problems(tmp_path, log.stat().st_mtime) == (
        'a.example.org: Get "http://a.example.org:80/": connect: no route to host (connection). '
        "b.example.org: DNS problem: NXDOMAIN (dns)."
    )


def test_a_log_older_than_the_request_explains_nothing(tmp_path: Path) -> None:
    log = tmp_path / "logs/letsencrypt.log"
    log.parent.mkdir()
    log.write_text(LOG)

    assert certbot_problems(tmp_path, log.stat().st_mtime + 60) == ""
    assert certbot_problems(tmp_path / "missing", 0) == ""


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("DNS problem: NXDOMAIN looking up A for a.example.org", "DNS records"),
        ("Fetching http://a/.well-known/acme-challenge/x: Timeout during connect (likely firewall problem)", "port 80"),
        ("Fetching http://a/.well-known/acme-challenge/x: Connection refused", "port 80"),
        ("Invalid response from http://a/.well-known/acme-challenge/x: 404", "another server"),
        ("too many certificates (5) already issued for this exact set of domains in the last 168h", "npm_acme_server"),
        ("CAA record for a.example.org prevents issuance", "CAA record"),
        ("Order included DNS identifier with a value containing an illegal character: '_'", "letters, digits"),
        ("HTTPSConnectionPool(host='acme.test', port=14000): Max retries exceeded with url: /dir", "npm_acme_server"),
        ("something never seen", "letsencrypt.log"),
    ],
)
def test_every_usual_refusal_has_its_remedy(said: str, remedy: str) -> None:
    assert remedy in acme_remedy(said)


def test_the_first_request_carries_only_what_every_version_takes() -> None:
    assert letsencrypt().meta == {"dns_challenge": False}


def test_a_dns_challenge_carries_its_provider() -> None:
    wanted = letsencrypt(dns_provider="cloudflare", dns_credentials="token = x", dns_propagation_seconds=30)

    assert wanted.meta == {
        "dns_challenge": True,
        "dns_provider": "cloudflare",
        "dns_provider_credentials": "token = x",
        "propagation_seconds": 30,
    }
    assert "token = x" not in repr(wanted)
