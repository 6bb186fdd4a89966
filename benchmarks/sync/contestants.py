"""The servers compared: each can be asked for one small thing, given a file and asked for it back."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.sync.processes import Memory, Started, free_port, start, wait_for_port

HERE = Path(__file__).resolve().parent
# As many rows as the Gin reference fills in.
NODES = 20_000


@dataclass
class Contestant:
    """A running server and the addresses of the three jobs; `{id}` and `{name}` stand for what varies."""

    name: str
    started: Started
    small: str
    file: str
    headers: dict[str, str] = field(default_factory=dict)
    # Ids of what `small` names; without them the address is taken as it is.
    ids: list[str] = field(default_factory=list)
    uploads: bool = True
    remark: str = ""
    # Measured before anything was asked of it; None: when the jobs begin.
    idle: Memory | None = None


def token(key: str) -> str:
    """A JSON web token as sync-server issues them, for the reference that shares its key with us."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    claims = {"sub": "1", "device": 1, "epoch": 1, "scope": "files", "exp": int(time.time()) + 86_400}
    signed = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps(claims).encode())
    return signed + "." + part(hmac.new(key.encode(), signed.encode(), hashlib.sha256).digest())


def build_gin(cache: Path) -> Path:
    """Compile the reference from Debian's packages of Go alone: no module is fetched."""
    binary = cache / "gin_reference"
    if not binary.exists() or binary.stat().st_mtime < (HERE / "gin_reference" / "main.go").stat().st_mtime:
        environment = {
            **os.environ,
            "GO111MODULE": "off",
            "GOPATH": "/usr/share/gocode",
            "GOCACHE": str(cache / "go-build"),
        }
        subprocess.run(["go", "build", "-o", binary, "."], cwd=HERE / "gin_reference", env=environment, check=True)
    return binary


def gin(folder: Path, cache: Path) -> Contestant:
    port, key = free_port(), "k" * 32
    data = folder / "gin"
    data.mkdir()
    started = start("Gin reference", [build_gin(cache), f"127.0.0.1:{port}", data, key], folder)
    wait_for_port(port, started)
    base = f"http://127.0.0.1:{port}"
    return Contestant(
        "Gin reference",
        started,
        small=base + "/nodes/{id}",
        file=base + "/files/{name}",
        headers={"Authorization": f"Bearer {token(key)}"},
        ids=[f"n{number}" for number in range(NODES)],
        remark="token, SQLite row; SHA-256 and fsync",
    )


def nginx(folder: Path) -> Contestant:
    port = free_port()
    data = folder / "nginx"
    (data / "files").mkdir(parents=True)
    # Its worker drops to another user.
    folder.chmod(0o755)
    for part in (data, data / "files"):
        part.chmod(0o777)
    (data / "files" / "small.json").write_text(json.dumps({"id": "n1", "name": "file-1.txt", "hash": "ab" * 32}))
    (data / "nginx.conf").write_text(
        f"""
        daemon off; worker_processes 1; pid {data}/nginx.pid; error_log {data}/error.log;
        events {{ worker_connections 1024; }}
        http {{
            access_log off; sendfile on; client_max_body_size 0;
            client_body_temp_path {data}/body; proxy_temp_path {data}/proxy; fastcgi_temp_path {data}/fastcgi;
            uwsgi_temp_path {data}/uwsgi; scgi_temp_path {data}/scgi;
            server {{ listen 127.0.0.1:{port}; root {data}/files;
                      location / {{ dav_methods PUT DELETE MKCOL; dav_access user:rw; }} }}
        }}
        """
    )
    started = start("nginx DAV", ["/usr/sbin/nginx", "-c", data / "nginx.conf", "-p", data], folder)
    wait_for_port(port, started)
    base = f"http://127.0.0.1:{port}"
    return Contestant(
        "nginx DAV", started, small=base + "/small.json", file=base + "/{name}", remark="no token, no hash, no fsync"
    )


def rclone(folder: Path) -> Contestant:
    port = free_port()
    data = folder / "rclone"
    data.mkdir()
    (data / "small.json").write_text(json.dumps({"id": "n1", "name": "file-1.txt", "hash": "ab" * 32}))
    started = start(
        "rclone serve webdav",
        ["rclone", "--config", "/dev/null", "serve", "webdav", data, "--addr", f"127.0.0.1:{port}",
         "--user", "bench", "--pass", "bench"],
        folder,
    )  # fmt: skip
    wait_for_port(port, started)
    base = f"http://127.0.0.1:{port}"
    return Contestant(
        "rclone serve webdav",
        started,
        small=base + "/small.json",
        file=base + "/{name}",
        headers={"Authorization": "Basic " + base64.b64encode(b"bench:bench").decode()},
        remark="Basic authentication, no hash, no fsync",
    )
