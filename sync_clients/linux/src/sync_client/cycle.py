# SPDX-License-Identifier: GPL-3.0-or-later
"""One round of syncing, as a generator: it yields between any two steps, and may be dropped at every yield.

Order: first the fate of what was sent before (rule: the same operation is replayed until its result is known), then the
journal, then the folder, then decisions until nothing is left to do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from sync_client.errors import Changed, CursorGone, DiskFull, Occupied, Refused, SyncError
from sync_client.folder import Folder, Seen, deceptive
from sync_client.planner import LINK_SKIPPED, LOCAL, REMOTE, TREES_ONLY, TWINS, Decision, Do, Planner, apply_to_trees
from sync_client.remote import Census, Outcome, Sent, learn, learn_change, pack, settle, unpack
from sync_client.scanner import Scanner
from sync_client.server import Server
from sync_client.trees import DIR, FILE, LINK, ROOT, Entry, Trees
from sync_protocol.chunking import LARGEST, cut
from sync_protocol.hashing import blob_id, content_id
from sync_protocol.names import conflict_name
from sync_protocol.types import MAX_HAVE, CommitAnswer, CommitRequest, Delete, Mkdir, Move, Op, Put

OPS_A_COMMIT = 1000
BYTES_A_BATCH = 4 * 1024 * 1024
FILES_A_FETCH = 500
SMALL = 256 * 1024
_WINDOW = 1000
_SPAN = struct.Struct(">32sI")


class MassDeletion(SyncError):
    """So many files vanished from the folder at once that it is asked before the server hears of it."""

    code = 9

    def __init__(self, deleted: int, total: int) -> None:
        super().__init__(
            f"{deleted} of {total} files vanished from the folder. Nothing was deleted on the server. If this is"
            " right, run `sync-client deletions allow`; to get them back, run `sync-client deletions undo`."
        )
        self.deleted = deleted
        self.total = total


@dataclass(slots=True)
class Rules:
    """What the user decided."""

    device: str = "device"
    ignored: Callable[[str, bool], bool] = lambda path, is_dir: False
    exclude: tuple[str, ...] = ()
    deletions_percent: int = 50
    deletions_files: int = 20
    skip_links: bool = False

    def excluded(self, path: str) -> bool:
        return any(path == e or path.startswith(e + "/") for e in self.exclude)


@dataclass(slots=True)
class Progress:
    """Counts of one round, for people who watch."""

    uploaded: int = 0
    downloaded: int = 0
    sent_bytes: int = 0
    got_bytes: int = 0
    sent_ops: int = 0
    removed: int = 0
    moved: int = 0
    conflicts: int = 0
    busy: str = ""


@dataclass(slots=True)
class _Batch:
    decisions: list[Decision] = field(default_factory=list)
    entries: set[int] = field(default_factory=set)
    coming: dict[int, int] = field(default_factory=dict)
    size: int = 0


class Cycle:
    """Everything a round needs; keep it for the life of the daemon."""

    def __init__(self, trees: Trees, folder: Folder, server: Server, rules: Rules) -> None:
        self.trees = trees
        self.folder = folder
        self.server = server
        self.rules = rules
        self.progress = Progress()
        self.deletions_allowed = False
        # A copy of the setting, for the thread that listens to the server.
        self.cursor = trees.setting("cursor")
        # Sends contents while the next ones are read; without it everything happens in order, as tests want it.
        self.helper: Executor | None = None
        self._retries: dict[int, int] = {}
        self._full: DiskFull | None = None
        self._fetched_spans: dict[int, bytes | None] = {}

    # A round

    def run(self, dirs: Iterable[int] | None = None, moved: dict[str, str] | None = None) -> Iterator[str]:
        """`dirs`: the folders to look at (None: all of them)."""
        yield from self.look(dirs, moved)
        yield from self.exchange()

    def look(self, dirs: Iterable[int] | None = None, moved: dict[str, str] | None = None) -> Iterator[str]:
        """The part that needs no server."""
        yield from self.recover()
        if dirs is None:
            # What did not work is tried again now and then: the room, the name, the right may be there by now.
            with self.trees.change():
                self.trees.db.execute("UPDATE entry SET problem=NULL, problem_for=NULL WHERE problem IS NOT NULL")
        scanner = Scanner(self.trees, self.folder, self.rules.ignored, moved=moved)
        for path in scanner.scan(dirs):
            yield f"looked at {path}"
        with self.trees.change():
            self.trees.forget_problems()

    def exchange(self) -> Iterator[str]:
        """The part that needs the server."""
        self._retries.clear()
        self._full = None
        # Of two names that differ only in case, the other one may have gone.
        with self.trees.change():
            self.trees.db.execute(f"UPDATE entry SET problem=NULL WHERE problem LIKE '{TWINS}%'")
        yield from self.replay()
        yield from self.pull()
        while True:
            stuck = True
            for step in self._pass():
                if step == "progress":
                    stuck = False
                else:
                    yield step
            if stuck:
                if not self._untangle():
                    # The answer to the question was for these deletions, not for all to come.
                    self.deletions_allowed = False
                    break
                yield "untangled"
        with self.trees.change():
            self.trees.forget_problems()
        if self._full is not None:
            raise self._full

    def recover(self) -> Iterator[str]:
        """After a kill or an edit between two steps of a swap or removal a file may lie out of the way: put it back."""
        corner = self.folder.staging("")
        try:
            names = [item.name for item in corner.iterdir()]
        except OSError:
            return
        for name in names:
            if not name.startswith(("swap-", "gone-")):
                continue
            entry = self.trees.get(int(name.split("-")[1])) if name.split("-")[1].isdigit() else None
            try:
                content, _, seen = self.folder.content(f".sync-client/tmp/{name}")
            except (OSError, Changed):
                continue
            known = (entry.s_content, entry.r_content, entry.l_content) if entry else ()
            if any((hash, exec == LINK) == (content, seen.exec == LINK) for hash, exec in known):
                with contextlib.suppress(OSError):
                    self.folder.staging(name).unlink()
                continue
            base = (entry and (entry.l_name or entry.s_name or entry.r_name)) or name
            parent = self.trees.path(entry.l_parent) if entry and entry.l_parent else None
            copy = conflict_name(base, self.folder.clock() // 1_000_000, self.rules.device, secrets.randbelow(10**6))
            yield from self._bring_back(name, f"{parent}/{copy}" if parent else copy, copy)

    def _bring_back(self, staged: str, *places: str) -> Iterator[str]:
        """To the first place there is: its folder may have been moved or closed since the kill."""
        for path in places:
            try:
                self.folder.place(self.folder.staging(staged), path, None)
            except (OSError, Occupied):
                continue
            self._event("kept", path, "an edit made in the very moment another device's version arrived")
            yield "recovered"
            return

    def replay(self) -> Iterator[str]:
        for seq, _, request, sent in self.trees.queued():
            yield "about to replay"
            yield from self._send(seq, request, msgspec.json.decode(sent, type=list[Sent]))

    def pull(self) -> Iterator[str]:
        while True:
            cursor = self.trees.setting("cursor")
            if not cursor:
                yield from self._census()
                continue
            try:
                page = self.server.changes(cursor)
            except CursorGone:
                yield from self._census()
                continue
            with self.trees.change():
                for change in page.changes:
                    learn_change(self.trees, change)
                self.trees.remember("cursor", page.cursor)
            self.cursor = page.cursor
            yield "pulled"
            if not page.more:
                return

    def _census(self) -> Iterator[str]:
        census = Census(self.trees)
        token: str | None = None
        cursor = ""
        while True:
            page = self.server.snapshot(token)
            cursor = cursor or page.cursor
            census.page(page.entries)
            yield "snapshot page"
            token = page.next
            if token is None:
                break
        census.finish(cursor)
        self.cursor = cursor

    # Decisions

    def _planner(self, batch: _Batch) -> Planner:
        return Planner(self.trees, self.rules.ignored, self.rules.excluded, batch.coming, self.rules.skip_links)

    def _pass(self) -> Iterator[str]:
        """All that is dirty once: folders until they rest, then files in windows.

        Yields "progress" when there was some.
        """
        self._guard()
        batch = _Batch()
        fetches: list[Decision] = []
        yield from self._leave_excluded(batch, fetches)
        again = True
        while again:
            again = False
            for entry in self.trees.find("dirty AND coalesce(l_kind, s_kind, r_kind)='folder' ORDER BY id"):
                for step in self._one(entry.id, batch, fetches):
                    if step == "progress":
                        again = True
                    yield step
        last = 0
        while True:
            window = [
                row[0]
                for row in self.trees.db.execute(
                    f"SELECT id FROM entry WHERE dirty AND id>? AND coalesce(l_kind, s_kind, r_kind, 'file')='file'"
                    f" ORDER BY id LIMIT {_WINDOW}",
                    (last,),
                )
            ]
            if not window:
                break
            last = window[-1]
            yield from self._hash_window(window)
            for entry_id in window:
                yield from self._one(entry_id, batch, fetches)
                if len(batch.decisions) >= OPS_A_COMMIT:
                    yield from self._flush(batch)
                    batch = _Batch()
                if len(fetches) >= FILES_A_FETCH:
                    yield from self._fetch_all(fetches)
                    fetches = []
        yield from self._fetch_all(fetches)
        yield from self._flush(batch)

    def _hash_window(self, window: list[int]) -> Iterator[str]:
        """Name the contents of many small files in one go."""
        marks = ",".join("?" * len(window))
        rows = self.trees.db.execute(
            "SELECT id FROM entry WHERE l_kind='file' AND l_name IS NOT NULL AND l_hash IS NULL AND problem IS NULL"
            f" AND l_size<=? AND id IN ({marks})",
            (LARGEST, *window),
        ).fetchall()
        for start in range(0, len(rows), 100):
            with self.trees.change():
                for (entry,) in rows[start : start + 100]:
                    path = self.trees.path(entry)
                    if path is None:
                        continue
                    try:
                        content, _, seen = self.folder.content(path)
                    except (OSError, Changed):
                        # One by one below, where each failure has its answer.
                        continue
                    if self._left_out(seen):
                        continue
                    self.trees.set(
                        entry,
                        l_hash=content,
                        l_blobs=None,
                        l_size=seen.size,
                        l_mtime=seen.mtime,
                        l_ctime=seen.ctime,
                        l_dev=seen.dev,
                        l_ino=seen.ino,
                        l_exec=seen.exec,
                        l_seen=seen.at,
                    )
            yield "progress"
            yield "named contents"

    def _leave_excluded(self, batch: _Batch, fetches: list[Decision]) -> Iterator[str]:
        """What is newly excluded is in step, so nothing else would look at it; the deepest first."""
        for path in self.rules.exclude:
            entry: int | None = ROOT
            for part in path.split("/"):
                row = self.trees.first("r_parent=? AND r_name=?", entry, part)
                entry = row.id if row else None
                if entry is None:
                    break
            if entry is not None:
                inside = self.trees.below(entry, "l")
                for child in [*reversed(inside), entry]:
                    yield from self._one(child, batch, fetches)

    def _one(self, entry_id: int, batch: _Batch, fetches: list[Decision]) -> Iterator[str]:
        for _ in range(8):
            if entry_id in batch.entries:
                return
            e = self.trees.get(entry_id)
            if e is None:
                return
            d = self._planner(batch).decide(e)
            if d.do is Do.WAIT:
                return
            if d.entry.id in batch.entries or (d.other is not None and d.other.id in batch.entries):
                return
            if d.do is Do.PROBLEM:
                with self.trees.change():
                    self.trees.note_problem(d.entry, d.reason)
                return
            if d.do in TREES_ONLY:
                with self.trees.change():
                    apply_to_trees(self.trees, d)
                yield "progress"
                continue
            if d.do in REMOTE:
                batch.entries.add(e.id)
                if d.do is Do.MKDIR:
                    batch.coming[e.id] = len(batch.decisions)
                batch.decisions.append(d)
                return
            if d.do is Do.FETCH:
                batch.entries.add(e.id)
                fetches.append(d)
                return
            assert d.do in LOCAL
            yield f"about to {d.do.value} {self.trees.best_path(d.entry.id)}"
            if not self._locally(d):
                return
            yield "progress"
            yield f"did {d.do.value}"

    def _guard(self) -> None:
        if self.deletions_allowed:
            return
        limit = self.rules.deletions_files
        deleted = self.trees.count(
            "dirty AND l_name IS NULL AND s_kind='file' AND r_name IS NOT NULL AND r_hash IS s_hash"
        )
        if deleted <= limit:
            return
        total = self.trees.count("s_kind='file'")
        if deleted * 100 > total * self.rules.deletions_percent:
            raise MassDeletion(deleted, total)

    def _untangle(self) -> bool:
        """Names that wait for each other in a ring (a swap): one of them steps aside under a name of its own."""
        planner = self._planner(_Batch())
        for e in self.trees.find("dirty"):
            if e.problem is not None and e.problem_for == e.fingerprint:
                continue
            d = planner.decide(e)
            if d.do is not Do.WAIT or d.other is None:
                continue
            if self._retries.get(-e.id, 0):
                continue
            self._retries[-e.id] = 1
            o = self.trees.get(d.other.id)
            if o is None:
                continue
            if e.remote and e.r_place != e.s_place and o.local:
                path = self.trees.path(o.id)
                if path is None:
                    continue
                return self._rename(o, ROOT, f"{o.l_name}.sync-moving-{secrets.token_hex(4)}")
            if e.local and e.l_place != e.s_place and o.remote and o.synced:
                # The same ring the other way round: here it was swapped, at the server one makes room.
                sent = Sent(entry=o.id, op="move", parent=ROOT, name=f"{o.r_name}.sync-moving-{secrets.token_hex(4)}")
                for _ in self._send_new([self._wire_move(o, sent)], [sent]):
                    pass
                return True
        return False

    def _wire_move(self, o: Entry, sent: Sent) -> Op:
        parent = self.trees.get(sent.parent or ROOT)
        assert parent is not None
        assert parent.node is not None
        assert o.node is not None
        return Move(node=o.node, base=o.r_place_rev or 0, parent=parent.node, name=sent.name or "")

    # In the folder

    def _locally(self, d: Decision) -> bool:
        """Carry out one decision in the folder; False when the folder is not what the trees say."""
        e = d.entry
        try:
            if d.do is Do.HASH:
                return self._hash(e)
            if d.do is Do.MAKE_DIR:
                path = self._target(e)
                seen = self.folder.make_dir(path)
                self.folder.step("made", path)
                with self.trees.change():
                    self._saw(e.id, e.r_parent, e.r_name, seen)
                    self._synced_as_remote(e)
                return True
            if d.do is Do.SET_EXEC:
                path = self._here(e)
                self.folder.set_exec(path, bool(e.r_exec))
                with self.trees.change():
                    self.trees.set(e.id, l_exec=e.r_exec, s_exec=e.r_exec, s_hash=e.r_hash, s_rev=e.r_content_rev)
                return True
            if d.do is Do.MOVE_LOCAL:
                done = self._rename(e, e.r_parent, e.r_name)
                if done:
                    with self.trees.change():
                        self.trees.set(e.id, s_parent=e.r_parent, s_name=e.r_name)
                    self.progress.moved += 1
                return done
            if d.do is Do.STEP_ASIDE:
                return self._step_aside(e)
            return self._remove(e)
        except (Changed, Occupied, FileNotFoundError, NotADirectoryError):
            self._look_again(e)
            return False
        except OSError as error:
            self._local_error(e, error)
            return False

    def _local_error(self, e: Entry, error: OSError) -> None:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            self._full = DiskFull(
                "The disk with the synced folder is full: free some space, then it goes on by itself."
            )
            return
        reason = {
            errno.EACCES: "cannot be read or written here; check its permissions",
            errno.EPERM: "cannot be changed here; check its permissions",
            errno.EROFS: "the folder is read-only here; make it writable",
            errno.ENAMETOOLONG: "has a name or path too long for this disk",
            errno.EINVAL: "has a name this disk cannot store",
            errno.ELOOP: "lies behind a symbolic link, which is not followed",
            errno.EILSEQ: "is a symbolic link no other device could keep: its text is too long or no valid UTF-8",
            errno.EOPNOTSUPP: "is a symbolic link, and this disk has none; `sync-client symlinks skip` leaves them out",
            errno.ENOTEMPTY: "is not empty",
        }.get(error.errno or 0, f"cannot be changed here ({error.strerror})")
        with self.trees.change():
            row = self.trees.get(e.id)
            if row is not None:
                self.trees.note_problem(row, reason)

    def _here(self, e: Entry) -> str:
        path = self.trees.path(e.id)
        if path is None:
            raise Changed(str(e.id))
        return path

    def _target(self, e: Entry) -> str:
        assert e.r_parent is not None
        assert e.r_name is not None
        parent = self.trees.path(e.r_parent)
        if parent is None:
            raise Changed(e.r_name)
        return f"{parent}/{e.r_name}" if parent else e.r_name

    def _saw(self, entry: int, parent: int | None, name: str | None, seen: Seen) -> None:
        self.trees.set(
            entry,
            l_parent=parent,
            l_name=name,
            l_kind=seen.kind,
            l_size=seen.size,
            l_mtime=seen.mtime,
            l_ctime=seen.ctime,
            l_dev=seen.dev,
            l_ino=seen.ino,
            l_exec=seen.exec,
            l_seen=seen.at,
        )

    def _synced_as_remote(self, e: Entry) -> None:
        self.trees.set(
            e.id,
            s_parent=e.r_parent,
            s_name=e.r_name,
            s_kind=e.r_kind,
            s_hash=e.r_hash,
            s_exec=e.r_exec,
            s_rev=e.r_content_rev,
            problem=None,
        )

    def _look_again(self, *entries: Entry) -> None:
        """Something is not as the trees say: look at the folders concerned before deciding anew.

        One above them may have another name by now.
        """
        parents: set[int] = set()
        for e in entries:
            for parent in (e.l_parent, e.r_parent, e.s_parent):
                while parent and parent not in parents:
                    parents.add(parent)
                    above = self.trees.get(parent)
                    parent = above.l_parent if above is not None else None
            row = self.trees.get(e.id)
            if row is not None and row.local and row.l_kind == FILE:
                with self.trees.change():
                    self.trees.set(e.id, l_hash=None)
        for _ in Scanner(self.trees, self.folder, self.rules.ignored).scan(sorted(parents)):
            pass
        for e in entries:
            self._retries[e.id] = self._retries.get(e.id, 0) + 1
            if self._retries[e.id] > 5 and (row := self.trees.get(e.id)) is not None:
                with self.trees.change():
                    self.trees.note_problem(row, "keeps changing, or its place is taken by something not synced")

    def _hash(self, e: Entry) -> bool:
        path = self._here(e)
        self.progress.busy = path
        content, blobs, seen = self.folder.content(path)
        if self._left_out(seen):
            with self.trees.change():
                self.trees.note_problem(e, LINK_SKIPPED)
            return False
        spans = b"".join(_SPAN.pack(bytes.fromhex(name), size) for name, size in blobs) if len(blobs) > 1 else None
        with self.trees.change():
            self._saw(e.id, e.l_parent, e.l_name, seen)
            self.trees.set(e.id, l_hash=content, l_blobs=spans)
        return True

    def _left_out(self, seen: Seen) -> bool:
        return seen.exec == LINK and self.rules.skip_links

    def _rename(self, e: Entry, parent: int | None, name: str | None) -> bool:
        old = self._here(e)
        above = self.trees.path(parent or ROOT)
        if above is None or name is None:
            return False
        new = f"{above}/{name}" if above else name
        if old == new:
            return True
        seen = self.folder.move(old, new)
        self.folder.step("moved", new)
        if seen.kind != e.l_kind:
            self._look_again(e)
            return False
        with self.trees.change():
            changes: dict[str, int | str | None] = {"l_parent": parent, "l_name": name}
            if seen.kind == FILE:
                # A rename moves the change time; whatever else differs is an edit that came in between.
                if (seen.size, seen.mtime, seen.ino) == (e.l_size, e.l_mtime, e.l_ino):
                    changes |= {"l_ctime": seen.ctime, "l_seen": e.l_seen}
                else:
                    changes |= {"l_hash": None}
            self.trees.set(e.id, **changes)
        return True

    def _step_aside(self, e: Entry) -> bool:
        assert e.l_name is not None
        for attempt in range(1, 100):
            name = conflict_name(e.l_name, self.folder.clock() // 1_000_000, self.rules.device, attempt)
            if self.trees.at_local(e.l_parent, name) or self.trees.at_remote(e.l_parent, name):
                continue
            before = self._here(e)
            if self._rename(e, e.l_parent, name):
                self.progress.conflicts += 1
                self._event("conflict", before, f"the name was taken by another device; kept here as “{name}”")
                return True
            return False
        return False

    def _expected(self, e: Entry) -> Callable[[str, Seen], bool]:
        """Whether a file is still the one the trees know: by its looks, by its content when the looks may deceive."""

        def check(path: str, seen: Seen) -> bool:
            if (seen.size, seen.mtime, seen.ino, seen.exec) != (e.l_size, e.l_mtime, e.l_ino, e.l_exec):
                return False
            if not deceptive(e.l_mtime, e.l_ctime, e.l_seen):
                return True
            try:
                return self.folder.content(path)[0] == e.l_hash
            except (OSError, Changed):
                return False

        return check

    def _remove(self, e: Entry) -> bool:
        path = self._here(e)
        if e.l_kind == DIR:
            if not self.folder.remove_dir(path):
                with self.trees.change():
                    self.trees.note_problem(e, "was deleted by another device, but holds files that are not synced")
                return False
        else:
            if e.remote:
                # Excluded, not deleted: the trees must know before the file is gone, or it would look like a deletion.
                with self.trees.change():
                    self.trees.set(e.id, s_parent=None, s_name=None, s_kind=None, s_hash=None, s_exec=None, s_rev=None)
            self.folder.remove(path, f"gone-{e.id}-{secrets.token_hex(4)}", self._expected(e))
        with self.trees.change():
            self.trees.set(e.id, l_parent=None, l_name=None, l_kind=None, l_hash=None, l_exec=None, l_ino=None)
            if e.remote:
                self.trees.set(e.id, s_parent=None, s_name=None, s_kind=None, s_hash=None, s_exec=None, s_rev=None)
        self.progress.removed += 1
        self._event("deleted here", path)
        return True

    def _event(self, kind: str, path: str, detail: str = "") -> None:
        with self.trees.change():
            self.trees.event(self.folder.clock() / 1e9, kind, path, detail)

    # From the server

    def _fetch_all(self, fetches: list[Decision]) -> Iterator[str]:
        """Get contents into staging, make them durable together, bring each to its place, and note that together.

        The trees learn of a file only when its name is on disk as well: a power cut must not make it look deleted.
        """
        if not fetches:
            return
        self._fetched_spans.clear()
        todo = [
            e for d in fetches if (e := self.trees.get(d.entry.id)) and self._planner(_Batch()).decide(e).do is Do.FETCH
        ]
        yield from self._fetch_small(todo)
        staged: list[Entry] = []
        for e in todo:
            if e.id not in self._fetched_spans:
                try:
                    yield from self._stage(e)
                except OSError as error:
                    self._drop_part(e, error)
                    if self._full is not None:
                        break
            if e.id in self._fetched_spans:
                staged.append(e)
        if self.folder.durable:
            self._make_durable([str(self._part(e)) for e in staged])
        placed: list[tuple[Entry, Seen]] = []
        missed: list[Entry] = []
        for e in staged:
            yield f"about to place {e.r_name}"
            try:
                placed.append((e, self._place(e, self._part(e))))
            except (Changed, Occupied, FileNotFoundError, NotADirectoryError):
                missed.append(e)
            except OSError as error:
                self._local_error(e, error)
        if placed:
            if self.folder.durable:
                if len(placed) > 8:
                    self.folder.flush()
                else:
                    for path in {self._target(e).rpartition("/")[0] for e, _ in placed}:
                        with contextlib.suppress(OSError):
                            self.folder.sync_dir(path)
            with self.trees.change():
                for e, seen in placed:
                    self._placed(e, seen)
        if missed:
            # Not before: what is in its place and not noted would be taken for something new.
            self._look_again(*missed)
        if placed or missed:
            yield "progress"
            yield "placed"

    def _drop_part(self, e: Entry, error: OSError) -> None:
        with contextlib.suppress(OSError):
            self._part(e).unlink(missing_ok=True)
        self._local_error(e, error)

    def _make_durable(self, paths: list[str]) -> None:
        if len(paths) > 8:
            self.folder.flush()
            return
        for path in paths:
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def _fetch_small(self, todo: list[Entry]) -> Iterator[str]:
        """Small files in one request for many."""
        small: dict[str, list[Entry]] = {}
        for e in todo:
            if e.r_hash is not None and (e.r_size or 0) <= SMALL and unpack(e.r_blobs) == [e.r_hash]:
                small.setdefault(e.r_hash, []).append(e)
        names = list(small)
        start = 0
        while start < len(names):
            group: list[str] = []
            size = 0
            while start < len(names) and (not group or size + (small[names[start]][0].r_size or 0) < BYTES_A_BATCH):
                size += small[names[start]][0].r_size or 0
                group.append(names[start])
                start += 1
            for name, data in zip(group, self.server.get_blobs(group), strict=True):
                self.progress.got_bytes += len(data)
                for e in small[name]:
                    try:
                        self._part(e).write_bytes(data)
                    except OSError as error:
                        self._drop_part(e, error)
                        continue
                    self._fetched_spans[e.id] = None
            yield "got small files"

    def _stage(self, e: Entry) -> Iterator[str]:
        """Write the content the server has to a staging file; what is there already, or in the old file, stays."""
        if e.r_hash is None or e.node is None:
            return
        names = unpack(e.r_blobs)
        if names is None or content_id(names) != e.r_hash:
            node = self.server.node(e.node)
            if node.content != e.r_hash or node.blobs is None:
                with self.trees.change():
                    learn(self.trees, node)
                return
            names = node.blobs
        self.progress.busy = self.trees.best_path(e.id)
        spans: list[bytes] = []
        path = self._part(e)
        with path.open("r+b" if path.exists() else "w+b") as file:
            done = 0
            for data in cut(file, path.stat().st_size):
                if done == len(names) or blob_id(data) != names[done]:
                    break
                spans.append(_SPAN.pack(bytes.fromhex(names[done]), len(data)))
                done += 1
            offset = sum(_SPAN.unpack(span)[1] for span in spans)
            file.seek(offset)
            file.truncate()
            local = self._local_spans(e)
            for group in _groups(names[done:], local):
                for name, data in zip(group, self._pieces(e, group, local), strict=True):
                    file.write(data)
                    spans.append(_SPAN.pack(bytes.fromhex(name), len(data)))
                file.flush()
                yield "got a piece"
        self._fetched_spans[e.id] = b"".join(spans) if len(spans) > 1 else None

    def _part(self, e: Entry) -> Path:
        return self.folder.staging(f"{e.id}-{(e.r_hash or '')[:24]}.part")

    def _local_spans(self, e: Entry) -> dict[str, tuple[int, int]]:
        """Where the blobs of the old file here lie in it."""
        found: dict[str, tuple[int, int]] = {}
        offset = 0
        for name, size in _SPAN.iter_unpack(e.l_blobs or b""):
            found[name.hex()] = (offset, size)
            offset += size
        return found if e.local else {}

    def _pieces(self, e: Entry, group: list[str], local: dict[str, tuple[int, int]]) -> Iterator[bytes]:
        if group[0] in local:
            data = self.folder.piece(self._here(e), *local[group[0]])
            if blob_id(data) == group[0]:
                yield data
                return
        for data in self.server.get_blobs(group):
            self.progress.got_bytes += len(data)
            yield data

    def _place(self, e: Entry, staged: Path) -> Seen:
        target = self._here(e) if e.local else self._target(e)
        stage = str(staged)
        # Under a name that tells whose it is: after a kill in the swap it may hold what the user wrote.
        swap = staged.with_name(f"swap-{e.id}-{secrets.token_hex(4)}")
        if e.r_exec == LINK:
            self.folder.make_link(staged, swap)
            staged.unlink()
        else:
            # The mode of a link is no file's: everybody may do everything with it.
            mode = self.folder.mode(target) if e.local and e.l_exec != LINK else self.folder.new_mode
            mode = mode | (mode & 0o444) >> 2 if e.r_exec else mode & ~0o111
            os.chmod(stage, mode)  # noqa: PTH101 -- ten thousand times
            os.rename(stage, swap)  # noqa: PTH104 -- the same
        os.utime(swap, ns=(self.folder.clock(), (e.r_mtime or 0) * 1_000_000), follow_symlinks=False)
        try:
            seen = self.folder.place(swap, target, self._expected(e) if e.local else None)
        except (Changed, Occupied):
            # What was fetched can be fetched again; what the user wrote cannot.
            swap.unlink(missing_ok=True)
            raise
        self.folder.step("placed", target)
        self.progress.downloaded += 1
        return seen

    def _placed(self, e: Entry, seen: Seen) -> None:
        same = {
            "l_kind": FILE,
            "l_size": seen.size,
            "l_mtime": seen.mtime,
            "l_ctime": seen.ctime,
            "l_dev": seen.dev,
            "l_ino": seen.ino,
            "l_exec": seen.exec,
            "l_seen": seen.at,
            "l_hash": e.r_hash,
            "l_blobs": self._fetched_spans.get(e.id),
            "s_kind": FILE,
            "s_hash": e.r_hash,
            "s_exec": e.r_exec,
            "s_rev": e.r_content_rev,
            "problem": None,
        }
        if not e.local:
            same |= {"l_parent": e.r_parent, "l_name": e.r_name, "s_parent": e.r_parent, "s_name": e.r_name}
        self.trees.set(e.id, **same)

    # To the server

    def _flush(self, batch: _Batch) -> Iterator[str]:
        if not batch.decisions:
            return
        spoilt: set[int] = set()
        try:
            yield from self._upload(batch, spoilt)
        except Refused as error:
            if error.type not in ("quota", "too-large"):
                raise
            # No room for these; whatever else is to be done goes on.
            for d in batch.decisions:
                row = self.trees.get(d.entry.id)
                if d.do is Do.PUT and row is not None and self.server.have(self._blobs_of(d.entry)[:MAX_HAVE]):
                    spoilt.add(d.entry.id)
                    with self.trees.change():
                        self.trees.note_problem(row, f"no room for it on the server: {error}")
        ops: list[Op] = []
        sents: list[Sent] = []
        seen = int(self.trees.setting("seen", "0"))
        index: dict[int, int] = {}
        self._nodes: dict[int, str | None] = {}
        for d in batch.decisions:
            e = d.entry
            if e.id in spoilt:
                continue
            made = self._op(d, e, seen, index)
            if made is None:
                continue
            if d.do is Do.MKDIR:
                index[e.id] = len(ops)
            ops.append(made[0])
            sents.append(made[1])
        if ops:
            yield from self._send_new(ops, sents)

    def _op(self, d: Decision, e: Entry, seen: int, index: dict[int, int]) -> tuple[Op, Sent] | None:
        if d.do is Do.DELETE:
            assert e.node is not None
            op: Op = Delete(node=e.node, base=d.base or 0, seen=seen if e.s_kind == DIR else None)
            return op, Sent(entry=e.id, op="delete")
        parent_ref = ""
        if d.do is not Do.PUT or e.node is None:
            assert e.l_parent is not None
            if e.l_parent in index:
                parent_ref = f"@{index[e.l_parent]}"
            else:
                if e.l_parent not in self._nodes:
                    parent = self.trees.get(e.l_parent)
                    self._nodes[e.l_parent] = parent.node if parent else None
                node = self._nodes[e.l_parent]
                if node is None:
                    return None
                parent_ref = node
        assert e.l_name is not None
        if d.do is Do.MKDIR:
            return Mkdir(parent=parent_ref, name=e.l_name), Sent(
                entry=e.id, op="mkdir", parent=e.l_parent, name=e.l_name
            )
        if d.do is Do.MOVE:
            assert e.node is not None
            op = Move(node=e.node, base=d.base or 0, parent=parent_ref, name=e.l_name)
            return op, Sent(entry=e.id, op="move", parent=e.l_parent, name=e.l_name)
        if e.l_hash is None:
            return None
        blobs = self._blobs_of(e)
        fresh = e.node is None
        mtime = (e.l_mtime or 0) // 1_000_000
        op = Put(
            blobs=blobs,
            size=e.l_size or 0,
            mtime=mtime,
            node=e.node,
            base=None if fresh else d.base or 0,
            parent=parent_ref if fresh else None,
            name=e.l_name if fresh else None,
            executable=e.l_exec == 1,
            # Said only where it matters: an older server knows no links.
            symlink=e.l_exec == LINK if LINK in (e.l_exec, e.s_exec, e.r_exec) else None,
        )
        sent = Sent(
            entry=e.id,
            op="put",
            parent=e.l_parent if fresh else None,
            name=e.l_name if fresh else None,
            hash=e.l_hash,
            exec=e.l_exec,
            size=e.l_size or 0,
            mtime=mtime,
            blobs=pack(blobs) if len(blobs) <= 16 else None,
        )
        return op, sent

    def _blobs_of(self, e: Entry) -> list[str]:
        if e.l_blobs is not None:
            return [_SPAN.unpack_from(e.l_blobs, i)[0].hex() for i in range(0, len(e.l_blobs), _SPAN.size)]
        assert e.l_hash is not None
        return [e.l_hash] if e.l_size else []

    def _upload(self, batch: _Batch, spoilt: set[int]) -> Iterator[str]:
        """Send the contents the server lacks; `spoilt` takes up what changed since it was decided about."""
        puts = [(d.entry, self._blobs_of(d.entry)) for d in batch.decisions if d.do is Do.PUT]
        names = list(dict.fromkeys(name for _, blobs in puts for name in blobs))
        missing: set[str] = set()
        for start in range(0, len(names), MAX_HAVE):
            missing.update(self._after_uploads(self.server.have, names[start : start + MAX_HAVE]))
            yield "asked what is missing"
        under_way: deque[Future[None]] = deque()
        try:
            yield from self._upload_missing(puts, missing, under_way, spoilt)
        finally:
            # A round that failed leaves nothing to be sent beside the next one, which sends it itself.
            for lot in under_way:
                lot.cancel()

    def _after_uploads(self, ask: Callable[[list[str]], list[str]], names: list[str]) -> list[str]:
        """Ask behind what an interrupted round still has under way: it would be sent again otherwise."""
        return ask(names) if self.helper is None else self.helper.submit(ask, names).result()

    def _upload_missing(
        self, puts: list[tuple[Entry, list[str]]], missing: set[str], under_way: deque[Future[None]], spoilt: set[int]
    ) -> Iterator[str]:
        waiting: list[tuple[str, bytes]] = []
        size = 0
        for e, blobs in puts:
            if missing.isdisjoint(blobs):
                continue
            path = self.trees.path(e.id)
            self.progress.busy = path or ""
            try:
                for data in self.folder.blobs(path or ""):
                    name = blob_id(data)
                    if name not in missing:
                        continue
                    waiting.append((name, data))
                    missing.discard(name)
                    size += len(data)
                    if size >= BYTES_A_BATCH or len(waiting) >= 500:
                        yield from self._upload_some(waiting, size, under_way)
                        waiting, size = [], 0
            except (Changed, OSError):
                # It is no longer what was decided about: the next round looks at it anew.
                pass
            if not missing.isdisjoint(blobs):
                spoilt.add(e.id)
                with self.trees.change():
                    self.trees.set(e.id, l_hash=None)
            else:
                self.progress.uploaded += 1
        if waiting:
            yield from self._upload_some(waiting, size, under_way)
        while under_way:
            under_way.popleft().result()
            yield "uploaded"

    def _upload_some(self, blobs: list[tuple[str, bytes]], size: int, under_way: deque[Future[None]]) -> Iterator[str]:
        """With a helper, the next contents are read while these are under way; never more than two lots."""
        self.progress.sent_bytes += size
        if self.helper is None:
            self.server.put_blobs(blobs)
        else:
            under_way.append(self.helper.submit(self.server.put_blobs, blobs))
            if len(under_way) > 1:
                under_way.popleft().result()
        yield "uploaded"

    def _send_new(self, ops: list[Op], sents: list[Sent]) -> Iterator[str]:
        op_id = secrets.token_hex(16)
        request = msgspec.json.encode(CommitRequest(op_id=op_id, ops=ops))
        self.trees.queue(op_id, request, msgspec.json.encode(sents))
        yield "queued"
        seq = self.trees.queued()[-1][0]
        yield from self._send(seq, request, sents)

    def _send(self, seq: int, request: bytes, sents: list[Sent]) -> Iterator[str]:
        try:
            answer = self.server.commit(request)
        except Refused as error:
            # A definite no to the whole: nothing was done, so nothing is unknown.
            with self.trees.change():
                self.trees.unqueue(seq)
                for sent in sents:
                    row = self.trees.get(sent.entry)
                    if row is not None:
                        self.trees.note_problem(row, f"refused by the server: {error}")
            return
        yield "answered"
        stale = self._settle(seq, sents, answer)
        yield "progress"
        yield "settled"
        if stale:
            yield from self.pull()

    def _settle(self, seq: int, sents: list[Sent], answer: CommitAnswer) -> bool:
        stale = False
        with self.trees.change():
            for sent, result in zip(sents, answer.results, strict=True):
                path = self.trees.best_path(sent.entry) if result.status == "conflict_copy" else ""
                outcome: Outcome = settle(self.trees, sent, result)
                stale = stale or outcome.stale
                self.progress.sent_ops += 1
                if outcome.stale or result.status == "missing_blobs":
                    self._retries[sent.entry] = self._retries.get(sent.entry, 0) + 1
                    if self._retries[sent.entry] > 5 and outcome.problem is None:
                        outcome.problem = f"the server keeps answering “{result.status}”; tried again later"
                if outcome.problem is not None and (row := self.trees.get(sent.entry)) is not None:
                    self.trees.note_problem(row, outcome.problem)
                if outcome.conflict is not None:
                    self.progress.conflicts += 1
                    self.trees.event(
                        self.folder.clock() / 1e9,
                        "conflict",
                        path,
                        f"changed here and on another device; both are kept, yours as “{outcome.conflict}”",
                    )
            self.trees.unqueue(seq)
        return stale


def _groups(names: list[str], local: dict[str, tuple[int, int]]) -> Iterator[list[str]]:
    """Blobs to get in one go: one by one, for they may be large; what is here already by itself too."""
    for name in names:
        yield [name]
