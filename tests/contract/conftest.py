"""A network of its own, an upstream that repeats what it hears, a real ACME server, and stand-ins as needed."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from npm import CAPABILITIES, Npm, Start, docker

from testbed import images
from testbed.docker import ensure_engine


@pytest.fixture(scope="session")
def image() -> str:
    ensure_engine(Path(__file__).parents[2] / ".cache")
    images.build_debian()
    return images.build("nginx-proxy-manager-stand-in")


@pytest.fixture(scope="session")
def network() -> Iterator[str]:
    name = f"standin-{os.getpid()}"
    docker("network", "create", name)
    yield name
    docker("network", "rm", name, check=False)


@pytest.fixture(scope="session", autouse=True)
def upstream(image: str, network: str) -> Iterator[str]:
    """An HTTP server on ports 80 and 8080, known as `up` and `web`, that answers with the request it got."""
    name = f"{network}-up"
    script = (Path(__file__).parent / "echo_server.py").read_text(encoding="utf-8")
    aliases = ("--network-alias", "up", "--network-alias", "web")
    docker("run", "-d", "--name", name, "--network", network, *aliases, "--entrypoint", "python3", image, "-c", script)
    yield name
    docker("rm", "-fv", name, check=False)


@pytest.fixture(scope="session")
def acme(network: str) -> Iterator[dict[str, str]]:
    """Pebble, and the environment that points a stand-in to it.

    By default it refuses one request in twenty, sleeps before it validates, and remembers half of the validated names:
    the first two are no subject here, and the last would hide a challenge that cannot be answered.
    """
    name = f"{network}-acme"
    settings = ("PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0")
    options = [word for setting in settings for word in ("-e", setting)]
    place = ("--network", network, "--network-alias", "acme.internet.test")
    tag = images.build("internet")
    docker("run", "-d", "--name", name, *place, *options, tag, "pebble", "-config", "/etc/pebble/config.json")
    authority = docker("exec", name, "cat", "/etc/pebble/ca.pem")
    yield {"LE_SERVER": "https://acme.internet.test:14000/dir", "authority": authority}
    docker("rm", "-fv", name, check=False)


@pytest.fixture(scope="session")
def start(image: str, network: str) -> Iterator[Start]:
    """Starts stand-ins with nothing but the capabilities the real image needs; removes them at the end."""
    numbers = itertools.count(1)
    started: list[Npm] = []

    def begin(
        environment: dict[str, str] | None = None,
        *,
        named: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
        volumes: tuple[str, ...] = ("/data", "/etc/letsencrypt"),
        wait: bool = True,
    ) -> Npm:
        """Start one, on the network under `named`.example.com, where the ACME server looks for it."""
        environment = dict(environment or {})
        stand_in = Npm(f"{network}-npm-{next(numbers)}")
        started.append(stand_in)
        authority = environment.pop("authority", None)
        if authority:
            environment["REQUESTS_CA_BUNDLE"] = "/ca.pem"
        mounts = [word for volume in volumes for word in ("-v", volume)]
        limits = ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "160m"]
        for capability in CAPABILITIES:
            limits += ["--cap-add", capability]
        names = [word for name in named for word in ("--network-alias", f"{name}.example.com")]
        published = [word for port in (80, 443, 81) for word in ("-p", f"127.0.0.1::{port}")]
        variables = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
        place = ("--name", stand_in.name, "--network", network, *names)
        docker("create", *place, *limits, *published, *mounts, *variables, *options, image)
        if authority:
            _put(stand_in.name, "/ca.pem", authority)
        docker("start", stand_in.name)
        if wait:
            stand_in.wait_until_up()
        return stand_in

    yield begin
    docker("rm", "-fv", *(stand_in.name for stand_in in started), check=False)


@pytest.fixture(scope="session")
def npm(start: Start) -> Npm:
    """One that is set up, for tests that leave each other's hosts alone and need no ACME server."""
    stand_in = start(options=("-p", "127.0.0.1::9993", "-p", "127.0.0.1::9994"))
    stand_in.set_up()
    return stand_in


def _put(container: str, path: str, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        Path(file.name).chmod(0o644)
        docker("cp", file.name, f"{container}:{path}")
