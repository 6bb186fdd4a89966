# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Matomo's configuration and privacy settings: read as they are stored, written as Matomo wants them. Private."""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_api import (
    Api,
    MatomoError,
    NotInstalled,
    Unreachable,
)

Value: t.TypeAlias = "str | tuple[str, ...]"
Run = t.Callable[[list[str]], tuple[int, str, str]]

_NAME = re.compile(r"[A-Za-z0-9_]+")
_SECRET = re.compile(r"password|salt|secret|token|key$", re.IGNORECASE)

# Names here, in Matomo's table of options, and what Matomo takes where there is no row.
_OPTIONS: dict[str, tuple[str, str]] = {
    "anonymize_ip": ("ipAnonymizerEnabled", "1"),
    "anonymize_ip_bytes": ("ipAddressMaskLength", "2"),
    "anonymize_ip_for_location": ("useAnonymizedIpForVisitEnrichment", "0"),
    "anonymize_user_id": ("anonymizeUserId", "0"),
    "anonymize_order_id": ("anonymizeOrderId", "0"),
    "anonymize_referrer": ("anonymizeReferrer", ""),
    "do_not_track": ("doNotTrackEnabled", "1"),
    "cookieless": ("forceCookielessTracking", "0"),
}

# There is no command and no API that tells the privacy settings. What Matomo reads are its files, with the defaults in
# the first, and the table of options; nothing but what is asked for leaves the container.
_READ = """
$f = "config/config.ini.php"; $c = [];
if (!is_file($f)) { echo json_encode(["installed" => false]); exit; }
foreach (["config/global.ini.php", "config/common.config.ini.php", $f] as $file)
    foreach ((is_file($file) ? parse_ini_file($file, true, INI_SCANNER_RAW) : false) ?: [] as $s => $values)
        if (is_array($values)) $c[$s] = array_replace($c[$s] ?? [], $values);
$d = fn($v) => is_array($v) ? array_map(fn($x) => html_entity_decode($x, ENT_QUOTES), array_values($v))
    : html_entity_decode($v, ENT_QUOTES);
$r = ["installed" => empty($c["General"]["installation_in_progress"])];
$r += ["config" => (object) [], "options" => (object) []];
foreach (array_slice($argv, 1) as $n) {
    [$s, $k] = explode(".", $n, 2);
    if (isset($c[$s][$k])) $r["config"]->$n = $d($c[$s][$k]);
}
try {
    $b = array_map($d, $c["database"]);
    $to = "host={$b["host"]};port=" . ($b["port"] ?? 3306);
    if (!empty($b["unix_socket"])) $to = "unix_socket={$b["unix_socket"]}";
    $p = new PDO("mysql:$to;dbname={$b["dbname"]}", $b["username"], $b["password"], [PDO::ATTR_TIMEOUT => 10]);
    $q = "SELECT option_name, option_value FROM `{$b["tables_prefix"]}option` WHERE option_name LIKE ";
    foreach ($p->query($q . "'PrivacyManager.%'") as $o) $r["options"]->{substr($o[0], 15)} = $o[1];
} catch (PDOException $e) { $r["trouble"] = $e->getMessage(); }
echo json_encode($r);
"""


@dataclass(frozen=True)
class Settings:
    """Values of the configuration by section and name, and privacy settings by their names here."""

    config: dict[str, Value]
    privacy: dict[str, str]


Todo = dict[str, tuple[t.Any, t.Any]]


@dataclass(frozen=True)
class Console:
    """Runs PHP in Matomo's folder, and with it Matomo's own console."""

    run: Run
    php: t.Sequence[str]

    def read(self, names: t.Iterable[str]) -> dict[str, t.Any]:
        output = self._php("-r", _READ, "--", *names)
        try:
            data: dict[str, t.Any] = json.loads(output[output.index("{") :])
        except ValueError:
            raise MatomoError(f"PHP in Matomo's container said something unexpected: {_last_line(output)}") from None
        if not data["installed"]:
            raise NotInstalled("Matomo is not installed yet: run matomo_install first.")
        if "trouble" in data:
            raise MatomoError(f"Matomo's settings cannot be read from its database: {data['trouble'].rstrip('.')}.")
        return data

    def set(self, values: t.Mapping[str, Value]) -> None:
        """All in one call: starting the console takes longer than writing."""
        self._php("console", "config:set", *(f"{name}={_json(value)}" for name, value in values.items()))

    def _php(self, *words: str) -> str:
        command = [*self.php, *words]
        try:
            code, output, errors = self.run(command)
        except OSError as error:
            raise Unreachable(f"`{self.php[0]}` cannot be run ({error.strerror or error}).") from error
        if code:
            said = _last_line(errors) or _last_line(output) or f"it ended with {code}"
            if re.search(r"no such container|is not running|no such service|cannot connect to the docker", said, re.I):
                raise Unreachable(f"Matomo's container cannot be asked: {said}")
            raise MatomoError(f"`{' '.join(self.php)} {words[0]} …` failed: {said}")
        return output


def wanted_settings(sections: t.Mapping[str, t.Any], privacy: t.Mapping[str, t.Any]) -> Settings:
    """What is wanted, in the form it is stored; retention goes to the file, where it can be read again."""
    config: dict[str, Value] = {}
    for section, values in sections.items():
        if not isinstance(values, dict):
            raise MatomoError(f"The section {section} is no list of names and values.")
        for name, value in values.items():
            if not (_NAME.fullmatch(str(section)) and _NAME.fullmatch(str(name))):
                raise MatomoError(f"{section}.{name} is no setting of Matomo: use letters, digits and _.")
            config[f"{section}.{name}"] = _stored(f"{section}.{name}", value)
    wanted = {name: value for name, value in privacy.items() if value is not None}
    retention = {
        "delete_logs_older_than_days": ("Deletelogs.delete_logs", 1),
        "delete_reports_older_than_months": ("Deletereports.delete_reports", 2),
    }
    for name, (stem, least) in retention.items():
        if name not in wanted:
            continue
        time = int(wanted.pop(name))
        if time < 0 or 0 < time < least:
            raise MatomoError(f"{name} is {time}: give {least} or more, or 0 for never.")
        # Otherwise what was last saved in the user interface counts, whatever the file says.
        config["General.enable_delete_old_data_settings_admin"] = "0"
        config[f"{stem}_enable"] = "1" if time else "0"
        if time:
            config[f"{stem}_older_than"] = str(time)
    if "Deletelogs.delete_logs_older_than" in config:
        # A little every day: a week's rows at once are what a small database server dies of.
        config.setdefault("Deletelogs.delete_logs_schedule_lowest_interval", "1")
    stored = {name: str(int(value)) if isinstance(value, (bool, int)) else value for name, value in wanted.items()}
    if "anonymize_ip_bytes" in stored:
        stored["anonymize_ip"] = "0" if stored["anonymize_ip_bytes"] == "0" else "1"
        if stored["anonymize_ip"] == "0":
            del stored["anonymize_ip_bytes"]
    return Settings(config, stored)


def read_settings(console: Console, wanted: Settings) -> Settings:
    data = console.read(wanted.config)
    config = {name: tuple(value) if isinstance(value, list) else str(value) for name, value in data["config"].items()}
    options = data["options"]
    privacy = {name: str(options[column]) for name, (column, _default) in _OPTIONS.items() if column in options}
    return Settings(config, privacy)


def plan_settings(wanted: Settings, before: Settings) -> Todo:
    """What differs, with both values; a privacy setting that nobody ever saved differs."""
    todo: Todo = {}
    for name, value in wanted.config.items():
        if before.config.get(name) != value:
            todo[name] = (before.config.get(name), value)
    for name, setting in wanted.privacy.items():
        if before.privacy.get(name) != setting:
            todo[f"privacy.{name}"] = (before.privacy.get(name), setting)
    return todo


def apply_settings(console: Console, api: Api, wanted: Settings, before: Settings) -> None:
    """Writes what differs, then reads again: both ways of writing report success for what they ignore."""
    todo = plan_settings(wanted, before)
    privacy = {name.partition(".")[2] for name in todo if name.startswith("privacy.")}
    if privacy and not api.token:
        raise MatomoError("Privacy settings are changed through the API: give the token from matomo_install.")
    config = {name: wanted.config[name] for name in todo if not name.startswith("privacy.")}
    if config:
        console.set(config)
    if privacy - {"do_not_track"}:
        # It takes all of them at once, and a default for what is left out.
        values = {name: before.privacy.get(name, default) for name, (_column, default) in _OPTIONS.items()}
        values.update(wanted.privacy)
        api.call(
            "PrivacyManager.setAnonymizeIpSettings",
            {
                "anonymizeIPEnable": values["anonymize_ip"],
                "maskLength": values["anonymize_ip_bytes"],
                "useAnonymizedIpForVisitEnrichment": values["anonymize_ip_for_location"],
                "anonymizeUserId": values["anonymize_user_id"],
                "anonymizeOrderId": values["anonymize_order_id"],
                "anonymizeReferrer": values["anonymize_referrer"],
                "forceCookielessTracking": values["cookieless"],
            },
        )
    if "do_not_track" in privacy:
        on = wanted.privacy["do_not_track"] == "1"
        api.call(f"PrivacyManager.{'activate' if on else 'deactivate'}DoNotTrack")
    left = plan_settings(wanted, read_settings(console, wanted))
    if left:
        raise MatomoError(f"Matomo did not take {', '.join(sorted(left))}: is config/config.ini.php writable for it?")


def hidden(values: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Values for people to read, without secrets."""
    return {
        name: "(hidden)" if _SECRET.search(name) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }


def _stored(name: str, value: t.Any) -> Value:
    if isinstance(value, (list, tuple)):
        return tuple(str(_stored(name, one)) for one in value)
    if isinstance(value, bool):
        return str(int(value))
    if value is None or isinstance(value, dict) or re.search(r"[\r\n]", str(value)):
        raise MatomoError(f"The value of {name} is neither text nor a number nor a list of them.")
    return str(value)


def _json(value: Value) -> str:
    if isinstance(value, str) and re.fullmatch(r"0|[1-9][0-9]{0,8}", value):
        return value
    return json.dumps(value)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
