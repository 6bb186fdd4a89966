"""matomo_site: found by address, never made twice, everything checked before anything changes."""

from __future__ import annotations

import typing as t

import pytest
from matomo import HOST, Matomo, Result, finish_module, start_module
from test_install import one_sentence

SHOP: dict[str, t.Any] = {
    "name": "Shop",
    "urls": ["https://shop.example.com", "https://www.shop.example.com"],
    "timezone": "Europe/Berlin",
    "currency": "EUR",
    "ecommerce": True,
    "excluded_ips": ["192.0.2.7"],
}


def names(matomo: Matomo) -> list[str]:
    return [site["name"] for site in matomo.api("SitesManager.getAllSites").data]


def four_steps(matomo: Matomo, *sites: dict[str, t.Any]) -> list[Result]:
    results = [matomo.sites(*sites, check=check) for check in (True, False, True, False)]
    assert not any(one.get("failed") for one in results), results
    return results


def changes(results: list[Result]) -> list[bool]:
    return [one["changed"] for one in results]


def test_a_list_of_sites_is_made_once_with_its_numbers(matomo: Matomo) -> None:
    example = {"name": "Example", "urls": ["https://example.org"]}

    results = four_steps(matomo, example, SHOP)

    assert changes(results) == [True, True, False, False]
    assert [site["idsite"] for site in results[0]["sites"]] == [1, None]
    assert [site["idsite"] for site in results[3]["sites"]] == [1, 2]
    assert results[1]["actions"] == {"Shop": "create"}
    assert results[3]["sites"][0]["timezone"] == "Europe/London"
    assert names(matomo) == ["Example", "Shop"]


def test_a_site_is_found_by_any_of_its_addresses_and_changed(matomo: Matomo) -> None:
    renamed = {**SHOP, "name": "The shop", "urls": ["http://www.shop.example.com/", "https://shop.example.com"]}

    results = four_steps(matomo, renamed)

    assert changes(results) == [True, True, False, False]
    assert results[1]["sites"][0]["idsite"] == 2
    assert results[1]["diff"]["before"]["Shop" if "Shop" in results[1]["diff"]["before"] else "The shop"]
    assert matomo.api("SitesManager.getSiteUrlsFromId", idSite=2).data == [
        "http://www.shop.example.com",
        "https://shop.example.com",
    ]
    assert four_steps(matomo, SHOP)[1]["changed"] is True


def test_an_update_keeps_what_nobody_named(matomo: Matomo) -> None:
    matomo.sql("UPDATE {site} SET sitesearch_keyword_parameters = 'q', `group` = 'shops' WHERE idsite = 2;")

    assert changes(four_steps(matomo, {"name": "Shop two", "urls": SHOP["urls"]})) == [True, True, False, False]

    site = matomo.api("SitesManager.getSiteFromId", idSite=2).data
    assert (site["excluded_ips"], site["timezone"], site["ecommerce"]) == ("192.0.2.7", "Europe/Berlin", 1)
    assert (site["sitesearch_keyword_parameters"], site["group"]) == ("q", "shops")


def test_every_setting_is_set_once(matomo: Matomo) -> None:
    settings = {
        "site_search": False,
        "exclude_unknown_urls": True,
        "keep_url_fragment": False,
        "excluded_parameters": ["sid", "utm"],
        "excluded_user_agents": ["bot"],
        "excluded_ips": [],
    }

    assert changes(four_steps(matomo, {**SHOP, **settings})) == [True, True, False, False]


def test_a_name_that_differs_by_www_only_is_another_site(matomo: Matomo) -> None:
    results = four_steps(matomo, {"name": "Bare", "urls": ["https://www.example.org"]})

    assert changes(results) == [True, True, False, False]
    assert results[1]["sites"][0]["idsite"] == 3


def test_only_an_explicit_state_removes_a_site(matomo: Matomo) -> None:
    results = four_steps(matomo, {"name": "Bare", "urls": ["https://www.example.org"], "state": "absent"})

    assert changes(results) == [True, True, False, False]
    assert results[1]["actions"] == {"Bare": "remove"}
    assert "Bare" not in names(matomo)


def test_two_runs_at_once_make_a_site_once(matomo: Matomo) -> None:
    login: dict[str, t.Any] = {"url": matomo.url, "host_name": HOST, "token": matomo.token}
    site = {"name": "Race", "urls": ["https://race.example.com"]}

    running = [start_module("matomo_site", **login, sites=[site]) for _run in range(3)]
    results = [finish_module(one) for one in running]

    assert sorted(one["changed"] for one in results) == [False, False, True]
    assert len({one["sites"][0]["idsite"] for one in results}) == 1
    assert names(matomo).count("Race") == 1


MISTAKES: list[tuple[list[dict[str, t.Any]], str]] = [
    ([{"name": "a", "urls": ["https://new.example"]}, {"name": "b", "urls": ["http://NEW.example/"]}], "listed twice"),
    ([{"name": "a", "urls": ["new.example"]}], "'new.example' is no address"),
    ([{"name": "a", "urls": ["https://new.example"], "timezone": "Europe/Atlantis"}], "'Europe/Atlantis'"),
    (
        [
            {"name": "a", "urls": ["https://example.org"]},
            {"name": "b", "urls": ["https://new.example"], "timezone": "x"},
        ],
        "'x'",
    ),
]


@pytest.mark.parametrize(("sites", "said"), MISTAKES)
def test_a_mistake_is_told_and_nothing_changes(matomo: Matomo, sites: list[dict[str, t.Any]], said: str) -> None:
    before = matomo.api("SitesManager.getAllSites").data

    assert said in one_sentence(matomo.sites(*sites))
    assert matomo.api("SitesManager.getAllSites").data == before


def test_sites_made_twice_by_hand_are_told_and_left_alone(matomo: Matomo) -> None:
    for _time in range(2):
        matomo.api("SitesManager.addSite", **{"siteName": "Twin", "urls[0]": "https://twin.example.com"})

    assert "belong to the sites" in one_sentence(matomo.sites({"name": "Twin", "urls": ["https://twin.example.com"]}))


def test_two_listed_sites_that_are_one_in_matomo_are_told(matomo: Matomo) -> None:
    one, other = ({"name": name, "urls": [url]} for name, url in zip("ab", SHOP["urls"], strict=True))

    assert "are one site in Matomo" in one_sentence(matomo.sites(one, other))


def test_a_missing_or_bad_token_is_told(matomo: Matomo) -> None:
    site = {"name": "Example", "urls": ["https://example.org"]}

    assert "token is missing" in one_sentence(matomo.sites(site, token=None))
    assert "refuses the token" in one_sentence(matomo.sites(site, token="0" * 32))
    assert str(matomo.token) not in matomo.sites(site)["output"]


def test_a_database_that_waits_for_its_update_is_told(matomo: Matomo) -> None:
    matomo.sql("UPDATE {option} SET option_value = '5.13.0' WHERE option_name = 'version_core';")
    try:
        message = one_sentence(matomo.sites({"name": "Example", "urls": ["https://example.org"]}))
    finally:
        matomo.console("core:update", "--yes")

    assert "core:update" in message
