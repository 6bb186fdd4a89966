"""What the tests of the mail server need: its accounts, ways in and out, and the play."""

from __future__ import annotations

import imaplib
import json
import os
import re
import smtplib
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dns.resolver
import pytest
from authheaders import authenticate_message  # type: ignore[import-untyped]

from testbed import internet, relay
from testbed.browser import browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[3]
INVENTORY = ROOT / ".cache/molecule/mailserver"


class Mail:
    """The mail server as a stranger on the network meets it."""

    def __init__(self, address: str, domain: str, roots: str) -> None:
        self.address = address
        self.domain = domain
        self.hostname = f"mail.{domain}"
        self.context = ssl.create_default_context(cadata=roots)

    def user(self, name: str) -> str:
        return f"{name}@{self.domain}"

    @staticmethod
    def password(name: str) -> str:
        return (INVENTORY / ".secrets" / name).read_text().strip()

    def submission(self, name: str | None = "ana", port: int = 465) -> smtplib.SMTP:
        """Open a connection for sending, with the certificate's name checked, and log in."""
        connection: smtplib.SMTP
        if port == 465:
            connection = _Implicit(self.address, self.hostname, self.context)
        else:
            connection = _Explicit(self.address, port)
            connection._host = self.hostname  # type: ignore[attr-defined]
            connection.starttls(context=self.context)
        connection.ehlo("client.outside.example")
        if name:
            connection.login(self.user(name), self.password(name))
        return connection

    def port_25(self) -> smtplib.SMTP:
        """Open a connection as a server of the world does, which waits until it is spoken to."""
        return smtplib.SMTP(self.address, 25, local_hostname="relay.internet.test", timeout=60)

    def imap(self, name: str, password: str | None = None) -> imaplib.IMAP4_SSL:
        connection = _Imap(self.address, self.hostname, self.context)
        connection.login(self.user(name), password or self.password(name))
        return connection

    def log_in(self, page: Page, name: str, password: str | None = None) -> None:
        """Fill in the webmail's form."""
        page.goto(f"https://{self.hostname}/")
        page.fill("#rcmloginuser", self.user(name))
        page.fill("#rcmloginpwd", password or self.password(name))
        page.click("#rcmloginsubmit")

    def message(self, sender: str, recipient: str, subject: str = "", body: str = "hello\n") -> EmailMessage:
        message = EmailMessage()
        message["From"], message["To"] = sender, recipient
        message["Subject"] = subject or f"test {uuid.uuid4().hex}"
        message["Message-ID"] = f"<{uuid.uuid4().hex}@client.outside.example>"
        message["Date"] = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())
        message.set_content(body)
        return message

    def find(self, name: str, subject: str, folder: str = "INBOX", seconds: float = 30) -> bytes:
        """Return the message with a subject, as it lies in the mailbox, once it is there."""
        deadline = time.monotonic() + seconds
        while True:
            connection = self.imap(name)
            try:
                if connection.select(folder)[0] == "OK":
                    found = connection.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
                    if found:
                        part = connection.fetch(found[-1].decode(), "(BODY.PEEK[])")[1][0]
                        assert isinstance(part, tuple)
                        return bytes(part[1])
            finally:
                connection.logout()
            assert time.monotonic() < deadline, f"{subject!r} did not reach {folder} of {name}"
            time.sleep(0.5)


class _Implicit(smtplib.SMTP_SSL):
    def __init__(self, address: str, name: str, context: ssl.SSLContext) -> None:
        self._name = name
        super().__init__(address, 465, local_hostname="client.outside.example", timeout=60, context=context)

    def _get_socket(self, host: str, port: int, timeout: float) -> ssl.SSLSocket:
        plain = smtplib.SMTP._get_socket(self, host, port, timeout)  # type: ignore[attr-defined]
        return self.context.wrap_socket(plain, server_hostname=self._name)


class _Explicit(smtplib.SMTP):
    def __init__(self, address: str, port: int) -> None:
        super().__init__(address, port, local_hostname="client.outside.example", timeout=60)


class _Imap(imaplib.IMAP4_SSL):
    def __init__(self, address: str, name: str, context: ssl.SSLContext) -> None:
        self._name = name
        super().__init__(address, 993, ssl_context=context, timeout=60)

    def _create_socket(self, timeout: float | None) -> ssl.SSLSocket:
        plain = imaplib.IMAP4._create_socket(self, timeout)  # type: ignore[attr-defined]
        return self.ssl_context.wrap_socket(plain, server_hostname=self._name)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def mail(address: str, domain: str, variables: dict[str, Any]) -> Mail:
    return Mail(address, domain, variables["servers_private_ca"])


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="session")
def arrived() -> Callable[..., dict[str, Any]]:
    """Wait for the message with a subject at the receiver outside."""

    def wait(
        recipient: str,
        subject: str,
        received: Callable[[str], list[dict[str, Any]]] = relay.received,
        seconds: float = 30,
    ) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            for found in received(recipient):
                if f"Subject: {subject}" in found["message"]:
                    return found
            assert time.monotonic() < deadline, f"{subject!r} did not reach {recipient}"
            time.sleep(0.5)

    return wait


Playbook = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def playbook() -> Playbook:
    """Run a playbook for the box with other values."""

    def run(path: str, *options: str, **values: Any) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(INVENTORY), *options]
        command += ["-e", json.dumps(values), str(ROOT / path)]
        environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)

    return run


@pytest.fixture(scope="session")
def play(playbook: Playbook) -> Playbook:
    """Run the mail server's part of the play again with other values, as its user would."""
    return partial(playbook, "molecule/mailserver/converge.yml", "--tags", "mailserver")


@pytest.fixture(scope="session")
def publish(playbook: Playbook, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Publish the records that playbooks/dns.yml asks for, as the domain's owner does."""
    zone_file = tmp_path_factory.mktemp("dns") / "zone"

    def run(**values: Any) -> None:
        done = playbook("playbooks/dns.yml", **values, dns_check=False, dns_zone_file=str(zone_file))
        assert done.returncode == 0, done.stdout
        records = []
        for line in zone_file.read_text().splitlines():
            owner, _, _, kind, value = line.split(maxsplit=4) if " IN " in line else ("",) * 5
            if kind == "TXT":
                records.append(f"txt-record={owner.rstrip('.')}," + value.replace('" "', '","'))
            elif kind == "MX":
                priority, host = value.split()
                records.append(f"mx-host={owner.rstrip('.')},{host.rstrip('.')},{priority}")
        internet.publish("mailserver-zone", "\n".join(records) + "\n")

    return run


@pytest.fixture(scope="module")
def judged() -> Iterator[Callable[[dict[str, Any]], dict[str, str]]]:
    """Let authheaders judge what a receiver got, as one would: by the test bed's DNS and by who handed it over."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [internet.address(internet.DNS.host)]
    before, dns.resolver.default_resolver = dns.resolver.default_resolver, resolver

    def judge(found: dict[str, Any]) -> dict[str, str]:
        raw, peer, sender = found["message"].encode("latin-1"), found["peer"], found["sender"]
        said = authenticate_message(raw, relay.OUTSIDE, spf=True, ip=peer, mail_from=sender, helo=found["helo"])
        return dict(re.findall(r"\b(spf|dkim|dmarc|policy\.dmarc|header\.from)=([\w.-]+)", said))

    yield judge
    dns.resolver.default_resolver = before
