# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a folder, as tests compare it; nothing beyond the standard library, for other tests use it too."""

from __future__ import annotations

import os
from pathlib import Path

LINKED = b"-> "
"""Before the text of a symlink, where contents are compared: it is no file of the same bytes."""


def content(path: Path) -> bytes | None:
    """Of a file or a link; None of a folder."""
    if path.is_symlink():
        # pathlib would tidy the text up.
        return LINKED + os.fsencode(os.readlink(path))  # noqa: PTH115
    return None if path.is_dir() else path.read_bytes()


def leads_on(path: Path) -> bool:
    """Whether there is a folder to go into: a link to one is none, as little as a file is."""
    return path.is_dir() and not path.is_symlink()
