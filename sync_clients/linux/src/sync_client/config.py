# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are (XDG folders), and what the user set (`config.toml`)."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Literal

import msgspec

from sync_client.errors import SyncError


class ConfigError(SyncError):
    """The settings cannot be read or make no sense."""

    code = 2


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`config.toml`. README.md, "Files", names the ones no command sets."""

    server: str = ""
    account: str = ""
    folder: str = ""
    device: str = ""
    ca: str = ""
    exclude: list[str] = []
    upload_limit: int = 0
    download_limit: int = 0
    deletions_percent: int = 50
    deletions_files: int = 20
    scan_minutes: int = 60
    poll_seconds: int = 10
    max_watches: int = 0
    symlinks: Literal["keep", "skip"] = "keep"
    paused: bool = False


class Places:
    """The folders and files of one profile."""

    def __init__(self, profile: str = "default") -> None:
        if not re.fullmatch(r"\w[\w.-]{0,31}", profile):
            # It becomes the name of a folder, of a socket and of a unit of systemd.
            raise ConfigError(f"“{profile}” is no name of a profile: up to 32 letters, digits, dots and dashes.")
        home = Path.home()
        self.profile = profile
        self.config = _xdg("XDG_CONFIG_HOME", home / ".config") / profile
        self.state = _xdg("XDG_STATE_HOME", home / ".local" / "state") / profile
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        self.runtime = Path(runtime) / "sync-client" if runtime else self.state
        self.settings = self.config / "config.toml"
        self.token = self.state / "token"
        self.database = self.state / "state.db"
        self.log = self.state / "log"
        self.lock = self.state / "lock"
        self.socket = self.runtime / f"{profile}.sock"

    def make(self) -> None:
        for folder in (self.config, self.state, self.runtime):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _xdg(name: str, default: Path) -> Path:
    value = os.environ.get(name, "")
    # The specification: a relative path in these variables is to be ignored.
    return (Path(value) if value.startswith("/") else default) / "sync-client"


def load(places: Places) -> Settings:
    try:
        return msgspec.convert(tomllib.loads(places.settings.read_text()), Settings)
    except FileNotFoundError:
        return Settings()
    except (ValueError, OSError) as error:
        raise ConfigError(f"{places.settings} cannot be read ({error}); correct it or remove it.") from error


def save(places: Places, settings: Settings) -> None:
    lines = []
    for name, value in msgspec.structs.asdict(settings).items():
        if isinstance(value, bool):
            lines.append(f"{name} = {str(value).lower()}")
        elif isinstance(value, int):
            lines.append(f"{name} = {value}")
        elif isinstance(value, str):
            lines.append(f"{name} = {_quoted(value)}")
        else:
            lines.append(f"{name} = [{', '.join(map(_quoted, value))}]")
    places.make()
    fresh = places.settings.with_suffix(".new")
    fresh.write_text("\n".join(lines) + "\n")
    fresh.replace(places.settings)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped) + '"'
