"""The webmail in a real browser, and what mail programs ask for."""

from __future__ import annotations

import re
import socket
import ssl
import uuid
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from testbed import relay
from testbed.browser import PHONE

if TYPE_CHECKING:
    from conftest import Mail
    from playwright.sync_api import Browser

RequestSite = Callable[..., tuple[int, dict[str, str], bytes]]


@pytest.mark.parametrize("screen", ["desk", "phone"])
def test_a_message_is_read_and_answered(
    mail: Mail, chromium: Browser, arrived: Callable[..., dict[str, Any]], screen: str
) -> None:
    subject = f"question {uuid.uuid4().hex}"
    message = mail.message(f"friend@{relay.OUTSIDE}", mail.user("ana"), subject, "How are you?\n")
    with mail.port_25() as connection:
        connection.send_message(message)
    mail.find("ana", message["Subject"])
    size = PHONE if screen == "phone" else {"width": 1280, "height": 900}
    context = chromium.new_context(viewport=size, is_mobile=screen == "phone")
    page = context.new_page()
    page.set_default_timeout(30_000)

    mail.log_in(page, "ana")
    page.wait_for_selector("#messagelist")
    row = page.locator("#messagelist tr.message", has_text=message["Subject"])
    row.wait_for()
    row.click()
    uid = page.evaluate("rcmail.get_single_uid()")
    page.goto(f"https://{mail.hostname}/?_task=mail&_mbox=INBOX&_uid={uid}&_action=show")
    page.wait_for_selector("#messagebody")
    assert "How are you?" in page.inner_text("#messagebody")

    page.goto(f"https://{mail.hostname}/?_task=mail&_mbox=INBOX&_reply_uid={uid}&_action=compose")
    page.wait_for_selector("#composebody")
    page.fill("#composebody", f"Fine, from the {screen}.")
    # On a small screen the button is in a menu.
    button = page.locator("a.send:visible, button.send:visible")
    if button.count():
        button.first.click()
    else:
        page.evaluate("rcmail.command('send', {})")
    page.wait_for_url(re.compile("_task=mail(?!.*compose)"))

    answer = arrived(f"friend@{relay.OUTSIDE}", f"Re: {message['Subject']}")
    assert f"Fine, from the {screen}." in answer["message"]
    assert f"In-Reply-To: {message['Message-ID']}" in answer["message"]
    assert "DKIM-Signature" in answer["message"]
    # Nothing needs more than the screen's width.
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]

    # While the list is being loaded every command is passed over.
    page.wait_for_function("!rcmail.busy")
    page.evaluate("rcmail.command('switch-task', 'logout')")
    page.wait_for_selector("#rcmloginuser")
    context.close()


def test_a_wrong_password_is_not_let_in_and_many_are_not_even_tried(mail: Mail, chromium: Browser) -> None:
    context = chromium.new_context()
    page = context.new_page()
    mail.log_in(page, "ana", "not-the-password")
    page.wait_for_selector("#rcmloginuser")
    form = "{method: 'POST', body: new URLSearchParams({_task: 'login', _action: 'login', _user: 'ana', _pass: 'x'})}"
    answers = [page.evaluate(f"fetch('/?_task=login', {form}).then(answer => answer.status)") for _ in range(12)]
    context.close()
    assert 429 in answers


@pytest.mark.parametrize(
    "path",
    [
        "/installer/",
        "/installer/index.php",
        "/config/config.inc.php",
        "/config/config.docker.inc.php",
        "/SQL/sqlite.initial.sql",
        "/logs/errors.log",
        "/bin/updatedb.sh",
        "/vendor/autoload.php",
        "/plugins/archive/archive.php",
        "/.git/config",
        "/composer.json",
        "/../config/config.inc.php",
    ],
)
def test_nothing_but_the_pages_is_served(mail: Mail, request_site: RequestSite, path: str) -> None:
    status, _, body = request_site(mail.hostname, path)
    assert status in (400, 403, 404) or b"rcmloginuser" in body
    assert b"db_dsnw" not in body
    assert b"<?php" not in body


def test_the_pages_go_to_tls_and_stay_there(mail: Mail, request_site: RequestSite) -> None:
    status, headers, _ = request_site(mail.hostname, tls=False)
    assert (status, headers["location"]) == (301, f"https://{mail.hostname}/")
    status, headers, _ = request_site(mail.hostname)
    assert status == 200
    assert "strict-transport-security" in headers
    assert re.search("secure", headers["set-cookie"], re.IGNORECASE)
    assert headers["x-frame-options"].upper() == "SAMEORIGIN"


@pytest.mark.parametrize("tls", [True, False])
def test_thunderbird_finds_its_settings(mail: Mail, request_site: RequestSite, domain: str, tls: bool) -> None:
    status, headers, body = request_site(f"autoconfig.{domain}", "/mail/config-v1.1.xml?emailaddress=x", tls=tls)
    assert (status, headers["content-type"]) == (200, "text/xml")
    provider = ElementTree.fromstring(body).find("emailProvider")
    assert provider is not None
    servers = {
        (one.get("type"), one.findtext("hostname"), one.findtext("port"), one.findtext("socketType"))
        for one in [*provider.findall("incomingServer"), *provider.findall("outgoingServer")]
    }
    assert servers == {
        ("imap", mail.hostname, "993", "SSL"),
        ("pop3", mail.hostname, "995", "SSL"),
        ("smtp", mail.hostname, "465", "SSL"),
    }


def test_outlook_finds_its_settings_by_post(mail: Mail, domain: str, variables: dict[str, Any]) -> None:
    name = f"autodiscover.{domain}"
    context = ssl.create_default_context(cadata=variables["servers_private_ca"])
    with (
        socket.create_connection((mail.address, 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        lines = [
            "POST /Autodiscover/Autodiscover.xml HTTP/1.1",
            f"Host: {name}",
            "Content-Length: 3",
            "Connection: close",
        ]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n<a>").encode())
        answer = b""
        while data := connection.recv(4096):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert f"<Server>{mail.hostname}</Server>".encode() in body


def test_the_policy_of_mta_sts_is_served(mail: Mail, request_site: RequestSite, domain: str) -> None:
    status, headers, body = request_site(f"mta-sts.{domain}", "/.well-known/mta-sts.txt")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    assert body.splitlines()[:3] == [b"version: STSv1", b"mode: testing", f"mx: {mail.hostname}".encode()]
