# SPDX-License-Identifier: GPL-3.0-or-later
"""What users and their surroundings get wrong: one clear sentence, nothing lost, and a remedy that works."""

from __future__ import annotations

import http.server
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import PASSWORD, Account, Machine, Server, equal, eventually

Make = Callable[[str], Machine]


class _Stranger(http.server.BaseHTTPRequestHandler):
    """Answers everything with the class's status and body."""

    status, body = 200, b"<html>It works!</html>"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[Callable[..., str]]:
    """A web server that is no sync server."""
    running: list[http.server.HTTPServer] = []

    def run(status: int = 200, body: bytes = b"<html>It works!</html>", tls: Path | None = None) -> str:
        handler = type("Handler", (_Stranger,), {"status": status, "body": body})
        one = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
            one.socket = context.wrap_socket(one.socket, server_side=True)
        running.append(one)
        threading.Thread(target=one.serve_forever, daemon=True).start()
        return f"http{'s' if tls else ''}://127.0.0.1:{one.server_port}"

    yield run
    for one in running:
        one.shutdown()
        one.server_close()


def _try_login(one: Machine, url: str, *more: str) -> tuple[int, str]:
    done = one.run("login", url, "--user", "x", "--password-stdin", *more, input=PASSWORD + "\n", ok=False)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr


def test_a_wrong_address_is_said(machine: Make, stranger: Callable[..., str]) -> None:
    one = machine("one")
    assert _try_login(one, "http://127.0.0.1:1") == (3, _try_login(one, "http://127.0.0.1:1")[1])
    assert "cannot be reached" in _try_login(one, "http://127.0.0.1:1")[1]
    code, text = _try_login(one, "ftp://sync.example.org")
    assert (code, "is not the address of a server" in text) == (5, True)
    code, text = _try_login(one, stranger())
    assert (code, "is not the address" in text or "does not understand" in text) == (5, True)
    code, text = _try_login(one, stranger(404, b"nothing here"))
    assert (code, "no sync server this client can talk to" in text) == (5, True)


def test_plain_http_to_elsewhere_is_refused(machine: Make) -> None:
    code, text = _try_login(machine("one"), "http://sync.example.org")
    assert (code, "use https://" in text) == (1, True)


def test_a_wrong_certificate_sends_nothing(machine: Make, stranger: Callable[..., str], tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    one = machine("one")
    url = stranger(tls=tmp_path)
    code, text = _try_login(one, url)
    assert (code, "certificate" in text and "Nothing was sent" in text and "--ca FILE" in text) == (5, True)
    # With the authority named, TLS goes through and what answers is looked at.
    code, text = _try_login(one, url, "--ca", str(tmp_path / "cert.pem"))
    assert "certificate" not in text


def test_a_wrong_password_is_said(account: Account, machine: Make) -> None:
    one = machine("one")
    done = one.run("login", account.url, "--user", account.name, "--password-stdin", input="wrong\n", ok=False)
    assert done.returncode == 4
    assert "name or the password is wrong" in done.stderr
    assert not (one.home / ".local/state/sync-client/default/token").exists()


def test_a_server_of_another_age_is_said(account: Account, machine: Make, stranger: Callable[..., str]) -> None:
    one = machine("one")
    one.join(account)
    one.write("a.txt", "a")
    settings = one.home / ".config/sync-client/default/config.toml"
    known = settings.read_text()
    settings.write_text(known.replace(account.url, stranger(200, b'{"from":"the future"}')))
    done = one.run("sync", ok=False)
    assert done.returncode == 5
    assert "update both" in done.stderr
    body = b'{"type":"urn:sync:problem:method-not-allowed","title":"no","status":405}'
    settings.write_text(known.replace(account.url, stranger(405, body)))
    done = one.run("sync", ok=False)
    assert done.returncode == 5
    assert "older than this client" in done.stderr
    settings.write_text(known)
    one.run("sync")


def test_a_revoked_login_stops_nothing_but_the_sync(shared_server: Server, account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    one.start()
    one.write("a.txt", "a")
    equal(one)
    shared_server.revoke(account)
    one.write("b.txt", "b")
    eventually(lambda: one.status()["state"] == "login needed", 60, one.log)
    assert "sync-client login" in one.status()["problem"]
    doctor = one.run("doctor", ok=False)
    assert "sync-client login" in doctor.stdout
    assert one.has("b.txt", "b")
    one.login(account)
    equal(one)


def test_a_revoked_login_is_noticed_also_where_nothing_changes(
    shared_server: Server, account: Account, machine: Make
) -> None:
    one = machine("one")
    one.join(account)
    one.start()
    one.write("a.txt", "a")
    equal(one)
    shared_server.revoke(account)
    eventually(lambda: one.status()["state"] == "login needed", 60, one.log)


def test_a_folder_synced_already_is_refused(account: Account, machine: Make) -> None:
    one, other = machine("one"), machine("other")
    one.join(account)
    other.login(account)
    done = other.run("init", one.folder, ok=False)
    assert done.returncode == 1
    assert "is synced already by another profile or computer" in done.stderr
    assert "synced already" in other.run("init", one.folder / "below", ok=False).stderr
    assert "synced already" in other.run("init", one.folder.parent, ok=False).stderr
    assert one.run("init", one.folder).returncode == 0


def test_a_read_only_folder_loses_nothing_and_is_named(account: Account, machine: Make, tmp_path: Path) -> None:
    left, right = machine("left"), machine("right")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", disk], check=True)
    try:
        right.folder = disk / "Sync"
        for one in (left, right):
            one.join(account)
        left.write("a.txt", "one")
        left.start()
        right.start()
        equal(left, right)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        left.write("a.txt", "two")
        eventually(lambda: bool(right.status()["problems"]), 30, right.log)
        assert "read-only" in str(right.status()["problems"])
        assert right.has("a.txt", "one")
        assert "read-only" in right.run("doctor", ok=False).stdout
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        right.run("sync")
        equal(left, right)
        assert left.has("a.txt", "two")
        right.stop()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_damaged_database_is_named_and_repaired(account: Account, machine: Make) -> None:
    left, right = machine("left"), machine("right")
    for one in (left, right):
        one.join(account)
    for i in range(30):
        left.write(f"d/{i}.txt", f"text {i}")
    left.start()
    right.start()
    equal(left, right)
    right.stop()
    right.write("d/3.txt", "edited while the database lay damaged")
    database = right.home / ".local/state/sync-client/default/state.db"
    data = bytearray(database.read_bytes())
    data[4096:40960] = os.urandom(36864)
    database.write_bytes(data)
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    done = right.run("start", ok=False)
    assert done.returncode == 7
    assert "doctor --repair" in done.stderr
    assert "doctor --repair" in right.run("doctor", ok=False).stdout
    right.run("doctor", "--repair")
    right.start()
    equal(left, right)
    assert b"edited while the database lay damaged" in left.files().values()
    assert len(left.files()) == 32
    assert list(database.parent.glob("state.db.damaged-*"))


def test_what_cannot_be_synced_is_listed_and_left_alone(account: Account, machine: Make) -> None:
    left, right = machine("left"), machine("right")
    for one in (left, right):
        one.join(account)
    left.write("good.txt", "good")
    left.write("Read.me", "1")
    left.write("read.me", "2")
    (left.folder / "link").symlink_to(os.fsdecode(b"bad\xff"))
    os.mkfifo(left.folder / "pipe")
    (left.folder / os.fsdecode(b"bad\xff.txt")).write_text("x")
    left.start()
    right.start()
    eventually(lambda: right.has("good.txt", "good"))
    eventually(lambda: len(left.status()["problems"]) == 4, 30, lambda: left.status()["problems"])
    listed = {problem["path"]: problem["reason"] for problem in left.status()["problems"]}
    assert "symbolic link" in listed["link"]
    assert "pipe" in listed["pipe"]
    assert "cannot store" in listed["bad\\xff.txt"]
    assert any("differs only in case" in reason for reason in listed.values())
    assert set(right.files()) & {"link", "pipe"} == set()
    assert left.run("sync", ok=False).returncode == 11
    (left.folder / "read.me").rename(left.folder / "another")
    eventually(lambda: len([p for p in right.files() if p in ("another", "Read.me", "read.me")]) == 2)


def test_a_symlink_on_the_way_is_never_followed(account: Account, machine: Make, tmp_path: Path) -> None:
    left, right = machine("left"), machine("right")
    for one in (left, right):
        one.join(account)
    left.write("d/a.txt", "a")
    left.start()
    right.start()
    equal(left, right)
    right.run("pause")
    outside = tmp_path / "outside"
    outside.mkdir()
    (right.folder / "d").rename(tmp_path / "moved")
    (right.folder / "d").symlink_to(outside)
    left.write("d/b.txt", "b")
    left.write("d/a.txt", "changed")
    eventually(lambda: left.status()["waiting"] == 0)
    right.run("resume")
    right.run("sync", ok=False)
    equal(left, right)
    assert not list(outside.iterdir())
    # What was changed below it came back, so the link keeps a name beside it.
    assert left.has("d/b.txt", "b")
    assert [body for path, body in left.files().items() if path.startswith("d.")] == [b"-> " + bytes(outside)]


def test_quota_is_said_and_the_rest_goes_on(shared_server: Server, machine: Make) -> None:
    account = shared_server.account("--quota", "1M")
    left, right = machine("left"), machine("right")
    for one in (left, right):
        one.join(account)
    left.write("big.bin", os.urandom(3_000_000))
    left.start()
    right.start()
    eventually(lambda: "room" in str(left.status()["problems"]) + left.status()["problem"], 30, left.status)
    left.write("small.txt", "small")
    eventually(lambda: right.has("small.txt", "small"), 30, left.status)
    assert (left.folder / "big.bin").stat().st_size == 3_000_000


def test_a_rule_nobody_understands_is_refused_or_passed_over(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    for rule in ("!", "a[b-a]", "  "):
        done = one.run("ignore", "add", rule, ok=False)
        assert (done.returncode, "is no rule" in done.stderr, done.stderr.count("\n")) == (1, True, 1), done.stderr
    assert not (one.folder / ".syncignore").exists()
    # From an editor, or from another device.
    one.write(".syncignore", "!\n\na[b-a]\n*.tmp\n")
    one.start()
    one.write("x.tmp", "x")
    equal(one)
    assert "*.tmp (line 4 of .syncignore)" in one.run("ignore", "check", "x.tmp").stdout


def test_another_account_on_the_same_server_takes_nothing_away(shared_server: Server, machine: Make) -> None:
    first, second = shared_server.account(), shared_server.account()
    one, other = machine("one"), machine("other")
    one.join(first)
    one.write("mine.txt", "mine")
    one.write("d/mine.txt", "mine too")
    one.start()
    equal(one)
    other.join(second)
    for i in range(4):
        other.write(f"{i}.txt", f"text {i}")
    other.start()
    equal(other)
    one.login(second)
    one.stop()
    one.start()
    equal(one, other)
    assert other.has("mine.txt", "mine")
    assert other.has("d/mine.txt", "mine too")
    assert one.has("3.txt", "text 3")


def test_stop_comes_back_when_the_daemon_is_gone(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    one.write("a.txt", "a")
    for _ in range(3):
        one.start()
        assert "has stopped" in one.run("stop").stdout
        assert one.run("sync").stdout == "In step.\n"
        one.stop()


def test_a_new_login_is_kept_whatever_command_comes_next(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    one.start()
    one.name = "renamed"
    one.login(account)
    one.run("pause")
    settings = (one.home / ".config/sync-client/default/config.toml").read_text()
    assert 'device = "renamed"' in settings
    assert "paused = true" in settings
    assert one.status()["device"] == "renamed"


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://[::1", "https://a b", "https://me:secret@127.0.0.1"])
def test_what_is_no_address_is_said(machine: Make, url: str) -> None:
    code, text = _try_login(machine("one"), url)
    assert (code, "address" in text, "secret@" in text) == (5, True, False), text


@pytest.mark.parametrize("host", ["127.evil.example", "localhost.evil.example"])
def test_a_name_like_loopback_is_elsewhere(machine: Make, host: str) -> None:
    code, text = _try_login(machine("one"), f"http://{host}")
    assert (code, "use https://" in text) == (1, True), text


def test_an_authority_that_is_no_certificate_is_said(machine: Make, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    code, text = _try_login(machine("one"), "https://127.0.0.1:1", "--ca", str(tmp_path / "ca.pem"))
    assert (code, "cannot be read as a certificate" in text) == (5, True), text


def test_without_a_terminal_the_password_is_not_asked_for(account: Account, machine: Make) -> None:
    one = machine("one")
    for options in ([], ["--password-stdin"]):
        done = subprocess.run(
            [*one.client, "login", account.url, "--user", account.name, *options],
            env=one.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
        )
        assert (done.returncode, "--password-stdin" in done.stderr, done.stderr.count("\n")) == (1, True, 1)


def test_folders_that_cannot_be_synced_are_refused(account: Account, machine: Make) -> None:
    one, other = machine("one"), machine("other")
    for user in (one, other):
        user.login(account)
    other.run("init", one.home / "a/b/c")
    (one.home / "file").touch()
    for folder, why in (
        (one.home, "the login and the state are kept"),
        (one.home / "a", "is synced already"),
        (one.home / "file/x", "Not a directory"),
        (one.home / ("x" * 300), "too long"),
    ):
        done = one.run("init", folder, ok=False)
        assert (done.returncode, why in done.stderr, done.stderr.count("\n")) == (1, True, 1), done.stderr
    assert not (one.home / ".sync-client").exists()


def test_damaged_files_of_a_profile_are_named(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    token = one.home / ".local/state/sync-client/default/token"
    token.write_text("garbage")
    for command in ("sync", "doctor"):
        done = one.run(command, ok=False)
        assert "sync-client login" in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
    assert "Logged out" in one.run("logout").stdout
    assert not token.exists()
    settings = one.home / ".config/sync-client/default/config.toml"
    settings.write_bytes(b"\xff\xfe")
    done = one.run("status", ok=False)
    assert (done.returncode, str(settings) in done.stderr, done.stderr.count("\n")) == (2, True, 1)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\nb", "x" * 100])
def test_a_profile_needs_a_plain_name(machine: Make, name: str) -> None:
    done = machine("one").run("--profile", name, "status", ok=False)
    assert (done.returncode, "no name of a profile" in done.stderr) == (2, True)


def test_output_nobody_reads_is_no_error(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    for command in ("status", "ls", "completion bash"):
        done = subprocess.run(
            ["bash", "-c", f"sync-client {command} | true; exit ${{PIPESTATUS[0]}}"],
            env=one.env | {"PATH": f"{Path(one.client[0]).parent}:{one.env['PATH']}"},
            capture_output=True,
            text=True,
        )
        assert (done.returncode in (0, 3), done.stderr) == (True, ""), command


def test_names_that_are_no_utf_8_are_said(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    for command in ("ls", "init"):
        done = one.run(command, os.fsdecode(b"bad\xff"), ok=False)
        assert (done.returncode, "no valid UTF-8" in done.stderr) == (2, True), done.stderr


def test_the_log_shows_as_many_lines_as_asked(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    for text in "abc":
        one.write("a.txt", text)
        one.run("sync")
    for lines, shown in (("2", 2), ("0", 0), ("-1", 0)):
        assert one.run("log", "-n", lines).stdout.count("\n") == shown


def test_a_second_daemon_is_refused_either_way(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    one.start()
    for start in (["start"], ["start", "--detach"]):
        done = one.run(*start, ok=False)
        assert (done.returncode, "running already" in done.stderr) == (10, True)


def test_the_unit_stands_blanks_in_the_path_and_line_breaks_in_the_folder(account: Account, machine: Make) -> None:
    one = machine("one")
    one.folder = one.home / "a\nExecStartPre=touch x"
    one.join(account)
    odd = one.home / "b in%x"
    odd.mkdir()
    (odd / "sync-client").symlink_to(one.client[0])
    one.env["PATH"] = f"{odd}:{one.env['PATH']}"
    unit = one.run("service", "show").stdout
    assert f'ExecStart="{one.home}/b in%%x/sync-client" --profile default start\n' in unit
    assert "\nExecStartPre" not in unit


def test_the_status_names_the_next_step(account: Account, machine: Make) -> None:
    one = machine("one")
    assert "sync-client login" in one.run("status", ok=False).stdout
    one.login(account)
    assert "sync-client init" in one.run("status", ok=False).stdout
    one.run("init", one.folder)
    assert "sync-client start" in one.run("status", ok=False).stdout


def test_the_status_of_a_damaged_database_ends_with_its_code(account: Account, machine: Make) -> None:
    one = machine("one")
    one.join(account)
    one.start()
    equal(one)
    with (one.home / ".local/state/sync-client/default/state.db").open("r+b") as database:
        database.write(b"junk" * 5000)
    done = one.run("status", ok=False)
    assert (done.returncode, "doctor --repair" in done.stderr) == (7, True)


def test_a_sync_without_a_daemon_lists_what_it_left_out(account: Account, machine: Make) -> None:
    one = machine("one")
    assert one.run("stop").stdout == "No daemon runs.\n"
    assert not (one.home / ".local").exists()
    one.join(account)
    os.mkfifo(one.folder / "pipe")
    done = one.run("sync", ok=False)
    assert done.returncode == 11
    assert "problem   pipe: " in done.stdout
