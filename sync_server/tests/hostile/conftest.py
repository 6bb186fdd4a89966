"""One real server, an owner with things worth stealing, and a second account that wants them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from real_process.server import Answer, Connection, RunningServer

from sync_protocol.types import CommitRequest, Delete, Mkdir, Put

SECRET = b"the owner's diary, page 1"
OLD_SECRET = b"the owner's diary, first draft"
TRASHED = b"the owner's letters"
PENDING = b"uploaded, not yet in a file"


@dataclass(frozen=True)
class Loot:
    """Ids of what the owner has."""

    node: str
    folder: str
    trashed: str
    conflict: str
    upload: str
    blob: str
    old_blob: str
    pending_blob: str
    trashed_blob: str
    device: str
    revision: int


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(
        tmp_path_factory.mktemp("hostile") / "data", {"trusted_proxies": "127.0.0.0/8", "body_idle_seconds": "2"}
    )
    running.add_user("owner")
    running.add_user("thief")
    running.add_user("fuzzer")
    running.start()
    yield running
    assert running.stop() == 0
    said = (running.data.parent / "data.log").read_text()
    # Whatever came, nothing of it was a bug of the server, and no secret is in its log.
    assert "Traceback" not in said
    assert "an operation failed" not in said
    assert "correct horse battery" not in said
    assert "diary" not in said


@pytest.fixture(scope="session")
def owner(server: RunningServer) -> Connection:
    return server.login("owner", "owner's laptop")


@pytest.fixture(scope="session")
def thief(server: RunningServer) -> Connection:
    return server.login("thief", "thief's laptop")


@pytest.fixture(scope="session")
def fuzzer(server: RunningServer) -> Connection:
    return server.login("fuzzer", "fuzzer's laptop")


@pytest.fixture(scope="session")
def loot(server: RunningServer, owner: Connection) -> Loot:
    # Ids count up in each account: those of the loot must be none of the thief's own.
    owner.commit(CommitRequest("loot-000000", [Mkdir("root", f"folder {number}") for number in range(100)]))
    old, new, trashed = owner.put_blob(OLD_SECRET), owner.put_blob(SECRET), owner.put_blob(TRASHED)
    pending = owner.put_blob(PENDING)
    first = owner.commit(
        CommitRequest(
            "loot-000001",
            [
                Mkdir("root", "private"),
                Put([old], len(OLD_SECRET), 0, parent="@0", name="diary.txt"),
                Put([trashed], len(TRASHED), 0, parent="@0", name="letters.txt"),
            ],
        )
    )
    folder, diary, letters = (result.node or "" for result in first.results)
    base = first.results[1].revision or 0
    owner.commit(CommitRequest("loot-000002", [Put([new], len(SECRET), 0, node=diary, base=base)]))
    owner.commit(CommitRequest("loot-000003", [Delete(letters, first.results[2].revision or 0)]))
    # The same base again with other content: a conflict copy.
    owner.commit(CommitRequest("loot-000004", [Put([trashed], len(TRASHED), 0, node=diary, base=base)]))
    conflict = owner.send("GET", "/conflicts").json()["conflicts"][0]["id"]
    upload = owner.send("POST", "/uploads", json.dumps({"path": "private/big.bin", "size": 10}).encode()).json()["id"]
    device = next(one["id"] for one in owner.send("GET", "/devices").json()["devices"] if one["current"])
    revision = owner.send("GET", f"/nodes/{diary}").json()["revision"]
    return Loot(diary, folder, letters, conflict, upload, new, old, pending, trashed, device, revision)


@dataclass
class Everything:
    """What the owner has, as one value: two of them are equal when nothing changed."""

    connection: Connection

    def now(self) -> str:
        parts = {
            path: self.connection.send("GET", path).json()
            for path in ("/changes", "/trash", "/conflicts?resolved=true", "/conflicts", "/usage")
        }
        # What came before an upload was refused is kept for a day, in case it is tried again.
        del parts["/usage"]["pending"]
        parts["/devices"] = [
            {**one, "last_seen": None} for one in self.connection.send("GET", "/devices").json()["devices"]
        ]
        return json.dumps(parts, sort_keys=True)


@pytest.fixture
def everything(owner: Connection, loot: Loot) -> Everything:
    return Everything(owner)


def is_problem(answer: Answer, *statuses: int) -> bool:
    """A problem document with one of these statuses that tells nothing of the inside."""
    assert answer.status in statuses, (answer.status, answer.body[:500])
    assert answer.headers.get("content-type", "").startswith("application/problem+json"), answer.headers
    told = answer.json()
    assert told["status"] == answer.status
    assert told["type"].startswith("urn:sync:problem:")
    assert told["title"]
    for inside in (b"Traceback", b"sqlite", b".py", b"/data/", b"/tmp/", b"site-packages"):
        assert inside not in answer.body, answer.body
    return True


def no_tmp_left(server: RunningServer) -> bool:
    return not any(Path(server.data / "tmp").glob("*"))
