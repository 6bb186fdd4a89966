# SPDX-License-Identifier: GPL-3.0-or-later
"""What the cycle needs of a server; transport.py speaks HTTP, the tests' model keeps everything in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from sync_protocol.types import ChangesPage, CommitAnswer, NodeEntry, Snapshot


class Server(Protocol):
    """Every call may raise Offline, and then may have been carried out all the same."""

    def changes(self, cursor: str) -> ChangesPage: ...

    def snapshot(self, page: str | None) -> Snapshot: ...

    def node(self, node: str) -> NodeEntry: ...

    def have(self, blobs: list[str]) -> list[str]:
        """The ones of `blobs` the server lacks."""
        ...

    def put_blobs(self, blobs: list[tuple[str, bytes]]) -> None: ...

    def get_blobs(self, blobs: list[str]) -> Iterable[bytes]:
        """The blobs in the order asked for, each checked against its name."""
        ...

    def commit(self, request: bytes) -> CommitAnswer:
        """`request` is an encoded CommitRequest: byte for byte the same when it is replayed."""
        ...
