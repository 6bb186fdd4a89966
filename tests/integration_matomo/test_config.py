"""matomo_config: read from where Matomo reads, written as Matomo wants it, and believed only when read again."""

from __future__ import annotations

import typing as t

import pytest
from matomo import DATABASE_PASSWORD, Matomo, Result
from test_install import one_sentence

GENERAL: dict[str, t.Any] = {
    "force_ssl": 1,
    "proxy_client_headers": ["HTTP_X_FORWARDED_FOR"],
    "enable_browser_archiving_triggering": 0,
    "minimum_memory_limit_when_archiving": 256,
    "enable_installer": False,
    "noreply_email_name": 'Measured "quotes" & $dollars',
}
PRIVACY = {
    "anonymize_ip_bytes": 3,
    "anonymize_ip_for_location": True,
    "anonymize_user_id": True,
    "anonymize_order_id": True,
    "anonymize_referrer": "exclude_query",
    "do_not_track": False,
    "cookieless": True,
    "delete_logs_older_than_days": 90,
    "delete_reports_older_than_months": 24,
}


def four_steps(matomo: Matomo, **options: t.Any) -> list[Result]:
    results = [matomo.config(**options, check=check) for check in (True, False, True, False)]
    assert not any(one.get("failed") for one in results), results
    return results


def changes(results: list[Result]) -> list[bool]:
    return [one["changed"] for one in results]


@pytest.fixture
def plain_http(matomo: Matomo) -> t.Iterator[None]:
    """Tests that speak to the API themselves are no proxy."""
    yield
    matomo.console("config:set", "General.force_ssl=0")


def test_the_configuration_is_set_once(matomo: Matomo, plain_http: None) -> None:
    results = four_steps(matomo, general=GENERAL)

    assert changes(results) == [True, True, False, False]
    assert results[1]["settings"]["General.force_ssl"] == "1"
    assert matomo.console("config:get", "General.proxy_client_headers") == '["HTTP_X_FORWARDED_FOR"]'
    assert matomo.console("config:get", "General.minimum_memory_limit_when_archiving") == '"256"'


def test_a_value_that_is_the_default_anyway_changes_nothing(matomo: Matomo) -> None:
    assert matomo.config(general={"enable_trusted_host_check": 1})["changed"] is False


def test_setting_a_default_back_is_seen(matomo: Matomo) -> None:
    assert matomo.config(general={"enable_auto_update": 0})["changed"] is True
    assert changes(four_steps(matomo, general={"enable_auto_update": 1})) == [True, True, False, False]


def test_every_privacy_setting_is_set_once(matomo: Matomo) -> None:
    results = four_steps(matomo, privacy=PRIVACY)

    assert changes(results) == [True, True, False, False]
    rows = dict(matomo.sql("SELECT option_name, option_value FROM {option} WHERE option_name LIKE 'PrivacyManager.%';"))
    assert rows["PrivacyManager.ipAddressMaskLength"] == "3"
    assert rows["PrivacyManager.doNotTrackEnabled"] == "0"
    assert rows["PrivacyManager.anonymizeReferrer"] == "exclude_query"
    assert matomo.console("config:get", "Deletelogs.delete_logs_older_than") == '"90"'


def test_a_single_privacy_setting_leaves_the_others(matomo: Matomo) -> None:
    assert matomo.config(privacy={"cookieless": False})["settings"] == {"privacy.cookieless": "0"}

    rows = dict(matomo.sql("SELECT option_name, option_value FROM {option} WHERE option_name LIKE 'PrivacyManager.%';"))
    assert (rows["PrivacyManager.ipAddressMaskLength"], rows["PrivacyManager.anonymizeReferrer"]) == (
        "3",
        "exclude_query",
    )


def test_no_anonymisation_and_no_retention_can_be_had_as_well(matomo: Matomo) -> None:
    nothing = {"anonymize_ip_bytes": 0, "delete_logs_older_than_days": 0}

    assert changes(four_steps(matomo, privacy=nothing)) == [True, True, False, False]


def test_with_force_ssl_the_api_is_still_reached(matomo: Matomo, plain_http: None) -> None:
    matomo.config(general={"force_ssl": 1})

    assert matomo.config(privacy={"do_not_track": True})["changed"] is True
    assert matomo.api("API.getMatomoVersion").status == 302


def test_secrets_are_hidden_and_the_database_password_never_leaves(matomo: Matomo) -> None:
    result = matomo.config(sections={"mail": {"password": "relay password", "host": "mail.example.org"}})

    assert result["settings"] == {"mail.password": "(hidden)", "mail.host": "mail.example.org"}
    assert "relay password" not in result["output"].replace('"password": "relay password"', "")
    assert DATABASE_PASSWORD not in result["output"]


def test_a_mistake_is_told_and_nothing_changes(matomo: Matomo) -> None:
    before = matomo.inside("cat", "config/config.ini.php")

    assert "General.a b is no setting" in one_sentence(matomo.config(general={"force_ssl": 1, "a b": 1}))
    assert matomo.inside("cat", "config/config.ini.php") == before


def test_a_configuration_nobody_may_write_is_told(matomo: Matomo) -> None:
    matomo.inside("chown", "root:root", "config")
    matomo.inside("chmod", "755", "config")
    try:
        message = one_sentence(matomo.config(general={"enable_marketplace": 0}))
    finally:
        matomo.inside("chown", "www-data:www-data", "config")

    assert "not writable" in message


def test_a_container_that_is_not_there_is_told_and_predicted(matomo: Matomo) -> None:
    gone = {"php": ["docker", "exec", "matomomod-none", "php"], "general": {"force_ssl": 1}}

    assert "container cannot be asked" in one_sentence(matomo.config(**gone))
    assert matomo.config(**gone, check=True)["changed"] is True


def test_a_matomo_that_is_not_installed_is_told(bare: Matomo) -> None:
    assert "not installed yet" in one_sentence(bare.config(general={"force_ssl": 1}))
