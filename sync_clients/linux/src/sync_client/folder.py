# SPDX-License-Identifier: GPL-3.0-or-later
"""The synced folder on disk: every read and every change of it goes through here.

No path is followed through a symlink: each folder on the way is opened by itself, so nothing outside is ever touched.
A symlink itself is read and written like a file whose content is its text.
Nothing is overwritten unseen: a file is swapped against the new one in one step and looked at after it; when it is not
what was expected, it is swapped back.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sync_client.errors import Changed, FolderGone, Occupied, SyncError
from sync_client.trees import DIR, FILE, LINK
from sync_protocol.chunking import cut
from sync_protocol.hashing import blob_id, content_id
from sync_protocol.types import MAX_LINK

OWN = ".sync-client"
"""The client's own corner of the folder: staging, and the mark that the disk is mounted."""

RACY = 2_000_000_000
"""A file changed less than two seconds before it was looked at may change again without showing it in its times."""


def deceptive(mtime: int | None, ctime: int | None, at: int | None) -> bool:
    """Whether the times of a file looked at then may hide that it was written to again."""
    return at is None or max(mtime or 0, ctime or 0) > at - RACY


_NOREPLACE, _EXCHANGE = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True, frozen=True)
class Seen:
    """What one look at a file or folder told."""

    kind: str
    size: int
    mtime: int
    ctime: int
    dev: int
    ino: int
    exec: int | None
    at: int

    def alike(self, other: Seen) -> bool:
        """Whether it is the same file, not written to since; a rename changes `ctime` alone."""
        return (self.ino, self.size, self.mtime, self.exec) == (other.ino, other.size, other.mtime, other.exec)


def check_link(text: bytes) -> None:
    """Raise OSError for the text of a symlink that not every device could keep."""
    if not 0 < len(text) <= MAX_LINK or b"\0" in text:
        raise OSError(errno.EILSEQ, "not the text of a symbolic link")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, "not the text of a symbolic link") from error


def _renameat2(old_fd: int, old: str, new_fd: int, new: str, flags: int) -> None:
    if not hasattr(_libc, "renameat2"):
        raise OSError(errno.ENOSYS, "renameat2")
    if _libc.renameat2(old_fd, os.fsencode(old), new_fd, os.fsencode(new), ctypes.c_uint(flags)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), new)


def _rename_noreplace(old_fd: int, old: str, new_fd: int, new: str) -> None:
    try:
        _renameat2(old_fd, old, new_fd, new, _NOREPLACE)
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise Occupied(new) from error
        if error.errno not in (errno.ENOSYS, errno.EINVAL):
            raise
        # A file system without the flag: the look and the rename are two steps there.
        try:
            os.lstat(new, dir_fd=new_fd)
        except FileNotFoundError:
            os.rename(old, new, src_dir_fd=old_fd, dst_dir_fd=new_fd)
        else:
            raise Occupied(new) from error


class Folder:
    """The synced folder. Paths are relative, `/`-separated, '' for the folder itself."""

    def __init__(self, root: Path, *, clock: Callable[[], int] = time.time_ns) -> None:
        self.root = root
        self.clock = clock
        self.durable = True
        # Called between two steps that a kill or another program may fall between; tests put both there.
        self.step: Callable[[str, str], None] = lambda what, path: None

    # The mark

    def prepare(self, mark: str) -> None:
        """Make the client's corner and leave the mark that tells an unmounted disk from an emptied folder."""
        corner = self.root / OWN
        for folder in (corner, corner / "tmp"):
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.is_symlink():
                raise SyncError(f"{folder} is a symbolic link, which is never followed: remove it and try again.")
        (corner / "id").unlink(missing_ok=True)
        (corner / "id").write_text(mark + "\n")

    def mark(self) -> str | None:
        try:
            return (self.root / OWN / "id").read_text().strip()
        except OSError:
            return None

    # Looking

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[int]:
        """A descriptor of a folder, reached without following a symlink."""
        try:
            fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError as error:
            raise FolderGone(str(self.root)) from error
        try:
            for part in path.split("/") if path else ():
                following = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = following
            yield fd
        finally:
            os.close(fd)

    def _split(self, path: str) -> tuple[str, str]:
        parent, _, name = path.rpartition("/")
        return parent, name

    def seen(self, status: os.stat_result, at: int | None = None) -> Seen:
        mode = status.st_mode
        link = stat.S_ISLNK(mode)
        is_file = link or stat.S_ISREG(mode)
        return Seen(
            kind=FILE if is_file else DIR if stat.S_ISDIR(mode) else "",
            size=status.st_size,
            mtime=status.st_mtime_ns,
            ctime=status.st_ctime_ns,
            dev=status.st_dev,
            ino=status.st_ino,
            exec=LINK if link else int(bool(mode & 0o100)) if is_file else None,
            at=self.clock() if at is None else at,
        )

    def look(self, path: str) -> Seen | None:
        parent, name = self._split(path)
        try:
            with self.opened(parent) as fd:
                return self.seen(os.lstat(name or ".", dir_fd=fd))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise

    def entries(self, path: str) -> list[tuple[str, Seen]]:
        """What is in a folder; the client's own corner is left out."""
        found = []
        with self.opened(path) as fd:
            at = self.clock()
            with os.scandir(fd) as listing:
                for item in listing:
                    if not path and item.name == OWN:
                        continue
                    try:
                        found.append((item.name, self.seen(item.stat(follow_symlinks=False), at)))
                    except FileNotFoundError:
                        continue
        return found

    # Reading

    @contextlib.contextmanager
    def _reading(self, path: str) -> Iterator[tuple[int, os.stat_result]]:
        parent, name = self._split(path)
        with self.opened(parent) as fd:
            # Without O_NONBLOCK a pipe put in the file's place meanwhile would hang the client.
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise Changed(path)
            yield file, status
        finally:
            os.close(file)

    def _link(self, path: str, error: OSError) -> tuple[bytes, Seen]:
        """The text of a symlink, with its look, when reading it as a file failed because it is one."""
        if error.errno != errno.ELOOP:
            raise error
        parent, name = self._split(path)
        with self.opened(parent) as fd:
            before = os.lstat(name, dir_fd=fd)
            try:
                text = os.fsencode(os.readlink(name, dir_fd=fd))
            except OSError as no_link:
                raise Changed(path) from no_link
            seen = self.seen(before)
            if self.seen(os.lstat(name, dir_fd=fd), seen.at) != seen:
                raise Changed(path)
        check_link(text)
        return text, seen

    def blobs(self, path: str) -> Iterator[bytes]:
        """The content in blobs, as they are named and sent; Changed when it was written to meanwhile."""
        try:
            with self._reading(path) as (fd, before), open(fd, "rb", buffering=0, closefd=False) as file:
                yield from cut(file, before.st_size)
                after = os.fstat(fd)
                if (after.st_mtime_ns, after.st_ctime_ns, after.st_size) != (
                    before.st_mtime_ns,
                    before.st_ctime_ns,
                    before.st_size,
                ):
                    raise Changed(path)
        except OSError as error:
            yield self._link(path, error)[0]

    def content(self, path: str) -> tuple[str, list[tuple[str, int]], Seen]:
        """The name of the content, its blobs with their sizes, and the look that belongs to it."""
        try:
            with self._reading(path) as (fd, before), open(fd, "rb", buffering=0, closefd=False) as file:
                blobs = [(blob_id(blob), len(blob)) for blob in cut(file, before.st_size)]
                after = os.fstat(fd)
        except OSError as error:
            text, seen = self._link(path, error)
            return blob_id(text), [(blob_id(text), len(text))], seen
        seen = self.seen(before)
        if self.seen(after, seen.at) != seen:
            raise Changed(path)
        return content_id([name for name, _ in blobs]), blobs, seen

    def piece(self, path: str, offset: int, size: int) -> bytes:
        """Some bytes of a file; whoever asks must check them."""
        try:
            with self._reading(path) as (fd, _):
                return os.pread(fd, size, offset)
        except OSError:
            return b""

    def mode(self, path: str) -> int:
        parent, name = self._split(path)
        with self.opened(parent) as fd:
            return stat.S_IMODE(os.lstat(name, dir_fd=fd).st_mode)

    @property
    def new_mode(self) -> int:
        mask = os.umask(0o077)
        os.umask(mask)
        return 0o666 & ~mask

    # Changing

    def flush(self) -> None:
        """Make everything written to this disk durable: for many files cheaper than one by one."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not hasattr(_libc, "syncfs") or _libc.syncfs(fd) != 0:
                os.sync()
        finally:
            os.close(fd)

    def staging(self, name: str) -> Path:
        return self.root / OWN / "tmp" / name

    def _sync_dir(self, fd: int) -> None:
        if self.durable:
            os.fsync(fd)

    def sync_dir(self, path: str) -> None:
        with self.opened(path) as fd:
            self._sync_dir(fd)

    def make_link(self, staged: Path, link: Path) -> None:
        """A symlink with the text that was staged."""
        with staged.open("rb") as file:
            text = file.read(MAX_LINK + 1)
        check_link(text)
        try:
            link.symlink_to(os.fsdecode(text))
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOSYS):
                raise OSError(errno.EOPNOTSUPP, "no symbolic links on this disk") from error
            raise

    def make_dir(self, path: str) -> Seen:
        parent, name = self._split(path)
        with self.opened(parent) as fd:
            try:
                os.mkdir(name, dir_fd=fd)
            except FileExistsError as error:
                status = os.lstat(name, dir_fd=fd)
                if not stat.S_ISDIR(status.st_mode):
                    raise Occupied(path) from error
            return self.seen(os.lstat(name, dir_fd=fd))

    def move(self, old: str, new: str) -> Seen:
        """Rename without ever replacing what is there."""
        old_parent, old_name = self._split(old)
        new_parent, new_name = self._split(new)
        with self.opened(old_parent) as old_fd, self.opened(new_parent) as new_fd:
            _rename_noreplace(old_fd, old_name, new_fd, new_name)
            self._sync_dir(new_fd)
            if old_parent != new_parent:
                self._sync_dir(old_fd)
            return self.seen(os.lstat(new_name, dir_fd=new_fd))

    def set_exec(self, path: str, executable: bool) -> Seen:
        with self._reading(path) as (fd, status):
            mode = stat.S_IMODE(status.st_mode)
            # Who may read may run: the umask decided who may read.
            os.fchmod(fd, mode | (mode & 0o444) >> 2 if executable else mode & ~0o111)
            return self.seen(os.fstat(fd))

    def place(self, staged: Path, path: str, expected: Callable[[str, Seen], bool] | None) -> Seen:
        """Bring a staged file to its place; `flush` or `sync_dir` makes that durable.

        Without `expected` the place must be free. Otherwise the old file must satisfy it *after* the swap: when it does
        not, it is swapped back and Changed is raised. Returns the look of what was placed: where the user was quicker
        than the second look, that of before, so that his edit shows.
        """
        parent, name = self._split(path)
        with self.opened(f"{OWN}/tmp") as stage, self.opened(parent) as fd:
            before = self.seen(os.lstat(staged.name, dir_fd=stage))
            if expected is None:
                _rename_noreplace(stage, staged.name, fd, name)
            else:
                self._swap(stage, staged.name, fd, name, path, expected, before)
            after = self.seen(os.lstat(name, dir_fd=fd))
            return after if after.alike(before) else before

    def _swap(
        self,
        stage: int,
        staged: str,
        fd: int,
        name: str,
        path: str,
        expected: Callable[[str, Seen], bool],
        fresh: Seen,
    ) -> None:
        self.step("before the swap", path)
        try:
            _renameat2(stage, staged, fd, name, _EXCHANGE)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise Changed(path) from error
            if error.errno not in (errno.ENOSYS, errno.EINVAL):
                raise
            # A file system that cannot swap: look, then rename; the old one is set aside first.
            aside = staged + ".old"
            os.rename(name, aside, src_dir_fd=fd, dst_dir_fd=stage)
            if not self._as_expected(stage, aside, expected):
                _rename_noreplace(stage, aside, fd, name)
                raise Changed(path) from error
            _rename_noreplace(stage, staged, fd, name)
            os.unlink(aside, dir_fd=stage)
            return
        self.step("swapped", path)
        if not self._as_expected(stage, staged, expected):
            _renameat2(stage, staged, fd, name, _EXCHANGE)
            if not self.seen(os.lstat(staged, dir_fd=stage)).alike(fresh):
                # The user wrote over the new file too: that stays in staging under another name, as after a kill.
                os.rename(staged, staged + ".theirs", src_dir_fd=stage, dst_dir_fd=stage)
            raise Changed(path)
        os.unlink(staged, dir_fd=stage)

    def _as_expected(self, stage: int, staged: str, expected: Callable[[str, Seen], bool]) -> bool:
        seen = self.seen(os.lstat(staged, dir_fd=stage))
        return seen.kind == FILE and expected(f"{OWN}/tmp/{staged}", seen)

    def remove(self, path: str, staged: str, expected: Callable[[str, Seen], bool]) -> None:
        """Remove a file that satisfies `expected` once it is out of the way; else it goes back to its place."""
        parent, name = self._split(path)
        with self.opened(f"{OWN}/tmp") as stage, self.opened(parent) as fd:
            self.step("before the removal", path)
            os.rename(name, staged, src_dir_fd=fd, dst_dir_fd=stage)
            self.step("out of the way", path)
            if not self._as_expected(stage, staged, expected):
                # Where the user wrote a new one meanwhile it stays in staging, as after a kill.
                with contextlib.suppress(Occupied):
                    _rename_noreplace(stage, staged, fd, name)
                raise Changed(path)
            os.unlink(staged, dir_fd=stage)
            self._sync_dir(fd)

    def remove_dir(self, path: str) -> bool:
        """Remove a folder if it is empty; False when something is in it."""
        parent, name = self._split(path)
        with self.opened(parent) as fd:
            try:
                os.rmdir(name, dir_fd=fd)
            except FileNotFoundError:
                return True
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    return False
                raise
            return True
