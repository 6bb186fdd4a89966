"""What the role matomo refuses before any change, each in one sentence that names the variable and the remedy."""

from __future__ import annotations

from typing import Any

import pytest

ROLE = "matomo"

SITE: dict[str, Any] = {"name": "Shop", "urls": ["https://www.example.org"]}
GOOD: dict[str, Any] = {
    "servers_domain": "example.org",
    "servers_admin_email": "admin@example.org",
    "servers_services": ["npm", "matomo"],
    "servers_root": "/opt/servers",
    "npm_proxy_hosts": [],
    "matomo_admin_password": "long enough",
    "matomo_database_password": "long enough",
    "matomo_database_root_password": "long enough",
    "matomo_sites": [SITE],
}


def site(**fields: Any) -> dict[str, Any]:
    return {"matomo_sites": [{**SITE, **fields}]}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to measure": ({"matomo_sites": []}, "matomo_sites is empty"),
    "nothing left to measure": (site(state="absent"), "matomo_sites is empty"),
    "a site without a name": (site(name=""), "has a site without a name"),
    "a site without an address": (site(urls=[]), 'matomo_sites has "Shop" without urls'),
    "an address that is no list": (site(urls="https://a.example.org"), 'write ["https://a.example.org"]'),
    "an address without its scheme": (site(urls=["www.example.org"]), 'the address "www.example.org", which is none'),
    "an address of another kind": (site(urls=["ftp://example.org"]), 'the address "ftp://example.org", which is none'),
    "an address with a blank": (site(urls=["https://example.org/a b"]), "which is none of a site"),
    "an address with a query": (site(urls=["https://example.org/?a=1"]), "which is none of a site"),
    "the same address in two sites": (
        {"matomo_sites": [SITE, {"name": "Blog", "urls": ["http://WWW.example.org/"]}]},
        'the address "www.example.org" twice',
    ),
    "the same address in one site": (
        site(urls=["https://example.org", "http://example.org"]),
        'the address "example.org" twice',
    ),
    "two sites with one file": (
        {"matomo_sites": [SITE, {"name": "shop", "urls": ["https://b.example.org"]}]},
        'in the file "shop"',
    ),
    "two sites with one file but for the signs at the end": (
        {"matomo_sites": [SITE, {"name": "Shop!", "urls": ["https://b.example.org"]}]},
        'in the file "shop"',
    ),
    "a site whose file is that of another's tag": (
        {"matomo_sites": [SITE, {"name": "Shop.GTM", "urls": ["https://b.example.org"]}]},
        'in the file "shop"',
    ),
    "a name without a letter for a file": (site(name="日本"), 'matomo_sites has the name "日本", which gives no name'),
    "a time zone that does not exist": (site(timezone="Europe/Atlantis"), 'the time zone "Europe/Atlantis"'),
    "a time zone that Matomo does not have": (site(timezone="US/Eastern"), 'the time zone "US/Eastern"'),
    "a time zone off the globe": (site(timezone="UTC+25"), 'the time zone "UTC+25"'),
    "a name that is cut off": (site(name="Shop" + "&" * 20), "which is cut off at 90 characters"),
    "an address that is cut off": (site(urls=[f"https://example.org/{'a' * 180}"]), "of which 190 characters are kept"),
    "a time zone that leads elsewhere": (site(timezone="../../etc/passwd"), 'the time zone "../../etc/passwd"'),
    "a host that is no domain": ({"matomo_host": "analytics"}, 'matomo_host is "analytics", which is no full domain'),
    "a host that somebody else publishes": (
        {"npm_proxy_hosts": [{"domain_names": ["Analytics.example.org"]}]},
        '"analytics.example.org", which matomo publishes itself',
    ),
    "no proxy": ({"servers_services": ["matomo"]}, "without npm, which publishes it"),
    "an image that moves": ({"matomo_database_image": "mariadb:latest"}, "such as mariadb:10.11.18"),
    "an image with a web server of its own": ({"matomo_image": "matomo:5.14.0-apache"}, "version ends with -fpm"),
    "an image with other users": ({"matomo_image": "matomo:5.14.0-fpm-alpine"}, "version ends with -fpm"),
    "a short password": ({"matomo_admin_password": "short"}, "matomo_admin_password has 5 characters"),
    "a password of two lines": ({"matomo_database_password": "two lines\nof it"}, "in one line"),
    "an account that is no address": ({"matomo_admin_email": "admin"}, 'matomo_admin_email is "admin"'),
    "a login with blanks": ({"matomo_admin_login": "the admin"}, 'matomo_admin_login is "the admin"'),
    "less than no days": ({"matomo_keep_visits_days": -1}, "matomo_keep_visits_days is -1"),
    "a database of places in another form": ({"matomo_geoip_url": "https://example.org/city.csv"}, "a file .mmdb"),
    "no schedule": ({"matomo_archive_schedule": ""}, "matomo_archive_schedule is empty"),
    "too little memory": ({"matomo_database_memory_limit": 96}, "matomo_database_memory_limit is 96"),
    "more memory for PHP than there is": ({"matomo_php_memory_limit": 256}, "matomo_php_memory_limit is 256"),
    "a variable that does not exist": ({"matomo_site": []}, "matomo_site is no variable of matomo"),
}

FINE: dict[str, dict[str, Any]] = {
    "all that is needed": {},
    "a time zone of the world": site(timezone="Europe/Madrid"),
    "a time zone of Matomo's own": site(timezone="UTC+5.5"),
    "a site on a port, in a folder": site(urls=["http://localhost:8000/shop/"]),
    "a site that goes where another comes": {
        "matomo_sites": [{**SITE, "state": "absent"}, {"name": "Shop", "urls": ["https://www.example.org"]}]
    },
    "everything wrong but absent": {"servers_services": [], "matomo_sites": []},
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
