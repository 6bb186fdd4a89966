"""The page: what was measured, beside what was to be reached."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.sync import tree_peers
from benchmarks.sync.contestants import Contestant
from benchmarks.sync.gates import Finding
from benchmarks.sync.http_jobs import Costs
from benchmarks.sync.packages import PYTHON, version
from benchmarks.sync.processes import read
from benchmarks.sync.tree_ours import Delta
from benchmarks.sync.tree_peers import TreeCosts

HTTP_NOTE = """CPU is the server's own, from /proc, of its quietest round. The Gin reference
(`benchmarks/sync/gin_reference`) is a benchmark fixture that does the same job in Go: token, SQLite, SHA-256, fsync.
nginx and rclone do less, as the remarks say; rclone checks a salted password each time.
"""
TREES_NOTE = """First sync of sync-client: from the folder to the server, durable there. One file: from the write of a
4 KB file until another running device has its bytes. Wall times suffer from other load on the machine; CPU time (both
sides together) hardly does.
"""


@dataclass
class Measured:
    """Everything of one run; what was not asked for stays empty."""

    quick: bool
    busy: float
    seconds: float = 0.0
    contestants: Sequence[Contestant] = ()
    http: dict[str, Costs] = field(default_factory=dict)
    gate: Finding | None = None
    trees: dict[str, TreeCosts] = field(default_factory=dict)
    delta: Delta | None = None
    many_files: int = 0
    many: TreeCosts | None = None


def page(measured: Measured) -> str:
    parts = ["# Benchmarks of sync-server and sync-client\n", _how(measured)]
    parts += ["## Targets\n", _table(["job", "measured", "target", "met"], _targets(measured))]
    if measured.http:
        parts += ["## Requests: the same jobs for every server, in turn\n", _http(measured), HTTP_NOTE]
    if measured.gate:
        parts += ["## Memory in a cgroup of 150 MB without swap\n", _gate(measured.gate)]
    if measured.trees:
        files = 2_000 if measured.quick else tree_peers.FILES
        parts.append(f"## Whole trees: {files:,} files of 4 KB in {tree_peers.FOLDERS} folders, loopback\n")
        parts += [_trees(measured), TREES_NOTE]
    parts.append((Path(__file__).parent / "notes.md").read_text())
    return "\n".join(parts)


def _how(measured: Measured) -> str:
    models = (line.split(":")[1].strip() for line in read(Path("/proc/cpuinfo")).splitlines() if "model name" in line)
    memory = int(read(Path("/proc/meminfo")).split()[1]) / 1024 / 1024
    programs = ", ".join(
        [
            version(["go", "version"]),
            version(["nginx", "-v"]),
            version(["rclone", "version"]),
            " ".join(version(["syncthing", "--version"]).split()[:2]),
            version(["unison", "-version"]),
        ]
    )
    return (
        f"Measured {datetime.now(UTC):%d %B %Y} in one run of {measured.seconds / 60:.0f} minutes"
        f"{' (quick)' if measured.quick else ''} with `python -m benchmarks.sync`: {os.cpu_count()} virtual CPUs\n"
        f"({next(models, 'unknown')}), {memory:.0f} GB, {_system()}, {version([PYTHON, '--version'])},\n{programs}.\n"
        f"The machine was shared: {measured.busy:.0%} of its CPU time was used by others when the run began.\n"
    )


def _system() -> str:
    for line in read(Path("/etc/os-release")).splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.split("=")[1].strip('"')
    return platform.system()


def _targets(measured: Measured) -> Iterable[list[str]]:
    ours, gin = measured.http.get("sync-server"), measured.http.get("Gin reference")
    if ours and gin:
        for job, mine, its, most in (
            ("metadata GET with a token, CPU", ours.small_us, gin.small_us, 1.6),
            ("upload with SHA-256, CPU", ours.up, gin.up, 1.0),
            ("download, CPU", ours.down, gin.down, 1.3),
        ):
            yield [job, f"{mine / its:.2f} × Gin", f"≤ {most} × Gin", _met(mine / its <= most)]
    if measured.gate:
        idle, anonymous, kills = measured.gate.idle_rss, measured.gate.peak_anonymous, measured.gate.kills
        yield ["server idle, RSS", f"{idle:.0f} MB", "≤ 60 MB", _met(idle <= 60)]
        held = anonymous <= 110 and not kills
        yield ["server under load, anonymous", f"{anonymous:.0f} MB, {kills} killed", "≤ 110 MB, none", _met(held)]
    tree = measured.trees.get("sync-client")
    if tree and tree.first and tree.nothing and tree.latency and tree.client:
        others = {name: costs.first for name, costs in measured.trees.items() if costs is not tree}
        peers = ", ".join(f"{name} {first:.1f} s" for name, first in others.items() if first)
        yield ["first sync of the tree below", f"{tree.first:.1f} s ({peers})", "≤ 5 s", _met(tree.first <= 5)]
        yield ["nothing changed", f"{tree.nothing:.2f} s", "≤ 0.3 s", _met(tree.nothing <= 0.3)]
        yield ["one file, p95", f"{_p95(tree.latency):.2f} s", "≤ 0.3 s", _met(_p95(tree.latency) <= 0.3)]
        yield ["client idle with that tree, RSS", f"{tree.client.rss:.0f} MB", "≤ 40 MB", _met(tree.client.rss <= 40)]
    if measured.many and measured.many.client:
        rss = measured.many.client.rss
        yield [f"client idle with {measured.many_files:,} files, RSS", f"{rss:.0f} MB", "≤ 45 MB", _met(rss <= 45)]
    if measured.delta:
        share, wire, size = measured.delta.share, measured.delta.wire / 1e6, measured.delta.size / 1e6
        yield [f"1 byte changed in {size:,.0f} MB", f"{wire:.1f} MB = {share:.2%}", "≤ 1 %", _met(share <= 0.01)]


def _http(measured: Measured) -> str:
    head = ["server", "RSS idle → peak MB", "PSS MB", "anonymous MB", "small GET µs", "req/s", "p99 ms", "up s/GB",
            "MB/s", "down s/GB", "MB/s", "remark"]  # fmt: skip
    rows = []
    for one in measured.contestants:
        costs = measured.http[one.name]
        rows.append([
            one.name, f"{costs.idle.rss:.0f} → {costs.peak.rss:.0f}", f"{costs.idle.pss:.0f} → {costs.peak.pss:.0f}",
            f"{costs.peak.anonymous:.0f}", f"{costs.small_us:.0f}", f"{costs.small_rate / 1000:.1f}k",
            f"{costs.small_p99_ms:.1f}", f"{costs.up:.2f}", f"{costs.up_rate:.0f}", f"{costs.down:.2f}",
            f"{costs.down_rate:.0f}", one.remark,
        ])  # fmt: skip
    return _table(head, rows)


def _gate(finding: Finding) -> str:
    rows = [[name, f"{anonymous:.0f}"] for name, anonymous in finding.steps.items()]
    verdicts = [f"- {verdict}: {'holds' if holds else 'FAILS'}\n" for verdict, holds in finding.verdicts().items()]
    return _table(["load", "anonymous MB at most"], rows) + "\n" + "".join(verdicts)


def _trees(measured: Measured) -> str:
    head = ["program", "first s", "CPU-s of it", "nothing changed s", "one file s, median / p95", "client RSS / PSS MB",
            "server or peer RSS MB", "remark"]  # fmt: skip
    rows = []
    for name, costs in measured.trees.items():
        latency = f"{_median(costs.latency):.2f} / {_p95(costs.latency):.2f}" if costs.latency else "–"
        client = f"{costs.client.rss:.0f} / {costs.client.pss:.0f}" if costs.client else "–"
        server = f"{costs.server.rss:.0f}" if costs.server else "–"
        rows.append([
            name, _seconds(costs.first), _seconds(costs.first_cpu), _seconds(costs.nothing), latency, client, server,
            costs.remark,
        ])  # fmt: skip
    return _table(head, rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _met(yes: bool) -> str:
    return "yes" if yes else "**no**"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]
