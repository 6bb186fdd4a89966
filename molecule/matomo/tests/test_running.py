"""Matomo in its daily life: reports by a timer, one at a time, and the end of old data."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import OnBox, Sql

ROWS = 50_000
# Days, as the role has it unless told otherwise.
KEEP = 180
OLD = f"visit_last_action_time < NOW() - INTERVAL {KEEP} DAY"
# Matomo's timetable, in the form in which PHP keeps it, at a moment when the purge is due.
PURGE = r"Piwik\Plugins\PrivacyManager\Tasks.deleteLogData"
AN_HOUR_LATER = f'a:1:{{s:{len(PURGE)}:"{PURGE}";i:1;}}'.replace("\\", r"\\")


def test_the_timer_makes_reports(on_box: OnBox, sql: Sql) -> None:
    assert on_box("systemctl is-active matomo-archive.timer").strip() == "active"
    assert on_box("systemctl is-enabled matomo-archive.timer").strip() == "enabled"

    on_box("systemctl start matomo-archive.service")

    (table,) = sql("SHOW TABLES LIKE 'matomo\\_archive\\_numeric\\_%'")[0]
    assert int(sql(f"SELECT COUNT(*) FROM {table}")[0][0]) > 0


def test_reports_are_never_made_twice_at_once(on_box: OnBox) -> None:
    on_box("flock /run/matomo.lock sh -c 'systemctl start matomo-archive.service'")
    assert "at work already" in on_box("journalctl --unit matomo-archive --lines 5 --output cat")


def test_reports_stay_within_the_memory_of_the_container(on_box: OnBox, console: Callable[[str], str]) -> None:
    limit = on_box("docker exec --user 33:33 matomo php -r 'echo ini_get(\"memory_limit\");'")
    assert limit == "160M"
    assert "160" in console("config:get General.minimum_memory_limit_when_archiving")
    # A zero reads as nothing.
    assert "Nothing found" in console("config:get General.enable_browser_archiving_triggering")


@pytest.fixture
def visits_of_long_ago(sql: Sql) -> None:
    """Copies of a visit and of something done in it, of many a time that is over and of one that is nearly."""

    def columns(table: str, number: str, *changed: str) -> str:
        found = sql(f"SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE()"
                    f" AND table_name = '{table}' AND extra NOT LIKE '%auto_increment%'")  # fmt: skip
        return ", ".join(f"`{row[0]}`" for row in found if row[0] not in (number, *changed))

    visit = columns("matomo_log_visit", "idvisit", "visit_last_action_time")
    one = "(SELECT * FROM matomo_log_visit ORDER BY idvisit DESC LIMIT 1) one"
    for rows, days in ((ROWS, 400), (1, KEEP - 1)):
        sql(f"INSERT INTO matomo_log_visit ({visit}, visit_last_action_time)"
            f" SELECT {visit}, NOW() - INTERVAL {days} DAY FROM {one} JOIN seq_1_to_{rows}")  # fmt: skip
    done = columns("matomo_log_link_visit_action", "idlink_va", "idvisit", "server_time")
    of_one = ", ".join(f"one.{column}" for column in done.split(", "))
    sql(f"INSERT INTO matomo_log_link_visit_action ({done}, idvisit, server_time)"
        f" SELECT {of_one}, visit.idvisit, visit.visit_last_action_time"
        f" FROM (SELECT * FROM matomo_log_link_visit_action LIMIT 1) one"
        f" JOIN matomo_log_visit visit ON visit.visit_last_action_time < NOW() - INTERVAL 100 DAY")  # fmt: skip


@pytest.mark.usefixtures("visits_of_long_ago")
def test_the_timer_deletes_what_is_older_than_wanted_and_the_database_outlives_it(on_box: OnBox, sql: Sql) -> None:
    state = "docker inspect --format '{{.State.StartedAt}} {{.RestartCount}}' matomo matomo-db"
    before = on_box(state)
    assert int(sql(f"SELECT COUNT(*) FROM matomo_log_visit WHERE {OLD}")[0][0]) == ROWS
    recent = sql(f"SELECT idvisit FROM matomo_log_visit WHERE NOT {OLD} ORDER BY idvisit")
    done = sql("SELECT COUNT(*) FROM matomo_log_link_visit_action WHERE server_time > NOW() - INTERVAL 200 DAY")

    # Matomo puts the task on its timetable, then notes the first time, and deletes at the second.
    for _hour in range(3):
        sql(f"UPDATE matomo_option SET option_value = '{AN_HOUR_LATER}' WHERE option_name = 'TaskScheduler.timetable'")
        on_box("systemctl start matomo-archive.service")

    assert sql(f"SELECT COUNT(*) FROM matomo_log_visit WHERE {OLD}") == [["0"]]
    assert sql(f"SELECT idvisit FROM matomo_log_visit WHERE NOT {OLD} ORDER BY idvisit") == recent
    assert sql("SELECT COUNT(*) FROM matomo_log_link_visit_action") == done
    assert on_box(state) == before
