"""Whole files by path."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import httpx
import pytest
import zstandard
from conftest import problem


def _tag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()}"'


def test_what_was_put_is_got(alice: httpx.Client, folder: str) -> None:
    put = alice.put(f"/files/{folder}/a.txt", content=b"hello", params={"mtime": 1_700_000_000_000, "executable": True})
    assert put.status_code == 201
    assert put.json()["executable"]
    got = alice.get(f"/files/{folder}/a.txt")
    assert got.content == b"hello"
    assert got.headers["etag"] == put.headers["etag"] == _tag(b"hello")
    assert got.headers["content-type"] == "text/plain"
    assert parsedate_to_datetime(got.headers["last-modified"]).timestamp() == 1_700_000_000


def test_what_a_user_stored_never_runs_as_a_page_of_the_server(alice: httpx.Client, folder: str) -> None:
    alice.put(f"/files/{folder}/evil.html", content=b"<script>alert(1)</script>")
    headers = alice.get(f"/files/{folder}/evil.html").headers
    assert "sandbox" in headers["content-security-policy"]
    assert headers["content-disposition"].startswith("attachment")
    assert headers["x-content-type-options"] == "nosniff"


def test_head_tells_what_get_would(alice: httpx.Client, folder: str) -> None:
    alice.put(f"/files/{folder}/a.bin", content=b"x" * 5000)
    head = alice.head(f"/files/{folder}/a.bin")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "5000", b"")
    assert head.headers["etag"] == _tag(b"x" * 5000)


@pytest.mark.parametrize("size", [0, 1, 4 * 1024 * 1024, 4 * 1024 * 1024 + 1, 9_000_001])
def test_files_of_any_size_come_back_whole(alice: httpx.Client, folder: str, size: int) -> None:
    data = os.urandom(size)
    assert alice.put(f"/files/{folder}/big.bin", content=data).json().get("size", 0) == size
    got = alice.get(f"/files/{folder}/big.bin")
    assert got.content == data
    assert got.headers["content-length"] == str(size)


def test_a_body_of_unknown_length_is_taken(alice: httpx.Client, folder: str) -> None:
    answer = alice.put(f"/files/{folder}/stream", content=iter([b"a" * 70_000, b"b" * 70_000]))
    assert answer.json()["size"] == 140_000


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=5-", 5, 9_000_000), ("bytes=-7", 8_999_993, 9_000_000),
     ("bytes=4194300-4194310", 4_194_300, 4_194_311), ("bytes=8999999-99999999999", 8_999_999, 9_000_000)],
)  # fmt: skip
def test_a_range_is_that_range_across_the_borders_of_contents(
    alice: httpx.Client, wanted: str, start: int, end: int
) -> None:
    data = bytes(range(250)) * 36_000
    alice.put("/files/ranges.bin", content=data)
    got = alice.get("/files/ranges.bin", headers={"range": wanted})
    assert got.status_code == 206
    assert got.content == data[start:end]
    assert got.headers["content-range"] == f"bytes {start}-{end - 1}/9000000"


def test_a_range_outside_is_416_and_one_that_is_none_is_ignored(alice: httpx.Client, folder: str) -> None:
    alice.put(f"/files/{folder}/a", content=b"0123456789")
    outside = alice.get(f"/files/{folder}/a", headers={"range": "bytes=10-"})
    assert problem(outside) == (416, "range")
    assert outside.headers["content-range"] == "bytes */10"
    for header in ("bytes=5-2", "lines=1-2", "bytes=a-b", "bytes=0-1,3-4", "bytes=-"):
        assert alice.get(f"/files/{folder}/a", headers={"range": header}).status_code == 200


def test_not_modified_names_the_variant_that_is_known(alice: httpx.Client, folder: str) -> None:
    alice.put(f"/files/{folder}/a.txt", content=b"line\n" * 1000)
    first = alice.get(f"/files/{folder}/a.txt", headers={"accept-encoding": "gzip"})
    again = alice.get(
        f"/files/{folder}/a.txt", headers={"accept-encoding": "gzip", "if-none-match": first.headers["etag"]}
    )
    assert again.status_code == 304
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["vary"] == first.headers["vary"] == "accept-encoding"
    part = alice.get(f"/files/{folder}/a.txt", headers={"accept-encoding": "gzip", "range": "bytes=0-3"})
    assert (part.content, part.headers["etag"]) == (b"line", _tag(b"line\n" * 1000))


def test_only_get_knows_ranges(alice: httpx.Client, folder: str) -> None:
    alice.put(f"/files/{folder}/a", content=b"0123456789")
    head = alice.head(f"/files/{folder}/a", headers={"range": "bytes=0-1"})
    assert (head.status_code, head.headers["content-length"]) == (200, "10")


def test_if_range_gives_the_whole_when_the_file_is_another(alice: httpx.Client, folder: str) -> None:
    first = alice.put(f"/files/{folder}/a", content=b"0123456789").headers["etag"]
    part = alice.get(f"/files/{folder}/a", headers={"range": "bytes=0-1", "if-range": first})
    assert part.content == b"01"
    alice.put(f"/files/{folder}/a", content=b"abcdefghij")
    whole = alice.get(f"/files/{folder}/a", headers={"range": "bytes=0-1", "if-range": first})
    assert (whole.status_code, whole.content) == (200, b"abcdefghij")


def test_what_is_known_already_is_not_sent_again(alice: httpx.Client, folder: str) -> None:
    tag = alice.put(f"/files/{folder}/a", content=b"x" * 2000).headers["etag"]
    for header in (tag, f"W/{tag}", f'"other", {tag}', "*", tag[:-1] + '-gzip"'):
        again = alice.get(f"/files/{folder}/a", headers={"if-none-match": header})
        assert (again.status_code, again.content) == (304, b""), header
    assert alice.get(f"/files/{folder}/a", headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_text_is_compressed_when_it_pays(alice: httpx.Client, folder: str, encoding: str) -> None:
    text = b"many words, often the same\n" * 5000
    alice.put(f"/files/{folder}/a.txt", content=text)
    with alice.stream("GET", f"/files/{folder}/a.txt", headers={"accept-encoding": encoding}) as got:
        raw = b"".join(got.iter_raw())
    assert got.headers["content-encoding"] == encoding
    assert got.headers["etag"] != _tag(text), "another representation has another tag"
    assert got.headers["vary"] == "accept-encoding"
    assert len(raw) < len(text) / 10
    assert (gzip.decompress(raw) if encoding == "gzip" else zstandard.decompress(raw, max_output_size=10**7)) == text
    # The tag of the compressed form is as good for a condition.
    assert (
        alice.put(f"/files/{folder}/a.txt", content=b"", headers={"if-match": got.headers["etag"]}).status_code == 200
    )


@pytest.mark.parametrize(("name", "data"), [("a.jpg", b"x" * 5000), ("a.txt", b"short")])
def test_what_does_not_pay_is_sent_as_it_is(alice: httpx.Client, folder: str, name: str, data: bytes) -> None:
    alice.put(f"/files/{folder}/{name}", content=data)
    got = alice.get(f"/files/{folder}/{name}", headers={"accept-encoding": "gzip, zstd"})
    assert "content-encoding" not in got.headers


def test_if_none_match_star_makes_and_never_replaces(alice: httpx.Client, folder: str) -> None:
    only_new = {"if-none-match": "*"}
    assert alice.put(f"/files/{folder}/a", content=b"1", headers=only_new).status_code == 201
    assert problem(alice.put(f"/files/{folder}/a", content=b"2", headers=only_new)) == (412, "precondition")
    assert alice.get(f"/files/{folder}/a").content == b"1"


def test_if_match_replaces_and_deletes_only_what_one_knows(alice: httpx.Client, folder: str) -> None:
    path = f"/files/{folder}/a"
    tag = alice.put(path, content=b"1").headers["etag"]
    assert alice.put(path, content=b"2", headers={"if-match": tag}).status_code == 200
    assert problem(alice.delete(path, headers={"if-match": tag})) == (412, "precondition")
    assert alice.delete(path, headers={"if-match": "*"}).status_code == 204
    assert problem(alice.put(path, content=b"3", headers={"if-match": "*"})) == (412, "precondition")


def test_if_match_gets_only_what_one_knows(alice: httpx.Client, folder: str) -> None:
    path = f"/files/{folder}/a"
    tag = alice.put(path, content=b"1").headers["etag"]
    assert alice.get(path, headers={"if-match": tag}).content == b"1"
    alice.put(path, content=b"2")
    assert problem(alice.get(path, headers={"if-match": tag})) == (412, "precondition")


def test_conditions_count_for_restore_and_mkdir_too(alice: httpx.Client, folder: str) -> None:
    path = f"/files/{folder}/a"
    first = alice.put(path, content=b"one").json()["revision"]
    tag = alice.put(path, content=b"two").headers["etag"]
    restore = {"action": "restore", "version": first}
    assert problem(alice.post(path, json=restore, headers={"if-match": _tag(b"one")})) == (412, "precondition")
    assert alice.get(path).content == b"two"
    assert alice.post(path, json=restore, headers={"if-match": tag}).status_code == 200
    assert alice.get(path).content == b"one"
    there = alice.post(f"/files/{folder}", json={"action": "mkdir"}, headers={"if-none-match": "*"})
    assert problem(there) == (412, "precondition")
    absent = alice.post(f"/files/{folder}/new", json={"action": "mkdir"}, headers={"if-match": "*"})
    assert problem(absent) == (412, "precondition")
    assert alice.get(f"/files/{folder}/new").status_code == 404
    new = alice.post(f"/files/{folder}/new", json={"action": "mkdir"}, headers={"if-none-match": "*"})
    assert new.status_code == 201


def test_a_move_keeps_the_node_and_its_history(alice: httpx.Client, folder: str) -> None:
    path = f"/files/{folder}/a"
    alice.put(path, content=b"1")
    node = alice.put(path, content=b"2").json()["id"]
    moved = alice.post(path, json={"action": "move", "to": f"{folder}/b"})
    assert moved.json()["id"] == node
    assert alice.get(path).status_code == 404
    versions = alice.get(f"/versions/{folder}/b").json()["versions"]
    assert [version["size"] for version in versions] == [1, 1]


def test_the_five_versions_before_the_current_one_are_kept(alice: httpx.Client, folder: str) -> None:
    path = f"/files/{folder}/a"
    for number in range(8):
        alice.put(path, content=f"version {number}".encode())
    versions = alice.get(f"/versions/{folder}/a").json()["versions"]
    contents = [alice.get(path, params={"version": version["revision"]}).content for version in versions]
    assert contents == [f"version {number}".encode() for number in (7, 6, 5, 4, 3, 2)]
    restored = alice.post(path, json={"action": "restore", "version": versions[3]["revision"]})
    assert restored.status_code == 200
    assert alice.get(path).content == b"version 4"


def test_a_deleted_file_comes_back_with_its_versions(alice: httpx.Client, folder: str) -> None:
    path = f"/files/{folder}/a"
    alice.put(path, content=b"1")
    node = alice.put(path, content=b"2").json()["id"]
    assert alice.delete(path).status_code == 204
    assert node in [entry["node"]["id"] for entry in alice.get("/trash").json()["entries"]]
    assert alice.post(f"/nodes/{node}/restore", json={}).status_code == 200
    assert alice.get(path).content == b"2"
    assert len(alice.get(f"/nodes/{node}/versions").json()["versions"]) == 2


def test_what_is_purged_is_gone(alice: httpx.Client, folder: str) -> None:
    node = alice.put(f"/files/{folder}/a", content=b"1").json()["id"]
    alice.delete(f"/files/{folder}/a")
    assert alice.delete(f"/trash/{node}").status_code == 204
    assert problem(alice.get(f"/nodes/{node}")) == (404, "not-found")


def test_a_listing_is_paged_by_name(alice: httpx.Client, folder: str) -> None:
    for name in ("c", "a", "e", "b", "d"):
        alice.put(f"/files/{folder}/{name}", content=name.encode())
    names: list[str] = []
    page = None
    while True:
        listing = alice.get(f"/files/{folder}", params={"limit": 2, **({"page": page} if page else {})}).json()
        names += [entry["name"] for entry in listing["entries"]]
        page = listing["next"]
        if page is None:
            break
    assert names == ["a", "b", "c", "d", "e"]


def test_missing_folders_are_made_when_asked_for(alice: httpx.Client, folder: str) -> None:
    assert problem(alice.put(f"/files/{folder}/x/y/z", content=b"1")) == (404, "not-found")
    assert alice.put(f"/files/{folder}/x/y/z", content=b"1", params={"parents": True}).status_code == 201
    assert alice.get(f"/files/{folder}/x/y/z").content == b"1"


def test_names_of_any_language_survive(alice: httpx.Client, folder: str) -> None:
    for name in ("größe.txt", "日本 語.txt", "a+b&c=d;e.txt", "50% off?.txt", "#1", "😀"):
        path = f"/files/{folder}/{quote(name)}"
        assert alice.put(path, content=name.encode()).json()["name"] == name
        assert alice.get(path).content == name.encode()


def test_nobody_sees_files_of_another_account(alice: httpx.Client, bob: httpx.Client, folder: str) -> None:
    secret = b"alice's secret"
    entry = alice.put(f"/files/{folder}/secret", content=secret).json()
    name = hashlib.sha256(secret).hexdigest()
    assert problem(bob.get(f"/files/{folder}/secret")) == (404, "not-found")
    assert problem(bob.get(f"/blobs/{name}")) == (404, "not-found")
    assert bob.post("/blobs/have", json={"blobs": [name]}).json()["missing"] == [name]
    assert bob.post("/blobs/fetch", json={"blobs": [name]}).content == b""
    claim = {"op": "put", "parent": "root", "name": "s", "blobs": [name], "size": len(secret), "mtime": 0}
    result = bob.post("/commit", json={"op_id": f"claim-{entry['id']}-{name[:8]}", "ops": [claim]}).json()["results"][0]
    assert result["status"] == "missing_blobs"


def test_a_client_that_leaves_in_the_middle_leaves_nothing(
    alice: httpx.Client, folder: str, new_device: Callable[..., httpx.Client]
) -> None:
    def body() -> object:
        yield b"x" * 100_000
        raise RuntimeError("gone")

    leaver = new_device()
    with pytest.raises(RuntimeError, match="gone"):
        leaver.put(f"/files/{folder}/half", content=body())  # type: ignore[arg-type]
    assert alice.get(f"/files/{folder}/half").status_code == 404
