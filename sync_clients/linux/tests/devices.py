# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices without daemons: the real engine, trees and folder, driven step by step against a model of the server."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from contents import content
from model import Line, Model

from sync_client.cycle import Cycle, Rules
from sync_client.errors import Offline
from sync_client.folder import OWN, Folder
from sync_client.trees import Trees


class Killed(BaseException):
    """SIGKILL between two steps: nothing may catch it."""


class Device:
    def __init__(self, model: Model, name: str, root: Path, *, patient: bool) -> None:
        self.name = name
        self.root = root / name
        self.root.mkdir()
        # The clock of a patient device runs ahead: to it no file is so fresh that its times could deceive.
        self.folder = Folder(self.root, clock=(lambda: 10**19 // 5) if patient else time.time_ns)
        self.folder.durable = False
        self.folder.prepare(name)
        self.trees = Trees(":memory:")
        self.line = Line(model, name)
        self.under_way: Iterator[str] | None = None
        self.cycle = self._engine()

    def _engine(self) -> Cycle:
        return Cycle(self.trees, self.folder, self.line, Rules(device=self.name, deletions_files=10**6))

    def step(self) -> bool:
        """One step further; False at the end of a round."""
        if self.under_way is None:
            self.under_way = self.cycle.run()
        try:
            next(self.under_way)
            return True
        except (StopIteration, Offline):
            self.under_way = None
            return False
        except Killed:
            self.kill()
            return False

    def round(self) -> None:
        """A whole round, or up to where the server cannot be reached."""
        while self.step():
            pass

    def problems(self) -> dict[str, str]:
        """What is listed as not synced, with the reason."""
        rows = {self.trees.best_path(e.id): e.problem or "" for e in self.trees.find("problem IS NOT NULL")}
        return rows | dict(self.trees.db.execute("SELECT path, reason FROM problem"))

    def kill(self) -> None:
        if self.under_way is not None:
            self.under_way.close()  # type: ignore[attr-defined]
        self.under_way = None
        self.folder.step = lambda what, path: None
        if self.trees.db.in_transaction:
            self.trees.db.execute("ROLLBACK")
        self.trees._depth = 0
        self.cycle = self._engine()

    def files(self) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        for top, dirs, files in os.walk(self.root):
            if Path(top) == self.root:
                dirs.remove(OWN)
            for name in dirs + files:
                path = Path(top) / name
                found[str(path.relative_to(self.root))] = content(path)
        return found
