"""Names that mean harm: refused with the right status, nothing stored, nothing read outside the tree."""

from __future__ import annotations

import http.client
import json
import secrets

import pytest
from real_process.server import Answer, Connection

from .conftest import Everything, Loot, is_problem

# As they stand in the request line.
BAD_PATHS = {
    "parent": "../secret",
    "parent, encoded": "%2e%2e/secret",
    "parent inside": "private/../../etc/passwd",
    "parent by encoded slash": "private%2f..%2f..%2fetc%2fpasswd",
    "absolute": "/etc/passwd",
    "this folder": "private/./diary.txt",
    "empty part": "private//diary.txt",
    "NUL": "private/a%00b",
    "not UTF-8": "private/%ff%fe",
    "overlong UTF-8 dot": "private/%c0%ae%c0%ae/x",
    "half of a surrogate pair": "private/%ed%a0%80",
    "name of 256 bytes": "x" * 256,
    "name of 256 bytes in two-byte characters": "%c3%a4" * 128,
    "path of 4097 bytes": "/".join(["x" * 100] * 41),
}
BAD_NAMES = ["..", ".", "", "a/b", "/", "a\0b", "x" * 256, "ä" * 128, "\ud800", "../../etc/passwd"]


def raw(connection: Connection, method: str, target: str, body: bytes | None = None) -> Answer:
    """Send the target as it stands: http.client would refuse some of them."""
    kept = http.client.HTTPConnection("127.0.0.1", connection.port, timeout=10)
    kept.putrequest(method, target, skip_accept_encoding=True)
    kept.putheader("Authorization", f"Bearer {connection.token}")
    if body is not None:
        kept.putheader("Content-Type", "application/octet-stream")
        kept.putheader("Content-Length", str(len(body)))
    kept.endheaders(body)
    answer = kept.getresponse()
    found = Answer(answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read())
    kept.close()
    return found


@pytest.mark.parametrize("what", BAD_PATHS)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_a_path_that_leaves_the_tree_or_cannot_be_stored_is_refused(
    owner: Connection, everything: Everything, what: str, method: str
) -> None:
    before = everything.now()
    answer = raw(owner, method, f"/api/v1/files/{BAD_PATHS[what]}", b"x" if method == "PUT" else None)
    assert is_problem(answer, 400, 404, 422)
    assert everything.now() == before


def test_a_path_is_decoded_once(owner: Connection) -> None:
    assert owner.put_file("%252e%252e", b"twice encoded").status == 201
    names = [entry["name"] for entry in owner.send("GET", "/files").json()["entries"]]
    assert "%2e%2e" in names
    assert owner.send("DELETE", "/files/%252e%252e").status == 204


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
@pytest.mark.parametrize("op", ["mkdir", "put", "move", "restore"])
def test_a_commit_with_a_bad_name_changes_nothing(
    owner: Connection, loot: Loot, everything: Everything, name: str, op: str
) -> None:
    operations: dict[str, dict[str, object]] = {
        "mkdir": {"parent": "root"},
        "put": {"parent": "root", "blobs": [loot.blob], "size": 25, "mtime": 0},
        "move": {"node": loot.node, "base": loot.revision, "parent": "root"},
        "restore": {"node": loot.trashed, "parent": "root"},
    }
    before = everything.now()
    body = {"op_id": secrets.token_hex(8), "ops": [{"op": op, "name": name, **operations[op]}]}
    answer = owner.send("POST", "/commit", json.dumps(body).encode())
    if answer.status == 200:
        assert answer.json()["results"][0]["status"] == "invalid"
    else:
        assert is_problem(answer, 400, 422)
    assert everything.now() == before


def test_two_spellings_of_one_name_are_one_file(owner: Connection) -> None:
    composed, decomposed = "%C3%84rger.txt", "A%CC%88rger.txt"
    assert owner.put_file(composed, b"NFC").status == 201
    second = owner.put_file(decomposed, b"NFD", {"If-None-Match": "*"})
    assert is_problem(second, 409, 412)
    assert owner.send("GET", f"/files/{composed}").body == b"NFC"
    assert owner.send("DELETE", f"/files/{composed}").status == 204


@pytest.mark.parametrize(
    ("first", "twin"),
    [("Report.txt", "REPORT.TXT"), ("stra%C3%9Fe", "STRASSE"), ("%CE%A3%CE%B1%CF%82", "%CF%83%CE%B1%CF%83")],
)
def test_a_twin_that_differs_in_case_is_refused_and_said_so(owner: Connection, first: str, twin: str) -> None:
    assert owner.put_file(first, b"first").status == 201
    assert is_problem(owner.put_file(twin, b"twin"), 409)
    assert owner.send("GET", f"/files/{first}").body == b"first"
    assert owner.send("DELETE", f"/files/{first}").status == 204


@pytest.mark.parametrize("name", ["con.txt", "a:b", "a\\b", "-rf", "line\nbreak", "\u202egnp.exe", " ", "~", "$(id)"])
def test_names_other_systems_refuse_are_kept_as_they_are(owner: Connection, name: str) -> None:
    body = {"op_id": secrets.token_hex(8), "ops": [{"op": "mkdir", "parent": "root", "name": name}]}
    result = owner.send("POST", "/commit", json.dumps(body).encode()).json()["results"][0]
    assert result["status"] == "ok"
    assert owner.send("GET", f"/nodes/{result['node']}").json()["name"] == name
    done = {
        "op_id": secrets.token_hex(8),
        "ops": [{"op": "delete", "node": result["node"], "base": result["revision"]}],
    }
    assert owner.send("POST", "/commit", json.dumps(done).encode()).json()["results"][0]["status"] == "ok"
