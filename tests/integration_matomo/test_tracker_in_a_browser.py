"""The stand-in's matomo.js in a real Chromium; the database is the judge of what arrived."""

from __future__ import annotations

import time
import typing as t

import pytest
from matomo import Box, Matomo, docker
from playwright.sync_api import Page, sync_playwright

from testbed import images

PAGE = """<!DOCTYPE html><title>Start</title><body>
<a id="pdf" href="/paper.pdf">paper</a> <a id="out" href="https://elsewhere.test/x">out</a>
<script>
var _paq = window._paq = window._paq || [];
BEFORE
_paq.push(['trackPageView']);
_paq.push(['enableLinkTracking']);
_paq.push(['setTrackerUrl', '/matomo.php']);
_paq.push(['setSiteId', '1']);
document.addEventListener('click', function (event) { event.preventDefault(); });
</script><script async src="/matomo.js"></script>"""


@pytest.fixture(scope="module")
def browser(box: Box) -> t.Iterator[t.Any]:
    name = f"{box.network}-browser"
    docker("run", "-d", "--name", name, "--network", box.network, images.build("browser"))
    address = docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
    try:
        with sync_playwright() as playwright:
            deadline = time.monotonic() + 30
            while True:
                try:
                    yield playwright.chromium.connect_over_cdp(f"http://{address}:9222")
                    break
                except Exception:
                    assert time.monotonic() < deadline, docker("logs", name)
                    time.sleep(0.3)
    finally:
        docker("rm", "-fv", name, check=False)


@pytest.fixture
def visit(matomo: Matomo, browser: t.Any) -> t.Iterator[t.Callable[[str], Page]]:
    for table in ("log_visit", "log_link_visit_action", "log_action"):
        matomo.sql(f"DELETE FROM {{{table}}};")
    context = browser.new_context()

    def open_page(before: str) -> Page:
        text = PAGE.replace("BEFORE", before)
        docker("exec", "-i", matomo.name, "sh", "-c", "cat > page.html", stdin=text)
        page: Page = context.new_page()
        page.goto(f"{matomo.url}/page.html")
        page.wait_for_function("window.Matomo && window.Matomo.initialized")
        return page

    yield open_page
    context.close()


def wait_for_actions(matomo: Matomo, count: int) -> list[list[str]]:
    """Type and name of the page, download or link of every hit, once as many have arrived."""
    deadline = time.monotonic() + 10
    while True:
        rows = matomo.sql(
            "SELECT a.type, SUBSTRING_INDEX(a.name, '/', -1), l.idaction_event_action IS NOT NULL FROM "
            "{log_link_visit_action} l JOIN {log_action} a ON a.idaction = l.idaction_url ORDER BY l.idlink_va;"
        )
        if len(rows) >= count:
            return rows
        assert time.monotonic() < deadline, rows
        time.sleep(0.1)


def cookies(page: Page) -> list[str]:
    return sorted(str(cookie["name"]).split(".")[0] for cookie in page.context.cookies())


def test_a_page_an_event_a_download_and_a_link_arrive(matomo: Matomo, visit: t.Callable[[str], Page]) -> None:
    page = visit("")
    wait_for_actions(matomo, 1)
    page.evaluate("_paq.push(['trackEvent', 'Scroll', 'depth', '25 %', 25])")
    wait_for_actions(matomo, 2)
    page.click("#pdf")
    wait_for_actions(matomo, 3)
    page.click("#out")

    assert wait_for_actions(matomo, 4) == [
        ["1", "page.html", "0"],
        ["1", "page.html", "1"],
        ["3", "paper.pdf", "0"],
        ["2", "x", "0"],
    ]
    assert matomo.sql("SELECT COUNT(*) FROM {log_visit};") == [["1"]]
    assert cookies(page) == ["_pk_id", "_pk_ses"]


def test_no_cookie_comes_before_consent(matomo: Matomo, visit: t.Callable[[str], Page]) -> None:
    page = visit("_paq.push(['requireCookieConsent']);")
    wait_for_actions(matomo, 1)
    before = cookies(page)
    page.evaluate("_paq.push(['rememberCookieConsentGiven'])")

    assert before == []
    assert cookies(page) == ["_pk_id", "_pk_ses", "mtm_cookie_consent"]


def test_nothing_is_sent_before_consent_and_then_everything(matomo: Matomo, visit: t.Callable[[str], Page]) -> None:
    page = visit("_paq.push(['requireConsent']);")
    time.sleep(0.5)
    before = matomo.sql("SELECT COUNT(*) FROM {log_visit};")
    page.evaluate("_paq.push(['rememberConsentGiven'])")

    assert before == [["0"]]
    assert wait_for_actions(matomo, 1) == [["1", "page.html", "0"]]


def test_without_cookies_there_are_none(matomo: Matomo, visit: t.Callable[[str], Page]) -> None:
    page = visit("_paq.push(['disableCookies']);")
    wait_for_actions(matomo, 1)

    assert cookies(page) == []


def test_forced_cookieless_tracking_wins_over_the_page(matomo: Matomo, visit: t.Callable[[str], Page]) -> None:
    assert matomo.config(privacy={"cookieless": True})["changed"] is True
    try:
        page = visit("")
        wait_for_actions(matomo, 1)
        page.evaluate("_paq.push(['setCookieConsentGiven'], ['trackEvent', 'a', 'b'])")
        wait_for_actions(matomo, 2)
    finally:
        matomo.config(privacy={"cookieless": False})

    assert cookies(page) == []


def test_an_unknown_method_is_reported_as_the_original_does(visit: t.Callable[[str], Page]) -> None:
    page = visit("")
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.evaluate("_paq.push(['noSuchMethod'])")

    assert any("noSuchMethod" in line for line in said)
