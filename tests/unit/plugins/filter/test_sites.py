from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.diegonmarcos.servers.plugins.filter.sites import sites

HOST: dict[str, Any] = {"domain_names": ["www.example.org"], "forward_host": "web", "forward_port": 80}


def test_each_name_of_a_host_is_a_site_and_is_compared_in_lower_case() -> None:
    assert sites([HOST | {"domain_names": ["WWW.example.org", "example.org"]}]) == [
        {"name": "www.example.org"},
        {"name": "example.org"},
    ]


@pytest.mark.parametrize("change", [{"certificate": "none"}, {"enabled": False}])
def test_a_host_that_is_not_served_through_tls_is_no_site(change: dict[str, Any]) -> None:
    assert sites([HOST | change]) == []


def test_a_host_that_names_no_certificate_gets_one_from_lets_encrypt() -> None:
    custom = HOST | {"certificate": "custom", "domain_names": ["shop.example.org"]}
    assert sites([HOST, custom], certificate="letsencrypt") == [{"name": "www.example.org"}]


def test_a_private_authority_is_expected_on_every_site() -> None:
    assert sites([HOST], ca="PEM") == [{"name": "www.example.org", "ca": "PEM"}]


def test_a_site_that_does_not_force_tls_neither_redirects_nor_asks_for_hsts() -> None:
    assert sites([HOST | {"ssl_forced": False}]) == [{"name": "www.example.org", "redirect": False, "hsts": False}]


def test_a_site_without_hsts_is_not_expected_to_ask_for_it() -> None:
    assert sites([HOST | {"hsts": False}]) == [{"name": "www.example.org", "hsts": False}]


def test_a_wildcard_is_no_name_that_can_be_asked_for() -> None:
    assert sites([HOST | {"domain_names": ["*.example.org", "example.org"]}]) == [{"name": "example.org"}]
