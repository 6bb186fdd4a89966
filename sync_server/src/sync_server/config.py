"""Every setting, in one typed model: defaults, then the file, then the environment, then the command line."""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT_PREFIX = "SYNC_SERVER_"
MIB = 1024 * 1024

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConfigError(ValueError):
    """A setting that cannot be used; the message names it and says what would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Sizes are bytes, times are seconds. A size may be written as 512M or 2G, a list with commas."""

    data_dir: Annotated[Path, "folder of the database, the contents and the keys"] = Path("data")
    host: Annotated[str, "address to listen on"] = "127.0.0.1"
    port: Annotated[int, "port to listen on; 0 lets the system choose"] = 8080
    server: Annotated[str, "what speaks HTTP: granian, or uvicorn where it is installed"] = "granian"
    log_level: Annotated[str, "debug, info, warning or error"] = "info"
    log_format: Annotated[str, "json, or text for people"] = "json"
    access_log: Annotated[bool, "log every request too"] = False

    public_url: Annotated[str, "address people use (https://files.example.org), shown when a device is paired"] = ""
    trusted_proxies: Annotated[tuple[Network, ...], "networks whose X-Forwarded-For is believed"] = ()
    metrics_token: Annotated[str, "bearer token that opens /metrics; without one it answers to this machine only"] = ""
    docs: Annotated[bool, "serve /openapi.json and /docs"] = True

    access_token_seconds: Annotated[int, "life of an access token"] = 600
    refresh_token_days: Annotated[int, "a device unused for so long must log in again"] = 90
    min_password_length: Annotated[int, "shortest password accepted"] = 10

    keep_versions: Annotated[int, "versions kept of a file before the current one"] = 5
    trash_days: Annotated[int, "how long a deleted file and its versions can be restored"] = 30
    journal_days: Annotated[int, "how long changes are told one by one; a device away for longer reads everything"] = 90
    operation_days: Annotated[int, "how long the result of a commit is kept for a client that asks again"] = 30

    default_quota: Annotated[int, "bytes an account may keep unless it has a quota of its own; 0 is no limit"] = 0
    free_space_floor: Annotated[int, "writes are refused when less than this is free on the disk"] = 512 * MIB
    max_file_size: Annotated[int, "largest file accepted"] = 64 * 1024 * MIB
    max_json_bytes: Annotated[int, "largest JSON body accepted"] = 8 * MIB

    body_idle_seconds: Annotated[int, "a body that stands still for so long is given up"] = 30
    body_min_rate: Annotated[int, "bytes a second a body must bring on average, after body_idle_seconds"] = 512
    max_waiting: Annotated[int, "devices that may wait for changes at the same time; each may cost 150 KB"] = 500
    drain_seconds: Annotated[int, "time for running requests when the server is told to stop"] = 10

    def __post_init__(self) -> None:
        for name in ("access_token_seconds", "refresh_token_days", "min_password_length", "trash_days", "journal_days",
                     "operation_days", "body_idle_seconds", "max_json_bytes", "max_file_size",
                     "max_waiting", "drain_seconds"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1")
        for name in ("keep_versions", "default_quota", "free_space_floor", "body_min_rate"):  # fmt: skip
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative")
        if not 0 <= self.port <= 65535:
            raise ConfigError("port must lie between 0 and 65535")
        _one_of("server", self.server, ("granian", "uvicorn"))
        _one_of("log_level", self.log_level, ("debug", "info", "warning", "error"))
        _one_of("log_format", self.log_format, ("json", "text"))
        if self.access_token_seconds > 3600:
            raise ConfigError("access_token_seconds must not be more than 3600: a token cannot be short and long-lived")
        if self.metrics_token and len(self.metrics_token) < 16:
            raise ConfigError("metrics_token must have at least 16 characters")
        if self.public_url and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", self.public_url):
            raise ConfigError("public_url must be like https://files.example.org")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}")


_UNITS = {"": 1, "K": 1024, "M": MIB, "G": 1024 * MIB, "T": 1024 * 1024 * MIB}


def parse_size(name: str, text: str) -> int:
    """A whole number, or a size as in 512M; raises ConfigError."""
    match = re.fullmatch(r"([0-9]{1,18})\s*([KMGT]?)(iB|B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise ConfigError(f"{name} must be a whole number (a size may end in K, M, G or T)")
    return int(match[1]) * _UNITS[match[2].upper()]


def _parse(name: str, kind: Any, value: object) -> Any:
    """Turn what a file, a variable or a flag holds into the type of the setting."""
    if kind is bool:
        if isinstance(value, bool):
            return value
        words = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
        raise ConfigError(f"{name} must be true or false")
    if kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        return parse_size(name, str(value))
    if kind is Path or kind is str:
        if not isinstance(value, str) or (kind is Path and not value):
            raise ConfigError(f"{name} must be a text")
        return Path(value).expanduser() if kind is Path else value
    items = value if isinstance(value, list) else [item for item in str(value).split(",") if item.strip()]
    try:
        return tuple(ipaddress.ip_network(str(item).strip()) for item in items)
    except ValueError as error:
        raise ConfigError(f"{name} must be a list of networks like 172.18.0.0/16: {error}") from None


def add_flags(parser: argparse.ArgumentParser, *, only: tuple[str, ...] = ()) -> None:
    """Give `parser` a flag for each setting (or for those in `only`), and --config."""
    group = parser.add_argument_group(
        "settings",
        f"Each may also stand in a TOML file (--config or {ENVIRONMENT_PREFIX}CONFIG) under the same name with "
        f"underscores, or in the environment as {ENVIRONMENT_PREFIX}NAME; flags win over both, the environment over "
        "the file. A secret belongs in the file, or in a file of its own that the environment names "
        f"({ENVIRONMENT_PREFIX}METRICS_TOKEN_FILE).",
    )
    group.add_argument("--config", metavar="FILE", help="TOML file with settings")
    hints = get_type_hints(Config, include_extras=True)
    for item in fields(Config):
        # What stands on the command line, every user of the machine can read.
        if item.name == "metrics_token" or (only and item.name not in only):
            continue
        shown = _shown(item.default)
        group.add_argument(
            "--" + item.name.replace("_", "-"),
            dest=item.name,
            metavar="VALUE",
            default=None,
            help=f"{hints[item.name].__metadata__[0]} ({'default: ' + shown if shown else 'default: none'})",
        )


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "true" if default else "false"
    if default in ((), ""):
        return ""
    return str(default)


def load(flags: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """Read the settings from everywhere; raises ConfigError with the name of the bad one."""
    flags = flags or {}
    environment = os.environ if environment is None else environment
    kinds = get_type_hints(Config)
    values: dict[str, Any] = {}

    path = flags.get("config") or environment.get(ENVIRONMENT_PREFIX + "CONFIG")
    if path:
        try:
            from_file = tomllib.loads(Path(str(path)).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"cannot read the settings in {path}: {error}") from None
        for name, value in from_file.items():
            if name not in kinds:
                raise ConfigError(f"{path}: there is no setting {name}")
            values[name] = _parse(name, kinds[name], value)

    for name, kind in kinds.items():
        variable = ENVIRONMENT_PREFIX + name.upper()
        if variable in environment:
            values[name] = _parse(variable, kind, environment[variable])
        elif kind is str and variable + "_FILE" in environment:
            try:
                values[name] = Path(environment[variable + "_FILE"]).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"cannot read the file {variable}_FILE names: {error}") from None
        flag = flags.get(name)
        if flag is not None:
            values[name] = _parse("--" + name.replace("_", "-"), kind, flag)
    return Config(**values)
