"""What is measured: sync-server and sync-client as a user installs them, in environments of their own."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sync.contestants import NODES, Contestant
from benchmarks.sync.packages import PYTHON
from benchmarks.sync.processes import Started, free_port, start, wait_for_port

PROJECT = Path(__file__).resolve().parents[2]
USER, PASSWORD = "bench", "a password for the benchmark"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def uv(*arguments: str | Path) -> None:
    found = Path(sys.executable).parent / "uv"
    program = found if found.exists() else PROJECT / ".venv" / "bin" / "uv"
    subprocess.run([program, *arguments], check=True, cwd=PROJECT, stdout=subprocess.DEVNULL)


def build(cache: Path, name: str, packages: Sequence[str], locked: str) -> Path:
    """An environment with what the package needs and nothing more: test tools would change its memory.

    On the distribution's Python, which was compiled with profiles as that of the images is. Without them, as people
    compile it for themselves, a request costs a quarter more. Modules are compiled on installing, as pip does.
    """
    folder = cache / name
    uv("venv", "--quiet", "--clear", "--python", PYTHON, folder)
    python = folder / "bin" / "python"
    into = ("--quiet", "--compile-bytecode", "--python", python)
    uv("pip", "sync", "--require-hashes", *into, PROJECT / locked)
    for package in packages:
        uv("pip", "install", "--no-deps", "--reinstall", *into, PROJECT / package)
    return folder / "bin"


def build_server(cache: Path) -> Path:
    return build(cache, "server", ["sync_protocol", "sync_server"], "sync_server/requirements.txt") / "sync-server"


def build_client(cache: Path) -> Path:
    own = "sync_clients/linux/requirements.txt"
    locked = own if (PROJECT / own).exists() else "sync_server/requirements-dev.txt"
    return build(cache, "client", ["sync_protocol", "sync_clients/linux"], locked) / "sync-client"


@dataclass
class Server:
    """Our server on an empty data folder, with one account."""

    started: Started
    port: int
    data: Path

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, "/api/v1" + path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if answer.status >= 400:
            raise SystemExit(f"sync-server answered {answer.status} to {method} {path}: {data!r}")
        return json.loads(data) if data else None

    def login(self, device: str) -> str:
        answer = self.call("POST", "/auth/login", {"user": USER, "password": PASSWORD, "device": device})
        token: str = answer["access_token"]
        return token

    def fill(self, token: str, count: int) -> list[str]:
        """Make nodes, 200 to a folder; returns their ids."""
        found: list[str] = []
        for begin in range(0, count, 1000):
            ops: list[dict[str, object]] = []
            for folder in range(min(5, (count - begin) // 200)):
                at = len(ops)
                ops.append({"op": "mkdir", "parent": "root", "name": f"folder {begin}-{folder}"})
                ops += [
                    {"op": "put", "parent": f"@{at}", "name": f"file-{n}.txt", "blobs": [], "size": 0, "mtime": 0}
                    for n in range(199)
                ]
            answer = self.call("POST", "/commit", {"op_id": f"fill-{begin:08}", "ops": ops}, token)
            found += [result["node"] for result in answer["results"]]
        return found


def start_server(
    program: Path, folder: Path, *, cpu: str | None = "0", wrap: Sequence[str] = (), name: str = "sync-server"
) -> Server:
    data, port = folder / f"{name}-data", free_port()
    subprocess.run(
        [program, "user", "add", USER, "--data-dir", data],
        input=PASSWORD + "\n",
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    command = [*wrap, str(program), "serve", "--data-dir", str(data), "--port", str(port)]
    # A benchmark lasts longer than the ten minutes of an access token.
    command += ["--access-token-seconds", "3600", "--free-space-floor", "0"]
    started = start(name, command, folder, cpu=cpu)
    wait_for_port(port, started)
    return Server(started, port, data)


def contestant(program: Path, folder: Path) -> Contestant:
    server = start_server(program, folder)
    # Idle is what a server that was just started has, with nobody there.
    time.sleep(2)
    idle = server.started.memory()
    token = server.login("benchmark")
    ids = server.fill(token, NODES)
    base = f"http://127.0.0.1:{server.port}/api/v1"
    one = Contestant(
        "sync-server",
        server.started,
        small=base + "/nodes/{id}",
        file=base + "/files/{name}",
        headers={"Authorization": f"Bearer {token}"},
        ids=ids,
        remark="token, SQLite row; SHA-256, cut into blobs, fsync",
    )
    one.idle = idle
    return one


def client_environment(home: Path) -> dict[str, str]:
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("XDG_", "SYNC_", "DBUS_"))}
    return {**kept, "HOME": str(home), "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
