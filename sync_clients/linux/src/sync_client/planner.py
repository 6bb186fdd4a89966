# SPDX-License-Identifier: GPL-3.0-or-later
"""The decisions: from the three sides of an entry to the one next thing to do. No input, no output, no clock.

Each decision is safe on its own and can be forgotten at any time: after a kill the same sides give the same decision,
or a later one when it was carried out already.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from sync_client.folder import OWN
from sync_client.trees import DIR, FILE, LINK, ROOT, Entry, Trees
from sync_protocol.names import name_key


class Do(enum.Enum):
    """What to do next with one entry."""

    # with the trees alone
    FORGET = "forget"
    AGREE = "agree"
    AGREE_PLACE = "agree place"
    ADOPT = "adopt"
    KEEP_REMOTE = "keep remote"
    YIELD_PLACE = "yield place"
    REBIRTH = "rebirth"
    DETACH = "detach"
    # in the folder
    HASH = "hash"
    MAKE_DIR = "make dir"
    FETCH = "fetch"
    SET_EXEC = "set exec"
    MOVE_LOCAL = "move local"
    REMOVE_LOCAL = "remove local"
    STEP_ASIDE = "step aside"
    # at the server
    PUT = "put"
    MKDIR = "mkdir"
    MOVE = "move"
    DELETE = "delete"
    # nothing now
    WAIT = "wait"
    PROBLEM = "problem"


@dataclass(slots=True)
class Decision:
    do: Do
    entry: Entry
    other: Entry | None = None
    base: int | None = None
    reason: str = ""


TWINS = "differs only in case or accents"
LINK_SKIPPED = "is a symbolic link; skipped, as `sync-client symlinks` says"

TREES_ONLY = {Do.FORGET, Do.AGREE, Do.AGREE_PLACE, Do.ADOPT, Do.KEEP_REMOTE, Do.YIELD_PLACE, Do.REBIRTH, Do.DETACH}
LOCAL = {Do.HASH, Do.MAKE_DIR, Do.FETCH, Do.SET_EXEC, Do.MOVE_LOCAL, Do.REMOVE_LOCAL, Do.STEP_ASIDE}
REMOTE = {Do.PUT, Do.MKDIR, Do.MOVE, Do.DELETE}


@dataclass(slots=True)
class Planner:
    """Decides for one entry at a time, with a look at its neighbours."""

    trees: Trees
    ignored: Callable[[str, bool], bool] = lambda path, is_dir: False
    excluded: Callable[[str], bool] = lambda path: False
    # Entries a queued creation of this very commit will make, so that their children can go along.
    coming: dict[int, int] = field(default_factory=dict)
    skip_links: bool = False

    def decide(self, e: Entry) -> Decision:
        if e.id == ROOT:
            return Decision(Do.WAIT, e)
        if e.problem is not None and e.problem_for == e.fingerprint:
            return Decision(Do.WAIT, e)
        if not e.local and not e.remote:
            return Decision(Do.FORGET, e)
        if e.local and e.l_kind == FILE and e.l_hash is None:
            return Decision(Do.HASH, e)
        if e.remote and (excluded := self._excluded(e)) is not None:
            return excluded
        if e.local and e.remote:
            return self._both(e)
        if e.local:
            return self._gone_remotely(e) if e.synced else self._new_here(e)
        return self._gone_here(e) if e.synced else self._new_there(e)

    # Selective sync

    def _excluded(self, e: Entry) -> Decision | None:
        path = self.trees.path(e.id, "r")
        if path is None or not self.excluded(path):
            return None
        if not e.local:
            # Also when somebody deleted it here meanwhile: excluded is not deleted.
            return Decision(Do.KEEP_REMOTE, e) if e.synced else Decision(Do.WAIT, e)
        if not e.synced:
            return None
        if e.kind == DIR:
            empty = not self.trees.count("l_parent=? AND l_name IS NOT NULL", e.id)
            return Decision(Do.REMOVE_LOCAL if empty else Do.WAIT, e)
        # What was changed here goes to the server first.
        return Decision(Do.REMOVE_LOCAL, e) if e.l_content == e.s_content and e.l_place == e.s_place else None

    # There and here

    def _both(self, e: Entry) -> Decision:
        if not e.synced:
            if e.l_place == e.r_place and e.l_content == e.r_content:
                return Decision(Do.AGREE, e)
            return Decision(Do.REBIRTH, e)
        l_moved, r_moved = e.l_place != e.s_place, e.r_place != e.s_place
        l_edit, r_edit = e.l_content != e.s_content, e.r_content != e.s_content
        if e.l_place == e.r_place and e.l_content == e.r_content:
            return Decision(Do.AGREE, e)
        if l_moved and r_moved:
            # Both renamed it: the name that came to the server first stays.
            return Decision(Do.AGREE_PLACE if e.l_place == e.r_place else Do.YIELD_PLACE, e)
        if l_edit:
            if r_edit and e.l_content == e.r_content:
                return Decision(Do.AGREE, e) if not (l_moved or r_moved) else self._moving(e, r_moved)
            # With the old base when the server's content is not what this was made from: that is the conflict.
            return Decision(Do.PUT, e, base=e.s_rev if r_edit else e.r_content_rev)
        if r_edit:
            if e.l_hash == e.r_hash and LINK not in (e.l_exec, e.r_exec):
                return Decision(Do.SET_EXEC, e)
            return self._fetch(e)
        return self._moving(e, r_moved)

    def _fetch(self, e: Entry) -> Decision:
        if e.r_exec == LINK and self.skip_links:
            return Decision(Do.PROBLEM, e, reason=LINK_SKIPPED)
        return Decision(Do.FETCH, e)

    def _moving(self, e: Entry, r_moved: bool) -> Decision:
        return self._move_here(e) if r_moved else self._move_there(e)

    def _move_here(self, e: Entry) -> Decision:
        assert e.r_parent is not None
        assert e.r_name is not None
        parent = self.trees.get(e.r_parent)
        if parent is None or not parent.local or self.trees.inside(e.r_parent, e.id, "l"):
            return Decision(Do.WAIT, e)
        return self._occupied(e) or Decision(Do.MOVE_LOCAL, e)

    def _occupied(self, e: Entry) -> Decision | None:
        """What to do first when the place the server has for `e` is taken in the folder."""
        o = self.trees.at_local(e.r_parent, e.r_name)
        if o is None or o.id == e.id:
            return None
        if o.synced and o.remote and o.l_place != o.s_place and o.r_place == o.s_place:
            # It was renamed here to a name that another device took first.
            return Decision(Do.STEP_ASIDE, o)
        if not o.synced and not o.remote and (o.l_kind == DIR or e.local):
            return self._pure(o, e)
        return Decision(Do.WAIT, e, other=o)

    def _pure(self, o: Entry, e: Entry) -> Decision:
        if o.l_kind == DIR and e.r_kind == DIR and not e.local and not e.synced:
            return Decision(Do.ADOPT, o, other=e)
        if o.l_kind == FILE and o.l_hash is None:
            return Decision(Do.HASH, o)
        return Decision(Do.STEP_ASIDE, o)

    def _move_there(self, e: Entry) -> Decision:
        assert e.l_parent is not None
        assert e.l_name is not None
        ready = self._parent_ready(e)
        if ready is not None:
            return ready
        if self.trees.inside(e.l_parent, e.id, "r"):
            # Another device moved the folder into this one first, and that stays; unless it is about to leave it.
            return Decision(Do.WAIT if self._leaving(e.l_parent, e.id) else Do.YIELD_PLACE, e)
        taken = self._taken(e)
        return taken or Decision(Do.MOVE, e, base=e.r_place_rev)

    def _leaving(self, entry: int, ancestor: int) -> bool:
        """Whether a move made here, not sent yet, takes an entry out of an ancestor it has at the server."""
        while entry != ancestor:
            row = self.trees.get(entry)
            if row is None or row.r_parent is None:
                return False
            if row.synced and row.l_place != row.s_place and row.r_place == row.s_place:
                return True
            entry = row.r_parent
        return False

    def _parent_ready(self, e: Entry) -> Decision | None:
        assert e.l_parent is not None
        parent = self.trees.get(e.l_parent)
        if parent is None or not parent.local:
            return Decision(Do.WAIT, e)
        if parent.id in self.coming:
            return None
        if parent.node is None:
            if parent.problem is not None and parent.problem_for == parent.fingerprint:
                return Decision(Do.WAIT, e)
            return Decision(Do.WAIT, e, other=parent)
        return None

    def _taken(self, e: Entry) -> Decision | None:
        """What to do first when the name is taken at the server."""
        assert e.l_name is not None
        for f in self.trees.at_remote(e.l_parent, e.l_name):
            if f.id == e.id:
                continue
            going = f.synced and f.r_place == f.s_place and f.l_place != f.s_place
            if going:
                return Decision(Do.WAIT, e, other=f)
            if f.r_name != e.l_name:
                return Decision(
                    Do.PROBLEM,
                    e,
                    reason=f"{TWINS} from “{f.r_name}” on the server; rename one of them",
                )
            if not f.local and not f.synced:
                return self._met(e, f)
            return Decision(Do.STEP_ASIDE, e)
        return None

    def _met(self, e: Entry, f: Entry) -> Decision | None:
        """The same name is new on both sides."""
        if not e.synced:
            if e.l_kind == DIR and f.r_kind == DIR:
                return Decision(Do.ADOPT, e, other=f)
            if e.l_kind == FILE and f.r_kind == FILE:
                return Decision(Do.ADOPT, e, other=f) if e.l_content == f.r_content else None
        return Decision(Do.STEP_ASIDE, e)

    # Only here

    def _new_here(self, e: Entry) -> Decision:
        if e.node is not None:
            return Decision(Do.DETACH, e)
        return self._parent_ready(e) or self._taken(e) or Decision(Do.MKDIR if e.l_kind == DIR else Do.PUT, e)

    def _gone_remotely(self, e: Entry) -> Decision:
        if e.l_kind == DIR:
            # What is in it is decided first: a file edited here brings the folder back at the server, as a new node.
            if self.trees.count("l_parent=? AND l_name IS NOT NULL", e.id):
                for f in self.trees.at_remote(e.l_parent, e.l_name or ""):
                    if f.r_name == e.l_name and f.r_kind == DIR and not f.local and not f.synced:
                        return Decision(Do.ADOPT, e, other=f)
                return Decision(Do.WAIT, e)
            return Decision(Do.REMOVE_LOCAL, e)
        if e.l_content != e.s_content:
            return Decision(Do.PUT, e, base=e.s_rev)
        return Decision(Do.REMOVE_LOCAL, e)

    # Only there

    def _gone_here(self, e: Entry) -> Decision:
        if e.r_place != e.s_place or e.r_content != e.s_content:
            return Decision(Do.KEEP_REMOTE, e)
        if e.s_parent != ROOT and e.s_parent is not None:
            parent = self.trees.get(e.s_parent)
            if (
                parent is not None
                and parent.synced
                and not parent.local
                and parent.remote
                and parent.r_place == parent.s_place
            ):
                # The folder goes as one; should it have to stay, its own decision says so first.
                return Decision(Do.WAIT, e)
        if e.s_kind == DIR:
            for child in self.trees.below(e.id, "r"):
                c = self.trees.get(child)
                if c is None:
                    continue
                if c.local and c.synced and c.r_place == c.s_place and not self.trees.inside(c.id, e.id, "l"):
                    # Moved out of it here: the move goes first. What was moved into it there keeps it alive.
                    return Decision(Do.WAIT, e, other=c)
                if c.local or not c.synced or c.r_place != c.s_place or c.r_content != c.s_content:
                    return Decision(Do.KEEP_REMOTE, e)
        # Known in both respects; an own change the journal has not told yet makes it stale, and then it is asked again.
        return Decision(Do.DELETE, e, base=min(e.r_content_rev or 0, e.r_place_rev or 0))

    def _new_there(self, e: Entry) -> Decision:
        assert e.r_parent is not None
        path = self.trees.path(e.id, "r")
        if path is None or self.ignored(path, e.r_kind == DIR):
            return Decision(Do.WAIT, e)
        parent = self.trees.get(e.r_parent)
        if parent is None or not parent.local:
            return Decision(Do.WAIT, e)
        if parent.synced and parent.id != ROOT and not parent.remote:
            return Decision(Do.WAIT, e)
        if e.r_parent == ROOT and name_key(e.r_name or "") == OWN:
            # Otherwise the server could write into what this client has under way.
            return Decision(Do.PROBLEM, e, reason="has the name of this client's own folder; rename it")
        return self._occupied(e) or (Decision(Do.MAKE_DIR, e) if e.r_kind == DIR else self._fetch(e))


def apply_to_trees(trees: Trees, d: Decision) -> None:
    """Carry out a decision that concerns the trees alone."""
    e = d.entry
    if d.do is Do.FORGET:
        trees.drop(e.id)
    elif d.do is Do.AGREE:
        trees.set(
            e.id,
            s_parent=e.l_parent,
            s_name=e.l_name,
            s_kind=e.l_kind,
            s_hash=e.l_hash,
            s_exec=e.l_exec,
            s_rev=e.r_content_rev,
            problem=None,
        )
    elif d.do is Do.AGREE_PLACE or d.do is Do.YIELD_PLACE:
        trees.set(e.id, s_parent=e.l_parent, s_name=e.l_name)
    elif d.do is Do.KEEP_REMOTE:
        trees.set(e.id, s_parent=None, s_name=None, s_kind=None, s_hash=None, s_exec=None, s_rev=None)
    elif d.do is Do.REBIRTH:
        # Content of unknown origin on both sides: base 0 makes the server treat a difference as a conflict.
        trees.set(e.id, s_parent=e.l_parent, s_name=e.l_name, s_kind=e.l_kind, s_hash=None, s_exec=None, s_rev=0)
    elif d.do is Do.DETACH:
        detach(trees, e.id)
    elif d.do is Do.ADOPT:
        assert d.other is not None
        adopt(trees, e, d.other)


def detach(trees: Trees, entry: int) -> None:
    """What is here becomes something new for the server."""
    columns = dict.fromkeys(
        [
            "node",
            "s_parent",
            "s_name",
            "s_kind",
            "s_hash",
            "s_exec",
            "s_rev",
            "r_parent",
            "r_name",
            "r_key",
            "r_kind",
            "r_hash",
            "r_size",
            "r_mtime",
            "r_exec",
            "r_rev",
            "r_blobs",
        ]
    )
    trees.set(entry, **columns)


def adopt(trees: Trees, mine: Entry, theirs: Entry) -> None:
    """What is new here is what the server has: one row instead of two."""
    trees.forget_paths()
    trees.db.execute("UPDATE entry SET l_parent=? WHERE l_parent=?", (theirs.id, mine.id))
    trees.db.execute("UPDATE entry SET s_parent=? WHERE s_parent=?", (theirs.id, mine.id))
    trees.drop(mine.id)
    columns = {name: getattr(mine, name) for name in Entry.__slots__ if name.startswith("l_")}
    same = mine.l_content == theirs.r_content
    trees.set(
        theirs.id,
        **columns,
        s_parent=mine.l_parent,
        s_name=mine.l_name,
        s_kind=mine.l_kind,
        s_hash=mine.l_hash if same else None,
        s_exec=mine.l_exec if same else None,
        s_rev=theirs.r_content_rev if same else 0,
        problem=None,
    )
