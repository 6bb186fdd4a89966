from __future__ import annotations

import asyncio
import datetime
import http.server
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.diegonmarcos.servers.plugins.module_utils._site_probe import (
    OFTEN_EXPOSED,
    ProbeError,
    Report,
    SiteState,
    client_hello,
    name_matches,
    parse_ports,
    parse_sites,
    probe,
)

ADDRESS = "127.0.0.1"
NAME = "site.test"
HSTS = {"Strict-Transport-Security": "max-age=63072000; preload"}


# --- Real servers -----------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority of our own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test Authority")])
        self.pem = self._sign(self.name, self.key.public_key(), [], 3650, authority=True)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, names: Sequence[str], days: float, authority: bool
    ) -> str:
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - datetime.timedelta(days=4000))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def context(self, *names: str, days: float = 90.5) -> ssl.SSLContext:
        """What a server with a certificate for these names needs."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
        file = self.directory / f"{len(list(self.directory.iterdir()))}.pem"
        file.write_text(
            self._sign(subject, key.public_key(), names or [NAME], days, authority=False)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode()
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


@dataclass
class Web:
    """How a web server answers."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


class Quiet(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that only looks at the handshake is no error."""


@contextmanager
def serving(web: Web, context: ssl.SSLContext | None = None, address: str = ADDRESS) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            # In this connection's own thread: a client that says nothing must not hold up the others.
            if context:
                self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def do_GET(self) -> None:
            web.requests.append(f"{self.headers['Host']} {self.path}")
            self.send_response(web.status)
            for key, value in {"Content-Length": "0", **web.headers}.items():
                self.send_header(key, value)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nobody reads it."""

    class Server(Quiet):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    server = Server((address, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def listening(address: str = ADDRESS, answer: bytes | None = None) -> Iterator[int]:
    """A port that takes connections and says nothing, or one thing."""
    with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as server:

        def talk() -> None:
            kept = []
            while True:
                try:
                    connection, _peer = server.accept()
                except OSError:
                    return
                kept.append(connection)
                if answer is not None:
                    connection.sendall(answer)

        threading.Thread(target=talk, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@contextmanager
def full() -> Iterator[tuple[int, socket.socket]]:
    """A port whose queue is full: the kernel drops what comes, as a firewall does."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server((ADDRESS, 0), backlog=0))
        for _unused in range(2):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        time.sleep(0.05)
        yield server.getsockname()[1], server


def refusing_port() -> int:
    with closing(socket.create_server((ADDRESS, 0))) as server:
        port: int = server.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def look(
    ports: Sequence[dict[str, Any]] = (),
    sites: Sequence[dict[str, Any]] = (),
    closed: Sequence[int] | None = (),
    address: str = ADDRESS,
    timeout: float = 0.5,
    **more: Any,
) -> Report:
    parsed = parse_sites(sites)
    return asyncio.run(probe(address, parse_ports(ports, closed, parsed), parsed, timeout=timeout, **more))


Visit = Callable[..., SiteState]


@pytest.fixture
def visit(authority: Authority) -> Iterator[Visit]:
    """Look at one site that is as it should be but for what the test says."""
    with ExitStack() as stack:

        def visit(
            context: ssl.SSLContext | None = None,
            https: Web | None = None,
            http: Web | None = None,
            ca: str = authority.pem,
            minimum_days: int = 14,
            **site: Any,
        ) -> SiteState:
            https = https or Web(headers=HSTS)
            http = http or Web(301, {"Location": f"https://{NAME}/"})
            wanted = {
                "name": NAME,
                "ca": ca,
                "port": site.pop("port", None) or stack.enter_context(serving(https, context or authority.context())),
                "http_port": site.pop("http_port", None) or stack.enter_context(serving(http)),
                **site,
            }
            (state,) = look(sites=[wanted], minimum_days=minimum_days).sites
            return state

        yield visit


def said(state: SiteState) -> list[str]:
    return [sentence for _port, sentence in state.problems]


# --- Ports ------------------------------------------------------------------------------------------------------------


def test_ports_that_are_as_they_should_be_are_no_problem() -> None:
    with listening() as port, full() as (dropping, _server):
        report = look([{"port": port, "name": "ssh"}], closed=[refusing_port(), dropping])

    assert [(state.state, state.ok) for state in report.ports] == [("open", True), ("closed", True), ("filtered", True)]
    assert report.problems == []
    assert report.table[-1] == "2 other ports: none open"


def test_an_open_port_that_should_not_be_is_named_with_what_to_do() -> None:
    with listening() as port:
        report = look(closed=[port])

    assert report.problems == [
        f"Port {port} is open and should not be: stop what listens there, bind it to 127.0.0.1, or see that the host"
        " firewall is loaded."
    ]


def test_a_refusing_port_that_should_be_open_points_at_its_service() -> None:
    port = refusing_port()

    (problem,) = look([{"port": port, "name": "imaps"}]).problems

    assert problem.startswith(f"Port {port} (imaps) is closed")
    assert "nothing listens there" in problem


def test_a_silent_port_that_should_be_open_points_at_the_security_list() -> None:
    with listening() as other, full() as (port, _server):
        (problem,) = look([{"port": other}, {"port": port, "name": "https"}]).problems

    assert problem == f"Port {port} (https) is filtered: open it in the Oracle security list too."


def test_one_lost_packet_raises_no_alarm() -> None:
    with full() as (port, server):
        # Room is made after the first attempt sent its packet and before the kernel would repeat it.
        threading.Timer(0.2, lambda: [server.accept() for _unused in range(1)]).start()
        report = look([{"port": port}], timeout=0.6)

    assert [state.state for state in report.ports] == ["open"]


def test_udp_is_not_probed_and_that_is_said() -> None:
    report = look([{"port": 51820, "protocol": "udp", "name": "wireguard"}])

    assert (report.ports[0].state, report.problems) == ("not probed", [])
    assert report.table[1].split() == ["51820/udp", "wireguard", "not", "probed"]


def test_a_box_that_answers_nowhere_is_one_sentence_not_many() -> None:
    with full() as (first, _one), full() as (second, _two):
        sites = [{"name": NAME, "port": first, "http_port": second}]
        report = look([{"port": first}, {"port": second}], sites)

    (problem,) = report.problems
    assert problem.startswith("127.0.0.1 does not answer on any port")


def test_what_a_site_lacks_because_of_its_port_is_said_once() -> None:
    port = refusing_port()
    with listening() as other:
        report = look([{"port": other}, {"port": port, "name": "https"}], [{"name": NAME, "port": port}])

    assert len(report.problems) == 1
    assert report.problems[0].startswith(f"Port {port} (https) is closed")


def test_a_site_on_a_port_nobody_listed_says_itself_that_it_cannot_be_reached() -> None:
    port = refusing_port()

    assert look(sites=[{"name": NAME, "port": port}]).problems == [f"{NAME} cannot be reached: port {port} is closed."]


def test_ports_of_an_ipv6_address_are_probed() -> None:
    with listening("::1") as port:
        report = look([{"port": port}], address="::1")

    assert report.problems == []


def test_a_name_is_resolved() -> None:
    first = str(socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)[0][4][0])
    with listening(first) as port:
        assert look([{"port": port}], address="localhost").problems == []


def test_a_name_that_does_not_resolve_is_refused() -> None:
    with pytest.raises(ProbeError, match=r"no-such-host\.invalid"):
        look([{"port": 22}], address="no-such-host.invalid")


def test_by_default_what_is_often_exposed_must_be_closed_but_not_what_should_be_open() -> None:
    sites = parse_sites([{"name": NAME}])

    ports = parse_ports([{"port": 22}, {"port": 8443, "protocol": "udp"}], None, sites)

    closed = {port.port for port in ports if not port.open}
    assert {81, 2375, 2376, 3306, 5432, 6379, 8080, 8090, 9000, 8443} <= closed
    assert not {22, 80, 443} & closed
    assert len(OFTEN_EXPOSED) == len(set(OFTEN_EXPOSED)) >= 100


@pytest.mark.parametrize(
    ("open_ports", "closed", "text"),
    [
        ([{"port": 81}], [80, 81], "Port 81 is in open_ports and in closed_ports"),
        ([{"port": 0}], [], "0 is no port"),
        ([], [65536], "65536 is no port"),
    ],
)
def test_ports_that_make_no_sense_are_refused(open_ports: list[dict[str, Any]], closed: list[int], text: str) -> None:
    with pytest.raises(ProbeError, match=text):
        parse_ports(open_ports, closed, [])


FEW_DESCRIPTORS = """
import asyncio, resource
from ansible_collections.diegonmarcos.servers.plugins.module_utils._site_probe import *
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
try:
    asyncio.run(probe("127.0.0.1", parse_ports([], None, []), []))
except ProbeError as error:
    print(error)
"""


def test_a_machine_with_too_few_descriptors_says_so_and_calls_no_port_closed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FEW_DESCRIPTORS],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert done.stdout == "This machine cannot open as many connections as probing takes: Too many open files.\n"


FIREWALLED = """
import asyncio, json, subprocess, sys, time, socket
from ansible_collections.diegonmarcos.servers.plugins.module_utils._site_probe import *
rules, ports, closed, sites, address, timeout = eval(sys.argv[1])
for rule in rules:
    subprocess.run(rule.split(), check=True)
servers = [socket.create_server(("127.0.0.1", number)) for number in (22, 443)]
sites = parse_sites(sites)
begin = time.monotonic()
report = asyncio.run(probe(address, parse_ports(ports, closed, sites), sites, timeout=timeout))
states = {state.port.port: [state.state, state.why] for state in report.ports}
print(json.dumps([time.monotonic() - begin, states, report.problems]))
"""


def behind_firewall(
    *rules: str,
    ports: Sequence[dict[str, Any]] = (),
    closed: Sequence[int] | None = (),
    sites: Sequence[dict[str, Any]] = (),
    address: str = ADDRESS,
    timeout: float = 2.5,
) -> tuple[float, dict[str, list[str]], list[str]]:
    """Probe in a network of its own, with these commands as root of it before."""
    namespace = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--net", "--map-root-user"]
    done = subprocess.run(
        [*namespace, sys.executable, "-c", FIREWALLED, repr((rules, ports, closed, sites, address, timeout))],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )
    seconds, states, problems = json.loads(done.stdout)
    return seconds, states, problems


def test_dropped_rejected_refused_and_open_are_told_apart() -> None:
    _seconds, states, problems = behind_firewall(
        "ip link set lo up",
        "iptables -A INPUT -p tcp --dport 80 -j DROP",
        "iptables -A INPUT -p tcp --dport 25 -j DROP",
        "iptables -A INPUT -p tcp --dport 993 -j REJECT --reject-with icmp-host-prohibited",
        ports=[{"port": number} for number in (22, 80, 25, 993, 587)],
        timeout=0.5,
    )

    assert states == {
        "22": ["open", ""],
        "80": ["filtered", "no answer"],
        "25": ["filtered", "no answer"],
        "993": ["filtered", "rejected"],
        "587": ["closed", ""],
    }
    assert [problem.split(":")[0] for problem in problems] == [
        "Port 80 is filtered",
        "Port 25 is filtered",
        "Port 993 is rejected by the host's own firewall",
        "Port 587 is closed",
    ]
    assert "another network" in problems[1], "providers block outgoing mail"


def test_a_firewall_that_drops_everything_else_costs_below_ten_seconds() -> None:
    seconds, states, problems = behind_firewall(
        "ip link set lo up",
        "iptables -A INPUT -p tcp --sport 22 -j ACCEPT",
        "iptables -A INPUT -p tcp --dport 22 -j ACCEPT",
        "iptables -A INPUT -j DROP",
        ports=[{"port": 22}, {"port": 443}],
        closed=None,
        sites=[{"name": f"site{number}.test"} for number in range(5)],
    )

    assert seconds < 10
    assert list(states.values()).count(["filtered", "no answer"]) == len(states) - 1 > 100
    assert problems == ["Port 443 is filtered: open it in the Oracle security list too."]


def test_a_machine_without_a_route_does_not_blame_the_box() -> None:
    _seconds, _states, problems = behind_firewall("ip link set lo up", ports=[{"port": 22}], address="192.0.2.1")

    assert problems == ["192.0.2.1 cannot be reached from this machine: it has no route there."]


# --- Sites ------------------------------------------------------------------------------------------------------------


def test_a_good_site_has_no_problem_and_everything_is_known_about_it(visit: Visit) -> None:
    web = Web(headers=HSTS)

    state = visit(https=web)

    assert state.problems == []
    assert (state.tls, state.alpn, state.trusted, state.days_left) == ("TLSv1.3", "h2", True, 90)
    assert (state.names, state.issuer) == ([NAME], "Test Authority")
    assert state.legacy == {"TLS 1.0": "refused", "TLS 1.1": "refused"}
    assert (state.status, state.hsts, state.redirect) == (200, HSTS["Strict-Transport-Security"], "https")
    assert web.requests == [f"{NAME}:{state.site.port} /"]


def test_the_table_shows_ports_and_sites(authority: Authority) -> None:
    http = Web(301, {"Location": f"https://{NAME}/"})
    with serving(Web(headers=HSTS), authority.context()) as port, serving(http) as http_port, listening() as wrong:
        site = {"name": NAME, "ca": authority.pem, "port": port, "http_port": http_port}
        table = look([{"port": port, "name": "https"}], [site], [wrong]).table

    assert [line.split() for line in table] == [
        ["port", "name", "state"],
        [f"{port}/tcp", "https", "open"],
        [f"{wrong}/tcp", "open", "should", "be", "closed"],
        [],
        ["site", "status", "TLS", "ALPN", "certificate", "HTTP", "HSTS"],
        [NAME, "200", "TLSv1.3", "h2", "90", "days,", "trusted", "https", "yes"],
    ]


def test_a_server_without_http_2_is_seen(visit: Visit, authority: Authority) -> None:
    context = authority.context()
    context.set_alpn_protocols(["http/1.1"])

    assert visit(context).alpn == "http/1.1"


def test_an_unknown_authority_is_said_and_the_certificate_read_all_the_same(visit: Visit) -> None:
    state = visit(ca="")

    assert (state.trusted, state.days_left, state.names, state.issuer) == (False, 90, [NAME], "Test Authority")
    (problem,) = said(state)
    assert problem.startswith(f"The certificate of {NAME} is not trusted (")
    assert "as ca" in problem


def test_an_expired_certificate_is_one_sentence(visit: Visit, authority: Authority) -> None:
    state = visit(authority.context(days=-2.5))

    assert said(state) == [f"The certificate of {NAME} expired 3 days ago: its renewal fails."]
    assert (state.trusted, state.names) == (False, [NAME])


@pytest.mark.parametrize(("days", "problems"), [(14.5, 0), (13.5, 1)])
def test_a_certificate_that_ends_soon_is_a_problem(
    visit: Visit, authority: Authority, days: float, problems: int
) -> None:
    state = visit(authority.context(days=days), minimum_days=14)

    assert said(state) == [f"The certificate of {NAME} ends in 13 days: its renewal fails."][:problems]


def test_the_certificate_of_another_site_is_named(visit: Visit, authority: Authority) -> None:
    state = visit(authority.context("other.test", "www.other.test"))

    assert state.trusted
    (problem,) = said(state)
    assert problem.startswith(f"{NAME} shows the certificate of other.test, www.other.test")


@pytest.mark.parametrize(
    ("name", "patterns", "matches"),
    [
        ("a.test", ["a.test"], True),
        ("a.test", ["b.test", "A.TEST"], True),
        ("a.b.test", ["*.b.test"], True),
        ("b.test", ["*.b.test"], False),
        ("x.a.b.test", ["*.b.test"], False),
        ("a.test", ["*"], False),
        ("test", ["*."], False),
        ("a.test", ["a*.test"], False),
        ("192.0.2.1", ["192.0.2.1"], True),
        ("192.0.2.1", ["*.0.2.1"], False),
        ("2001:db8::1", ["2001:DB8:0:0:0:0:0:1"], True),
    ],
)
def test_a_star_in_a_certificate_stands_for_one_label(name: str, patterns: list[str], matches: bool) -> None:
    assert name_matches(name, patterns) is matches


def test_a_name_the_server_does_not_know_points_at_the_proxy_host(visit: Visit, authority: Authority) -> None:
    context = authority.context()
    context.sni_callback = lambda *_unused: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    state = visit(context)

    (problem,) = said(state)
    assert problem.startswith(f"{NAME} refuses the TLS handshake")
    assert "no proxy host of that name" in problem
    assert (state.tls, state.trusted) == (None, None)


def old(authority: Authority, lowest: ssl.TLSVersion, highest: ssl.TLSVersion) -> ssl.SSLContext:
    context = authority.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = lowest, highest
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize(
    ("lowest", "text"),
    [
        (ssl.TLSVersion.TLSv1, f"{NAME} accepts TLS 1.0 and TLS 1.1"),
        (ssl.TLSVersion.TLSv1_1, f"{NAME} accepts TLS 1.1,"),
    ],
)
def test_old_tls_is_a_problem(visit: Visit, authority: Authority, lowest: ssl.TLSVersion, text: str) -> None:
    state = visit(old(authority, lowest, ssl.TLSVersion.TLSv1_3))

    assert state.tls == "TLSv1.3"
    (problem,) = said(state)
    assert problem.startswith(text)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_a_server_that_speaks_only_old_tls_is_told_both_ways(visit: Visit, authority: Authority) -> None:
    state = visit(old(authority, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1))

    assert [f"{NAME} refuses" in said(state)[0], f"{NAME} accepts" in said(state)[1]] == [True, True]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_a_version_the_server_falls_back_from_is_not_one_it_speaks(visit: Visit, authority: Authority) -> None:
    state = visit(old(authority, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1))

    assert state.legacy["TLS 1.0"] == "accepted"
    assert state.legacy["TLS 1.1"] != "accepted"


def test_an_offer_names_the_site_but_never_an_address() -> None:
    assert b"site.test" in client_hello(0x0301, "site.test")
    assert b"192.0.2.1" not in client_hello(0x0301, "192.0.2.1")


def test_a_server_that_is_slow_at_every_step_is_given_up(visit: Visit, authority: Authority) -> None:
    context = authority.context()
    context.sni_callback = lambda *_unused: time.sleep(0.8)

    state = visit(context, ca="")

    assert f"{NAME} takes longer than 1.5 s to answer: is the box overloaded?" in said(state)


def test_a_server_that_is_slow_to_its_first_visitors_only_is_well(visit: Visit, authority: Authority) -> None:
    context = authority.context()
    pauses = iter([2, 2])
    context.sni_callback = lambda *_unused: time.sleep(next(pauses, 0))

    state = visit(context)

    assert next(pauses, None) is None
    assert said(state) == []


def test_a_web_server_without_tls_on_the_port_is_no_site(visit: Visit) -> None:
    with serving(Web()) as port:
        state = visit(port=port)

    assert any("refuses the TLS handshake" in sentence for sentence in said(state))
    assert state.legacy == {"TLS 1.0": "unknown", "TLS 1.1": "unknown"}


@pytest.mark.parametrize("answer", [None, b"\x16\x03\x01"])
def test_a_server_that_says_nothing_is_given_up(visit: Visit, answer: bytes | None) -> None:
    with listening(answer=answer) as port:
        state = visit(port=port)

    assert "does not finish a TLS handshake" in str(said(state))
    assert state.legacy == {"TLS 1.0": "unknown", "TLS 1.1": "unknown"}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"SSH-2.0-OpenSSH_10\r\n\r\n", "no valid answer by HTTP"),
        (b"HTTP/1.1 301 Moved\r\n" + b"X: y\r\n" * 30000, "no valid answer by HTTP"),
        (None, "no valid answer by HTTP"),
    ],
    ids=["another protocol", "endless head", "silence"],
)
def test_nonsense_on_the_port_of_http_is_a_problem_and_no_crash(visit: Visit, answer: bytes | None, text: str) -> None:
    with listening(answer=answer) as port:
        assert text in str(said(visit(http_port=port)))


@pytest.mark.parametrize(
    ("http", "text"),
    [
        (Web(200), "answers by HTTP with status 200 instead of a redirect to HTTPS"),
        (Web(301, {"Location": f"http://{NAME}/"}), f"with status 301 to http://{NAME}/ instead"),
        (Web(301, {"Location": "https://other.test/"}), "with status 301 to https://other.test/ instead"),
        (Web(301), "with status 301 to  instead"),
    ],
)
def test_what_is_no_redirect_to_https_is_said(visit: Visit, http: Web, text: str) -> None:
    assert text.replace("  ", " ") in str(said(visit(http=http))).replace("  ", " ")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_every_kind_of_redirect_to_the_same_name_will_do(visit: Visit, status: int) -> None:
    assert visit(http=Web(status, {"Location": f"https://{NAME.upper()}:8443/x"})).problems == []


def test_a_closed_port_of_http_cannot_redirect(visit: Visit) -> None:
    port = refusing_port()

    assert said(visit(http_port=port)) == [f"{NAME} does not redirect to HTTPS: port {port} is closed."]


def test_a_site_that_need_not_redirect_is_not_asked_by_http(visit: Visit) -> None:
    http = Web(200)

    state = visit(http=http, redirect=False)

    assert (state.problems, http.requests) == ([], [])


@pytest.mark.parametrize("headers", [{}, {"Strict-Transport-Security": "max-age=0"}])
def test_a_site_without_hsts_is_a_problem_unless_that_is_meant(visit: Visit, headers: dict[str, str]) -> None:
    strict, lenient = visit(https=Web(headers=headers)), visit(https=Web(headers=headers), hsts=False)

    assert [sentence.split(",")[0] for sentence in said(strict)] == [f"{NAME} sends no HSTS header"]
    assert lenient.problems == []


@pytest.mark.parametrize(
    ("status", "expected", "text"),
    [
        (401, None, None),
        (404, None, None),
        (502, None, f"{NAME} answers with status 502: what it is proxied to does not answer"),
        (500, None, f"{NAME} answers with status 500."),
        (401, [401], None),
        (200, [401, 403], f"{NAME} answers with status 200, 401 or 403 was expected."),
        (503, [503], None),
    ],
)
def test_the_status_is_compared_with_what_is_expected(
    visit: Visit, status: int, expected: list[int] | None, text: str | None
) -> None:
    problems = said(visit(https=Web(status, HSTS), expect_status=expected))

    assert len(problems) == (0 if text is None else 1)
    assert text is None or problems[0].startswith(text)


def test_an_error_page_need_not_send_hsts(visit: Visit) -> None:
    assert len(said(visit(https=Web(502)))) == 1


def test_a_path_is_asked_for(visit: Visit) -> None:
    web = Web(headers=HSTS)

    visit(https=web, path="/health?deep=1")

    assert web.requests[0].endswith(" /health?deep=1")


def test_a_site_is_asked_for_by_its_name_without_case_and_last_dot(visit: Visit) -> None:
    assert visit(name=f"{NAME.upper()}.").problems == []


@pytest.mark.parametrize(
    ("site", "text"),
    [
        ({"name": "*.site.test"}, "is no host name"),
        ({"name": "site test"}, "is no host name"),
        ({"name": ""}, "is no host name"),
        ({"name": "a" * 64 + ".test"}, "is no host name"),
        ({"name": NAME, "ca": "no certificate"}, f"ca of {NAME} is no certificate in PEM form"),
        ({"name": NAME, "path": "x"}, "must begin with /"),
        ({"name": NAME, "path": "/ HTTP/1.1\r\nX: y"}, "must begin with / and have no blanks"),
        ({"name": NAME, "port": 70000}, "70000 is no port"),
    ],
)
def test_a_site_that_makes_no_sense_is_refused(site: dict[str, Any], text: str) -> None:
    with pytest.raises(ProbeError, match=text):
        parse_sites([site])
