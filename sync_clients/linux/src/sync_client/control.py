# SPDX-License-Identifier: GPL-3.0-or-later
"""The line between commands and daemon: one JSON request and one JSON answer on a socket only its owner opens."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sync_client.errors import SyncError

Message = dict[str, Any]


class Listener:
    """Accepts commands; `handle` is called in a thread of its own for each."""

    def __init__(self, path: Path, handle: Callable[[Message], Message]) -> None:
        self.path = path
        self._handle = handle
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._socket = socket.socket(socket.AF_UNIX)
        mask = os.umask(0o177)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(mask)
        self._socket.listen(8)
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def close(self) -> None:
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(30)
            with connection.makefile("rwb") as stream:
                request = json.loads(stream.readline(1_000_000))
                connection.settimeout(None)
                stream.write(json.dumps(self._handle(request)).encode() + b"\n")


def ask(path: Path, request: Message, timeout: float | None = 600) -> Message | None:
    """Send a command to the daemon; None when none runs."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            with connection.makefile("rwb") as stream:
                stream.write(json.dumps(request).encode() + b"\n")
                stream.flush()
                line = stream.readline()
        except (TimeoutError, ConnectionResetError, BrokenPipeError) as error:
            raise SyncError("The daemon did not answer; look at `sync-client log`.") from error
    if not line:
        raise SyncError("The daemon stopped before it answered; look at `sync-client log`.")
    answer: Message = json.loads(line)
    return answer
