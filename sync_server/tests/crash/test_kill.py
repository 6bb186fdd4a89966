"""SIGKILL at random instants: what was acknowledged is there afterwards, and the store is sound."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from real_process.server import Connection, RunningServer, Unreachable

from sync_protocol.hashing import blob_id
from sync_protocol.types import CommitRequest, Put

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "12"))


class Writer(threading.Thread):
    """A device that writes without pause, in every way there is, and remembers what was acknowledged."""

    def __init__(self, connection: Connection, number: int, begin: int) -> None:
        super().__init__(daemon=True)
        self.connection, self.number, self.count = connection, number, begin
        self.choose = random.Random(number * 1000 + begin)
        self.files: dict[str, bytes] = {}
        self.blobs: set[str] = set()
        self.nodes: dict[str, bytes] = {}

    def run(self) -> None:
        try:
            while True:
                self.count += 1
                data = self.choose.randbytes(self.choose.choice([10, 3000, 200_000, 1_500_000]))
                if self.choose.random() < 0.5:
                    path = quote(f"file {self.number}-{self.count}.bin")
                    answer = self.connection.put_file(path, data)
                    assert answer.status == 201, (answer.status, answer.body)
                    self.files[path] = data
                else:
                    name = self.connection.put_blob(data)
                    self.blobs.add(name)
                    put = Put([name], len(data), 0, parent="root", name=f"node {self.number}-{self.count}")
                    done = self.connection.commit(CommitRequest(f"writer-{self.number}-{self.count}", [put]))
                    assert done.results[0].status == "ok", done
                    node = done.results[0].node
                    assert node is not None
                    self.nodes[node] = data
        except Unreachable:
            return


def test_what_was_acknowledged_survives_sigkill_at_any_moment(tmp_path: Path) -> None:
    server = RunningServer(tmp_path / "data")
    server.add_user("anna")
    server.start()
    choose = random.Random(1)
    tokens = [server.login("anna", f"device{number}").token for number in range(3)]
    files: dict[str, bytes] = {}
    nodes: dict[str, bytes] = {}
    blobs: set[str] = set()
    for round_ in range(ROUNDS):
        writers = [Writer(server.connect(token), n, round_ * 100_000) for n, token in enumerate(tokens)]
        for writer in writers:
            writer.start()
        time.sleep(choose.uniform(0.02, 0.4))
        server.kill()
        for writer in writers:
            writer.join()
            files |= writer.files
            nodes |= writer.nodes
            blobs |= writer.blobs
        assert integrity(tmp_path / "data") == "ok"
        server.start()
    connection = server.connect(tokens[0])
    try:
        assert len(files) + len(nodes) > 2 * ROUNDS, "too little was written to mean anything"
        for path, data in files.items():
            assert connection.send("GET", f"/files/{path}").body == data, path
        for node, data in nodes.items():
            assert connection.get_blob(blob_id(data)) == data
            assert connection.versions(node) == [blob_id(data)]
        for name in blobs:
            assert connection.get_blob(name) is not None, "an acknowledged blob is gone before the commit could use it"
        names = {entry.id for entry in connection.snapshot().values()}
        assert set(nodes) <= names
    finally:
        assert server.stop() == 0
    checked = server.tool("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert not list((tmp_path / "data" / "tmp").iterdir()), "unfinished uploads of a killed server are left behind"


def integrity(data: Path) -> str:
    """What SQLite says of the database as the killed server left it, on a copy: looking must not repair it."""
    copy = data.parent / "copy"
    copy.mkdir(exist_ok=True)
    for old in copy.iterdir():
        old.unlink()
    for file in data.glob("db.sqlite3*"):
        (copy / file.name).write_bytes(file.read_bytes())
    with sqlite3.connect(copy / "db.sqlite3") as database:
        answer: str = database.execute("PRAGMA integrity_check").fetchone()[0]
        assert not database.execute("PRAGMA foreign_key_check").fetchall()
    return answer


@pytest.mark.parametrize("signal_after", [0.0, 0.2])
def test_sigterm_lets_running_uploads_end(tmp_path: Path, signal_after: float) -> None:
    server = RunningServer(tmp_path / "data")
    server.add_user("anna")
    server.start()
    connection = server.login("anna", "slow")
    data = random.Random(2).randbytes(3_000_000)
    answers: list[int] = []

    def upload() -> None:
        def pieces() -> object:
            for begin in range(0, len(data), 300_000):
                time.sleep(0.1)
                yield data[begin : begin + 300_000]

        # Chunked, because nobody knows the length of what is made while it is sent.
        answers.append(connection.put_file("slow.bin", pieces()).status)  # type: ignore[arg-type]

    thread = threading.Thread(target=upload)
    thread.start()
    time.sleep(0.2 + signal_after)
    assert server.stop() == 0
    thread.join()
    assert answers == [201]
    server.start()
    assert server.connect(connection.token).send("GET", "/files/slow.bin").body == data
    assert server.stop() == 0


def test_sigterm_answers_devices_that_wait_for_changes(tmp_path: Path) -> None:
    server = RunningServer(tmp_path / "data")
    server.add_user("anna")
    server.start()
    connection = server.login("anna", "waiting")
    cursor = connection.changes(None, 10).cursor
    answers: list[int] = []

    def wait() -> None:
        answers.append(connection.send("GET", f"/changes?cursor={cursor}&wait=55", timeout=60).status)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    began = time.monotonic()
    assert server.stop() == 0
    thread.join()
    assert time.monotonic() - began < 5
    assert answers == [200]
