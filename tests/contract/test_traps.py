"""Each way in which the real software surprises its clients, kept alive in the stand-in.

A client that passes against a stand-in without these would fail against the real thing.
"""

from __future__ import annotations

import base64
import json

import pytest
from npm import Npm, Part, Start, eventually
from pem import self_signed

LETSENCRYPT = {"provider": "letsencrypt", "meta": {"dns_challenge": False, "key_type": "ecdsa"}}
TLS = {"ssl_forced": True, "http2_support": True, "hsts_enabled": True, "hsts_subdomains": True}
BASIC = {"Authorization": "Basic " + base64.b64encode(b"visitor:secret").decode()}


@pytest.fixture(scope="module")
def npm(start: Start, acme: dict[str, str]) -> Npm:
    stand_in = start(acme, named=("fresh", "live", "renewed", "twice"))
    stand_in.set_up()
    return stand_in


def uploaded(npm: Npm, name: str) -> int:
    """Store a certificate of our own making and return its number."""
    number = int(npm.ok("POST", "/nginx/certificates", {"provider": "other", "nice_name": name})["id"])
    certificate, key = self_signed(name)
    npm.ok(
        "POST",
        f"/nginx/certificates/{number}/upload",
        parts=[Part("certificate", certificate), Part("certificate_key", key)],
    )
    return number


def access_list(npm: Npm, **options: object) -> int:
    visitor = {"username": "visitor", "password": "secret"}
    lists = {"name": "visitors", "satisfy_any": True, "pass_auth": False, "items": [visitor], "clients": []}
    return int(npm.ok("POST", "/nginx/access-lists", {**lists, **options})["id"])


def test_trap_1_a_missing_token_is_a_404_and_a_broken_one_a_500(npm: Npm) -> None:
    anonymous = npm.api("GET", "/nginx/proxy-hosts", token=None)
    garbage = npm.api("GET", "/nginx/proxy-hosts", token="garbage")

    assert (anonymous.status, garbage.status) == (404, 500)
    assert anonymous.json["error"]["message"] == "Not Found - /nginx/proxy-hosts"
    assert garbage.json == {"error": {"code": 500, "message": "Internal Error"}}


def test_trap_1_a_user_without_the_right_gets_a_404(npm: Npm) -> None:
    credentials = {"type": "password", "secret": "Ops-secret-1"}
    user = {"name": "Ops", "nickname": "ops", "email": "ops@example.org", "roles": [], "auth": credentials}
    npm.ok("POST", "/users", user)
    login = {"identity": "ops@example.org", "secret": "Ops-secret-1"}
    token = npm.ok("POST", "/tokens", login, token=None)["token"]

    assert npm.api("GET", "/settings", token=token).status == 404
    assert npm.api("GET", "/nginx/proxy-hosts", token=token).json == []


def test_trap_2_a_new_certificate_asked_for_with_the_host_loses_its_tls_options(npm: Npm) -> None:
    host = npm.proxy("fresh.example.com", certificate_id="new", meta={"dns_challenge": False}, **TLS)

    assert host["certificate_id"] > 0
    assert [host[name] for name in TLS] == [False] * 4


def test_trap_3_certificate_number_0_keeps_forced_tls_until_the_next_change(npm: Npm) -> None:
    sent = npm.proxy("zero.example.com", certificate_id=0, **TLS)
    omitted = npm.proxy("omitted.example.com", **TLS)
    changed = npm.ok("PUT", f"/nginx/proxy-hosts/{sent['id']}", {"forward_port": 8080})

    assert (sent["ssl_forced"], omitted["ssl_forced"], changed["ssl_forced"]) == (True, False, False)


def test_trap_4_a_certificate_for_a_live_name_takes_tls_and_access_list_from_it_until_it_is_saved(npm: Npm) -> None:
    options = {"certificate_id": uploaded(npm, "live.example.com"), "access_list_id": access_list(npm)}
    host = npm.proxy("live.example.com", **options, **TLS)
    assert eventually(lambda: npm.tls("live.example.com").status == 401)

    npm.ok("POST", "/nginx/certificates", {**LETSENCRYPT, "domain_names": ["live.example.com"]})
    assert eventually(lambda: npm.proxies("live.example.com"))
    assert eventually(lambda: not npm.offers_tls("live.example.com"))
    stored = npm.ok("GET", f"/nginx/proxy-hosts/{host['id']}")
    assert (stored["ssl_forced"], stored["access_list_id"]) == (True, options["access_list_id"])

    npm.ok("PUT", f"/nginx/proxy-hosts/{host['id']}", {"forward_port": 8080})
    assert eventually(lambda: npm.tls("live.example.com").status == 401)
    assert eventually(lambda: npm.web("live.example.com").status == 301)


def test_trap_5_the_same_certificate_can_be_asked_for_again_and_again(npm: Npm) -> None:
    order = {**LETSENCRYPT, "domain_names": ["twice.example.com"]}

    first, second = (npm.ok("POST", "/nginx/certificates", order) for _ in range(2))

    assert first["domain_names"] == second["domain_names"]
    assert second["id"] > first["id"]
    assert {first["id"], second["id"]} <= {row["id"] for row in npm.ok("GET", "/nginx/certificates")}


def test_trap_6_deleting_a_certificate_in_use_blocks_every_change_and_a_restart_kills_all_ports(
    start: Start, acme: dict[str, str]
) -> None:
    npm = start(acme, named=("doomed",))
    npm.set_up()
    number = npm.ok("POST", "/nginx/certificates", {**LETSENCRYPT, "domain_names": ["doomed.example.com"]})["id"]
    host, other = npm.proxy("doomed.example.com", certificate_id=number), npm.proxy("other.example.com")

    assert npm.ok("DELETE", f"/nginx/certificates/{number}") is True

    assert npm.api("PUT", f"/nginx/proxy-hosts/{other['id']}", {"forward_port": 80}).status == 500
    assert npm.api("PUT", f"/nginx/proxy-hosts/{host['id']}", {"certificate_id": 0}).status == 500
    npm.restart()
    assert eventually(lambda: "cannot load certificate" in npm.logs())
    assert not any(npm.listens(port) for port in (80, 443, 81))
    npm.inside("rm", f"/data/nginx/proxy_host/{host['id']}.conf")
    npm.wait_until_up()
    npm.ok("PUT", f"/nginx/proxy-hosts/{host['id']}", {"certificate_id": 0})


def test_trap_7_a_broken_host_is_answered_with_201_and_shows_its_error_later(npm: Npm) -> None:
    created = npm.proxy("broken.example.com", advanced_config="this is not nginx;")
    later = npm.ok("GET", f"/nginx/proxy-hosts/{created['id']}")

    assert created["meta"] == {}
    assert later["meta"]["nginx_online"] is False
    assert 'unknown directive "this"' in later["meta"]["nginx_err"]
    npm.ok("DELETE", f"/nginx/proxy-hosts/{created['id']}")


def test_trap_7_numbers_of_certificates_and_access_lists_that_do_not_exist_are_accepted(npm: Npm) -> None:
    host = npm.proxy("unknown.example.com", certificate_id=999, access_list_id=999)

    assert (host["certificate"], host["access_list"]) == (None, None)
    assert (host["certificate_id"], host["access_list_id"]) == (999, 999)
    assert npm.ok("GET", f"/nginx/proxy-hosts/{host['id']}")["meta"]["nginx_online"] is True


def test_trap_8_a_renewed_certificate_is_served_only_after_a_reload_which_a_deploy_hook_can_do(npm: Npm) -> None:
    order = {**LETSENCRYPT, "domain_names": ["renewed.example.com"]}
    number = npm.ok("POST", "/nginx/certificates", order)["id"]
    npm.proxy("renewed.example.com", certificate_id=number)
    assert eventually(lambda: npm.offers_tls("renewed.example.com"))
    served, workers = npm.served_certificate("renewed.example.com"), npm.workers()

    npm.ok("POST", f"/nginx/certificates/{number}/renew")
    assert npm.workers() == workers
    assert npm.served_certificate("renewed.example.com") == served

    hook = "/etc/letsencrypt/renewal-hooks/deploy/reload"
    script = f"mkdir -p $(dirname {hook}); printf '#!/bin/sh\\nnginx -s reload\\n' >{hook}; chmod +x {hook}"
    npm.inside("sh", "-c", script)
    npm.ok("POST", f"/nginx/certificates/{number}/renew")
    assert eventually(lambda: npm.served_certificate("renewed.example.com") != served)


def test_trap_9_the_last_host_decides_about_subdomains_for_all(start: Start) -> None:
    npm = start()
    npm.set_up()
    first = npm.proxy("one.example.com", certificate_id=uploaded(npm, "one.example.com"), **TLS)
    without = {**TLS, "hsts_subdomains": False}
    npm.proxy("two.example.com", certificate_id=uploaded(npm, "two.example.com"), **without)
    assert eventually(lambda: npm.offers_tls("two.example.com"))

    assert first["hsts_subdomains"] is True
    assert npm.tls("one.example.com").headers["strict-transport-security"] == "max-age=63072000; preload"


def test_trap_10_a_host_disabled_by_put_is_still_served(npm: Npm) -> None:
    host = npm.proxy("disabled.example.com")
    assert eventually(lambda: npm.proxies("disabled.example.com"))

    workers = npm.workers()

    assert npm.ok("PUT", f"/nginx/proxy-hosts/{host['id']}", {"enabled": False})["enabled"] is False
    assert npm.workers() == workers
    assert npm.proxies("disabled.example.com")

    npm.ok("POST", f"/nginx/proxy-hosts/{host['id']}/enable")
    npm.ok("POST", f"/nginx/proxy-hosts/{host['id']}/disable")
    assert eventually(lambda: not npm.proxies("disabled.example.com"))


def test_trap_11_private_keys_of_uploaded_certificates_are_handed_out(npm: Npm) -> None:
    number = uploaded(npm, "keys.example.com")

    (row,) = (row for row in npm.ok("GET", "/nginx/certificates") if row["id"] == number)

    assert "PRIVATE KEY" in row["meta"]["certificate_key"]


def test_trap_12_enabling_a_host_again_drops_its_access_list(npm: Npm) -> None:
    host = npm.proxy("listed.example.com", access_list_id=access_list(npm))
    assert eventually(lambda: npm.web("listed.example.com").status == 401)

    npm.ok("POST", f"/nginx/proxy-hosts/{host['id']}/disable")
    npm.ok("POST", f"/nginx/proxy-hosts/{host['id']}/enable")

    assert eventually(lambda: npm.proxies("listed.example.com"))


def test_trap_12_deleting_an_access_list_drops_tls_from_its_hosts(npm: Npm) -> None:
    number = access_list(npm)
    npm.proxy("unlisted.example.com", access_list_id=number, certificate_id=uploaded(npm, "unlisted.example.com"))
    assert eventually(lambda: npm.offers_tls("unlisted.example.com"))

    npm.ok("DELETE", f"/nginx/access-lists/{number}")

    assert eventually(lambda: not npm.offers_tls("unlisted.example.com"))


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("action_name=<script>alert(1)</script>", 403),
        ("q=union+select(1)", 403),
        ("url=http://example.com/page", 403),
        ("url=/a/page", 403),
        ("url=http%3A%2F%2Fexample.com%2Fpage&action_name=Home", 200),
    ],
)
def test_trap_13_blocking_exploits_blocks_tracking_hits(npm: Npm, query: str, status: int) -> None:
    if not [row for row in npm.ok("GET", "/nginx/proxy-hosts") if row["domain_names"] == ["blocking.example.com"]]:
        npm.proxy("blocking.example.com", block_exploits=True)

    assert eventually(lambda: npm.web("blocking.example.com", f"/matomo.php?{query}").status == status)


def test_trap_14_caching_strips_headers_and_remembers_what_was_not_found(npm: Npm) -> None:
    npm.proxy("cached.example.com", caching_enabled=True)
    npm.proxy("uncached.example.com")
    assert eventually(lambda: npm.proxies("uncached.example.com"))

    assert npm.web("uncached.example.com", "/script.js").headers["cache-control"] == "private"
    assert "private" not in npm.web("cached.example.com", "/script.js").headers.get("cache-control", "")
    first, second = (npm.web("cached.example.com", "/missing.js", headers={"X-Turn": turn}) for turn in "12")
    assert (first.status, second.status) == (404, 404)
    assert json.loads(second.text)["headers"]["x-turn"] == "1"


def test_trap_15_validation_needs_no_login_and_overlooks_a_key_that_does_not_match(npm: Npm) -> None:
    certificate, _ = self_signed("one.example.com")
    _, key = self_signed("other.example.com")
    parts = [Part("certificate", certificate), Part("certificate_key", key)]

    answer = npm.api("POST", "/nginx/certificates/validate", parts=parts, token=None)

    assert (answer.status, answer.json["certificate_key"]) == (200, True)
    assert answer.json["certificate"]["cn"] == "one.example.com"
