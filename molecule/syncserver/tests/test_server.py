"""The sync server on a box, as devices and strangers meet it through the proxy."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Ask, Reached

OnBox = Callable[[str], str]
Play = Callable[..., subprocess.CompletedProcess[str]]
FILES = "/api/v1/files"
MIB = 1 << 20
# A version that changes the database, and then never answers.
LATER = """FROM {before}
USER root
WORKDIR /opt/sync-server/lib
RUN cd python3*/site-packages/sync_server/store/migrations && echo 'CREATE TABLE later (x);' >9999_later.sql
USER 10001:10001
ENTRYPOINT []
CMD sync-server user list && exec sleep 1000
"""
BUILD = (
    "(docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0;"
    " docker build --tag later/sync-server:9.0.0 . >build.log 2>&1 || { tail build.log >&2; exit 1; })"
)
# Where the proxy would let a body rest.
RESTING = "docker exec npm du -sm /tmp /var/lib/nginx /run 2>/dev/null | awk '{s+=$1} END {print s}'"


@pytest.fixture(scope="module")
def container(on_box: OnBox) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(on_box("docker inspect syncserver"))[0]
    return found


def image(on_box: OnBox) -> str:
    return on_box("docker inspect --format '{{.Config.Image}}' syncserver").strip()


def test_the_container_has_no_rights_and_no_writable_program(container: dict[str, Any]) -> None:
    limits = container["HostConfig"]
    assert (limits["CapDrop"], limits["CapAdd"], limits["Privileged"]) == (["ALL"], None, False)
    assert limits["ReadonlyRootfs"] is True
    assert "no-new-privileges:true" in limits["SecurityOpt"]
    assert container["Config"]["User"] == "10001:10001"
    assert limits["Memory"] == limits["MemorySwap"] == 150 << 20


def test_it_is_built_from_this_checkout(container: dict[str, Any]) -> None:
    assert container["Config"]["Image"].startswith("sync-server:0.1.0-")
    assert container["State"]["Health"]["Status"] == "healthy"


def test_strangers_reach_it_by_tls_only(
    open_ports: Callable[..., set[int]], ask: Ask, request_site: Any, domain: str
) -> None:
    assert open_ports([80, 443, 8080]) == {80, 443}
    assert request_site(f"sync.{domain}", "/healthz", tls=False)[0] == 301
    status, headers, _ = ask("GET", "/healthz")
    assert (status, "max-age=" in headers["strict-transport-security"]) == (200, True)
    assert ask("GET", f"{FILES}/x")[0] == 401


def test_a_file_travels_from_one_device_to_another(
    ask: Ask, log_in: Callable[..., str], ana_password: str, token: str
) -> None:
    assert ask("PUT", f"{FILES}/hello.txt", token=token, body=b"hello")[0] == 201
    telephone = log_in("ana", ana_password, "telephone")
    assert ask("GET", f"{FILES}/hello.txt", token=telephone)[2] == b"hello"


def test_one_account_sees_nothing_of_another(ask: Ask, log_in: Callable[..., str], token: str) -> None:
    ask("PUT", f"{FILES}/private.txt", token=token, body=b"mine")
    ben = log_in("ben", "a password that ben chose", "laptop")
    assert ask("GET", f"{FILES}/private.txt", token=ben)[0] == 404


def test_a_large_file_passes_without_resting_in_the_proxy(ask: Ask, token: str, on_box: OnBox) -> None:
    piece = os.urandom(MIB)
    digest = hashlib.sha256()
    seen: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(300):
            digest.update(piece)
            if number % 100 == 99:
                seen.append(int(on_box(RESTING)))
            yield piece

    before = int(on_box(RESTING))
    assert ask("PUT", f"{FILES}/large.bin", token=token, body=pieces(), Content_Length=str(300 * MIB))[0] == 201
    assert max(seen) - before < 20
    status, _, content = ask("GET", f"{FILES}/large.bin", token=token)
    assert (status, hashlib.sha256(content).hexdigest()) == (200, digest.hexdigest())
    assert ask("DELETE", f"{FILES}/large.bin", token=token)[0] == 204


def test_it_was_not_short_of_memory(on_box: OnBox) -> None:
    found = on_box(
        "id=$(docker inspect --format '{{.Id}}' syncserver); cat $(find /sys/fs/cgroup -path \"*$id*\""
        " \\( -name memory.oom_control -o -name memory.events \\))"
    )
    kills = [line.split()[1] for line in found.splitlines() if line.startswith("oom_kill ")]
    assert kills
    assert set(kills) == {"0"}


def test_events_come_one_by_one_while_the_stream_stays_open(
    ask: Ask, token: str, address: str, domain: str, variables: dict[str, Any]
) -> None:
    connection = Reached(f"sync.{domain}", address, variables["servers_private_ca"])
    connection.request("GET", "/api/v1/events", headers={"Authorization": f"Bearer {token}"})
    stream = connection.getresponse()
    assert stream.readline() == b": waiting\n"
    for _ in range(3):
        ask("PUT", f"{FILES}/news.txt", token=token, body=os.urandom(8))
        while (line := stream.readline()) != b"event: change\n":
            assert line, "the stream has ended"
    connection.close()


def test_the_address_of_a_device_is_its_own_not_the_proxys(on_box: OnBox, token: str) -> None:
    listed = on_box("docker exec syncserver sync-server device list ana")
    gateway = on_box("docker network inspect --format '{{(index .IPAM.Config 0).Subnet}}' servers_proxy").split(".")[:2]
    address = listed.splitlines()[0].rsplit(" from ", 1)[1]
    assert address.split(".")[:2] != gateway


def test_no_password_is_in_an_environment_a_log_or_a_readable_file(host: Any, on_box: OnBox, ana_password: str) -> None:
    said = on_box("docker inspect syncserver; docker logs syncserver 2>&1; journalctl --no-pager --output cat -n 20000")
    assert ana_password not in said
    assert "a password that ben chose" not in said
    assert host.run("ls /opt/servers/syncserver/data").rc != 0


def test_an_upgrade_that_does_not_start_goes_back_with_all_data(
    play: Play, on_box: OnBox, ask: Ask, token: str
) -> None:
    before = image(on_box)
    dockerfile = shlex.quote(LATER.format(before=before))
    on_box(f"cd $(mktemp -d) && printf %s {dockerfile} >Dockerfile && {BUILD}")
    ask("PUT", f"{FILES}/before.txt", token=token, body=b"before the upgrade")
    done = play(syncserver_image="later/sync-server:9.0.0", compose_service_wait_timeout=60)
    assert done.returncode != 0
    assert f"is back at {before}" in " ".join(done.stdout.split())
    assert "the newer one is kept in" in " ".join(done.stdout.split())
    assert image(on_box) == before
    assert ask("GET", f"{FILES}/before.txt", token=token)[2] == b"before the upgrade"
    assert "changed=0" in play().stdout


def test_a_changed_password_counts_and_cuts_devices_off(play: Play, ask: Ask, log_in: Callable[..., str]) -> None:
    ben = log_in("ben", "a password that ben chose", "laptop")
    done = play(syncserver_accounts=[{"name": "ben", "password": "another that he chose"}])
    assert done.returncode == 0, done.stdout
    assert "another that he chose" not in done.stdout
    time.sleep(2)
    assert ask("GET", f"{FILES}/x", token=ben)[0] == 401
    assert log_in("ben", "another that he chose", "laptop")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"syncserver_accounts": [{"name": "a b"}]}, 'syncserver_accounts has the name "a b"'),
        ({"syncserver_accounts": [{"name": "eva"}, {"name": "Eva"}]}, 'syncserver_accounts has "eva" twice'),
        ({"syncserver_accounts": [{"name": "eva", "password": "short"}]}, "a password of 5 characters for eva"),
        ({"syncserver_image": "sync-server"}, "give a name with its full version"),
        ({"syncserver_memory_limit": 64}, "syncserver_memory_limit is 64"),
    ],
)
def test_bad_input_is_refused_before_any_change(play: Play, values: dict[str, Any], sentence: str) -> None:
    done = play(**values)
    assert done.returncode != 0
    assert sentence in " ".join(done.stdout.split())
    assert "changed=0" in done.stdout


def test_absent_removes_it_and_keeps_the_files(
    play: Play, ask: Ask, on_box: OnBox, request_site: Any, domain: str, token: str
) -> None:
    ask("PUT", f"{FILES}/kept.txt", token=token, body=b"kept")
    assert play(servers_services=["npm"]).returncode == 0
    assert "syncserver" not in on_box("docker ps --all --format '{{.Names}}'").split()
    assert play().returncode == 0
    assert ask("GET", f"{FILES}/kept.txt", token=token)[2] == b"kept"
