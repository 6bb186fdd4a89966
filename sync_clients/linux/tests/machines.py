# SPDX-License-Identifier: GPL-3.0-or-later
"""Real processes for the tests: the server, daemons as on machines of their own, and a cable that can be cut."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contents import content

from sync_client import control

OWN = ".sync-client"
PASSWORD = "correct horse battery"
_SERVER = Path(sys.executable).with_name("sync-server")
_CLIENT = Path(sys.executable).with_name("sync-client")


def eventually(what: Callable[[], bool], seconds: float = 30, why: str | Callable[[], object] = "") -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {why() if callable(why) else why}")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Server:
    """A real sync server on a port of its own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.options: list[str] = []
        self.accounts = 0
        data.mkdir(parents=True, exist_ok=True)

    def revoke(self, account: Account) -> None:
        """Cut off every device of an account."""
        listed = subprocess.run(
            [_SERVER, "device", "list", account.name, "--data-dir", self.data],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for number in re.findall(r"^\s*(\d+)\s", listed, re.MULTILINE):
            subprocess.run(
                [_SERVER, "device", "revoke", number, "--data-dir", self.data], check=True, capture_output=True
            )

    def account(self, *options: str) -> Account:
        self.accounts += 1
        name = f"user{self.accounts}"
        self.add_user(name, PASSWORD, *options)
        return Account(self.url, name)

    def add_user(self, name: str, password: str, *options: str) -> None:
        subprocess.run(
            [_SERVER, "user", "add", name, "--data-dir", self.data, *options],
            input=password.encode() + b"\n",
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        self.log = (self.data.parent / f"server-{self.port}.log").open("ab")
        self.process = subprocess.Popen(
            [_SERVER, "serve", "--data-dir", self.data, "--port", str(self.port), *self.options],
            stdout=self.log,
            stderr=self.log,
        )
        eventually(self._answers, 30, lambda: (self.data.parent / f"server-{self.port}.log").read_text()[-2000:])

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
            self.process = None


@dataclass
class Account:
    """Somebody with an account of their own on a server."""

    url: str
    name: str


class Machine:
    """A computer of its own: home, folder, daemon; `client` is how the program is called there."""

    def __init__(self, home: Path, name: str, *, client: Sequence[str | Path] = (_CLIENT,)) -> None:
        self.home = home
        self.name = name
        self.client = client
        self.folder = home / "Sync"
        self.process: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)
        self.env = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "XDG_RUNTIME_DIR": str(home / "run"),
            "SYNC_CLIENT_KEYRING": "off",
            "LANG": "C.UTF-8",
        }
        (home / "run").mkdir(exist_ok=True)

    def run(self, *arguments: str | Path, input: str = "", ok: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.client, *map(str, arguments)],
            env=self.env,
            input=input,
            text=True,
            capture_output=True,
            timeout=120,
            cwd=self.home,
        )
        if ok:
            assert done.returncode == 0, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    def login(self, account: Account, *options: str | Path, url: str = "") -> None:
        where = url or account.url
        self.run(
            "login",
            where,
            "--user",
            account.name,
            "--password-stdin",
            "--device",
            self.name,
            *options,
            input=PASSWORD + "\n",
        )

    def join(self, account: Account, *options: str | Path, url: str = "") -> None:
        self.login(account, *options, url=url)
        self.run("init", self.folder)

    def start(self, **env: str) -> None:
        self.process = subprocess.Popen(
            [*self.client, "start"], env=self.env | env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        eventually(self._up, 20, "the daemon does not come up")

    def _up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.process.stderr and self.process.stderr.read().decode()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.home / "run" / "sync-client" / "default.sock"))
            return True
        return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
            finally:
                if self.process.stderr is not None:
                    self.process.stderr.close()
                self.process = None

    def status(self) -> dict[str, Any]:
        # Straight from the daemon: a process for each look would take most of the time of the tests.
        answer = control.ask(self.home / "run" / "sync-client" / "default.sock", {"do": "status"}, timeout=60)
        assert answer is not None
        return answer

    def sync(self) -> None:
        done = self.run("sync", ok=False)
        assert done.returncode in (0, 11), done

    def log(self) -> str:
        file = self.home / ".local" / "state" / "sync-client" / "default" / "log"
        return file.read_text() if file.exists() else ""

    def files(self) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        for top, dirs, files in os.walk(self.folder):
            if Path(top) == self.folder and OWN in dirs:
                dirs.remove(OWN)
            with contextlib.suppress(FileNotFoundError):
                for name in dirs + files:
                    path = Path(top) / name
                    found[str(path.relative_to(self.folder))] = content(path)
        return found

    def write(self, path: str, content: bytes | str) -> Path:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    def has(self, path: str, content: bytes | str) -> bool:
        expected = content.encode() if isinstance(content, str) else content
        with contextlib.suppress(OSError):
            return (self.folder / path).read_bytes() == expected
        return False


def equal(*machines: Machine, seconds: float = 60) -> None:
    """Wait until the folders are equal and everybody rests."""

    def check() -> bool:
        trees = [machine.files() for machine in machines]
        if any(tree != trees[0] for tree in trees):
            return False
        for machine in machines:
            state = machine.status()
            if state["waiting"] or not state["state"].startswith("up to date"):
                return False
        return [machine.files() for machine in machines] == trees

    def why() -> str:
        names = [{path: body and body[:40] for path, body in machine.files().items()} for machine in machines]
        odd = {p for tree in names for p in tree if any(other.get(p, 0) != tree[p] for other in names)}
        return f"{sorted(odd)[:20]} {[machine.status() for machine in machines]} {machines[0].log()[-1500:]}"

    eventually(check, seconds, why)


class Cable:
    """A TCP proxy between a machine and the server that can be cut, and counts what goes through."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.up = True
        self.refused = 0
        self.sent = 0
        self.received = 0
        self._pairs: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.up = False
        for end in list(self._pairs):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._pairs.clear()

    def mend(self) -> None:
        self.up = True

    def hiccup(self, refused: int) -> None:
        """Break what is under way and refuse so many connections; then all is well again."""
        self.refused = refused
        self.cut()
        self.mend()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.refused or not self.up:
                self.refused = max(0, self.refused - 1)
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._pairs |= {near, far}
            threading.Thread(target=self._pump, args=(near, far, "sent"), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, "received"), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, count: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
                setattr(self, count, getattr(self, count) + len(data))
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def conflict_copies(machine: Machine) -> list[str]:
    return sorted(path for path in machine.files() if re.search(r"\.sync-conflict-\d{8}-\d{6}-", path))


def empty(folder: Path) -> None:
    for item in folder.iterdir():
        if item.name == OWN:
            continue
        shutil.rmtree(item) if item.is_dir() else item.unlink()
