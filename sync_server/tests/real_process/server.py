"""A real `sync-server` process on a data folder: started, killed, started again; and the way to speak to it."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sync_protocol.hashing import blob_id
from sync_protocol.types import ChangesPage, CommitAnswer, CommitRequest, NodeEntry, Snapshot, VersionList

PASSWORD = "correct horse battery"
T = TypeVar("T")


class Unreachable(Exception):
    """No answer came: whether the server did it is unknown."""


class Refused(AssertionError):
    """The server answered, and not what was expected."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body[:500]!r}")
        self.status = status


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "sync_server", *map(str, arguments)]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SYNC_SERVER_")}
    folders = [(extra or {}).get("PYTHONPATH", ""), kept.get("PYTHONPATH", "")]
    return {**kept, **(extra or {}), "PYTHONPATH": os.pathsep.join(folder for folder in folders if folder)}


@dataclass
class RunningServer:
    """`settings` are those of the configuration, by name."""

    data: Path
    settings: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    # A program that runs it: strace.
    wrap: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    def start(self) -> None:
        log = self.data.parent / f"{self.data.name}.log"
        begin = log.stat().st_size if log.exists() else 0
        flags = {"free_space_floor": "0", "host": "127.0.0.1", "port": str(self.port), **self.settings}
        words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", value)]
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [*self.wrap, *command("serve", "--data-dir", self.data, *words)],
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                env=environment(self.extra),
                process_group=0,
            )
        # A test that fails leaves none behind.
        atexit.register(_end, self.process)
        for _ in range(600):
            with log.open("rb") as read:
                read.seek(begin)
                for line in read:
                    try:
                        said = json.loads(line)
                    except ValueError:
                        continue
                    if said.get("message") == "listening":
                        self.port = said["port"]
                        return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"the server did not start:\n{self.said()}")

    def kill(self) -> None:
        """SIGKILL, to everything it started."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"SIGTERM did not end it:\n{self.said()}") from None
        return self.process.returncode

    def said(self) -> str:
        log = self.data.parent / f"{self.data.name}.log"
        return log.read_text(errors="replace")[-6000:] if log.exists() else ""

    def tool(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run another command of `sync-server` on the same data folder."""
        return subprocess.run(
            command(*arguments, "--data-dir", self.data),
            input=given,
            capture_output=True,
            text=True,
            env=environment(self.extra),
            check=False,
            timeout=120,
        )

    def add_user(self, name: str) -> None:
        done = self.tool("user", "add", name, given=PASSWORD + "\n")
        assert done.returncode == 0, done.stdout + done.stderr

    def connect(self, token: str = "") -> Connection:
        return Connection(self.port, token)

    def login(self, user: str, device: str) -> Connection:
        connection = self.connect()
        answer = connection.send(
            "POST", "/auth/login", json.dumps({"user": user, "password": PASSWORD, "device": device}).encode()
        )
        assert answer.status == 200, (answer.status, answer.body, self.said())
        tokens = answer.json()
        connection.token, connection.refresh = tokens["access_token"], tokens["refresh_token"]
        return connection


class Connection:
    """One device's way to the server, by HTTP."""

    def __init__(self, port: int, token: str = "") -> None:
        self.port, self.token = port, token
        self.refresh = ""
        self._kept: http.client.HTTPConnection | None = None

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        under: str = "/api/v1",
        timeout: float = 30,
    ) -> Answer:
        """Raises Unreachable when no whole answer came."""
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent |= headers or {}
        try:
            if self._kept is None or self._kept.port != self.port:
                self.close()
                self._kept = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
            # A body may be refused before all of it was sent: the answer is there all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._kept.request(method, under + path, body, sent)
            answer = self._kept.getresponse()
            return Answer(answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(repr(error)) from error

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def ask(self, kind: type[T], method: str, path: str, body: bytes | None = None) -> T:
        answer = self.send(method, path, body)
        if answer.status != 200:
            raise Refused(answer.status, answer.body)
        return msgspec.json.decode(answer.body, type=kind)

    # --- what a syncing device asks --------------------------------------------------------------------------------

    def changes(self, cursor: str | None, limit: int) -> ChangesPage:
        return self.ask(ChangesPage, "GET", f"/changes?limit={limit}" + (f"&cursor={cursor}" if cursor else ""))

    def commit(self, request: CommitRequest) -> CommitAnswer:
        return self.ask(CommitAnswer, "POST", "/commit", msgspec.json.encode(request))

    def put_blob(self, data: bytes) -> str:
        name = blob_id(data)
        answer = self.send("PUT", f"/blobs/{name}", data, {"Content-Type": "application/octet-stream"})
        if answer.status not in {200, 201}:
            raise Refused(answer.status, answer.body)
        return name

    def get_blob(self, name: str) -> bytes | None:
        answer = self.send("GET", f"/blobs/{name}")
        if answer.status not in {200, 404}:
            raise Refused(answer.status, answer.body)
        return answer.body if answer.status == 200 else None

    def snapshot(self) -> dict[str, NodeEntry]:
        entries: dict[str, NodeEntry] = {}
        page: str | None = None
        while True:
            got = self.ask(Snapshot, "GET", "/snapshot?limit=7" + (f"&page={page}" if page else ""))
            entries |= {entry.id: entry for entry in got.entries}
            page = got.next
            if page is None:
                return entries

    def versions(self, node: str) -> list[str]:
        return [one.content for one in self.ask(VersionList, "GET", f"/nodes/{node}/versions").versions]

    def put_file(self, path: str, data: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        return self.send("PUT", f"/files/{path}", data, {"Content-Type": "application/octet-stream", **(headers or {})})
