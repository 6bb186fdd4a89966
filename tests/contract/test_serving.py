"""What visitors of the hosts get: the behaviour that roles and acceptance tests rely on."""

from __future__ import annotations

import base64
import socket
import ssl

import pytest
from npm import Npm, docker, eventually
from test_traps import TLS, access_list, uploaded


@pytest.fixture(scope="module")
def secured(npm: Npm) -> str:
    """A host with a certificate and every TLS option."""
    npm.proxy("secured.example.com", certificate_id=uploaded(npm, "secured.example.com"), **TLS)
    assert eventually(lambda: npm.offers_tls("secured.example.com"))
    return "secured.example.com"


def test_the_upstream_hears_who_asked_for_what(npm: Npm) -> None:
    npm.proxy("plain.example.com")
    assert eventually(lambda: npm.proxies("plain.example.com"))

    heard = npm.web("plain.example.com", "/page?a=b", headers={"X-Forwarded-For": "203.0.113.9"}).json

    assert heard["path"] == "/page?a=b"
    assert heard["headers"]["host"] == "plain.example.com"
    assert heard["headers"]["x-forwarded-proto"] == heard["headers"]["x-forwarded-scheme"] == "http"
    assert heard["headers"]["x-forwarded-for"] == f"203.0.113.9, {heard['headers']['x-real-ip']}"
    assert "x-forwarded-host" not in heard["headers"]


def test_forced_tls_redirects_and_says_so_for_two_years(npm: Npm, secured: str) -> None:
    plain, encrypted = npm.web(secured, "/page?a=b"), npm.tls(secured)

    assert (plain.status, plain.headers["location"]) == (301, f"https://{secured}/page?a=b")
    assert encrypted.status == 200
    assert encrypted.headers["strict-transport-security"] == "max-age=63072000; includeSubDomains; preload"
    assert encrypted.json["headers"]["x-forwarded-proto"] == "https"


def test_http2_is_offered(npm: Npm, secured: str) -> None:
    with npm.handshake(secured, alpn=["h2", "http/1.1"]) as connection:
        assert connection.selected_alpn_protocol() == "h2"


def test_an_unknown_name_gets_no_handshake(npm: Npm, secured: str) -> None:
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        npm.handshake("nobody.example.com")
    assert npm.offers_tls(secured)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_protocols_and_old_ciphers_are_refused(npm: Npm, secured: str) -> None:
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        npm.handshake(secured, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
    with npm.handshake(secured, maximum_version=ssl.TLSVersion.TLSv1_2) as connection:
        cipher = connection.cipher()
    assert cipher
    assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]


def test_a_host_may_be_saved_before_its_upstream_exists(npm: Npm, image: str, network: str) -> None:
    host = npm.proxy("late.example.com", forward_host="late-comer")
    assert npm.ok("GET", f"/nginx/proxy-hosts/{host['id']}")["meta"]["nginx_online"] is True
    assert eventually(lambda: npm.web("late.example.com").status == 502)

    script = "from http.server import *; HTTPServer(('', 8080), SimpleHTTPRequestHandler).serve_forever()"
    place = ("--network", network, "--network-alias", "late-comer", "--name", f"{network}-late")
    docker("run", "-d", *place, "--entrypoint", "python3", image, "-c", script)
    try:
        assert eventually(lambda: npm.web("late.example.com").status == 200, seconds=20)
    finally:
        docker("rm", "-fv", f"{network}-late")


def test_an_access_list_asks_for_a_password_and_keeps_it_from_the_upstream(npm: Npm) -> None:
    npm.proxy("guarded.example.com", access_list_id=access_list(npm))
    assert eventually(lambda: npm.web("guarded.example.com").status == 401)
    right, wrong = (
        {"Authorization": "Basic " + base64.b64encode(pair).decode()} for pair in (b"visitor:secret", b"visitor:wrong")
    )

    assert npm.web("guarded.example.com", headers=wrong).status == 401
    admitted = npm.web("guarded.example.com", headers=right)
    assert admitted.status == 200
    assert not admitted.json["headers"].get("authorization")


def test_an_access_list_admits_addresses(npm: Npm) -> None:
    everybody, somebody = (
        access_list(npm, name=address, items=[], clients=[{"address": address, "directive": "allow"}])
        for address in ("0.0.0.0/0", "192.0.2.1")
    )
    npm.proxy("open.example.com", access_list_id=everybody)
    npm.proxy("closed.example.com", access_list_id=somebody)

    assert eventually(lambda: npm.web("closed.example.com").status == 403)
    assert npm.web("open.example.com").status == 200


def test_a_changed_access_list_reaches_its_hosts_without_a_save_and_keeps_their_tls(npm: Npm) -> None:
    number, name = access_list(npm), "changed.example.com"
    npm.proxy(name, access_list_id=number, certificate_id=uploaded(npm, name))
    assert eventually(lambda: npm.tls(name).status == 401)
    other = {"username": "other", "password": "other"}

    before = npm.workers()
    change = {"name": "visitors", "satisfy_any": True, "pass_auth": False, "items": [other], "clients": []}
    row = npm.ok("PUT", f"/nginx/access-lists/{number}", change)

    assert (row["proxy_host_count"], row["items"][0]["password"], row["items"][0]["hint"]) == (1, "", "o****")
    assert eventually(lambda: not before & npm.workers())
    header = {"Authorization": "Basic " + base64.b64encode(b"other:other").decode()}
    assert eventually(lambda: npm.tls(name, headers=header).status == 200)


@pytest.mark.parametrize(
    ("value", "meta", "status", "text"),
    [
        ("404", {}, 404, ""),
        ("redirect", {"redirect": "https://example.com"}, 301, ""),
        ("html", {"html": "<p>hello</p>"}, 200, "<p>hello</p>"),
        ("congratulations", {}, 200, "stand-in"),
    ],
)
def test_the_default_site_is_what_the_setting_says(
    npm: Npm, value: str, meta: dict[str, str], status: int, text: str
) -> None:
    npm.ok("PUT", "/settings/default-site", {"value": value, "meta": meta})

    assert eventually(lambda: npm.web("nobody.example.com").status == status)
    assert eventually(lambda: text in npm.web("nobody.example.com").text)


def test_the_default_site_can_hang_up(npm: Npm) -> None:
    npm.ok("PUT", "/settings/default-site", {"value": "444", "meta": {}})
    try:
        assert eventually(lambda: npm.hangs_up("nobody.example.com"))
    finally:
        npm.ok("PUT", "/settings/default-site", {"value": "congratulations", "meta": {}})


def test_a_redirection_host_redirects(npm: Npm) -> None:
    target = {"forward_scheme": "auto", "forward_http_code": 308, "forward_domain_name": "example.com"}
    names = {"domain_names": ["www.example.com"], "preserve_path": True}
    npm.ok("POST", "/nginx/redirection-hosts", {**names, **target})

    wanted = "http://example.com/page"
    assert eventually(lambda: npm.web("www.example.com", "/page").headers.get("location") == wanted)
    assert npm.web("www.example.com").status == 308


def test_a_dead_host_answers_404(npm: Npm) -> None:
    npm.ok("POST", "/nginx/dead-hosts", {"domain_names": ["dead.example.com"]})

    assert eventually(lambda: npm.web("dead.example.com").status == 404)


def test_a_stream_passes_bytes_on_and_can_end_tls(npm: Npm) -> None:
    stream = {"forwarding_host": "up", "forwarding_port": 8080, "tcp_forwarding": True, "udp_forwarding": False}
    number = uploaded(npm, "stream.example.com")
    npm.ok("POST", "/nginx/streams", {"incoming_port": 9993, **stream})
    npm.ok("POST", "/nginx/streams", {"incoming_port": 9994, **stream, "certificate_id": number})

    def answers(connection: socket.socket) -> bool:
        with connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"200 OK" in connection.recv(1000)

    assert eventually(lambda: answers(socket.create_connection(("127.0.0.1", npm.port(9993)), timeout=5)))
    assert eventually(lambda: answers(npm.handshake("stream.example.com", port=9994)))


def test_a_location_has_its_own_upstream(npm: Npm) -> None:
    location = {"path": "/app", "forward_scheme": "http", "forward_host": "web/inner", "forward_port": 80}
    npm.proxy("located.example.com", locations=[location])
    assert eventually(lambda: npm.proxies("located.example.com"))

    assert npm.web("located.example.com", "/app/page").json["path"] == "/inner/page"
    assert npm.web("located.example.com", "/page").json["path"] == "/page"


def test_custom_snippets_are_read(npm: Npm) -> None:
    npm.inside(
        "sh", "-c", "mkdir -p /data/nginx/custom && echo 'add_header X-Snippet yes;' >/data/nginx/custom/http.conf"
    )
    snippet = "location = /snippet { return 204; }"
    npm.inside("sh", "-c", f"echo '{snippet}' >/data/nginx/custom/server_proxy.conf")
    npm.proxy("custom.example.com")

    assert eventually(lambda: npm.web("custom.example.com", "/snippet").status == 204)
