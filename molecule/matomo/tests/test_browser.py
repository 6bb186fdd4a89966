"""What a real browser does with the lines for the pages, through the proxy and over TLS; the database is the judge."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from http.client import HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from conftest import Sql, wait_for

from testbed.browser import PHONE, gateway

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

SHOP, BLOG, CLUB = 1, 2, 3
BLOG_PAGE = "a-b-s-blog-script"


@pytest.fixture
def hits(sql: Sql) -> Callable[[int], list[tuple[str, ...]]]:
    """Everything that was tracked of a site, but not by earlier tests: kind, and what it was."""
    (before,) = sql("SELECT COALESCE(MAX(idlink_va), 0) FROM matomo_log_link_visit_action")[0]

    def read(site: int) -> list[tuple[str, ...]]:
        rows = sql(f"""
            SELECT COALESCE(page.type, ''), page.name, category.name, action.name, name.name
            FROM matomo_log_link_visit_action hit
            LEFT JOIN matomo_log_action page ON page.idaction = hit.idaction_url
            LEFT JOIN matomo_log_action name ON name.idaction = hit.idaction_name
            LEFT JOIN matomo_log_action category ON category.idaction = hit.idaction_event_category
            LEFT JOIN matomo_log_action action ON action.idaction = hit.idaction_event_action
            WHERE hit.idsite = {site} AND hit.idlink_va > {before} ORDER BY hit.idlink_va""")
        kinds = {"1": "page", "2": "outlink", "3": "download"}
        return [
            (kinds.get(kind, kind), url) if category == "NULL" else ("event", category, action, name)
            for kind, url, category, action, name in rows
        ]

    return read


@pytest.fixture
def cookies(visitor: BrowserContext) -> Callable[[], set[str]]:
    """The names of the tracker's cookies, without the site's number."""
    return lambda: {cookie["name"].split(".")[0] for cookie in visitor.cookies()}


def events(found: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [hit[1:] for hit in found if hit[0] == "event"]


def scroll_down(page: Page) -> None:
    for part in (0.2, 0.45, 0.7, 1):
        page.evaluate(f"window.scrollTo(0, document.documentElement.scrollHeight * {part})")
        page.wait_for_timeout(150)


def test_a_visit_is_tracked_with_all_its_parts(
    visitor: BrowserContext, website: str, hits: Callable[..., Any], cookies: Callable[[], set[str]]
) -> None:
    page = visitor.new_page()
    page.goto(f"{website}/{BLOG_PAGE}.html")
    wait_for(lambda: [hit[0] for hit in hits(BLOG)] == ["page"], "the page view is not in the database")

    scroll_down(page)
    page.click("#download", modifiers=["Alt"])
    page.click("#out", no_wait_after=True)

    wait_for(lambda: len(hits(BLOG)) >= 7, f"not everything is in the database: {hits(BLOG)}")
    found = hits(BLOG)
    depths = [event for event in events(found) if event[0] == "Scroll depth"]
    assert [event[1] for event in depths] == ["25 %", "50 %", "75 %", "100 %"]
    assert {hit[0] for hit in found} == {"page", "event", "download", "outlink"}
    assert [hit[1].endswith("/brochure.pdf") for hit in found if hit[0] == "download"] == [True]
    assert ["elsewhere.example" in hit[1] for hit in found if hit[0] == "outlink"] == [True]
    assert cookies() == set()


def test_a_telephone_is_tracked_too(chromium: Browser, website: str, hits: Callable[..., Any]) -> None:
    context = chromium.new_context(viewport=PHONE)
    page = context.new_page()
    page.goto(f"{website}/{BLOG_PAGE}.html")
    scroll_down(page)
    wait_for(lambda: len(events(hits(BLOG))) == 4, f"the depths are not in the database: {hits(BLOG)}")
    context.close()


def test_addresses_are_stored_without_their_last_two_bytes(sql: Sql) -> None:
    (stored,) = {row[0] for row in sql("SELECT HEX(location_ip) FROM matomo_log_visit")}
    start = "".join(f"{int(part):02X}" for part in gateway().split(".")[:2])
    assert stored == f"{start}0000"


def test_no_cookie_is_set_before_the_visitor_agrees(
    visitor: BrowserContext, website: str, hits: Callable[..., Any], cookies: Callable[[], set[str]]
) -> None:
    page = visitor.new_page()
    page.goto(f"{website}/shop.html")
    wait_for(lambda: len(hits(SHOP)) == 1, "the page view is not in the database")
    assert cookies() == set()

    page.click("#give")

    wait_for(lambda: {"_pk_id", "_pk_ses"} <= cookies(), f"cookies after agreeing: {cookies()}")
    wait_for(lambda: ("Consent", "given") in [event[:2] for event in events(hits(SHOP))], "the choice is not tracked")

    page.click("#withdraw b")

    wait_for(lambda: not {"_pk_id", "_pk_ses"} & cookies(), f"cookies after withdrawing: {cookies()}")


def test_nothing_is_tracked_before_the_visitor_agrees_where_all_depends_on_it(
    visitor: BrowserContext, website: str, hits: Callable[..., Any], cookies: Callable[[], set[str]]
) -> None:
    page = visitor.new_page()
    page.goto(f"{website}/club.html", wait_until="networkidle")
    scroll_down(page)
    page.wait_for_timeout(1000)
    assert (hits(CLUB), cookies()) == ([], set())

    page.click("#give")

    wait_for(lambda: ("event", "Consent", "given") in [hit[:3] for hit in hits(CLUB)], f"hits: {hits(CLUB)}")
    assert "page" in [hit[0] for hit in hits(CLUB)]

    page.click("#withdraw")
    page.wait_for_timeout(500)
    before = hits(CLUB)
    page.goto(f"{website}/club.html", wait_until="networkidle")
    page.wait_for_timeout(500)
    assert hits(CLUB) == before


def test_the_tag_manager_s_events_arrive(visitor: BrowserContext, website: str, hits: Callable[..., Any]) -> None:
    page = visitor.new_page()
    page.goto(f"{website}/{BLOG_PAGE}.gtm.html")
    wait_for(lambda: len(hits(BLOG)) == 1, "the page view is not in the database")

    page.evaluate("dataLayer.push({event: 'matomo', category: 'Form', action: 'sent', name: 'contact'})")
    page.evaluate("history.pushState({}, '', '/second'); dataLayer.push({event: 'gtm.historyChange-v2'})")

    wait_for(lambda: len(hits(BLOG)) >= 3, f"hits: {hits(BLOG)}")
    assert ("Form", "sent", "contact") in events(hits(BLOG))
    assert [hit[1].endswith("/second") for hit in hits(BLOG) if hit[0] == "page"] == [False, True]


def test_words_that_look_like_an_attack_are_not_lost(
    visitor: BrowserContext, website: str, hits: Callable[..., Any]
) -> None:
    page = visitor.new_page()
    page.goto(f"{website}/{BLOG_PAGE}.html")
    page.evaluate("_paq.push(['trackEvent', 'Search', 'union all select (', \"<script>base64_encode('x')\"])")
    wait_for(lambda: ("Search", "union all select (") in [one[:2] for one in events(hits(BLOG))], f"{hits(BLOG)}")


def test_a_visitor_who_opts_out_leaves_no_trace(
    visitor: BrowserContext, website: str, hits: Callable[..., Any]
) -> None:
    page = visitor.new_page()
    page.goto(f"{website}/{BLOG_PAGE}.opt-out.html")
    page.click("#matomo-opt-out input[type=checkbox]")
    page.wait_for_timeout(300)

    page.goto(f"{website}/{BLOG_PAGE}.html", wait_until="networkidle")
    scroll_down(page)
    page.wait_for_timeout(1000)

    assert hits(BLOG) == []


def test_a_browser_that_asks_not_to_be_tracked_is_not(
    chromium: Browser, website: str, hits: Callable[..., Any]
) -> None:
    context = chromium.new_context(extra_http_headers={"DNT": "1"})
    page = context.new_page()
    page.goto(f"{website}/{BLOG_PAGE}.html", wait_until="networkidle")
    page.wait_for_timeout(1000)
    context.close()

    assert hits(BLOG) == []


@pytest.fixture
def guess(address: str, domain: str, variables: dict[str, Any], console: Callable[[str], str]) -> Iterator[Any]:
    """Try a token from this machine, as somebody who claims to be another; forgotten afterwards."""

    class Connection(HTTPSConnection):
        def connect(self) -> None:
            self.host, name = address, self.host
            super(HTTPSConnection, self).connect()
            context = ssl.create_default_context(cadata=variables["servers_private_ca"])
            self.sock = context.wrap_socket(self.sock, server_hostname=name)

    def attempt(token: str, *, claim: str) -> tuple[int, bytes]:
        connection = Connection(f"analytics.{domain}", timeout=20)
        form = {"module": "API", "format": "json", "method": "API.getMatomoVersion", "token_auth": token}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Forwarded-For": claim}
        connection.request("POST", "/index.php", urlencode(form), {**headers, "Host": f"analytics.{domain}"})
        answer = connection.getresponse()
        return answer.status, answer.read()

    yield attempt
    console("login:unblock-blocked-ips")


def test_who_guesses_is_locked_out_by_the_true_address_and_nobody_else(
    guess: Any, sql: Sql, api: Callable[..., Any]
) -> None:
    for number in range(20):
        guess("0" * 32, claim=f"198.51.100.{number}")

    status, body = guess("0" * 32, claim="203.0.113.5")

    assert {row[0] for row in sql("SELECT DISTINCT ip_address FROM matomo_brute_force_log")} == {gateway()}
    assert (status, b"too many failed logins" in body) == (403, True)
    assert "value" in api("API.getMatomoVersion")
