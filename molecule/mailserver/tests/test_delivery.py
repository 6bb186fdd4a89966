"""Mail comes in, lies in mailboxes, and goes out through the relay, signed."""

from __future__ import annotations

import json
import poplib
import re
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import dkim  # type: ignore[import-untyped]
import dns.resolver
import pytest
import spf  # type: ignore[import-untyped]

from testbed import internet, relay

if TYPE_CHECKING:
    from conftest import Mail

OnBox = Callable[[str], str]
Arrived = Callable[..., dict[str, Any]]


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


def test_what_arrives_outside_carries_a_signature_that_others_verify(
    mail: Mail, arrived: Arrived, on_box: OnBox, domain: str
) -> None:
    message = mail.message(mail.user("ana"), f"friend@{relay.OUTSIDE}", body="árbol\n.\nline of a dot\n")
    with mail.submission() as connection:
        connection.send_message(message)
    found = arrived(f"friend@{relay.OUTSIDE}", message["Subject"])
    raw = found["message"].encode("latin-1")
    records = _published_records(on_box, domain)

    assert dkim.verify(raw, dnsfunc=lambda name, timeout=5: records.get(name.decode().rstrip(".")))
    # The same, altered: the check itself is sound.
    forged = raw.replace(b"Subject: test", b"Subject: toast")
    assert not dkim.verify(forged, dnsfunc=lambda name, timeout=5: records.get(name.decode().rstrip(".")))

    signature = re.search(rb"DKIM-Signature:(.*?)\r?\n\S", raw, re.DOTALL)
    assert signature is not None
    # Aligned with the From that people see, which is what DMARC asks; and a second From is covered too.
    assert b"d=" + domain.encode() in signature[1]
    assert re.sub(rb"\s", b"", signature[1]).lower().count(b"from") >= 2


def test_a_receiver_finds_the_relay_allowed_by_spf(mail: Mail, arrived: Arrived) -> None:
    message = mail.message(mail.user("ana"), f"friend@{relay.OUTSIDE}")
    with mail.submission() as connection:
        connection.send_message(message)
    found = arrived(f"friend@{relay.OUTSIDE}", message["Subject"])
    records = {mail.domain: f"v=spf1 ip4:{internet.address(relay.RELAY.host)} -all"}

    def look_up(name: str, kind: str, *_: Any, **__: Any) -> list[Any]:
        return [((name, "TXT"), (records[name].encode(),))] if kind == "TXT" and name in records else []

    original = spf.DNSLookup
    spf.DNSLookup = look_up
    try:
        allowed = spf.check2(i=found["peer"], s=found["sender"], h=found["helo"])[0]
        refused = spf.check2(i="192.0.2.1", s=found["sender"], h=found["helo"])[0]
    finally:
        spf.DNSLookup = original
    assert (allowed, refused) == ("pass", "fail")


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


def _published_records(on_box: OnBox, domain: str) -> dict[str, bytes]:
    """Derive the key that the DNS would have from the private one on the box, by openssl and not by our module."""
    table = on_box("cat /opt/servers/mailserver/config/opendkim/KeyTable").split()
    name, _, place = table[0], table[1].split(":")[1], table[1].split(":")[2]
    path = "/opt/servers/mailserver/config/opendkim/keys" + place.removeprefix("/etc/opendkim/keys")
    lines = on_box(f"openssl pkey -in {path} -pubout").splitlines()
    public = "".join(line for line in lines if not line.startswith("-----"))
    return {name: f"v=DKIM1; k=rsa; p={public}".encode()}


def test_the_resolver_outside_knows_what_the_tests_build_on() -> None:
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [internet.address(internet.DNS.host)]
    answers = {str(record).strip('"') for record in resolver.resolve(f"_dmarc.{relay.STRICT}", "TXT")}
    assert answers == {"v=DMARC1; p=reject; adkim=s; aspf=s"}
