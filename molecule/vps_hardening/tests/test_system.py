"""What hardening leaves of the system, as its own tools see it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hardened_box import Run
from testinfra.host import Host


def test_lynis_gives_at_least_80(on_box: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    on_box("apt-get install -y -qq --no-install-recommends lynis >/dev/null 2>&1")
    report = on_box("lynis audit system --quick --no-colors")
    found = re.search(r"Hardening index : (\d+)", report)
    assert found
    with capsys.disabled():
        print(f"\nLynis hardening index: {found[1]}")
    assert int(found[1]) >= 80


@pytest.mark.parametrize("service", ["ssh", "fail2ban", "systemd-journald", "servers-guard", "cron"])
def test_what_must_run_survives_a_restart(host: Host, on_box: Callable[[str], str], service: str) -> None:
    on_box(f"systemctl restart {service}")
    assert host.service(service).is_running


def test_no_unit_has_failed(on_box: Callable[[str], str]) -> None:
    assert on_box("systemctl --failed --plain --no-legend").strip() == ""


def test_a_needless_service_is_gone_and_cannot_be_started(host: Host, on_box: Callable[[str], str]) -> None:
    assert not host.package("rpcbind").is_installed
    assert on_box("systemctl is-enabled rpcbind.socket avahi-daemon.service || true").split() == ["masked", "masked"]


def test_updates_are_installed_unattended_from_security_and_stable_updates(on_box: Callable[[str], str]) -> None:
    plan = on_box("unattended-upgrade --dry-run --debug 2>&1")
    allowed = next(line for line in plan.splitlines() if "Allowed origins" in line)
    assert "ecurity" in allowed
    assert "-updates" in allowed
    settings = on_box("apt-config dump").splitlines()
    assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
    assert 'Unattended-Upgrade::Automatic-Reboot-Time "04:30";' in settings


def test_the_journal_survives_a_reboot_and_is_bounded(on_box: Callable[[str], str]) -> None:
    settings = on_box("systemd-analyze cat-config systemd/journald.conf")
    assert "SystemMaxUse=100M" in settings
    assert on_box("ls /var/log/journal").strip()


def test_forwarding_for_containers_stays_on_and_spoofed_sources_are_dropped(on_box: Callable[[str], str]) -> None:
    values = on_box(
        "sysctl -n net.ipv4.ip_forward net.ipv4.conf.all.rp_filter net.ipv4.conf.all.accept_redirects"
    ).split()
    assert values == ["1", "1", "0"]


def test_a_container_s_kernel_is_left_to_its_host(on_box: Callable[[str], str]) -> None:
    assert "kernel." not in on_box("cat /etc/sysctl.d/90-servers.conf")
    assert on_box("cat /proc/swaps | grep -c swapfile || true").strip() == "0"


def test_a_new_shell_makes_private_files_and_no_core_dumps(login: Run) -> None:
    assert login(remote="bash -lc 'umask; ulimit -Hc'").stdout.split() == ["0027", "0"]


def test_a_driver_that_no_server_needs_cannot_be_loaded(on_box: Callable[[str], str]) -> None:
    assert "/bin/false" in on_box("modprobe --showconfig | grep '^install dccp'")


def test_the_integrity_report_names_what_changed_since_the_last(on_box: Callable[[str], str]) -> None:
    on_box("systemctl start servers-integrity && echo x > /etc/test-changed && systemctl start servers-integrity")
    on_box("rm /etc/test-changed")
    assert "/etc/test-changed" in on_box("journalctl -u servers-integrity --no-pager")


def test_the_console_does_not_tell_the_release(host: Host) -> None:
    assert "Debian" not in host.file("/etc/issue").content_string
    assert "authorized users only" in host.file("/etc/issue").content_string


def test_sudoers_and_cron_are_readable_by_root_only(host: Host) -> None:
    with host.sudo():
        assert oct(host.file("/etc/crontab").mode) == "0o600"
        assert oct(host.file("/etc/cron.d").mode) == "0o700"
        assert oct(host.file("/etc/sudoers.d/90-servers").mode) == "0o440"


def test_a_topic_that_is_switched_off_takes_its_files_along(host: Host, play: Run) -> None:
    off = play(vps_hardening_modules=False, vps_hardening_journald=False)
    gone = [
        host.file(path).exists
        for path in ("/etc/modprobe.d/servers.conf", "/etc/systemd/journald.conf.d/90-servers.conf")
    ]
    on = play()
    assert (off.returncode, on.returncode) == (0, 0), off.stdout + on.stdout
    assert gone == [False, False]
    assert host.file("/etc/modprobe.d/servers.conf").exists


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"vps_hardening_firewal": False}, "vps_hardening_firewal is no variable of vps_hardening"),
        (
            {"vps_hardening_admin_users": [{"name": "joe", "ssh_keys": ["secret"]}]},
            "which is no Ed25519 or RSA public key",
        ),
        ({"vps_hardening_admin_users": [{"name": "joe", "keys": []}]}, "keys"),
        ({"vps_hardening_swap_size_mb": 5}, "vps_hardening_swap_size_mb is 5"),
        ({"vps_hardening_updates_reboot_time": "25:00"}, "vps_hardening_updates_reboot_time is"),
        ({"vps_hardening_needless_units": ["ssh.service"]}, "which the box needs"),
        ({"vps_hardening_ssh": "perhaps"}, "vps_hardening_ssh"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_input_that_cannot_work_is_refused_before_anything_changes(
    play: Run, variables: dict[str, object], sentence: str
) -> None:
    refused = play(**variables)
    assert refused.returncode != 0
    assert sentence in " ".join(refused.stdout.split())
    assert "changed=0" in refused.stdout
