"""What is checked before the wizard's forms are sent, and how their answers are read."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_api import LockedOut, MatomoError
from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_install import (
    Installation,
    check_wanted,
    install,
)
from tests.unit.plugins.module_utils.matomo_line import INSTALLED, Answer, Line

WANTED = Installation(
    database_host="db",
    database_name="matomo",
    database_username="matomo",
    database_password="database secret",
    database_prefix="m_",
    admin_login="admin",
    admin_email="admin@example.org",
    admin_password="admin secret",
    site_name="Example",
    site_url="https://example.org",
    site_timezone="UTC",
    token_description="Ansible",
)
TOKEN = (200, "", b'{"value":"' + b"0" * 32 + b'"}')
FORMS: list[Answer] = ["wizard: database", "wizard: tables", "wizard: super user", "wizard: first site"]


def test_a_sound_installation_passes() -> None:
    check_wanted(WANTED)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"admin_password": "short"}, "5 characters"),
        ({"admin_email": "nobody"}, "admin_email"),
        ({"admin_login": "a b"}, "admin_login"),
        ({"database_prefix": "a-b"}, "database_prefix"),
        ({"site_name": " "}, "no name"),
        ({"site_url": ""}, "no urls"),
        ({"site_url": "example.org"}, "https://www.example.org"),
    ],
)
def test_mistakes_are_told_in_one_sentence(changes: dict[str, str], said: str) -> None:
    with pytest.raises(MatomoError, match=said) as failure:
        check_wanted(replace(WANTED, **changes))

    assert str(failure.value).count(". ") == 0


def test_secrets_are_in_no_representation() -> None:
    assert "secret" not in repr(WANTED)


def test_the_forms_are_sent_in_order_and_a_token_is_made() -> None:
    line = Line(
        "tracker before install", *FORMS, "wizard: finish", INSTALLED, "version without token", TOKEN, "version"
    )

    outcome = install(line.api(token=None), WANTED)

    assert (outcome.changed, outcome.installed, outcome.token, outcome.version) == (True, False, "0" * 32, "5.2.0-b5")
    steps = [path.partition("action=")[2].partition("&")[0] for _method, path, _form in line.asked[1:6]]
    assert steps == ["databaseSetup", "tablesCreation", "setupSuperUser", "firstWebsiteSetup", "finished"]
    assert line.asked[1][2]["adapter"] == ["PDO\\MYSQL"]
    assert line.asked[1][2]["schema"] == ["Mariadb"]


def test_a_dry_run_asks_whether_it_is_installed_and_nothing_else() -> None:
    line = Line("tracker before install")

    outcome = install(line.api(token=None), WANTED, check=True)

    assert (outcome.changed, outcome.token) == (True, None)
    assert len(line.asked) == 1


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (["wizard: wrong database password"], "MariaDB refuses"),
        ([(200, "", b"<p class=alert>Could not connect to the database: Access denied</p>")], "MariaDB refuses"),
        (["wizard: database", (500, "", b"<p>No space left.</p>")], "could not create its tables .*No space left"),
        ([*FORMS[:2], (200, "", b"<p class='alert'>Not valid.</p>")], "could not make the administrator .*Not valid"),
        ([*FORMS, "wizard: finish", "tracker before install"], "still says that it is not installed"),
    ],
)
def test_a_form_that_is_refused_stops_with_what_matomo_says(answers: list[Answer], said: str) -> None:
    line = Line("tracker before install", *answers)

    with pytest.raises(MatomoError, match=said) as failure:
        install(line.api(token=None), WANTED)

    assert "secret" not in str(failure.value)


def test_somebody_else_who_was_faster_is_no_mistake() -> None:
    over = (200, "", b"<p class='alert'>Matomo is already installed</p>")
    line = Line("tracker before install", over, "version without token", TOKEN, "version")

    assert install(line.api(token=None), WANTED).token == "0" * 32


def test_a_good_token_is_kept() -> None:
    line = Line(INSTALLED, "version", "sites")

    outcome = install(line.api(), WANTED)

    assert (outcome.changed, outcome.token) == (False, "a" * 32)


@pytest.mark.parametrize(
    "refusal",
    [
        [(401, "", b"<html>Unable to authenticate with the provided token.</html>")],
        ["version", "sites without token"],
    ],
)
def test_a_revoked_or_weak_token_is_replaced(refusal: list[Answer]) -> None:
    line = Line(INSTALLED, *refusal, TOKEN, "version")

    outcome = install(line.api(), WANTED)

    assert (outcome.changed, outcome.installed, outcome.token_created, outcome.token) == (True, True, True, "0" * 32)
    assert "token_auth" not in line.asked[-2][2]


def test_a_wrong_password_is_told() -> None:
    line = Line(INSTALLED, "version without token", "create token, wrong password")

    with pytest.raises(MatomoError, match="refuses the password of admin"):
        install(line.api(token=None), WANTED)


def test_a_lockout_is_not_taken_for_a_revoked_token() -> None:
    line = Line(INSTALLED, (403, "", b"<html>too many failed logins</html>"))

    with pytest.raises(LockedOut):
        install(line.api(), WANTED)

    assert len(line.asked) == 2


def test_something_else_than_a_token_is_not_returned() -> None:
    odd: tuple[int, str, bytes] = (200, "", b'{"value":"please log in"}')

    with pytest.raises(MatomoError, match="something else"):
        install(Line(INSTALLED, "version without token", odd).api(token=None), WANTED)


def test_the_diff_names_no_secret() -> None:
    shown: dict[str, t.Any] = install(Line("tracker before install").api(token=None), WANTED, check=True).diff(WANTED)

    assert shown["after"]["administrator"] == "admin"
    assert shown["after"]["token"] == "(new)"
    assert "secret" not in str(shown)
