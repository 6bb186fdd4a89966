"""The lines that go into the pages of each site."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.diegonmarcos.servers.plugins.filter.matomo_snippets import matomo_snippets

SCRIPT = Path(__file__).parents[4] / "roles/matomo/files/snippet.js"
SHOP: dict[str, Any] = {"name": "Shop & Co", "urls": ["https://shop.example.org"]}


def files(*sites: dict[str, Any], numbers: tuple[int | None, ...] = (7,), **options: Any) -> dict[str, str]:
    found = matomo_snippets(
        sites, [{"idsite": number} for number in numbers], "run(SETTINGS);", "stats.example.org", "/out", **options
    )
    return {entry["path"]: entry["content"] for entry in found}


def settings(content: str) -> dict[str, Any]:
    match = re.search(r"run\((.*)\);", content)
    assert match
    found = json.loads(match[1])
    assert isinstance(found, dict)
    return found


def test_each_site_has_three_files_named_after_it() -> None:
    assert list(files(SHOP)) == ["/out/shop-co.html", "/out/shop-co.gtm.html", "/out/shop-co.opt-out.html"]


def test_the_page_learns_where_matomo_is_and_which_site_it_belongs_to() -> None:
    found = settings(files(SHOP)["/out/shop-co.html"])
    assert (found["url"], found["site"]) == ("https://stats.example.org/", 7)


def test_a_site_says_itself_how_visitors_are_asked_or_follows_the_others() -> None:
    own = files({**SHOP, "consent": "consent", "do_not_track": False}, consent="none")["/out/shop-co.html"]
    others = files(SHOP, consent="none", do_not_track=False)["/out/shop-co.html"]
    assert (settings(own)["consent"], settings(own)["doNotTrack"]) == ("consent", False)
    assert (settings(others)["consent"], settings(others)["doNotTrack"]) == ("none", False)


def test_only_the_tag_listens_to_the_tag_manager() -> None:
    found = files(SHOP)
    assert "tagManager" not in settings(found["/out/shop-co.html"])
    assert settings(found["/out/shop-co.gtm.html"])["tagManager"] is True
    assert "<noscript>" not in found["/out/shop-co.gtm.html"]


def test_nobody_is_counted_without_a_script_where_each_has_to_agree_first() -> None:
    assert "<noscript>" not in files({**SHOP, "consent": "consent"})["/out/shop-co.html"]
    assert "idsite=7&amp;rec=1" in files(SHOP)["/out/shop-co.html"]


def test_a_name_cannot_leave_its_comment() -> None:
    content = files({**SHOP, "name": "a --> <script>alert(1)</script>"})["/out/a-script-alert-1-script.html"]
    comment = content.splitlines()[0]
    assert comment.count("-->") == 1
    assert comment.endswith(" -->")
    assert content.count("<script>") == 1


def test_sites_keep_their_numbers_when_one_is_to_go() -> None:
    found = files({**SHOP, "state": "absent"}, {"name": "Blog"}, {"name": "Club"}, numbers=(3, 4))
    assert settings(found["/out/blog.html"])["site"] == 3
    assert settings(found["/out/club.html"])["site"] == 4


def test_a_site_without_a_number_has_no_lines_yet() -> None:
    assert list(files({"name": "Blog"}, {"name": "Club"}, numbers=(None, 4))) == [
        "/out/club.html",
        "/out/club.gtm.html",
        "/out/club.opt-out.html",
    ]


def test_an_unknown_way_of_asking_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="Shop & Co has the consent maybe: use cookieless"):
        files({**SHOP, "consent": "maybe"})


def test_jekyll_takes_the_lines_as_they_are() -> None:
    for entry in matomo_snippets([SHOP], [{"idsite": 7}], SCRIPT.read_text(), "stats.example.org", "/out"):
        assert re.findall(r"{{|{%|SETTINGS", entry["content"]) == []
