"""Nginx Proxy Manager on a box: what its container may do, what outlives it, and how it takes accidents."""

from __future__ import annotations

import json
import os
import shlex
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

OnBox = Callable[[str], str]
OpenPorts = Callable[[Iterable[int]], set[int]]
RequestSite = Callable[..., tuple[int, dict[str, str], bytes]]
Play = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[3]
INVENTORY = ROOT / ".cache/molecule/npm"
# Something to be served that every box of the test bed can reach.
SERVICE = {"forward_scheme": "https", "forward_host": "acme.internet.test", "forward_port": 14000}


@pytest.fixture(scope="module")
def site(domain: str) -> str:
    return f"proxy.{domain}"


@pytest.fixture(scope="module")
def password() -> str:
    return (INVENTORY / ".secrets/vps/npm_admin_password").read_text().strip()


@pytest.fixture(scope="module")
def ask(on_box: OnBox) -> Callable[..., Any]:
    """Ask the API from the box itself, the only place it is to be reached from."""

    def send(method: str, path: str, body: Any = None, token: str = "") -> Any:
        code = (
            "import sys, urllib.request as u; m, p, b, t = sys.argv[1:]; "
            "h = {'Content-Type': 'application/json', **({'Authorization': 'Bearer ' + t} if t else {})}; "
            "r = u.Request('http://127.0.0.1:81/api' + p, b.encode() or None, h, method=m); "
            "print(u.urlopen(r).read().decode())"
        )
        arguments = [code, method, path, "" if body is None else json.dumps(body), token]
        return json.loads(on_box("python3 -c " + " ".join(shlex.quote(one) for one in arguments)))

    return send


@pytest.fixture(scope="module")
def token(ask: Callable[..., Any], domain: str, password: str) -> str:
    return str(ask("POST", "/tokens", {"identity": f"admin@{domain}", "secret": password})["token"])


@pytest.fixture(scope="module")
def play() -> Play:
    """Run the role again with other values, as its user would."""

    def run(*options: str, **values: Any) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(INVENTORY), *options]
        command += ["-e", json.dumps(values), str(ROOT / "molecule/shared/converge.yml")]
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "MOLECULE_SCENARIO_NAME": "npm",
        }
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture(scope="module")
def container(on_box: OnBox) -> dict[str, Any]:
    found = json.loads(on_box("docker inspect npm"))
    assert isinstance(found[0], dict)
    return found[0]


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def test_the_container_has_no_rights_it_does_not_need(container: dict[str, Any]) -> None:
    limits = container["HostConfig"]
    assert limits["CapDrop"] == ["ALL"]
    assert set(limits["CapAdd"]) == {"CHOWN", "DAC_OVERRIDE", "FOWNER", "NET_BIND_SERVICE", "SETGID", "SETUID"}
    assert limits["Privileged"] is False
    assert "no-new-privileges:true" in limits["SecurityOpt"]


def test_the_container_has_the_memory_the_budget_says(container: dict[str, Any]) -> None:
    limits = container["HostConfig"]
    assert limits["Memory"] == 160 << 20
    assert limits["MemorySwap"] == (160 + 80) << 20


def test_the_container_is_the_exact_image_and_healthy(container: dict[str, Any]) -> None:
    assert container["Config"]["Image"] == "jc21/nginx-proxy-manager:2.15.1"
    assert container["State"]["Health"]["Status"] == "healthy"


def test_the_password_is_neither_in_the_environment_nor_in_the_log(on_box: OnBox, password: str) -> None:
    assert password not in on_box("docker inspect npm")
    assert password not in on_box("docker logs npm 2>&1")


def test_the_administration_is_reached_from_the_box_only(open_ports: OpenPorts, ask: Callable[..., Any]) -> None:
    assert open_ports([80, 81, 443]) == {80, 443}
    assert ask("GET", "/")["status"] == "OK"


@pytest.mark.parametrize("folder", ["data", "letsencrypt"])
def test_keys_are_hidden_from_other_users_of_the_box(host: Host, folder: str) -> None:
    with host.sudo():
        assert host.file(f"/opt/servers/npm/{folder}").mode == 0o700
    assert host.run(f"ls /opt/servers/npm/{folder}").rc != 0


def test_the_first_site_asks_for_a_password_over_tls(request_site: RequestSite, site: str) -> None:
    status, _, _ = request_site(site)
    assert status == 401
    status, headers, _ = request_site(site, tls=False)
    assert (status, headers["location"]) == (301, f"https://{site}/")


def test_the_administration_works_behind_that_password(request_site: RequestSite, site: str, token: str) -> None:
    password = (INVENTORY / ".secrets/admins_password").read_text().strip()
    basic = {"Authorization": "Basic " + b64encode(f"admin:{password}".encode()).decode()}
    status, headers, _ = request_site(site, headers=basic)
    assert status == 200

    cookie = headers["set-cookie"].partition(";")[0]
    bearer = {"Cookie": cookie, "Authorization": f"Bearer {token}"}
    assert request_site(site, "/api/users/me", headers=bearer)[0] == 200


def test_a_plain_site_is_served_by_each_of_its_names(request_site: RequestSite, domain: str) -> None:
    for name in (f"plain.{domain}", f"www.plain.{domain}"):
        status, _, body = request_site(name, "/dir", tls=False)
        assert (status, b"newAccount" in body) == (200, True)


def test_an_unknown_name_gets_a_404_and_no_handshake(request_site: RequestSite, domain: str) -> None:
    status, _, _ = request_site(f"unknown.{domain}", tls=False)
    assert status == 404
    with pytest.raises((ssl.SSLError, ConnectionError)):
        request_site(f"unknown.{domain}")


def test_a_renewed_certificate_is_served_and_announced(
    on_box: OnBox, ask: Callable[..., Any], site: str, token: str
) -> None:
    def serial() -> str:
        handshake = f"openssl s_client -connect 127.0.0.1:443 -servername {site} </dev/null 2>/dev/null"
        return on_box(f"{handshake} | openssl x509 -noout -serial")

    rows = ask("GET", "/nginx/certificates", token=token)
    number = next(row["id"] for row in rows if row["domain_names"] == [site])
    before = serial()

    ask("POST", f"/nginx/certificates/{number}/renew", {}, token)

    wait_for(lambda: serial() != before, "the old certificate is still served")
    assert on_box(f"cat /opt/servers/npm/letsencrypt/renewed/npm-{number}").strip() == site


def test_a_wrong_password_stops_the_play_before_any_change(play: Play, domain: str) -> None:
    done = play(npm_admin_password="not the right one", npm_default_site="444")

    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert "already set up and refuses npm_admin_password" in said
    assert "npm_admin_password_old" in said
    assert "changed=0" in said


def test_a_dry_run_of_a_change_says_what_it_would_do_and_does_not(play: Play, on_box: OnBox) -> None:
    done = play("--check", "--diff", npm_default_site="444")

    assert done.returncode == 0, done.stdout
    assert "444" in done.stdout
    assert "changed=1 " in done.stdout
    assert play().stdout.count("changed=0 ") == 1


def test_a_refused_certificate_names_the_site_and_the_remedy(play: Play, request_site: RequestSite) -> None:
    # The name leads to another machine, so the authority's question never reaches this one.
    stray = "acme.internet.test"
    done = play(npm_proxy_hosts=[{"domain_names": [stray], **SERVICE}])

    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert f"No certificate for {stray}" in said
    assert "Remedy: let port 80 of every name reach this server" in said
    assert request_site(stray, "/dir", tls=False)[0] == 200


def test_taking_a_site_off_the_list_removes_it_and_its_certificate(
    play: Play, ask: Callable[..., Any], token: str, domain: str, request_site: RequestSite
) -> None:
    def certificates() -> int:
        rows = ask("GET", "/nginx/certificates", token=token)
        return len([row for row in rows if row["domain_names"] == [f"extra.{domain}"]])

    assert play(npm_proxy_hosts=[{"domain_names": [f"extra.{domain}"], **SERVICE}]).returncode == 0
    assert certificates() == 1

    assert play().returncode == 0

    assert certificates() == 0
    assert request_site(f"extra.{domain}", tls=False)[0] == 404


def test_absent_removes_the_container_and_keeps_the_data(play: Play, on_box: OnBox, open_ports: OpenPorts) -> None:
    done = play(npm_state="absent")

    assert done.returncode == 0, done.stdout
    assert on_box("docker ps -aq --filter name=^npm$") == ""
    assert open_ports([80, 443]) == set()
    assert on_box("test -s /opt/servers/npm/data/database.sqlite && echo kept").strip() == "kept"


def test_present_again_serves_everything_as_before_without_a_new_certificate(
    play: Play, request_site: RequestSite, site: str, on_box: OnBox
) -> None:
    before = on_box("ls /opt/servers/npm/letsencrypt/live")

    done = play()

    assert done.returncode == 0, done.stdout
    assert request_site(site)[0] == 401
    assert on_box("ls /opt/servers/npm/letsencrypt/live") == before
