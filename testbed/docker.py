"""Talks to the Docker engine of this machine through its command line, and brings one up where none answers."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ENGINE_PACKAGES = ("docker.io", "containerd", "runc", "iptables")
ENGINE_START_SECONDS = 60


class TestbedError(Exception):
    """Says in one sentence what is missing on this machine and what to do about it."""


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"testbed: {text}", file=sys.stderr, flush=True)


@contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Hold a lock of this machine: several test runs share one engine, its images and the small internet."""
    with (Path(tempfile.gettempdir()) / f"servers-testbed-{os.geteuid()}-{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(*command: str, stdin: str | None = None, quiet: bool = True) -> str:
    """Run a command and return its standard output; a failure carries the command's own last words."""
    done = subprocess.run(
        command, input=stdin, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT if quiet else None
    )
    if done.returncode:
        raise TestbedError(f"`{' '.join(command)}` failed ({done.returncode}):\n{done.stdout.strip()[-3000:]}")
    return done.stdout


def docker(*arguments: str, stdin: str | None = None) -> str:
    """Run one docker command and return what it printed, without the trailing newline."""
    return run("docker", *arguments, stdin=stdin).strip()


def succeeds(*command: str) -> bool:
    """Tell whether a command exists and ends with 0."""
    try:
        return (
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ).returncode == 0
    except FileNotFoundError:
        return False


def as_root(*command: str) -> list[str]:
    """Prefix a command with sudo where this user is not root."""
    if os.geteuid() == 0:
        return list(command)
    if not shutil.which("sudo"):
        raise TestbedError(f"`{' '.join(command)}` needs root: run this as root or install sudo.")
    return ["sudo", *command]


def apt_install(packages: Sequence[str]) -> None:
    """Install Debian packages on this machine; the list of a half-broken set of sources is good enough."""
    if not shutil.which("apt-get"):
        raise TestbedError(
            f"{', '.join(packages)} missing and this is no Debian or Ubuntu: install them and run this again."
        )
    say(f"installing {' '.join(packages)}")
    subprocess.run(as_root("apt-get", "update", "-qq"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    options = ["install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    run(*as_root(*environment, "apt-get", *options, *packages))


def ensure_engine(state: Path) -> None:
    """Leave a running engine alone; else install and start one, and wait until it answers."""
    if succeeds("docker", "info"):
        return
    if not (shutil.which("dockerd") and shutil.which("docker")):
        apt_install(ENGINE_PACKAGES)
    if Path("/run/systemd/system").is_dir():
        subprocess.run(as_root("systemctl", "start", "docker"))
    else:
        _start_dockerd(state)
    deadline = time.monotonic() + ENGINE_START_SECONDS
    while not succeeds("docker", "info"):
        if time.monotonic() > deadline:
            raise TestbedError(
                "the Docker engine does not answer: see `docker info`"
                " (is this user in the group docker?) and " + str(state / "dockerd.log")
            )
        time.sleep(0.5)


def _start_dockerd(state: Path) -> None:
    """Start a plain dockerd in the background, outliving this program; `clean` ends it by its pid file."""
    say("starting dockerd")
    state.mkdir(parents=True, exist_ok=True)
    # A hard stop of the machine leaves the pid file of a dead daemon behind, which the new one refuses to start over.
    pid_file = Path("/run/docker.pid")
    if pid_file.exists() and not Path("/proc", pid_file.read_text().strip()).exists():
        run(*as_root("rm", "-f", str(pid_file)))
    with (state / "dockerd.log").open("ab") as log:
        process = subprocess.Popen(
            as_root("dockerd"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    (state / "dockerd.pid").write_text(str(process.pid))
