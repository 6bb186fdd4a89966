"""The container from outside: what an operator, a role and a compose file see of it."""

from __future__ import annotations

import json
import re
import time

import pytest
from npm import Answer, Npm, Start, docker, eventually


@pytest.fixture(scope="module")
def npm(start: Start, acme: dict[str, str]) -> Npm:
    stand_in = start(acme, named=("expiring", "files"))
    stand_in.set_up()
    return stand_in


def test_says_that_it_is_a_stand_in(npm: Npm, image: str) -> None:
    page = npm.send(81, "GET", "/", {})
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", image))

    assert "This is not Nginx Proxy Manager" in page.text
    assert labels["org.opencontainers.image.description"].startswith("Not Nginx Proxy Manager")


def test_the_image_has_no_health_check_but_a_command_for_one(npm: Npm, image: str) -> None:
    assert docker("image", "inspect", "--format", "{{.Config.Healthcheck}}", image) == "<nil>"
    assert npm.inside("/usr/bin/check-health") == "OK"


def test_the_health_command_fails_while_the_api_is_away_and_the_api_comes_back(npm: Npm) -> None:
    npm.inside("s6-svc", "-k", "/run/services/backend")

    assert "NOT OK" in npm.inside("/usr/bin/check-health", check=False)
    assert npm.api("GET", "/").status == 502
    npm.wait_until_up()


def test_nginx_comes_back(npm: Npm) -> None:
    before = npm.inside("cat", "/run/nginx/nginx.pid")

    npm.inside("s6-svc", "-t", "/run/services/nginx")

    npm.wait_until_up()
    assert npm.inside("cat", "/run/nginx/nginx.pid") != before


def test_before_the_api_is_up_there_is_a_502_page(start: Start) -> None:
    npm = start(wait=False)
    answers: list[Answer] = []

    def up() -> bool:
        answers.append(npm.api("GET", "/"))
        return answers[-1].status == 200

    assert eventually(up, seconds=20)
    assert 502 in {answer.status for answer in answers}
    assert all("text/html" in answer.headers["content-type"] for answer in answers if answer.status == 502)


@pytest.mark.parametrize("volumes", [("/data",), ()])
def test_stops_at_once_without_its_second_volume(start: Start, volumes: tuple[str, ...]) -> None:
    npm = start(volumes=volumes, wait=False)

    assert eventually(lambda: "/etc/letsencrypt is not mounted" in npm.logs())
    assert docker("wait", npm.name) == "1"


def test_stops_quickly_when_asked_and_starts_again_with_its_data(start: Start) -> None:
    npm = start()
    npm.set_up()
    npm.proxy("kept.example.com")

    began = time.monotonic()
    docker("stop", "-t", "30", npm.name)
    took = time.monotonic() - began
    state = docker("inspect", "--format", "{{.State.ExitCode}}", npm.name)
    npm.restart()
    npm.wait_until_up()

    assert (took < 5, state) == (True, "0")
    assert eventually(lambda: npm.proxies("kept.example.com"))
    assert npm.ok("GET", "/nginx/proxy-hosts")[0]["domain_names"] == ["kept.example.com"]


def test_files_have_the_places_and_modes_of_the_real_ones(npm: Npm) -> None:
    order = {"provider": "letsencrypt", "domain_names": ["files.example.com"], "meta": {"key_type": "ecdsa"}}
    number = npm.ok("POST", "/nginx/certificates", order)["id"]
    modes = {
        "/data/keys.json": "644",
        "/data/database.sqlite": "644",
        "/etc/letsencrypt/live": "700",
        "/etc/letsencrypt/archive": "700",
        f"/etc/letsencrypt/archive/npm-{number}/privkey1.pem": "600",
    }

    assert npm.inside("stat", "-c", "%n %a", *modes).split() == [word for pair in modes.items() for word in pair]
    live = f"/etc/letsencrypt/live/npm-{number}"
    assert npm.inside("readlink", f"{live}/privkey.pem") == f"../../archive/npm-{number}/privkey1.pem"
    assert "NIST CURVE: P-384" in npm.inside("openssl", "x509", "-in", f"{live}/cert.pem", "-noout", "-text")


def test_the_first_user_can_come_from_the_environment_and_the_password_leaks_into_the_log(start: Start) -> None:
    environment = {"INITIAL_ADMIN_EMAIL": "first@example.org", "INITIAL_ADMIN_PASSWORD": "Leaked-pass-1"}

    npm = start(environment)

    assert npm.ok("GET", "/")["setup"] is True
    npm.log_in("first@example.org", "Leaked-pass-1")
    assert "with password: Leaked-pass-1" in npm.logs()


def test_any_variable_can_be_read_from_a_file(start: Start) -> None:
    environment = {"INITIAL_ADMIN_EMAIL": "first@example.org", "INITIAL_ADMIN_PASSWORD__FILE": "/etc/hostname"}

    npm = start(environment)

    npm.log_in("first@example.org", npm.inside("cat", "/etc/hostname"))


def test_the_database_can_lie_elsewhere(start: Start) -> None:
    npm = start({"DB_SQLITE_FILE": "/data/elsewhere/npm.sqlite"})
    npm.set_up()

    assert npm.inside("find", "/data", "-name", "*.sqlite") == "/data/elsewhere/npm.sqlite"


def test_nothing_listens_on_ipv6_when_it_is_disabled(start: Start) -> None:
    npm = start({"DISABLE_IPV6": "true"})
    npm.set_up()
    npm.proxy("four.example.com")

    written = npm.inside("grep", "-rh", "listen", "/etc/nginx/conf.d", "/data/nginx")

    assert not re.search(r"^\s*listen \[::\]", written, re.MULTILINE)
    assert eventually(lambda: npm.proxies("four.example.com"))


def test_runs_as_another_user(start: Start, acme: dict[str, str]) -> None:
    npm = start({**acme, "PUID": "1234", "PGID": "2345"}, named=("unprivileged",))
    npm.set_up()

    npm.ok(
        "POST",
        "/nginx/certificates",
        {"provider": "letsencrypt", "domain_names": ["unprivileged.example.com"], "meta": {}},
    )
    owners = npm.inside("stat", "-c", "%u:%g", "/data", "/data/keys.json", "/etc/letsencrypt/live/npm-1").split()
    users = npm.inside("sh", "-c", "cat /proc/$(cat /run/nginx/nginx.pid)/status")

    assert owners == ["1234:2345"] * 3
    assert re.search(r"^Uid:\t1234\t1234", users, re.MULTILINE)


def test_requests_are_logged_without_secrets(npm: Npm) -> None:
    npm.api("POST", "/tokens", {"identity": "admin@example.org", "secret": "Mistyped-pass-1"}, token=None)
    npm.api("GET", "/nginx/proxy-hosts?query=secret-query")

    logs = npm.logs()

    assert re.search(r"POST /tokens 400", logs)
    assert re.search(r"GET /nginx/proxy-hosts 200", logs)
    assert npm.token
    for secret in ("Mistyped-pass-1", "S3cret-pass-1", "secret-query", npm.token, "PRIVATE KEY"):
        assert secret not in logs


def test_a_failed_order_explains_itself_in_the_debug_part(npm: Npm) -> None:
    order = {"provider": "letsencrypt", "domain_names": ["unreachable.example.com"], "meta": {}}

    answer = npm.api("POST", "/nginx/certificates", order)

    assert answer.status == 500
    assert answer.json["error"]["message"] == "Internal Error"
    assert "Some challenges have failed." in answer.json["debug"]["stack"]
    assert npm.ok("GET", "/nginx/certificates?query=unreachable") == []


def test_names_of_containers_are_looked_up_through_dockers_dns(npm: Npm) -> None:
    assert "resolver 127.0.0.11 valid=10s;" in npm.inside("cat", "/run/nginx/resolvers.conf").replace("  ", " ")


def test_a_certificate_near_its_end_is_renewed_without_being_asked(npm: Npm) -> None:
    order = {"provider": "letsencrypt", "domain_names": ["expiring.example.com"], "meta": {}}
    number = npm.ok("POST", "/nginx/certificates", order)["id"]
    statement = f"update certificate set expires_on = datetime('now', '+29 days') where id = {number}"
    script = f"import sqlite3; sqlite3.connect('/data/database.sqlite', isolation_level=None).execute({statement!r})"
    npm.inside("python3", "-c", script)
    near = npm.ok("GET", f"/nginx/certificates/{number}")["expires_on"]

    # The hourly look at all certificates also happens at start.
    npm.restart()

    renewed = f"/etc/letsencrypt/archive/npm-{number}/privkey2.pem"
    assert eventually(lambda: npm.inside("ls", renewed, check=False) == renewed, seconds=30)
    npm.wait_until_up()
    assert eventually(lambda: npm.ok("GET", f"/nginx/certificates/{number}")["expires_on"] > near, seconds=10)
