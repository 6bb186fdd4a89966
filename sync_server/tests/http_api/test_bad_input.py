"""Whatever is sent: a problem document with the right status, nothing changed, nothing told, never 500."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import select
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import zstandard
from conftest import problem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real_process.server import RunningServer

JSON = {"content-type": "application/json"}
BYTES = {"content-type": "application/octet-stream"}


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _commit(*ops: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"op_id": "op-" + _sha(repr(ops).encode())[:20], "ops": list(ops), **more}).encode()


PUT = {"op": "put", "parent": "root", "name": "x", "blobs": [], "size": 0, "mtime": 0}

# name: (method, path, headers, body, status)
BAD: dict[str, tuple[str, str, dict[str, str], bytes, int]] = {
    "no JSON": ("POST", "/commit", JSON, b"{", 400),
    "no UTF-8": ("POST", "/commit", JSON, b'{"op_id": "\xff"}', 400),
    "empty": ("POST", "/commit", JSON, b"", 400),
    "nested deeply": ("POST", "/commit", JSON, b"[" * 100_000, 422),
    "nested deeply inside": ("POST", "/commit", JSON, b'{"ops":' + b"[" * 100_000, 422),
    "an array instead of an object": ("POST", "/commit", JSON, b"[]", 422),
    "a field missing": ("POST", "/commit", JSON, b"{}", 422),
    "an unknown field": ("POST", "/commit", JSON, _commit(PUT, extra=1), 422),
    "an unknown field of an operation": ("POST", "/commit", JSON, _commit({**PUT, "extra": 1}), 422),
    "an unknown operation": ("POST", "/commit", JSON, _commit({**PUT, "op": "format"}), 422),
    "a text for a number": ("POST", "/commit", JSON, _commit({**PUT, "size": "0"}), 422),
    "a negative size": ("POST", "/commit", JSON, _commit({**PUT, "size": -1}), 422),
    "an endless number": ("POST", "/commit", JSON, b'{"op_id":"op-000000","atomic":' + b"9" * 5000 + b"}", 422),
    "no operation": ("POST", "/commit", JSON, _commit(), 422),
    "a hash that is none": ("POST", "/commit", JSON, _commit({**PUT, "blobs": ["ABC"]}), 422),
    "another kind of body": ("POST", "/commit", {"content-type": "text/plain"}, _commit(PUT), 415),
    "no kind of body": ("POST", "/commit", {}, _commit(PUT), 415),
    "an unknown encoding": ("POST", "/commit", {**JSON, "content-encoding": "br"}, b"x", 415),
    "gzip that is none": ("POST", "/commit", {**JSON, "content-encoding": "gzip"}, b"not gzip", 400),
    "gzip that breaks off": (
        "POST", "/commit", {**JSON, "content-encoding": "gzip"}, gzip.compress(_commit(PUT))[:-9], 400,
    ),
    "zstd that is none": ("POST", "/commit", {**JSON, "content-encoding": "zstd"}, b"not zstd", 400),
    "zstd that breaks off": (
        "POST", "/commit", {**JSON, "content-encoding": "zstd"}, zstandard.compress(_commit(PUT))[:-3], 400,
    ),
    "JSON beyond the limit": ("POST", "/blobs/have", JSON, b" " * 200_000, 413),
    "too many names": ("POST", "/blobs/have", JSON, json.dumps({"blobs": ["0" * 64] * 1001}).encode(), 422),
    "a name that is not the bytes'": ("PUT", f"/blobs/{'0' * 64}", BYTES, b"x", 422),
    "a name that is none": ("PUT", "/blobs/xyz", BYTES, b"x", 404),
    "a name in capitals": ("PUT", f"/blobs/{'A' * 64}", BYTES, b"x", 404),
    "a content beyond 4 MiB": ("PUT", f"/blobs/{'0' * 64}", BYTES, b"\0" * (4 * 1024 * 1024 + 1), 413),
    "a batch cut off": ("POST", "/blobs/batch", BYTES, b"\0" * 32 + b"\0\0\0\x09abc", 422),
    "a batch of half a header": ("POST", "/blobs/batch", BYTES, b"\0" * 20, 422),
    "a batch beyond 8 MiB": ("POST", "/blobs/batch", BYTES, b"\0" * (8 * 1024 * 1024 + 1), 413),
    "a batch as JSON": ("POST", "/blobs/batch", JSON, b"{}", 415),
    "a cursor that is none": ("GET", "/changes?cursor=%00", {}, b"", 422),
    "a cursor of another life": ("GET", "/changes?cursor=ffffffff.1", {}, b"", 410),
    "a limit of nothing": ("GET", "/changes?limit=0", {}, b"", 422),
    "a limit beyond the limit": ("GET", "/changes?limit=100000", {}, b"", 422),
    "a limit that is no number": ("GET", "/changes?limit=many", {}, b"", 422),
    "an endless limit": ("GET", "/changes?limit=" + "9" * 5000, {}, b"", 422),
    "an unknown parameter": ("GET", "/changes?limits=3", {}, b"", 422),
    "a parameter twice": ("GET", "/changes?limit=1&limit=2", {}, b"", 422),
    "a page that is none": ("GET", "/snapshot?page=../../etc", {}, b"", 422),
    "a query of bytes": ("GET", "/changes?cursor=%ff%fe", {}, b"", 400),
    "a node that is not": ("GET", "/nodes/n999999", {}, b"", 404),
    "a node that cannot be": ("GET", "/nodes/..%2f..%2fetc", {}, b"", 404),
    "an address that is not": ("GET", "/nothing", {}, b"", 404),
    "a method that is not": ("PATCH", "/commit", {}, b"", 405),
    "a file that is not": ("GET", "/files/nothing/here", {}, b"", 404),
    "a folder that is not": ("PUT", "/files/nothing/here", {}, b"x", 404),
    "up and away": ("GET", "/files/..%2f..%2fetc%2fpasswd", {}, b"", 422),
    "a dot": ("PUT", "/files/%2e", {}, b"x", 422),
    "an empty name": ("PUT", "/files/a%2f%2fb", {}, b"x", 422),
    "a NUL in the path": ("PUT", "/files/a%00b", {}, b"x", 422),
    "a path that is no UTF-8": ("PUT", "/files/%ff%fe", {}, b"x", 400),
    "a path with half a surrogate": ("PUT", "/files/%ed%a0%80", {}, b"x", 400),
    "a name too long": ("PUT", "/files/" + "a" * 256, {}, b"x", 422),
    "a name too long in bytes": ("PUT", "/files/" + "%C3%A9" * 128, {}, b"x", 422),
    "a path too long": ("PUT", "/files/" + "/".join(["a" * 100] * 50), {}, b"x", 422),
    "the root as a file": ("PUT", "/files/", {}, b"x", 422),
    "the root into the trash": ("DELETE", "/files/", {}, b"", 422),
    "a tag without quotes": ("PUT", "/files/x", {"if-match": "abc"}, b"x", 400),
    "a tag that is not": ("PUT", "/files/x", {"if-match": '"abc"'}, b"x", 412),
    "a part as the whole": ("PUT", "/files/x", {"content-range": "bytes 0-0/5"}, b"x", 400),
    "a file beyond the limit": ("PUT", "/files/x", {}, b"\0" * (32 * 1024 * 1024 + 1), 413),
    "a time that is none": ("PUT", "/files/x?mtime=yesterday", {}, b"x", 422),
    "an action that is none": ("POST", "/files/x", JSON, b'{"action": "explode"}', 422),
    "an upload beyond the limit": ("POST", "/uploads", JSON, b'{"path": "x", "size": 99999999999}', 413),
    "an upload into nothing": ("POST", "/uploads", JSON, b'{"path": "no/where", "size": 1}', 404),
    "an upload without base64": ("POST", "/uploads", {"upload-length": "1", "upload-metadata": "path %%"}, b"", 400),
    "an upload that is not": ("HEAD", f"/uploads/{'0' * 24}", {}, b"", 404),
    "a conflict that is not": ("POST", "/conflicts/c99999/resolve", JSON, b'{"keep": "mine"}', 404),
    "a decision that is none": ("POST", "/conflicts/c99999/resolve", JSON, b'{"keep": "nobody"}', 422),
    "a device that is not": ("DELETE", "/devices/999999", {}, b"", 404),
    "a device that cannot be": ("DELETE", "/devices/" + "9" * 500, {}, b"", 404),
    "a login without a password": ("POST", "/auth/login", JSON, b'{"user": "alice", "device": "x"}', 422),
    "a login with an endless password": (
        "POST", "/auth/login", JSON,
        json.dumps({"user": "alice", "password": "x" * 1025, "device": "x"}).encode(), 422,
    ),
    "a login with a surrogate": (
        "POST", "/auth/login", JSON, b'{"user": "\\ud800", "password": "x", "device": "x"}', 400,
    ),
    "a scope that is none": (
        "POST", "/auth/login", JSON, b'{"user": "alice", "password": "x", "device": "x", "scope": "root"}', 422,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered_with_its_status_and_changes_nothing(alice: httpx.Client, name: str) -> None:
    method, path, headers, body, status = BAD[name]
    before = alice.get("/snapshot").json()["cursor"]
    answer = alice.request(method, path, headers=headers, content=body)
    assert answer.status_code == status, answer.text
    if method != "HEAD":
        problem(answer)
    assert alice.get("/snapshot").json()["cursor"] == before


def test_a_stale_base_is_told_with_what_is_there(alice: httpx.Client, folder: str) -> None:
    first = alice.put(f"/files/{folder}/x", content=b"one")
    alice.put(f"/files/{folder}/x", content=b"two")
    stale = alice.put(f"/files/{folder}/x", content=b"three", headers={"if-match": first.headers["etag"]})
    assert problem(stale) == (412, "precondition")
    assert stale.headers["etag"] == f'"{_sha(b"two")}"'
    assert alice.get(f"/files/{folder}/x").content == b"two"


def test_a_file_below_a_deleted_folder_is_not_found(alice: httpx.Client, folder: str) -> None:
    alice.delete(f"/files/{folder}")
    assert problem(alice.put(f"/files/{folder}/x", content=b"x")) == (404, "not-found")


def test_a_twin_in_case_is_a_clash(alice: httpx.Client, folder: str) -> None:
    alice.post(f"/files/{folder}/Notes", json={"action": "mkdir"})
    answer = alice.post(f"/files/{folder}/a", json={"action": "mkdir"})
    assert answer.status_code == 201
    moved = alice.post(f"/files/{folder}/a", json={"action": "move", "to": f"{folder}/NOTES"})
    assert problem(moved) == (409, "clash")


def test_a_full_quota_is_told_before_anything_breaks(server: RunningServer, base_url: str) -> None:
    from conftest import log_in

    if server.tool("user", "list").stdout.find("dora") < 0:
        server.add_user("dora")
    assert server.tool("user", "quota", "dora", "10K").returncode == 0
    with httpx.Client(base_url=f"{base_url}/api/v1") as dora:
        log_in(dora, "dora")
        small, big = b"s" * 4096, bytes(range(256)) * 64
        assert dora.put("/files/small", content=small).status_code == 201
        assert problem(dora.put("/files/big", content=big)) == (507, "quota")
        assert problem(dora.put(f"/blobs/{_sha(big)}", content=big)) == (507, "quota")
        usage = dora.get("/usage").json()
        assert (usage["used"], usage["quota"]) == (4096, 10 * 1024)
        assert dora.get("/files/small").content == small


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_is_defused_by_size(alice: httpx.Client, server: RunningServer, encoding: str) -> None:
    zeros = b"\0" * (256 * 1024 * 1024)
    bomb = gzip.compress(zeros, 9) if encoding == "gzip" else zstandard.compress(zeros)
    before = _memory(server)
    for path in (f"/blobs/{_sha(zeros)}", "/files/bomb"):
        answer = alice.put(path, content=bomb, headers={"content-encoding": encoding})
        assert problem(answer) == (413, "too-large")
    assert _memory(server) - before < 60, "megabytes"


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_that_grows_out_of_proportion_is_refused(alice: httpx.Client, encoding: str) -> None:
    zeros = b"\0" * (16 * 1024 * 1024)
    bomb = gzip.compress(zeros, 9) if encoding == "gzip" else zstandard.compress(zeros)
    answer = alice.put("/files/bomb", content=bomb, headers={"content-encoding": encoding})
    assert problem(answer) == (413, "too-large")
    assert "times its size" in answer.json()["detail"]


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_an_honest_body_may_be_compressed(alice: httpx.Client, folder: str, encoding: str) -> None:
    zeros = b"\0" * (4 * 1024 * 1024)
    body = gzip.compress(zeros) if encoding == "gzip" else zstandard.compress(zeros)
    answer = alice.put(f"/blobs/{_sha(zeros)}", content=body, headers={"content-encoding": encoding})
    assert answer.status_code == 200, answer.text
    text = b"line\n" * 200_000
    body = gzip.compress(text[:5]) + gzip.compress(text[5:]) if encoding == "gzip" else zstandard.compress(text)
    answer = alice.put(f"/files/{folder}/log", content=body, headers={"content-encoding": encoding})
    assert answer.json()["content"] == _sha(text)


def _memory(server: RunningServer) -> float:
    assert server.process is not None
    with open(f"/proc/{server.process.pid}/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def _raw(server: RunningServer, data: bytes, *, wait: float = 0, more: bytes = b"", timeout: float = 10) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout) as connection:
        connection.sendall(data)
        if wait:
            time.sleep(wait)
            connection.sendall(more)
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
                if b"\r\n\r\n" in received and b"content-length: 0" in received.lower():
                    break
        except (TimeoutError, ConnectionResetError):
            pass
        return received


def test_a_body_that_stands_still_is_given_up(server: RunningServer, alice: httpx.Client) -> None:
    head = (
        f"PUT /api/v1/files/slow HTTP/1.1\r\nhost: x\r\nauthorization: {alice.headers['authorization']}\r\n"
        "content-length: 1000\r\n\r\nabc"
    )
    began = time.monotonic()
    answer = _raw(server, head.encode(), timeout=8)
    assert b" 408 " in answer.splitlines()[0]
    assert 0.9 < time.monotonic() - began < 9
    assert alice.get("/files/slow").status_code == 404


def test_a_body_that_trickles_is_given_up(server: RunningServer, alice: httpx.Client) -> None:
    head = (
        f"PUT /api/v1/files/slow HTTP/1.1\r\nhost: x\r\nauthorization: {alice.headers['authorization']}\r\n"
        "content-length: 1000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=8) as connection:
        connection.sendall(head.encode())
        for _ in range(40):
            connection.sendall(b"x")
            if select.select([connection], [], [], 0.3)[0]:
                break
        else:
            pytest.fail("a byte every 0.3 seconds keeps the connection for ever")
        assert b" 408 " in connection.recv(65536).splitlines()[0]


def test_many_large_bodies_at_once_are_put_off_before_they_fill_the_memory(
    server: RunningServer, alice: httpx.Client
) -> None:
    head = (
        f"POST /api/v1/blobs/batch HTTP/1.1\r\nhost: x\r\nauthorization: {alice.headers['authorization']}\r\n"
        "content-type: application/octet-stream\r\ncontent-length: 8000000\r\n\r\n"
    )
    with contextlib.ExitStack() as stack:
        senders = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10)) for _ in range(6)
        ]
        for sender in senders:
            with contextlib.suppress(ConnectionError):
                sender.sendall(head.encode() + b"x" * 7_000_000)
        refused = [sender for sender in senders if select.select([sender], [], [], 0.5)[0]]
        answers = [sender.recv(65536).split(b"\r\n")[0] for sender in refused]
        assert any(b" 503 " in answer for answer in answers), answers
        assert alice.post("/blobs/have", json={"blobs": []}).status_code == 200


def test_a_refusal_before_the_body_was_read_says_that_the_connection_ends(alice: httpx.Client) -> None:
    early = alice.put("/files/nothing/here", content=b"x" * 1000)
    assert (early.status_code, early.headers["connection"]) == (404, "close")
    for answer in (alice.get("/nothing"), alice.post("/commit", content=b"{}", headers=JSON)):
        assert answer.headers.get("connection") != "close"


def test_huge_headers_are_refused(server: RunningServer) -> None:
    answer = _raw(server, b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-big: " + b"a" * 1_000_000 + b"\r\n\r\n", timeout=3)
    assert b" 200 " not in answer[:20]


@pytest.mark.parametrize(
    "request_line",
    [b"GET / HTTP/9.9", b"GET /\x00 HTTP/1.1", b"\x16\x03\x01\x02\x00", b"GET  HTTP/1.1", b"G\xc3\xa9T / HTTP/1.1"],
)
def test_what_is_no_http_ends_the_connection(server: RunningServer, alice: httpx.Client, request_line: bytes) -> None:
    answer = _raw(server, request_line + b"\r\nhost: x\r\nconnection: close\r\n\r\n", timeout=3)
    assert b" 500 " not in answer[:20]
    assert alice.get("/usage").status_code == 200


def test_two_lengths_are_never_smuggled(server: RunningServer, alice: httpx.Client) -> None:
    data = (
        b"POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    )
    assert _raw(server, data, timeout=2).count(b'"status":"ok"') <= 1
    assert alice.get("/usage").status_code == 200


_PATHS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40) | st.sampled_from(
    ["..", "../x", "a/../b", "CON", "a" * 300, "e\u0301", "\u00e9", "a\\b", " ", ".", "\u202egnp", "x/", "/x", "a\nb"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=_PATHS)
def test_any_path_is_stored_and_found_again_or_refused(alice: httpx.Client, folder: str, path: str) -> None:
    from urllib.parse import quote

    url = f"/api/v1/files/{folder}/{quote(path, safe='').replace('.', '%2E')}"
    raw = httpx.URL(alice.base_url).copy_with(raw_path=url.encode())
    stored = alice.put(raw, content=path.encode())
    assert stored.status_code in {200, 201, 404, 409, 422}, stored.text
    if stored.status_code in {200, 201}:
        assert alice.get(raw).content == path.encode()
    else:
        problem(stored)


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["op_id", "ops", "op", "node", "base", "name", "keep", "blobs", "x"]), inner, max_size=5
        )
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_JSON, path=st.sampled_from(["/commit", "/blobs/have", "/uploads", "/files/x", "/auth/refresh"]))
def test_any_json_is_answered(alice: httpx.Client, body: Any, path: str) -> None:
    answer = alice.post(path, content=json.dumps(body), headers=JSON)
    assert answer.status_code in {200, 201, 400, 401, 404, 422}, answer.text


def test_an_error_says_nothing_of_the_inside(alice: httpx.Client, new_device: Callable[..., httpx.Client]) -> None:
    for answer in (alice.get("/nothing"), alice.get("/files/%ff"), alice.post("/commit", json=[])):
        text = answer.text
        assert "sqlite" not in text.lower()
        assert ".py" not in text
