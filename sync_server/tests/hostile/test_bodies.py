"""Bodies that lie, burst, break off or never end."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import random
import secrets
import socket
import struct
import time
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real_process.server import Connection, RunningServer

from sync_protocol.hashing import blob_id

from .conftest import Everything, is_problem, no_tmp_left

MB = 1_000_000
OCTETS = {"Content-Type": "application/octet-stream"}


def bomb(kind: str, size: int) -> bytes:
    """`size` zero bytes, made small."""
    piece = b"\0" * MB
    if kind == "gzip":
        packer = zlib.compressobj(9, wbits=31)
        return b"".join(packer.compress(piece) for _ in range(size // MB)) + packer.flush()
    wrapped = zstandard.ZstdCompressor(level=3).compressobj()
    return b"".join(wrapped.compress(piece) for _ in range(size // MB)) + wrapped.flush()


BOMBS = {kind: bomb(kind, 600 * MB) for kind in ("gzip", "zstd")}


def rss(server: RunningServer) -> float:
    assert server.process is not None
    with open(f"/proc/{server.process.pid}/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("door", ["blob", "file", "commit", "batch", "login", "have"])
def test_a_body_that_unpacks_to_600_mb_is_refused_early(
    server: RunningServer, owner: Connection, everything: Everything, kind: str, door: str
) -> None:
    before = everything.now()
    method, path = {
        "blob": ("PUT", f"/blobs/{'0' * 64}"),
        "file": ("PUT", "/files/bomb"),
        "commit": ("POST", "/commit"),
        "batch": ("POST", "/blobs/batch"),
        "login": ("POST", "/auth/login"),
        "have": ("POST", "/blobs/have"),
    }[door]
    headers = {"Content-Encoding": kind, **(OCTETS if door in {"blob", "file", "batch"} else {})}
    began = time.monotonic()
    answer = owner.send(method, path, BOMBS[kind], headers)
    owner.close()
    assert is_problem(answer, 413)
    assert time.monotonic() - began < 5
    assert everything.now() == before
    assert no_tmp_left(server)


def test_no_bomb_made_the_server_big(server: RunningServer, owner: Connection) -> None:
    for kind, packed in BOMBS.items():
        owner.send("PUT", "/files/bomb", packed, {"Content-Encoding": kind, **OCTETS})
        owner.close()
    assert rss(server) < 120


@pytest.mark.parametrize("encoding", ["br", "deflate", "compress", "gzip, gzip", "zstd, gzip", "nonsense", "*"])
def test_an_encoding_the_server_does_not_take_is_415(owner: Connection, encoding: str) -> None:
    answer = owner.send("PUT", "/files/x", b"abc", {"Content-Encoding": encoding, **OCTETS})
    owner.close()
    assert is_problem(answer, 415)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("gzip", b"not gzip at all"),
        ("gzip", gzip.compress(b"x" * 1000)[:-9]),
        ("gzip", gzip.compress(b"x" * 1000)[:-1] + b"\xff"),
        ("gzip", gzip.compress(b"x" * 1000) + b"trailing rubbish"),
        ("zstd", b"not zstd at all"),
        ("zstd", zstandard.compress(b"x" * 1000)[:-3]),
        # A window of 2 GB asked for by 14 bytes.
        ("zstd", struct.pack("<IBB", 0xFD2FB528, 0x00, 0xA8) + b"\x09\0\0abcde"),
    ],
    ids=["gzip: no", "gzip: cut", "gzip: bad length", "gzip: rubbish after", "zstd: no", "zstd: cut", "zstd: window"],
)
def test_a_damaged_compressed_body_is_refused(
    server: RunningServer, owner: Connection, everything: Everything, kind: str, data: bytes
) -> None:
    before = everything.now()
    answer = owner.send("PUT", "/files/damaged", data, {"Content-Encoding": kind, **OCTETS})
    owner.close()
    assert is_problem(answer, 400, 413)
    assert everything.now() == before
    assert no_tmp_left(server)


JSON_DOORS = ["/commit", "/blobs/have", "/blobs/fetch", "/uploads", "/auth/login", "/auth/refresh", "/app-passwords"]
NO_JSON: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"op_id": "\xff\xfe"}',
    "UTF-16": '{"op_id": "abcdefgh", "ops": []}'.encode("utf-16"),
    "a list": b"[]",
    "null": b"null",
    "a number": b"1e999",
    "100,000 deep": b"[" * 100_000,
    "100,000 deep in a field": b'{"op_id":' + b'{"a":' * 100_000,
    "unknown field": b'{"surprise": 1}',
    "twice": b'{"op_id":"aaaaaaaa","ops":[]}{"op_id":"aaaaaaaa","ops":[]}',
    "NaN": b'{"op_id": NaN}',
    "half a surrogate pair": b'{"op_id": "\\ud800"}',
    "9 MB": b'{"op_id": "' + b"a" * (9 * MB) + b'"}',
}


@pytest.mark.parametrize("what", NO_JSON)
@pytest.mark.parametrize("path", JSON_DOORS)
def test_json_that_is_none_is_a_problem_and_changes_nothing(
    owner: Connection, everything: Everything, path: str, what: str
) -> None:
    before = everything.now()
    answer = owner.send("POST", path, NO_JSON[what])
    owner.close()
    assert is_problem(answer, 400, 413, 415, 422)
    assert everything.now() == before


@pytest.mark.parametrize(
    "op",
    [
        {"op": "explode"},
        {"op": "put"},
        {"op": "put", "parent": "root", "name": "x", "blobs": ["zz"], "size": 1, "mtime": 0},
        {"op": "put", "parent": "root", "name": "x", "blobs": [], "size": -1, "mtime": 0},
        {"op": "put", "parent": "root", "name": "x", "blobs": [], "size": 2**70, "mtime": 0},
        {"op": "put", "parent": "root", "name": "x", "blobs": [], "size": 1, "mtime": 0},
        {"op": "put", "parent": "root", "name": "x", "blobs": [], "size": 0, "mtime": 2**63},
        {"op": "put", "parent": "root", "name": "x", "blobs": [], "size": 0, "mtime": "now"},
        {"op": "put", "parent": "root", "name": "x", "blobs": [], "size": 0, "mtime": 0.5},
        {"op": "put", "parent": "@0", "name": "x", "blobs": [], "size": 0, "mtime": 0},
        {"op": "put", "parent": "@999", "name": "x", "blobs": [], "size": 0, "mtime": 0},
        {"op": "put", "node": "root", "base": 0, "blobs": [], "size": 0, "mtime": 0},
        {"op": "put", "parent": "root", "blobs": [], "size": 0, "mtime": 0},
        {"op": "move", "node": "root", "base": 0, "parent": "root", "name": "x"},
        {"op": "delete", "node": "root", "base": 0},
        {"op": "delete", "node": "root", "base": 2**53},
        {"op": "restore", "node": "root"},
        {"op": "mkdir", "parent": "' OR 1=1 --", "name": "x"},
        {"op": "mkdir", "parent": "root", "name": 7},
        {"op": "mkdir", "parent": "root", "name": "x", "extra": True},
    ],
    ids=str,
)
def test_an_operation_without_sense_changes_nothing(
    owner: Connection, everything: Everything, op: dict[str, object]
) -> None:
    before = everything.now()
    answer = owner.send("POST", "/commit", json.dumps({"op_id": secrets.token_hex(8), "ops": [op]}).encode())
    if answer.status == 200:
        assert answer.json()["results"][0]["status"] in {
            "invalid",
            "not_found",
            "cycle",
            "missing_blobs",
            "stale",
            "same",
        }
    else:
        assert is_problem(answer, 400, 422)
    assert everything.now() == before


def test_a_blob_that_is_not_what_its_name_says_is_refused(server: RunningServer, owner: Connection) -> None:
    name = blob_id(b"promised")
    assert is_problem(owner.send("PUT", f"/blobs/{name}", b"delivered", OCTETS), 422)
    assert owner.get_blob(name) is None
    assert no_tmp_left(server)
    owner.close()
    assert is_problem(owner.send("PUT", f"/blobs/{name}", b"x" * (4 * 1024 * 1024 + 1), OCTETS), 413)
    owner.close()


@pytest.mark.parametrize(
    "body",
    [
        b"short", bytes(32) + b"\xff\xff\xff\xff", bytes(32) + struct.pack(">I", 10) + b"123", bytes(35),
        (bytes(32) + struct.pack(">I", 0)) * 1001, bytes(32) + struct.pack(">I", 5 << 20) + bytes(5 << 20),
    ],
    ids=["short", "4 GB said", "breaks off", "no length", "1001 blobs", "too large a blob"],
)  # fmt: skip
def test_a_batch_that_lies_about_lengths_is_refused(owner: Connection, everything: Everything, body: bytes) -> None:
    before = everything.now()
    answer = owner.send("POST", "/blobs/batch", body, OCTETS)
    owner.close()
    if answer.status == 200:
        assert all(one["status"] != "ok" for one in answer.json()["results"])
    else:
        assert is_problem(answer, 400, 413, 422)
    assert everything.now() == before


def speak(port: int, data: bytes, seconds: float = 10) -> bytes:
    """Send bytes as they are, return what comes until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as line:
        try:
            line.sendall(data)
            found = b""
            while piece := line.recv(65536):
                found += piece
        except OSError:
            pass
        return found


REQUESTS: dict[str, bytes] = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "HTTP/9": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "header of 300 KB": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 300_000 + b"\r\n\r\n",
    "5,000 headers": b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    + b"".join(b"X%d: y\r\n" % n for n in range(5000))
    + b"\r\n",
    "address of 300 KB": b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "two lengths": b"POST /api/v1/commit HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": b"POST /api/v1/commit HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
    "negative length": b"POST /api/v1/commit HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "chunk that is no number": b"POST /api/v1/commit HTTP/1.1\r\nHost: x\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n",
    "smuggled": b"POST /api/v1/commit HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("what", REQUESTS)
def test_what_is_not_a_request_is_refused_and_never_500(server: RunningServer, owner: Connection, what: str) -> None:
    answer = speak(server.port, REQUESTS[what])
    assert not answer.startswith(b"HTTP/1.1 5"), answer[:300]
    assert not answer.startswith(b"HTTP/1.1 2"), answer[:300]
    assert owner.send("GET", "/changes").status == 200


def test_slow_requests_are_given_up_and_hold_nobody_up(server: RunningServer, owner: Connection) -> None:
    """300 lines that say nothing, or a byte now and then: the server goes on, and ends the bodies that stand still."""
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(150)]
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    bodies = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    try:
        for line in slow:
            line.sendall(head)
        for line in bodies:
            line.sendall(
                b"PUT /api/v1/files/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nAuthorization: Bearer "
                + owner.token.encode() + b"\r\n\r\nbegin"
            )  # fmt: skip
        began = time.monotonic()
        assert owner.send("GET", "/changes").status == 200
        assert owner.put_file("quick", b"quick").status in {200, 201}
        assert time.monotonic() - began < 2
        for line in bodies:
            line.settimeout(10)
            answer = line.recv(65536)
            assert answer.startswith(b"HTTP/1.1 408"), answer[:200]
        assert owner.send("DELETE", "/files/quick").status == 204
    finally:
        for line in [*silent, *slow, *bodies]:
            line.close()
    assert no_tmp_left(server)


def test_headers_that_never_end_do_not_fill_the_memory(tmp_path: Path) -> None:
    """900 lines that send 120 KB of headers each and never finish: 150 MB are enough, and then everything goes on."""
    server = RunningServer(tmp_path / "data")
    server.start()
    lines = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(900)]
    try:
        for line in lines:
            line.setblocking(False)
        for piece in [b"GET /healthz HTTP/1.1\r\nHost: x\r\n", *[b"X: " + b"a" * 1000 + b"\r\n"] * 120]:
            for line in lines:
                with contextlib.suppress(OSError):
                    line.send(piece)
        time.sleep(1)
        assert rss(server) < 150
    finally:
        for line in lines:
            line.close()
    assert server.connect("").send("GET", "/changes").status == 401
    assert server.stop() == 0


def test_a_body_that_breaks_off_leaves_nothing(
    server: RunningServer, owner: Connection, everything: Everything
) -> None:
    before = everything.now()
    for size in (0, 1, 100_000):
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(
                b"PUT /api/v1/files/broken HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nAuthorization: Bearer "
                + owner.token.encode() + b"\r\n\r\n" + b"x" * size
            )  # fmt: skip
    time.sleep(0.5)
    assert everything.now() == before
    assert no_tmp_left(server)


@pytest.mark.parametrize(
    "header",
    [
        "bytes=abc", "bytes=5-2", "bytes=-0", "bytes=99999999999999999999-", "bytes=0-0," * 1000 + "1-1", "lines=1-2",
        "bytes=--1", "bytes=9-", "bytes=\xb2-\xb3",
    ],
)  # fmt: skip
def test_a_strange_range_is_answered_whole_or_refused(owner: Connection, header: str) -> None:
    assert owner.put_file("ranged", b"0123456789").status in {200, 201}
    kept = http.client.HTTPConnection("127.0.0.1", owner.port, timeout=10)
    kept.request("GET", "/api/v1/files/ranged", headers={"Authorization": f"Bearer {owner.token}", "Range": header})
    answer = kept.getresponse()
    body = answer.read()
    kept.close()
    assert answer.status in {200, 206, 400, 416}
    assert len(body) < 2000


QUERIES = [
    "/changes?limit=0", "/changes?limit=-1", "/changes?limit=1e9", "/changes?limit=100000000000000000000",
    "/changes?wait=-1", "/changes?wait=9999", "/changes?wait=nan", "/changes?cursor=" + "a" * 5000,
    "/changes?cursor=%00", "/changes?cursor=' OR 1=1", "/changes?cursor=0.-5", "/snapshot?page=zzz",
    "/snapshot?limit=0", "/trash?page=%ff", "/nodes/root/children?page=x", "/nodes/%00", "/nodes/" + "n" * 500,
    "/nodes/root/content", "/nodes/n1/content?revision=-1", "/blobs/xyz", "/blobs/" + "g" * 64,
    "/blobs/../../etc/passwd", "/files?limit=0", "/files?unknown=1", "/conflicts?resolved=maybe", "/uploads/../x",
    "/versions/..", "/audit?before=x", "/auth/device/pending?user_code=" + "x" * 999,
]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_a_question_without_sense_is_a_problem(owner: Connection, query: str) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", owner.port, timeout=10)
    kept.putrequest("GET", "/api/v1" + query.replace(" ", "%20"), skip_accept_encoding=True)
    kept.putheader("Authorization", f"Bearer {owner.token}")
    kept.endheaders()
    answer = kept.getresponse()
    body = answer.read()
    kept.close()
    assert answer.status in {400, 404, 410, 422}, (answer.status, body[:300])
    assert answer.headers["content-type"].startswith("application/problem+json")


FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
OPS = st.fixed_dictionaries(
    {"op": st.sampled_from(["put", "mkdir", "move", "delete", "restore"])},
    optional={
        "node": st.sampled_from(["root", "n1", "@0", "n0"]) | st.text(max_size=8),
        "parent": st.sampled_from(["root", "n1", "@0", "@1"]) | st.text(max_size=8),
        "name": st.text(max_size=20),
        "base": st.integers(-2, 2**60),
        "seen": st.integers(-2, 2**60),
        "version": st.integers(-2, 2**60),
        "blobs": st.lists(
            st.sampled_from(["0" * 64, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"])
        ),
        "size": st.integers(-1, 2**60),
        "mtime": st.integers(-(2**60), 2**60),
    },
)


@FUZZ
@given(st.lists(OPS, min_size=1, max_size=5), st.booleans())
def test_fuzzed_operations_are_never_a_bug(fuzzer: Connection, ops: list[dict[str, object]], atomic: bool) -> None:
    body = {"op_id": secrets.token_hex(8), "ops": ops, "atomic": atomic}
    answer = fuzzer.send("POST", "/commit", json.dumps(body).encode())
    assert answer.status in {200, 400, 422}, answer.body
    again = fuzzer.send("POST", "/commit", json.dumps(body).encode())
    assert again.status == answer.status
    if answer.status == 200:
        assert again.json()["results"] == answer.json()["results"], "the same op id must answer the same"


@FUZZ
@given(st.sampled_from(JSON_DOORS), JSON_VALUES)
def test_fuzzed_json_is_never_a_bug(server: RunningServer, fuzzer: Connection, path: str, value: object) -> None:
    if path == "/auth/login":
        fuzzer = Connection(fuzzer.port)
    answer = fuzzer.send("POST", path, json.dumps(value).encode())
    assert answer.status in {400, 401, 413, 415, 422, 429}, answer.body


@FUZZ
@given(st.sampled_from(["GET", "PUT", "DELETE", "POST", "PATCH", "OPTIONS", "TRACE"]), st.binary(max_size=60))
def test_fuzzed_paths_are_never_a_bug(fuzzer: Connection, method: str, path: bytes) -> None:
    target = "/api/v1/files/" + "".join(f"%{byte:02x}" for byte in path)
    body = b'{"action":"mkdir"}' if method == "POST" else b"x" if method in {"PUT", "PATCH"} else None
    answer = fuzzer.send(method, target, body, under="")
    fuzzer.close()
    assert answer.status < 500, answer.body


@FUZZ
@given(st.sampled_from(["gzip", "zstd"]), st.binary(min_size=1, max_size=3000), st.integers(0, 2**32))
def test_fuzzed_compressed_bodies_are_never_a_bug(fuzzer: Connection, kind: str, data: bytes, seed: int) -> None:
    packed = bytearray(gzip.compress(data, mtime=0) if kind == "gzip" else zstandard.compress(data))
    choose = random.Random(seed)
    for _ in range(choose.randint(0, 3)):
        packed[choose.randrange(len(packed))] = choose.randrange(256)
    name = blob_id(data)
    answer = fuzzer.send("PUT", f"/blobs/{name}", bytes(packed), {"Content-Encoding": kind, **OCTETS})
    assert answer.status in {200, 201, 400, 413, 422}, answer.body
    fuzzer.close()
    if answer.status in {200, 201}:
        assert fuzzer.get_blob(name) == data


@pytest.mark.parametrize(("method", "path"), [("GET", "/usage"), ("DELETE", "/trash"), ("GET", "/files")])
def test_a_body_nobody_asked_for_is_not_taken_for_the_next_request(
    thief: Connection, server: RunningServer, method: str, path: str
) -> None:
    connection = server.connect(thief.token)
    for _ in range(10):
        # Raises when the connection that seems to be kept is not.
        answer = connection.send(method, path, b"[" * 20_000)
        assert answer.status in {200, 204}
        assert answer.headers.get("connection") == "close"
