"""A disk that is full: 507 and nothing lost; as soon as there is room again, everything works as before."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_process.server import RunningServer

from sync_protocol.types import CommitRequest, Mkdir

MB = 1_000_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """24 MB of their own; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("floor", ["0", "4M"], ids=["no floor: the disk really is full", "stops at the floor"])
def test_a_full_disk_refuses_with_507_and_loses_nothing(small_disk: Path, floor: str) -> None:
    server = RunningServer(small_disk / "data", {"free_space_floor": floor})
    server.add_user("anna")
    server.start()
    connection = server.login("anna", "laptop")
    choose = random.Random(3)
    kept: dict[str, bytes] = {}
    refused = 0
    for number in range(60):
        # Beside the upload somebody else fills the disk: the floor cannot foresee it.
        data = choose.randbytes(choose.choice([50_000, MB, 3 * MB]))
        answer = connection.put_file(f"file{number}", data)
        assert answer.status in {201, 507}, (answer.status, answer.body, server.said())
        if answer.status == 201:
            kept[f"file{number}"] = data
        else:
            refused += 1
            connection.close()
            assert answer.headers["content-type"].startswith("application/problem+json")
    assert refused > 5
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(b"x" * 65536)
        except OSError:
            pass
    # Not one byte is left, not even for the database's log.
    for number in range(5):
        folder = connection.send(
            "POST",
            "/commit",
            f'{{"op_id":"full-{number:04}","ops":[{{"op":"mkdir","parent":"root","name":"f{number}"}}]}}'.encode(),
        )
        assert folder.status in {200, 507}, (folder.status, folder.body, server.said())
        if folder.status == 200:
            assert folder.json()["results"][0]["status"] in {"ok", "quota"}
    for path, data in kept.items():
        assert connection.send("GET", f"/files/{path}").body == data, "reading must work on a full disk"

    ballast.unlink()
    path, data = kept.popitem()
    for old in kept:
        assert connection.send("DELETE", f"/files/{old}").status == 204
    assert connection.send("GET", f"/files/{path}").body == data
    made = connection.commit(CommitRequest("after-full", [Mkdir("root", "after")]))
    assert made.results[0].status == "ok"
    server.kill()
    server.start()
    connection.close()
    assert connection.send("GET", f"/files/{path}").body == data
    assert {entry.name for entry in connection.snapshot().values()} >= {path, "after"}
    assert server.stop() == 0
    assert server.tool("check").returncode == 0
    assert not list((small_disk / "data" / "tmp").iterdir())
