"""Mail comes in, lies in mailboxes, and goes out through the relay, signed."""

from __future__ import annotations

import json
import poplib
import re
import socket
import ssl
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import dns.resolver
import pytest

from testbed import internet, relay
from testbed.docker import docker

if TYPE_CHECKING:
    from conftest import Mail

OnBox = Callable[[str], str]
Arrived = Callable[..., dict[str, Any]]
Judged = Callable[[dict[str, Any]], dict[str, str]]


@pytest.mark.parametrize("port", [465, 587])
def test_what_one_account_submits_another_reads(mail: Mail, port: int) -> None:
    message = mail.message(mail.user("ana"), mail.user("bob"))
    with mail.submission("ana", port) as connection:
        connection.send_message(message)

    assert b"hello" in mail.find("bob", message["Subject"])


def test_mail_from_the_world_is_read_by_imap_and_by_pop3(mail: Mail) -> None:
    message = mail.message(f"friend@{relay.OUTSIDE}", mail.user("ana"))
    with mail.port_25() as connection:
        connection.send_message(message)

    read = mail.find("ana", message["Subject"])
    assert b"Authentication-Results: mail." in read

    plain = socket.create_connection((mail.address, 995), timeout=30)
    secured = mail.context.wrap_socket(plain, server_hostname=mail.hostname)
    pop = poplib.POP3.__new__(poplib.POP3_SSL)
    pop.sock, pop.file, pop._debugging, pop._tls_established = secured, secured.makefile("rb"), 0, True  # type: ignore[attr-defined]
    pop.timeout, pop.encoding = 30, "UTF-8"  # type: ignore[attr-defined]
    pop.welcome = pop._getresp()  # type: ignore[attr-defined]
    pop.user(mail.user("ana"))
    pop.pass_(mail.password("ana"))
    texts = [b"\n".join(pop.retr(number)[1]) for number in range(1, pop.stat()[0] + 1)]
    pop.quit()
    assert any(message["Subject"].encode() in text for text in texts)


def test_swaks_submits_on_both_ports_and_is_told_to_log_in_on_neither_but_these(mail: Mail) -> None:
    login = ["--auth-user", mail.user("ana"), "--auth-password", mail.password("ana")]
    common = ["--from", mail.user("ana"), "--to", mail.user("bob"), "--server", mail.hostname]
    for options in (["--tlsc", "-p", "465"], ["--tls", "-p", "587"]):
        code, said = relay.swaks(*common, *login, "--auth", "PLAIN", *options)
        assert (code, "250 2.0.0 Ok: queued" in said) == (0, True), said

    code, said = relay.swaks(*common, "-p", "25", "--quit-after", "EHLO")
    assert code == 0
    assert "AUTH" not in said
    assert "STARTTLS" in said


def test_an_alias_reaches_all_its_targets_and_any_other_name_the_catch_all(mail: Mail) -> None:
    shared = mail.message(f"friend@{relay.OUTSIDE}", mail.user("info"))
    stray = mail.message(f"friend@{relay.OUTSIDE}", mail.user("no-such-name"))
    own = mail.message(f"friend@{relay.OUTSIDE}", mail.user("small"))
    with mail.port_25() as connection:
        for message in (shared, stray, own):
            connection.send_message(message)

    assert mail.find("ana", shared["Subject"])
    assert mail.find("bob", shared["Subject"])
    assert mail.find("bob", stray["Subject"])
    # The catch-all would go before real accounts.
    assert mail.find("small", own["Subject"])


@pytest.mark.parametrize("name", ["postmaster", "abuse"])
def test_the_addresses_every_domain_must_have_are_read_by_the_first_account(mail: Mail, name: str) -> None:
    message = mail.message(f"friend@{relay.OUTSIDE}", mail.user(name))
    with mail.port_25() as connection:
        connection.send_message(message)

    assert mail.find("ana", message["Subject"])


def test_a_sieve_filter_sorts_mail(mail: Mail) -> None:
    message = mail.message(mail.user("ana"), mail.user("bob"), "[list] news")
    connection = mail.imap("bob")
    connection.create("Archive")
    connection.logout()
    with mail.submission() as submission:
        submission.send_message(message)

    assert mail.find("bob", "[list] news", folder="Archive")


def test_mail_leaves_through_the_relay_with_tls_and_login(mail: Mail, arrived: Arrived, on_box: OnBox) -> None:
    message = mail.message(mail.user("ana"), f"friend@{relay.OUTSIDE}")
    with mail.submission() as connection:
        connection.send_message(message)

    found = arrived(f"friend@{relay.OUTSIDE}", message["Subject"])
    assert found["peer"] == internet.address(relay.RELAY.host)
    assert found["sender"] == mail.user("ana")
    log = on_box("grep 'Verified TLS connection established to relay' /opt/servers/mailserver/data/log/mail.log")
    assert "relay.internet.test" in log


@pytest.fixture(scope="module")
def outside(mail: Mail, arrived: Arrived, publish: Callable[..., None]) -> dict[str, Any]:
    """What the receiver got of a message, once the domain's records are published."""
    publish()
    message = mail.message(mail.user("ana"), f"friend@{relay.OUTSIDE}", body="árbol\n.\nline of a dot\n")
    with mail.submission() as connection:
        connection.send_message(message)
    return arrived(f"friend@{relay.OUTSIDE}", message["Subject"])


def test_a_receiver_finds_our_mail_signed_allowed_and_aligned(outside: dict[str, Any], judged: Judged) -> None:
    said = judged(outside)
    assert (said["dkim"], said["spf"], said["dmarc"]) == ("pass", "pass", "pass")


@pytest.mark.parametrize(
    ("altered", "elsewhere", "dkim", "spf", "dmarc"),
    [
        (True, False, "fail", "pass", "pass"),
        (False, True, "pass", "fail", "pass"),
        (True, True, "fail", "fail", "fail"),
    ],
)
def test_signature_or_sender_alone_is_enough_for_dmarc(
    outside: dict[str, Any], judged: Judged, altered: bool, elsewhere: bool, dkim: str, spf: str, dmarc: str
) -> None:
    """A list that alters messages, a mailbox that passes them on, and somebody who does both."""
    found = dict(outside)
    if altered:
        found["message"] = found["message"].replace("Subject: test", "Subject: toast")
    if elsewhere:
        found["peer"] = "192.0.2.1"
    said = judged(found)
    assert (said["dkim"], said["spf"], said["dmarc"]) == (dkim, spf, dmarc)


def test_a_receiver_finds_that_a_forged_sender_is_not_ours(
    mail: Mail, outside: dict[str, Any], arrived: Arrived, judged: Judged
) -> None:
    subject = f"forged {uuid.uuid4().hex}"
    # The forger's own envelope is in order: only what people see is ours.
    forged = ["--from", f"forger@{relay.STRICT}", "--header", f"From: {mail.user('ana')}"]
    forged += ["--to", f"friend@{relay.OUTSIDE}", "--header", f"Subject: {subject}"]
    docker("exec", relay.RELAY.container, "swaks", *forged, "--server", relay.RELAY.domain, "-p", "25")

    said = judged(arrived(f"friend@{relay.OUTSIDE}", subject))

    assert (said["spf"], said["dmarc"]) == ("pass", "fail")
    assert (said["header.from"], said["policy.dmarc"]) == (mail.domain, "quarantine")


def test_the_signature_covers_a_second_from_that_somebody_might_add(outside: dict[str, Any]) -> None:
    # dkimpy refuses two of them by itself, as other receivers do not.
    fields = re.search(r"DKIM-Signature:.*?[;\s]h=([^;]*);", outside["message"], re.DOTALL)
    assert fields is not None
    assert re.sub(r"\s", "", fields[1]).lower().split(":").count("from") == 2


def test_a_refusal_by_the_receiver_comes_back_to_the_sender(mail: Mail) -> None:
    message = mail.message(mail.user("ana"), f"full@{relay.OUTSIDE}")
    with mail.submission() as connection:
        connection.send_message(message)

    assert b"552 5.2.2 Mailbox is full" in mail.find("ana", "Undelivered Mail Returned to Sender", seconds=40)


def test_only_the_ports_of_the_table_answer(open_ports: Callable[[Iterable[int]], set[int]]) -> None:
    assert open_ports([25, 110, 143, 465, 587, 993, 995, 4190, 8891, 9000, 11334]) == {25, 465, 587, 993, 995}


@pytest.mark.parametrize("port", [465, 993, 995])
def test_tls_below_1_2_is_refused(mail: Mail, port: int) -> None:
    old = ssl.create_default_context()
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection((mail.address, port), timeout=10) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        old.wrap_socket(plain, server_hostname=mail.hostname)


def test_the_container_has_the_rights_and_the_memory_it_needs_and_no_more(on_box: OnBox) -> None:
    found = json.loads(on_box("docker inspect mailserver"))[0]
    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    assert set(found["HostConfig"]["CapAdd"]) == {
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "KILL",
        "NET_BIND_SERVICE",
        "SETGID",
        "SETUID",
    }
    assert found["HostConfig"]["Memory"] == 160 << 20
    assert found["State"]["Health"]["Status"] == "healthy"
    secret = on_box("docker inspect mailserver webmail mail-web; docker logs mailserver 2>&1")
    assert relay.PASSWORD not in secret


def test_a_user_of_the_container_can_send_by_the_program_sendmail(mail: Mail, on_box: OnBox) -> None:
    line = f"printf 'Subject: from inside\\n\\nhello\\n' | sendmail {mail.user('ana')}"
    on_box(f"timeout 20 docker exec --user nobody mailserver sh -c {json.dumps(line)}")

    assert mail.find("ana", "from inside")


def test_the_resolver_outside_knows_what_the_tests_build_on() -> None:
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [internet.address(internet.DNS.host)]
    answers = {str(record).strip('"') for record in resolver.resolve(f"_dmarc.{relay.STRICT}", "TXT")}
    assert answers == {"v=DMARC1; p=reject; adkim=s; aspf=s"}
