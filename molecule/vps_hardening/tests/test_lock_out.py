"""A change that would lock the owner out does not stay, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable

from hardened_box import Run, wait_until

FILES = "/etc/ssh/sshd_config.d/00-servers.conf /etc/servers/firewall.v4 /etc/servers/firewall.v6"


def fingerprint(on_box: Callable[[str], str]) -> str:
    return on_box(f"sha256sum {FILES} && iptables -S && ip6tables -S")


def test_a_firewall_without_ssh_is_taken_back_by_the_box_itself(
    play: Run, login: Run, on_box: Callable[[str], str]
) -> None:
    before = fingerprint(on_box)
    # Passes every check: port 22 is in the table, but for another protocol.
    broken = play(_servers_open_ports=[{"port": 22, "protocol": "udp", "name": "ssh"}], vps_hardening_revert_seconds=30)
    assert broken.returncode != 0
    assert "A new login to vps fails with the new SSH and firewall settings" in broken.stdout
    assert login().returncode == 255
    wait_until(lambda: login().returncode == 0, seconds=45)
    assert fingerprint(on_box) == before
    assert "changed=0" in play().stdout


def test_an_sshd_nobody_can_talk_to_is_taken_back_by_the_box_itself(
    play: Run, login: Run, on_box: Callable[[str], str]
) -> None:
    before = fingerprint(on_box)
    broken = play(_vps_hardening_ssh_kex=["diffie-hellman-group1-sha1"], vps_hardening_revert_seconds=30)
    assert broken.returncode != 0
    assert "vps_hardening_revert_seconds" in broken.stdout
    wait_until(lambda: login().returncode == 0, seconds=45)
    assert fingerprint(on_box) == before


def test_settings_that_sshd_does_not_understand_never_land(play: Run, on_box: Callable[[str], str]) -> None:
    before = fingerprint(on_box)
    refused = play(_vps_hardening_ssh_ciphers=["rot13"])
    assert refused.returncode != 0
    assert "Bad SSH2 cipher spec" in refused.stdout
    assert fingerprint(on_box) == before


def test_rules_that_the_firewall_does_not_understand_are_taken_back_at_once(
    play: Run, on_box: Callable[[str], str]
) -> None:
    before = fingerprint(on_box)
    rows = [{"port": 22, "protocol": "tcp", "name": "ssh"}, {"port": "no-such-port", "protocol": "tcp", "name": "x"}]
    refused = play(_servers_open_ports=rows)
    assert refused.returncode != 0
    assert "the confirmed ones are back" in refused.stdout
    assert fingerprint(on_box) == before


def test_a_confirmation_that_comes_too_late_is_refused(on_box: Callable[[str], str]) -> None:
    assert "too late" in on_box("! /usr/local/sbin/servers-guard confirm 2>&1")


def test_an_account_without_a_key_stops_the_run_before_it_changes_anything(
    play: Run, console: Callable[[str], str]
) -> None:
    play()  # leaves a connection open, as one that came in with a password would be
    console("mv /home/ubuntu/.ssh/authorized_keys /root/kept && chmod 0644 /etc/crontab")
    try:
        refused = play()
        mode = console("stat -c %a /etc/crontab")
    finally:
        console("mv /root/kept /home/ubuntu/.ssh/authorized_keys && chmod 0600 /etc/crontab")
    assert "has no Ed25519 or RSA key in its authorized_keys" in refused.stdout
    assert "changed=0" in refused.stdout
    assert mode == "644\n"


def test_a_second_firewall_stops_the_run(play: Run, on_box: Callable[[str], str]) -> None:
    on_box("mkdir -p /etc/ufw && echo ENABLED=yes > /etc/ufw/ufw.conf")
    try:
        assert "run 'ufw disable' there first" in play().stdout
    finally:
        on_box("rm -r /etc/ufw")


def test_a_run_that_was_killed_between_writing_and_loading_is_finished_by_the_next(
    play: Run, on_box: Callable[[str], str]
) -> None:
    on_box("touch /var/lib/servers/pending/vps_hardening_guard /var/lib/servers/pending/vps_hardening_services")
    healed = play()
    assert healed.returncode == 0, healed.stdout
    assert on_box("ls /var/lib/servers/pending").strip() == ""
    assert "changed=0" in play().stdout


def test_a_power_cut_in_the_middle_of_a_change_boots_with_what_was_confirmed(
    restart_box: Callable[[], None], on_box: Callable[[str], str]
) -> None:
    before = fingerprint(on_box)
    on_box(
        "touch /var/lib/servers/pending/vps_hardening_guard && sed -i '/dport 22/d' /etc/servers/firewall.v4"
        " && echo 'AllowUsers nobody' > /etc/ssh/sshd_config.d/00-servers.conf && sync"
    )
    restart_box()
    assert fingerprint(on_box) == before
    assert "running" in on_box("systemctl is-system-running --wait || true")
