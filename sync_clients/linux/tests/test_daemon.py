# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon as a guest of the system: systemd, sockets, secrets, memory, completion."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from machines import Account, Machine, Server, equal, eventually

Make = Callable[[str], Machine]


def test_systemd_hears_that_it_is_ready_alive_and_stopping(account: Account, machine: Make, tmp_path: Path) -> None:
    one = machine("one")
    one.join(account)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)
        one.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="600000")
        heard = ""
        while not all(word in heard for word in ("READY=1", "WATCHDOG=1", "STATUS=up to date")):
            heard += listener.recv(4096).decode() + "\n"
        one.stop()
        while "STOPPING=1" not in heard:
            heard += listener.recv(4096).decode() + "\n"


def test_the_unit_is_valid_and_removed_again(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    said = one.run("service", "install").stdout
    unit = one.home / ".config/systemd/user/sync-client.service"
    assert "systemctl --user" in said or "Started" in said
    text = unit.read_text()
    for line in ("Type=notify", "NotifyAccess=main", "WatchdogSec=900", "WantedBy=default.target"):
        assert line in text
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", unit], env=one.env, capture_output=True, text=True, check=False
    )
    assert "sync-client.service" not in done.stderr, done.stderr
    one.run("service", "remove")
    assert not unit.exists()


def test_the_status_is_told_while_the_server_does_not_answer(server: Server, machine: Make) -> None:
    one = machine("one")
    one.join(server.account())
    one.start()
    eventually(lambda: one.status()["state"] == "up to date")
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    try:
        one.write("a", "waits")
        eventually(lambda: one.status()["state"] == "syncing")
        # Had it waited for the server as the round does, that would have given up meanwhile.
        assert [one.status()["state"] for _ in range(3)] == ["syncing"] * 3
        assert one.status()["waiting"] == 1
    finally:
        server.process.send_signal(signal.SIGCONT)
    eventually(lambda: one.status()["state"] == "up to date")


def test_only_the_owner_reads_the_login_and_speaks_to_the_daemon(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    one.start()
    token = one.home / ".local/state/sync-client/default/token"
    line = one.home / "run/sync-client/default.sock"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(line.stat().st_mode) == 0o600
    secret = json.loads(token.read_text())["refresh_token"]
    assert secret not in one.log()
    assert secret not in json.dumps(one.status())
    one.stop()
    token.chmod(0o644)
    done = one.run("sync", ok=False)
    assert done.returncode == 4
    assert "chmod 600" in done.stderr


def test_a_second_daemon_is_refused(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    one.start()
    done = one.run("start", ok=False)
    assert done.returncode == 10
    assert "running already" in done.stderr


def test_sync_works_without_a_daemon(account: Account, machine: Make) -> None:
    left, right = machine("left"), machine("right")
    for one in (left, right):
        one.join(account)
    left.write("a.txt", "a")
    assert left.run("status", ok=False).returncode == 3
    assert "In step." in left.run("sync", "--now").stdout
    right.run("sync", "--now")
    assert right.has("a.txt", "a")
    assert "synced" in right.run("ls").stdout


def test_a_code_approved_elsewhere_logs_in(account: Account, machine: Make) -> None:
    import http.client

    from sync_client.transport import Transport

    one = machine("one")
    process = subprocess.Popen(
        [Path(sys.executable).with_name("sync-client"), "login", account.url],
        env=one.env, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    code = process.stdout.readline().split()[-1]
    phone = Transport(account.url)
    phone.login(account.name, "correct horse battery", "phone")
    try:
        phone.request(
            "POST",
            "/auth/device/approve",
            json.dumps({"user_code": code}).encode(),
            headers={"Content-Type": "application/json"},
        )
    except http.client.HTTPException as error:
        raise AssertionError(code) from error
    assert process.wait(40) == 0
    process.stdout.close()
    one.run("init", one.folder)
    one.run("sync")


def test_completion_offers_the_commands_and_their_words() -> None:
    client = Path(sys.executable).with_name("sync-client")
    for line, expected in (
        ("sync-client conf", "conflicts"),
        ("sync-client conflicts keep-l", "keep-local"),
        ("sync-client service in", "install"),
        ("sync-client status --j", "--json"),
    ):
        words = line.split()
        script = (
            f'eval "$({client} completion bash)"; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1};'
            ' _sync_client; echo "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [expected], (line, done.stdout, done.stderr)
    assert (
        "-a doctor" in subprocess.run([client, "completion", "fish"], capture_output=True, text=True, check=True).stdout
    )


def test_the_log_can_be_followed(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    # As from a terminal: what a script runs in the background is deaf to Ctrl-C.
    at_terminal = ["env", "--default-signal=INT"]
    follower = subprocess.Popen(
        [*at_terminal, Path(sys.executable).with_name("sync-client"), "log", "-f"],
        env=one.env, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert follower.stdout is not None
    try:
        # Also when there is nothing to follow yet.
        one.start()
        one.write("a.txt", "a")
        assert any("1 uploaded" in line for line in follower.stdout)
    finally:
        follower.send_signal(signal.SIGINT)
        assert follower.wait(10) == 130
        follower.stdout.close()


def test_a_limit_holds(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    one.run("limit", "--up", "500")
    one.write("a.bin", os.urandom(1_500_000))
    started = time.monotonic()
    one.run("sync")
    assert time.monotonic() - started > 2.5
    assert "no limit" in one.run("limit", "--up", "0").stdout


def test_the_daemon_stays_small(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    for i in range(2000):
        one.write(f"d{i // 50}/f{i}", str(i))
    one.start()
    equal(one)
    assert one.process is not None

    def resident() -> int:
        status = Path(f"/proc/{one.process.pid}/status").read_text()  # type: ignore[union-attr]
        return int(status.split("VmRSS:")[1].split()[0])

    eventually(lambda: resident() < 40_000, 10, resident)
