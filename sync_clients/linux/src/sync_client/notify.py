# SPDX-License-Identifier: GPL-3.0-or-later
"""Says to systemd that the daemon is ready, alive, or stopping (the protocol of sd_notify)."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(message: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message.encode(), "\0" + address[1:] if address[0] == "@" else address)


def watchdog_seconds() -> float | None:
    """How often to say that we are alive; None when nobody asks."""
    value = os.environ.get("WATCHDOG_USEC", "")
    return int(value) / 1e6 / 3 if value.isdigit() and int(value) else None
