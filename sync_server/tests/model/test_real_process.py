"""The same histories over HTTP: a real server that is killed at any moment, a line that loses, a clock that jumps."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from real_process.fault_proxy import FaultProxy
from real_process.server import Connection, Refused, RunningServer, Unreachable

from sync_protocol.types import ChangesPage, CommitAnswer, CommitRequest

from .histories import Line, live_through, tree_of
from .rules_client import Flaws, Lost

HISTORIES = int(os.environ.get("MODEL_PROCESS_HISTORIES", "4"))
T = TypeVar("T")
JUMPING_CLOCK = Path(__file__).resolve().parents[1] / "real_process" / "jumping_clock"


class Device:
    """A logged-in device; whatever is not a clear answer counts as lost."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name, self.connection = name, connection

    def changes(self, cursor: str | None, limit: int) -> ChangesPage:
        return self._try(lambda: self.connection.changes(cursor, limit))

    def commit(self, request: CommitRequest) -> CommitAnswer:
        return self._try(lambda: self.connection.commit(request))

    def put_blob(self, data: bytes) -> None:
        self._try(lambda: self.connection.put_blob(data))

    def get_blob(self, name: str) -> bytes:
        data = self._try(lambda: self.connection.get_blob(name))
        if data is None:
            raise Lost
        return data

    def _try(self, call: Callable[[], T]) -> T:
        # A new connection each time: every one of them may be the one the proxy cuts.
        self.connection.close()
        try:
            return call()
        except Unreachable:
            # While the server starts again, users do not type a thousand times faster.
            time.sleep(0.03)
            raise Lost from None
        except Refused as refused:
            if refused.status == 401:
                self._refresh()
                raise Lost from None
            if refused.status in {429, 503}:
                time.sleep(0.1)
                raise Lost from None
            raise

    def _refresh(self) -> None:
        """The clock jumped and the access token is out of date: a device goes on with its refresh token."""
        body = json.dumps({"refresh_token": self.connection.refresh}).encode()
        try:
            self.connection.close()
            answer = self.connection.send("POST", "/auth/refresh", body, {"Authorization": ""})
        except Unreachable:
            return
        assert answer.status == 200, (answer.status, answer.body)
        self.connection.token = answer.json()["access_token"]
        self.connection.refresh = answer.json()["refresh_token"]


class Killer:
    """Ends the server with SIGKILL every now and then, in the middle of whatever it does, and starts it again."""

    def __init__(self, server: RunningServer, proxy: FaultProxy, choose: random.Random) -> None:
        self.server, self.proxy, self.choose = server, proxy, choose
        self.kills = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failure: BaseException | None = None

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        while not self._done.wait(self.choose.uniform(0.005, 0.15)):
            try:
                self.server.kill()
                self.kills += 1
                # Up to a day and a half wrong, each time differently.
                self.server.extra["CLOCK_OFFSET"] = str(self.choose.uniform(-130_000, 130_000))
                self.server.start()
            except BaseException as failure:
                self.failure = failure
                return


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("model") / "data", extra={"PYTHONPATH": str(JUMPING_CLOCK)})
    running.start()
    yield running
    running.stop()


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_devices_converge_and_nothing_is_lost_although_the_server_is_killed(server: RunningServer, seed: int) -> None:
    server.add_user(f"account{seed}")
    choose = random.Random(seed)
    proxy = FaultProxy(server.port, random.Random(seed))
    try:
        lines = []
        for name in ("anna", "ben", "cleo")[: 2 + seed % 2]:
            connection = server.login(f"account{seed}", name)
            connection.port = proxy.port
            lines.append(Line(Device(name, connection), choose))
        for line in lines:
            line.loss = 0.05
        proxy.loss = 0.2

        def end_of_trouble() -> None:
            killer.__exit__()
            proxy.loss = 0.0

        killer = Killer(server, proxy, random.Random(seed))
        killer.__enter__()
        world = live_through(lines, choose, 250, Flaws(), end_of_trouble)
        connection = lines[0].server.connection  # type: ignore[attr-defined]
        entries = connection.snapshot()
        world.check(tree_of(entries, lambda blob: connection.get_blob(blob) or b""), connection.versions)
        assert killer.kills > 1
    finally:
        proxy.close()
    checked = server.tool("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
