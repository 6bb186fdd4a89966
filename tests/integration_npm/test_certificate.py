"""npm_certificate: names without a host, certificates of one's own, and what happens to the hosts around them."""

from __future__ import annotations

import subprocess
import typing as t
from pathlib import Path

import pytest
from conftest import Instance, Result, wait_for

SERVICE = {"forward_host": "127.0.0.1", "forward_port": 8099}
USERS = [{"username": "ana", "password": "sesame"}]


def four_steps(npm: Instance, *certificates: Result) -> list[Result]:
    """Check, run, check, run."""
    options = {"certificates": list(certificates), "data_dir": str(npm.data)}
    results = [npm.run("npm_certificate", check=check, **options) for check in (True, False, True, False)]
    assert not any(one.get("failed") for one in results), results
    return results


def changes(results: list[Result]) -> list[bool]:
    return [one["changed"] for one in results]


@pytest.fixture
def pair(tmp_path: Path) -> t.Callable[[str], Result]:
    """Makes a certificate of one's own."""

    def make(name: str) -> Result:
        key, pem = tmp_path / "key.pem", tmp_path / "cert.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "30", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(pem)]
        subprocess.run(command, check=True, capture_output=True)
        return {"provider": "custom", "certificate": pem.read_text(), "certificate_key": key.read_text()}

    return make


def test_a_name_without_a_host_gets_a_certificate_once(npm: Instance) -> None:
    results = four_steps(npm, {"domain_names": ["mail.npmmod.test"]})

    assert changes(results) == [True, True, False, False]
    certificate = results[3]["certificates"][0]
    assert certificate["folder"] == f"/etc/letsencrypt/live/npm-{certificate['id']}"


def test_a_request_for_a_name_that_is_live_keeps_its_password_and_tls(npm: Instance) -> None:
    live = "live.npmmod.test"
    npm.run("npm_access_list", lists=[{"name": "admins", "users": USERS}])
    npm.hosts({"domain_names": [live], **SERVICE, "access_list": "admins"})
    wait_for(lambda: npm.page(live, tls=True).status == 401, "the site is not protected")

    results = four_steps(npm, {"domain_names": [live, "more.npmmod.test"]})

    assert changes(results) == [True, True, False, False]
    wait_for(lambda: npm.page(live, tls=True).status == 401, "password or TLS is gone")
    assert npm.page(live).status == 301


def test_a_refused_request_for_a_name_that_is_live_keeps_its_tls(npm: Instance) -> None:
    live = "refused.npmmod.test"
    npm.hosts({"domain_names": [live], **SERVICE})
    wanted = [{"domain_names": [live, "nowhere.invalid"]}]

    result = npm.run("npm_certificate", certificates=wanted, data_dir=str(npm.data))

    assert "No certificate for nowhere.invalid" in result["msg"]
    wait_for(lambda: npm.page(live, tls=True).status == 200, "TLS is gone")


def test_a_redirection_with_the_name_keeps_its_tls(npm: Instance) -> None:
    old = "old.npmmod.test"
    number = four_steps(npm, {"domain_names": [old]})[3]["certificates"][0]["id"]
    body = {"domain_names": [old], "forward_scheme": "auto", "forward_http_code": 301, "forward_domain_name": "x.test"}
    npm.api("POST", "/nginx/redirection-hosts", {**body, "preserve_path": True, "certificate_id": number})
    wait_for(lambda: npm.page(old, tls=True).status == 301, "the redirection is not served over TLS")

    four_steps(npm, {"domain_names": [old, "older.npmmod.test"]})

    wait_for(lambda: npm.page(old, tls=True).status == 301, "TLS is gone")


def test_a_certificate_in_use_is_taken_off_first_and_nginx_lives_on(npm: Instance) -> None:
    name = "doomed.npmmod.test"
    npm.hosts({"domain_names": [name], **SERVICE})

    results = four_steps(npm, {"domain_names": [name], "state": "absent"})

    assert changes(results) == [True, True, False, False]
    wait_for(lambda: npm.page(name).status == 200, "the site does not answer by plain HTTP")
    assert npm.hosts({"domain_names": [name], **SERVICE, "certificate": "none"}).get("failed") is None


def test_a_certificate_of_our_own_is_served_and_replaced(npm: Instance, pair: t.Callable[[str], Result]) -> None:
    name = "own.npmmod.test"
    first = {"name": "own", **pair(name)}
    assert changes(four_steps(npm, first)) == [True, True, False, False]
    npm.hosts({"domain_names": [name], **SERVICE, "certificate": "own"})
    wait_for(lambda: npm.page(name, tls=True).status == 200, "the site is not served over TLS")
    served = npm.serial(name)

    results = four_steps(npm, {"name": "own", **pair(name)})

    assert changes(results) == [True, True, False, False]
    assert results[1]["diff"]["after"]["own"]["certificate_key"] == "(replaced)"
    wait_for(lambda: npm.serial(name) != served, "the old certificate is still served")


def test_no_key_is_printed_or_returned(npm: Instance, pair: t.Callable[[str], Result]) -> None:
    certificate = {"name": "secret", **pair("secret.npmmod.test")}
    secret = certificate["certificate_key"].splitlines()[1]

    for result in four_steps(npm, certificate):
        assert secret not in result["output"]


def test_a_key_of_another_certificate_is_refused_before_nginx_sees_it(
    npm: Instance, pair: t.Callable[[str], Result]
) -> None:
    mixed = {"name": "mixed", **pair("one.test"), "certificate_key": pair("two.test")["certificate_key"]}
    result = npm.run("npm_certificate", certificates=[mixed])

    assert 'certificate "mixed" cannot be used' in result["msg"]
    assert [row for row in npm.api("GET", "/nginx/certificates") if row["nice_name"] == "mixed"] == []


def test_the_remains_of_a_killed_request_are_cleared_and_asked_for_again(npm: Instance) -> None:
    name = "killed.npmmod.test"
    number = four_steps(npm, {"domain_names": [name]})[3]["certificates"][0]["id"]
    # A row as the API leaves it when it dies before certbot has written files.
    npm.sql("update certificate set expires_on = created_on where id = ?", number)

    result = four_steps(npm, {"domain_names": [name]})

    assert changes(result) == [True, True, False, False]
    assert result[3]["certificates"][0]["id"] != number
    assert len([row for row in npm.api("GET", "/nginx/certificates") if name in row["domain_names"]]) == 1


def test_a_wildcard_needs_a_dns_provider(npm: Instance) -> None:
    result = npm.run("npm_certificate", certificates=[{"domain_names": ["*.npmmod.test"]}])

    assert "dns_provider" in result["msg"]
