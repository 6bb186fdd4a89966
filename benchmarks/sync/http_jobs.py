"""CPU time of one request each: something small, a file up, a file down."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.sync.contestants import Contestant
from benchmarks.sync.processes import LOAD_CPU, Memory, watching

MB = 1_000_000


@dataclass
class Costs:
    """The quietest of the rounds: other load on the machine only ever adds."""

    idle: Memory = field(default_factory=Memory)
    peak: Memory = field(default_factory=Memory)
    small_us: float = float("inf")
    small_rate: float = 0.0
    small_p99_ms: float = float("inf")
    up: float = float("inf")
    up_rate: float = 0.0
    down: float = float("inf")
    down_rate: float = 0.0


def measure(contestants: Sequence[Contestant], folder: Path, *, quick: bool) -> dict[str, Costs]:
    """Run the jobs in turn, round by round, so that a busy minute of the machine hits everybody."""
    costs = {one.name: Costs() for one in contestants}
    size = (64 if quick else 200) * MB
    source = folder / "upload.bin"
    write_noise(source, size)
    for one in contestants:
        costs[one.name].idle = one.idle or one.started.memory()
    for number in range(2 if quick else 4):
        for one in contestants:
            with watching(one.started):
                small(one, costs[one.name], folder, seconds=2 if quick else 4)
                up(one, costs[one.name], source, f"upload-{number}.bin")
                down(one, costs[one.name], f"upload-{number}.bin", size)
    for one in contestants:
        costs[one.name].peak = one.started.peak
    source.unlink()
    return costs


def write_noise(path: Path, size: int) -> None:
    """Bytes that no compression and no deduplication makes smaller."""
    with path.open("wb") as out, Path("/dev/urandom").open("rb") as noise:
        while size > 0:
            size -= out.write(noise.read(min(size, 1 << 22)))


def small(one: Contestant, costs: Costs, folder: Path, *, seconds: int) -> None:
    script = folder / "small.lua"
    paths = [one.small.format(id=name).split("/", 3)[3] for name in one.ids] or [one.small.split("/", 3)[3]]
    headers = ", ".join(f"[{json.dumps(name)}] = {json.dumps(text)}" for name, text in one.headers.items())
    script.write_text(
        f"""
        local paths = {{ {", ".join(json.dumps("/" + path) for path in paths)} }}
        local headers = {{ {headers} }}
        request = function() return wrk.format("GET", paths[math.random(#paths)], headers) end
        """
    )
    before = one.started.cpu_seconds()
    command = ["taskset", "-c", LOAD_CPU, "wrk", "-t1", "-c32", f"-d{seconds}s", "--latency", "-s", str(script)]
    done = subprocess.run([*command, one.small.format(id="x")], capture_output=True, text=True, check=True)
    used = one.started.cpu_seconds() - before
    if "Non-2xx" in done.stdout:
        raise SystemExit(f"{one.name} refused small requests:\n{done.stdout}\n{one.started.said()}")
    requests = int(find(r"(\d+) requests in", done.stdout))
    costs.small_us = min(costs.small_us, used / requests * 1e6)
    costs.small_rate = max(costs.small_rate, float(find(r"Requests/sec:\s+([\d.]+)", done.stdout)))
    worst = find(r"99%\s+([\d.]+(?:us|ms|s))", done.stdout)
    number = worst.rstrip("mus")
    scale = {"us": 0.001, "ms": 1, "s": 1000}[worst.removeprefix(number)]
    costs.small_p99_ms = min(costs.small_p99_ms, float(number) * scale)


def up(one: Contestant, costs: Costs, source: Path, name: str) -> None:
    if not one.uploads:
        return
    before = one.started.cpu_seconds()
    seconds = curl(one, name, ["--upload-file", str(source)])
    used = one.started.cpu_seconds() - before
    size = source.stat().st_size
    costs.up = min(costs.up, used / size * 1e9)
    costs.up_rate = max(costs.up_rate, size / MB / seconds)


def down(one: Contestant, costs: Costs, name: str, size: int) -> None:
    if not one.uploads:
        return
    times = 5
    before = one.started.cpu_seconds()
    seconds = min(curl(one, name, []) for _ in range(times))
    used = one.started.cpu_seconds() - before
    costs.down = min(costs.down, used / times / size * 1e9)
    costs.down_rate = max(costs.down_rate, size / MB / seconds)


def curl(one: Contestant, name: str, arguments: list[str]) -> float:
    headers = [part for key, text in one.headers.items() for part in ("--header", f"{key}: {text}")]
    command = ["taskset", "-c", LOAD_CPU, "curl", "--silent", "--show-error", "--fail", "--output", "/dev/null"]
    address = one.file.format(name=name)
    done = subprocess.run(
        [*command, *headers, "--header", "Expect:", "--write-out", "%{time_total}", *arguments, address],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{one.name}: curl said {done.stderr}\n{one.started.said()}")
    return float(done.stdout)


def find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"wrk answered in a form this benchmark does not know:\n{text}")
    return found[1]
