"""SSH as a stranger and as the owner meet it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hardened_box import Run
from testinfra.host import Host


def test_the_owner_logs_in_with_a_key(login: Run) -> None:
    assert login().returncode == 0


def test_an_administrator_from_the_list_logs_in_and_becomes_root(login: Run) -> None:
    assert login(user="jane", remote="sudo -n id -u").stdout == "0\n"


def test_no_password_is_asked_for(login: Run) -> None:
    attempt = login("-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password,keyboard-interactive")
    assert attempt.returncode == 255
    assert "Permission denied (publickey)" in attempt.stderr


def test_root_is_refused_even_with_a_key_that_root_trusts(login: Run, on_box: Callable[[str], str]) -> None:
    on_box("install -d -m 0700 /root/.ssh && cp /home/ubuntu/.ssh/authorized_keys /root/.ssh/authorized_keys")
    attempt = login(user="root")
    on_box("rm /root/.ssh/authorized_keys")
    assert attempt.returncode == 255
    assert "Permission denied" in attempt.stderr


@pytest.mark.parametrize(
    "offer",
    [
        ("-o", "KexAlgorithms=diffie-hellman-group14-sha256,ecdh-sha2-nistp256"),
        ("-o", "Ciphers=aes128-cbc,3des-cbc"),
        ("-o", "Ciphers=aes256-ctr", "-o", "MACs=hmac-sha1,umac-64@openssh.com"),
        ("-o", "HostKeyAlgorithms=ecdsa-sha2-nistp256,ssh-rsa"),
    ],
    ids=["key exchange", "cipher", "authentication code", "host key"],
)
def test_a_client_with_only_weak_algorithms_is_turned_away(login: Run, offer: tuple[str, ...]) -> None:
    attempt = login(*offer)
    assert attempt.returncode == 255
    assert "no matching" in attempt.stderr


def test_ssh_audit_has_nothing_to_object(
    shell: Run, address: str, ssh_policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = shell(str(Path(sys.executable).with_name("ssh-audit")), "-n", "-P", ssh_policy, address)
    with capsys.disabled():
        print(f"\nssh-audit, {ssh_policy}: {audit.stdout.split('Result:')[-1].strip()}")
    assert audit.returncode == 0, audit.stdout


def test_the_banner_does_not_tell_the_distribution(shell: Run, address: str) -> None:
    banner = shell("bash", "-c", f"exec 3<>/dev/tcp/{address}/22; head -1 <&3").stdout
    assert banner.startswith("SSH-2.0-OpenSSH")
    assert "ebian" not in banner
    assert "buntu" not in banner


def test_an_admin_page_on_loopback_is_reached_through_a_tunnel(login: Run) -> None:
    assert login("-W", "127.0.0.1:22").stdout.startswith("SSH-2.0")


def test_the_box_cannot_be_made_to_listen_for_somebody_else(login: Run) -> None:
    assert login("-R", "0:127.0.0.1:9", "-o", "ExitOnForwardFailure=yes").returncode != 0


def test_group_exchange_offers_no_group_below_3071_bits(host: Host) -> None:
    with host.sudo():
        sizes = {int(line.split()[4]) for line in host.file("/etc/ssh/moduli.strong").content_string.splitlines()}
    assert min(sizes) >= 3071


@pytest.fixture
def started_by_socket(console: Callable[[str], str]) -> Iterator[None]:
    """Ubuntu's way: systemd owns the port and starts sshd at the first connection."""
    console("systemctl disable --quiet --now ssh.service && systemctl enable --quiet --now ssh.socket")
    yield
    # An sshd that was started by the socket keeps the port when only the socket goes.
    console("systemctl disable --quiet --now ssh.socket; systemctl stop ssh.service")
    console("kill $(ss -ltnpH 'sport = :22' | grep -o 'pid=[0-9]*' | cut -d= -f2) || true")
    console("systemctl enable --quiet ssh.service && systemctl restart ssh.service")


@pytest.mark.usefixtures("started_by_socket")
def test_a_change_reaches_an_sshd_that_its_socket_starts(login: Run, play: Run) -> None:
    assert login().returncode == 0
    weaker = "diffie-hellman-group16-sha512"
    offer = ("-o", f"KexAlgorithms={weaker}")
    before = login(*offer).returncode
    opened = play(vps_hardening_ssh_extra_kex=[weaker])
    with_it = login(*offer).returncode
    closed = play()
    assert (opened.returncode, closed.returncode) == (0, 0), opened.stdout + closed.stdout
    assert (before, with_it, login(*offer).returncode) == (255, 0, 255)
