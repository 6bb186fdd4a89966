# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See a box as a stranger on the network does. Private: other collections must not import it.

Connections go to the given address whatever the DNS says, with the site's name in the handshake and the request.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import re
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ansible_collections.diegonmarcos.servers.plugins.module_utils._table import align

# What finds its way to the world by mistake: databases, caches, queues, engines, admin pages, development servers.
# fmt: off
OFTEN_EXPOSED = (
    20, 21, 22, 23, 25, 53, 79, 80, 81, 88, 110, 111, 113, 119, 135, 139, 143, 179, 199, 389, 427, 443, 444, 445,
    465, 512, 513, 514, 515, 543, 544, 548, 554, 587, 631, 636, 646, 853, 873, 902, 990, 993, 995, 1025, 1080, 1433,
    1434, 1521, 1723, 1883, 2049, 2082, 2083, 2086, 2087, 2181, 2222, 2375, 2376, 2377, 2379, 2380, 3000, 3001,
    3128, 3306, 3389, 3690, 4000, 4190, 4243, 4369, 4443, 4444, 4848, 5000, 5001, 5060, 5222, 5269, 5432, 5601,
    5672, 5678, 5900, 5984, 5985, 6000, 6379, 6443, 6667, 7000, 7001, 7070, 7946, 8000, 8001, 8008, 8009, 8010,
    8069, 8080, 8081, 8082, 8083, 8086, 8088, 8090, 8096, 8123, 8181, 8200, 8384, 8443, 8500, 8787, 8888, 8983,
    9000, 9001, 9042, 9090, 9091, 9092, 9093, 9100, 9200, 9300, 9411, 9443, 9999, 10000, 10250, 11211, 11332, 11334,
    11434, 15672, 19999, 22000, 25565, 27017, 32400, 50000, 61616,
)
# fmt: on

_AT_ONCE = 100
_SITES_AT_ONCE = 20
_LEGACY = {"TLS 1.0": 0x0301, "TLS 1.1": 0x0302}
_REDIRECTS = (301, 302, 303, 307, 308)
# X509_V_FLAG_NO_CHECK_TIME: to read an expired certificate, not to trust it.
_ANY_TIME = 0x200000
_HOST = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

T = TypeVar("T")


class ProbeError(Exception):
    """One sentence for the user about something that cannot be probed at all."""


@dataclass(frozen=True)
class Port:
    """A port and what it should be: open or not."""

    port: int
    name: str = ""
    open: bool = True
    protocol: str = "tcp"


@dataclass(frozen=True)
class Site:
    """A site and what it should do; expect_status empty means anything but an error of the server."""

    name: str
    ca: str = ""
    redirect: bool = True
    hsts: bool = True
    expect_status: tuple[int, ...] = ()
    path: str = "/"
    port: int = 443
    http_port: int = 80


@dataclass
class PortState:
    """`state` is open, closed (refused), filtered (no answer, or a firewall's), or not probed."""

    port: Port
    state: str
    why: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is as it should be; what was not probed is not wrong."""
        return self.state == "not probed" or (self.state == "open") == self.port.open


@dataclass
class SiteState:
    """What one site does. Problems name the port they come from where one is to blame, so that it is said once."""

    site: Site
    tls: str | None = None
    alpn: str | None = None
    names: list[str] = field(default_factory=list)
    issuer: str | None = None
    days_left: int | None = None
    trusted: bool | None = None
    legacy: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    hsts: str | None = None
    redirect: str | None = None
    problems: list[tuple[int | None, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Response:
    """The head of an answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Handshake:
    """What a handshake settled; certificate is empty unless it was verified."""

    version: str
    alpn: str | None
    certificate: Mapping[str, Any]
    der: bytes


@dataclass
class Report:
    """Result for the user."""

    ports: list[PortState]
    sites: list[SiteState]
    problems: list[str]
    table: list[str]


def parse_ports(
    open_ports: Sequence[Mapping[str, Any]], closed_ports: Sequence[int] | None, sites: Sequence[Site]
) -> list[Port]:
    """The ports to look at, those that should be open first; `closed_ports` None takes the ports often exposed."""
    wanted = [
        Port(_port_number(row["port"]), row.get("name") or "", True, row.get("protocol") or "tcp") for row in open_ports
    ]
    numbers = {port.port for port in wanted if port.protocol == "tcp"}
    if closed_ports is not None:
        both = sorted(numbers.intersection(closed_ports))
        if both:
            raise ProbeError(f"Port {both[0]} is in open_ports and in closed_ports: keep it in one of them.")
        closed = [_port_number(number) for number in closed_ports]
    else:
        of_sites = {number for site in sites for number in (site.port, site.http_port)}
        closed = [number for number in OFTEN_EXPOSED if number not in numbers | of_sites]
    return wanted + [Port(number, open=False) for number in dict.fromkeys(closed)]


def _port_number(value: Any) -> int:
    number = int(value)
    if not 0 < number < 65536:
        raise ProbeError(f"{number} is no port: use 1 to 65535.")
    return number


def parse_sites(raw: Sequence[Mapping[str, Any]]) -> list[Site]:
    """Turn the user's list into sites, or raise ProbeError naming the first one that makes no sense."""
    sites = []
    for item in raw:
        name = str(item["name"]).lower().rstrip(".")
        if not _HOST.fullmatch(name) and not _is_address(name):
            raise ProbeError(f"{item['name']!r} is no host name, so no site can be asked for by it.")
        site = Site(
            name=name,
            ca=item.get("ca") or "",
            redirect=item.get("redirect", True),
            hsts=item.get("hsts", True),
            expect_status=tuple(item.get("expect_status") or ()),
            path=item.get("path") or "/",
            port=_port_number(item.get("port") or 443),
            http_port=_port_number(item.get("http_port") or 80),
        )
        if not re.fullmatch(r"/[!-~]*", site.path):
            raise ProbeError(f"path {site.path!r} of {name} must begin with / and have no blanks.")
        _trusting(site)
        sites.append(site)
    return sites


def _is_address(text: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(text)
        return True
    return False


async def probe(
    address: str,
    ports: Sequence[Port],
    sites: Sequence[Site],
    *,
    timeout: float = 2.5,
    minimum_days: int = 14,
) -> Report:
    """Look at all ports and sites at once; `timeout` is for one connection, in seconds.

    Raises ProbeError when the address is no address of anything.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ProbeError(f"{address!r} is no address and no name that resolves: {error}.") from error
    resolved = str(found[0][4][0])
    gate, site_gate = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_SITES_AT_ONCE)
    # Those that should be open come first: they are tried twice, since one lost packet must not raise an alarm.
    states, looks = await asyncio.gather(
        asyncio.gather(*(_within(gate, _port_state(resolved, port, timeout)) for port in ports)),
        asyncio.gather(*(_within(site_gate, _look_at(resolved, site, timeout, minimum_days)) for site in sites)),
    )
    report = Report(list(states), list(looks), [], [])
    report.problems = _problems(address, report)
    report.table = _table(report)
    return report


async def _within(gate: asyncio.Semaphore, work: Awaitable[T]) -> T:
    async with gate:
        return await work


# --- Ports ------------------------------------------------------------------------------------------------------------


async def _port_state(address: str, port: Port, timeout: float) -> PortState:
    if port.protocol != "tcp":
        # An open UDP port and a dropping firewall look the same to who does not speak its protocol.
        return PortState(port, "not probed")
    state, why = await _connect(address, port.port, timeout)
    if port.open and state == "filtered" and why == "no answer":
        state, why = await _connect(address, port.port, timeout)
    return PortState(port, state, why)


async def _connect(address: str, port: int, timeout: float) -> tuple[str, str]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        connection = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ProbeError(f"This machine cannot open as many connections as probing takes: {error.strerror}.") from error
    with connection:
        connection.setblocking(False)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_connect(connection, (address, port))
        except TimeoutError:
            return "filtered", "no answer"
        except ConnectionRefusedError:
            return "closed", ""
        except OSError as error:
            if error.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL):
                return "filtered", "no route"
            return "filtered", "rejected"
        return "open", ""


# --- Sites ------------------------------------------------------------------------------------------------------------


async def _look_at(address: str, site: Site, timeout: float, minimum_days: int) -> SiteState:
    """Twice where something is wrong: what has just started may be too slow for its first visitor."""
    look = await _look_once(address, site, timeout, minimum_days)
    return await _look_once(address, site, timeout, minimum_days) if look.problems else look


async def _look_once(address: str, site: Site, timeout: float, minimum_days: int) -> SiteState:
    look = SiteState(site)
    state, _why = await _connect(address, site.port, timeout)
    if state != "open":
        look.problems.append((site.port, f"{site.name} cannot be reached: port {site.port} is {state}."))
        return look
    try:
        async with asyncio.timeout(3 * timeout):
            await asyncio.gather(
                _look_at_tls(address, look, timeout, minimum_days),
                _look_at_answer(address, look, timeout),
                _look_at_redirect(address, look, timeout),
                _look_at_legacy(address, look, timeout),
            )
    except TimeoutError:
        look.problems.append(
            (None, f"{site.name} takes longer than {3 * timeout:g} s to answer: is the box overloaded?")
        )
    return look


def _trusting(site: Site) -> ssl.SSLContext:
    context = ssl.create_default_context()
    # The name is compared by ourselves, so that a wrong name and a wrong issuer are told apart.
    context.check_hostname = False
    # Python 3.13 refuses by default what browsers and curl accept; the verdict must not depend on who asks.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["h2", "http/1.1"])
    if site.ca:
        try:
            context.load_verify_locations(cadata=site.ca)
        except (ssl.SSLError, ValueError) as error:
            raise ProbeError(f"ca of {site.name} is no certificate in PEM form.") from error
    return context


def _unverified(*protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


def _anchored(der: bytes) -> ssl.SSLContext:
    """Python parses only a certificate it has verified: this verifies one by itself, at any time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=der)
    context.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _ANY_TIME)
    return context


async def _shake_hands(address: str, site: Site, context: ssl.SSLContext, timeout: float) -> Handshake:
    async with asyncio.timeout(2 * timeout):
        _reader, writer = await asyncio.open_connection(address, site.port, ssl=context, server_hostname=site.name)
    try:
        tls = writer.get_extra_info("ssl_object")
        return Handshake(
            tls.version(), tls.selected_alpn_protocol(), tls.getpeercert() or {}, tls.getpeercert(binary_form=True)
        )
    finally:
        writer.transport.abort()


async def _look_at_tls(address: str, look: SiteState, timeout: float, minimum_days: int) -> None:
    site, problems = look.site, look.problems
    distrust: ssl.SSLCertVerificationError | None = None
    try:
        try:
            hands = await _shake_hands(address, site, _trusting(site), timeout)
        except ssl.SSLCertVerificationError as error:
            distrust = error
            hands = await _shake_hands(address, site, _unverified("h2", "http/1.1"), timeout)
    except TimeoutError:
        problems.append(
            (None, f"{site.name} does not finish a TLS handshake: is port {site.port} really its web server?")
        )
        return
    except (OSError, EOFError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        problems.append(
            (
                None,
                f"{site.name} refuses the TLS handshake ({reason}):"
                " its proxy host has no certificate yet, or there is no proxy host of that name.",
            )
        )
        return
    look.tls, look.alpn, look.trusted = hands.version, hands.alpn, distrust is None
    certificate = hands.certificate
    if not certificate:
        with suppress(OSError, EOFError):
            certificate = (await _shake_hands(address, site, _anchored(hands.der), timeout)).certificate
    _read_certificate(look, certificate)
    _judge_certificate(look, distrust, minimum_days)


def _read_certificate(look: SiteState, certificate: Mapping[str, Any]) -> None:
    look.names = [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    issuer = {key: value for part in certificate.get("issuer", ()) for key, value in part}
    look.issuer = issuer.get("organizationName") or issuer.get("commonName")
    if "notAfter" in certificate:
        look.days_left = int((ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) // 86400)


def _judge_certificate(look: SiteState, distrust: ssl.SSLCertVerificationError | None, minimum_days: int) -> None:
    name, problems = look.site.name, look.problems
    if look.days_left is not None and look.days_left < 0:
        problems.append((None, f"The certificate of {name} expired {-look.days_left} days ago: its renewal fails."))
    elif distrust is not None:
        why = distrust.verify_message or "unknown reason"
        advice = "give the PEM of its authority as ca if that is meant, else request one from Let's Encrypt"
        problems.append((None, f"The certificate of {name} is not trusted ({why}): {advice}."))
    elif look.days_left is not None and look.days_left < minimum_days:
        problems.append((None, f"The certificate of {name} ends in {look.days_left} days: its renewal fails."))
    if look.names and not name_matches(name, look.names):
        shown = ", ".join(look.names[:5])
        problems.append(
            (None, f"{name} shows the certificate of {shown}: choose the one for this name in its proxy host.")
        )


def name_matches(name: str, patterns: Collection[str]) -> bool:
    """Whether one of the names of a certificate covers this one: a star stands for one whole label (RFC 9525)."""
    if _is_address(name):
        return any(_is_address(text) and ipaddress.ip_address(text) == ipaddress.ip_address(name) for text in patterns)
    parent = name.partition(".")[2]
    return any(text.lower() == name or (bool(parent) and text.lower() == f"*.{parent}") for text in patterns)


async def _look_at_answer(address: str, look: SiteState, timeout: float) -> None:
    site, problems = look.site, look.problems
    try:
        answer = await _ask(address, site, site.port, _unverified("http/1.1"), timeout)
    except TimeoutError:
        problems.append(
            (None, f"{site.name} gives no answer by HTTPS within {2 * timeout:g} s: see its container's log.")
        )
        return
    except ssl.SSLError:
        # Told already, by who looks at TLS.
        return
    except (OSError, EOFError, ValueError):
        problems.append((None, f"{site.name} gives no valid answer by HTTPS: see the log of its container."))
        return
    look.status = answer.status
    look.hsts = answer.headers.get("strict-transport-security")
    wrong = answer.status not in site.expect_status if site.expect_status else answer.status >= 500
    if wrong:
        wanted = f", {' or '.join(map(str, site.expect_status))} was expected" if site.expect_status else ""
        why = (
            ": what it is proxied to does not answer, see `docker compose ps`"
            if answer.status in (502, 503, 504)
            else ""
        )
        problems.append((None, f"{site.name} answers with status {answer.status}{wanted}{why}."))
    age = re.search(r"max-age=\"?(\d+)", look.hsts or "", re.IGNORECASE)
    if site.hsts and not wrong and (age is None or int(age[1]) == 0):
        problems.append((None, f"{site.name} sends no HSTS header, so a first visit can be diverted: turn HSTS on."))


async def _look_at_redirect(address: str, look: SiteState, timeout: float) -> None:
    site, problems = look.site, look.problems
    if not site.redirect:
        return
    state, _why = await _connect(address, site.http_port, timeout)
    if state != "open":
        look.redirect = state
        sentence = f"{site.name} does not redirect to HTTPS: port {site.http_port} is {state}."
        problems.append((site.http_port, sentence))
        return
    try:
        answer = await _ask(address, site, site.http_port, None, timeout)
    except (OSError, EOFError, ValueError):
        look.redirect = "no answer"
        problems.append((None, f"{site.name} gives no valid answer by HTTP on port {site.http_port}."))
        return
    target = urlsplit(answer.headers.get("location", ""))
    if answer.status in _REDIRECTS and target.scheme == "https" and target.hostname == site.name:
        look.redirect = "https"
        return
    look.redirect = f"status {answer.status}"
    where = f" to {target.geturl()}" if answer.status in _REDIRECTS else ""
    problems.append(
        (
            None,
            f"{site.name} answers by HTTP with status {answer.status}{where} instead of a redirect to HTTPS:"
            " force SSL in its proxy host.",
        )
    )


async def _ask(address: str, site: Site, port: int, context: ssl.SSLContext | None, timeout: float) -> Response:
    """Ask for the page and read the head of the answer; raises OSError, EOFError or ValueError when there is none."""
    usual = 80 if context is None else 443
    host = f"[{site.name}]" if ":" in site.name else site.name
    request = (
        f"GET {site.path} HTTP/1.1\r\nHost: {host}{'' if port == usual else f':{port}'}\r\n"
        "User-Agent: site_probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(2 * timeout):
        reader, writer = await asyncio.open_connection(
            address, port, ssl=context, server_hostname=site.name if context else None
        )
        try:
            writer.write(request.encode())
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            except asyncio.LimitOverrunError as error:  # after 64 KiB
                raise ValueError("endless head") from error
        finally:
            writer.transport.abort()
    first, *lines = head.split("\r\n")
    match = re.fullmatch(r"HTTP/1\.[01] (\d{3})( .*)?", first)
    if not match:
        raise ValueError("no HTTP")
    pairs = (line.partition(":") for line in lines if ":" in line)
    return Response(int(match[1]), {key.strip().lower(): value.strip() for key, _colon, value in pairs})


# --- Old TLS ----------------------------------------------------------------------------------------------------------


async def _look_at_legacy(address: str, look: SiteState, timeout: float) -> None:
    site = look.site
    answers = await asyncio.gather(*(_offer(address, site, version, timeout) for version in _LEGACY.values()))
    look.legacy = dict(zip(_LEGACY, answers, strict=True))
    accepted = [name for name, answer in look.legacy.items() if answer == "accepted"]
    if accepted:
        look.problems.append(
            (None, f"{site.name} accepts {' and '.join(accepted)}, which RFC 8996 forbids: allow only 1.2 and 1.3.")
        )


async def _offer(address: str, site: Site, version: int, timeout: float) -> str:
    """Offer one old version by hand: the OpenSSL of this machine may be built or configured never to speak it."""
    try:
        async with asyncio.timeout(2 * timeout):
            reader, writer = await asyncio.open_connection(address, site.port)
            try:
                writer.write(client_hello(version, site.name))
                record = await reader.readexactly(5)
                body = await reader.readexactly(6) if record[0] == 22 else b""
            finally:
                writer.transport.abort()
    except TimeoutError:
        return "unknown"
    except (OSError, EOFError):
        return "refused"
    if record[0] == 21:
        return "refused"
    # A ServerHello is a handshake message of type 2, whose version follows its length.
    return "accepted" if body[:1] == b"\x02" and body[4:6] == struct.pack(">H", version) else "unknown"


def client_hello(version: int, name: str) -> bytes:
    """A ClientHello that offers this version at most, with the suites of its time (RFC 2246, 4346, 6066, 8422)."""

    def sized(content: bytes, width: int = 2) -> bytes:
        return len(content).to_bytes(width, "big") + content

    suites = bytes.fromhex("c009c00ac013c014002f0035000a00ff")
    extensions = {
        10: sized(bytes.fromhex("001d001700180019")),
        11: sized(b"\0", 1),
    }
    if not _is_address(name):
        extensions[0] = sized(b"\0" + sized(name.encode("ascii")))
    encoded = b"".join(struct.pack(">H", kind) + sized(content) for kind, content in extensions.items())
    wanted = struct.pack(">H", version)
    hello = wanted + os.urandom(32) + sized(b"", 1) + sized(suites) + sized(b"\0", 1) + sized(encoded)
    return b"\x16\x03\x01" + sized(b"\x01" + sized(hello, 3))


# --- For people -------------------------------------------------------------------------------------------------------


def _problems(address: str, report: Report) -> list[str]:
    wanted = [state for state in report.ports if state.port.open and state.state != "not probed"]
    if wanted and all(state.state == "filtered" for state in report.ports if state.state != "not probed"):
        if all(state.why == "no route" for state in wanted):
            return [f"{address} cannot be reached from this machine: it has no route there."]
        return [
            f"{address} does not answer on any port: see that the address is right, that the box runs, and that the"
            " cloud's security list (on Oracle: of the subnet) lets anything in."
        ]
    problems = [_port_problem(state) for state in report.ports if not state.ok]
    told = {state.port.port for state in report.ports if not state.ok and state.port.protocol == "tcp"}
    for look in report.sites:
        problems += [sentence for port, sentence in look.problems if port not in told]
    return problems


def _port_problem(state: PortState) -> str:
    port, name = state.port.port, f" ({state.port.name})" if state.port.name else ""
    if state.state == "open":
        return (
            f"Port {port}{name} is open and should not be: stop what listens there, bind it to 127.0.0.1,"
            " or see that the host firewall is loaded."
        )
    if state.state == "closed":
        return f"Port {port}{name} is closed: the firewalls let it pass, but nothing listens there; is its service up?"
    if state.why == "rejected":
        return (
            f"Port {port}{name} is rejected by the host's own firewall: its rule must stand before the REJECT of the"
            " image, run the vps_hardening role again."
        )
    if port == 25:
        return (
            f"Port {port}{name} is filtered: open it in the Oracle security list too; many providers also block it on"
            " the way out, so try from another network."
        )
    return f"Port {port}{name} is filtered: open it in the Oracle security list too."


def _table(report: Report) -> list[str]:
    shown = [state for state in report.ports if state.port.open or not state.ok]
    rows = [("port", "name", "state", "")]
    for state in shown:
        wrong = "" if state.ok else f"should be {'open' if state.port.open else 'closed'}"
        rows.append((f"{state.port.port}/{state.port.protocol}", state.port.name, state.state, wrong))
    table = align(rows, text_columns=(0, 1, 2, 3))
    others = len(report.ports) - len(shown)
    if others:
        table.append(f"{others} other ports: none open")
    if report.sites:
        rows2 = [("site", "status", "TLS", "ALPN", "certificate", "HTTP", "HSTS")]
        for look in report.sites:
            rows2.append(
                (
                    look.site.name,
                    str(look.status or "-"),
                    look.tls or "-",
                    look.alpn or "-",
                    _certificate_cell(look),
                    look.redirect or "-",
                    "yes" if look.hsts else "no",
                )
            )
        table += ["", *align(rows2, text_columns=(0, 2, 3, 4, 5, 6))]
    return table


def _certificate_cell(look: SiteState) -> str:
    if look.trusted is None:
        return "-"
    days = "" if look.days_left is None else f"{look.days_left} days, "
    return f"{days}{'' if look.trusted else 'not '}trusted"
