# SPDX-License-Identifier: GPL-3.0-or-later
"""`.syncignore` in the root of the folder, with the syntax of .gitignore, and what is never worth syncing.

As with git: a rule keeps new things out; what is synced already stays synced.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from pathspec import GitIgnoreSpec

from sync_client.errors import SyncError

NAME = ".syncignore"
DEFAULTS = (
    "*.part",
    "*.crdownload",
    "~$*",
    ".~lock.*",
    ".goutputstream-*",
    ".fuse_hidden*",
    ".nfs*",
    ".Trash-*/",
    ".directory",
    ".DS_Store",
    "*.swp",
    "4913",
)


class Ignore:
    """The rules; `reload` tells whether they changed."""

    def __init__(self, root: Path) -> None:
        self.file = root / NAME
        self._stamp: tuple[int, int] | None = None
        self._lines: list[str] = []
        self._spec = GitIgnoreSpec.from_lines(DEFAULTS)
        self.reload()

    def reload(self) -> bool:
        try:
            status = self.file.lstat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp == self._stamp:
                return False
            lines = self._text().splitlines()
        except OSError:
            stamp, lines = None, []
            if self._stamp is None:
                return False
        self._stamp, self._lines = stamp, lines
        # A line git would pass over too is a comment to us, so that the numbers of the others stay.
        self._spec = GitIgnoreSpec.from_lines([*DEFAULTS, *(line if _is_rule(line) else "#" for line in lines)])
        return True

    def _text(self) -> str:
        """What the file says; raises OSError for a link, which may come from anywhere and lead anywhere."""
        # Without O_NONBLOCK a pipe in its place would hang the client.
        with os.fdopen(os.open(self.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), errors="replace") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "not a file")
            return file.read()

    def __call__(self, path: str, is_dir: bool) -> bool:
        return bool(self._spec.match_file(path + "/" if is_dir else path))

    def lines(self) -> list[str]:
        return list(self._lines)

    def why(self, path: str, is_dir: bool) -> str | None:
        """The rule that decides about a path or a folder above it; None when none keeps it out."""
        rules = [*DEFAULTS, *self._lines]
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            part = "/".join(parts[:depth])
            folder = is_dir or depth < len(parts)
            result = self._spec.check_file(part + "/" if folder else part)
            if result.include and result.index is not None:
                where = (
                    "built in" if result.index < len(DEFAULTS) else f"line {result.index - len(DEFAULTS) + 1} of {NAME}"
                )
                return f"{rules[result.index]} ({where})"
        return None

    def add(self, rule: str) -> None:
        if not _is_rule(rule):
            raise SyncError(f"“{rule}” is no rule of .gitignore, as *.tmp or /build/ would be.")
        try:
            old = self._text()
        except FileNotFoundError:
            old = ""
        except OSError as error:
            raise SyncError(f"{self.file} is no plain file that can be read; make it one.") from error
        if old and not old.endswith("\n"):
            old += "\n"
        fresh = self.file.with_name(NAME + ".part")
        fresh.unlink(missing_ok=True)
        with fresh.open("x") as file:
            file.write(old + rule + "\n")
        fresh.replace(self.file)


def _is_rule(line: str) -> bool:
    try:
        return bool(line.strip() and GitIgnoreSpec.from_lines([line]))
    except (ValueError, re.error):
        return False
