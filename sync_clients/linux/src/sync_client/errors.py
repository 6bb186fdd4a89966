# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong, said once. The text of each is for people: one sentence that says what to do."""

from __future__ import annotations


class SyncError(Exception):
    """Anything the user should read; `code` is the exit code of the command line."""

    code = 1


class Offline(SyncError):
    """The server did not answer, or not to the end: try again later."""

    code = 3


class NotAllowed(SyncError):
    """The login is missing, expired or revoked."""

    code = 4


class Incompatible(SyncError):
    """What answered is not a sync server this client can talk to."""

    code = 5


class Refused(SyncError):
    """The server understood and said no; `status` and `type` are those of its problem document."""

    def __init__(self, message: str, *, status: int = 0, type: str = "", missing: list[str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.missing = missing or []


class CursorGone(SyncError):
    """The journal no longer reaches back to the cursor: take a snapshot."""


class FolderGone(SyncError):
    """The folder or its mark is missing: perhaps its disk is not mounted."""

    code = 6


class StateDamaged(SyncError):
    """The state database cannot be read."""

    code = 7


class Changed(Exception):
    """A file is not what it was when it was read: leave it and look again."""


class Occupied(Exception):
    """The name is taken by something the plan did not know of: look again."""


class DiskFull(SyncError):
    """No room for what the server has."""

    code = 8
