"""A memory cgroup with a hard limit, of version 1 or 2, whichever this machine has."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MB = 1 << 20


class MemoryCgroup:
    """Everything started through `enter` shares one limit; swap is not allowed."""

    def __init__(self, name: str, limit_mb: int) -> None:
        self.first_version = (ROOT / "memory" / "memory.limit_in_bytes").exists()
        self.folder = (ROOT / "memory" if self.first_version else ROOT) / name
        self.limit_mb = limit_mb
        self.peak_anonymous = 0.0
        self.peak_all = 0.0

    def __enter__(self) -> MemoryCgroup:
        try:
            if not self.first_version:
                (ROOT / "cgroup.subtree_control").write_text("+memory")
            self.folder.mkdir(exist_ok=True)
            limits = (
                ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
                if self.first_version
                else ("memory.max", "memory.swap.max")
            )
            for number, name in enumerate(limits):
                swapless = not self.first_version and number == 1
                if (self.folder / name).exists():
                    (self.folder / name).write_text("0" if swapless else str(self.limit_mb * MB))
        except OSError as error:
            raise SystemExit(
                f"Cannot make a memory cgroup in {ROOT}: {error}. Run this as root on a Linux host."
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        for _attempt in range(50):
            try:
                self.folder.rmdir()
            except OSError:
                time.sleep(0.1)
            else:
                return

    def enter(self, command: list[str]) -> list[str]:
        """The command that runs `command` inside."""
        return ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh", *command]

    def anonymous_mb(self) -> float:
        field = "total_rss " if self.first_version else "anon "
        for line in (self.folder / "memory.stat").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / MB
        return 0.0

    def used_mb(self) -> float:
        name = "memory.usage_in_bytes" if self.first_version else "memory.current"
        return int((self.folder / name).read_text()) / MB

    def kills(self) -> int:
        """How many processes the kernel killed because the limit was reached."""
        name = "memory.oom_control" if self.first_version else "memory.events"
        for line in (self.folder / name).read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        done = threading.Event()

        def sample() -> None:
            while not done.wait(0.05):
                self.peak_anonymous = max(self.peak_anonymous, self.anonymous_mb())
                self.peak_all = max(self.peak_all, self.used_mb())

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def usable() -> bool:
    return os.geteuid() == 0 and ROOT.exists()
