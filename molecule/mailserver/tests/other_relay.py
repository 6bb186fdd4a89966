"""A relay of this box alone, whose certificate a test can change: the test bed's own serves other boxes as well."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from testbed import images, internet, relay
from testbed.docker import docker, succeeds

NAME = "other-relay.internet.test"
CONTAINER = f"{images.PREFIX}-other-relay"
HOST = 3004
START_SECONDS = 60


class OtherRelay:
    """Takes mail on ports 587 and 465 as the test bed's relay does; `folder` keeps its authority and certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        authority = ["-subj", "/CN=other authority", "-days", "2", "-out", f"{folder}/ca.pem"]
        _openssl("req", "-x509", *_new_key(folder / "ca.key"), *authority)
        internet.name_host(NAME, internet.address(HOST))

    @property
    def variables(self) -> dict[str, str]:
        """What makes a box send its mail through it."""
        return {"mailserver_relay_host": NAME, "mailserver_relay_ca": (self._folder / "ca.pem").read_text()}

    def answer(self, name: str = NAME) -> None:
        """Answer with a certificate for a name, signed by the authority that the box trusts."""
        self._certify(name)
        login = ["-e", f"RELAY_USER={relay.USER}", "-e", f"RELAY_PASSWORD={relay.PASSWORD}"]
        self._start(465, *login, f"{images.PREFIX}/mail-world:latest")

    def answer_in_clear(self) -> None:
        """Take everything from everybody, and know nothing of TLS."""
        sink = ["python3", "-um", "aiosmtpd", "-n", "-c", "aiosmtpd.handlers.Debugging", "stdout", "-l", "0.0.0.0:587"]
        self._start(587, f"{images.PREFIX}/mail-world:latest", *sink)

    @staticmethod
    def received(recipient: str) -> list[dict[str, Any]]:
        return relay.received(recipient, CONTAINER)

    @staticmethod
    def said() -> str:
        return docker("logs", CONTAINER)

    @staticmethod
    def remove() -> None:
        if succeeds("docker", "container", "inspect", CONTAINER):
            docker("rm", "-f", CONTAINER)

    def _certify(self, name: str) -> None:
        folder = self._folder
        (folder / "extensions").write_text(f"subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n")
        _openssl("req", *_new_key(folder / "key.pem"), "-subj", f"/CN={name}", "-out", f"{folder}/request.pem")
        authority = ["-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key", "-CAcreateserial", "-days", "2"]
        files = ["-in", f"{folder}/request.pem", "-extfile", f"{folder}/extensions", "-out", f"{folder}/cert.pem"]
        _openssl("x509", "-req", *authority, *files)

    def _start(self, port: int, *arguments: str) -> None:
        self.remove()
        place = ["--network", internet.NETWORK, "--ip", internet.address(HOST), "--memory", "128m"]
        docker("create", "--name", CONTAINER, *place, *arguments)
        for file in ("cert.pem", "key.pem"):
            if (self._folder / file).exists():
                docker("cp", str(self._folder / file), f"{CONTAINER}:/etc/relay/{file}")
        docker("start", CONTAINER)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection((internet.address(HOST), port), timeout=2).close()
                return
            except OSError:
                assert time.monotonic() < deadline, docker("logs", CONTAINER)
                time.sleep(0.2)


def _new_key(path: Path) -> list[str]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(path)]


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
