# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What must be known of a box before the first change. Private to this collection; knows nothing of Ansible."""

from __future__ import annotations

import errno
import fcntl
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path

MIB = 1024 * 1024


def apt_has_lists(root: Path = Path("/")) -> bool:
    """Tell whether a package list was ever fetched; a freshly booted image has none."""
    return any((root / "var/lib/apt/lists").glob("*_Packages*")) or any(
        (root / "var/lib/apt/lists").glob("*_InRelease")
    )


def apt_is_busy(root: Path = Path("/")) -> bool:
    """Tell whether another program holds dpkg's front-end lock, as unattended upgrades do after a first boot."""
    lock = root / "var/lib/dpkg/lock-frontend"
    try:
        # A POSIX write lock needs a writable descriptor; the file is never made, only asked about.
        with lock.open("r+b") as handle:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return True
        raise
    return False


def disk_free_mib(path: Path) -> int:
    """Return the space (MiB) an ordinary user may still fill on the file system that holds a path or will hold it."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free // MIB


def resolve(names: Iterable[str]) -> dict[str, list[str]] | None:
    """Return each name's IPv4 addresses, sorted, or an empty list; None where the resolver does not answer."""
    try:
        return {name: _addresses(name) for name in sorted(set(names))}
    except _SilentResolver:
        # Each further name would be waited for as long.
        return None


class _SilentResolver(Exception):
    pass


def _addresses(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise _SilentResolver from error
        return []
    return sorted({str(address[4][0]) for address in found})
