"""What the world tries, and what becomes of it."""

from __future__ import annotations

import base64
import re
import smtplib
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from testbed import internet, relay

if TYPE_CHECKING:
    from conftest import Mail

OnBox = Callable[[str], str]

FRIEND = f"friend@{relay.OUTSIDE}"
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\n"
EICAR = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*\n"


@pytest.mark.parametrize(
    "recipient",
    [
        "victim@outside.example",
        "<@{domain}:victim@outside.example>",
        "victim%outside.example",
        "outside.example!victim",
        "victim@outside.example@{domain}",
        '"victim@outside.example"@{domain}',
        "victim%outside.example@[127.0.0.1]",
    ],
)
@pytest.mark.parametrize("sender", ["", "stranger@outside.example", "ana@{domain}"])
def test_a_stranger_cannot_send_through_the_server(mail: Mail, recipient: str, sender: str) -> None:
    with mail.port_25() as connection:
        connection.ehlo("relay.internet.test")
        connection.docmd("MAIL", f"FROM:<{sender.format(domain=mail.domain)}>")
        place = recipient.format(domain=mail.domain)
        code, said = connection.docmd("RCPT", f"TO:{place if place.startswith('<') else f'<{place}>'}")
        if code == 250:
            # The catch-all takes it for a mailbox here: then it must stay here.
            assert place.endswith(f"@{mail.domain}")
            connection.docmd("DATA")
            connection.send(b"Subject: relayed\r\n\r\nhello\r\n.\r\n")
            connection.getreply()
        else:
            assert code in (450, 454, 501, 504, 550, 553, 554), said
    time.sleep(1)
    assert relay.received("victim@outside.example") == []


@pytest.mark.parametrize("port", [465, 587])
def test_nobody_submits_without_a_login(mail: Mail, port: int) -> None:
    with mail.submission(None, port) as connection:
        connection.docmd("MAIL", f"FROM:<{mail.user('ana')}>")
        code, _ = connection.docmd("RCPT", f"TO:<{mail.user('bob')}>")
    assert code in (530, 550, 554)


def test_nobody_logs_in_in_clear(mail: Mail) -> None:
    with smtplib.SMTP(mail.address, 587, local_hostname="client.outside.example", timeout=30) as connection:
        connection.ehlo()
        assert "auth" not in connection.esmtp_features
        secret = base64.b64encode(f"\0{mail.user('ana')}\0{mail.password('ana')}".encode()).decode()
        assert connection.docmd("AUTH", f"PLAIN {secret}")[0] in (502, 503, 530, 538)
        assert connection.docmd("MAIL", f"FROM:<{mail.user('ana')}>")[0] == 530


def test_no_account_sends_in_the_name_of_another(mail: Mail) -> None:
    with mail.submission("ana") as connection:
        connection.docmd("MAIL", f"FROM:<{mail.user('bob')}>")
        code, said = connection.docmd("RCPT", f"TO:<{FRIEND}>")
    assert code == 553
    assert b"not owned by user" in said


def test_an_alias_may_be_sent_from_by_those_it_leads_to(mail: Mail) -> None:
    message = mail.message(mail.user("info"), mail.user("small"))
    with mail.submission("ana") as connection:
        connection.send_message(message)
    assert mail.find("small", message["Subject"])


def test_the_from_that_people_see_is_not_checked_and_the_guide_says_so(mail: Mail) -> None:
    message = mail.message(mail.user("bob"), mail.user("small"))
    with mail.submission("ana") as connection:
        connection.send_message(message, from_addr=mail.user("ana"))
    assert mail.find("small", message["Subject"])


def test_a_forged_sender_of_a_domain_that_forbids_it_is_refused(mail: Mail) -> None:
    message = mail.message(f"boss@{relay.STRICT}", mail.user("ana"))
    with mail.port_25() as connection, pytest.raises(smtplib.SMTPDataError) as refused:
        connection.send_message(message)
    assert refused.value.smtp_code == 550
    assert b"5.7.1" in refused.value.smtp_error


def test_a_sender_whose_domain_does_not_exist_is_refused(mail: Mail) -> None:
    with mail.port_25() as connection:
        connection.ehlo()
        connection.docmd("MAIL", "FROM:<x@nowhere.invalid>")
        code, _ = connection.docmd("RCPT", f"TO:<{mail.user('ana')}>")
    assert code in (450, 550)


def test_a_client_that_talks_before_it_is_greeted_is_sent_away(mail: Mail) -> None:
    program = (
        "import socket, sys; s = socket.create_connection((sys.argv[1], 25), 20);"
        "s.sendall(b'EHLO rude.example\\r\\nMAIL FROM:<>\\r\\nRCPT TO:<%s>\\r\\nQUIT\\r\\n' % sys.argv[2].encode())\n"
        "while data := s.recv(4096): print(data.decode(), end='')"
    )
    # From where nobody behaved before, for that is remembered; far from the addresses that the engine hands out.
    _, said = relay.stranger("python3", "-c", program, mail.address, mail.user("ana"), host=3001)
    assert re.search(r"^(550|521) 5\.", said, re.MULTILINE), said


# What some servers take for the end of a message and others do not.
ENDS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n\0.\r\n"]
HIDDEN = b"MAIL FROM:<boss@strict.example>\r\nRCPT TO:<%s>\r\nDATA\r\nSubject: smuggled\r\n\r\n!\r\n.\r\n"


@pytest.mark.parametrize("end", ENDS)
def test_a_hidden_second_message_is_not_let_in(mail: Mail, end: bytes) -> None:
    with mail.port_25() as connection:
        connection.ehlo()
        connection.docmd("MAIL", f"FROM:<{FRIEND}>")
        connection.docmd("RCPT", f"TO:<{mail.user('ana')}>")
        connection.docmd("DATA")
        connection.send(b"Subject: carrier\r\n\r\nhello" + end + HIDDEN % mail.user("ana").encode())
        code, _ = connection.getreply()
    assert code in (250, 521, 550, 554)
    box = mail.imap("ana")
    box.select("INBOX")
    found = box.search(None, "SUBJECT", "smuggled")[1][0].split()
    headers = [box.fetch(number.decode(), "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1][0] for number in found]
    box.logout()
    assert [one for one in headers if isinstance(one, tuple) and one[1].strip() == b"Subject: smuggled"] == []


@pytest.mark.parametrize("end", ENDS)
def test_a_hidden_second_message_is_not_passed_on_for_others_to_let_in(mail: Mail, end: bytes) -> None:
    recipient = f"{uuid.uuid4().hex}@{relay.OUTSIDE}"
    with mail.submission() as connection:
        connection.docmd("MAIL", f"FROM:<{mail.user('ana')}>")
        connection.docmd("RCPT", f"TO:<{recipient}>")
        connection.docmd("DATA")
        connection.send(b"Subject: carrier\r\n\r\nhello" + end + HIDDEN % recipient.encode())
        code, _ = connection.getreply()
    if code != 250:
        assert code in (521, 550, 554)
        return
    deadline = time.monotonic() + 30
    while not (found := relay.received(recipient)):
        assert time.monotonic() < deadline, f"{recipient} got nothing"
        time.sleep(0.5)
    assert [one["sender"] for one in found] == [mail.user("ana")]
    assert re.search(r"(?<!\r)\n|\r(?!\n)", found[0]["message"]) is None


def test_a_message_that_is_too_big_is_refused(mail: Mail) -> None:
    message = mail.message(mail.user("ana"), mail.user("bob"), body="x" * 70 + "\n")
    message.add_attachment(b"x" * (5 << 20), maintype="application", subtype="octet-stream")
    with mail.submission() as connection, pytest.raises(smtplib.SMTPResponseException) as refused:
        connection.send_message(message)
    assert refused.value.smtp_code == 552


def test_a_full_mailbox_refuses_before_the_message_is_taken(mail: Mail) -> None:
    deadline = time.monotonic() + 60
    while True:
        message = mail.message(FRIEND, mail.user("small"), body=("x" * 70 + "\n") * 7000)
        try:
            with mail.port_25() as connection:
                connection.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            code, said = error.recipients[mail.user("small")]
            break
        assert time.monotonic() < deadline, "a mailbox of 1 MB takes more"
        time.sleep(1)
    assert (code, b"Mailbox is full" in said) == (552, True)


@pytest.mark.parametrize(("name", "text"), [("gtube", GTUBE), ("eicar", EICAR)])
def test_the_basic_filter_reads_no_text_and_the_guide_says_so(mail: Mail, name: str, text: str) -> None:
    message = mail.message(FRIEND, mail.user("ana"), body=text)
    with mail.port_25() as connection:
        connection.send_message(message)
    assert text.strip()[:20].encode() in mail.find("ana", message["Subject"])


def test_a_message_that_went_in_circles_is_stopped(mail: Mail) -> None:
    message = mail.message(FRIEND, mail.user("ana"))
    circles = b"".join(b"Received: from a by b; Sun, 22 Nov 2026 10:00:00 +0000\r\n" for _ in range(60))
    with mail.port_25() as connection:
        connection.ehlo()
        connection.docmd("MAIL", f"FROM:<{FRIEND}>")
        connection.docmd("RCPT", f"TO:<{mail.user('ana')}>")
        code, said = connection.data(circles + bytes(message))
    assert code == 554
    assert b"too many hops" in said


def test_addresses_cannot_be_asked_for(mail: Mail) -> None:
    for question in ("VRFY", "EXPN"):
        with mail.port_25() as connection:
            connection.ehlo()
            assert connection.docmd(question, mail.user("ana"))[0] in (500, 502)


def test_one_server_cannot_take_all_places(mail: Mail) -> None:
    open_ones = []
    try:
        refused = False
        for _ in range(12):
            connection = socket.create_connection((mail.address, 25), timeout=15)
            open_ones.append(connection)
            refused = refused or connection.recv(200).startswith(b"421")
        assert refused
    finally:
        for connection in open_ones:
            connection.close()
    with mail.submission() as submission:
        assert submission.noop()[0] == 250


STORMS = {
    "servers-postfix": (
        "import smtplib, ssl, sys, time; c = ssl._create_unverified_context()\n"
        "refused = 0\n"
        "while refused < 4:\n"
        # Two ways to log in are tried each time, and the other tests may take all places for a while.
        " try:\n"
        "  s = smtplib.SMTP_SSL(sys.argv[1], 465, timeout=60, context=c)\n"
        "  s.login(sys.argv[2], 'wrong%d' % refused)\n"
        " except smtplib.SMTPAuthenticationError: refused += 1; s.close()\n"
        " except (OSError, smtplib.SMTPException): time.sleep(1)\n"
    ),
    "servers-dovecot": (
        "import imaplib, ssl, sys; c = ssl._create_unverified_context()\n"
        "for n in range(5):\n"
        " s = imaplib.IMAP4_SSL(sys.argv[1], 993, ssl_context=c, timeout=60)\n"
        " try: s.login(sys.argv[2], 'wrong%d' % n)\n"
        " except imaplib.IMAP4.error: pass\n"
        " s.shutdown()\n"
    ),
}


PLACES = dict(zip(STORMS, (3002, 3003), strict=True))


@pytest.fixture(scope="module", autouse=True)
def storms(mail: Mail) -> Iterator[list[Future[tuple[int, str]]]]:
    """Let two strangers try passwords beside the other tests: each try is answered later than the one before."""
    with ThreadPoolExecutor() as pool:
        yield [
            pool.submit(
                relay.stranger, "python3", "-c", STORMS[jail], mail.address, mail.user("ana"), host=PLACES[jail]
            )
            for jail in STORMS
        ]


def test_storms_of_wrong_passwords_are_banned_by_the_host(
    mail: Mail, on_box: OnBox, storms: list[Future[tuple[int, str]]]
) -> None:
    for storm in storms:
        storm.result()

    for jail, place in PLACES.items():
        banned = internet.address(place)
        deadline = time.monotonic() + 30
        while banned not in on_box(f"fail2ban-client get {jail} banip"):
            assert time.monotonic() < deadline, f"{banned} is not banned by {jail}"
            time.sleep(1)
        on_box(f"fail2ban-client set {jail} unbanip {banned}")
    # Who knows the password is let in meanwhile, from elsewhere.
    mail.imap("ana").logout()
