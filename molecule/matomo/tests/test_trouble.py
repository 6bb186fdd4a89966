"""Accidents, upgrades that hold and one that does not, and everything off and on again. The order counts."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from conftest import OnBox, Sql

Play = Callable[..., subprocess.CompletedProcess[str]]

OLD, NEW = "5.13.0", "5.14.0"
BROKEN = f"matomo:{NEW}-fpm-broken"
HTML = "/opt/servers/matomo/data/html"
PLACES = "SELECT option_value FROM matomo_option WHERE option_name = 'usercountry.location_provider'"
SITES = "SELECT idsite, main_url FROM matomo_site ORDER BY idsite"


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stdout.split())


@pytest.fixture
def version(on_box: OnBox, sql: Sql) -> Callable[[], tuple[str, str, str]]:
    """The version of the files, of the tables and of the container."""

    def read() -> tuple[str, str, str]:
        files = on_box(f'grep -oE "[0-9]+[.][0-9]+[.][0-9]+" {HTML}/core/Version.php | head -n 1').strip()
        tables = sql("SELECT option_value FROM matomo_option WHERE option_name = 'version_core'")[0][0]
        return files, tables, on_box("docker inspect --format '{{.Config.Image}}' matomo").strip()

    return read


@pytest.fixture
def track(on_box: OnBox, domain: str, sql: Sql) -> Callable[[], bool]:
    """Track a page as the proxy would hand it on, and tell whether it is in the database."""

    def hit() -> bool:
        count = "SELECT COUNT(*) FROM matomo_log_link_visit_action"
        before = int(sql(count)[0][0])
        url = f"http://127.0.0.1:8080/matomo.php?idsite=1&rec=1&send_image=0&url=https%3A%2F%2Fshop.{domain}%2F"
        headers = (
            f"-H 'Host: analytics.{domain}' -H 'X-Forwarded-Proto: https' -A 'Mozilla/5.0 (X11; Linux) Firefox/140'"
        )
        on_box(f"docker exec matomo-web curl -sf {headers} {shlex.quote(url)}")
        return int(sql(count)[0][0]) == before + 1

    return hit


def test_another_password_of_the_database_stops_before_any_change(play: Play) -> None:
    done = play(matomo_database_password="not the right one")

    assert done.returncode != 0
    assert "database refuses matomo_database_password" in said(done)
    assert "changed=0" in said(done)


def test_places_that_cannot_be_fetched_stop_before_any_change(play: Play, website: str) -> None:
    done = play(matomo_geoip_url=f"{website}/none.mmdb")

    assert done.returncode != 0
    assert "/none.mmdb cannot be fetched (HTTP Error 404: File not found): check matomo_geoip_url." in said(done)
    assert "changed=0" in said(done)


def test_an_upgrade_that_fails_leaves_everything_as_it_was(
    play: Play, on_box: OnBox, sql: Sql, version: Any, track: Any
) -> None:
    on_box(
        f"docker pull -q matomo:{NEW}-fpm && docker create --name broken matomo:{NEW}-fpm"
        " && printf '#!/bin/sh\\nexit 1\\n' >/root/php-fpm && chmod 0755 /root/php-fpm"
        " && docker cp /root/php-fpm broken:/usr/local/sbin/php-fpm && rm /root/php-fpm"
        f" && docker commit broken {BROKEN} && docker rm broken"
    )
    before = sql(SITES)
    on_box(f"install -d -o 33 -g 33 {HTML}/plugins/Own && echo mine >{HTML}/plugins/Own/plugin.json")

    done = play(matomo_image=BROKEN)

    assert done.returncode != 0
    assert f"is back at {OLD}" in said(done)
    assert version() == (OLD, OLD, f"matomo:{OLD}-fpm")
    assert sql(SITES) == before
    assert track()


def test_an_upgrade_keeps_all_that_is_the_user_s(play: Play, on_box: OnBox, sql: Sql, version: Any, track: Any) -> None:
    before = sql(SITES)
    on_box(f"echo logo >{HTML}/misc/user/logo.svg")

    done = play(matomo_image=f"matomo:{NEW}-fpm")

    assert done.returncode == 0, done.stdout
    assert version() == (NEW, NEW, f"matomo:{NEW}-fpm")
    assert sql(SITES) == before
    assert on_box(f"cat {HTML}/misc/user/logo.svg {HTML}/plugins/Own/plugin.json") == "logo\nmine\n"
    assert on_box(f"ls -d {HTML}.* 2>/dev/null || true") == ""
    assert "Dump completed" in on_box("zcat /opt/servers/matomo/data/upgrade/before-*.sql.gz | tail -n 1")
    assert track()


def test_a_step_back_is_refused(play: Play, version: Any) -> None:
    done = play(matomo_image=f"matomo:{OLD}-fpm")

    assert done.returncode != 0
    assert "Matomo cannot go back, so give 5.14.0 or newer" in said(done)
    assert version()[0] == NEW


def test_absent_removes_all_that_runs_and_keeps_the_data(
    play: Play, on_box: OnBox, sql: Sql, request_site: Callable[..., Any], domain: str
) -> None:
    # Revoked by hand meanwhile.
    sql("DELETE FROM matomo_user_token_auth")

    done = play(servers_services=["npm"])

    assert done.returncode == 0, done.stdout
    assert on_box("docker ps -aq --filter name=^matomo") == ""
    assert on_box("ls /etc/systemd/system/ | grep matomo || true") == ""
    assert request_site(f"analytics.{domain}", tls=False)[0] == 404
    assert on_box("test -s /opt/servers/matomo/data/db/ibdata1 && echo kept").strip() == "kept"


def test_present_again_has_everything_as_before_a_new_token_and_places(
    play: Play, sql: Sql, track: Any, on_box: OnBox, website: str
) -> None:
    done = play(matomo_image=f"matomo:{NEW}-fpm", matomo_geoip_url=f"{website}/places.mmdb.gz")

    assert done.returncode == 0, done.stdout
    assert int(sql("SELECT COUNT(*) FROM matomo_log_visit")[0][0]) > 0
    assert len(sql(SITES)) == 3
    assert sql("SELECT COUNT(*) FROM matomo_user_token_auth") == [["1"]]
    assert on_box(f"grep -ac MaxMind.com {HTML}/misc/DBIP-City.mmdb").strip() == "1"
    assert sql(PLACES) == [["geoip2php"]]
    assert track()


def test_a_half_made_installation_is_finished_and_places_are_off_again(
    play: Play, on_box: OnBox, sql: Sql, domain: str, request_site: Callable[..., Any]
) -> None:
    on_box(f"rm {HTML}/config/config.ini.php")
    sql("DROP DATABASE matomo; CREATE DATABASE matomo")
    form = {
        "type": "InnoDB", "host": "matomo-db", "username": "matomo", "dbname": "matomo", "tables_prefix": "matomo_",
        "adapter": "PDO\\MYSQL", "schema": "Mariadb", "submit": "Next",
    }  # fmt: skip
    data = " ".join(f"--data-urlencode {shlex.quote(f'{key}={value}')}" for key, value in form.items())
    headers = f"-H 'Host: analytics.{domain}' -H 'X-Forwarded-Proto: https'"
    on_box(
        f"docker exec matomo-db cat /run/secrets/password | docker exec -i matomo-web curl -sf {headers} {data}"
        " --data-urlencode password@- 'http://127.0.0.1:8081/index.php?action=databaseSetup'"
        f" && docker exec matomo-web curl -sf {headers}"
        " 'http://127.0.0.1:8081/index.php?action=tablesCreation&module=Installation'"
    )
    assert request_site(f"analytics.{domain}", "/?action=setupSuperUser")[0] == 503

    done = play(matomo_image=f"matomo:{NEW}-fpm")

    assert done.returncode == 0, done.stdout
    assert [row[1] for row in sql(SITES)] == [f"https://{name}.{domain}" for name in ("shop", "blog", "club")]
    assert sql(PLACES) == [["default"]]
    assert on_box(f"ls {HTML}/misc | grep DBIP || true") == ""
