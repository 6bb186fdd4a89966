# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells which folders changed, by inotify. What it says is a hint where to look; the scanner sees for itself.

A new folder gets its watch first and is looked at after it, so nothing that is written into it meanwhile is missed.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from inotify_simple import INotify, flags

from sync_client.folder import OWN

_MASK = (
    flags.CREATE
    | flags.CLOSE_WRITE
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.DELETE
    | flags.ATTRIB
    | flags.ONLYDIR
    | flags.EXCL_UNLINK
    | flags.DONT_FOLLOW
)
LIMIT_ADVICE = (
    "There are more folders than this system lets a user watch, so changes here are looked for every {seconds} seconds"
    " instead of at once. To have them at once: echo fs.inotify.max_user_watches=524288 | sudo tee"
    " /etc/sysctl.d/60-inotify.conf && sudo sysctl --system"
)


@dataclass(slots=True)
class Hints:
    """What changed since they were last taken."""

    paths: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    everything: bool = False

    def __bool__(self) -> bool:
        return self.everything or bool(self.paths)


class Watcher:
    """One thread that reads events; `take` gives what they add up to."""

    def __init__(self, root: Path, wake: Callable[[], None], *, max_watches: int | None = None) -> None:
        self.root = root
        self._wake = wake
        self._max = max_watches
        self._paths: dict[int, str] = {}
        self._watches: dict[str, int] = {}
        self._hints = Hints()
        self._lock = threading.Lock()
        self._cookies: dict[int, tuple[str, bool]] = {}
        self.limited = False
        self.overflows = 0
        self.last_event = 0.0
        self._stop = os.pipe()
        try:
            self._inotify: INotify | None = INotify()
        except OSError:
            self._inotify = None
            self.limited = True
        self._thread = threading.Thread(target=self._read, name="watcher", daemon=True)

    def start(self) -> None:
        if self._inotify is not None:
            self.watch("", tell=False)
            self._thread.start()

    def stop(self) -> None:
        os.write(self._stop[1], b"x")
        if self._thread.is_alive():
            self._thread.join(5)
        if self._inotify is not None:
            self._inotify.close()
        os.close(self._stop[0])
        os.close(self._stop[1])

    @property
    def count(self) -> int:
        return len(self._watches)

    def watch(self, path: str, *, tell: bool = True) -> None:
        """Watch a folder and everything below it; `tell`: look into each afterwards."""
        todo = [path]
        while todo:
            current = todo.pop()
            if tell:
                self._hints.paths.add(current)
            if not self._add(current):
                return
            try:
                with os.scandir(self.root / current) as listing:
                    for item in listing:
                        if item.is_dir(follow_symlinks=False) and not (not current and item.name == OWN):
                            todo.append(f"{current}/{item.name}" if current else item.name)
            except OSError:
                continue

    def _add(self, path: str) -> bool:
        if self._inotify is None:
            return False
        if self._max is not None and len(self._watches) >= self._max:
            self.limited = True
            return False
        try:
            descriptor = self._inotify.add_watch(self.root / path, _MASK)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self.limited = True
                return False
            return True
        old = self._paths.get(descriptor)
        if old is not None and old != path:
            self._watches.pop(old, None)
        self._paths[descriptor] = path
        self._watches[path] = descriptor
        return True

    def take(self) -> Hints:
        with self._lock:
            hints, self._hints = self._hints, Hints()
            return hints

    def _read(self) -> None:
        assert self._inotify is not None
        poller = select.poll()
        poller.register(self._inotify.fileno(), select.POLLIN)
        poller.register(self._stop[0], select.POLLIN)
        while True:
            ready = poller.poll()
            if any(fd == self._stop[0] for fd, _ in ready):
                return
            events = self._inotify.read(timeout=0)
            with self._lock:
                for event in events:
                    self._event(event.wd, event.mask, event.cookie, event.name)
                self.last_event = time.monotonic()
                told = bool(self._hints)
            if told:
                self._wake()

    def _event(self, descriptor: int, mask: int, cookie: int, name: str) -> None:
        if mask & flags.Q_OVERFLOW:
            self.overflows += 1
            self._hints.everything = True
            return
        parent = self._paths.get(descriptor)
        if parent is None:
            return
        if mask & flags.IGNORED:
            self._paths.pop(descriptor, None)
            if self._watches.get(parent) == descriptor:
                self._watches.pop(parent, None)
            return
        if not parent and name == OWN:
            return
        path = f"{parent}/{name}" if parent else name
        is_dir = bool(mask & flags.ISDIR)
        self._hints.paths.add(parent)
        if mask & flags.MOVED_FROM:
            self._cookies[cookie] = (path, is_dir)
            if len(self._cookies) > 1000:
                self._cookies.clear()
        if mask & flags.MOVED_TO:
            origin = self._cookies.pop(cookie, None)
            if origin is not None:
                self._hints.moved[path] = origin[0]
                if is_dir:
                    self._renamed(origin[0], path)
        if is_dir and mask & (flags.CREATE | flags.MOVED_TO):
            self.watch(path)

    def _renamed(self, old: str, new: str) -> None:
        """The watches went along with the folder; only their names here did not."""
        for path in [p for p in self._watches if p == old or p.startswith(old + "/")]:
            descriptor = self._watches.pop(path)
            moved = new + path[len(old) :]
            self._watches[moved] = descriptor
            self._paths[descriptor] = moved
