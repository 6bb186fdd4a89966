"""The plan for a list of sites."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_api import MatomoError
from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_site import (
    Site,
    Wanted,
    apply_sites,
    check_sites,
    check_timezones,
    plan_sites,
    read_sites,
    show,
)
from tests.unit.plugins.module_utils.matomo_line import RECORDED, Line

ROW = RECORDED["sites"]["body"][0]
EXAMPLE = Site(1, "Example", ("https://example.org", "https://www.example.org"), ROW)


def wanted(name: str = "Example", *urls: str, present: bool = True, **settings: t.Any) -> Wanted:
    return Wanted(name, urls or EXAMPLE.urls, settings, present)


def answer(data: t.Any) -> tuple[int, str, bytes]:
    return 200, "", json.dumps(data).encode()


@pytest.mark.parametrize(
    ("site", "action"),
    [
        (wanted(), "keep"),
        (wanted("Example", "https://example.org/", "https://www.example.org"), "keep"),
        (wanted(timezone="Europe/London", ecommerce=False, excluded_ips=[]), "keep"),
        (wanted(timezone="Europe/Berlin"), "update"),
        (wanted(keep_url_fragment=True), "update"),
        (wanted(excluded_ips=["192.0.2.1"]), "update"),
        (wanted("Renamed"), "update"),
        (wanted("Example", "https://www.example.org", "https://example.org"), "update"),
        (wanted("Example", "https://example.org"), "update"),
        (wanted("Example", "http://example.org", "https://www.example.org"), "update"),
        (wanted("Example", present=False), "remove"),
        (wanted("Other", "https://example.org/other"), "create"),
        (wanted("Other", "https://other.example"), "create"),
        (wanted("Other", "https://other.example", present=False), "keep"),
    ],
)
def test_only_what_differs_is_done(site: Wanted, action: str) -> None:
    assert [step.action for step in plan_sites([site], [EXAMPLE])] == [action]


def test_the_order_of_the_other_addresses_is_of_no_account() -> None:
    site = Site(1, "x", ("https://a.example", "https://b.example", "https://c.example"), {})

    step = plan_sites([wanted("x", "https://a.example", "https://c.example", "https://b.example")], [site])[0]

    assert step.action == "keep"


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        ([wanted("a", "https://x.example"), wanted("b", "http://X.example/")], "listed twice, for a and for b"),
        ([wanted("a", "https://x.example", "https://x.example/")], "listed twice"),
        ([wanted("a", "x.example")], "no address"),
        ([Wanted("a", ())], "no urls"),
        ([wanted("", "https://x.example")], "no name"),
        ([wanted("a", "https://x.example", currency="Euro")], "write it as EUR"),
    ],
)
def test_mistakes_in_the_list_are_told(sites: list[Wanted], said: str) -> None:
    with pytest.raises(MatomoError, match=said):
        check_sites(sites)


def test_paths_differ_by_case_and_hosts_do_not() -> None:
    check_sites([wanted("a", "https://x.example/A"), wanted("b", "https://x.example/a")])


def test_twins_in_matomo_are_told_with_their_numbers() -> None:
    with pytest.raises(MatomoError, match="the sites 1 and 7"):
        plan_sites([wanted()], [EXAMPLE, Site(7, "Twin", ("https://example.org",), ROW)])


def test_two_of_the_list_that_are_one_in_matomo_are_told() -> None:
    with pytest.raises(MatomoError, match="a and b are one site in Matomo, number 1"):
        plan_sites([wanted("a", "https://example.org"), wanted("b", "https://www.example.org")], [EXAMPLE])


def test_a_site_that_matomo_finds_by_www_alone_is_another_one() -> None:
    line = Line("sites", "site by URL", answer(["https://example.org"]))

    assert read_sites(line.api(), [wanted("Other", "https://www.example.org")]) == []


def test_a_site_is_read_with_all_its_addresses() -> None:
    line = Line("sites", "site by URL", answer(["https://example.org", "https://www.example.org"]))

    assert read_sites(line.api(), [wanted("Example", "https://example.org/")]) == [EXAMPLE]
    assert line.asked[1][2]["url"] == ["https://example.org"]


def test_sites_numbered_as_keys_are_read_as_well() -> None:
    line = Line(answer({"1": {**ROW, "idsite": "1"}}), answer([{"idsite": "1"}]), answer(list(EXAMPLE.urls)))

    assert read_sites(line.api(), [wanted("Example", "https://example.org")])[0].idsite == 1


def test_only_new_timezones_are_asked_for() -> None:
    line = Line(answer({"Europe": {"Europe/Berlin": "Berlin"}, "UTC": {"UTC": "UTC"}}))
    known, new = wanted(timezone="Europe/London"), wanted("New", "https://new.example", timezone="Europe/Berlin")

    check_timezones(Line().api(), plan_sites([known], [EXAMPLE]))
    check_timezones(line.api(), plan_sites([known, new], [EXAMPLE]))


def test_an_unknown_timezone_is_told() -> None:
    line = Line(answer({"UTC": {"UTC": "UTC"}}))

    with pytest.raises(MatomoError, match="'Europe/Atlantis', which Matomo does not know"):
        check_timezones(line.api(), plan_sites([wanted(timezone="Europe/Atlantis")], [EXAMPLE]))


def test_an_update_sends_what_leaving_out_would_empty() -> None:
    row = {**ROW, "excluded_ips": "192.0.2.1", "sitesearch_keyword_parameters": "q", "group": "g"}
    line = Line("update site")

    steps = plan_sites([wanted("Renamed")], [Site(1, "Example", EXAMPLE.urls, row)])
    apply_sites(line.api(), steps, check=False)

    form = line.asked[0][2]
    assert form["siteName"] == ["Renamed"]
    assert (form["urls[0]"], form["urls[1]"]) == (["https://example.org"], ["https://www.example.org"])
    assert (form["excludedIps"], form["searchKeywordParameters"], form["group"]) == (["192.0.2.1"], ["q"], ["g"])


def test_removals_come_last_and_rows_in_the_order_of_the_list() -> None:
    line = Line("add site", "delete site without confirmation")
    sites = [wanted(present=False), wanted("New", "https://new.example", timezone="UTC")]

    rows = apply_sites(line.api(), plan_sites(sites, [EXAMPLE]), check=False)

    assert [form["method"][0] for _m, _p, form in line.asked] == ["SitesManager.addSite", "SitesManager.deleteSite"]
    assert rows == [{"idsite": 2, "name": "New", "urls": ["https://new.example"], "timezone": "UTC"}]


def test_a_dry_run_sends_nothing_and_knows_no_number_of_a_new_site() -> None:
    rows = apply_sites(
        Line().api(), plan_sites([wanted(), wanted("New", "https://new.example")], [EXAMPLE]), check=True
    )

    assert [row["idsite"] for row in rows] == [1, None]


def test_a_site_is_shown_by_the_names_of_the_options() -> None:
    assert show(EXAMPLE)["site_search"] == 1
    assert "ts_created" not in show(EXAMPLE)
