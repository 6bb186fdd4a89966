"""A process that stores and tells of each thing only when it is acknowledged; test_crash.py ends or starves it.

Usage: busy_process.py DATA_FOLDER SEED until-killed|until-full|until-failed
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from sync_protocol.hashing import blob_id
from sync_protocol.types import CommitRequest, Delete, Put
from sync_server.store.check import check
from sync_server.store.interface import Identity, NoSpace, StoreFailed, SyncError
from sync_server.store.maintenance import collect
from sync_server.store.sqlite import SqliteStore, StoreSettings
from sync_server.tree import Tree

PEOPLE = (
    "INSERT INTO accounts (id, name) VALUES (1, 'anna')",
    "INSERT INTO devices (id, account_id, name) VALUES (1, 1, 'laptop')",
)
ANNA = Identity(1, 1)


def say(*words: object) -> None:
    print(*words, flush=True)


async def store_some(tree: Tree, seed: int, worker: int, size: int) -> None:
    choose = random.Random(seed * 100 + worker)
    turn = 0
    mine: list[tuple[str, int, str]] = []
    while True:
        turn += 1
        name = f"{seed}-{worker}-{turn}"
        data = choose.randbytes(choose.randrange(1, size))
        if turn % 2:
            await tree.put_blobs(ANNA, [(blob_id(data), data)])
        else:
            upload = tree.upload_blob(ANNA, blob_id(data))
            upload.write(data)
            try:
                await upload.finish()
            finally:
                upload.abort()
        op: Put | Delete = Put([blob_id(data)], len(data), 0, parent="root", name=name)
        node, revision, old = mine[-1] if mine else ("", 0, "")
        if mine and turn % 3 == 0:
            op = Put([blob_id(data)], len(data), 0, node=node, base=revision)
        result = (await tree.commit(ANNA, CommitRequest(f"op-{name}", [op]))).results[0]
        assert result.status == "ok", result
        if mine and turn % 3 == 0:
            name = old
        say("stored", name, blob_id(data))
        mine.append((result.node or "", result.revision or 0, name))
        if turn % 5 == 0:
            node, revision, name = mine.pop()
            say("deleting", name)
            await tree.commit(ANNA, CommitRequest(f"delete-{seed}-{worker}-{turn}", [Delete(node, revision)]))


async def collecting(store: SqliteStore) -> None:
    while True:
        await collect(store)
        await asyncio.sleep(0.01)


async def main(folder: Path, seed: int, until: str) -> None:
    store = await SqliteStore.open(folder, StoreSettings(free_floor=0))
    if not store.sql("SELECT 1 FROM accounts"):
        await store.sql_write(lambda rows: [rows.execute(statement).rowcount for statement in PEOPLE])
    tree = Tree(store)
    ballast = folder / "of-somebody-else"
    if until == "until-full":
        ballast.write_bytes(b"x" * 600_000)
    say("ready")
    if until == "until-killed":
        await asyncio.gather(collecting(store), *(store_some(tree, seed, worker, 20_000) for worker in range(3)))
    expected: type[SyncError] = NoSpace if until == "until-full" else StoreFailed
    try:
        await store_some(tree, seed, 0, 200_000)
    except expected as error:
        say("refused", type(error).__name__)
    if until == "until-failed":
        say("failed" if store.failed else "going on")
        return
    # A full disk is no damage: what is there can be read, and with a little room it can be deleted.
    assert store.failed is None
    report = check(folder)
    assert report.ok, report
    ballast.unlink()
    for number, entry in enumerate((await tree.children(ANNA, "root", None, 1000)).entries):
        content = await tree.open(ANNA, entry.id)
        assert blob_id(b"".join(part.path.read_bytes() for part in content.parts)) == entry.content
        deleting = CommitRequest(f"make-room-{number}", [Delete(entry.id, entry.revision)])
        assert (await tree.commit(ANNA, deleting)).results[0].status == "ok"
        say("deleting", entry.name)
    await tree.empty_trash(ANNA)
    await collect(store, -1000)
    data = b"x" * 100_000
    await tree.put_blobs(ANNA, [(blob_id(data), data)])
    op = Put([blob_id(data)], len(data), 0, parent="root", name="after")
    assert (await tree.commit(ANNA, CommitRequest("after-full", [op]))).results[0].status == "ok"
    assert check(folder).ok
    say("stored", "after", blob_id(data))
    await store.close()


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
