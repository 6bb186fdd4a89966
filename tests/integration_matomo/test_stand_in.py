"""What the stand-in does beyond the recorded exchanges: container, tracker, retention, update."""

from __future__ import annotations

import typing as t

import pytest
from matomo import HOST, PASSWORD, Box, Matomo, docker

from testbed import images

BROWSER = {"User-Agent": "Mozilla/5.0 (test)", "Accept-Language": "en"}


@pytest.fixture
def clean(matomo: Matomo) -> Matomo:
    for table in ("log_visit", "log_link_visit_action", "log_action", "option"):
        matomo.sql(f"DELETE FROM {{{table}}} WHERE 1" + (" AND option_name LIKE 'Pri%';" if table == "option" else ";"))
    return matomo


def visits(matomo: Matomo, columns: str) -> list[list[str]]:
    return matomo.sql(f"SELECT {columns} FROM {{log_visit}} ORDER BY idvisit;")


def anonymise(matomo: Matomo, **parameters: str) -> None:
    every = {"anonymizeIPEnable": "1", "maskLength": "2", "useAnonymizedIpForVisitEnrichment": "0"}
    assert matomo.api("PrivacyManager.setAnonymizeIpSettings", **{**every, **parameters}).data == {"value": True}


def test_a_page_view_an_event_and_a_download_become_rows_of_one_visit(clean: Matomo) -> None:
    clean.hit(action_name="Home", headers=BROWSER)
    clean.hit(e_c="Scroll", e_a="depth", e_n="50", e_v="50", headers=BROWSER)
    clean.hit(download="https://example.org/a.pdf", headers=BROWSER)

    assert visits(clean, "idsite, visit_total_actions, visit_total_events") == [["1", "2", "1"]]
    actions = clean.sql(
        "SELECT a.type, a.name, a.url_prefix FROM {log_action} a JOIN {log_link_visit_action} l"
        " ON a.idaction IN (l.idaction_url, l.idaction_name, l.idaction_event_action) ORDER BY l.idlink_va, a.type;"
    )
    assert ["1", "example.org/", "2"] in actions
    assert {(row[0], row[1]) for row in actions} >= {("4", "Home"), ("11", "depth"), ("12", "50")}
    assert ["3", "example.org/a.pdf", "2"] in actions


@pytest.mark.parametrize(
    ("mask", "enable", "kept"), [("2", "1", "CB000000"), ("1", "1", "CB007100"), ("2", "0", "CB007109")]
)
def test_an_address_is_stored_as_short_as_wanted(clean: Matomo, mask: str, enable: str, kept: str) -> None:
    clean.console("config:set", 'General.proxy_client_headers=["HTTP_X_FORWARDED_FOR"]')
    anonymise(clean, maskLength=mask, anonymizeIPEnable=enable)

    clean.hit(headers={**BROWSER, "X-Forwarded-For": "198.51.100.1, 203.0.113.9"})

    assert visits(clean, "HEX(location_ip)") == [[kept]]


def test_who_asks_not_to_be_tracked_is_not(clean: Matomo) -> None:
    assert clean.hit(headers={**BROWSER, "DNT": "1"}).status == 204
    assert clean.hit(headers={**BROWSER, "Cookie": "matomo_ignore=x"}).status == 204
    assert visits(clean, "idvisit") == []

    clean.api("PrivacyManager.deactivateDoNotTrack")
    clean.hit(headers={**BROWSER, "DNT": "1"})
    assert len(visits(clean, "idvisit")) == 1


def test_cookieless_mode_rewrites_the_tracker_and_forgets_the_visitors_number(clean: Matomo) -> None:
    plain = clean.send("GET", "/matomo.js").text
    anonymise(clean, forceCookielessTracking="1")
    clean.hit(_id="0123456789abcdef", headers=BROWSER)
    forced = clean.send("GET", "/matomo.js").text
    anonymise(clean, forceCookielessTracking="0")

    assert "matomoForceCookieless = true" not in plain
    assert "matomoForceCookieless = true" in forced
    assert clean.send("GET", "/matomo.js").text == plain
    assert visits(clean, "HEX(idvisitor)") != [["0123456789ABCDEF"]]


def test_an_image_is_answered_where_one_is_wanted(clean: Matomo) -> None:
    answer = clean.hit(send_image=1, headers=BROWSER)

    assert (answer.status, answer.headers["content-type"]) == (200, "image/gif")
    assert answer.text.startswith("GIF89a")


def test_a_beacon_and_a_bulk_request_are_read_as_well(clean: Matomo) -> None:
    clean.send("POST", "/matomo.php", {"idsite": 1, "rec": 1, "url": "https://example.org/beacon"})
    bulk = '{"requests": ["?idsite=1&rec=1&url=https://example.org/bulk", "?idsite=99&rec=1"]}'
    answer = clean.send("POST", "/matomo.php", body=bulk)

    assert answer.data == {"status": "success", "tracked": 1, "invalid": 1}
    names = [row[0] for row in clean.sql("SELECT name FROM {log_action} WHERE type = 1;")]
    assert sorted(names) == ["example.org/beacon", "example.org/bulk"]


def test_archiving_makes_reports(clean: Matomo) -> None:
    clean.hit(headers=BROWSER)

    said = clean.console("core:archive", f"--url=https://{HOST}/", "--concurrent-archivers=1")

    assert "Done archiving!" in said
    assert clean.api("VisitsSummary.get", idSite=1, period="day", date="today").data["nb_visits"] == 1


def test_a_purge_is_put_on_the_timetable_first_then_on_the_next_day_that_it_is_due(clean: Matomo) -> None:
    clean.hit(headers=BROWSER)
    clean.hit(_id="0123456789abcdef", headers={"User-Agent": "old"})
    clean.sql("UPDATE {log_visit} SET visit_last_action_time = '2020-01-01' WHERE idvisitor = 0x0123456789abcdef;")
    clean.sql("DELETE FROM {option} WHERE option_name LIKE 'lastDelete_%' OR option_name LIKE 'TaskScheduler.%';")
    clean.config(privacy={"delete_logs_older_than_days": 30})
    an_hour_later = (
        "UPDATE {option} SET option_value = REGEXP_REPLACE(option_value, 'i:[0-9]+;', 'i:1;')"
        " WHERE option_name = 'TaskScheduler.timetable';"
    )

    left = []
    for _hour in range(3):
        clean.console("core:archive")
        left.append(len(visits(clean, "idvisit")))
        clean.sql(an_hour_later)
    clean.sql("UPDATE {log_visit} SET visit_last_action_time = '2020-01-01';")
    clean.console("core:archive")

    assert [*left, len(visits(clean, "idvisit"))] == [2, 2, 1, 1]


def test_archiving_lifts_the_memory_limit_unless_told_otherwise(clean: Matomo) -> None:
    assert "Memory limit: 768M" in clean.console("core:archive")
    clean.console("config:set", "General.minimum_memory_limit_when_archiving=128")
    assert "Memory limit: 256M" in clean.console("core:archive")


def test_the_user_interfaces_purge_is_closed_where_the_file_decides(clean: Matomo) -> None:
    clean.config(privacy={"delete_logs_older_than_days": 30})

    answer = clean.api("PrivacyManager.executeDataPurge", passwordConfirmation=PASSWORD)

    assert "disabled by Matomo admins" in answer.data["message"]


def test_a_visitor_can_opt_out(clean: Matomo) -> None:
    page = clean.send("GET", "/index.php?module=CoreAdminHome&action=optOut")
    refused = clean.send("POST", "/index.php?module=CoreAdminHome&action=optOut", {"optout": "1"})
    script = clean.send("GET", "/index.php?module=CoreAdminHome&action=optOutJS&divId=here")

    assert "Do not measure me" in page.text
    assert refused.headers["set-cookie"].startswith("matomo_ignore=")
    assert script.headers["content-type"].startswith("application/javascript")
    assert '"here"' in script.text


def test_a_zero_is_nothing_to_config_get(clean: Matomo) -> None:
    assert clean.console("config:get", "General.force_ssl") == "Nothing found"


def test_secrets_come_from_files_into_the_wizards_form(box: Box, tmp_path: t.Any) -> None:
    secret = tmp_path / "password"
    secret.write_text("from a file\n", encoding="utf-8")
    files = ("-v", f"{secret}:/run/secrets/db:ro", "-e", "MATOMO_DATABASE_PASSWORD_FILE=/run/secrets/db")
    matomo = box.start(*files, "-e", "MATOMO_DATABASE_HOST=db")

    form = matomo.send("GET", "/index.php?action=databaseSetup").text

    assert 'value="from a file"' in form
    assert 'value="db"' in form
    both = docker("run", "--rm", *files, "-e", "MATOMO_DATABASE_PASSWORD=x", matomo.image, check=False)
    assert "are set (but are exclusive)" in both


def test_it_needs_no_root_no_capability_and_no_writable_image(box: Box) -> None:
    confined = ("--user", "33:33", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--memory", "224m")
    matomo = box.start(*confined, "--security-opt", "no-new-privileges")

    result = matomo.install()

    assert result.get("installed") is False, result
    assert matomo.inside("id", "-u") == "33"


def test_a_newer_image_leaves_the_volume_as_it_is_and_a_newer_tree_needs_its_update(box: Box) -> None:
    matomo = box.start(version="5.13.0")
    matomo.token = matomo.install()["token"]
    matomo.hit(headers=BROWSER)

    matomo.replace(images.build("matomo-stand-in"))
    assert matomo.api("API.getMatomoVersion").data == {"value": "5.13.0"}

    # What the entrypoint does not do: the new tree over the old one, configuration kept.
    matomo.inside("sh", "-c", "cp -a /usr/src/matomo/. /var/www/html/ && chown -R www-data:www-data .")
    docker("restart", "-t", "1", matomo.name)
    matomo.wait_until_up()
    assert "Database Upgrade Required" in matomo.api("API.getMatomoVersion").data["message"]
    assert matomo.hit(headers={"User-Agent": "new"}).status == 500

    assert "successfully updated" in matomo.console("core:update", "--yes")
    assert matomo.api("API.getMatomoVersion").data == {"value": "5.14.0"}
    assert matomo.hit(headers={"User-Agent": "new"}).status == 204
    assert len(visits(matomo, "idvisit")) == 2
    assert "up to date" in matomo.console("core:update", "--yes")
