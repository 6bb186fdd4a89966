"""What is wanted, what is stored, and what is sent."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_api import (
    MatomoError,
    NotInstalled,
    Unreachable,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_config import (
    Console,
    Settings,
    apply_settings,
    hidden,
    plan_settings,
    read_settings,
    wanted_settings,
)
from tests.unit.plugins.module_utils.matomo_line import Line

PHP = ["docker", "exec", "matomo", "php"]
NOTHING: dict[str, t.Any] = {}


class Container:
    """Stands where PHP would run: says what it is told to, notes what it is asked."""

    def __init__(self, *outputs: t.Any) -> None:
        self.outputs = list(outputs)
        self.asked: list[list[str]] = []

    def __call__(self, command: list[str]) -> tuple[int, str, str]:
        self.asked.append(command)
        output = self.outputs.pop(0)
        if isinstance(output, OSError):
            raise output
        return output if isinstance(output, tuple) else (0, json.dumps(output), "")

    @property
    def console(self) -> Console:
        return Console(self, PHP)


def stored(config: dict[str, t.Any] | None = None, **options: str) -> dict[str, t.Any]:
    return {"installed": True, "config": config or {}, "options": options}


def test_values_are_compared_as_they_are_stored() -> None:
    general = {"force_ssl": True, "proxy_client_headers": ["HTTP_X_FORWARDED_FOR"], "limit": 256, "name": "x"}
    wanted = wanted_settings({"General": general}, NOTHING)
    container = Container(
        stored(
            {
                "General.force_ssl": "1",
                "General.proxy_client_headers": ["HTTP_X_FORWARDED_FOR"],
                "General.limit": "256",
                "General.name": "x",
            }
        )
    )

    assert plan_settings(wanted, read_settings(container.console, wanted)) == {}
    assert container.asked[0][:5] == [*PHP, "-r"]
    assert container.asked[0][6:] == ["--", *wanted.config]


def test_retention_goes_to_the_file_and_closes_the_form_that_overrides_it() -> None:
    wanted = wanted_settings({}, {"delete_logs_older_than_days": 180, "delete_reports_older_than_months": 0})

    assert wanted.config == {
        "General.enable_delete_old_data_settings_admin": "0",
        "Deletelogs.delete_logs_enable": "1",
        "Deletelogs.delete_logs_older_than": "180",
        "Deletelogs.delete_logs_schedule_lowest_interval": "1",
        "Deletereports.delete_reports_enable": "0",
    }
    assert wanted.privacy == {}


def test_another_interval_of_purges_stays_what_it_was_set_to() -> None:
    sections = {"Deletelogs": {"delete_logs_schedule_lowest_interval": 7}}

    wanted = wanted_settings(sections, {"delete_logs_older_than_days": 30})

    assert wanted.config["Deletelogs.delete_logs_schedule_lowest_interval"] == "7"


def test_no_bytes_means_no_anonymisation_and_keeps_the_number() -> None:
    assert wanted_settings({}, {"anonymize_ip_bytes": 0}).privacy == {"anonymize_ip": "0"}
    assert wanted_settings({}, {"anonymize_ip_bytes": 2}).privacy == {"anonymize_ip": "1", "anonymize_ip_bytes": "2"}


def test_what_nobody_gave_is_not_wanted() -> None:
    assert wanted_settings({"General": {}}, {"cookieless": None, "do_not_track": False}).privacy == {
        "do_not_track": "0"
    }


@pytest.mark.parametrize(
    ("sections", "privacy", "said"),
    [
        ({"General": {"a b": 1}}, NOTHING, "General.a b is no setting"),
        ({"a.b": {"c": 1}}, NOTHING, "a.b.c is no setting"),
        ({"General": 1}, NOTHING, "General is no list"),
        ({"General": {"x": None}}, NOTHING, "General.x"),
        ({"General": {"x": "1\n[database]\npassword="}}, NOTHING, "General.x"),
        ({"General": {"x": {"y": 1}}}, NOTHING, "General.x"),
        ({}, {"delete_logs_older_than_days": -1}, "give 1 or more, or 0"),
        ({}, {"delete_reports_older_than_months": 1}, "give 2 or more, or 0"),
    ],
)
def test_mistakes_are_told(sections: dict[str, t.Any], privacy: dict[str, t.Any], said: str) -> None:
    with pytest.raises(MatomoError, match=said):
        wanted_settings(sections, privacy)


def test_a_setting_nobody_ever_saved_is_saved() -> None:
    wanted = wanted_settings({}, {"do_not_track": True})

    assert plan_settings(wanted, Settings({}, {})) == {"privacy.do_not_track": (None, "1")}


def test_everything_for_the_console_goes_in_one_call_as_json() -> None:
    general = {"a": 0, "b": 'text "x"', "c": ["d"], "e": "007"}
    wanted = wanted_settings({"General": general}, NOTHING)
    container = Container((0, "done", ""), stored(dict(wanted.config)))

    apply_settings(container.console, Line().api(), wanted, Settings({}, {}))

    assert container.asked[0] == [
        *PHP,
        "console",
        "config:set",
        "General.a=0",
        'General.b="text \\"x\\""',
        'General.c=["d"]',
        'General.e="007"',
    ]


def test_all_privacy_settings_are_sent_with_those_that_stay() -> None:
    wanted = wanted_settings({}, {"cookieless": True})
    before = Settings({}, {"anonymize_ip_bytes": "3", "anonymize_referrer": "exclude_all", "cookieless": "0"})
    line = Line("anonymise")

    apply_settings(Container(stored(forceCookielessTracking="1")).console, line.api(), wanted, before)

    form = line.asked[0][2]
    assert form["method"] == ["PrivacyManager.setAnonymizeIpSettings"]
    assert (form["maskLength"], form["anonymizeReferrer"], form["forceCookielessTracking"]) == (
        ["3"],
        ["exclude_all"],
        ["1"],
    )
    assert form["anonymizeIPEnable"] == ["1"]


@pytest.mark.parametrize(("on", "method"), [(True, "activateDoNotTrack"), (False, "deactivateDoNotTrack")])
def test_do_not_track_has_calls_of_its_own(on: bool, method: str) -> None:
    line = Line("do not track")
    container = Container(stored(doNotTrackEnabled=str(int(on))))

    apply_settings(container.console, line.api(), wanted_settings({}, {"do_not_track": on}), Settings({}, {}))

    assert [form["method"] for _m, _p, form in line.asked] == [[f"PrivacyManager.{method}"]]


def test_a_success_that_was_none_is_found_out() -> None:
    wanted = wanted_settings({"General": {"force_ssl": 1}}, NOTHING)
    container = Container((0, "Setting... done.", ""), stored({"General.force_ssl": "0"}))

    with pytest.raises(MatomoError, match=r"did not take General\.force_ssl"):
        apply_settings(container.console, Line().api(), wanted, Settings({}, {}))


def test_privacy_needs_a_token_and_says_so_before_anything_is_written() -> None:
    wanted = wanted_settings({"General": {"force_ssl": 1}}, {"do_not_track": True})

    with pytest.raises(MatomoError, match="give the token"):
        apply_settings(Container().console, Line().api(token=None), wanted, Settings({}, {}))


@pytest.mark.parametrize(
    ("output", "kind", "said"),
    [
        (FileNotFoundError(2, "No such file"), Unreachable, "cannot be run"),
        ((1, "", "Error: No such container: matomo\n"), Unreachable, "No such container"),
        ((1, "", "Error response from daemon: container abc is not running\n"), Unreachable, "is not running"),
        ((255, "PHP Fatal error: memory\n", ""), MatomoError, "PHP Fatal error: memory"),
        ((0, "Segmentation fault", ""), MatomoError, "unexpected: Segmentation fault"),
        ({"installed": False}, NotInstalled, "not installed"),
        ({**stored(), "trouble": "SQLSTATE[HY000] [1045] Access denied."}, MatomoError, "Access denied"),
    ],
)
def test_a_container_that_cannot_answer_is_told(output: t.Any, kind: type[MatomoError], said: str) -> None:
    with pytest.raises(kind, match=said):
        read_settings(Container(output).console, wanted_settings({}, {"do_not_track": True}))


def test_a_warning_before_the_answer_does_no_harm() -> None:
    container = Container((0, "PHP Warning:  Module imagick\n" + json.dumps(stored(doNotTrackEnabled="1")), ""))

    assert read_settings(container.console, Settings({}, {})).privacy == {"do_not_track": "1"}


def test_secrets_are_hidden_by_their_names() -> None:
    shown = hidden({"mail.password": "x", "General.salt": "x", "General.api_key": "x", "General.list": ("a",)})

    assert shown == {
        "mail.password": "(hidden)",
        "General.salt": "(hidden)",
        "General.api_key": "(hidden)",
        "General.list": ["a"],
    }
