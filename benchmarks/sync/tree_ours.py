"""Whole trees kept the same by sync-client and sync-server, over loopback."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sync.processes import Started, children_cpu_seconds, start
from benchmarks.sync.product import PASSWORD, USER, Server, client_environment, start_server
from benchmarks.sync.tree_peers import TreeCosts, count_files, latencies, make_tree

MB = 1_000_000


class Counting:
    """A TCP proxy that counts what goes up and down."""

    def __init__(self, target: int) -> None:
        self.target, self.up, self.down = target, 0, 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            for source, sink, counted in ((client, server, "up"), (server, client, "down")):
                threading.Thread(target=self._copy, args=(source, sink, counted), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, counted: str) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                setattr(self, counted, getattr(self, counted) + len(piece))
                sink.sendall(piece)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@dataclass
class Device:
    """A home of its own: settings, state and the folder that is kept in step."""

    program: Path
    home: Path
    tree: Path

    def run(self, *arguments: str, given: str = "") -> str:
        done = subprocess.run(
            [self.program, *arguments],
            env=client_environment(self.home),
            input=given,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode:
            raise SystemExit(
                f"sync-client {' '.join(arguments)} ended with {done.returncode}:\n"
                f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return done.stdout

    def set_up(self, port: int) -> None:
        self.tree.mkdir(parents=True, exist_ok=True)
        address = f"http://127.0.0.1:{port}"
        self.run(
            "login", address, "--user", USER, "--password-stdin", "--device", self.home.name, given=PASSWORD + "\n"
        )
        self.run("init", str(self.tree))

    def sync(self) -> float:
        began = time.monotonic()
        self.run("sync")
        return time.monotonic() - began

    @contextmanager
    def daemon(self, folder: Path) -> Iterator[Started]:
        started = start(
            f"sync-client {self.home.name}",
            [self.program, "start"],
            folder,
            environment=client_environment(self.home),
            cpu=None,
        )
        try:
            yield started
        finally:
            started.stop()


def sync(server_program: Path, client_program: Path, folder: Path, files: int, times: int) -> TreeCosts:
    """One device sends a tree, a second one gets it; then both run as daemons."""
    server = start_server(server_program, folder, cpu=None, name="tree-server")
    one = Device(client_program, folder / "home-one", folder / "tree-one")
    two = Device(client_program, folder / "home-two", folder / "tree-two")
    try:
        for device in (one, two):
            device.set_up(server.port)
        make_tree(one.tree, files)
        children, before = children_cpu_seconds(), server.started.cpu_seconds()
        up = one.sync()
        cpu = children_cpu_seconds() - children + server.started.cpu_seconds() - before
        down = two.sync()
        if count_files(two.tree) != files:
            names = {path.name for path in two.tree.rglob("*")} - {path.name for path in one.tree.rglob("*")}
            raise SystemExit(f"{count_files(two.tree)} of {files} files arrived; new names: {sorted(names)[:5]}")
        nothing = min(one.sync() for _ in range(5))
        with one.daemon(folder) as first, two.daemon(folder):
            time.sleep(5)
            found = latencies(one.tree, two.tree, times, 0.3)
            time.sleep(5)
            idle = first.memory()
            before = first.cpu_seconds()
            time.sleep(20)
            idle_cpu = first.cpu_seconds() - before
        remark = f"up {up:.1f} s, then down to the second device {down:.1f} s; idle {idle_cpu:.2f} CPU-s in 20 s"
        return TreeCosts(up, cpu, nothing, found, idle, server.started.memory(), remark)
    finally:
        server.started.stop()


def many_files(server_program: Path, client_program: Path, folder: Path, files: int) -> TreeCosts:
    """The daemon's memory with many files; the first sync is its own."""
    server = start_server(server_program, folder, cpu=None, name=f"tree-server-{files}")
    device = Device(client_program, folder / f"home-{files}", folder / f"tree-{files}")
    try:
        device.set_up(server.port)
        make_tree(device.tree, files, folders=files // 50)
        children, before = children_cpu_seconds(), server.started.cpu_seconds()
        up = device.sync()
        cpu = children_cpu_seconds() - children + server.started.cpu_seconds() - before
        nothing = min(device.sync() for _ in range(3))
        with device.daemon(folder) as started:
            time.sleep(15)
            return TreeCosts(up, cpu, nothing, None, started.memory(), server.started.memory())
    finally:
        server.started.stop()


@dataclass
class Delta:
    """One byte changed in the middle of a large file."""

    size: int
    first_wire: int
    wire: int
    seconds: float

    @property
    def share(self) -> float:
        return self.wire / self.size


def one_byte(server_program: Path, client_program: Path, folder: Path, size: int) -> Delta:
    server: Server = start_server(server_program, folder, cpu=None, name="delta-server")
    proxy = Counting(server.port)
    device = Device(client_program, folder / "home-delta", folder / "tree-delta")
    try:
        device.set_up(proxy.port)
        big = device.tree / "big.bin"
        with big.open("wb") as out:
            for number in range(size // MB):
                # Fast noise that no two megabytes share.
                out.write(hashlib.shake_128(str(number).encode()).digest(MB))
        device.sync()
        first = proxy.up + proxy.down
        time.sleep(2.5)
        with big.open("r+b") as out:
            out.seek(size // 2)
            byte = out.read(1)
            out.seek(size // 2)
            out.write(bytes([byte[0] ^ 1]))
        before = proxy.up + proxy.down
        seconds = device.sync()
        wire = proxy.up + proxy.down - before
        # What arrived is what is here.
        check = Device(client_program, folder / "home-check", folder / "tree-check")
        check.set_up(server.port)
        check.sync()
        if _digest(check.tree / "big.bin") != _digest(big):
            raise SystemExit("the file that arrived is another one")
        shutil.rmtree(check.tree)
        return Delta(size, first, wire, seconds)
    finally:
        proxy.close()
        server.started.stop()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
