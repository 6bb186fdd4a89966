"""What a process tree costs, read from /proc: CPU time, resident, proportional and anonymous memory."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
SERVER_CPU, LOAD_CPU = "0", "1"


@dataclass(frozen=True)
class Memory:
    """MB of a process tree; `pss` counts shared pages by share, `anonymous` leaves out what is backed by files."""

    rss: float = 0.0
    pss: float = 0.0
    anonymous: float = 0.0

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.rss + other.rss, self.pss + other.pss, self.anonymous + other.anonymous)

    def most(self, other: Memory) -> Memory:
        return Memory(max(self.rss, other.rss), max(self.pss, other.pss), max(self.anonymous, other.anonymous))


@dataclass
class Started:
    """A program under measurement and everything it started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    peak: Memory = field(default_factory=Memory)

    def pids(self) -> list[int]:
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                waiting += [int(child) for child in read(task).split()]
        return found

    def cpu_seconds(self) -> float:
        """User and system time of the tree, of children that ended too."""
        total = 0
        for pid in self.pids():
            # The name in parentheses may hold spaces; utime is the 14th field of the line, the 12th after it.
            fields = read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
            total += sum(int(value) for value in fields[11:15])
        return total / TICK

    def memory(self) -> Memory:
        total = Memory()
        for pid in self.pids():
            sizes = {}
            for line in read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
                name, _, rest = line.partition(":")
                if name in {"Rss", "Pss", "Anonymous"}:
                    sizes[name] = int(rest.split()[0]) / 1024
            total += Memory(sizes.get("Rss", 0), sizes.get("Pss", 0), sizes.get("Anonymous", 0))
        return total

    def stop(self) -> None:
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


def start(
    name: str,
    command: Sequence[str | Path],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    cpu: str | None = SERVER_CPU,
) -> Started:
    """Start `command` in a process group of its own, bound to one CPU so that the load has the other."""
    log = folder / f"{name.replace(' ', '-').replace('/', '-')}.log"
    pinned = ["taskset", "-c", cpu] if cpu is not None else []
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*pinned, *command],
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            process_group=0,
        )
    return Started(name, process, log)


@contextmanager
def watching(started: Started, every: float = 0.1) -> Iterator[None]:
    """Sample the memory of a tree meanwhile and keep the highest of each figure."""
    done = threading.Event()

    def sample() -> None:
        while not done.wait(every):
            started.peak = started.peak.most(started.memory())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def children_cpu_seconds() -> float:
    """CPU time of the programs this one ran to their end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, started: Started, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if started.process.poll() is not None:
            raise SystemExit(f"{started.name} ended at once:\n{started.said()}")
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"{started.name} does not listen on port {port} after {seconds:.0f} s:\n{started.said()}")


def busy_share(seconds: float = 0.3) -> float:
    """The share of this machine's CPU time that was used meanwhile, 0 to 1."""

    def sample() -> tuple[int, int]:
        values = [int(value) for value in read(Path("/proc/stat")).splitlines()[0].split()[1:9]]
        return sum(values), values[3] + values[4]

    before_all, before_idle = sample()
    time.sleep(seconds)
    after_all, after_idle = sample()
    return 1 - (after_idle - before_idle) / max(1, after_all - before_all)
