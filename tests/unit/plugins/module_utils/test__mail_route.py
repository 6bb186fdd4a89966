"""Ways out of a box, tried with real servers on this machine."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from ansible_collections.diegonmarcos.servers.plugins.module_utils._mail_route import (
    Relay,
    points_back,
    port_25_answers,
    relay_problem,
    reverse_name,
)


def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword) -> AuthResult:
    return AuthResult(success=data.password == b"right", handled=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def relay(authority: Path) -> Iterator[Relay]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    controller = Controller(
        object(), "127.0.0.1", _free_port(), tls_context=context, require_starttls=True, authenticator=check
    )
    controller.start()
    yield Relay("localhost", controller.port, "box", "right", ca=(authority / "cert.pem").read_text())
    controller.stop()


@pytest.fixture(scope="module")
def plain_server() -> Iterator[int]:
    controller = Controller(object(), "127.0.0.1", _free_port(), server_hostname="mx.example")
    controller.start()
    yield controller.port
    controller.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_relay_that_takes_the_login_is_no_problem(relay: Relay) -> None:
    assert relay_problem(relay, 10) == ""


def test_a_wrong_password_is_told_without_saying_it(relay: Relay) -> None:
    said = relay_problem(replace(relay, password="wrong-word"), 10)
    assert "refuses mailserver_relay_username and mailserver_relay_password" in said
    assert "wrong-word" not in said


def test_an_unknown_authority_is_told(relay: Relay) -> None:
    assert "is not valid for it" in relay_problem(replace(relay, ca=""), 10)


def test_an_unknown_authority_is_accepted_by_choice(relay: Relay) -> None:
    assert relay_problem(replace(relay, ca="", verify=False), 10) == ""


def test_a_relay_without_tls_gets_no_password(relay: Relay, plain_server: int) -> None:
    assert "does not offer what a password needs" in relay_problem(replace(relay, port=plain_server), 10)


def test_nobody_there_is_told(relay: Relay) -> None:
    said = relay_problem(replace(relay, port=_free_port()), 5)
    assert "cannot be reached" in said
    assert said.endswith(".")


def test_a_silent_server_is_given_up(relay: Relay) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "cannot be reached" in relay_problem(replace(relay, port=silent.getsockname()[1]), 1)


def test_port_25_is_heard_or_not(plain_server: int) -> None:
    closed = _free_port()
    answers = port_25_answers([f"127.0.0.1:{plain_server}", f"127.0.0.1:{closed}"], 5)
    assert answers[f"127.0.0.1:{plain_server}"].startswith("220 mx.example")
    assert answers[f"127.0.0.1:{closed}"] == ""


def test_a_name_that_does_not_lead_back_is_told() -> None:
    assert points_back("localhost", "127.0.0.1")
    assert not points_back("localhost", "203.0.113.1")
    assert not points_back("nothing.invalid", "203.0.113.1")
    assert reverse_name("203.0.113.254") == "" or points_back(reverse_name("203.0.113.254"), "203.0.113.254") is False
