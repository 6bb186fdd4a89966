"""A relay on ports 587 and 465, for those who use TLS and log in, and a receiver on port 25 for what it passes on."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import smtplib
import socket
import ssl
import time
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

RECEIVED = Path("/var/received")
LIMIT = 40 << 20
USER, PASSWORD = os.environ["RELAY_USER"], os.environ["RELAY_PASSWORD"]


class Receiver:
    """Keeps every message with what was said around it. A recipient `slow@` is put off, `full@` is refused."""

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        if address.startswith("full@"):
            return "552 5.2.2 Mailbox is full"
        if address.startswith("slow@"):
            return "451 4.7.1 Try again later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        record = {
            "peer": str((session.peer or ("",))[0]),
            "helo": session.host_name,
            "tls": session.ssl is not None,
            "sender": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "message": content.decode("latin-1"),
        }
        name = f"{time.time_ns()}-{secrets.token_hex(4)}"
        (RECEIVED / f".{name}").write_text(json.dumps(record))
        # Under its name only once it is whole.
        (RECEIVED / f".{name}").rename(RECEIVED / name)
        return "250 2.0.0 Kept"


class Relay:
    """Passes each message on as it is, through a connection of its own, as a relay of the world does."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        try:
            await asyncio.to_thread(self._pass_on, envelope)
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            return f"{code} {text.decode()}"
        return "250 2.0.0 Passed on"

    @staticmethod
    def _pass_on(envelope: Envelope) -> None:
        assert isinstance(envelope.content, bytes)
        with smtplib.SMTP(socket.gethostbyname(socket.gethostname()), 25, local_hostname="relay.internet.test") as way:
            way.sendmail(envelope.mail_from or "", envelope.rcpt_tos, envelope.content)


def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=good, handled=False)


def main() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("/etc/relay/cert.pem", "/etc/relay/key.pem")
    login: dict[str, Any] = {"authenticator": authenticate, "auth_required": True}
    common: dict[str, Any] = {"hostname": "0.0.0.0", "data_size_limit": LIMIT, "server_hostname": "relay.internet.test"}
    receiver = Controller(Receiver(), port=25, tls_context=context, **common)
    submission = Controller(Relay(), port=587, tls_context=context, require_starttls=True, **login, **common)
    submissions = Controller(Relay(), port=465, ssl_context=context, auth_require_tls=False, **login, **common)
    for controller in (receiver, submission, submissions):
        controller.start()
    print("up", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
