"""matomo_install, from a Matomo nobody has touched to one whose token was revoked."""

from __future__ import annotations

import time

import pytest
from matomo import DATABASE_PASSWORD, HOST, PASSWORD, SITE, Matomo, Result, finish_module, run_module, start_module

Steps = list[Result]


@pytest.fixture(scope="module")
def steps(fresh: Matomo) -> Steps:
    """Check, run, and with the token that came of it check and run again."""
    results = [fresh.install(check=True), fresh.install()]
    fresh.token = results[1].get("token")
    return [*results, *(fresh.install(token=fresh.token, check=check) for check in (True, False))]


def one_sentence(result: Result) -> str:
    assert result.get("failed") is True, result
    message = str(result["msg"])
    assert message.count(". ") == 0, message
    assert "\n" not in message
    return message


def test_everything_is_done_once(steps: Steps) -> None:
    assert not any(step.get("failed") for step in steps), steps
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert [step["installed"] for step in steps] == [False, False, True, True]
    assert [step["token_created"] for step in steps] == [True, True, False, False]


def test_a_dry_run_touches_nothing_and_says_what_would_come(bare: Matomo) -> None:
    result = bare.install(check=True)

    assert result["diff"]["after"]["administrator"] == "admin"
    assert result["diff"]["after"]["first_site"]["url"] == "https://example.org"
    assert bare.send("GET", "/matomo.php").text.startswith("As Matomo is not installed yet")
    assert bare.sql("SHOW TABLES") == []


def test_the_token_opens_the_api_and_comes_back_as_given(fresh: Matomo, steps: Steps) -> None:
    assert steps[3]["token"] == steps[1]["token"]
    assert steps[3]["version"] == steps[1]["version"] == "5.14.0"
    assert fresh.api("SitesManager.getAllSites").data[0]["name"] == SITE["name"]


def test_the_public_name_is_the_trusted_one(fresh: Matomo, steps: Steps) -> None:
    assert fresh.console("config:get", "General.trusted_hosts") == f'["{HOST}"]'


def test_no_secret_is_said(fresh: Matomo, steps: Steps) -> None:
    said = "".join(step["output"].replace(str(step.get("token")), "", 1) for step in steps)

    assert PASSWORD not in said
    assert DATABASE_PASSWORD not in said
    assert str(fresh.token) not in said


def test_a_token_revoked_by_hand_is_replaced(fresh: Matomo, steps: Steps) -> None:
    old = fresh.token
    fresh.sql("DELETE FROM {user_token_auth};")

    predicted, done = fresh.install(token=old, check=True), fresh.install(token=old)
    fresh.token = done["token"]

    assert (predicted["changed"], predicted["token_created"], predicted.get("token")) == (True, True, None)
    assert (done["changed"], done["installed"], done["token_created"]) == (True, True, True)
    assert fresh.token != old
    assert fresh.install(token=fresh.token)["changed"] is False


def test_the_token_of_somebody_with_fewer_rights_is_not_taken(fresh: Matomo, steps: Steps) -> None:
    person = {"userLogin": "viewer", "password": PASSWORD, "email": "viewer@example.org"}
    assert fresh.api("UsersManager.addUser", **person).data["result"] == "success"
    fresh.api("UsersManager.setUserAccess", userLogin="viewer", access="view", idSites="1")
    weak = fresh.api(
        "UsersManager.createAppSpecificTokenAuth", userLogin="viewer", passwordConfirmation=PASSWORD, description="x"
    ).data["value"]

    assert fresh.install(token=weak, check=True)["token_created"] is True


def test_another_password_than_the_one_it_was_installed_with_is_refused(fresh: Matomo, steps: Steps) -> None:
    message = one_sentence(fresh.install(admin_password="another password"))

    assert "refuses the password of admin" in message


def test_guessing_locks_this_address_out_with_the_way_back_in_the_message(fresh: Matomo, steps: Steps) -> None:
    for _attempt in range(20):
        fresh.api("SitesManager.getAllSites", token="f" * 32)

    message = one_sentence(fresh.install(token=fresh.token))
    fresh.console("login:unblock-blocked-ips")

    assert "login:unblock-blocked-ips" in message
    assert fresh.install(token=fresh.token)["changed"] is False


def test_a_changed_database_password_on_an_existing_volume_is_told(fresh: Matomo, steps: Steps) -> None:
    user = f"{fresh.database}@'%'"
    fresh.sql(f"SET PASSWORD FOR {user} = PASSWORD('something else');")
    try:
        message = one_sentence(fresh.install(token=fresh.token))
    finally:
        fresh.sql(f"SET PASSWORD FOR {user} = PASSWORD('{DATABASE_PASSWORD}');")

    assert "MariaDB refuses the account or password" in message
    assert "config.ini.php" in message


def test_a_wrong_database_password_stops_before_anything_is_written(bare: Matomo) -> None:
    message = one_sentence(bare.install(database_password="not this one"))

    assert "MariaDB refuses the account or password" in message
    assert bare.sql("SHOW TABLES") == []
    assert bare.install()["changed"] is True


def test_a_database_server_that_is_not_there_is_waited_for_and_then_told(bare: Matomo) -> None:
    began = time.monotonic()

    message = one_sentence(bare.install(database_host="127.0.0.1", wait_timeout=2))

    assert "cannot reach the database server 127.0.0.1" in message
    assert time.monotonic() - began > 2


@pytest.mark.parametrize("stop_after", ["databaseSetup", "tablesCreation", "setupSuperUser", "firstWebsiteSetup"])
def test_an_installation_interrupted_anywhere_is_completed(bare: Matomo, stop_after: str) -> None:
    for action, form in wizard(bare):
        bare.send("POST" if form else "GET", f"/index.php?action={action}&module=Installation", form)
        if action == stop_after:
            break

    result = bare.install()
    bare.token = result.get("token")

    assert (result["changed"], result["installed"]) == (True, False), result
    assert [site["name"] for site in bare.api("SitesManager.getAllSites").data] == [SITE["name"]]
    assert bare.sql("SELECT COUNT(*) FROM {user} WHERE superuser_access = 1;") == [["1"]]
    assert bare.install(token=bare.token)["changed"] is False


def wizard(matomo: Matomo) -> list[tuple[str, dict[str, str] | None]]:
    database = {"host": f"{matomo.network}-db", "username": matomo.database, "password": DATABASE_PASSWORD}
    names = {"dbname": matomo.database, "tables_prefix": "matomo_", "adapter": "PDO\\MYSQL", "schema": "Mariadb"}
    user = {"login": "admin", "password": PASSWORD, "password_bis": PASSWORD, "email": "admin@example.org"}
    site = {"siteName": "Example", "url": "https://example.org", "timezone": "Europe/London", "ecommerce": "0"}
    return [
        ("databaseSetup", {**database, **names}),
        ("tablesCreation", None),
        ("setupSuperUser", user),
        ("firstWebsiteSetup", site),
    ]


def test_two_runs_at_once_install_once(bare: Matomo) -> None:
    running = [start_module("matomo_install", **bare.install_options()) for _run in range(2)]
    results = [finish_module(one) for one in running]

    assert not any(one.get("failed") for one in results), results
    assert sorted(one["installed"] for one in results) == [False, True]
    assert bare.sql("SELECT COUNT(*) FROM {site};") == [["1"]]


def test_an_unknown_timezone_stops_the_installation_with_matomos_own_words(bare: Matomo) -> None:
    message = one_sentence(bare.install(first_site={**SITE, "timezone": "Europe/Atlantis"}))

    assert "Europe/Atlantis" in message
    assert bare.install()["changed"] is True


def test_mistakes_are_told_before_anything_is_asked() -> None:
    nowhere = Matomo("nowhere", "nowhere", "nowhere", "", _address="127.0.0.1:9")

    assert "5 characters" in one_sentence(nowhere.install(admin_password="short"))


def test_a_dry_run_on_a_bare_host_predicts_everything() -> None:
    nowhere = Matomo("nowhere", "nowhere", "nowhere", "", _address="127.0.0.1:9")
    began = time.monotonic()

    result = nowhere.install(check=True)
    sites = nowhere.sites({"name": "Example", "urls": ["https://example.org"]}, check=True)
    config = run_module(
        "matomo_config",
        url=nowhere.url,
        host_name=HOST,
        php=["/no/such/docker"],
        general={"force_ssl": 1},
        privacy={"do_not_track": True},
        check=True,
    )

    assert (result["changed"], sites["changed"], config["changed"]) == (True, True, True)
    assert sites["sites"][0]["idsite"] is None
    assert time.monotonic() - began < 15
