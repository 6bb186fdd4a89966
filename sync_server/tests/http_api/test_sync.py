"""What a syncing device uses: contents, commits, changes, events, uploads, conflicts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from conftest import log_in, problem
from real_process.server import RunningServer
from starlette.types import Message

from sync_server.http import content
from sync_server.routes.blobs import _Frames
from sync_server.store.interface import BlobFile

_ops = itertools.count(1)


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _frame(*blobs: bytes) -> bytes:
    return b"".join(hashlib.sha256(blob).digest() + len(blob).to_bytes(4, "big") + blob for blob in blobs)


def _commit(client: httpx.Client, *ops: dict[str, Any], op_id: str | None = None) -> list[dict[str, Any]]:
    answer = client.post("/commit", json={"op_id": op_id or f"test-{next(_ops):06}-{os.getpid()}", "ops": list(ops)})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def _put(client: httpx.Client, data: bytes, **more: Any) -> dict[str, Any]:
    client.put(f"/blobs/{_sha(data)}", content=data).raise_for_status()
    return {"op": "put", "blobs": [_sha(data)], "size": len(data), "mtime": 0, **more}


def test_contents_go_up_and_down_by_their_name(alice: httpx.Client) -> None:
    data = os.urandom(5000)
    assert alice.post("/blobs/have", json={"blobs": [_sha(data)]}).json() == {"missing": [_sha(data)]}
    for _ in range(2):
        assert alice.put(f"/blobs/{_sha(data)}", content=data).status_code == 200
    assert alice.post("/blobs/have", json={"blobs": [_sha(data)]}).json() == {"missing": []}
    got = alice.get(f"/blobs/{_sha(data)}")
    assert got.content == data
    assert got.headers["etag"] == f'"{_sha(data)}"'
    assert alice.get(f"/blobs/{_sha(data)}", headers={"range": "bytes=10-19"}).content == data[10:20]


def test_many_small_contents_go_in_one_body(alice: httpx.Client) -> None:
    blobs = [os.urandom(size) for size in (1, 100, 4096, 70_000)]
    body = zstandard.compress(_frame(*blobs))
    headers = {"content-type": "application/octet-stream", "content-encoding": "zstd"}
    answer = alice.post("/blobs/batch", content=body, headers=headers).json()
    assert answer["results"] == [{"blob": _sha(blob), "status": "ok"} for blob in blobs]
    wanted = [_sha(blob) for blob in reversed(blobs)] + ["0" * 64]
    for encoding in ("identity", "gzip", "zstd"):
        got = alice.post("/blobs/fetch", json={"blobs": wanted}, headers={"accept-encoding": encoding})
        assert got.content == _frame(*reversed(blobs)), encoding


def test_one_wrong_content_of_many_is_told_and_the_others_stay(alice: httpx.Client) -> None:
    good, bad = os.urandom(100), os.urandom(100)
    body = _frame(good) + b"\1" * 32 + len(bad).to_bytes(4, "big") + bad
    answer = alice.post("/blobs/batch", content=body, headers={"content-type": "application/octet-stream"}).json()
    assert [result["status"] for result in answer["results"]] == ["ok", "mismatch"]
    assert alice.get(f"/blobs/{_sha(good)}").content == good


def test_a_commit_repeated_is_done_once_and_answered_alike(alice: httpx.Client, folder: str) -> None:
    parent = alice.get(f"/files/{folder}").json()["node"]["id"]
    op = _put(alice, os.urandom(10), parent=parent, name="a")
    first = _commit(alice, op, op_id=f"again-{folder}")
    assert first[0]["status"] == "ok"
    assert _commit(alice, op, op_id=f"again-{folder}") == first
    assert len(alice.get(f"/files/{folder}").json()["entries"]) == 1


def test_content_that_was_not_uploaded_is_named(alice: httpx.Client, folder: str) -> None:
    parent = alice.get(f"/files/{folder}").json()["node"]["id"]
    op = {"op": "put", "parent": parent, "name": "a", "blobs": ["1" * 64], "size": 1, "mtime": 0}
    assert _commit(alice, op)[0] == {"status": "missing_blobs", "missing": ["1" * 64]} | {
        key: value for key, value in _commit(alice, op)[0].items() if key == "detail"
    }


def test_changes_are_told_from_a_cursor_on(alice: httpx.Client, folder: str) -> None:
    cursor = alice.get("/snapshot").json()["cursor"]
    alice.put(f"/files/{folder}/a", content=b"1")
    alice.delete(f"/files/{folder}/a")
    page = alice.get("/changes", params={"cursor": cursor, "limit": 1}).json()
    assert page["more"]
    rest = alice.get("/changes", params={"cursor": page["cursor"]}).json()
    assert [change["op"] for change in page["changes"] + rest["changes"]] == ["put", "delete"]
    assert page["changes"][0]["mine"]
    assert page["changes"][0]["device"] == "alice's laptop"


def test_a_long_poll_answers_as_soon_as_something_happens(
    alice: httpx.Client, folder: str, new_device: Callable[..., httpx.Client]
) -> None:
    waiter = new_device()
    cursor = waiter.get("/snapshot").json()["cursor"]
    threading.Timer(0.4, lambda: alice.put(f"/files/{folder}/a", content=b"1")).start()
    began = time.monotonic()
    page = waiter.get("/changes", params={"cursor": cursor, "wait": 20}).json()
    assert 0.3 < time.monotonic() - began < 5
    assert [change["op"] for change in page["changes"]] == ["put"]
    assert "mine" not in page["changes"][0]


def test_a_long_poll_without_news_ends_with_the_same_cursor(new_device: Callable[..., httpx.Client]) -> None:
    waiter = new_device("bob")
    cursor = waiter.get("/snapshot").json()["cursor"]
    began = time.monotonic()
    page = waiter.get("/changes", params={"cursor": cursor, "wait": 1}).json()
    assert 0.9 < time.monotonic() - began < 4
    assert (page["changes"], page["cursor"]) == ([], cursor)


def test_changes_of_another_account_wake_nobody(alice: httpx.Client, folder: str, bob: httpx.Client) -> None:
    cursor = bob.get("/snapshot").json()["cursor"]
    threading.Timer(0.2, lambda: alice.put(f"/files/{folder}/a", content=b"1")).start()
    began = time.monotonic()
    assert bob.get("/changes", params={"cursor": cursor, "wait": 1}).json()["changes"] == []
    assert time.monotonic() - began > 0.9


def test_events_tell_of_changes(alice: httpx.Client, folder: str, new_device: Callable[..., httpx.Client]) -> None:
    listener = new_device()
    threading.Timer(0.4, lambda: alice.put(f"/files/{folder}/a", content=b"1")).start()
    lines: list[str] = []
    with listener.stream("GET", "/events", timeout=10) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        for line in stream.iter_lines():
            lines.append(line)
            if line.startswith("data:"):
                break
    assert "event: change" in lines
    cursor = lines[-1].split('"')[3]
    assert cursor == alice.get("/snapshot").json()["cursor"]


def test_one_device_cannot_take_all_places_to_wait(new_device: Callable[..., httpx.Client]) -> None:
    client = new_device("bob")
    cursor = client.get("/snapshot").json()["cursor"]
    statuses: list[int] = []

    def wait() -> None:
        with httpx.Client(base_url=client.base_url, headers=client.headers, timeout=10) as own:
            statuses.append(own.get("/changes", params={"cursor": cursor, "wait": 2}).status_code)

    threads = [threading.Thread(target=wait) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 8 + [429] * 4


def test_who_hangs_up_gives_the_place_free(server: RunningServer, new_device: Callable[..., httpx.Client]) -> None:
    client = new_device("bob")
    cursor = client.get("/snapshot").json()["cursor"]
    request = (
        f"GET /api/v1/changes?cursor={cursor}&wait=30 HTTP/1.1\r\nhost: x\r\n"
        f"authorization: {client.headers['authorization']}\r\n\r\n"
    )
    for _ in range(3):
        connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8)]
        for connection in connections:
            connection.sendall(request.encode())
        time.sleep(0.3)
        for connection in connections:
            connection.close()
        time.sleep(0.3)
    assert client.get("/changes", params={"cursor": cursor, "wait": 1}).status_code == 200


def test_a_conflict_keeps_both_is_listed_decided_and_undone(
    alice: httpx.Client, folder: str, new_device: Callable[..., httpx.Client]
) -> None:
    other = new_device()
    parent = alice.get(f"/files/{folder}").json()["node"]["id"]
    first = _commit(alice, _put(alice, b"base", parent=parent, name="plan.txt"))[0]
    node, base = first["node"], first["revision"]
    assert _commit(alice, _put(alice, b"hers", node=node, base=base))[0]["status"] == "ok"
    copy = _commit(other, _put(other, b"his", node=node, base=base))[0]
    assert copy["status"] == "conflict_copy"
    conflict = next(
        entry for entry in alice.get("/conflicts").json()["conflicts"] if entry["theirs"]["node"]["id"] == node
    )
    assert (conflict["theirs"]["device"], conflict["mine"]["device"]) == ("alice's laptop", "test")
    decided = alice.post(f"/conflicts/{conflict['id']}/resolve", json={"keep": "mine"})
    assert decided.json()["resolved"] == "mine"
    assert alice.get(f"/files/{folder}/plan.txt").content == b"his"
    assert alice.post(f"/conflicts/{conflict['id']}/undo").status_code == 200
    assert alice.get(f"/files/{folder}/plan.txt").content == b"hers"


def test_an_upload_goes_on_where_it_was_interrupted(alice: httpx.Client, folder: str) -> None:
    data = os.urandom(9_000_000)
    begun = alice.post("/uploads", json={"path": f"{folder}/big", "size": len(data), "mtime": 5})
    assert begun.status_code == 201
    address = begun.headers["location"].removeprefix("/api/v1")
    piece = {"content-type": "application/offset+octet-stream"}
    first = alice.patch(address, content=data[:5_000_000], headers={**piece, "upload-offset": "0"})
    assert (first.status_code, first.headers["upload-offset"]) == (204, "5000000")
    wrong = alice.patch(address, content=data, headers={**piece, "upload-offset": "7"})
    assert problem(wrong) == (409, "offset")
    assert alice.head(address).headers["upload-offset"] == "5000000"
    last = alice.patch(address, content=data[5_000_000:], headers={**piece, "upload-offset": "5000000"})
    assert last.status_code == 200
    assert last.json()["entry"]["mtime"] == 5
    assert alice.get(f"/files/{folder}/big").content == data


def test_what_arrived_before_the_line_broke_stays(server: RunningServer, alice: httpx.Client, folder: str) -> None:
    address = alice.post("/uploads", json={"path": f"{folder}/b", "size": 900_000}).headers["location"]
    head = (
        f"PATCH {address} HTTP/1.1\r\nhost: x\r\nauthorization: {alice.headers['authorization']}\r\n"
        "content-type: application/offset+octet-stream\r\nupload-offset: 0\r\ncontent-length: 900000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=8) as connection:
        connection.sendall(head.encode() + b"x" * 500_000)
        time.sleep(0.3)
    for _ in range(50):
        if (offset := int(alice.head(address.removeprefix("/api/v1")).headers["upload-offset"])) > 0:
            break
        time.sleep(0.1)
    assert offset == 500_000


def _begin(server: RunningServer, client: httpx.Client, method: str, path: str, length: int) -> socket.socket:
    """A connection on which a body is announced and none of it sent."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connection.sendall(
        f"{method} /api/v1{path} HTTP/1.1\r\nhost: x\r\nauthorization: {client.headers['authorization']}\r\n"
        f"content-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n".encode()
    )
    return connection


@pytest.mark.parametrize("end", ["cut", "dead"])
def test_what_arrived_of_a_batch_before_the_line_broke_stays(
    server: RunningServer, new_device: Callable[..., httpx.Client], end: str
) -> None:
    """Asked for at once, while the server may still read and write it; `dead`: nobody tells it that the line is."""
    client = new_device()
    client.get("/usage")
    for _ in range(5):
        blobs = [os.urandom(300_000) for _ in range(20)]
        body = _frame(*blobs)
        with contextlib.closing(_begin(server, client, "POST", "/blobs/batch", len(body))) as connection:
            connection.sendall(body[:-100])
            if end == "cut":
                connection.close()
            missing = client.post("/blobs/have", json={"blobs": [_sha(blob) for blob in blobs]}).json()["missing"]
            assert missing == [_sha(blobs[-1])]


def test_a_content_that_arrived_as_the_line_broke_is_not_asked_for_again(
    server: RunningServer, new_device: Callable[..., httpx.Client]
) -> None:
    client = new_device()
    client.get("/usage")
    for _ in range(5):
        data = os.urandom(4_000_000)
        with contextlib.closing(_begin(server, client, "PUT", f"/blobs/{_sha(data)}", len(data))) as connection:
            connection.sendall(data)
        assert client.post("/blobs/have", json={"blobs": [_sha(data)]}).json()["missing"] == []


def test_events_from_now_on_need_no_history(server: RunningServer, anybody: httpx.Client) -> None:
    server.add_user("forgetful")
    log_in(anybody, "forgetful")
    anybody.put("/files/a", content=b"x")
    with contextlib.closing(sqlite3.connect(server.data / "db.sqlite3", timeout=10)) as db:
        db.execute("UPDATE trees SET horizon = seq WHERE account = (SELECT id FROM accounts WHERE name = 'forgetful')")
        db.commit()
    assert problem(anybody.get("/changes")) == (410, "gone")
    with anybody.stream("GET", "/events") as events:
        assert events.status_code == 200
        assert next(events.iter_lines()) == ": waiting"


async def test_who_stops_reading_a_batch_neither_holds_it_in_memory_nor_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(4 * 1024 * 1024)
    (tmp_path / "blob").write_bytes(data)
    blob = BlobFile(hashlib.sha256(data).hexdigest(), tmp_path / "blob", len(data))
    sent: list[bytes] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def take(message: Message) -> None:
        sent.append(message.get("body", b""))

    await _Frames([blob], None, lambda: None)({}, receive, take)
    assert b"".join(sent)[36:] == data
    assert max(map(len, sent)) <= 512 * 1024

    async def stall(message: Message) -> None:
        await asyncio.sleep(5 if message["type"] == "http.response.body" else 0)

    monkeypatch.setattr(content, "STALLED_SECONDS", 0.05)
    with pytest.raises(TimeoutError):
        await _Frames([blob], None, lambda: None)({}, receive, stall)


def test_an_upload_of_a_tus_client(alice: httpx.Client, folder: str) -> None:
    path = base64.b64encode(f"{folder}/tus".encode()).decode()
    begun = alice.post(
        "/uploads", headers={"tus-resumable": "1.0.0", "upload-length": "3", "upload-metadata": f"path {path}"}
    )
    assert (begun.status_code, begun.headers["tus-resumable"]) == (201, "1.0.0")
    piece = {"content-type": "application/offset+octet-stream", "upload-offset": "0", "tus-resumable": "1.0.0"}
    last = alice.patch(begun.headers["location"].removeprefix("/api/v1"), content=b"abc", headers=piece)
    assert (last.status_code, last.headers["upload-offset"]) == (204, "3")
    assert alice.get(f"/files/{folder}/tus").content == b"abc"
    spoken = alice.options("/uploads")
    assert (spoken.status_code, spoken.headers["tus-version"]) == (204, "1.0.0")


def test_a_tus_client_is_not_told_done_when_the_file_was_changed_meanwhile(alice: httpx.Client, folder: str) -> None:
    path = base64.b64encode(f"{folder}/tus".encode()).decode()
    announced = {"tus-resumable": "1.0.0", "upload-length": "3", "upload-metadata": f"path {path}"}
    address = alice.post("/uploads", headers=announced).headers["location"].removeprefix("/api/v1")
    alice.put(f"/files/{folder}/tus", content=b"other").raise_for_status()
    piece = {"content-type": "application/offset+octet-stream", "upload-offset": "0", "tus-resumable": "1.0.0"}
    assert problem(alice.patch(address, content=b"abc", headers=piece)) == (409, "stale")
    asked = alice.head(address, headers={"tus-resumable": "1.0.0"})
    assert (asked.status_code, "upload-offset" in asked.headers) == (409, False)
    assert problem(alice.post("/uploads", headers=announced)) == (409, "stale")
    alice.delete(f"/files/{folder}/tus").raise_for_status()
    assert alice.head(address).headers["upload-offset"] == "3"
    assert alice.get(f"/files/{folder}/tus").content == b"abc"


def test_more_than_was_announced_is_refused(alice: httpx.Client, folder: str) -> None:
    address = (
        alice.post("/uploads", json={"path": f"{folder}/x", "size": 3}).headers["location"].removeprefix("/api/v1")
    )
    piece = {"content-type": "application/offset+octet-stream", "upload-offset": "0"}
    assert problem(alice.patch(address, content=b"abcd", headers=piece)) == (413, "too-large")
    assert alice.delete(address).status_code == 204
    assert alice.get(address).status_code == 404


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "br, gzip;q=0.5", "gzip;q=0", "identity"])
def test_long_lists_are_compressed_as_the_client_likes(alice: httpx.Client, encoding: str) -> None:
    for number in range(20):
        alice.put(f"/files/list-{number}", content=b"x")
    with alice.stream("GET", "/files", headers={"accept-encoding": encoding}) as got:
        raw = b"".join(got.iter_raw())
    expected = {"gzip": "gzip", "zstd": "zstd", "br, gzip;q=0.5": "gzip"}.get(encoding)
    assert got.headers.get("content-encoding") == expected
    assert len(raw) > 0


def test_health_and_figures(server: Any, base_url: str, alice: httpx.Client) -> None:
    health = httpx.get(f"{base_url}/healthz")
    assert health.json()["status"] == "ok"
    assert server.tool("check").returncode == 0
    assert httpx.get(f"{base_url}/healthz").json()["last_check_ok"] is True
    figures = httpx.get(f"{base_url}/metrics").text
    assert 'sync_requests_total{operation="login",status="200"}' in figures
    assert "sync_free_bytes" in figures
    forwarded = httpx.get(f"{base_url}/metrics", headers={"x-forwarded-for": "192.0.2.1"})
    assert problem(forwarded) == (403, "not-allowed")
