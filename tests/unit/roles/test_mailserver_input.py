"""What the role mailserver refuses before anything changes, each with one sentence that names cause and remedy."""

from __future__ import annotations

from typing import Any

import pytest

ROLE = "mailserver"

ANA = {"address": "ana@example.org", "password": "Quite-long 1 to guess"}
HASH = "{SHA512-CRYPT}$6$saltstring$" + "a" * 86
GOOD: dict[str, Any] = {
    "servers_domain": "example.org",
    "servers_admin_email": "admin@example.org",
    "servers_services": ["npm", "mailserver"],
    "servers_public_ip": "203.0.113.10",
    "servers_root": "/opt/servers",
    "servers_timezone": "Etc/UTC",
    "_servers_open_ports": [{"port": port} for port in (25, 465, 587, 993)],
    "mailserver_accounts": [ANA],
    "mailserver_relay_host": "smtp.relay.example",
}


def accounts(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"mailserver_accounts": list(rows)}


def aliases(**rows: list[str]) -> dict[str, Any]:
    return {
        "mailserver_aliases": [{"address": f"{name}@example.org", "targets": targets} for name, targets in rows.items()]
    }


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nobody": (accounts(), "mailserver_accounts is empty"),
    "an account without a domain": (accounts({**ANA, "address": "ana"}), '"ana", which has no domain'),
    "an account that is no address": (accounts({**ANA, "address": "a na@example.org"}), "which is no mail address"),
    "an account with a table's sign": (accounts({**ANA, "address": "a|b@example.org"}), "which is no mail address"),
    "an account elsewhere": (
        accounts({**ANA, "address": "ana@example.net"}),
        "example.net, which is not in mailserver_do",
    ),
    "an account twice": (accounts(ANA, {**ANA, "address": "Ana@example.org"}), '"ana@example.org" twice'),
    "no password": (accounts({"address": "ana@example.org"}), "ana@example.org without a password"),
    "both kinds of password": (accounts({**ANA, "password_hash": HASH}), "with both"),
    "a short password": (accounts({**ANA, "password": "Secret123"}), "with a weak password"),
    "a password of one letter": (accounts({**ANA, "password": "aaaaaaaaaaaaaaaa"}), "with a weak password"),
    "a password with the name": (accounts({**ANA, "password": "ana-2026-spring!"}), "with a weak password"),
    "a clear text for a hash": (
        accounts({"address": "ana@example.org", "password_hash": "secret"}),
        "with a password_hash that is none",
    ),
    "an alias without a domain": (
        {"mailserver_aliases": [{"address": "info", "targets": ["ana@example.org"]}]},
        '"info", which is no mail address',
    ),
    "an alias twice": (
        {"mailserver_aliases": aliases(info=["ana@example.org"])["mailserver_aliases"] * 2},
        '"info@example.org" twice',
    ),
    "an alias to nowhere": (aliases(info=["bob@example.org"]), "which is neither account nor alias"),
    "an alias without targets": (aliases(info=[]), "without targets"),
    "two aliases in a circle": (
        aliases(a=["b@example.org"], b=["a@example.org"]),
        "go in a circle (a@example.org to b@example.org to a@example.org)",
    ),
    "an alias of itself": (aliases(a=["a@example.org"]), "go in a circle"),
    "an alias over an account": (
        {
            **accounts(ANA, {**ANA, "address": "bob@example.org"}),
            **aliases(ana=["bob@example.org"]),
        },
        "which is also an account that would get nothing",
    ),
    "a catch-all of another domain": (
        {"mailserver_catch_all": [{"domain": "example.net", "target": "ana@example.org"}]},
        'the domain "example.net"',
    ),
    "a postmaster who does not exist": ({"mailserver_postmaster": "bob@example.org"}, "neither account nor alias"),
    "a server named as its domain": ({"mailserver_hostname": "example.org"}, "give the server a name below the domain"),
    "a server without a domain": ({"mailserver_hostname": "mail"}, "no full name in lower case"),
    "no domain": ({"mailserver_domains": ["example.org", "localhost"]}, "no full domain name"),
    "no way out": ({"mailserver_relay_host": ""}, "mailserver_relay_host is empty"),
    "a relay with its port": ({"mailserver_relay_host": "smtp.relay.example:587"}, "give its name alone"),
    "a relay's user without a password": ({"mailserver_relay_username": "u"}, "mailserver_relay_password is missing"),
    "a relay's password without a user": ({"mailserver_relay_password": "p"}, "mailserver_relay_username is missing"),
    "a relay's user with a colon": (
        {"mailserver_relay_username": "a:b", "mailserver_relay_password": "p"},
        "has a colon",
    ),
    "a path for an authority": ({"mailserver_relay_ca": "/etc/ca.pem"}, "give its PEM text"),
    "no certificate": ({"servers_services": ["mailserver"]}, "The mail server has no certificate"),
    "a firewall table without its ports": (
        {"_servers_open_ports": [{"port": 25}, {"port": 465}, {"port": 993}]},
        "servers_ports has no row for port 587",
    ),
    "the next major version": (
        {"mailserver_image": "mailserver/docker-mailserver:16.0.0"},
        "give version 15 in full",
    ),
    "the version that breaks signatures": (
        {"mailserver_image": "mailserver/docker-mailserver:15.0.0"},
        "mailserver_image is 15.0.0",
    ),
    "too little memory": ({"mailserver_memory_limit": 112}, "mailserver_memory_limit is 112"),
    "too little memory for Rspamd": (
        {"mailserver_spam_filter": "rspamd", "mailserver_memory_limit": 256},
        "programs die in a burst of mail below 450 MB",
    ),
    "a list that is not guarded": ({"mailserver_webmail_access_list": "staff"}, "not in npm_access_lists"),
    "a variable that does not exist": ({"mailserver_account": []}, "mailserver_account is no variable of mailserver"),
}

FINE: dict[str, dict[str, Any]] = {
    "all that is needed": {},
    "a hash in place of a password": accounts({"address": "ana@example.org", "password_hash": HASH}),
    "an alias that keeps a copy": aliases(ana=["ana@example.org", "friend@example.net"]),
    "aliases in a row": aliases(a=["b@example.org"], b=["ana@example.org"]),
    "direct delivery": {"mailserver_relay_host": "", "mailserver_direct_delivery": True},
    "a certificate of one's own": {"servers_services": ["mailserver"], "mailserver_certificate_folder": "/etc/mine"},
    "everything wrong but absent": {"servers_services": [], "mailserver_accounts": [], "mailserver_relay_host": ""},
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_sentence(said: dict[str, str], case: str) -> None:
    assert BAD[case][1] in said[case]
    assert ": " in said[case]
    assert said[case].endswith(".")
    assert "\n" not in said[case]


@pytest.mark.parametrize("case", FINE)
def test_good_input_passes(said: dict[str, str], case: str) -> None:
    assert said[case] == ""


def test_no_sentence_says_a_password(said: dict[str, str]) -> None:
    assert [text for text in said.values() if "Quite-long" in text or "Secret123" in text or "spring" in text] == []
