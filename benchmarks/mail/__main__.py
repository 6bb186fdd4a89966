"""Measure what each set of mail services uses on a 1 GB VPS: at rest, in quiet use and in a burst.

The burst is 40 messages in 4 connections from outside, 4 submissions, 2 readers and 5 visitors of the webmail at once.
Where the set puts strangers off, the burst comes again after five minutes. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import imaplib
import re
import smtplib
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPSConnection
from urllib.parse import urlencode

from benchmarks.box import MB, Box, Watch, fresh_box

ROLES = ("docker_engine", "npm", "mailserver")
SETS = ("basic", "greylisting", "rspamd")
CONTAINERS = ("mailserver", "webmail", "mail-web")
USER, PASSWORD = "ana", "correct horse battery"
FRIEND = "friend@outside.example"
REST_SECONDS = 60
# What greylisting asks of a stranger, and a little more.
AGAIN_SECONDS = 310


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.mail", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the VPS up afterwards")
    arguments = parser.parse_args()
    heads = ["set", "container", "limit", "at rest", "quiet use", "burst", "after", "peak with file cache", "killed"]
    rows = []
    with fresh_box("bench-mail", ROLES, keep=arguments.keep) as box:
        for spam_filter in SETS:
            box.play(
                servers_admin_email="admin@bench-mail.test",
                servers_services=["npm", "mailserver"],
                mailserver_spam_filter=spam_filter,
                mailserver_accounts=[{"address": f"{USER}@bench-mail.test", "password": PASSWORD}],
                # All comes from one address here.
                mailserver_inbound_rate=6000,
                mailserver_login_rate=600,
                mailserver_webmail_login_rate=600,
            )
            phases = measure(box, spam_filter)
            for name, limit in zip(CONTAINERS, box.limits(CONTAINERS), strict=True):
                used = [f"{phase.found[name]['used'] / MB:.0f}" for phase in phases]
                last = phases[-1].found[name]
                rows.append([spam_filter, name, str(limit), *used, f"{last['peak'] / MB:.0f}", str(last["killed"])])
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    return 0


def measure(box: Box, spam_filter: str) -> list[Watch]:
    """Return what the containers used in each phase; what clients met is printed beside it."""
    client = Client(box)
    phases = []
    for phase in (rest, quiet, burst, rest):
        with Watch(box, CONTAINERS) as watch:
            phase(client)
        phases.append(watch)
    print(f"{spam_filter}: {dict(client.met)}", file=sys.stderr)
    return phases


def rest(client: Client) -> None:
    """Wait until what ran before has gone, and a little more."""
    time.sleep(REST_SECONDS)


def quiet(client: Client) -> None:
    """Three messages handed in, one from outside, one that is not relayed, one greeting, one visitor who reads."""
    for _ in range(3):
        client.submit()
    client.deliver(1)
    client.try_to_relay()
    client.visit()


def burst(client: Client) -> None:
    at_once: list[Callable[[], None]] = [*[lambda: client.deliver(10)] * 4, *[client.submit] * 4, *[client.read] * 2]
    at_once += [client.visit] * 5
    run_at_once(at_once)
    if client.met["put off"]:
        time.sleep(AGAIN_SECONDS)
        run_at_once(at_once)


def run_at_once(what: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=one) for one in what]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Client:
    """People and servers outside; `met` counts what they met."""

    def __init__(self, box: Box) -> None:
        self._address = str(box.variables["servers_public_ip"])
        self._domain = str(box.variables["servers_domain"])
        self._tls = ssl.create_default_context(cadata=box.variables["servers_private_ca"])
        # The certificate names the mail server, these go to its address.
        self._tls.check_hostname = False
        self.met: Counter[str] = Counter()

    @property
    def _user(self) -> str:
        return f"{USER}@{self._domain}"

    def submit(self) -> None:
        with smtplib.SMTP_SSL(self._address, 465, timeout=120, context=self._tls) as connection:
            connection.login(self._user, PASSWORD)
            connection.sendmail(self._user, [self._user], self._message(self._user))
        self.met["submitted"] += 1

    def deliver(self, messages: int) -> None:
        with smtplib.SMTP(self._address, 25, local_hostname="client.outside.example", timeout=120) as connection:
            for _ in range(messages):
                try:
                    connection.sendmail(FRIEND, [self._user], self._message(FRIEND))
                    self.met["delivered"] += 1
                except smtplib.SMTPRecipientsRefused:
                    self.met["put off"] += 1

    def try_to_relay(self) -> None:
        with smtplib.SMTP(self._address, 25, local_hostname="client.outside.example", timeout=120) as connection:
            try:
                connection.sendmail(FRIEND, ["victim@elsewhere.example"], self._message(FRIEND))
            except smtplib.SMTPRecipientsRefused:
                self.met["not relayed"] += 1

    def read(self) -> None:
        with imaplib.IMAP4_SSL(self._address, ssl_context=self._tls, timeout=120) as connection:
            connection.login(self._user, PASSWORD)
            connection.select("INBOX")
            numbers = connection.search(None, "ALL")[1][0].split()[-20:]
            for number in numbers:
                connection.fetch(number.decode(), "(BODY[])")
        self.met["read"] += len(numbers)

    def visit(self) -> None:
        """Log in to the webmail, list the mailbox and open its newest message."""
        visitor = _Visitor(f"mail.{self._domain}", self._address, self._tls)
        token = re.search(r'name="_token" value="([^"]+)"', visitor.ask("GET", "/?_task=login"))
        assert token is not None
        form = {"_task": "login", "_action": "login", "_user": self._user, "_pass": PASSWORD, "_token": token[1]}
        visitor.ask("POST", "/?_task=login", urlencode(form))
        visitor.ask("GET", "/?_task=mail")
        listed = visitor.ask("GET", "/?_task=mail&_action=list&_mbox=INBOX&_remote=1")
        newest = re.search(r"add_message_row\((\d+)", listed)
        assert newest is not None, listed[:500]
        shown = visitor.ask("GET", f"/?_task=mail&_action=show&_mbox=INBOX&_uid={newest[1]}")
        self.met["seen in the webmail"] += "messagebody" in shown

    def _message(self, sender: str) -> str:
        text = "A line of some words, as people write them.\n" * 40
        return f"From: {sender}\nTo: {self._user}\nSubject: measured\nDate: Sun, 22 Nov 2026 13:00:00 +0000\n\n{text}"


class _Visitor(HTTPSConnection):
    """Knows the name of the site, goes to the address of the box and keeps its cookies."""

    def __init__(self, name: str, address: str, context: ssl.SSLContext) -> None:
        super().__init__(name, timeout=120)
        self._address, self._tls = address, context
        self._cookies: dict[str, str] = {}

    def connect(self) -> None:
        plain = socket.create_connection((self._address, 443), timeout=120)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)

    def ask(self, method: str, path: str, body: str | None = None) -> str:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self.request(method, path, body, headers)
        answer = self.getresponse()
        for line in answer.msg.get_all("Set-Cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            self._cookies[name] = value
        return answer.read().decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
