"""What becomes of mail when accounts, certificates and containers change, and when the server is killed."""

from __future__ import annotations

import imaplib
import json
import shutil
import smtplib
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed import relay

if TYPE_CHECKING:
    from conftest import Mail

OnBox = Callable[[str], str]
Completed = subprocess.CompletedProcess[str]
Play = Callable[..., Completed]

FRIEND = f"friend@{relay.OUTSIDE}"
CONFIG = "/opt/servers/mailserver/config"
MESSAGES = 1000
KILLS = 4


def started(on_box: OnBox) -> str:
    return on_box("docker inspect -f '{{.Id}} {{.State.StartedAt}}' mailserver")


def wait_healthy(on_box: OnBox, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while on_box("docker inspect -f '{{.State.Health.Status}}' mailserver").strip() != "healthy":
        assert time.monotonic() < deadline, on_box("docker logs --tail 30 mailserver 2>&1")
        time.sleep(1)


def changed(done: Completed) -> str:
    return done.stdout.partition("changed=")[2].partition(" ")[0]


def test_passwords_lie_on_the_box_as_hashes_that_no_run_shows(mail: Mail, on_box: OnBox) -> None:
    accounts = on_box(f"cat {CONFIG}/postfix-accounts.cf")
    lines = [line.split("|") for line in accounts.splitlines()]
    assert {address for address, _ in lines} == {mail.user(name) for name in ("ana", "bob", "small")}
    assert all(secret.startswith("{SHA512-CRYPT}$6$") for _, secret in lines)
    assert mail.password("ana") not in accounts
    assert on_box(f"stat -c %a {CONFIG}/postfix-accounts.cf").strip() == "600"


def test_changed_accounts_and_a_new_alias_are_there_without_a_new_container_or_a_secret_shown(
    mail: Mail, play: Play, on_box: OnBox, variables: dict[str, Any], inventory: Path
) -> None:
    before = started(on_box)
    mail.imap("small").logout()
    accounts = [dict(one) for one in variables["mailserver_accounts"] if not one["address"].startswith("small@")]
    accounts[0]["password"] = "another long one 42"
    aliases = [*variables["mailserver_aliases"], {"address": mail.user("fresh"), "targets": [mail.user("ana")]}]
    look = "while sleep 0.3; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\\\0' '\\\\n'; done"
    on_box(f'systemd-run -q --unit=look -p StandardOutput=truncate:/run/look -p RuntimeMaxSec=900 sh -c "{look}"')

    done = play("--diff", "-vvv", mailserver_accounts=accounts, mailserver_aliases=aliases)

    on_box("systemctl stop look")
    seen = on_box("sort -u /run/look")
    assert done.returncode == 0, done.stdout
    assert mail.user("fresh") in done.stdout
    assert "BECOME-SUCCESS" in seen
    hidden = ["another long one 42", mail.password("bob"), relay.PASSWORD, "$6$", "PRIVATE KEY"]
    hidden += [path.read_text().strip() for path in (inventory / ".secrets/vps").iterdir()]
    assert [secret for secret in hidden if secret in done.stdout or secret in done.stderr or secret in seen] == []
    _until(lambda: mail.imap("ana", "another long one 42").logout())
    with pytest.raises(imaplib.IMAP4.error):
        mail.imap("small")
    message = mail.message(mail.user("bob"), mail.user("fresh"))
    with mail.submission("bob") as connection:
        connection.send_message(message)
    done = play()
    assert done.returncode == 0, done.stdout
    _until(lambda: mail.imap("small").logout())
    assert mail.find("ana", message["Subject"])
    assert started(on_box) == before


def _until(log_in: Callable[[], object], seconds: float = 30) -> None:
    """Wait until the server has taken the accounts over."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            log_in()
            return
        except imaplib.IMAP4.error:
            assert time.monotonic() < deadline
            time.sleep(1)


def test_a_silent_resolver_stops_the_play_and_is_named(play: Play, on_box: OnBox) -> None:
    on_box("cp /etc/resolv.conf /run/resolv.conf && echo nameserver 192.0.2.1 >/etc/resolv.conf")
    try:
        done = play(mailserver_quota_mb=7)
    finally:
        on_box("cat /run/resolv.conf >/etc/resolv.conf")
    assert done.returncode != 0
    assert "The resolver of vps does not answer" in " ".join(done.stdout.split())
    assert changed(done) == "0"


@pytest.fixture(scope="module")
def refused(play: Play, on_box: OnBox, mail: Mail, inventory: Path) -> Iterator[dict[str, Future[Completed]]]:
    """Run plays that end before any change, beside each other and the other tests."""
    # The certificate is of the second key, the first is left beside it.
    request = f"openssl req -x509 -nodes -newkey rsa:2048 -subj /CN=mail -addext subjectAltName=DNS:{mail.hostname}"
    files = "-keyout $key.pem -out fullchain.pem"
    on_box(f"mkdir -p /root/own && cd /root/own && for key in privkey another; do {request} {files} 2>&1; done")
    keys = inventory / ".secrets/dkim/other.example"
    keys.mkdir(parents=True)
    wrong = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run([*wrong, "-out", str(keys / "old.pem")], check=True, capture_output=True)
    # A domain that wants no name of its own, for the DNS has none.
    unserved = {"mailserver_autoconfig": False, "mailserver_mta_sts_mode": "none"}
    nowhere = {"mailserver_direct_delivery": True, "mailserver_port_25_hosts": ["127.0.0.1:9"]}
    values: dict[str, dict[str, Any]] = {
        "login": {"mailserver_relay_password": "wrong", "mailserver_quota_mb": 7},
        "name": {"mailserver_relay_ca": relay_of_nobody()},
        "port 25": {"mailserver_relay_host": "", **nowhere},
        "certificate": {"mailserver_certificate_folder": "/root/own"},
        "key": {"mailserver_domains": [mail.domain, "other.example"], **unserved},
    }
    with ThreadPoolExecutor(3) as pool:
        yield {name: pool.submit(play, **given) for name, given in values.items()}
    shutil.rmtree(keys)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("login", "refuses mailserver_relay_username and mailserver_relay_password"),
        ("name", "is not valid for it"),
        ("port 25", "Port 25 is blocked outward"),
        (
            "certificate",
            "has no fullchain.pem that is valid for mail.mailserver.test now and belongs to its privkey.pem",
        ),
        ("key", "holds a key that is neither RSA nor Ed25519"),
    ],
)
def test_what_cannot_work_stops_the_play_before_any_change(
    refused: dict[str, Future[Completed]], what: str, sentence: str
) -> None:
    done = refused[what].result()
    assert done.returncode != 0
    assert sentence in " ".join(done.stdout.split())
    assert changed(done) == "0"


def test_a_renewed_certificate_is_served_by_the_running_server(mail: Mail, on_box: OnBox) -> None:
    def serial(port: int) -> str:
        with (
            socket.create_connection((mail.address, port), timeout=20) as plain,
            mail.context.wrap_socket(plain, server_hostname=mail.hostname) as connection,
        ):
            return str((connection.getpeercert() or {})["serialNumber"])

    before, running = serial(993), started(on_box)
    # As Nginx Proxy Manager does it, a month before the end.
    renew = "certbot renew --non-interactive --no-random-sleep-on-renew --force-renewal --config /etc/letsencrypt.ini"
    on_box(f"docker exec npm {renew} --cert-name npm-1 2>&1")

    deadline = time.monotonic() + 45
    while serial(993) == before or serial(465) == before:
        assert time.monotonic() < deadline, "the old certificate is still served"
        time.sleep(1)
    assert started(on_box) == running
    # The watch has looked, too, and found nothing to do.
    while "Finished" not in (said := on_box("journalctl -u servers-mail-certificate.service --no-pager")):
        assert time.monotonic() < deadline, said
        time.sleep(1)
    assert "making a new container" not in said


def test_no_message_is_lost_or_doubled_beyond_reason_while_the_server_is_killed(mail: Mail, on_box: OnBox) -> None:
    """Acknowledged means kept, whatever happens next: half comes in on port 25, half is submitted for outside."""
    run = uuid.uuid4().hex[:8]
    acknowledged: dict[str, set[str]] = {"in": set(), "out": set()}
    stop = threading.Event()

    def inject(way: str, numbers: range) -> None:
        connection: smtplib.SMTP | None = None
        for number in numbers:
            subject = f"loss {run} {way} {number}"
            sender, recipient = (
                (FRIEND, mail.user("bob")) if way == "in" else (mail.user("bob"), f"loss@{relay.OUTSIDE}")
            )
            message = mail.message(sender, recipient, subject)
            while True:
                try:
                    if connection is None:
                        connection = mail.port_25() if way == "in" else mail.submission("bob")
                    connection.send_message(message)
                    acknowledged[way].add(subject)
                    break
                except (OSError, smtplib.SMTPException):
                    connection = None
                    time.sleep(0.5)
        if connection:
            connection.close()

    def kill() -> None:
        for _ in range(KILLS):
            if stop.wait(6):
                return
            on_box("docker kill mailserver && sleep 1 && docker start mailserver")

    share = MESSAGES // 4
    parts = [(way, range(part * share, (part + 1) * share)) for way in acknowledged for part in (0, 1)]
    threads = [threading.Thread(target=inject, args=part) for part in parts]
    killer = threading.Thread(target=kill)
    began = time.monotonic()
    for thread in [*threads, killer]:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    killer.join()
    wait_healthy(on_box)
    on_box("docker exec mailserver postqueue -f")

    def arrived() -> dict[str, list[str]]:
        out = [line for one in relay.received(f"loss@{relay.OUTSIDE}") for line in one["message"].splitlines()]
        box = mail.imap("bob")
        box.select("INBOX")
        numbers = box.search(None, "SUBJECT", f'"loss {run} in"')[1][0].split()
        lines = box.fetch(b",".join(numbers).decode(), "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1] if numbers else []
        box.logout()
        return {
            "in": [part[1].decode().strip().removeprefix("Subject: ") for part in lines if isinstance(part, tuple)],
            "out": [line.removeprefix("Subject: ") for line in out if line.startswith(f"Subject: loss {run}")],
        }

    deadline = time.monotonic() + 120
    while any(acknowledged[way] - set(arrived()[way]) for way in acknowledged):
        missing = {way: len(acknowledged[way] - set(arrived()[way])) for way in acknowledged}
        queue = on_box("docker exec mailserver postqueue -p | tail -5")
        assert time.monotonic() < deadline, f"acknowledged and missing: {missing}\n{queue}"
        time.sleep(2)
    found = arrived()
    assert {way: len(acknowledged[way]) for way in acknowledged} == {"in": MESSAGES // 2, "out": MESSAGES // 2}
    print(
        f"{MESSAGES} messages, {KILLS} kills, {time.monotonic() - began:.0f} s, "
        f"twice: {sum(len(found[way]) - len(set(found[way])) for way in found)}"
    )


def test_a_burst_stays_within_the_memory(mail: Mail, on_box: OnBox) -> None:
    def burst() -> None:
        with mail.port_25() as connection:
            for _ in range(15):
                connection.send_message(mail.message(FRIEND, mail.user("bob")))

    threads = [threading.Thread(target=burst) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Who minds the programs inside is the first to be killed, and the container would look well without.
    assert "supervisord" in on_box("docker top mailserver")
    assert json.loads(on_box("docker inspect mailserver"))[0]["State"]["Running"]


def relay_of_nobody() -> str:
    """Return the certificate of an authority that signed nothing here."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-days", "2", "-subj", "/CN=nobody", "-keyout", "/dev/null"]
    return subprocess.run([*command, *files], capture_output=True, text=True, check=True).stdout
