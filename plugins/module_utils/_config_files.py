# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put many files in place as one step: all of them, or none. Private: other collections must not import it.

The order is what makes an interrupted run heal, whatever the moment it stops:
the pending marker reaches the disk, then every new file is written beside its target and validated,
then each one is renamed over its target, then the directories reach the disk.
"""

from __future__ import annotations

import errno
import grp
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

# Dots and tildes keep a leftover from being read by `*.conf` includes, run-parts and systemd.
_TEMPORARY_SUFFIX = ".config_files~"
_MODE = re.compile(r"0[0-7]{3,4}|[1-7][0-7]{3}")
_MARKER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
# Above this a diff tells nobody anything and only fills the log of the run.
_LARGEST_DIFF = 100_000

Runner = Callable[[list[str]], tuple[int, str, str]]
"""Runs a command and returns exit code, standard output, standard error; raises OSError when it cannot start."""


class ConfigFilesError(Exception):
    """One sentence for the user; what it concerns is untouched unless the sentence says otherwise."""


class ValidatorMissingError(ConfigFilesError):
    """The program that should judge a file is not installed."""


@dataclass(frozen=True)
class Entry:
    """One wanted file, directory or absence; uid and gid are None only where the account does not exist yet."""

    path: Path
    state: str
    content: bytes
    mode: int
    owner: str
    group: str
    uid: int | None
    gid: int | None
    validate: tuple[str, ...] = ()
    no_diff: bool = False
    recursive: bool = False


@dataclass(frozen=True)
class Change:
    """What one entry needs; `before` is the lstat of what is there now."""

    entry: Entry
    before: os.stat_result | None
    old_content: bytes | None
    rewrite: bool
    attributes: bool


@dataclass
class Outcome:
    """What a run did, or in check mode would do."""

    changed: bool = False
    changed_files: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    pending: bool = False


def parse_entries(raw: Sequence[Mapping[str, Any]], *, accounts_may_be_missing: bool = False) -> list[Entry]:
    """Turn the user's list into entries, or raise ConfigFilesError naming the first path that makes no sense."""
    entries = [_parse_entry(item, accounts_may_be_missing) for item in raw]
    seen: dict[Path, Entry] = {}
    for entry in entries:
        if entry.path in seen:
            raise ConfigFilesError(f"{entry.path} is listed twice: keep one of the two entries.")
        seen[entry.path] = entry
    for entry in entries:
        for parent in entry.path.parents:
            above = seen.get(parent)
            if above is not None and above.state != "directory":
                what = "is to be removed" if above.state == "absent" else "is to be a file"
                raise ConfigFilesError(f"{entry.path} cannot be listed together with {parent}, which {what}.")
    # A directory sorts before what it holds, so the user need not care about the order.
    return sorted(entries, key=lambda entry: entry.path.parts)


def _parse_entry(raw: Mapping[str, Any], accounts_may_be_missing: bool) -> Entry:
    given = str(raw["path"])
    # POSIX keeps two leading slashes apart from one, and pathlib with it.
    path = Path(f"/{given.lstrip('/')}")
    if not given.startswith("/") or ".." in path.parts or "\0" in given or not path.name:
        raise ConfigFilesError(f"path {given!r} must be absolute, below / and without '..'.")
    state = raw.get("state") or "file"
    if state not in ("file", "directory", "absent"):
        raise ConfigFilesError(f"state of {path} must be file, directory or absent, not {state!r}.")
    content = raw.get("content")
    if state == "file" and content is None:
        raise ConfigFilesError(
            f"{path} has no content: give it content (it may be empty), or state directory or absent."
        )
    if state != "file" and content is not None:
        raise ConfigFilesError(f"{path} has content, which state {state} does not take.")
    validate = raw.get("validate")
    if validate and state != "file":
        raise ConfigFilesError(f"{path} has validate, which state {state} does not take.")
    if raw.get("recursive") and state != "absent":
        raise ConfigFilesError(f"{path} has recursive, which only state absent takes.")
    if raw.get("recursive") and path.parent == path.parent.parent:
        raise ConfigFilesError(f"{path} is a top-level directory: removing it recursively is refused.")
    owner = str(raw.get("owner") or "root")
    group = str(raw.get("group") or "root")
    return Entry(
        path=path,
        state=state,
        content=_content_bytes(path, content),
        mode=_parse_mode(path, raw.get("mode"), state),
        owner=owner,
        group=group,
        uid=None if state == "absent" else _account_id(path, "owner", owner, accounts_may_be_missing),
        gid=None if state == "absent" else _account_id(path, "group", group, accounts_may_be_missing),
        validate=_parse_validate(path, validate),
        no_diff=bool(raw.get("no_diff")),
        recursive=bool(raw.get("recursive")),
    )


def _content_bytes(path: Path, content: Any) -> bytes:
    if content is None:
        return b""
    if isinstance(content, (dict, list)):
        # ansible-core before 2.19 turns a template that looks like JSON into data: the file must not depend on that.
        content = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if not isinstance(content, str):
        raise ConfigFilesError(f"content of {path} must be text, or a mapping or list to write as JSON.")
    return content.encode("utf-8", "surrogateescape")


def _parse_mode(path: Path, mode: Any, state: str) -> int:
    if mode is None:
        return 0o755 if state == "directory" else 0o644
    # Unquoted, YAML reads 0644 as the number 420: a mode without leading zero is that mistake.
    if not _MODE.fullmatch(str(mode)):
        raise ConfigFilesError(f'mode {mode} of {path} must be quoted octal with a leading zero, such as "0644".')
    return int(str(mode), 8)


def _parse_validate(path: Path, validate: Any) -> tuple[str, ...]:
    if not validate:
        return ()
    try:
        command = tuple(shlex.split(str(validate)))
    except ValueError as error:
        raise ConfigFilesError(f"validate of {path} is no command line: {error}.") from error
    if not any("%s" in word for word in command):
        raise ConfigFilesError(f"validate of {path} must contain %s, where the name of the new file goes.")
    return command


def _account_id(path: Path, kind: str, name: str, may_be_missing: bool) -> int | None:
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid if kind == "owner" else grp.getgrnam(name).gr_gid
    except KeyError:
        if may_be_missing:
            return None
        raise ConfigFilesError(f"{kind} {name} of {path} does not exist on this host.") from None


def make_plan(entries: Sequence[Entry], *, parents_may_be_missing: bool = False) -> list[Change]:
    """Compare entries with what is there; raises ConfigFilesError for what no run could do. Changes nothing."""
    planned = {entry.path for entry in entries if entry.state == "directory"}
    changes = []
    for entry in entries:
        parent = entry.path.parent
        if entry.state != "absent" and not parents_may_be_missing and parent not in planned and not parent.is_dir():
            raise ConfigFilesError(
                f"{parent}, the directory of {entry.path}, does not exist: list it as an entry with state directory."
            )
        change = _compare(entry)
        if change.rewrite or change.attributes:
            changes.append(change)
    return changes


def _compare(entry: Entry) -> Change:
    try:
        before = entry.path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Change(entry, None, None, rewrite=entry.state != "absent", attributes=False)
    kind = stat.S_IFMT(before.st_mode)
    if entry.state == "absent":
        return _compare_absent(entry, before, kind)
    if entry.state == "directory":
        if kind == stat.S_IFLNK:
            target = entry.path.readlink()
            raise ConfigFilesError(
                f"{entry.path} is a symbolic link to {target}: name that directory, or remove the link."
            )
        if kind != stat.S_IFDIR:
            raise ConfigFilesError(f"{entry.path} is to be a directory but is a file: move it away first.")
        return Change(entry, before, None, rewrite=False, attributes=_attributes_differ(entry, before))
    if kind == stat.S_IFLNK:
        return Change(entry, before, None, rewrite=True, attributes=False)
    if kind != stat.S_IFREG:
        what = "a directory" if kind == stat.S_IFDIR else "a device, pipe or socket"
        raise ConfigFilesError(f"{entry.path} is to be a file but is {what}: move it away first.")
    old = _read(entry.path)
    return Change(entry, before, old, rewrite=old != entry.content, attributes=_attributes_differ(entry, before))


def _compare_absent(entry: Entry, before: os.stat_result, kind: int) -> Change:
    old = None
    if kind == stat.S_IFDIR:
        if not entry.recursive:
            raise ConfigFilesError(
                f"{entry.path} is a directory: removing it with what is in it needs recursive: true."
            )
        if entry.path.is_mount():
            raise ConfigFilesError(f"{entry.path} is a mount point: unmount it before it can be removed.")
    elif kind == stat.S_IFREG:
        old = _read(entry.path)
    return Change(entry, before, old, rewrite=True, attributes=False)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()


def _attributes_differ(entry: Entry, before: os.stat_result) -> bool:
    return stat.S_IMODE(before.st_mode) != entry.mode or before.st_uid != entry.uid or before.st_gid != entry.gid


def describe(change: Change) -> dict[str, str]:
    """The diff of one change in Ansible's form: its content, or mode and owner where only they differ."""
    entry = change.entry
    result = {"before_header": str(entry.path), "after_header": str(entry.path)}
    if change.rewrite:
        result["before"] = _shown(change.old_content, entry.no_diff) if change.old_content is not None else ""
        result["after"] = _shown(entry.content, entry.no_diff) if entry.state == "file" else ""
        if change.before is not None and stat.S_ISLNK(change.before.st_mode):
            result["before"] = f"(symbolic link to {entry.path.readlink()})\n"
        elif change.before is not None and stat.S_ISDIR(change.before.st_mode):
            result["before"] = "(directory and all that is in it)\n"
        if entry.state == "directory":
            result["after"] = f"(directory {_wanted_attributes(entry)})\n"
        result["before_header"] += _header_attributes(change.before)
        result["after_header"] += " (absent)" if entry.state == "absent" else f" ({_wanted_attributes(entry)})"
        if result["before"] == result["after"]:
            # Ansible prints nothing at all for equal texts: an empty new file would go unseen.
            side = "before" if entry.state == "absent" else "after"
            result[side] += "(differs)\n" if result[side] else "(empty file)\n"
    elif change.before is not None:
        result["before"] = _present_attributes(change.before) + "\n"
        result["after"] = _wanted_attributes(entry) + "\n"
    return result


def _shown(content: bytes, hidden: bool) -> str:
    if hidden:
        return "(content hidden by no_diff)\n"
    if b"\0" in content:
        return f"(binary, {len(content)} bytes)\n"
    if len(content) > _LARGEST_DIFF:
        return f"(too large to show, {len(content)} bytes)\n"
    return content.decode("utf-8", "replace")


def _header_attributes(before: os.stat_result | None) -> str:
    return " (absent)" if before is None else f" ({_present_attributes(before)})"


def _present_attributes(before: os.stat_result) -> str:
    return f"{stat.S_IMODE(before.st_mode):04o} {_user_name(before.st_uid)}:{_group_name(before.st_gid)}"


def _wanted_attributes(entry: Entry) -> str:
    owner = entry.owner if entry.uid is None else _user_name(entry.uid)
    group = entry.group if entry.gid is None else _group_name(entry.gid)
    return f"{entry.mode:04o} {owner}:{group}"


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def ensure(
    entries: Sequence[Entry],
    *,
    run: Runner,
    pending: str | None = None,
    pending_directory: Path = Path("/var/lib/servers/pending"),
    check: bool = False,
    temporary_directory: Path,
) -> Outcome:
    """Bring every entry into its wanted state, or raise ConfigFilesError with nothing changed.

    `pending` names the marker that stays until the caller has acted on the change. `temporary_directory` is used
    in check mode only, for validating what is not going to be written.
    """
    if pending is not None and not _MARKER_NAME.fullmatch(pending):
        raise ConfigFilesError(f"pending {pending!r} must be a short name of lower-case letters, digits, '-' and '_'.")
    marker = pending_directory / pending if pending else None
    try:
        changes = make_plan(entries, parents_may_be_missing=check)
    except OSError as error:
        raise ConfigFilesError(f"{_reason(error)}; nothing was changed.") from error
    outcome = Outcome(
        changed_files=[str(change.entry.path) for change in changes],
        diff=[describe(change) for change in changes],
        pending=marker is not None and (bool(changes) or marker.exists()),
    )
    outcome.changed = bool(changes) or outcome.pending
    if check:
        outcome.warnings = _validate_only(changes, run, temporary_directory)
        return outcome
    _remove_leftovers(entries)
    if changes:
        _apply(changes, run, marker)
    return outcome


def _validate_only(changes: Sequence[Change], run: Runner, directory: Path) -> list[str]:
    warnings = []
    for change in changes:
        entry = change.entry
        if not change.rewrite or not entry.validate:
            continue
        with _undo_log() as undo:
            # Ownership is left alone: the account may only be created by the run that is being checked.
            temporary = _write_temporary(replace(entry, uid=None, gid=None), undo, directory)
            try:
                _validate(entry, temporary, run)
            except ValidatorMissingError:
                pass
            except ConfigFilesError as error:
                # On a host where not even the present file passes, what an earlier task would have prepared is missing.
                if _present_file_passes(change, run):
                    raise
                warnings.append(f"This may only be because check mode has set nothing up before: {error}")
            finally:
                undo.run()
    return warnings


def _present_file_passes(change: Change, run: Runner) -> bool:
    if change.old_content is None:
        return False
    with suppress(ConfigFilesError):
        _validate(change.entry, change.entry.path, run)
        return True
    return False


class _UndoLog:
    """Steps that take back what was done so far, run newest first."""

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[[Path], None], Path]] = []

    def add(self, step: Callable[[Path], None], path: Path) -> None:
        self._steps.append((step, path))

    def run(self) -> None:
        while self._steps:
            step, path = self._steps.pop()
            with suppress(OSError):
                step(path)


@contextmanager
def _undo_log() -> Iterator[_UndoLog]:
    undo = _UndoLog()
    try:
        yield undo
    except BaseException:
        undo.run()
        raise


def _apply(changes: Sequence[Change], run: Runner, marker: Path | None) -> None:
    try:
        with _undo_log() as undo:
            if marker is not None:
                _write_marker(marker, [change.entry.path for change in changes], undo)
            for change in changes:
                if change.entry.state == "directory" and change.rewrite:
                    _make_directory(change.entry, undo)
            temporaries = {
                change.entry.path: _write_temporary(change.entry, undo, change.entry.path.parent)
                for change in changes
                if change.entry.state == "file" and change.rewrite
            }
            for change in changes:
                if change.entry.path in temporaries and change.entry.validate:
                    _validate(change.entry, temporaries[change.entry.path], run)
    except OSError as error:
        raise ConfigFilesError(f"{_reason(error)}; nothing was changed.") from error
    _move_in_place(changes, temporaries, marker)


def _move_in_place(changes: Sequence[Change], temporaries: Mapping[Path, Path], marker: Path | None) -> None:
    # From the first rename on, going forward in the next run is safer than going back in this one.
    done: list[Path] = []
    try:
        for change in changes:
            path = change.entry.path
            if path in temporaries:
                temporaries[path].replace(path)
            elif change.entry.state == "absent":
                _remove(change)
            elif change.attributes:
                _set_attributes(change.entry)
            done.append(path)
    except OSError as error:
        for temporary in temporaries.values():
            with suppress(OSError):
                temporary.unlink()
        kept = f" The marker {marker} stays until a run succeeds." if marker else ""
        failed = changes[len(done)].entry.path
        raise ConfigFilesError(
            f"{failed}: {error.strerror or error}; {len(done)} of {len(changes)} changes were made before"
            f" ({', '.join(map(str, done)) or 'none'}).{kept}"
        ) from error
    for directory in sorted({path.parent for path in done}):
        if directory.is_dir():
            _sync_directory(directory)


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"The disk is full: {error.filename or 'a new file'} could not be written"
    return f"{error.filename or 'A file'}: {error.strerror or error}"


def _write_marker(marker: Path, paths: Sequence[Path], undo: _UndoLog) -> None:
    directory = marker.parent
    for parent in reversed([parent for parent in marker.parents if not parent.is_dir()]):
        parent.mkdir(0o755)
        undo.add(Path.rmdir, parent)
        _sync_directory(parent.parent)
    with suppress(FileExistsError):
        descriptor = os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        undo.add(Path.unlink, marker)
        with os.fdopen(descriptor, "wb") as stream:
            _write_all(stream.fileno(), marker, "".join(f"{path}\n" for path in paths).encode())
        _sync_directory(directory)


def _make_directory(entry: Entry, undo: _UndoLog) -> None:
    entry.path.mkdir(0o700)
    undo.add(Path.rmdir, entry.path)
    _set_attributes(entry)


def _write_temporary(entry: Entry, undo: _UndoLog, directory: Path) -> Path:
    path = directory / f".{entry.path.name}.{secrets.token_hex(4)}{_TEMPORARY_SUFFIX}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    undo.add(Path.unlink, path)
    with os.fdopen(descriptor, "wb") as stream:
        _write_all(stream.fileno(), entry.path, entry.content, entry)
    return path


def _write_all(descriptor: int, path: Path, content: bytes, entry: Entry | None = None) -> None:
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        if entry is not None:
            _set_descriptor(descriptor, entry)
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _set_descriptor(descriptor: int, entry: Entry) -> None:
    # Owner first: the kernel clears set-id bits whenever the owner changes.
    os.fchown(descriptor, -1 if entry.uid is None else entry.uid, -1 if entry.gid is None else entry.gid)
    os.fchmod(descriptor, entry.mode)


def _set_attributes(entry: Entry) -> None:
    descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _set_descriptor(descriptor, entry)
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(entry.path)) from error
    finally:
        os.close(descriptor)


def _remove(change: Change) -> None:
    if change.before is not None and stat.S_ISDIR(change.before.st_mode):
        shutil.rmtree(change.entry.path)
    else:
        change.entry.path.unlink()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _validate(entry: Entry, path: Path, run: Runner) -> None:
    command = [word.replace("%s", str(path)) for word in entry.validate]
    try:
        code, output, error_output = run(command)
    except OSError as error:
        raise ValidatorMissingError(
            f"{entry.path} could not be validated, because {command[0]} cannot be run ({error.strerror or error});"
            " nothing was changed."
        ) from error
    if code != 0:
        said = (error_output.strip() or output.strip() or "nothing").replace(str(path), str(entry.path))
        if entry.no_diff:
            # Tools quote the line they dislike, and that line may be the secret.
            said = "something hidden by no_diff."
        raise ConfigFilesError(
            f"{entry.path} is not valid, nothing was changed:"
            f" {shlex.join(entry.validate)} ended with {code} and said: {said}"
        )


def _remove_leftovers(entries: Sequence[Entry]) -> None:
    """Delete the temporary files of a run that was killed: they may hold secrets."""
    names: dict[Path, set[str]] = {}
    for entry in entries:
        if entry.state == "file":
            names.setdefault(entry.path.parent, set()).add(entry.path.name)
    for directory, files in names.items():
        with suppress(OSError):
            for found in directory.iterdir():
                stem = found.name.removesuffix(_TEMPORARY_SUFFIX)
                if stem != found.name and stem.startswith(".") and stem[1:].rpartition(".")[0] in files:
                    found.unlink()
