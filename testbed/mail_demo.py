"""The last act of `make demo`: a message leaves through the relay, and its answer is read by IMAP."""

from __future__ import annotations

import imaplib
import smtplib
import socket
import ssl
import time
import uuid
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

from testbed import relay
from testbed.docker import TestbedError, docker, say
from testbed.vps import Vps, address

SECONDS = 60
ANSWER = """
import smtplib, sys
with smtplib.SMTP(sys.argv[1], 25, local_hostname="relay.internet.test", timeout=60) as way:
    way.sendmail(sys.argv[2], [sys.argv[3]], sys.stdin.buffer.read())
"""


def run(vps: Vps, name: str, password: Path) -> None:
    """Send, wait for it outside, answer from there, and read the answer; raise TestbedError where a step fails."""
    user, friend = f"{name}@{vps.domain}", f"friend@{relay.OUTSIDE}"
    secret = password.read_text().strip()
    roots = (vps.folder.parent / "acme-roots.pem").read_text()
    context = ssl.create_default_context(cadata=roots)
    subject = f"hello from the demo {uuid.uuid4().hex[:8]}"
    with _Submission(address(vps), f"mail.{vps.domain}", context) as connection:
        connection.login(user, secret)
        connection.send_message(_message(user, friend, subject))
    found = _wait(lambda: _outside(friend, subject), f"{subject!r} did not leave through {relay.RELAY.domain}")
    signed = "signed" if "DKIM-Signature" in found else "NOT signed"
    say(f"{user} wrote to {friend}: it left through {relay.RELAY.domain}, {signed} with DKIM")

    answer = _message(friend, user, f"Re: {subject}").as_string()
    # From there, as a server of the world delivers.
    docker("exec", "-i", relay.RELAY.container, "python3", "-c", ANSWER, address(vps), friend, user, stdin=answer)
    _wait(lambda: _inbox(vps, context, user, secret, f"Re: {subject}"), "the answer did not reach the mailbox")
    say(f"{friend} answered: {user} reads it by IMAP, and at https://mail.{vps.domain}")


def _message(sender: str, recipient: str, subject: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, recipient, subject
    message.set_content("Sent by make demo.\n")
    return message


class _Submission(smtplib.SMTP_SSL):
    """Submission to an address, with the certificate checked for a name that this machine cannot look up."""

    def __init__(self, place: str, name: str, context: ssl.SSLContext) -> None:
        self._name, self._tls = name, context
        super().__init__(place, 465, local_hostname="demo.outside.example", timeout=SECONDS, context=context)

    def _get_socket(self, host: str, port: int, timeout: float) -> ssl.SSLSocket:
        plain = socket.create_connection((host, port), timeout)
        return self._tls.wrap_socket(plain, server_hostname=self._name)


class _Mailbox(imaplib.IMAP4_SSL):
    def __init__(self, place: str, name: str, context: ssl.SSLContext) -> None:
        self._name, self._tls = name, context
        super().__init__(place, 993, ssl_context=context, timeout=SECONDS)

    def _create_socket(self, timeout: float | None) -> ssl.SSLSocket:
        plain = socket.create_connection((self.host, self.port), timeout)
        return self._tls.wrap_socket(plain, server_hostname=self._name)


def _outside(recipient: str, subject: str) -> str:
    found = (str(one["message"]) for one in relay.received(recipient))
    return next((text for text in found if f"Subject: {subject}" in text), "")


def _inbox(vps: Vps, context: ssl.SSLContext, user: str, password: str, subject: str) -> str:
    mailbox = _Mailbox(address(vps), f"mail.{vps.domain}", context)
    try:
        mailbox.login(user, password)
        mailbox.select("INBOX", readonly=True)
        return str(mailbox.search(None, "SUBJECT", f'"{subject}"')[1][0].decode())
    finally:
        mailbox.logout()


def _wait(look: Callable[[], str], what: str) -> str:
    deadline = time.monotonic() + SECONDS
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TestbedError(f"{what}: see `docker logs mailserver` on the box.")
        time.sleep(0.5)
    return found
