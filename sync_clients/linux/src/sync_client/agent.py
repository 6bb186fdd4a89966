# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon: watches the folder, listens to the server, runs rounds, and does what commands ask for.

Everything that touches the trees happens in one thread, between two steps of a round; the others only bring news.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import queue
import random
import secrets
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from sync_client import credentials
from sync_client.config import Places, Settings, load, save
from sync_client.control import Listener, Message
from sync_client.cycle import Cycle, MassDeletion, Progress, Rules
from sync_client.errors import (
    CursorGone,
    FolderGone,
    NotAllowed,
    Offline,
    StateDamaged,
    SyncError,
)
from sync_client.folder import OWN, Folder
from sync_client.ignore import Ignore
from sync_client.notify import notify, watchdog_seconds
from sync_client.transport import Throttle, Transport
from sync_client.trees import FILE, ROOT, Trees
from sync_client.watcher import LIMIT_ADVICE, Hints, Watcher

_SETTLE = 0.02
_SETTLE_MOST = 0.5
_BACKOFF = (1.0, 300.0)
_LOG_BYTES = 2_000_000


class Running(SyncError):
    """Another process works on this profile."""

    code = 10


class Log:
    """The log file of the daemon; `sync-client log -f` follows it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, text: str) -> None:
        with contextlib.suppress(OSError):
            if self.path.exists() and self.path.stat().st_size > _LOG_BYTES:
                self.path.replace(self.path.with_suffix(".old"))
            with self.path.open("a") as file:
                file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}\n")


class Agent:
    """One profile at work. `run` is the daemon, `once` a single round without one."""

    def __init__(self, places: Places, settings: Settings) -> None:
        if not settings.server:
            raise SyncError("Not logged in yet: run `sync-client login https://…` first.")
        if not settings.folder:
            raise SyncError("No folder chosen yet: run `sync-client init FOLDER` first.")
        self.places = places
        self.settings = settings
        places.make()
        self._lock = take_lock(places)
        self.log = Log(places.log)
        self.trees = open_trees(places)
        self.trees.on_event = self._on_event
        self.root = Path(settings.folder)
        self.folder = Folder(self.root)
        self.ignore = Ignore(self.root)
        self.up, self.down = Throttle(settings.upload_limit), Throttle(settings.download_limit)
        self.transport = Transport(
            settings.server,
            tokens=credentials.load(places),
            save=lambda tokens: credentials.store(places, tokens),
            ca=Path(settings.ca) if settings.ca else None,
            up=self.up,
            down=self.down,
        )
        self.cycle = Cycle(self.trees, self.folder, self.transport, self._rules())
        self.cycle.helper = ThreadPoolExecutor(1, "uploads")
        self.show: Callable[[str], None] = lambda text: None
        self.state = "starting"
        self.problem = ""
        # Whether so much was deleted at once that the user is asked about it.
        self.asking = False
        self.code = 0
        self._wake = threading.Event()
        self._stop = False
        self._commands: queue.SimpleQueue[tuple[Message, Future[Message]]] = queue.SimpleQueue()
        self._remote_news = True
        self._cursor_moved = threading.Event()
        self._online_again = False
        self._watcher: Watcher | None = None
        self._last_full = 0.0
        self._last_round = 0.0
        self._next_alive = 0.0
        self._full_wanted = True
        self._forced: list[Future[Message]] = []
        self._backoff = _BACKOFF[0]
        self._retry_at = 0.0

    def close(self) -> None:
        if self.cycle.helper is not None:
            self.cycle.helper.shutdown(cancel_futures=True)
        self.trees.close()
        os.close(self._lock)

    def _rules(self) -> Rules:
        return Rules(
            device=self.settings.device or "device",
            ignored=self.ignore,
            exclude=tuple(self.settings.exclude),
            deletions_percent=self.settings.deletions_percent,
            deletions_files=self.settings.deletions_files,
            skip_links=self.settings.symlinks == "skip",
        )

    def _on_event(self, kind: str, path: str, detail: str) -> None:
        self.log(f"{kind}: {path}" + (f": {detail}" if detail else ""))

    # The daemon

    def run(self) -> int:
        listener = Listener(self.places.socket, self._from_outside)
        stop_signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        previous = {number: signal.signal(number, self._on_signal) for number in stop_signals}
        watcher = Watcher(self.root, self._wake.set, max_watches=self.settings.max_watches or None)
        self._watcher = watcher
        started = False
        poller = threading.Thread(target=self._listen, name="listener", daemon=True)
        poller.start()
        notify("READY=1\nSTATUS=Starting")
        self.log("started")
        try:
            while not self._stop:
                self._alive()
                self._serve_commands()
                if not started and self._folder_there():
                    watcher.start()
                    started = True
                    if watcher.limited:
                        self.log(LIMIT_ADVICE.format(seconds=self.settings.poll_seconds))
                hints = self._collect(watcher)
                if hints is None:
                    continue
                self._round(hints)
            return 0
        finally:
            notify("STOPPING=1")
            self.log("stopped")
            listener.close()
            with contextlib.suppress(Exception):
                watcher.stop()
            for number, handler in previous.items():
                signal.signal(number, handler)
            for future in self._forced:
                future.set_result({"error": "The daemon is stopping.", "code": 1})

    def stop(self) -> None:
        self._stop = True
        self._wake.set()

    def _on_signal(self, number: int, frame: object) -> None:
        self.stop()

    def _folder_there(self) -> bool:
        """The folder with our mark; an unmounted disk leaves an empty folder without it."""
        mark = self.folder.mark()
        if mark is not None and mark == self.trees.setting("mark"):
            return True
        self._fail(_gone(self.root, mark))
        return False

    def _alive(self) -> None:
        now = time.monotonic()
        if now >= self._next_alive:
            self._next_alive = now + (watchdog_seconds() or 20)
            notify("WATCHDOG=1")

    def _collect(self, watcher: Watcher) -> Hints | None:
        """Wait for a reason to run; None when something else has to be seen to first."""
        now = time.monotonic()
        full_every = self.settings.poll_seconds if watcher.limited else self.settings.scan_minutes * 60
        if self._retry_at and now >= self._retry_at:
            self._retry_at = 0.0
            self._full_wanted = True
        due = self._full_wanted or self._forced or now - self._last_full >= full_every
        news = self._remote_news and not self._retry_at
        if self.settings.paused and not self._forced:
            self._set_state("paused")
            self._pause(min(10.0, self._next_alive - now))
            return None
        if not due and not news and not watcher.last_event:
            wait = min(full_every - (now - self._last_full), self._next_alive - now, 60.0)
            if self._retry_at:
                wait = min(wait, self._retry_at - now)
            self._pause(max(0.05, wait))
            return None
        if not due and self._retry_at and self.state in ("waiting for you", "folder missing"):
            self._pause(min(1.0, self._retry_at - now))
            watcher.last_event = 0.0
            return None
        started = now
        while watcher.last_event and time.monotonic() - watcher.last_event < _SETTLE:
            if time.monotonic() - started > _SETTLE_MOST:
                break
            time.sleep(_SETTLE / 2)
        watcher.last_event = 0.0
        hints = watcher.take()
        if due:
            hints.everything = True
        return hints

    def _pause(self, seconds: float) -> None:
        self._wake.wait(max(0.01, seconds))
        self._wake.clear()

    def _round(self, hints: Hints) -> None:
        forced, self._forced = self._forced, []
        failed: SyncError | None = None
        # What is wanted is taken off before the round: what comes up meanwhile is wanted anew.
        everything, self._full_wanted = hints.everything, False
        news, self._remote_news = self._remote_news, False
        try:
            if not self._folder_there():
                raise _gone(self.root, self.folder.mark())
            if self.ignore.reload():
                everything = True
            dirs = None if everything else self._known(hints.paths)
            if dirs is None:
                self._last_full = time.monotonic()
            if dirs is None or dirs:
                self._drive(self.cycle.look(dirs, hints.moved))
            if everything or news or self._work_left():
                self._set_state("syncing")
                self._drive(self.cycle.exchange())
            if self._watcher is not None and everything:
                self._watcher.watch("", tell=False)
            self._settled()
        except Interrupted:
            pass
        except SyncError as error:
            failed = error
            self._fail(error)
            self._remote_news = True
            self._full_wanted = self._full_wanted or (everything and not isinstance(error, Offline | MassDeletion))
            if isinstance(error, FolderGone):
                self._full_wanted = False
        except sqlite3.DatabaseError as error:
            failed = StateDamaged(_damaged(self.places, error))
            self._fail(failed)
            self._stop = True
            self.code = failed.code
        for future in forced:
            future.set_result(
                {"error": str(failed), "code": failed.code}
                if failed
                else {"ok": True, "status": self.status(self.trees)}
            )

    def _known(self, paths: set[str]) -> set[int]:
        """The rows of the folders to look at; of one not known yet, the next above it."""
        rows: set[int] = set()
        for path in paths:
            entry = ROOT
            for part in path.split("/") if path else ():
                below = self.trees.at_local(entry, part)
                if below is None:
                    break
                entry = below.id
            rows.add(entry)
        return rows

    def _work_left(self) -> bool:
        if self.trees.db.execute("SELECT 1 FROM op LIMIT 1").fetchone():
            return True
        return self.trees.first("dirty AND problem IS NULL") is not None

    def _drive(self, steps: Iterator[str]) -> None:
        last = 0.0
        for _ in steps:
            now = time.monotonic()
            if now - last > 0.05:
                last = now
                self._alive()
                self._serve_commands()
                self.show(self._line())
                if self._stop or (self.settings.paused and not self._forced):
                    raise Interrupted

    def _settled(self) -> None:
        self._backoff = _BACKOFF[0]
        self._retry_at = 0.0
        self.problem = ""
        self.asking = False
        self._last_round = time.time()
        self._cursor_moved.set()
        with self.trees.change():
            self.trees.db.execute("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - 5000")
        if self.trees.first("dirty AND problem IS NOT NULL") is not None:
            # A problem is tried again now and then: the name may be free, the quota larger.
            self._set_state("up to date, with problems")
        else:
            self._set_state("up to date")
        done, self.cycle.progress = self.cycle.progress, Progress()
        if done.uploaded or done.downloaded or done.removed or done.moved or done.sent_ops:
            self.log(
                f"synced: {done.uploaded} uploaded, {done.downloaded} downloaded, {done.removed} removed here,"
                f" {done.sent_ops} changes sent, {done.conflicts} conflicts"
            )
            if done.uploaded + done.downloaded > 1000:
                gc.collect()
                _trim()
        self.show(self._line())

    def _fail(self, error: SyncError) -> None:
        text = str(error)
        if text != self.problem:
            self.log(text)
        self.problem = text
        self.asking = isinstance(error, MassDeletion)
        self.code = error.code
        state = "offline"
        wait = self._backoff * random.uniform(0.75, 1.25)
        if isinstance(error, NotAllowed):
            state, wait = "login needed", 300.0
        elif isinstance(error, FolderGone):
            state, wait = "folder missing", 5.0
        elif isinstance(error, MassDeletion):
            state, wait = "waiting for you", 300.0
        elif not isinstance(error, Offline):
            state = "failing"
        self._backoff = min(_BACKOFF[1], self._backoff * 2)
        self._retry_at = time.monotonic() + wait
        self._set_state(state)
        self.show(self._line())

    def _set_state(self, state: str) -> None:
        if state != self.state:
            self.state = state
            notify(f"STATUS={state}" + (f": {self.problem}" if self.problem else ""))

    def _line(self) -> str:
        done = self.cycle.progress
        if self.state == "syncing":
            return f"syncing  ↑ {done.uploaded}  ↓ {done.downloaded}  {done.busy}"
        return f"{self.state}. {self.problem}" if self.problem else self.state

    # News from the server

    def _listen(self) -> None:
        """Ask the server to answer as soon as something changes; one connection, no thread of the round waits."""
        wait = _BACKOFF[0]
        while not self._stop:
            cursor = self.cycle.cursor
            if not cursor or self.settings.paused or self.state == "login needed":
                self._cursor_moved.wait(1.0)
                self._cursor_moved.clear()
                continue
            try:
                page = self.transport.changes(cursor, wait=50)
                wait = _BACKOFF[0]
                if self.state == "offline":
                    self._retry_at = time.monotonic()
                    self._backoff = _BACKOFF[0]
                    self._wake.set()
                if page.changes and cursor == self.cycle.cursor:
                    self._remote_news = True
                    self._wake.set()
                    self._cursor_moved.wait(5.0)
                    self._cursor_moved.clear()
            except CursorGone:
                self._remote_news = True
                self._wake.set()
                time.sleep(2)
            except (SyncError, OSError) as error:
                if isinstance(error, NotAllowed):
                    # Where nothing else is to be done, nobody else would learn of it.
                    self._remote_news = True
                    self._wake.set()
                self.transport.close()
                time.sleep(min(wait, 30) * random.uniform(0.75, 1.25))
                wait = min(wait * 2, _BACKOFF[1])

    # Commands

    def _from_outside(self, request: Message) -> Message:
        if request.get("do") == "status":
            # With a connection of its own, for the round may be waiting for the network.
            try:
                with contextlib.closing(Trees(self.places.database)) as trees:
                    return self.status(trees)
            except sqlite3.Error as error:
                return {"error": _damaged(self.places, error), "code": StateDamaged.code}
        future: Future[Message] = Future()
        self._commands.put((request, future))
        self._wake.set()
        return future.result()

    def _serve_commands(self) -> None:
        while True:
            try:
                request, future = self._commands.get_nowait()
            except queue.Empty:
                return
            if request.get("do") == "sync":
                self._full_wanted = True
                self._retry_at = 0.0
                self._forced.append(future)
                continue
            future.set_result(self.handle(request))

    def handle(self, request: Message) -> Message:
        """Carry out one command; every failure becomes `error` and `code`."""
        from sync_client import commands

        try:
            return commands.run(self, request)
        except SyncError as error:
            return {"error": str(error), "code": error.code}
        except (OSError, sqlite3.Error, KeyError, ValueError) as error:
            return {"error": f"That did not work: {error}", "code": 1}

    def apply_settings(self) -> None:
        """After a command changed them."""
        save(self.places, self.settings)
        self.up.rate, self.down.rate = self.settings.upload_limit, self.settings.download_limit
        self.cycle.rules = self._rules()
        self._full_wanted = True
        self._wake.set()

    def retry_now(self) -> None:
        self._retry_at = 0.0
        self._backoff = _BACKOFF[0]
        self._full_wanted = True
        self._wake.set()

    def reload_login(self) -> None:
        fresh = load(self.places)
        # Otherwise the next command that saves the settings would bring back the old ones.
        self.settings.account, self.settings.device, self.settings.ca = fresh.account, fresh.device, fresh.ca
        self.cycle.rules = self._rules()
        self.transport.trust(Path(fresh.ca) if fresh.ca else None)
        self.transport.set_tokens(credentials.load(self.places))
        self.retry_now()

    # A single round

    def once(self) -> None:
        """Bring everything in step once, without a daemon."""
        if not self._folder_there():
            raise _gone(self.root, self.folder.mark())
        try:
            for _ in self.cycle.run():
                self.show(self._line())
        except sqlite3.DatabaseError as error:
            raise StateDamaged(_damaged(self.places, error)) from error
        self._settled()

    def status(self, trees: Trees) -> dict[str, Any]:
        count = trees.count
        waiting = count("dirty AND problem IS NULL")
        progress = self.cycle.progress
        return {
            "state": self.state,
            "problem": self.problem,
            "server": self.settings.server,
            "folder": self.settings.folder,
            "device": self.settings.device,
            "files": count("s_kind=?", FILE),
            "folders": count("s_kind='folder'") - 1,
            "waiting": waiting,
            "busy": progress.busy if self.state == "syncing" else "",
            "uploaded": progress.uploaded,
            "downloaded": progress.downloaded,
            "problems": [
                {"path": trees.best_path(e.id), "reason": e.problem} for e in trees.find("problem IS NOT NULL")
            ]
            + [
                {"path": path, "reason": reason}
                for path, reason in trees.db.execute("SELECT path, reason FROM problem ORDER BY path LIMIT 1000")
            ],
            "last_round": self._last_round,
            "watching": self._watcher.count if self._watcher else 0,
            "polling": bool(self._watcher and self._watcher.limited),
            "overflows": self._watcher.overflows if self._watcher else 0,
            "wire_sent": self.transport.wire_sent,
            "wire_received": self.transport.wire_received,
            "memory_kb": _rss(),
            "excluded": list(self.settings.exclude),
            "upload_limit": self.settings.upload_limit,
            "download_limit": self.settings.download_limit,
            "paused": self.settings.paused,
        }


def take_lock(places: Places) -> int:
    """The right to work on this profile, until the descriptor is closed."""
    fd = os.open(places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Running("The daemon is running already; `sync-client status` shows what it does.") from None
    return fd


class Interrupted(Exception):
    """The round is left between two steps: to stop, or to pause."""


def open_trees(places: Places) -> Trees:
    """The state database, or a sentence that says what to do with a damaged one."""
    try:
        trees = Trees(places.database)
        result = trees.db.execute("PRAGMA quick_check(1)").fetchone()[0]
        trees.db.execute("SELECT count(*) FROM entry").fetchone()
    except sqlite3.DatabaseError as error:
        raise StateDamaged(_damaged(places, error)) from error
    if result != "ok":
        raise StateDamaged(_damaged(places, result))
    return trees


def _damaged(places: Places, why: object) -> str:
    return (
        f"The state database {places.database} is damaged ({why}). Your files are untouched. Run `sync-client doctor"
        " --repair`: it is set aside and made anew from the folder and the server."
    )


def _gone(root: Path, mark: str | None) -> FolderGone:
    if mark is None:
        return FolderGone(
            f"{root} is not there or has lost its mark {OWN}/id: is its disk mounted? Nothing is deleted on the server."
            f" If it was moved or emptied on purpose, run `sync-client init {root}`."
        )
    return FolderGone(f"{root} belongs to another sync-client (its mark is {mark}); run `sync-client init FOLDER`.")


def new_mark() -> str:
    return secrets.token_hex(8)


def _rss() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except (OSError, ValueError, IndexError):
        return 0


def _trim() -> None:
    """Give memory back to the system after a large round."""
    import ctypes

    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def shows_progress() -> bool:
    return sys.stderr.isatty()
