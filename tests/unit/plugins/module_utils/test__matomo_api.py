"""The client of Matomo, against answers recorded from 5.2.0-b5 and the pages it says no with."""

from __future__ import annotations

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_api import (
    LockedOut,
    MatomoError,
    NotInstalled,
    Refused,
    TokenRejected,
    Unreachable,
    canonical_url,
    check_url,
    words_of,
)
from tests.unit.plugins.module_utils.matomo_line import (
    BAD_GATEWAY,
    INSTALLED,
    NO_DATABASE,
    RECORDED,
    WIZARD,
    Answer,
    Line,
)


def test_a_value_is_unpacked_and_lists_come_as_they_are() -> None:
    line = Line("version", "sites", "update site")
    api = line.api()

    assert api.call("API.getMatomoVersion") == "5.2.0-b5"
    assert api.call("SitesManager.getAllSites")[0]["name"] == "Example"
    assert api.call("SitesManager.updateSite") == {"result": "success", "message": "ok"}


def test_the_token_is_posted_and_the_public_name_is_the_host() -> None:
    line = Line("version")

    line.api().call("API.getMatomoVersion", {"idSite": 7})

    method, path, form = line.asked[0]
    assert (method, path) == ("POST", "/index.php")
    assert form["token_auth"] == ["a" * 32]
    assert form["idSite"] == ["7"]
    assert line.headers[0]["Host"] == "analytics.example.org"
    assert line.headers[0]["X-Forwarded-Proto"] == "https"


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("create token, wrong password", "The current password you entered is not correct"),
        ("delete site", "website id = 3 not found"),
        ("unknown site", "website id was set to '99'"),
        ("unknown method", "Settings > Plugins page"),
        ("add user again", "already exists"),
        ("anonymise, missing parameter", "anonymizeIPEnable"),
        ("delete old logs", "Please enter your password"),
    ],
)
def test_an_error_hidden_in_http_200_is_an_error(label: str, said: str) -> None:
    assert RECORDED[label]["status"] == 200
    with pytest.raises(Refused, match=said.replace("(", ".")) as failure:
        Line(label).api().call("Some.method")

    assert str(failure.value).endswith(".")
    assert not str(failure.value).endswith("..")


@pytest.mark.parametrize(
    "answer",
    [
        "sites without token",
        (401, "", b"<html>Unable to authenticate with the provided token.</html>"),
        (200, "", b"<html>Unable to authenticate with the provided token.</html>"),
    ],
)
def test_a_refused_token_is_told_from_other_errors(answer: Answer) -> None:
    with pytest.raises(TokenRejected, match="run matomo_install"):
        Line(answer).api().call("SitesManager.getAllSites")


def test_without_a_token_missing_rights_are_an_ordinary_refusal() -> None:
    with pytest.raises(Refused, match="requires view access"):
        Line("version without token").api(token=None).call("API.getMatomoVersion")


@pytest.mark.parametrize("status", [200, 401, 403])
def test_the_page_of_a_lockout_is_recognised_whatever_its_status(status: int) -> None:
    page = b"<html>You are currently not allowed to log in because you had too many failed logins</html>"

    with pytest.raises(LockedOut, match="login:unblock-blocked-ips"):
        Line((status, "", page)).api().call("API.getMatomoVersion")


@pytest.mark.parametrize(
    "answers",
    [
        (WIZARD, "tracker before install"),
        ((302, "index.php?module=Installation&action=welcome", b""),),
    ],
)
def test_the_wizard_in_place_of_data_means_not_installed(answers: tuple[Answer, ...]) -> None:
    with pytest.raises(NotInstalled, match="run matomo_install first"):
        Line(*answers).api().call("API.getMatomoVersion")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, "", b'{"result":"error","message":"Database Upgrade Required. Your Matomo database"}'), "core:update"),
        ((302, "index.php?module=CoreUpdater", b""), "core:update"),
        ((302, "https://analytics.example.org/index.php", b""), "X-Forwarded-Proto"),
        ((500, "", b"SQLSTATE[HY000] [1045] Access denied for user 'matomo'@'db'"), "MariaDB refuses the account"),
    ],
)
def test_what_is_wrong_with_an_installed_matomo_is_told_with_the_remedy(answer: Answer, said: str) -> None:
    with pytest.raises(MatomoError, match=said):
        Line(answer).api().call("API.getMatomoVersion")


def test_an_unknown_page_is_quoted() -> None:
    page = (200, "", b"<style>x</style><p>Hello</p><div class='alert alert-danger'>The <b>disk</b> is full.</div>")

    with pytest.raises(MatomoError, match=r"The disk is full\."):
        Line(page, INSTALLED).api().call("API.getMatomoVersion")


def test_a_start_is_waited_for() -> None:
    line = Line(ConnectionRefusedError("refused"), BAD_GATEWAY, NO_DATABASE, "version")

    assert line.api().call("API.getMatomoVersion") == "5.2.0-b5"
    assert line.slept == 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [(BAD_GATEWAY, "HTTP 502"), (NO_DATABASE, "its database does not answer"), (TimeoutError("slow"), "slow")],
)
def test_waiting_ends(answer: Answer, said: str) -> None:
    with pytest.raises(Unreachable, match=said):
        Line(*[answer] * 9).api().call("API.getMatomoVersion")


@pytest.mark.parametrize("trouble", [TimeoutError("slow"), BAD_GATEWAY, NO_DATABASE])
def test_what_may_have_been_done_is_not_done_again(trouble: Answer) -> None:
    line = Line(trouble, "add site")

    with pytest.raises(Unreachable, match="run this again"):
        line.api().call("SitesManager.addSite", repeatable=False)

    assert len(line.asked) == 1


def test_what_was_refused_at_the_door_is_tried_again() -> None:
    line = Line(ConnectionRefusedError("refused"), "add site")

    assert line.api().call("SitesManager.addSite", repeatable=False) == 2


def test_an_impatient_look_takes_a_refused_connection_for_an_answer() -> None:
    line = Line(ConnectionRefusedError("refused"))

    with pytest.raises(Unreachable, match="Nothing answers"):
        line.api().is_installed(patient=False)

    assert line.slept == 0


@pytest.mark.parametrize(("answer", "installed"), [("tracker before install", False), (INSTALLED, True)])
def test_the_tracker_tells_whether_it_is_installed(answer: Answer, installed: bool) -> None:
    assert Line(answer).api().is_installed() is installed


def test_an_alert_comes_before_the_rest_of_a_page_and_one_sentence_is_enough() -> None:
    page = "<h1>Setup</h1><script>bad()</script><p class='error'>It   failed &amp; stopped. Try again.</p>"

    assert words_of(page) == "It failed & stopped"
    assert words_of("<h1>Setup</h1> page") == "Setup page"


@pytest.mark.parametrize(
    "url", ["https://example.org", "http://example.org:8080/path", "https://xn--bcher-kva.example/", "https://[::1]/"]
)
def test_addresses_of_sites_are_taken(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://example.org",
        "https://",
        "https://exa mple.org",
        "https://x:99999",
        "https://a'b",
        "https://.example.org",
        "javascript:alert(1)",
    ],
)
def test_other_text_is_no_address(url: str) -> None:
    with pytest.raises(MatomoError, match="no address of a site"):
        check_url(url)


def test_a_slash_at_the_end_is_not_stored() -> None:
    assert canonical_url(" https://example.org/shop/ ") == "https://example.org/shop"
