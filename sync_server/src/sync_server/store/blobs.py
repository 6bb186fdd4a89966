# SPDX-License-Identifier: GPL-3.0-or-later
"""The bytes: one immutable file for each blob, in folders named by the first two digits of its hash.

A file here proves nothing: only a row of `holdings`, written after the file is durable, does. So what a crash leaves
behind is rewritten by the next upload, and swept by the collection.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from sync_protocol.hashing import EMPTY
from sync_protocol.types import MAX_BLOB
from sync_server.store.interface import Mismatch, NoSpace, StoreFailed, TooLarge

# From here on, one sync of the file system is cheaper than two for each file.
_TOGETHER = 4

_libc = ctypes.CDLL(None, use_errno=True)


def disk_error(error: OSError, what: str) -> NoSpace | StoreFailed:
    """What to tell the caller of an error of the disk."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return NoSpace(f"The disk is full: {what} was not stored.")
    return StoreFailed(f"The disk failed ({error.strerror}): {what} was not stored.")


def fsync_folder(folder: Path) -> None:
    """Make renames in it durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(folder: Path) -> None:
    """Make everything written on the file system of the folder durable (syncfs; it reports errors since Linux 5.8)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


class TemporaryBlob:
    """A blob on its way in: hashed while it is written."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self.size = 0
        self._file: int | None = file
        self._hash = sha256()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; what is too large is refused before it is written."""
        if self._file is None:
            raise ValueError("the blob is closed already")
        if self.size + len(data) > MAX_BLOB:
            raise TooLarge(f"A blob cannot be larger than {MAX_BLOB} bytes.")
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            raise disk_error(error, "the blob") from error
        self.size += len(data)
        self._hash.update(data)

    def hash(self) -> str:
        """Of what was written so far."""
        return self._hash.hexdigest()

    def close(self, *, sync: bool) -> None:
        """Close the file, after fsync where asked; again with fsync is allowed, before it is moved."""
        if self._file is None and not sync:
            return
        file, self._file = self._file, None
        if file is None:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if sync:
                os.fsync(file)
        finally:
            os.close(file)

    def discard(self) -> None:
        """Remove what was written; harmless once it is in its place."""
        with contextlib.suppress(OSError):
            self.close(sync=False)
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


class BlobFolder:
    """The files of all blobs, whoever they belong to."""

    def __init__(self, root: Path) -> None:
        self.blobs = root / "blobs"
        self.temporary = root / "tmp"
        self.quarantine = root / "quarantine"
        # Held while a blob has its file but not yet its row: the collection leaves it alone.
        self._pins: Counter[str] = Counter()
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Make all folders durable once, so that no upload has to."""
        for folder in (self.blobs, self.temporary, self.quarantine):
            folder.mkdir(mode=0o700, exist_ok=True)
        for prefix in range(256):
            (self.blobs / f"{prefix:02x}").mkdir(mode=0o700, exist_ok=True)
        # Nobody sends the blob of no bytes, and anybody may ask for it.
        self.path(EMPTY).touch(mode=0o600)
        fsync_folder(self.blobs)
        fsync_folder(self.blobs.parent)

    def clear_temporary(self) -> None:
        """Remove what a stopped process left half written. Only for the one process that writes."""
        for left in self.temporary.iterdir():
            left.unlink(missing_ok=True)

    def path(self, blob: str) -> Path:
        """Where its file is."""
        return self.blobs / blob[:2] / blob

    def new(self) -> TemporaryBlob:
        """Begin a blob."""
        path = self.temporary / secrets.token_hex(16)
        try:
            return TemporaryBlob(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise disk_error(error, "the blob") from error

    @contextlib.contextmanager
    def pinned(self, blobs: Iterable[str]) -> Iterator[None]:
        """Keep the collection from removing files whose rows are about to be written."""
        held = list(blobs)
        with self._lock:
            self._pins.update(held)
        try:
            yield
        finally:
            with self._lock:
                self._pins.subtract(held)
                for blob in held:
                    if self._pins[blob] <= 0:
                        del self._pins[blob]

    def place(self, blobs: Sequence[tuple[str, TemporaryBlob]]) -> None:
        """Move written blobs, pinned, to their places; all are on disk when it returns."""
        try:
            together = len(blobs) >= _TOGETHER
            for name, blob in blobs:
                # What somebody already relies on must not give way to bytes that a power cut would take.
                blob.close(sync=not together or self.path(name).exists())
                blob.path.rename(self.path(name))
            if together:
                sync_file_system(self.blobs)
            else:
                for folder in {self.path(name).parent for name, _ in blobs}:
                    fsync_folder(folder)
        except OSError as error:
            raise disk_error(error, "the blob") from error
        finally:
            for _, blob in blobs:
                blob.discard()

    def remove(self, blob: str) -> int | None:
        """Delete the file and return the bytes freed; None when somebody is just bringing it in or the disk refuses."""
        path = self.path(blob)
        with self._lock:
            if self._pins[blob] > 0:
                return None
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                return 0
            except OSError:
                # A file that stays is no damage, and the next collection tries again.
                return None
        return size

    def put_aside(self, blob: str) -> Path:
        """Move a damaged file to the quarantine."""
        target = self.quarantine / blob
        self.path(blob).replace(target)
        fsync_folder(self.quarantine)
        return target

    def verify(self, blob: str, size: int, pause: Callable[[], None] | None = None) -> str | None:
        """Read the file again; returns what is wrong with it, None when nothing is."""
        digest = sha256()
        read = 0
        try:
            with self.path(blob).open("rb", buffering=0) as file:
                while piece := file.read(256 * 1024):
                    digest.update(piece)
                    read += len(piece)
                    if pause is not None:
                        pause()
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            return f"unreadable: {error.strerror}"
        if read != size:
            return f"has {read} bytes instead of {size}"
        return None if digest.hexdigest() == blob else "has other content than its name says"

    def names(self, prefix: int) -> Iterator[tuple[str, float]]:
        """The files of one folder with the time they were put there."""
        with os.scandir(self.blobs / f"{prefix:02x}") as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    yield entry.name, entry.stat(follow_symlinks=False).st_mtime


def check_blob(expected: str | None, actual: str) -> None:
    """Refuse bytes that are not what their name says."""
    if expected is not None and expected != actual:
        raise Mismatch(f"The bytes have the SHA-256 {actual}, not {expected}.")
