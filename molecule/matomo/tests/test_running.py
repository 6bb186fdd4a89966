"""Matomo in its daily life: reports by a timer, one at a time, and the end of old data."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import OnBox, Sql

ROWS = 50_000
OLD = "visit_last_action_time < NOW() - INTERVAL 300 DAY"


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
def many_old_visits(sql: Sql) -> None:
    """Copies of a visit and of something done in it, from a time that is over."""

    def columns(table: str, number: str, *changed: str) -> str:
        found = sql(f"SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE()"
                    f" AND table_name = '{table}' AND extra NOT LIKE '%auto_increment%'")  # fmt: skip
        return ", ".join(f"`{row[0]}`" for row in found if row[0] not in (number, *changed))

    visit = columns("matomo_log_visit", "idvisit", "visit_last_action_time")
    sql(f"INSERT INTO matomo_log_visit ({visit}, visit_last_action_time) SELECT {visit}, NOW() - INTERVAL 400 DAY"
        f" FROM (SELECT * FROM matomo_log_visit LIMIT 1) one JOIN seq_1_to_{ROWS}")  # fmt: skip
    done = columns("matomo_log_link_visit_action", "idlink_va", "idvisit", "server_time")
    of_one = ", ".join(f"one.{column}" for column in done.split(", "))
    sql(f"INSERT INTO matomo_log_link_visit_action ({done}, idvisit, server_time)"
        f" SELECT {of_one}, visit.idvisit, NOW() - INTERVAL 400 DAY"
        f" FROM (SELECT * FROM matomo_log_link_visit_action LIMIT 1) one"
        f" JOIN matomo_log_visit visit ON visit.{OLD}")  # fmt: skip


@pytest.mark.usefixtures("many_old_visits")
def test_a_big_purge_does_not_end_the_database(on_box: OnBox, sql: Sql, console: Callable[[str], str]) -> None:
    state = "docker inspect --format '{{.State.StartedAt}} {{.RestartCount}}' matomo matomo-db"
    before = on_box(state)
    assert int(sql(f"SELECT COUNT(*) FROM matomo_log_visit WHERE {OLD}")[0][0]) == ROWS
    recent = sql(f"SELECT COUNT(*) FROM matomo_log_visit WHERE NOT {OLD}")

    console("core:delete-logs-data --dates=2000-01-01,2026-01-01 --no-interaction")

    assert sql(f"SELECT COUNT(*) FROM matomo_log_visit WHERE {OLD}") == [["0"]]
    assert sql(f"SELECT COUNT(*) FROM matomo_log_visit WHERE NOT {OLD}") == recent
    assert sql("SELECT COUNT(*) FROM matomo_log_link_visit_action WHERE server_time < NOW() - INTERVAL 300 DAY") == [
        ["0"]
    ]
    assert on_box(state) == before
