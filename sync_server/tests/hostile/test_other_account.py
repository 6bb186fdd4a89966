"""Object-level authorisation: every route, with ids of another account. It must look as if they did not exist."""

from __future__ import annotations

import json
import secrets

import pytest
from real_process.server import Connection

from sync_protocol.hashing import blob_id

from .conftest import OLD_SECRET, PENDING, SECRET, TRASHED, Everything, Loot, is_problem

GETS = [
    "/nodes/{node}", "/nodes/{node}/path", "/nodes/{node}/content", "/nodes/{node}/versions", "/nodes/{folder}",
    "/nodes/{folder}/children", "/nodes/{trashed}", "/nodes/{trashed}/versions", "/nodes/{trashed}/content",
    "/blobs/{blob}", "/blobs/{old_blob}", "/blobs/{pending_blob}", "/blobs/{trashed_blob}", "/uploads/{upload}",
    "/files/private/diary.txt", "/files/private", "/versions/private/diary.txt",
]  # fmt: skip
WRITES: list[tuple[str, str, object]] = [
    ("POST", "/nodes/{trashed}/restore", {}),
    ("POST", "/nodes/{node}/restore", {"version": 2}),
    ("DELETE", "/trash/{trashed}", None),
    ("POST", "/conflicts/{conflict}/resolve", {"keep": "mine"}),
    ("POST", "/conflicts/{conflict}/undo", None),
    ("DELETE", "/uploads/{upload}", None),
    ("DELETE", "/devices/{device}", None),
    ("DELETE", "/files/private/diary.txt", None),
    ("POST", "/files/private/diary.txt", {"action": "move", "to": "mine.txt"}),
]


@pytest.mark.parametrize("path", GETS)
def test_nothing_of_another_account_can_be_read(thief: Connection, loot: Loot, path: str) -> None:
    answer = thief.send("GET", path.format_map(vars(loot)))
    assert is_problem(answer, 404)
    for secret in (SECRET, OLD_SECRET, TRASHED, PENDING, b"diary.txt"):
        assert secret not in answer.body.replace(b"/files/private/diary.txt", b"").replace(b"private/diary.txt", b"")


@pytest.mark.parametrize("path", GETS)
def test_what_does_not_exist_looks_the_same(thief: Connection, loot: Loot, path: str) -> None:
    real = thief.send("GET", path.format_map(vars(loot)))
    none = {
        name: "n7zzzzzz" if isinstance(text, str) and len(text) < 30 else "f" * 64 for name, text in vars(loot).items()
    }
    imagined = thief.send("GET", path.format_map(none))
    if "/uploads/" in path:
        return
    assert real.status == imagined.status
    if "{" in path:
        assert real.json()["title"] == imagined.json()["title"]


@pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=[f"{method} {path}" for method, path, _ in WRITES])
def test_nothing_of_another_account_can_be_changed(
    thief: Connection, loot: Loot, everything: Everything, method: str, path: str, body: object
) -> None:
    before = everything.now()
    answer = thief.send(method, path.format_map(vars(loot)), None if body is None else json.dumps(body).encode())
    assert is_problem(answer, 404)
    assert everything.now() == before


@pytest.mark.parametrize(
    "op",
    [
        {"op": "put", "node": "{node}", "base": 1, "blobs": [], "size": 0, "mtime": 0},
        {"op": "put", "parent": "{folder}", "name": "x", "blobs": [], "size": 0, "mtime": 0},
        {"op": "mkdir", "parent": "{folder}", "name": "x"},
        {"op": "move", "node": "{node}", "base": 99, "parent": "root", "name": "mine"},
        {"op": "delete", "node": "{node}", "base": 99},
        {"op": "delete", "node": "{folder}", "base": 99, "seen": 99},
        {"op": "restore", "node": "{trashed}"},
        {"op": "restore", "node": "{node}", "version": 2},
    ],
    ids=lambda op: f"{op['op']} {sorted(op)}",
)
@pytest.mark.parametrize("atomic", [False, True])
def test_a_commit_reaches_no_node_of_another_account(
    thief: Connection, loot: Loot, everything: Everything, op: dict[str, object], atomic: bool
) -> None:
    before = everything.now()
    filled = {name: text.format_map(vars(loot)) if isinstance(text, str) else text for name, text in op.items()}
    body = {"op_id": secrets.token_hex(8), "ops": [filled], "atomic": atomic}
    answer = thief.send("POST", "/commit", json.dumps(body).encode())
    assert answer.status == 200
    assert answer.json()["results"][0]["status"] == "not_found"
    assert b"diary" not in answer.body
    assert everything.now() == before


@pytest.mark.parametrize("which", ["blob", "old_blob", "pending_blob", "trashed_blob"])
def test_a_hash_is_no_key_to_another_accounts_content(thief: Connection, loot: Loot, which: str) -> None:
    """Knowing the SHA-256 of a file must not give the file, nor tell that somebody here has it."""
    name, imagined = getattr(loot, which), blob_id(secrets.token_bytes(8))
    asked = thief.send("POST", "/blobs/have", json.dumps({"blobs": [name, imagined]}).encode())
    assert asked.json()["missing"] == [name, imagined]
    fetched = thief.send("POST", "/blobs/fetch", json.dumps({"blobs": [name]}).encode())
    assert fetched.body == b""
    put = {"op": "put", "parent": "root", "name": f"claim-{which}", "blobs": [name], "size": 25, "mtime": 0}
    body = {"op_id": secrets.token_hex(8), "ops": [put]}
    result = thief.send("POST", "/commit", json.dumps(body).encode()).json()["results"][0]
    assert result["status"] == "missing_blobs"
    head = [thief.send("HEAD", f"/blobs/{one}").status for one in (name, imagined)]
    assert head == [404, 404]


def test_uploading_what_another_account_has_looks_like_uploading_something_new(thief: Connection, loot: Loot) -> None:
    """Else the status would tell whether somebody here has exactly these bytes."""
    known = thief.send("PUT", f"/blobs/{loot.blob}", SECRET, {"Content-Type": "application/octet-stream"})
    fresh = secrets.token_bytes(25)
    new = thief.send("PUT", f"/blobs/{blob_id(fresh)}", fresh, {"Content-Type": "application/octet-stream"})
    assert known.status == new.status
    assert known.json() == {**new.json(), "blob": loot.blob}
    # Now it has them, because it had them before.
    assert thief.get_blob(loot.blob) == SECRET


def test_an_op_id_of_another_account_is_free(thief: Connection, loot: Loot) -> None:
    body = {"op_id": "loot-000001", "ops": [{"op": "mkdir", "parent": "root", "name": "thief's own"}]}
    answer = thief.send("POST", "/commit", json.dumps(body).encode()).json()
    assert not answer.get("replayed")
    assert answer["results"][0]["status"] == "ok"


def test_a_cursor_of_another_account_shows_nothing_of_it(thief: Connection, owner: Connection, loot: Loot) -> None:
    cursor = owner.send("GET", "/changes?limit=1").json()["cursor"]
    answer = thief.send("GET", f"/changes?cursor={cursor}")
    assert answer.status in {200, 400, 410}
    assert b"diary" not in answer.body


def test_without_a_token_every_route_is_closed(owner: Connection, loot: Loot) -> None:
    nobody = Connection(owner.port)
    for path in [
        *GETS,
        "/changes",
        "/snapshot",
        "/events",
        "/trash",
        "/conflicts",
        "/usage",
        "/devices",
        "/files",
        "/audit",
    ]:
        assert is_problem(nobody.send("GET", path.format_map(vars(loot))), 401)
    for method, path, body in WRITES:
        sent = None if body is None else json.dumps(body).encode()
        assert is_problem(nobody.send(method, path.format_map(vars(loot)), sent), 401)
