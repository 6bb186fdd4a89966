"""A power cut loses what only the kernel knows: the system calls tell what was on disk when the answer went out."""

from __future__ import annotations

import json
import re
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from real_process.server import RunningServer

from sync_protocol.hashing import blob_id
from sync_protocol.types import CommitRequest, Mkdir, Put


@dataclass(frozen=True)
class Call:
    name: str
    line: str


class Traced:
    """A server whose durable system calls and answers are written down in order, by strace."""

    def __init__(self, folder: Path) -> None:
        assert shutil.which("strace"), "this test needs the Debian package strace"
        self.server = RunningServer(folder / "data")
        self.server.add_user("anna")
        self.log = folder / "calls"
        calls = "fsync,fdatasync,syncfs,sync,rename,renameat,renameat2,sendto,sendmsg,write,writev"
        self.server.wrap = ["strace", "-f", "-y", "-s", "100", "-o", str(self.log), "-e", f"trace={calls}"]
        self.server.start()
        self.connection = self.server.login("anna", "laptop")

    def since(self, begin: int) -> list[Call]:
        time.sleep(0.3)
        found = []
        with self.log.open(errors="replace") as log:
            log.seek(begin)
            for line in log:
                match = re.match(r"\d+ +(?:<\.\.\. )?(\w+)[ (]", line)
                if match:
                    found.append(Call(match[1], line))
        return found

    def mark(self) -> int:
        time.sleep(0.3)
        return self.log.stat().st_size


@pytest.fixture
def traced(tmp_path: Path) -> Traced:
    return Traced(tmp_path)


def answered(calls: list[Call]) -> int:
    """Where the answer goes out."""
    return next(n for n, call in enumerate(calls) if '"HTTP/1.1 20' in call.line)


def before(calls: list[Call], name: str, text: str) -> list[int]:
    return [n for n, call in enumerate(calls[: answered(calls)]) if re.match(name, call.name) and text in call.line]


def test_a_blob_is_synced_renamed_and_its_folder_synced_before_the_answer(traced: Traced) -> None:
    data = b"must survive a power cut"
    name = blob_id(data)
    mark = traced.mark()
    traced.connection.put_blob(data)
    calls = traced.since(mark)
    renamed = before(calls, "rename", name)
    assert renamed, "the blob is not in its place when it is acknowledged"
    content = before(calls, "f(data)?sync|syncfs", "/tmp/")
    folder = before(calls, "f(data)?sync|syncfs", f"/blobs/{name[:2]}")
    assert content, "the content is not synced"
    assert min(content) < renamed[0], (
        "a name that appears before its bytes are on disk may name rubbish after a power cut"
    )
    assert folder, "the folder is not synced"
    assert max(folder) > renamed[0]
    traced.server.stop()


def test_a_commit_is_in_the_synced_log_of_the_database_before_the_answer(traced: Traced) -> None:
    mark = traced.mark()
    traced.connection.commit(CommitRequest("durable-1", [Mkdir("root", "folder")]))
    calls = traced.since(mark)
    assert before(calls, "f(data)?sync", "db.sqlite3-wal"), "the database is not synced before the answer"
    traced.server.stop()


def test_many_small_blobs_and_a_whole_file_are_durable_before_the_answer_too(traced: Traced) -> None:
    mark = traced.mark()
    assert traced.connection.put_file("whole.bin", b"x" * 5_000_000).status == 201
    calls = traced.since(mark)
    renames = before(calls, "rename", "/blobs/")
    assert len(renames) == 2
    assert max(before(calls, "f(data)?sync|syncfs", "/blobs")) > max(renames)
    assert max(before(calls, "f(data)?sync", "db.sqlite3-wal")) > max(renames), "a row must not come before its bytes"
    blobs = [b"small %d" % number for number in range(40)]
    body = b"".join(bytes.fromhex(blob_id(blob)) + len(blob).to_bytes(4, "big") + blob for blob in blobs)
    mark = traced.mark()
    answer = traced.connection.send("POST", "/blobs/batch", body, {"Content-Type": "application/octet-stream"})
    assert answer.status == 200
    calls = traced.since(mark)
    renames = before(calls, "rename", "/blobs/")
    assert len(renames) == len(blobs)
    assert max(before(calls, "fsync|syncfs", "/blobs")) > max(renames)
    put = Put([blob_id(blobs[0])], len(blobs[0]), 0, parent="root", name="small")
    assert traced.connection.commit(CommitRequest("durable-2", [put])).results[0].status == "ok"
    traced.server.stop()


def test_what_arrived_is_known_although_the_disk_is_slow(tmp_path: Path) -> None:
    slow = ["-e", "trace=fsync,fdatasync,syncfs", "-e", "inject=fsync,fdatasync,syncfs:delay_enter=400000"]
    server = RunningServer(tmp_path / "data")
    server.add_user("anna")
    server.wrap = ["strace", "-f", "-o", str(tmp_path / "calls"), *slow]
    server.start()
    device = server.login("anna", "laptop")
    assert device.send("GET", "/usage").status == 200
    blobs = [bytes([number]) * 100_000 for number in range(10)]
    body = b"".join(bytes.fromhex(blob_id(blob)) + len(blob).to_bytes(4, "big") + blob for blob in blobs)
    head = (
        f"POST /api/v1/blobs/batch HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {device.token}\r\n"
        f"content-type: application/octet-stream\r\ncontent-length: {len(body) + 1}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + body)
    asked = json.dumps({"blobs": [blob_id(blob) for blob in blobs]}).encode()
    assert device.send("POST", "/blobs/have", asked).json() == {"missing": []}
    assert server.stop() == 0
