# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Which ways out of a box are open to its mail. Private to this collection; knows nothing of Ansible."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

SECONDS = 15.0


@dataclass(frozen=True)
class Relay:
    """A server that takes mail for the whole world from those who log in; `ca` is PEM, or empty."""

    host: str
    port: int
    username: str
    password: str
    ca: str = ""
    verify: bool = True

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}"


def relay_problem(relay: Relay, seconds: float = SECONDS) -> str:
    """Log in as the mail server will and say in one sentence what is in the way; nothing where all is well."""
    try:
        with _connect(relay, seconds) as connection:
            if relay.username:
                connection.login(relay.username, relay.password)
    except ssl.SSLCertVerificationError as error:
        return (
            f"the certificate of {relay.place} is not valid for it ({error.verify_message}): correct the name of the "
            "relay, or give its authority in mailserver_relay_ca."
        )
    except smtplib.SMTPAuthenticationError as error:
        return (
            f"{relay.place} refuses mailserver_relay_username and mailserver_relay_password "
            f"({_said(error.smtp_error)}): take both anew from your relay's web pages."
        )
    except smtplib.SMTPNotSupportedError as error:
        return (
            f"{relay.place} does not offer what a password needs ({error}): give another "
            "mailserver_relay_port, as a rule 587 or 465."
        )
    except (OSError, smtplib.SMTPException) as error:
        return (
            f"{relay.place} cannot be reached ({error}): check mailserver_relay_host and mailserver_relay_port, "
            "and that your provider lets that port out."
        )
    return ""


def _connect(relay: Relay, seconds: float) -> smtplib.SMTP:
    context = ssl.create_default_context(cadata=relay.ca or None)
    # Newer Pythons ask of an authority's certificate what Postfix does not.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not relay.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if relay.port == 465:
        return smtplib.SMTP_SSL(relay.host, relay.port, timeout=seconds, context=context)
    connection = smtplib.SMTP(relay.host, relay.port, timeout=seconds)
    try:
        connection.starttls(context=context)
    except BaseException:
        connection.close()
        raise
    return connection


def _said(answer: bytes | str) -> str:
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    return " ".join(text.split())


def port_25_answers(hosts: Sequence[str], seconds: float = SECONDS) -> dict[str, str]:
    """Greet mail servers of the world on port 25; the value of each is what it said, or nothing where none answered."""
    return {host: _greeting(host, seconds) for host in hosts}


def _greeting(host: str, seconds: float) -> str:
    name, _colon, port = host.partition(":")
    try:
        with socket.create_connection((name, int(port or 25)), timeout=seconds) as connection:
            return connection.recv(200).decode(errors="replace").splitlines()[0]
    except (OSError, IndexError):
        return ""


def reverse_name(address: str) -> str:
    """Return the name that the DNS gives an address, or nothing."""
    try:
        return socket.gethostbyaddr(address)[0].lower()
    except OSError:
        return ""


def points_back(name: str, address: str) -> bool:
    """Tell whether a name leads to an address, as receivers check of a reverse name."""
    try:
        return any(found[4][0] == address for found in socket.getaddrinfo(name, None))
    except OSError:
        return False
