"""The default site, in the API's words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import NpmError
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_setting import visible, wanted_default_site

RECORDED = {
    one["label"]: one["response"]
    for one in json.loads((Path(__file__).parents[1] / "data_npm/exchanges.json").read_text())["exchanges"]
}


def test_a_redirect_is_what_the_api_keeps() -> None:
    wanted = wanted_default_site("redirect", redirect_url="https://example.com", html=None)

    assert visible(RECORDED["default site redirect"]) == wanted


def test_what_another_page_left_behind_changes_nothing() -> None:
    left = {"value": "404", "meta": {"redirect": "https://example.com"}}

    assert visible(left) == wanted_default_site("404", redirect_url=None, html="unused")


@pytest.mark.parametrize(
    ("page", "url", "message"),
    [("redirect", None, "redirect_url"), ("redirect", "example.org", "http://"), ("html", None, "html")],
)
def test_a_page_without_what_it_needs_is_refused(page: str, url: str | None, message: str) -> None:
    with pytest.raises(NpmError, match=message):
        wanted_default_site(page, redirect_url=url, html=None)
