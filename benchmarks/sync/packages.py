"""The Debian packages that the benchmark compares with or measures by."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# What users have: the distribution's.
PYTHON = "/usr/bin/python3"

# Package -> a path that tells that it is there.
NEEDED = {
    "python3": PYTHON,
    "golang-go": "/usr/bin/go",
    "golang-github-gin-gonic-gin-dev": "/usr/share/gocode/src/github.com/gin-gonic/gin",
    "golang-github-mattn-go-sqlite3-dev": "/usr/share/gocode/src/github.com/mattn/go-sqlite3",
    "nginx-light": "/usr/sbin/nginx",
    "rclone": "/usr/bin/rclone",
    "syncthing": "/usr/bin/syncthing",
    "unison": "/usr/bin/unison",
    "wrk": "/usr/bin/wrk",
    "curl": "/usr/bin/curl",
}


def install_missing() -> None:
    """Install what is missing, and say so; needs root, as apt does."""
    missing = [name for name, path in NEEDED.items() if not Path(path).exists()]
    if not missing:
        return
    if os.geteuid() != 0:
        raise SystemExit(f"These Debian packages are missing: {' '.join(missing)}. Install them, or run this as root.")
    print(f"installing Debian packages: {' '.join(missing)}", file=sys.stderr)
    # A package's service must not start: the benchmark starts its own instances on ports of its own.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        subprocess.run(
            ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing],
            check=True,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdout=sys.stderr,
        )
    finally:
        if ours:
            policy.unlink()


def version(command: list[str]) -> str:
    """The first line a program prints of itself."""
    if shutil.which(command[0]) is None:
        return "missing"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0]
