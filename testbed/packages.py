"""A package index in the small internet: what is built inside a throwaway VPS finds its Python packages there."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import sys
import tempfile
from pathlib import Path

from testbed import images, internet
from testbed.docker import docker, one_at_a_time, run, say, succeeds

CONTAINER = f"{images.PREFIX}-packages"
DOMAIN = "packages.internet.test"
URL = f"http://{DOMAIN}:8000/simple"
# What the sync server's image is built from (sync_server/Dockerfile), for the Python in it.
REQUIREMENTS = (Path(__file__).parent.parent / "sync_server" / "requirements.txt",)
BUILD_TOOLS = ("hatchling",)
PYTHON = "3.13"
LABEL = "servers.testbed.packages"


@one_at_a_time("packages")
def up() -> None:
    """Serve the wheels of all requirements as PEP 503 says, downloaded by this machine's own settings for pip."""
    tag = images.build("python-stand-in")
    state = hashlib.sha256(b"".join(path.read_bytes() for path in REQUIREMENTS)).hexdigest()
    label = '{{index .Config.Labels "' + LABEL + '"}} {{.State.Running}}'
    known = succeeds("docker", "container", "inspect", CONTAINER)
    if not known or docker("container", "inspect", "--format", label, CONTAINER) != f"{state} true":
        if known:
            docker("rm", "-f", CONTAINER)
        _start(tag, state)
    address = '{{(index .NetworkSettings.Networks "' + internet.NETWORK + '").IPAddress}}'
    internet.name_host(DOMAIN, docker("container", "inspect", "--format", address, CONTAINER))


def _start(tag: str, state: str) -> None:
    say(f"starting {DOMAIN}")
    serve = ("python3", "-m", "http.server", "--directory", "/packages", "8000")
    with tempfile.TemporaryDirectory() as folder:
        _download(Path(folder) / "simple")
        docker("create", "--name", CONTAINER, "--network", internet.NETWORK, "--label", f"{LABEL}={state}", tag, *serve)
        docker("cp", folder, f"{CONTAINER}:/packages")
    docker("start", CONTAINER)


def _download(index: Path) -> None:
    index.mkdir()
    machine = platform.machine()
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--dest", str(index))
    target = (
        "--python-version",
        PYTHON,
        "--platform",
        f"manylinux_2_28_{machine}",
        "--platform",
        f"manylinux2014_{machine}",
    )
    for path in REQUIREMENTS:
        run(*pip, *target, "--requirement", str(path))
    run(*pip, *target, *BUILD_TOOLS)
    for wheel in index.glob("*.whl"):
        # PEP 503: the folder carries the normalised name.
        folder = index / re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()
        folder.mkdir(exist_ok=True)
        shutil.move(wheel, folder)
