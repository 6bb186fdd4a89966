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


def test_a_site_behind_an_access_list_is_expected_to_refuse_a_stranger() -> None:
    assert sites([HOST | {"access_list": "admins"}])[0]["expect_status"] == [401, 403]


def test_what_a_host_switches_off_is_not_expected_of_its_site() -> None:
    assert sites([HOST | {"ssl_forced": False, "hsts": False}]) == [
        {"name": "www.example.org", "redirect": False, "hsts": False}
    ]
