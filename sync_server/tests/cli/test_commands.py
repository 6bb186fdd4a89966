"""The command line, as a process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import log_in
from real_process.server import PASSWORD, RunningServer

from sync_server import config


def _run(*arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNC_SERVER_")}
    return subprocess.run(
        [sys.executable, "-m", "sync_server", *arguments],
        input=given, capture_output=True, text=True, check=False, timeout=60, env={**kept, **environment},
    )  # fmt: skip


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningServer]:
    """A server of this test's own, with alice, not started yet."""
    server = RunningServer(tmp_path / "data", {"free_space_floor": "0"})
    server.add_user("alice")
    yield server
    if server.process is not None:
        server.stop()


def test_help_names_every_setting_with_its_default() -> None:
    text = " ".join(_run("serve", "--help").stdout.split())
    for name in ("data-dir", "port", "trusted-proxies", "default-quota", "drain-seconds"):
        assert f"--{name}" in text
    assert "(default: 8080)" in text
    assert "SYNC_SERVER_" in text
    assert "--metrics-token" not in text, "secrets have no place on the command line"


@pytest.mark.parametrize("words", [(), ("serve", "--port", "x"), ("nonsense",), ("serve", "--server", "apache")])
def test_what_is_not_understood_is_said_in_one_sentence(words: tuple[str, ...]) -> None:
    done = _run(*words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_the_version_is_printed() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", _run("version").stdout)


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('port = 1\nhost = "::1"\nfree_space_floor = "2G"\ntrusted_proxies = ["10.0.0.0/8"]\n')
    environment = {"SYNC_SERVER_CONFIG": str(file), "SYNC_SERVER_PORT": "2", "SYNC_SERVER_DOCS": "no"}
    loaded = config.load({"port": "3"}, environment)
    assert (loaded.port, loaded.host, loaded.docs) == (3, "::1", False)
    assert loaded.free_space_floor == 2 * 1024**3
    assert [str(network) for network in loaded.trusted_proxies] == ["10.0.0.0/8"]
    assert config.load({}, environment).port == 2


def test_a_secret_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    loaded = config.load({}, {"SYNC_SERVER_METRICS_TOKEN_FILE": str(tmp_path / "token")})
    assert loaded.metrics_token == "0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "named"),
    [("prot = 1", "prot"), ("port = true", "port"), ("port = -1", "port"), ("host = 1", "host"), ("x", "settings"),
     ('trusted_proxies = ["everybody"]', "trusted_proxies"), ("access_token_seconds = 99999", "access_token_seconds"),
     ('metrics_token = "short"', "metrics_token"), ('public_url = "files"', "public_url")],
)  # fmt: skip
def test_a_bad_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(config.ConfigError, match=named):
        config.load({"config": str(tmp_path / "settings.toml")}, {})


def test_passwords_come_from_standard_input_or_a_file_never_from_the_command_line(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    (tmp_path / "password").write_text("a password in a file\n")
    assert _run("user", "add", "anna", "--data-dir", data, given="long enough\n").returncode == 0
    assert _run("user", "add", "ben", "--data-dir", data, "--password-file", str(tmp_path / "password")).returncode == 0
    assert _run("user", "add", "carl", "--password", "x", "--data-dir", data).returncode == 2
    short = _run("user", "add", "carl", "--data-dir", data, given="short\n")
    assert (short.returncode, short.stderr) == (1, "sync-server: a password needs at least 10 characters\n")
    none = _run("user", "add", "carl", "--data-dir", data)
    assert none.returncode == 1
    twin = _run("user", "add", "ANNA", "--data-dir", data, given="long enough\n")
    assert (twin.returncode, "already" in twin.stderr) == (1, True)
    listed = _run("user", "list", "--data-dir", data).stdout
    assert [line.split("\t")[1] for line in listed.splitlines()] == ["anna", "ben"]


def test_a_new_password_logs_every_device_out(own: RunningServer) -> None:
    own.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{own.port}/api/v1") as client:
        log_in(client)
        assert own.tool("user", "passwd", "alice", given="another long password\n").returncode == 0
        assert client.get("/usage").status_code == 401
        body = {"user": "alice", "device": "x"}
        assert client.post("/auth/login", json={**body, "password": PASSWORD}).status_code == 401
        assert client.post("/auth/login", json={**body, "password": "another long password"}).status_code == 200


def test_devices_are_listed_and_cut_off(own: RunningServer) -> None:
    own.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{own.port}/api/v1") as client:
        log_in(client)
    line = own.tool("device", "list").stdout.splitlines()[0].split("\t")
    assert line[1:4] == ["alice", "test", "device"]
    assert own.tool("device", "revoke", line[0]).returncode == 0
    assert own.tool("device", "list").stdout == ""
    assert own.tool("device", "revoke", line[0]).returncode == 1


@pytest.mark.parametrize("http_server", ["granian", "uvicorn"])
def test_sigterm_finishes_what_is_running_and_wakes_who_waits(own: RunningServer, http_server: str) -> None:
    own.settings["server"] = http_server
    own.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{own.port}/api/v1", timeout=20) as client:
        log_in(client)
        cursor = client.get("/snapshot").json()["cursor"]
        answers: list[httpx.Response] = []
        sending = threading.Event()

        def slowly() -> Iterator[bytes]:
            yield b"a" * 1000
            sending.set()
            time.sleep(1)
            yield b"b" * 1000

        jobs = [
            threading.Thread(target=lambda: answers.append(httpx.put(
                f"{client.base_url}files/slow", content=slowly(), headers=dict(client.headers), timeout=20))),
            threading.Thread(target=lambda: answers.append(httpx.get(
                f"{client.base_url}changes", params={"cursor": cursor, "wait": 50}, headers=dict(client.headers),
                timeout=20))),
        ]  # fmt: skip
        for job in jobs:
            job.start()
        assert sending.wait(20)
        # Connections are taken in order: who is answered now came after the two.
        while "sync_waiting 1.0" not in httpx.get(f"http://127.0.0.1:{own.port}/metrics").text:
            time.sleep(0.05)
        began = time.monotonic()
        assert own.stop() == 0
        assert time.monotonic() - began < 8
        for job in jobs:
            job.join()
    assert sorted(answer.status_code for answer in answers) == [200, 201]
    own.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{own.port}/api/v1") as client:
        log_in(client)
        assert client.get("/files/slow").content == b"a" * 1000 + b"b" * 1000


def test_access_tokens_survive_a_restart(own: RunningServer) -> None:
    own.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{own.port}/api/v1") as client:
        log_in(client)
        own.kill()
        own.start()
        assert client.get("/usage").status_code == 200


def test_a_second_server_on_the_same_data_or_port_is_refused(own: RunningServer, tmp_path: Path) -> None:
    own.start()
    same_data = own.tool("serve", "--port", "0")
    assert same_data.returncode == 1
    assert "already" in same_data.stderr
    same_port = _run("serve", "--data-dir", str(tmp_path / "other"), "--port", str(own.port))
    assert same_port.returncode == 1
    assert "in use" in same_port.stderr


def test_logs_are_json_with_every_request_and_without_secrets(own: RunningServer) -> None:
    own.settings |= {"access_log": "true", "log_level": "debug"}
    own.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{own.port}/api/v1") as client:
        tokens = log_in(client)
        client.put("/files/a", content=b"1")
    assert own.stop() == 0
    lines = [json.loads(line) for line in (own.data.parent / "data.log").read_text().splitlines()]
    requests = [line for line in lines if line["message"] == "request"]
    assert {"method": "PUT", "path": "/api/v1/files/a", "status": 201}.items() <= requests[-1].items()
    text = json.dumps(lines)
    for secret in (PASSWORD, tokens["access_token"], tokens["refresh_token"]):
        assert str(secret) not in text


def test_what_looks_like_a_secret_never_reaches_a_log() -> None:
    from sync_server.auth.passwords import hash_password
    from sync_server.logs import without_secrets

    for secret in (
        "Bearer abcdefghijkl", "Basic YWxpY2U6c2VjcmV0", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "sr_" + "a" * 43, "sa_" + "b" * 32, "sd_" + "c" * 43, hash_password("a password"),
    ):  # fmt: skip
        assert without_secrets(f"it said {secret} there") == "it said [secret] there"
    assert without_secrets("GET /api/v1/files/a.txt 200") == "GET /api/v1/files/a.txt 200"


def test_check_backup_and_restore(own: RunningServer, tmp_path: Path) -> None:
    own.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{own.port}/api/v1") as client:
        log_in(client)
        client.put("/files/a", content=b"to be kept")
        assert own.tool("check").returncode == 0
        saved = own.tool("backup", str(tmp_path / "backup"))
        assert saved.returncode == 0, saved.stderr
        client.put("/files/a", content=b"lost by the restore")
    own.stop()
    restored = RunningServer(tmp_path / "backup", {"free_space_floor": "0"})
    restored.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{restored.port}/api/v1") as client:
        log_in(client)
        assert client.get("/files/a").content == b"to be kept"
    restored.stop()


def test_check_finds_damage_and_repair_puts_it_aside(own: RunningServer) -> None:
    own.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{own.port}/api/v1") as client:
        log_in(client)
        content = client.put("/files/a", content=b"will be damaged").json()["content"]
        blob = next(own.data.glob(f"blobs/*/{content}"))
        blob.chmod(0o600)
        blob.write_bytes(b"was damaged....")
        checked = own.tool("check")
        assert checked.returncode == 1
        assert content in checked.stdout
        assert httpx.get(f"http://127.0.0.1:{own.port}/healthz").json()["last_check_ok"] is False
    own.stop()
    assert "put aside 1" in own.tool("repair").stdout
    assert own.tool("gc").returncode == 0
    own.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{own.port}/api/v1") as client:
        log_in(client)
        assert client.get("/files/a").status_code in {404, 410, 503}
        assert client.put("/files/a", content=b"will be damaged").status_code in {200, 201}
        assert client.get("/files/a").content == b"will be damaged"


def test_repair_beside_a_running_server_is_refused(own: RunningServer) -> None:
    own.start()
    for command in ("repair", "gc"):
        done = own.tool(command)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


def test_metrics_open_with_their_token_only(own: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    own.extra["SYNC_SERVER_METRICS_TOKEN_FILE"] = str(tmp_path / "token")
    own.start()
    url = f"http://127.0.0.1:{own.port}/metrics"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"authorization": "Bearer 0123456789abcdee"}).status_code == 401
    assert httpx.get(url, headers={"authorization": "Bearer 0123456789abcdef"}).status_code == 200


def test_a_full_disk_is_told_by_health(own: RunningServer) -> None:
    own.settings["free_space_floor"] = "900T"
    own.start()
    health = httpx.get(f"http://127.0.0.1:{own.port}/healthz")
    assert (health.status_code, health.json()["status"]) == (503, "disk-full")
    with httpx.Client(base_url=f"http://127.0.0.1:{own.port}/api/v1") as client:
        log_in(client)
        assert client.put("/files/a", content=b"1").status_code == 507


def test_the_docs_can_be_kept_private(own: RunningServer) -> None:
    own.settings["docs"] = "false"
    own.start()
    for path in ("/docs", "/openapi.json"):
        assert httpx.get(f"http://127.0.0.1:{own.port}{path}").status_code == 404


def test_it_serves_ipv6(own: RunningServer) -> None:
    own.settings["host"] = "::1"
    own.start()
    assert httpx.get(f"http://[::1]:{own.port}/healthz").status_code == 200


def test_an_interrupted_start_leaves_nothing_listening(own: RunningServer) -> None:
    own.start()
    assert own.process is not None
    own.process.send_signal(signal.SIGINT)
    assert own.process.wait(10) == 0
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", own.port), 1):
        pass


def test_a_database_that_cannot_be_read_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "db.sqlite3").write_bytes(b"this is no database at all" * 400)
    for words in (("check",), ("user", "list"), ("backup", str(tmp_path.with_name("copy")))):
        done = _run(*words, "--data-dir", str(tmp_path))
        assert done.returncode == 1, words
        assert "Traceback" not in done.stderr, words
        assert "database" in done.stderr + done.stdout, words
    assert json.loads((tmp_path / "last-check.json").read_text())["ok"] is False


def test_a_password_file_that_is_no_text_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"\xff\xfe\x00")
    done = _run("user", "add", "x", "--password-file", str(tmp_path / "password"), "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_systemd_is_told_when_it_is_ready_and_when_it_stops(own: RunningServer, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(5)
        own.extra["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        own.start()
        assert systemd.recv(100) == b"READY=1"
        assert own.stop() == 0
        assert systemd.recv(100) == b"STOPPING=1"


def test_a_backup_by_root_does_not_stop_the_collection(own: RunningServer, tmp_path: Path) -> None:
    os.chown(own.data, 65534, 65534)
    assert own.tool("backup", str(tmp_path / "copy")).returncode == 0
    assert (own.data / "backup.lock").stat().st_uid == 65534


@pytest.mark.parametrize("words", [("device", "list"), ("user", "list"), ("user", "quota", "alice", "1G"), ("gc",)])
def test_a_mistyped_folder_is_told_and_not_made(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = _run(*words, "--data-dir", str(tmp_path / "typo"))
    assert done.returncode == 1
    assert "there is no store in" in done.stderr
    assert not (tmp_path / "typo").exists()
