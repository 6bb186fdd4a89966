"""Lines on standard output; no bodies, no query strings, no tokens."""

from __future__ import annotations

from datetime import datetime


def write(scope: str, text: str) -> None:
    stamp = datetime.now().strftime("%m/%d/%Y %H:%M:%S")
    print(f"[{stamp}] [{scope:<9}] {text.rstrip()}", flush=True)
