# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the local tree up to what is in the folder. Looks at names and times; content is named later, where needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sync_client.errors import Changed, FolderGone
from sync_client.folder import OWN, Folder, Seen, deceptive
from sync_client.trees import DIR, FILE, ROOT, Entry, Trees
from sync_protocol.chunking import LARGEST
from sync_protocol.names import InvalidName, check_name

_BATCH = 500
_ROW = (
    "SELECT id, l_name, l_kind, l_hash, l_size, l_mtime, l_exec, l_dev, l_ino, l_ctime, l_seen FROM entry"
    " WHERE l_parent=? AND l_name IS NOT NULL"
)

Ignored = Callable[[str, bool], bool]


class Scanner:
    """One pass over the folder or a part of it.

    An unreadable folder keeps what was known of it: not seeing is not deleting.
    """

    def __init__(self, trees: Trees, folder: Folder, ignored: Ignored, *, moved: dict[str, str] | None = None) -> None:
        self.trees = trees
        self.folder = folder
        self.ignored = ignored
        # What the watcher saw renamed, new path to old: then a rename counts even if the file was written to as well.
        self.moved = moved or {}
        self.gone: set[int] = set()
        self.found: set[int] = set()
        self.changed = 0
        self.new_dirs: list[str] = []

    def scan(self, dirs: Iterable[int] | None = None) -> Iterator[str]:
        """Look at the given folders (and whatever is new in them), or at everything. Yields between two folders."""
        if self.folder.mark() is None:
            raise FolderGone(str(self.folder.root))
        deep = dirs is None
        todo: list[tuple[int, str, bool]] = []
        if dirs is None:
            self.trees.db.execute("DELETE FROM problem")
            todo.append((ROOT, "", deep))
        else:
            for entry in dirs:
                path = self.trees.path(entry)
                if path is not None:
                    todo.append((entry, path, deep))
        todo.reverse()
        while todo:
            entry, path, deep = todo.pop()
            with self.trees.change():
                todo.extend(reversed(self._folder(entry, path, deep)))
            yield path
        with self.trees.change():
            self._settle_gone()

    def _folder(self, entry: int, path: str, deep: bool) -> list[tuple[int, str, bool]]:
        try:
            items = self.folder.entries(path)
        except FolderGone:
            raise
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self._problem(path, f"cannot be read ({error.strerror}); left as it is")
            return []
        if not deep:
            self._forget_problems(path, {name for name, seen in items if seen.kind == DIR})
        known = {(row[1], row[2]): row for row in self.trees.db.execute(_ROW, (entry,))}
        below: list[tuple[int, str, bool]] = []
        prefix = f"{path}/" if path else ""
        for name, seen in items:
            row = known.pop((name, seen.kind), None)
            full = prefix + name
            if row is not None:
                self._update(row, seen, full)
                self.found.add(row[0])
                if seen.kind == DIR and deep:
                    below.append((row[0], full, deep))
                continue
            if self.ignored(full, seen.kind == DIR):
                continue
            if not self._accept(full, name, seen):
                continue
            child, fresh = self._appear(entry, name, full, seen)
            self.found.add(child)
            self.changed += 1
            if seen.kind == DIR and (deep or fresh):
                # What was moved has things inside that are known, and are looked at all the same.
                below.append((child, full, True))
                self.new_dirs.append(full)
        self.gone.update(row[0] for row in known.values())
        return below

    def _accept(self, full: str, name: str, seen: Seen) -> bool:
        if seen.kind not in (FILE, DIR):
            self._problem(full, "is a socket, pipe or device; skipped")
            return False
        try:
            check_name(name)
        except InvalidName as error:
            self._problem(full, f"has a name the server cannot store; rename it ({error})")
            return False
        return True

    def _forget_problems(self, path: str, folders: set[str]) -> None:
        """Of what is looked at again: of the folder, of what is right in it, and of folders that left it."""
        prefix = f"{_shown(path)}/" if path else ""
        for (listed,) in self.trees.db.execute("SELECT path FROM problem").fetchall():
            inside = listed.removeprefix(prefix)
            if listed == _shown(path) or (
                listed.startswith(prefix) and ("/" not in inside or inside.split("/")[0] not in folders)
            ):
                self.trees.db.execute("DELETE FROM problem WHERE path=?", (listed,))

    def _problem(self, path: str, reason: str) -> None:
        self.trees.db.execute("INSERT OR REPLACE INTO problem(path, reason) VALUES(?, ?)", (_shown(path), reason))

    def _update(self, row: tuple, seen: Seen, full: str) -> None:  # type: ignore[type-arg]
        entry, _, kind, hash, size, mtime, executable, dev, ino, ctime, at = row
        if kind == DIR:
            if (dev, ino) != (seen.dev, seen.ino):
                self.trees.set(entry, l_dev=seen.dev, l_ino=seen.ino)
            return
        same = (size, mtime, ctime, ino, dev, executable) == (
            seen.size,
            seen.mtime,
            seen.ctime,
            seen.ino,
            seen.dev,
            seen.exec,
        )
        if same and (hash is None or not deceptive(mtime, ctime, at)):
            return
        if same and size <= LARGEST:
            # Its times may deceive, so its content is asked, here and at once: after a large round this is about many.
            try:
                content, _, now = self.folder.content(full)
            except (OSError, Changed):
                content, now = "", seen
            if content == hash:
                self.trees.set(entry, **_columns(now))
                return
        self.changed += 1
        self.trees.set(entry, **_columns(seen), l_hash=None, problem=None)

    def _appear(self, parent: int, name: str, full: str, seen: Seen) -> tuple[int, bool]:
        """Something at a place where nothing was known: moved here, come back, or new."""
        origin = self._origin(full, seen)
        if origin is not None:
            fresh = not origin.local
            self.gone.discard(origin.id)
            changes = _columns(seen)
            if (seen.kind == FILE and (origin.l_size, origin.l_mtime) != (seen.size, seen.mtime)) or (
                seen.kind == FILE
                and (origin.l_ctime is None or deceptive(origin.l_mtime, origin.l_ctime, origin.l_seen))
            ):
                changes["l_hash"] = None
            self.trees.set(origin.id, l_parent=parent, l_name=name, l_kind=seen.kind, **changes)
            if seen.kind == DIR:
                # What could not be done under its old name is tried again, and what is listed in it listed anew.
                self.trees.db.execute("UPDATE entry SET problem=NULL, problem_for=NULL WHERE problem IS NOT NULL")
                fresh = True
            return origin.id, fresh
        back = self.trees.first("s_parent=? AND s_name=? AND l_name IS NULL AND s_kind=?", parent, name, seen.kind)
        if back is not None:
            self.trees.set(back.id, l_parent=parent, l_name=name, l_kind=seen.kind, l_hash=None, **_columns(seen))
            return back.id, True
        return (
            self.trees.add(l_parent=parent, l_name=name, l_kind=seen.kind, **_columns(seen)),
            True,
        )

    def _origin(self, full: str, seen: Seen) -> Entry | None:
        """The row of what was moved here, by its inode; a number that was given out again must not fool us."""
        for row in self.trees.find("l_ino=? AND l_dev=? AND id<>?", seen.ino, seen.dev, ROOT):
            if row.id in self.found or (row.l_kind or row.s_kind) != seen.kind:
                continue
            if row.local:
                old = self.trees.path(row.id)
                if old is None or old == full:
                    continue
                now = self.folder.look(old)
                if now is not None and (row.id not in self.gone or now.ino == seen.ino):
                    continue
                if now is not None and now.kind == seen.kind:
                    continue
                if seen.kind == DIR and full.startswith(old + "/"):
                    continue
                if seen.kind == FILE and self.moved.get(full) != old and not _same_file(row, seen):
                    continue
                if seen.kind == DIR and self.moved.get(full) != old and not self._same_dir(row, full):
                    continue
                return row
            if row.synced and seen.kind == FILE and _same_file(row, seen):
                return row
        return None

    def _same_dir(self, row: Entry, full: str) -> bool:
        known = {
            item[0]: item[1]
            for item in self.trees.db.execute(
                "SELECT l_name, l_ino FROM entry WHERE l_parent=? AND l_name IS NOT NULL", (row.id,)
            )
        }
        if not known:
            return True
        try:
            return any(known.get(name) == seen.ino for name, seen in self.folder.entries(full))
        except OSError:
            return False

    def _settle_gone(self) -> None:
        for entry in self.gone - self.found:
            row = self.trees.get(entry)
            if row is None or not row.local:
                continue
            for child in self.trees.below(entry, "l"):
                if child not in self.found:
                    self._vanish(child)
            self._vanish(entry)

    def _vanish(self, entry: int) -> None:
        self.changed += 1
        # Inode, size and time stay: what comes back elsewhere is a move as long as the deletion was not sent.
        self.trees.set(entry, l_parent=None, l_name=None, l_kind=None, l_hash=None, l_exec=None)


def _shown(path: str) -> str:
    """Undecodable names have their odd bytes escaped: SQLite takes valid text only."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _same_file(row: Entry, seen: Seen) -> bool:
    return (row.l_size, row.l_mtime) == (seen.size, seen.mtime)


def _columns(seen: Seen) -> dict[str, int | None]:
    return {
        "l_size": seen.size,
        "l_mtime": seen.mtime,
        "l_ctime": seen.ctime,
        "l_dev": seen.dev,
        "l_ino": seen.ino,
        "l_exec": seen.exec,
        "l_seen": seen.at,
    }


def own(path: str) -> bool:
    """Whether a path is the client's own corner."""
    return path == OWN or path.startswith(OWN + "/")
