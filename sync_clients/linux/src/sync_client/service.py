# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd user unit: starts with the session, is watched by systemd, stays out of the way of other programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from sync_client.config import Places
from sync_client.errors import SyncError

_UNIT = """[Unit]
Description=Keeps {folder} in step with the sync server
Documentation=man:systemd.unit(5)
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command} --profile {profile} start
Restart=on-failure
RestartSec=5
# A login that ended, a damaged database and wrong settings do not get better by trying again.
RestartPreventExitStatus=2 4 7 10
WatchdogSec=900
TimeoutStopSec=30
Nice=10
IOSchedulingClass=idle
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


def unit_path(places: Places) -> Path:
    base = os.environ.get("XDG_CONFIG_HOME", "")
    config = Path(base) if base.startswith("/") else Path.home() / ".config"
    name = "sync-client" if places.profile == "default" else f"sync-client-{places.profile}"
    return config / "systemd" / "user" / f"{name}.service"


def unit_text(places: Places, folder: str) -> str:
    found = shutil.which("sync-client")
    command = " ".join(map(_quoted, [found] if found else [sys.executable, "-m", "sync_client"]))
    # A line break would begin a setting of its own, a percent sign a specifier of systemd.
    shown = "".join(c if c.isprintable() else "?" for c in folder).replace("%", "%%")
    return _UNIT.format(folder=shown, command=command, profile=places.profile)


def _quoted(word: str) -> str:
    """One word of a command line of systemd, which itself refuses quotes and backslashes in the path of a program."""
    return f'"{word.replace("%", "%%")}"'


def install(places: Places, folder: str) -> list[str]:
    path = unit_path(places)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(unit_text(places, folder))
    done = [f"Wrote {path}."]
    if _systemctl("daemon-reload") and _systemctl("enable", "--now", path.name):
        done.append("Started, and it starts by itself when you log in.")
        done.append("To keep it running while you are logged out: loginctl enable-linger")
    else:
        done.append(f"No systemd user session answers here. In one, run: systemctl --user enable --now {path.name}")
    return done


def remove(places: Places) -> list[str]:
    path = unit_path(places)
    if not path.exists():
        raise SyncError("The service is not installed.")
    _systemctl("disable", "--now", path.name)
    path.unlink()
    _systemctl("daemon-reload")
    return [f"Stopped, and removed {path}."]


def _systemctl(*arguments: str) -> bool:
    try:
        done = subprocess.run(["systemctl", "--user", *arguments], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
