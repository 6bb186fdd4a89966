"""Names and places the tests share, and waiting that ends."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).parents[3]
INVENTORY = PROJECT / ".cache" / "molecule" / "vps_hardening"
BOX = "servers-testbed-vps-vps-hardening"

Run = Callable[..., subprocess.CompletedProcess[str]]


def wait_until(condition: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.5)
