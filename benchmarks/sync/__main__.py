"""What sync-server and sync-client cost, beside a Go server, nginx, rclone, Syncthing and Unison, all in one run.

Needs root (Debian packages, a memory cgroup). Prints the table and writes it to docs/benchmarks/sync.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.sync import contestants, gates, http_jobs, product, report, tree_ours, tree_peers
from benchmarks.sync.packages import install_missing
from benchmarks.sync.processes import busy_share

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "benchmarks" / "sync.md"
PARTS = ("http", "gate", "trees", "delta", "many")


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.sync", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer files and rounds; the page is not written")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part alone (may be repeated)")
    arguments = parser.parse_args()
    parts = arguments.only or PARTS
    install_missing()
    cache = PROJECT / ".cache" / "benchmarks" / "sync"
    cache.mkdir(parents=True, exist_ok=True)
    measured = report.Measured(quick=arguments.quick, busy=busy_share(2))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as name:
        run(parts, Path(name), cache, measured, quick=arguments.quick)
    measured.seconds = time.monotonic() - began
    text = report.page(measured)
    print(text)
    if not arguments.quick and set(parts) == set(PARTS):
        PAGE.write_text(text)
        print(f"written to {PAGE.relative_to(PROJECT)}", file=sys.stderr)
    return 0 if measured.gate is None or all(measured.gate.verdicts().values()) else 1


def run(parts: Sequence[str], folder: Path, cache: Path, measured: report.Measured, *, quick: bool) -> None:
    files, times = (2_000, 5) if quick else (tree_peers.FILES, 30)
    server, client = product.build_server(cache), product.build_client(cache)
    if "http" in parts:
        say("requests: Gin, sync-server, nginx, rclone")
        running = [contestants.gin(folder, cache)]
        try:
            running.append(product.contestant(server, folder))
            running.append(contestants.nginx(folder))
            running.append(contestants.rclone(folder))
            measured.contestants = running
            measured.http = http_jobs.measure(running, folder, quick=quick)
        finally:
            for one in running:
                one.started.stop()
    if "gate" in parts:
        say("memory: everything at once in a cgroup of 150 MB")
        measured.gate = gates.measure(server, folder)
    if "trees" in parts:
        jobs: dict[str, Callable[[], tree_peers.TreeCosts]] = {
            "sync-client": lambda: tree_ours.sync(server, client, folder, files, times),
            "Unison": lambda: tree_peers.unison(folder, files),
            "Syncthing": lambda: tree_peers.syncthing(folder, files, min(times, 10)),
            "rclone bisync": lambda: tree_peers.rclone_bisync(folder, files),
        }
        for name, job in jobs.items():
            say(f"trees of {files} files: {name}")
            measured.trees[name] = job()
    if "delta" in parts:
        say("one byte changed in a large file")
        measured.delta = tree_ours.one_byte(server, client, folder, (100 if quick else 1000) * http_jobs.MB)
    if "many" in parts:
        many = 5_000 if quick else 50_000
        say(f"memory of the client with {many} files")
        measured.many_files, measured.many = many, tree_ours.many_files(server, client, folder, many)


def say(text: str) -> None:
    print(f"measuring {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
