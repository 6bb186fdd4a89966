"""The engine as its owner finds it, on the day it was set up and after accidents."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from testinfra.host import Host

IMAGE = "busybox:1.37.0"

OnBox = Callable[[str], str]
Inspect = Callable[[str], dict[str, Any]]
RunPlay = Callable[..., Any]
OpenPorts = Callable[[Iterable[int]], set[int]]
WaitUntil = Callable[[Callable[[], bool], float], bool]


@pytest.fixture(scope="module")
def info(on_box: OnBox) -> dict[str, Any]:
    found = json.loads(on_box("docker info --format '{{json .}}'"))
    assert isinstance(found, dict)
    return found


@contextmanager
def running(on_box: OnBox, *command: str, options: str = "") -> Iterator[str]:
    """A container that is gone afterwards."""
    name = "guest"
    on_box(f"docker rm -f {name} 2>/dev/null; docker run -d --name {name} {options} {IMAGE} {shlex.join(command)}")
    try:
        yield name
    finally:
        on_box(f"docker rm -f -v {name}")


def engine_answers(host: Host) -> bool:
    with host.sudo():
        return bool(host.run("docker info").rc == 0)


def test_engine_and_compose_answer_and_start_at_boot(host: Host, on_box: OnBox) -> None:
    assert on_box("docker version --format '{{.Server.Version}}'")
    assert on_box("docker compose version --short")
    assert host.service("docker").is_enabled
    assert host.run("systemctl --failed --plain --no-legend").stdout == ""


def test_the_engine_runs_with_the_settings_it_was_given(info: dict[str, Any], variables: dict[str, Any]) -> None:
    mirrors = [mirror.rstrip("/") for mirror in info["RegistryConfig"]["Mirrors"] or []]
    assert mirrors == variables["docker_engine_registry_mirrors"]
    assert info["LoggingDriver"] == "local"
    assert info["LiveRestoreEnabled"] is True


def test_an_image_is_to_be_had(on_box: OnBox) -> None:
    assert IMAGE in on_box(f"docker pull {IMAGE}")


def test_nothing_of_docker_listens_on_tcp(on_box: OnBox, open_ports: OpenPorts) -> None:
    on_box("docker ps -q --filter publish=1-65535 | xargs -r docker rm -f")
    listening = [line for line in on_box("ss -Hltnp").splitlines() if "docker" in line or "containerd" in line]
    assert listening == []
    assert open_ports([2375, 2376, 2377, 4243]) == set()


def test_a_chatty_container_cannot_fill_the_disk(on_box: OnBox, inspect: Inspect, wait_until: WaitUntil) -> None:
    with running(on_box, "sh", "-c", "yes 0123456789 | head -c 5000000; sleep 1000") as guest:
        folder = f"/var/lib/docker/containers/{inspect(guest)['Id']}/local-logs"
        written = "docker logs --tail 1 guest 2>/dev/null | tail -c 11"
        assert wait_until(lambda: on_box(written).strip() == "0123456789", 20)
        sizes = [int(size) for size in on_box(f"find {folder} -type f -printf '%s\\n'").split()]
        # The engine rotates after the line that reaches the limit.
        assert 0 < sum(sizes) < 2 * 20_000 + 1_000


def test_containers_outlive_a_restart_of_the_engine(on_box: OnBox, inspect: Inspect) -> None:
    with running(on_box, "sleep", "1000") as guest:
        before = inspect(guest)["State"]
        on_box("systemctl restart containerd docker")
        after = inspect(guest)["State"]
        assert (after["Pid"], after["StartedAt"]) == (before["Pid"], before["StartedAt"])
        assert on_box(f"docker exec {guest} echo alive") == "alive\n"


def test_the_engine_comes_back_however_often_it_is_killed(host: Host, on_box: OnBox, wait_until: WaitUntil) -> None:
    with running(on_box, "sleep", "1000") as guest:
        for _ in range(5):
            on_box("kill -9 $(pidof dockerd)")
            assert wait_until(lambda: engine_answers(host), 30)
        assert on_box(f"docker exec {guest} echo alive") == "alive\n"


def test_a_container_gains_no_privileges_and_opens_a_sane_number_of_files(on_box: OnBox) -> None:
    with running(on_box, "sleep", "1000") as guest:
        assert "NoNewPrivs:\t1\n" in on_box(f"docker exec {guest} cat /proc/1/status")
        assert on_box(f"docker exec {guest} sh -c 'ulimit -Sn'") == "1024\n"
        assert int(on_box(f"docker exec {guest} sh -c 'ulimit -Hn'")) <= 524288


def test_a_memory_limit_holds_and_there_is_no_swap_beyond_it(
    on_box: OnBox, inspect: Inspect, wait_until: WaitUntil
) -> None:
    # `tail` keeps what has no line end, so its memory grows with what it is sent.
    greedy = "head -c 40000000 /dev/zero | tail >/dev/null"
    with running(on_box, "sh", "-c", greedy, options="--memory 16m --memory-swap 16m") as guest:
        assert wait_until(lambda: not inspect(guest)["State"]["Running"], 30)
        assert inspect(guest)["State"]["ExitCode"] == 137
    with running(on_box, "sh", "-c", greedy, options="--memory 64m --memory-swap 64m") as guest:
        assert wait_until(lambda: not inspect(guest)["State"]["Running"], 30)
        assert inspect(guest)["State"]["ExitCode"] == 0


def test_settings_that_the_engine_refuses_never_land(on_box: OnBox, play: RunPlay) -> None:
    settings = on_box("cat /etc/docker/daemon.json")
    done = play(playbook="molecule/shared/converge.yml", docker_engine_options={"no-such-key": True})
    assert done.failed == 1
    assert "no-such-key" in done.output
    assert "nothing was changed" in done.output
    assert on_box("cat /etc/docker/daemon.json") == settings


def test_a_restart_that_an_interrupted_run_owes_is_made_up_for(on_box: OnBox, play: RunPlay) -> None:
    before = on_box("pidof dockerd")
    on_box("mkdir -p /var/lib/servers/pending && touch /var/lib/servers/pending/docker_engine")
    assert play(playbook="molecule/shared/converge.yml").failed == 0
    assert on_box("pidof dockerd") != before
    assert play(playbook="molecule/shared/converge.yml").changed == 0


def test_the_firewall_has_dockers_hook_in_both_families(on_box: OnBox) -> None:
    for tables in ("iptables", "ip6tables"):
        assert "-A FORWARD -j DOCKER-USER" in on_box(f"{tables} -S FORWARD")


def test_the_weekly_prune_takes_only_what_is_dangling(on_box: OnBox) -> None:
    on_box("docker rm -f stopped 2>/dev/null; docker volume rm kept 2>/dev/null; true")
    on_box("docker volume create kept && docker run --rm -v kept:/data " + IMAGE + " sh -c 'echo precious >/data/file'")
    on_box(f"docker run --name stopped {IMAGE} true")
    # The second import takes the name away from the first: what an update leaves behind.
    for version in (1, 2):
        on_box(f"cd /tmp && echo {version} >file && tar c file | docker import - prune:1")
    assert on_box("docker images -q --filter dangling=true") != ""
    on_box("systemctl start docker-prune.service")
    assert on_box("docker images -q --filter dangling=true") == ""
    assert on_box("docker images -q prune:1") != ""
    assert on_box("docker ps -aq --filter name=stopped") != ""
    assert on_box(f"docker run --rm -v kept:/data {IMAGE} cat /data/file") == "precious\n"
    on_box("docker rm stopped && docker volume rm kept && docker rmi prune:1")


def test_the_prune_comes_within_a_week(host: Host, on_box: OnBox) -> None:
    assert host.service("docker-prune.timer").is_enabled
    properties = dict(
        line.split("=", 1)
        for line in on_box("systemctl show docker-prune.timer -p NextElapseUSecRealtime,ActiveState").split("\n")
        if line
    )
    assert properties["ActiveState"] == "active"
    following = datetime.strptime(properties["NextElapseUSecRealtime"], "%a %Y-%m-%d %H:%M:%S %Z")
    now = datetime.fromtimestamp(int(on_box("date +%s")))
    assert 0 <= (following - now).total_seconds() <= 8 * 86400
