"""What a container cannot prove: the kernel's settings, swap, cgroup v2, boot order, restart, power cut.

The tests build on each other in this order; together they take some twenty minutes.
"""

from __future__ import annotations

import re

import pytest

from tests.vm.machine import OPEN, SHUT, Machine

IMAGE = "busybox:1.37.0"
# `tail` keeps what has no line end, so its memory grows with what it is sent.
GREEDY = "head -c 40000000 /dev/zero | tail >/dev/null"


def kernel_settings(machine: Machine) -> dict[str, str]:
    """Return the settings that the role wrote, by their path below /proc/sys."""
    lines = machine.run("cat /etc/sysctl.d/90-servers.conf").splitlines()
    pairs = (re.split(r"\s*=\s*", line.lstrip("-"), maxsplit=1) for line in lines if line and line[0] not in "#;")
    return {key.replace(".", "/"): value.strip() for key, value in pairs}


def assert_kernel_settings_hold(machine: Machine) -> None:
    wanted = kernel_settings(machine)
    paths = [path for path in wanted if machine.shell(f"test -e /proc/sys/{path}").returncode == 0]
    assert len(paths) > 20
    found = machine.run("".join(f"cat /proc/sys/{path}\n" for path in paths)).splitlines()
    assert {path: value.split() for path, value in zip(paths, found, strict=True)} == {
        path: wanted[path].split() for path in paths
    }


def firewall(machine: Machine) -> str:
    """Return our chains and Oracle's, and the jumps to them, without packet counts."""
    rules = "iptables -S && ip6tables -S"
    return machine.run(f"({rules}) | grep -E 'SERVERS-(INPUT|FORWARD)|InstanceServices|-A FORWARD -j DOCKER-USER'")


def swap_kilobytes(machine: Machine) -> int:
    return sum(int(line.split()[2]) for line in machine.run("tail -n +2 /proc/swaps").splitlines())


def assert_all_is_well(machine: Machine) -> None:
    assert machine.run("systemctl --failed --plain --no-legend") == ""
    assert_kernel_settings_hold(machine)
    assert swap_kilobytes(machine) > 2_000_000
    assert machine.run("docker inspect --format '{{.State.Running}}' web") == "true\n"
    assert machine.open_ports([22, 81, 111, 2375, OPEN, SHUT]) == {22, OPEN}


def test_a_second_run_changes_nothing(machine: Machine) -> None:
    done = machine.play(name="second run")
    assert (done.failed, done.changed) == (0, 0), done.output


def test_the_kernel_has_the_settings_and_the_swap_it_was_given(machine: Machine) -> None:
    assert_all_is_well(machine)
    machine.figures["memory after the first run"] = machine.run(
        'free -m | awk \'/^Mem/ {print $3 " of " $2 " MB used"}\''
    ).strip()


def test_unwanted_modules_cannot_be_loaded(machine: Machine) -> None:
    refused = re.findall(r"^install (\S+) /bin/(?:false|true)$", machine.run("cat /etc/modprobe.d/*"), re.MULTILINE)
    assert refused
    loaded = machine.run("cut -d ' ' -f 1 /proc/modules").split()
    assert set(refused) & set(loaded) == set()
    assert machine.run(f"modprobe -n -v {refused[0]} | grep install")


def test_the_kernel_would_rather_end_a_container_than_the_engine(machine: Machine) -> None:
    assert int(machine.run("cat /proc/$(pidof dockerd)/oom_score_adj")) == -500
    assert int(machine.run("cat /proc/$(pidof containerd)/oom_score_adj")) <= -500
    assert int(machine.run("docker exec web cat /proc/1/oom_score_adj")) == 0


def test_a_container_may_open_as_many_files_as_the_role_says(machine: Machine) -> None:
    assert machine.run("docker exec web sh -c 'ulimit -Sn; ulimit -Hn'").split() == ["1024", "524288"]


@pytest.mark.parametrize(("with_swap", "ends_with"), [("16m", 137), ("128m", 0)])
def test_a_memory_limit_holds_although_there_is_swap(machine: Machine, with_swap: str, ends_with: int) -> None:
    limits = f"--memory 16m --memory-swap {with_swap}"
    done = machine.shell(f"docker run --rm {limits} {IMAGE} sh -c '{GREEDY}'; echo ended with $?")
    assert done.stdout.split()[-1] == str(ends_with)


def test_the_firewall_was_there_before_the_network(machine: Machine) -> None:
    machine.reboot()
    show = "systemctl show --property ActiveEnterTimestampMonotonic --value"
    units = ("servers-guard.service", "systemd-networkd.service", "ssh.service", "docker.service")
    guard, *later = [int(machine.run(f"{show} {unit}")) for unit in units]
    assert 0 < guard < min(later)


def test_everything_is_there_again_after_a_restart(machine: Machine) -> None:
    before = firewall(machine)
    assert "InstanceServices" in before
    machine.reboot()
    assert firewall(machine) == before
    assert_all_is_well(machine)


def test_everything_is_there_again_after_a_power_cut(machine: Machine) -> None:
    before = firewall(machine)
    machine.cut_power()
    assert firewall(machine) == before
    assert_all_is_well(machine)


def test_another_swap_size_takes_the_place_of_the_first_and_survives(machine: Machine) -> None:
    done = machine.play(
        "--tags", "vps_hardening", name="run that resizes the swap file", vps_hardening_swap_size_mb=512
    )
    assert done.failed == 0, done.output
    assert 500_000 < swap_kilobytes(machine) <= 524_288
    machine.reboot()
    assert 500_000 < swap_kilobytes(machine) <= 524_288
    machine.figures["memory at the end"] = machine.run(
        'free -m | awk \'/^Mem/ {print $3 " of " $2 " MB used"}\''
    ).strip()
