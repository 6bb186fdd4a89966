"""The memory gate: 150 MB are enough, whatever is asked at once.

`python -m benchmarks.sync.gates` says so by its exit code.

Left out of the list in the design: FIT and GPX files, which this server does not read yet.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.sync.load import as_json, request
from benchmarks.sync.memory_cgroup import MemoryCgroup
from benchmarks.sync.product import PASSWORD, USER, Server, build_server, start_server

LIMIT_MB, IDLE_RSS_MB, ANONYMOUS_MB = 150, 60, 110
MB = 1_000_000
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "benchmarks" / "sync"


@dataclass
class Finding:
    """What was measured, in MB."""

    idle_rss: float = 0.0
    idle_pss: float = 0.0
    steps: dict[str, float] = field(default_factory=dict)
    peak_all: float = 0.0
    kills: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def peak_anonymous(self) -> float:
        return max(self.steps.values(), default=0.0)

    def verdicts(self) -> dict[str, bool]:
        return {
            f"idle RSS {self.idle_rss:.0f} MB ≤ {IDLE_RSS_MB} MB": self.idle_rss <= IDLE_RSS_MB,
            f"anonymous memory {self.peak_anonymous:.0f} MB ≤ {ANONYMOUS_MB} MB": self.peak_anonymous <= ANONYMOUS_MB,
            f"processes killed in a cgroup of {LIMIT_MB} MB without swap: {self.kills}": self.kills == 0,
            f"requests that failed: {len(self.failures)}": not self.failures,
        }


def measure(program: Path, folder: Path) -> Finding:
    """Start the server in a memory cgroup, load it step by step and all at once."""
    finding = Finding()
    with MemoryCgroup(f"sync-bench-{time.time_ns()}", LIMIT_MB) as group:
        server = start_server(program, folder, wrap=group.enter([]), name="sync-server-gate")
        try:
            time.sleep(3)
            idle = server.started.memory()
            finding.idle_rss, finding.idle_pss = idle.rss, idle.pss
            asyncio.run(load(server, group, finding))
            finding.peak_all, finding.kills = group.peak_all, group.kills()
            if server.started.process.poll() is not None:
                finding.failures.append(f"the server is gone: {server.started.said()}")
        finally:
            server.started.stop()
    return finding


async def load(server: Server, group: MemoryCgroup, finding: Finding) -> None:
    port = server.port
    token = server.login("gate")
    headers = {"Authorization": f"Bearer {token}"}
    # A device may wait eight times at once: 500 waits are those of 63 devices.
    tokens = [server.login(f"waiting {number}") for number in range(63)]

    async def expect(what: str, *statuses: int, job: asyncio.Future[tuple[int, bytes]]) -> None:
        try:
            status, body = await job
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            finding.failures.append(f"{what}: {error!r}")
            return
        if status not in statuses:
            finding.failures.append(f"{what}: {status} {body[:200]!r}")

    async def uploads() -> None:
        jobs = (
            request(port, "PUT", f"/api/v1/files/big-{n}-{time.time_ns()}", headers, body=100 * MB) for n in range(4)
        )
        await asyncio.gather(*(expect("upload", 201, job=asyncio.ensure_future(job)) for job in jobs))

    async def downloads() -> None:
        jobs = (
            request(port, "GET", "/api/v1/files/download", headers, bytes_per_second=2 * MB, give_up_after=8)
            for _ in range(20)
        )
        await asyncio.gather(*(expect("download", 200, job=asyncio.ensure_future(job)) for job in jobs))

    async def waiting() -> None:
        cursor = server.call("GET", "/changes", token=token)["cursor"]
        while (page := server.call("GET", f"/changes?cursor={cursor}", token=token))["more"]:
            cursor = page["cursor"]
        path = f"/api/v1/changes?cursor={page['cursor']}&wait=50"
        jobs = (
            request(port, "GET", path, {"Authorization": f"Bearer {tokens[n % len(tokens)]}"}, give_up_after=8)
            for n in range(500)
        )
        # Status 0: still waiting when the device went away, as it should; 200: something happened meanwhile.
        await asyncio.gather(*(expect("long-poll", 0, 200, job=asyncio.ensure_future(job)) for job in jobs))

    async def logins() -> None:
        body = as_json({"user": USER, "password": PASSWORD, "device": "gate"})
        for _ in range(4):
            jobs = (
                request(port, "POST", "/api/v1/auth/login", {"Content-Type": "application/json"}, body=body)
                for _ in range(5)
            )
            await asyncio.gather(*(expect("login", 200, job=asyncio.ensure_future(job)) for job in jobs))

    await request(port, "PUT", "/api/v1/files/download", headers, body=100 * MB)
    for name, step in {
        "4 uploads of 100 MB": [uploads],
        "20 downloads at 2 MB/s": [downloads],
        "500 long-polls": [waiting],
        "5 logins at once": [logins],
        "all of it at once": [waiting, downloads, uploads, logins],
    }.items():
        group.peak_anonymous = 0.0
        with group.watching():
            await asyncio.gather(*(job() for job in step))
        finding.steps[name] = group.peak_anonymous


def main() -> int:
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        finding = measure(build_server(CACHE), Path(folder))
    for name, anonymous in finding.steps.items():
        print(f"{name}: {anonymous:.0f} MB anonymous at most")
    for failure in finding.failures[:10]:
        print(f"failed: {failure}", file=sys.stderr)
    for verdict, holds in finding.verdicts().items():
        print(f"{'holds' if holds else 'FAILS'}: {verdict}")
    return 0 if all(finding.verdicts().values()) else 1


if __name__ == "__main__":
    sys.exit(main())
