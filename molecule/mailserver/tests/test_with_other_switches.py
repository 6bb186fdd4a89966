"""The server taken away and back with other switches, and with others again: what each of them does.

Last of all by its name, because it leaves the box so: `molecule converge` brings the scenario's own switches back.
"""

from __future__ import annotations

import base64
import json
import re
import smtplib
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dkim  # type: ignore[import-untyped]
import pytest
from other_relay import OtherRelay

from testbed import internet, relay

if TYPE_CHECKING:
    from conftest import Mail
    from playwright.sync_api import Browser

OnBox = Callable[[str], str]
Play = Callable[..., subprocess.CompletedProcess[str]]
Arrived = Callable[..., dict[str, Any]]

FRIEND = f"friend@{relay.OUTSIDE}"
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\n"


@dataclass
class TakenAway:
    """What was on the box before, without and with the server."""

    mailboxes: tuple[str, str, str]
    containers: str
    host_files: str


@pytest.fixture(scope="module")
def other_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherRelay]:
    found = OtherRelay(tmp_path_factory.mktemp("relay"))
    found.answer()
    yield found
    found.remove()


@pytest.fixture(scope="module", autouse=True)
def small(play: Play, on_box: OnBox, other_relay: OtherRelay) -> TakenAway:
    """All switches of the small set, and a relay that speaks TLS from the start."""

    def mailboxes() -> str:
        return on_box(
            "find /opt/servers/mailserver/data/mail -type f -path '*/cur/*' -o -type f -path '*/new/*' "
            "| xargs -d '\\n' -r sha256sum | sed 's|:2,.*||; s|/new/|/cur/|' | sort"
        )

    before = mailboxes()
    assert before
    _run(play, mailserver_state="absent")
    without = mailboxes()
    containers = on_box("docker ps -aq --filter name=mailserver --filter name=webmail --filter name=mail-web")
    host_files = on_box("ls /etc/systemd/system/servers-mail* /etc/fail2ban/jail.d/servers-mail* 2>/dev/null || true")
    _run(
        play,
        mailserver_spam_filter="greylisting",
        mailserver_managesieve=True,
        mailserver_webmail_reply_only=True,
        mailserver_relay_port=465,
        **other_relay.variables,
    )
    return TakenAway((before, without, mailboxes()), containers, host_files)


def _run(play: Play, **values: Any) -> None:
    done = play(**values)
    assert done.returncode == 0, done.stdout


def test_absent_and_present_again_keeps_every_message(mail: Mail, small: TakenAway) -> None:
    assert small.containers == small.host_files == ""
    assert len(set(small.mailboxes)) == 1
    mail.imap("ana").logout()


def test_the_ports_are_those_of_the_switches(open_ports: Callable[[Iterable[int]], set[int]]) -> None:
    assert open_ports([25, 110, 143, 465, 587, 993, 995, 4190, 8891, 9000, 10023]) == {25, 465, 587, 993, 995, 4190}


def test_mail_waits_while_a_relay_on_465_has_the_certificate_of_another(
    mail: Mail, other_relay: OtherRelay, arrived: Arrived, on_box: OnBox
) -> None:
    other_relay.answer("another.example")
    recipient = submit(mail)
    assert "certificate" in put_off(on_box, recipient)
    assert other_relay.received(recipient) == []

    other_relay.answer()
    on_box("docker exec mailserver postqueue -f")

    found = arrived(recipient, "waits", other_relay.received)
    assert (found["sender"], len(other_relay.received(recipient))) == (mail.user("ana"), 1)


def test_a_stranger_has_to_try_twice_and_an_account_does_not(mail: Mail, on_box: OnBox) -> None:
    # Whoever came before is remembered, from one run to the next.
    message = mail.message(f"{uuid.uuid4().hex}@{relay.OUTSIDE}", mail.user("ana"))
    for _ in range(2):
        with mail.port_25() as connection, pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            connection.send_message(message)
        code, said = refused.value.recipients[mail.user("ana")]
        assert (code, b"Postgrey" in said) == (450, True)
    own = mail.message(mail.user("bob"), mail.user("ana"))
    with mail.submission("bob") as submission:
        submission.send_message(own)
    assert mail.find("ana", own["Subject"])

    # Five minutes are cut short, for a program that remembers what it was told before.
    on_box("docker exec mailserver supervisorctl stop postgrey")
    on_box("docker exec mailserver postgrey --daemonize --inet=127.0.0.1:10023 --delay=1")
    with mail.port_25() as connection:
        connection.send_message(message)
    assert mail.find("ana", message["Subject"])


def test_a_mail_program_edits_its_filters_over_tls_alone(mail: Mail) -> None:
    script = 'require ["fileinto"]; if header :contains "Subject" "[sieved]" { fileinto "Junk"; }'
    secret = base64.b64encode(f"\0{mail.user('ana')}\0{mail.password('ana')}".encode()).decode()
    with socket.create_connection((mail.address, 4190), timeout=30) as in_clear:
        assert '"SASL" ""' in told(in_clear)
        assert told(in_clear, f'AUTHENTICATE "PLAIN" "{secret}"').startswith("NO")
    plain = socket.create_connection((mail.address, 4190), timeout=30)
    told(plain)
    assert told(plain, "STARTTLS").startswith("OK")
    with mail.context.wrap_socket(plain, server_hostname=mail.hostname) as connection:
        assert '"SASL" "PLAIN' in told(connection)
        assert told(connection, f'AUTHENTICATE "PLAIN" "{secret}"').startswith("OK")
        assert told(connection, f'PUTSCRIPT "mine" {{{len(script)}+}}\r\n{script}').startswith("OK")
        assert told(connection, 'SETACTIVE "mine"').startswith("OK")
        message = mail.message(mail.user("bob"), mail.user("ana"), f"[sieved] {uuid.uuid4().hex}")
        with mail.submission("bob") as submission:
            submission.send_message(message)
        assert mail.find("ana", message["Subject"], folder="Junk")
        assert told(connection, 'SETACTIVE ""').startswith("OK")
        assert told(connection, 'DELETESCRIPT "mine"').startswith("OK")


def told(connection: socket.socket, command: str = "") -> str:
    """Say something and return the answer up to its last line, in the way of ManageSieve (RFC 5804)."""
    if command:
        connection.sendall(f"{command}\r\n".encode())
    answer = ""
    while not (answer.endswith("\r\n") and answer.splitlines()[-1].startswith(("OK", "NO", "BYE"))):
        data = connection.recv(4096)
        assert data, answer
        answer += data.decode()
    return answer


def test_the_webmail_answers_and_starts_nothing(mail: Mail, chromium: Browser) -> None:
    message = mail.message(mail.user("bob"), mail.user("ana"), f"question {uuid.uuid4().hex}")
    with mail.submission("bob") as submission:
        submission.send_message(message)
    mail.find("ana", message["Subject"])
    page = chromium.new_context().new_page()
    page.set_default_timeout(30_000)
    mail.log_in(page, "ana")
    page.wait_for_selector("#messagelist")
    assert page.locator("a.compose:visible").count() == 0
    row = page.locator("#messagelist tr.message", has_text=message["Subject"])
    row.wait_for()
    row.click()
    uid = page.evaluate("rcmail.get_single_uid()")

    page.goto(f"https://{mail.hostname}/?_task=mail&_action=compose&_to={FRIEND}")
    page.wait_for_selector("#composebody")
    page.fill("#compose-subject", "a new one")
    page.fill("#composebody", "unasked")
    page.locator("button.send:visible").first.click()
    page.get_by_text("This webmail answers messages only.").wait_for()

    page.goto(f"https://{mail.hostname}/?_task=mail&_mbox=INBOX&_reply_uid={uid}&_action=compose")
    page.wait_for_selector("#composebody")
    page.fill("#composebody", "answered")
    page.locator("button.send:visible").first.click()
    page.wait_for_url(re.compile("_task=mail(?!.*compose)"))
    assert b"answered" in mail.find("bob", f"Re: {message['Subject']}")

    for closed in ("addressbook", "settings&_action=identities"):
        page.goto(f"https://{mail.hostname}/?_task={closed}")
        # The page says so; older versions of Roundcube answer with 200 all the same.
        assert page.evaluate("rcmail.env.server_error") == 404, closed
    page.context.close()


class TestWithRspamd:
    """The big set, and a relay on port 587."""

    @pytest.fixture(scope="class", autouse=True)
    @staticmethod
    def big(small: TakenAway, playbook: Play, other_relay: OtherRelay, publish: Callable[..., None]) -> None:
        switches = {"mailserver_spam_filter": "rspamd", **other_relay.variables}
        publish(**switches)
        # The domain signed with RSA before: its second key begins by this, and the box follows.
        waits = {"rotate_dkim_wait_hours": 0, "dns_resolver": internet.address(internet.DNS.host)}
        done = playbook("playbooks/rotate_dkim.yml", **switches, **waits)
        assert done.returncode == 0, done.stdout

    def test_mail_waits_for_a_relay_without_tls_and_leaves_with_two_signatures(
        self,
        mail: Mail,
        other_relay: OtherRelay,
        arrived: Arrived,
        judged: Callable[..., dict[str, str]],
        on_box: OnBox,
    ) -> None:
        other_relay.answer("another.example")
        recipient = submit(mail)
        assert "certificate" in put_off(on_box, recipient)
        assert other_relay.received(recipient) == []
        other_relay.answer_in_clear()
        on_box("docker exec mailserver postqueue -f")
        assert "TLS is required" in put_off(on_box, recipient, "TLS is required")
        assert "waits" not in other_relay.said()

        other_relay.answer()
        on_box("docker exec mailserver postqueue -f")

        found = arrived(recipient, "waits", other_relay.received)
        assert len(other_relay.received(recipient)) == 1
        signed = dkim.DKIM(found["message"].encode("latin-1"))
        kinds = {signed.signature_fields[b"a"] for place in range(2) if signed.verify(idx=place)}
        assert kinds == {b"rsa-sha256", b"ed25519-sha256"}
        altered = dkim.DKIM(found["message"].replace("Subject: waits", "Subject: hastens").encode("latin-1"))
        assert [altered.verify(idx=place) for place in range(2)] == [False, False]
        assert judged(found)["dmarc"] == "pass"

    def test_the_text_of_mail_is_read(self, mail: Mail) -> None:
        with mail.port_25() as connection, pytest.raises(smtplib.SMTPDataError) as refused:
            connection.send_message(mail.message(FRIEND, mail.user("ana"), body=GTUBE))
        assert refused.value.smtp_code == 554
        fair = mail.message(FRIEND, mail.user("ana"))
        with mail.port_25() as connection:
            connection.send_message(fair)
        assert mail.find("ana", fair["Subject"])

    def test_nothing_more_is_open(self, open_ports: Callable[[Iterable[int]], set[int]]) -> None:
        assert open_ports([25, 465, 587, 993, 4190, 6379, 10023, 11332, 11334]) == {25, 465, 587, 993}


def submit(mail: Mail) -> str:
    """Hand in a message for somebody outside who gets no other, and return the address."""
    recipient = f"{uuid.uuid4().hex}@{relay.OUTSIDE}"
    with mail.submission() as connection:
        connection.send_message(mail.message(mail.user("ana"), recipient, "waits"))
    return recipient


def put_off(on_box: OnBox, recipient: str, reason: str = "", seconds: float = 60) -> str:
    """Wait until the queue says why it keeps the mail for an address."""
    deadline = time.monotonic() + seconds
    while True:
        for line in on_box("docker exec mailserver postqueue -j").splitlines():
            for one in json.loads(line)["recipients"]:
                if one["address"] == recipient and reason in (found := one.get("delay_reason", "")) and found:
                    return str(found)
        assert time.monotonic() < deadline, on_box("docker exec mailserver postqueue -p")
        time.sleep(0.5)
