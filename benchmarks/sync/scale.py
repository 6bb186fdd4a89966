# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a page, the news and a commit cost the same in a tree of a million nodes as in one of ten thousand?

    sync_server/.venv/bin/python benchmarks/sync/scale.py [--nodes 10000 1000000] [--folder /var/tmp]

Measured inside one process, on the tree itself, in CPU time; the wall time of a commit has its fsync. The rows of blobs
are written by hand, without files: a million files would measure the file system.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from sync_protocol.types import CommitRequest, Mkdir, Op, Put
from sync_server.store.interface import Identity
from sync_server.store.sqlite import SqliteStore, StoreSettings, opened
from sync_server.tree import Tree

WHO = Identity(1, 1)
IN_A_FOLDER = 1000
ROUNDS = 60


def people(rows: sqlite3.Connection) -> None:
    rows.execute("INSERT INTO accounts (id, name) VALUES (1, 'anna')")
    rows.execute("INSERT INTO devices (id, account_id, name) VALUES (1, 1, 'laptop')")


async def fill(store: SqliteStore, tree: Tree, nodes: int, choose: random.Random) -> list[str]:
    """Folders of a thousand files; returns the ids of the folders."""
    await store.sql_write(people)
    await tree.usage(WHO)
    folders = []
    for number in range(max(nodes // IN_A_FOLDER, 1)):
        blobs = [choose.randbytes(32) for _ in range(IN_A_FOLDER - 1)]
        await hold(store, blobs)
        ops: list[Op] = [Mkdir("root", f"folder {number:05}")]
        ops += [Put([blob.hex()], 4096, 0, parent="@0", name=f"file {at:04}.txt") for at, blob in enumerate(blobs)]
        answer = await tree.commit(WHO, CommitRequest(f"fill-{number:08}", ops))
        assert all(result.status == "ok" for result in answer.results)
        folders.append(answer.results[0].node or "")
    return folders


async def hold(store: SqliteStore, blobs: list[bytes]) -> None:
    rows = [(blob, int(time.time() * 1000)) for blob in blobs]

    def job(connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT INTO holdings (hash, account, size, touched) VALUES (?, 1, 4096, ?)", rows)

    await store.sql_write(job)


async def measure(job: Callable[[int], Awaitable[object]]) -> tuple[float, float]:
    """Median CPU and wall time in milliseconds."""
    cpu, wall = [], []
    for number in range(ROUNDS):
        began, clock = time.process_time(), time.perf_counter()
        await job(number)
        cpu.append(time.process_time() - began)
        wall.append(time.perf_counter() - clock)
    return statistics.median(cpu) * 1000, statistics.median(wall) * 1000


async def tree_of(nodes: int, parent: Path) -> dict[str, tuple[float, float]]:
    choose = random.Random(nodes)
    folder = Path(tempfile.mkdtemp(prefix="sync-scale-", dir=parent))
    try:
        async with opened(folder / "data", StoreSettings(free_floor=0)) as store:
            tree = Tree(store)
            began = time.process_time()
            folders = await fill(store, tree, nodes, choose)
            filled = time.process_time() - began
            last = (await tree.snapshot(WHO, None, 1)).cursor
            generation, end = last.split(".")
            blobs = [choose.randbytes(32) for _ in range(ROUNDS * 2)]
            await hold(store, blobs)

            async def listing(_: int) -> None:
                assert len((await tree.children(WHO, choose.choice(folders), None, 500)).entries) == 500

            async def news(_: int) -> None:
                cursor = f"{generation}.{choose.randrange(int(end) - 500)}"
                assert len((await tree.changes(WHO, cursor, 500)).changes) == 500

            async def snapshot(_: int) -> None:
                page = f"{last}.{choose.randrange(nodes - 500)}"
                assert len((await tree.snapshot(WHO, page, 500)).entries) == 500

            async def path(number: int) -> None:
                await tree.find(WHO, f"folder {choose.randrange(len(folders)):05}/file {number:04}.txt")

            async def create(number: int) -> None:
                op = Put([blobs[number].hex()], 4096, 0, parent=choose.choice(folders), name=f"new {number}")
                answer = await tree.commit(WHO, CommitRequest(f"create-{number:04}", [op]))
                assert answer.results[0].status == "ok"

            async def edit(number: int) -> None:
                page = (await tree.children(WHO, choose.choice(folders), None, 1)).entries[0]
                op = Put([blobs[ROUNDS + number].hex()], 4096, 0, node=page.id, base=page.revision)
                answer = await tree.commit(WHO, CommitRequest(f"edit-{number:06}", [op]))
                assert answer.results[0].status == "ok"

            found = {
                "listing page of 500": await measure(listing),
                "changes page of 500": await measure(news),
                "snapshot page of 500": await measure(snapshot),
                "find by path": await measure(path),
                "commit of a new file": await measure(create),
                "commit of an edit": await measure(edit),
            }
            size = store.path.stat().st_size
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{nodes:>9,} nodes: filled with {filled / nodes * 1e6:.0f} us of CPU each, database"
                f" {size / 1e6:.0f} MB ({size / nodes:.0f} bytes a node), process at most {peak:.0f} MB"
            )
            return found
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    results = [asyncio.run(tree_of(nodes, options.folder)) for nodes in options.nodes]
    print("\n| | " + " | ".join(f"{nodes:,} nodes, CPU (wall) ms" for nodes in options.nodes) + " | ratio of CPU |")
    print("|---" * (len(options.nodes) + 2) + "|")
    for job in results[0]:
        cells = [f"{found[job][0]:.2f} ({found[job][1]:.2f})" for found in results]
        print(f"| {job} | " + " | ".join(cells) + f" | {results[-1][job][0] / results[0][job][0]:.2f} |")


if __name__ == "__main__":
    main()
