"""Whole trees kept the same by other programs: Syncthing, Unison, rclone bisync."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sync.processes import Memory, Started, children_cpu_seconds, free_port, start, wait_for_port

FILES, FOLDERS, SIZE = 10_000, 200, 4096


@dataclass
class TreeCosts:
    """Seconds of the jobs and memory of the side that stays; None: not measured or not finished."""

    first: float | None = None
    # CPU time of both sides in the first sync: other load on the machine hardly changes it.
    first_cpu: float | None = None
    nothing: float | None = None
    latency: list[float] | None = None
    client: Memory | None = None
    server: Memory | None = None
    remark: str = ""


def make_tree(folder: Path, files: int = FILES, folders: int = FOLDERS) -> None:
    """Files of 4 KB that differ, spread evenly."""
    for number in range(folders):
        (folder / f"folder-{number:04}").mkdir(parents=True)
    for number in range(files):
        path = folder / f"folder-{number % folders:04}" / f"file-{number:06}.bin"
        path.write_bytes(os.urandom(SIZE))


def count_files(folder: Path) -> int:
    """Without what the programs keep for themselves, which begins with a dot."""
    found = 0
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += sum(1 for name in files if not name.startswith("."))
    return found


def until(true: Callable[[], bool], seconds: float, every: float = 0.02) -> float:
    """Seconds until it is true; raises TimeoutError after `seconds`."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > seconds:
            raise TimeoutError
        time.sleep(every)
    return time.monotonic() - began


def latencies(source: Path, target: Path, times: int, settle: float = 0.0) -> list[float]:
    """Seconds from the write of one 4 KB file until the other folder has its bytes."""
    found = []
    for number in range(times):
        name, content = f"latency-{number}.bin", os.urandom(SIZE)
        (source / name).write_bytes(content)
        arrived = target / name
        # The function is asked within this turn of the loop only.
        found.append(until(lambda: arrived.exists() and arrived.read_bytes() == content, 60, 0.002))  # noqa: B023
        time.sleep(settle)
    return found


def unison(folder: Path, files: int) -> TreeCosts:
    """One-shot runs over a socket; nothing stays running but the server."""
    port = free_port()
    source, target = folder / "unison-a", folder / "unison-b"
    make_tree(source, files)
    target.mkdir()
    homes = {side: folder / f"unison-home-{side}" for side in ("client", "server")}
    server = start(
        "Unison", ["unison", "-socket", str(port)], folder, environment={"UNISON": str(homes["server"])}, cpu=None
    )
    wait_for_port(port, server)

    def run() -> float:
        began = time.monotonic()
        subprocess.run(
            ["unison", source, f"socket://127.0.0.1:{port}/{target}", "-batch", "-auto", "-ui", "text", "-silent"],
            env={**os.environ, "UNISON": str(homes["client"])},
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        return time.monotonic() - began

    try:
        children, before = children_cpu_seconds(), server.cpu_seconds()
        first = run()
        cpu = children_cpu_seconds() - children + server.cpu_seconds() - before
        if count_files(target) != files:
            raise SystemExit("Unison did not copy every file")
        return TreeCosts(first, cpu, min(run() for _ in range(5)), None, None, server.memory(), "runs on demand")
    finally:
        server.stop()


def rclone_bisync(folder: Path, files: int) -> TreeCosts:
    """Runs on demand, over `rclone serve sftp`: bisync refuses a WebDAV server that keeps no modification times."""
    port = free_port()
    source, target = folder / "bisync-a", folder / "bisync-b"
    make_tree(source, files)
    target.mkdir()
    (source / "RCLONE_TEST").touch()
    server = start(
        "rclone serve sftp",
        ["rclone", "--config", "/dev/null", "serve", "sftp", target, "--addr", f"127.0.0.1:{port}",
         "--user", "bench", "--pass", "bench", "--cache-dir", folder / "rclone-cache"],
        folder,
        environment={"HOME": str(folder)},
        cpu=None,
    )  # fmt: skip
    wait_for_port(port, server)
    hidden = subprocess.run(["rclone", "obscure", "bench"], capture_output=True, text=True, check=True).stdout.strip()
    remote = f":sftp,host=127.0.0.1,port={port},user=bench,pass={hidden},shell_type=none:"
    command = ["rclone", "--config", "/dev/null", "bisync", str(source), remote, "--workdir", str(folder / "bisync")]

    def run(*arguments: str) -> float:
        began = time.monotonic()
        done = subprocess.run(
            [*command, "--transfers", "8", "--checkers", "8", *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"rclone bisync failed: {done.stderr[-2000:]}")
        return time.monotonic() - began

    try:
        children, before = children_cpu_seconds(), server.cpu_seconds()
        first = run("--resync")
        cpu = children_cpu_seconds() - children + server.cpu_seconds() - before
        nothing = min(run() for _ in range(3))
        return TreeCosts(first, cpu, nothing, None, None, server.memory(), "runs on demand, over SFTP")
    except subprocess.TimeoutExpired:
        return TreeCosts(server=server.memory(), remark="first run not done in 300 s")
    finally:
        server.stop()


class Syncthing:
    """One instance that talks to nobody but the other one."""

    def __init__(self, name: str, folder: Path) -> None:
        self.home, self.tree = folder / f"syncthing-{name}", folder / f"syncthing-tree-{name}"
        self.tree.mkdir(parents=True, exist_ok=True)
        (self.tree / ".stfolder").mkdir()
        self.gui, self.port = free_port(), free_port()
        self.name = name
        subprocess.run(
            ["syncthing", "generate", f"--home={self.home}", "--no-default-folder", "--skip-port-probing"],
            check=True,
            capture_output=True,
        )
        shown = subprocess.run(
            ["syncthing", f"--home={self.home}", "--device-id"], check=True, capture_output=True, text=True
        )
        self.device = shown.stdout.strip()
        self.started: Started | None = None

    def configure(self, other: Syncthing) -> None:
        path = self.home / "config.xml"
        document = ElementTree.parse(path)
        root = document.getroot()
        gui = root.find("gui")
        options = root.find("options")
        assert gui is not None
        assert options is not None
        _set(gui, "address", f"127.0.0.1:{self.gui}")
        _set(gui, "apikey", "bench")
        for option, value in {
            "listenAddress": f"tcp://127.0.0.1:{self.port}",
            "globalAnnounceEnabled": "false",
            "localAnnounceEnabled": "false",
            "relaysEnabled": "false",
            "natEnabled": "false",
            "crashReportingEnabled": "false",
            "urAccepted": "-1",
            "autoUpgradeIntervalH": "0",
            "startBrowser": "false",
        }.items():
            _set(options, option, value)
        device = ElementTree.SubElement(root, "device", {"id": other.device, "name": other.name})
        _set(device, "address", f"tcp://127.0.0.1:{other.port}")
        share = ElementTree.SubElement(
            root,
            "folder",
            {"id": "bench", "label": "bench", "path": str(self.tree), "type": "sendreceive",
             "rescanIntervalS": "3600", "fsWatcherEnabled": "true", "fsWatcherDelayS": "1"},
        )  # fmt: skip
        for one in (self.device, other.device):
            ElementTree.SubElement(share, "device", {"id": one})
        document.write(path)

    def start(self, folder: Path) -> None:
        self.started = start(
            f"Syncthing {self.name}",
            ["syncthing", "serve", f"--home={self.home}", "--no-browser", "--no-upgrade", "--no-restart"],
            folder,
            environment={"STNODEFAULTFOLDER": "1", "HOME": str(folder)},
            cpu=None,
        )

    def ask(self, path: str, *, method: str = "GET") -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.gui}/rest/{path}", headers={"X-API-Key": "bench"}, method=method
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read() or b"{}")

    def idle(self) -> bool:
        return bool(self.ask("db/status?folder=bench").get("state") == "idle")

    def meets(self, other: Syncthing) -> bool:
        try:
            return bool(self.ask("system/connections")["connections"][other.device]["connected"])
        except (OSError, KeyError):
            return False

    def scan(self) -> float:
        began = time.monotonic()
        self.ask("db/scan?folder=bench", method="POST")
        return time.monotonic() - began


def _set(parent: ElementTree.Element, name: str, value: str) -> None:
    for old in parent.findall(name):
        parent.remove(old)
    ElementTree.SubElement(parent, name).text = value


def syncthing(folder: Path, files: int, times: int) -> TreeCosts:
    """Two instances that already know each other; the first sync begins when the files lie in the folder."""
    one, two = Syncthing("a", folder), Syncthing("b", folder)
    prepared = folder / "syncthing-prepared"
    make_tree(prepared, files)
    one.configure(two)
    two.configure(one)
    try:
        one.start(folder)
        two.start(folder)
        assert one.started is not None
        assert two.started is not None
        until(lambda: one.meets(two) and one.idle() and two.idle(), 120, 0.2)
        before = one.started.cpu_seconds() + two.started.cpu_seconds()
        began = time.monotonic()
        for part in prepared.iterdir():
            part.rename(one.tree / part.name)
        one.scan()
        until(lambda: count_files(two.tree) >= files, 300, 0.1)
        first = time.monotonic() - began
        until(lambda: two.idle() and one.idle(), 60)
        cpu = one.started.cpu_seconds() + two.started.cpu_seconds() - before
        nothing = min(one.scan() for _ in range(5))
        found = latencies(one.tree, two.tree, times, 1.5)
        time.sleep(3)
        return TreeCosts(
            first, cpu, nothing, found, one.started.memory(), two.started.memory(), "watch delay 1 s, its least"
        )
    finally:
        for side in (one, two):
            if side.started is not None:
                side.started.stop()
