"""The firewall rules beside the provider's, and what brings them back."""

from __future__ import annotations

import json
from collections.abc import Callable

from hardened_box import INVENTORY, PROJECT, Run, wait_until

TABLE = 8443  # in servers_ports of this scenario


def filter_rules(on_box: Callable[[str], str]) -> list[str]:
    return on_box("iptables -S").splitlines()


def test_the_rules_of_the_provider_are_kept_in_their_order(on_box: Callable[[str], str]) -> None:
    rules = [
        line
        for line in filter_rules(on_box)
        if not line.startswith("-P") and "SERVERS" not in line and "DOCKER" not in line
    ]
    saved = on_box(
        "iptables-restore --test < /etc/iptables/rules.v4 && grep -E '^-A' /etc/iptables/rules.v4"
    ).splitlines()
    shown = [line.replace("-p udp --sport", "-p udp -m udp --sport") for line in saved]
    assert [line for line in rules if line.startswith("-A")] == shown


def test_ours_come_before_the_reject_of_the_provider(on_box: Callable[[str], str]) -> None:
    rules = filter_rules(on_box)
    assert next(line for line in rules if line.startswith("-A INPUT")) == "-A INPUT -j SERVERS-INPUT"
    assert next(line for line in rules if line.startswith("-A FORWARD")) == "-A FORWARD -j DOCKER-USER"
    assert next(line for line in rules if line.startswith("-A DOCKER-USER")) == "-A DOCKER-USER -j SERVERS-FORWARD"


def test_what_the_provider_loads_at_boot_is_not_touched(on_box: Callable[[str], str]) -> None:
    fixture = PROJECT / "testbed" / "images" / "vps"
    assert on_box("cat /etc/iptables/rules.v4") == (fixture / "rules.v4").read_text()
    assert on_box("cat /etc/iptables/rules.v6") == (fixture / "rules.v6").read_text()


def test_ours_return_when_the_provider_s_loader_is_run_again(on_box: Callable[[str], str]) -> None:
    before = filter_rules(on_box)
    on_box("systemctl restart netfilter-persistent")
    wait_until(lambda: filter_rules(on_box) == before, seconds=30)


def test_the_next_run_mends_a_firewall_that_somebody_emptied(on_box: Callable[[str], str], play: Run) -> None:
    before = filter_rules(on_box)
    on_box("iptables -D INPUT -j SERVERS-INPUT && iptables -F SERVERS-FORWARD")
    mended = play()
    assert "changed=1 " in mended.stdout, mended.stdout
    assert filter_rules(on_box) == before


def test_guessing_at_ssh_ends_in_a_ban_from_every_port(
    stranger: Run, address: str, on_box: Callable[[str], str]
) -> None:
    def reaches(port: int) -> bool:
        return stranger(f"timeout 2 bash -c 'exec 3<>/dev/tcp/{address}/{port}'").returncode == 0

    on_box(f"systemd-run --quiet --collect --unit=test-listen-ban python3 -m http.server {TABLE}")
    wait_until(lambda: reaches(TABLE), seconds=10)
    guess = "ssh -o BatchMode=yes -o ConnectTimeout=3 -o StrictHostKeyChecking=no"
    stranger(f"for name in admin test oracle pi guest root; do {guess} $name@{address} true; done")
    try:
        wait_until(lambda: not reaches(TABLE), seconds=60)
        assert not reaches(22)
    finally:
        on_box("fail2ban-client unban --all; systemctl stop test-listen-ban")


def test_the_exported_security_list_opens_the_table_and_nothing_else() -> None:
    rules = json.loads((INVENTORY / ".oci-security-list.json").read_text())
    ranges = [rule["tcpOptions"]["destinationPortRange"] for rule in rules if rule["protocol"] == "6"]
    assert ranges == [{"min": port, "max": port} for port in (22, TABLE)]
    assert all(rule["source"] == "0.0.0.0/0" and rule["isStateless"] is False for rule in rules)
