# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads files of the data volume, where the container may put whatever it likes. Private."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePath

# More than a thousand users, or the longest story certbot tells.
MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class DataFile:
    """What was read, and when it was written."""

    text: str = field(repr=False)
    modified: float


def read_data(data_dir: Path, name: str) -> DataFile:
    """The end of a file in the volume; raises OSError where a link, pipe or device is in its place.

    Followed as root, a link out of the volume would show this host's files, and a pipe would never end.
    """
    *folders, last = PurePath(name).parts
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    folder = os.open(data_dir, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for one in folders:
            inner = os.open(one, flags | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        file = os.open(last, flags | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)
        content = os.pread(file, MOST_BYTES, max(0, status.st_size - MOST_BYTES))
    finally:
        os.close(file)
    return DataFile(content.decode(errors="replace"), status.st_mtime)
