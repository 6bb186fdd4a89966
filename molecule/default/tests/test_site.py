"""The whole site as a stranger on the network meets it, and as its owner finds it after accidents."""

from __future__ import annotations

import base64
import json
import shlex
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

SSLYZE = str(Path(sys.executable).with_name("sslyze"))

OpenPorts = Callable[[Iterable[int]], set[int]]
RequestSite = Callable[..., tuple[int, dict[str, str], bytes]]
OnBox = Callable[[str], str]


@pytest.fixture(scope="module")
def site(domain: str) -> str:
    return f"proxy.{domain}"


@pytest.fixture(scope="module")
def login(inventory: Path) -> dict[str, str]:
    password = (inventory / ".secrets/admins_password").read_text().strip()
    return {"Authorization": "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()}


def wait_for(what: Callable[[], bool], seconds: float) -> bool:
    """Poll until something holds, at most so long; tell whether it did."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if what():
                return True
        except OSError:
            pass
        time.sleep(0.5)
    return False


def test_only_the_ports_of_the_table_are_open_among_all_there_are(open_ports: OpenPorts) -> None:
    assert open_ports(range(1, 65536)) == {22, 25, 80, 443, 465, 587, 993}


def test_the_site_has_a_certificate_of_the_authority_for_its_name(request_site: RequestSite, site: str) -> None:
    status, _, _ = request_site(site)
    assert status == 401


def test_the_password_opens_the_site_and_its_upstream_answers(
    request_site: RequestSite, site: str, login: dict[str, str]
) -> None:
    status, _, body = request_site(site, "/api/", headers=login)
    assert status == 200
    assert json.loads(body)["status"] == "OK"


def test_plain_http_leads_to_https(request_site: RequestSite, site: str) -> None:
    status, headers, _ = request_site(site, "/x?y=1", tls=False)
    assert status == 301
    assert headers["location"] == f"https://{site}/x?y=1"


def test_browsers_are_told_to_stay_on_https(request_site: RequestSite, site: str, login: dict[str, str]) -> None:
    _, headers, _ = request_site(site, headers=login)
    assert int(headers["strict-transport-security"].split("max-age=")[1].split(";")[0]) >= 31536000


def test_http_2_is_offered(address: str, site: str, variables: dict[str, Any]) -> None:
    context = ssl.create_default_context(cadata=variables["servers_private_ca"])
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((address, 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=site) as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"


def test_sslyze_finds_nothing_but_tls_1_2_and_1_3(address: str, site: str, shell: Any, tmp_path: Path) -> None:
    report = tmp_path / "sslyze.json"
    scans = (
        "--sslv2",
        "--sslv3",
        "--tlsv1",
        "--tlsv1_1",
        "--tlsv1_2",
        "--tlsv1_3",
        "--heartbleed",
        "--robot",
        "--compression",
    )
    shell(SSLYZE, *scans, "--sni", site, "--json_out", str(report), f"{address}:443")
    result = json.loads(report.read_text())["server_scan_results"][0]["scan_result"]
    accepted = {
        name
        for name in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3")
        if result[f"{name}_cipher_suites"]["result"]["accepted_cipher_suites"]
    }
    assert accepted == {"tls_1_2", "tls_1_3"}
    assert not result["heartbleed"]["result"]["is_vulnerable_to_heartbleed"]
    assert result["robot"]["result"]["robot_result"].startswith("NOT_VULNERABLE")
    assert not result["tls_compression"]["result"]["supports_compression"]


def test_an_unknown_name_gets_no_certificate(address: str) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((address, 443), timeout=10) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(plain, server_hostname="stranger.example")


def test_a_published_container_port_that_the_table_does_not_list_stays_shut(
    open_ports: OpenPorts, on_box: OnBox
) -> None:
    image = on_box("docker inspect --format '{{.Config.Image}}' npm").strip()
    # Upstream's image carries node, the stand-in Python.
    listener = (
        "if command -v python3; then exec python3 -m http.server 8000; fi;"
        " exec node -e 'require(\"http\").createServer((_, answer) => answer.end()).listen(8000)'"
    )
    options = ["-d", "--rm", "--name", "intruder", "-p", "0.0.0.0:8080:8000", "--entrypoint", "sh"]
    on_box(shlex.join(["docker", "run", *options, image, "-c", listener]))
    try:
        inside = on_box("docker inspect --format '{{.NetworkSettings.IPAddress}}' intruder").strip()
        ask = f"import urllib.request as r; print(r.urlopen('http://{inside}:8000/', timeout=2).status)"
        line = shlex.join(["python3", "-c", ask]) + " || true"
        assert wait_for(lambda: on_box(line).strip() == "200", 20)
        assert "8080" in on_box("docker port intruder")
        assert open_ports([8080]) == set()
    finally:
        on_box("docker rm -f intruder")


def test_the_owner_sees_every_container_with_compose(on_box: OnBox) -> None:
    rows = [json.loads(row) for row in on_box("cd /opt/servers && docker compose ps --format json").splitlines()]
    assert {row["Service"] for row in rows} >= {"npm", "matomo", "matomo-db", "matomo-web"}
    assert {row["Health"] for row in rows} == {"healthy"}


def test_a_killed_proxy_comes_back_by_itself(on_box: OnBox, request_site: RequestSite, site: str) -> None:
    before = on_box("docker inspect --format '{{.State.Pid}}' npm")
    on_box(f"kill -9 {before.strip()}")
    assert wait_for(lambda: request_site(site)[0] == 401, 90)
    assert on_box("docker inspect --format '{{.State.Pid}}' npm") != before


def test_no_secret_is_readable_by_others_or_shown_among_processes(on_box: OnBox, inventory: Path) -> None:
    files = [path for path in (inventory / ".secrets").rglob("*") if path.is_file()]
    # One is empty: it keeps two runs from making a key at the same time.
    secrets = [text for path in files if (text := path.read_text().strip())]
    assert len(secrets) >= 8
    # As somebody without rights: a readable file in a closed folder is out of reach.
    search = "find /opt /etc /var/lib/servers /var/log /home /root -type f -readable -print0 | xargs -0 cat"
    readable = shlex.join(["runuser", "-u", "nobody", "--", "sh", "-c", search])
    logs = "for one in $(docker ps -q); do docker logs $one; done; journalctl -q --no-pager"
    said = f"ps axww -o args; docker inspect $(docker ps -q); {logs}"
    exposed = on_box(f"( {readable}; {said} ) 2>&1 | tr -cd '[:print:]\\n'")
    assert "nginx" in exposed
    assert [secret for secret in secrets if secret in exposed] == []


def test_the_box_has_no_failed_unit(host: Host) -> None:
    assert host.run("systemctl --failed --plain --no-legend").stdout == ""
