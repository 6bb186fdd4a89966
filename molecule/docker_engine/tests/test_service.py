"""A service through its life: started, changed, broken, removed, started again."""

from __future__ import annotations

import json
import shlex
import socket
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

import pytest

OnBox = Callable[[str], str]
Inspect = Callable[[str], dict[str, Any]]
OpenPorts = Callable[[Iterable[int]], set[int]]
RunPlay = Callable[..., Any]
WaitUntil = Callable[[Callable[[], bool], float], bool]


@pytest.fixture(scope="module", autouse=True)
def started(play: RunPlay) -> None:
    done = play()
    assert done.failed == 0, done.output


def identity(inspect: Inspect, *containers: str) -> dict[str, str]:
    return {container: inspect(container)["Id"] for container in containers}


def get(address: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{address}:8080{path}", timeout=5) as answer:
        return str(answer.read().decode())


def own_address(peer: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((peer, 9))
        return str(probe.getsockname()[0])


def test_a_second_run_changes_nothing_in_four_tasks_a_service(play: RunPlay) -> None:
    done = play()
    assert done.changed == 0, done.output
    # Per service: its arguments, look, files, start; the three others are includes, which cost nothing.
    assert done.ok <= 2 * (4 + 3)


def test_a_dry_run_tells_of_a_change_and_makes_none(play: RunPlay, inspect: Inspect, on_box: OnBox) -> None:
    before = identity(inspect, "web", "web-store", "other")
    done = play("--check", "--diff", secret="unseen", greeting="good evening")
    assert done.failed == 0, done.output
    assert done.changed == 1
    assert "+good evening" in done.output
    assert "unseen" not in done.output
    assert identity(inspect, "web", "web-store", "other") == before
    assert "hello" in on_box("cat /opt/servers/web/www/index.html")


def test_the_visitors_own_address_reaches_the_container(address: str) -> None:
    assert own_address(address) in get(address, "/cgi-bin/visitor")


def test_the_port_on_loopback_is_for_the_box_alone(on_box: OnBox, open_ports: OpenPorts) -> None:
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8081/', timeout=5).read().decode())"
    assert on_box(f'python3 -c "{fetch}"').strip() == "hello"
    assert open_ports([8080, 8081]) == {8080}


def test_a_container_is_confined(inspect: Inspect) -> None:
    host = inspect("web")["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] == host["MemorySwap"] == 16 << 20
    assert host["PidsLimit"] == 256
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"] == {"Type": "local", "Config": {"max-size": "20k", "max-file": "2"}}


def test_a_dollar_in_a_value_is_no_variable(on_box: OnBox) -> None:
    assert on_box("docker exec web-store sh -c 'echo \"$LITERAL\"'") == "a$HOME\n"


def test_the_owner_sees_all_services_at_one_place(on_box: OnBox) -> None:
    rows = [json.loads(row) for row in on_box("cd /opt/servers && docker compose ps --format json").splitlines()]
    assert {row["Service"]: row["Health"] for row in rows} == {
        "web": "healthy",
        "web-store": "healthy",
        "other": "healthy",
    }
    assert "web starts" in on_box("cd /opt/servers && docker compose logs web")
    on_box("cd /opt/servers && docker compose pull -q")


def test_a_changed_secret_restarts_the_container_that_reads_it_and_no_other(
    play: RunPlay, inspect: Inspect, on_box: OnBox
) -> None:
    before = identity(inspect, "web", "web-store", "other")
    assert play(secret="second", neighbours=False).failed == 0
    after = identity(inspect, "web", "web-store", "other")
    assert on_box("docker exec web cat /run/secrets/token") == "second"
    assert {name for name in before if before[name] != after[name]} == {"web"}
    assert play(neighbours=False).failed == 0


def test_a_run_that_was_cut_off_before_the_start_is_finished_by_the_next(
    play: RunPlay, inspect: Inspect, on_box: OnBox
) -> None:
    # What such a run leaves: files in place, and containers that are stopped, or not there.
    on_box("docker stop -t 0 web-store && docker rm -f web")
    done = play()
    assert done.changed == 1, done.output
    assert inspect("web")["State"]["Health"]["Status"] == "healthy"
    assert inspect("web-store")["State"]["Health"]["Status"] == "healthy"


def test_a_service_that_never_gets_healthy_fails_the_play_with_its_last_words(play: RunPlay) -> None:
    done = play(health=["CMD", "sh", "-c", "echo 'the door is stuck'; exit 7"], neighbours=False)
    assert done.failed == 1
    assert "web does not run as it should" in done.output
    assert "health check ended with 7: the door is stuck" in done.output
    assert "web starts" in done.output
    assert play(neighbours=False).failed == 0


def test_compose_is_not_believed_when_it_calls_all_well_that_is_not_healthy(play: RunPlay, on_box: OnBox) -> None:
    plugin = on_box("find /usr/lib*/docker/cli-plugins -name docker-compose").split()[0]
    # It does so when its time is up between two of its looks, which no test can bring about.
    says_so = 'case "$*" in *--wait*) "$0.real" "$@" 2>/dev/null; exit 0;; esac; exec "$0.real" "$@"'
    script = shlex.quote(f"#!/bin/sh\n{says_so}\n")
    on_box(f"mv {plugin} {plugin}.real && printf %s {script} >{plugin} && chmod 755 {plugin}")
    try:
        done = play(health=["CMD", "false"], neighbours=False)
    finally:
        on_box(f"mv {plugin}.real {plugin}")
    assert done.failed == 1, done.output
    assert "not healthy within 60 seconds" in " ".join(done.output.split())
    assert play(neighbours=False).failed == 0


def test_an_image_that_is_nowhere_fails_the_play_and_leaves_the_old_one_running(
    play: RunPlay, inspect: Inspect
) -> None:
    before = identity(inspect, "web")
    done = play(image="busybox:0.0.0-nowhere", neighbours=False)
    assert done.failed == 1
    assert identity(inspect, "web") == before
    assert inspect("web")["State"]["Running"]
    assert play(neighbours=False).failed == 0


def test_a_greedy_process_is_killed_and_its_service_comes_back(
    on_box: OnBox, inspect: Inspect, wait_until: WaitUntil
) -> None:
    # The kernel takes the greedy one; should it take the server as well, that one is started again.
    assert "137" in on_box("docker exec web sh -c 'head -c 60000000 /dev/zero | tail >/dev/null'; echo $?")
    before = inspect("web")["State"]["StartedAt"]
    on_box("kill -9 $(docker inspect --format '{{.State.Pid}}' web)")
    assert wait_until(lambda: inspect("web")["State"]["StartedAt"] != before, 30)
    assert wait_until(lambda: inspect("web")["State"]["Health"]["Status"] == "healthy", 60)


def test_absent_removes_the_service_keeps_its_data_and_spares_the_others(
    play: RunPlay, on_box: OnBox, inspect: Inspect
) -> None:
    on_box("echo precious >/opt/servers/web/data/file")
    other = identity(inspect, "other")
    done = play("--check", state="absent", neighbours=False)
    assert (done.failed, done.changed) == (0, 1), done.output
    assert inspect("web")["State"]["Running"]
    done = play(state="absent", neighbours=False)
    assert done.failed == 0, done.output
    assert on_box("docker ps -a --format '{{.Names}}' | sort").split() == ["other"]
    assert identity(inspect, "other") == other
    assert on_box("cat /opt/servers/web/data/file") == "precious\n"
    assert play(state="absent", neighbours=False).changed == 0
    assert on_box("cd /opt/servers && docker compose ps --services").split() == ["other"]
    assert play(neighbours=False).failed == 0
    assert on_box("docker exec web cat /data/file") == "precious\n"


def test_engine_and_services_come_back_after_a_power_cut(
    on_box: OnBox, cut_power: Callable[[], None], wait_until: WaitUntil
) -> None:
    cut_power()
    assert wait_until(lambda: on_box("docker ps -q --filter health=healthy | wc -l") == "3\n", 90)
    assert on_box("docker exec web cat /data/file") == "precious\n"
    assert on_box("systemctl --failed --plain --no-legend") == ""
