"""What the role npm refuses before anything changes, each with one sentence that names the variable and the remedy."""

from __future__ import annotations

from typing import Any

import pytest

ROLE = "npm"

HOST = {"domain_names": ["www.example.org"], "forward_host": "web", "forward_port": 80}
GOOD: dict[str, Any] = {
    "servers_domain": "example.org",
    "servers_admin_email": "admin@example.org",
    "servers_services": ["npm"],
    "servers_root": "/opt/servers",
    "servers_ports": [{"port": 80, "service": "npm"}, {"port": 443, "service": "npm"}],
    "npm_admin_password": "long enough",
    "npm_proxy_hosts": [HOST],
}


def host(**fields: Any) -> dict[str, Any]:
    return {"npm_proxy_hosts": [{**HOST, **fields}]}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a name that is no domain": (host(domain_names=["localhost"]), '"localhost", which is no full domain name'),
    "an underscore in a name": (host(domain_names=["a_b.example.org"]), '"a_b.example.org", which is no full'),
    "an address for a name": (host(domain_names=["192.0.2.1"]), '"192.0.2.1", which is no full domain name'),
    "no name at all": (host(domain_names=[]), "has a host without domain_names"),
    "a name in two hosts": (
        {"npm_proxy_hosts": [HOST, {**HOST, "domain_names": ["b.example.org", "WWW.example.org"]}]},
        '"www.example.org" twice: leave it in one host',
    ),
    "a port too high": (host(forward_port=70000), "the forward_port 70000, which is no port"),
    "port zero in a location": (
        host(locations=[{"path": "/a", "forward_host": "a", "forward_port": 0}]),
        "the forward_port 0, which is no port",
    ),
    "an unknown access list": (
        host(access_list="admins"),
        'the access list "admins" for www.example.org, which is not in npm_access_lists',
    ),
    "a list that is to be removed": (
        {**host(access_list="old"), "npm_access_lists": [{"name": "old", "state": "absent"}]},
        'the access list "old" for www.example.org, which is not in npm_access_lists',
    ),
    "a list twice": (
        {"npm_access_lists": [{"name": "a", "allow": ["192.0.2.1"]}, {"name": "a", "allow": ["192.0.2.2"]}]},
        'npm_access_lists has "a" twice',
    ),
    "an unknown certificate": (
        host(certificate="office"),
        'the certificate "office", which is not in npm_certificates',
    ),
    "names that are no list": (host(domain_names="www.example.org"), 'write ["www.example.org"]'),
    "an address with its scheme": (
        host(forward_host="http://web"),
        'the forward_host "http://web" for www.example.org',
    ),
    "no address": (host(forward_host=""), 'the forward_host "" for www.example.org'),
    "the administration without a password": (
        host(forward_host="127.0.0.1", forward_port=81),
        "would put the administration on the internet",
    ),
    "a wildcard that only DNS could prove": (
        host(domain_names=["*.example.org"]),
        "which is to be had by DNS only",
    ),
    "a user without a password": (
        {"npm_access_lists": [{"name": "a", "users": [{"username": "ana"}]}]},
        'the user "ana" without a password',
    ),
    "a firewall table without its ports": (
        {"servers_ports": [{"port": 80, "service": "npm"}]},
        "servers_ports has no row for port 443",
    ),
    "no image": ({"npm_image": ""}, "give a name with its full version"),
    "an image that moves": ({"npm_image": "jc21/nginx-proxy-manager:latest"}, "give a name with its full version"),
    "a short password": ({"npm_admin_password": "short"}, "npm_admin_password has 5 characters: use 8 to 64"),
    "an account that is no address": ({"npm_admin_email": "admin"}, 'npm_admin_email is "admin", which is no mail'),
    "a redirect to nowhere": ({"npm_default_site": "redirect"}, "give npm_default_site_url"),
    "an empty page": ({"npm_default_site": "html"}, "give the page in npm_default_site_html"),
    "an ACME server in clear": ({"npm_acme_server": "http://acme"}, "starting with https://"),
    "the path of a certificate": ({"npm_acme_ca": "/etc/ca.pem"}, "give its PEM text, not a path"),
    "too little memory": ({"npm_memory_limit": 96}, "npm_memory_limit is 96"),
    "a variable that does not exist": ({"npm_proxy_host": []}, "npm_proxy_host is no variable of npm"),
}

FINE: dict[str, dict[str, Any]] = {
    "all that is needed": {},
    "a wildcard with its certificate": {
        **host(domain_names=["*.example.org"], certificate="Wild"),
        "npm_certificates": [{"name": "wild", "provider": "custom"}],
    },
    "a site behind a list": {
        **host(access_list="admins"),
        "npm_access_lists": [{"name": "admins", "allow": ["192.0.2.1"]}],
    },
    "the state of the art with everything wrong but absent": {
        "servers_services": [],
        **host(domain_names=["localhost"]),
    },
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
