# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of DKIM selectors, kept in one folder. Private: other collections must not import it.

A selector is published (made, not signing), active (signing), retired (signs no more, its record stays for mail on its
way), revoked (its record says so, its private key is gone) and then forgotten. The folder of a domain holds the private
keys and selectors.json, which says nothing but states and when they began: records come from the keys.

A key reaches the disk before the state that names it, and leaves it after. So a run that stops anywhere leaves either
a key that the next one takes up, or one that it still has to delete.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.diegonmarcos.servers.plugins.module_utils._config_files import (
    ConfigFilesError,
    ensure,
    parse_entries,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_key import (
    KeyFacts,
    KeyTool,
    WantedKey,
    ensure_key,
    read_key,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_record import (
    DkimError,
    TxtRecord,
    key_record,
    parse_domain,
    parse_selector,
    record_value,
)

STATES = ("published", "active", "retired", "revoked")
_FILE = "selectors.json"
_VERSION = 1


@dataclass(frozen=True)
class Selector:
    """One selector; `since` is when its state began, `applied` when every mail server was known to have followed."""

    name: str
    key_type: str
    state: str
    since: datetime
    applied: datetime | None = None


@dataclass(frozen=True)
class Policy:
    """What is asked of one run."""

    key_types: Sequence[str] = ("rsa",)
    key_size: int | None = None
    begin: str = "never"
    max_age: timedelta = timedelta(days=180)
    confirmed: frozenset[str] = frozenset()
    wait: timedelta = timedelta(hours=48)
    applied: bool = False
    overlap: timedelta = timedelta(days=7)
    revoked: timedelta = timedelta(days=30)


@dataclass(frozen=True)
class Entry:
    """One selector with what follows from its key; `record` is None where check mode has made none."""

    domain: str
    selector: Selector
    path: Path
    facts: KeyFacts | None
    record: TxtRecord | None
    next_step: str


@dataclass
class Outcome:
    """What a run did, or in check mode would do."""

    entries: list[Entry] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    before: dict[str, list[str]] = field(default_factory=dict)
    after: dict[str, list[str]] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return bool(self.actions)


class Folder:
    """The keys and states of one domain on the disk."""

    def __init__(self, root: Path, domain: str, temporary_directory: Path) -> None:
        self.domain = domain
        self.path = root / domain
        self._temporary = temporary_directory

    def key_path(self, selector: str) -> Path:
        return self.path / f"{selector}.pem"

    def load(self) -> list[Selector]:
        path = self.path / _FILE
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw["version"] != _VERSION:
                raise DkimError(f"{path} has version {raw['version']}, which a newer release wrote: use that one.")
            return [_parse(name, item) for name, item in raw["selectors"].items()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DkimError(f"{path} cannot be read ({error.strerror}): run this as its owner.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DkimError(
                f"{path} is damaged ({error}): restore it, or remove it to take the keys beside it up."
            ) from error

    def save(self, selectors: Sequence[Selector]) -> None:
        content = {"version": _VERSION, "selectors": {item.name: _serialise(item) for item in selectors}}
        self._write({"path": str(self.path / _FILE), "content": content, "mode": "0600"})

    def make(self) -> None:
        self._write({"path": str(self.path), "state": "directory", "mode": "0700"})

    def unknown_keys(self, known: Sequence[Selector]) -> list[str]:
        names = {item.name for item in known}
        found = sorted(path.stem for path in self.path.glob("*.pem")) if self.path.is_dir() else []
        return [parse_selector(name) for name in found if name not in names]

    def _write(self, entry: dict[str, Any]) -> None:
        entry = {"owner": str(os.geteuid()), "group": str(os.getegid()), **entry}
        try:
            ensure(parse_entries([entry]), run=lambda _command: (0, "", ""), temporary_directory=self._temporary)
        except ConfigFilesError as error:
            raise DkimError(str(error)) from error


def _parse(name: str, raw: dict[str, Any]) -> Selector:
    if raw["state"] not in STATES:
        raise ValueError(f"state {raw['state']}")
    applied = raw.get("applied")
    return Selector(
        parse_selector(name),
        str(raw["key_type"]),
        raw["state"],
        datetime.fromisoformat(raw["since"]),
        datetime.fromisoformat(applied) if applied else None,
    )


def _serialise(item: Selector) -> dict[str, Any]:
    applied = {"applied": item.applied.isoformat()} if item.applied else {}
    return {"key_type": item.key_type, "state": item.state, "since": item.since.isoformat(), **applied}


def new_name(key_type: str, taken: Sequence[str], now: datetime) -> str:
    """Return the next free selector of this month, the kind at its end where it is not RSA."""
    suffix = "" if key_type == "rsa" else f"-{key_type}"
    for letter in "abcdefghijklmnopqrstuvwxyz":
        name = f"{now:%Y%m}{letter}{suffix}"
        if name not in taken:
            return name
    raise DkimError(f"All selectors of {now:%Y-%m} are taken: wait for the next month.")


def advance(selectors: Sequence[Selector], domain: str, policy: Policy, now: datetime) -> list[Selector]:
    """Return the selectors with every step taken that is due; new ones and files are the caller's."""
    result = {item.name: item for item in selectors}
    for key_type in {item.key_type for item in selectors}:
        due = [
            item
            for item in _of(result.values(), key_type, "published")
            if f"{item.name}._domainkey.{domain}" in policy.confirmed and now - item.since >= policy.wait
        ]
        if due:
            newest = max(due, key=lambda item: (item.since, item.name))
            for old in _of(result.values(), key_type, "active"):
                result[old.name] = replace(old, state="retired", since=now, applied=None)
            result[newest.name] = replace(newest, state="active", since=now)
    if policy.applied:
        for item in list(result.values()):
            if item.state in ("active", "retired") and item.applied is None:
                result[item.name] = replace(item, applied=now)
            elif item.state == "retired" and item.applied is not None and now - item.applied >= policy.overlap:
                result[item.name] = replace(item, state="revoked", since=now, applied=None)
            elif item.state == "revoked" and now - item.since >= policy.revoked:
                del result[item.name]
    return list(result.values())


def missing_types(selectors: Sequence[Selector], policy: Policy, now: datetime) -> list[str]:
    """Return the kinds of key that a new selector is to be made for."""
    wanted = []
    for key_type in policy.key_types:
        states = {item.state for item in selectors if item.key_type == key_type}
        if not states & {"published", "active"}:
            wanted.append(key_type)
            continue
        # One rotation at a time: it lasts until the old key is withdrawn.
        under_way = bool(states & {"published", "retired"})
        active = _of(selectors, key_type, "active")
        old = any(now - item.since >= policy.max_age for item in active)
        if not under_way and (policy.begin == "now" or (policy.begin == "due" and old)):
            wanted.append(key_type)
    return wanted


def _of(selectors: Any, key_type: str, state: str) -> list[Selector]:
    return [item for item in selectors if item.key_type == key_type and item.state == state]


def next_step(item: Selector, record: str, policy: Policy) -> str:
    """Say in one sentence what is to happen to a selector, and when."""
    if item.state == "published":
        return (
            f"Publish {record}; signing switches to it from {_when(item.since + policy.wait)} on,"
            " once the DNS shows it."
        )
    if item.state == "active":
        return f"Signs; to be replaced after {_when(item.since + policy.max_age)}."
    if item.state == "retired" and item.applied is None:
        return f"Keep {record} published: not every mail server is known to sign with the new key yet."
    if item.state == "retired" and item.applied is not None:
        return (
            f"Keep {record} published until {_when(item.applied + policy.overlap)}: mail that it signed is on its way."
        )
    return f"Publish {record} with an empty p=, or delete it; forgotten after {_when(item.since + policy.revoked)}."


def _when(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def ensure_selectors(
    root: Path,
    domains: Sequence[str],
    policy: Policy,
    *,
    tool: KeyTool,
    now: datetime,
    check: bool,
    temporary_directory: Path,
) -> Outcome:
    """Take every step of every domain that is due now; DkimError leaves the failing domain as it was."""
    outcome = Outcome()
    names = list(dict.fromkeys(parse_domain(domain) for domain in domains))
    if not names:
        raise DkimError("No domain is given: name at least one that sends mail.")
    with _locked(root, check):
        for domain in names:
            _ensure_domain(Folder(root, domain, temporary_directory), policy, tool, now, check, outcome)
    return outcome


def _ensure_domain(folder: Folder, policy: Policy, tool: KeyTool, now: datetime, check: bool, outcome: Outcome) -> None:
    before = folder.load()
    current = [*before, *_adopt(folder, before, tool, now)]
    for item in current:
        _check_key(folder, item, tool)
    # Whatever is there already was made for a reason: only a domain without any key starts to sign at once.
    first = "published" if any(item.state != "revoked" for item in current) else "active"
    wanted = missing_types(current, policy, now)
    current = advance(current, folder.domain, policy, now)
    new: list[Selector] = []
    for key_type in wanted:
        taken = [item.name for item in (*before, *current, *new)]
        new.append(Selector(new_name(key_type, taken, now), key_type, first, now))
    if not check:
        _make_keys(folder, new, policy, tool)
    current += new
    if not check and current != before:
        folder.make()
        folder.save(current)
    leftovers = _withdraw(folder, before, current, check)
    outcome.actions += _describe(folder.domain, before, current)
    outcome.actions += [f"Deleted the private key of {name}._domainkey.{folder.domain}." for name in leftovers]
    outcome.before[folder.domain] = [_line(item) for item in before]
    outcome.after[folder.domain] = [_line(item) for item in current]
    outcome.entries += [_entry(folder, item, policy, tool) for item in current]


def _adopt(folder: Folder, known: Sequence[Selector], tool: KeyTool, now: datetime) -> list[Selector]:
    """Take up keys that lie in the folder without a state: made by a run that was stopped, or brought by the user."""
    adopted: list[Selector] = []
    for name in folder.unknown_keys(known):
        key_type = read_key(tool, folder.key_path(name).read_bytes(), str(folder.key_path(name))).key_type
        others = [item for item in (*known, *adopted) if item.state in ("published", "active", "retired")]
        same = [item for item in others if item.key_type == key_type]
        state = "published" if same or (known and others) else "active"
        adopted.append(Selector(name, key_type, state, now))
    return adopted


def _check_key(folder: Folder, item: Selector, tool: KeyTool) -> None:
    if item.state == "revoked":
        return
    path = folder.key_path(item.name)
    try:
        facts = read_key(tool, path.read_bytes(), str(path))
    except OSError as error:
        raise DkimError(
            f"{path}, the {item.state} key of {folder.domain}, cannot be read ({error.strerror}): restore it,"
            f" or remove {item.name} from {folder.path / _FILE} to have a new one made."
        ) from error
    if facts.key_type != item.key_type:
        raise DkimError(
            f"{path} holds a key of type {facts.key_type}, and {folder.path / _FILE} says {item.key_type}:"
            " put the right key back."
        )


def _make_keys(folder: Folder, new: Sequence[Selector], policy: Policy, tool: KeyTool) -> None:
    if new:
        folder.make()
    for item in new:
        size = policy.key_size if item.key_type == "rsa" else None
        wanted = WantedKey(folder.key_path(item.name), item.key_type, size)
        ensure_key(wanted, tool=tool, check=False, temporary_directory=folder.path)


def _withdraw(folder: Folder, before: Sequence[Selector], current: Sequence[Selector], check: bool) -> list[str]:
    """Delete the private keys of revoked selectors; return those that an earlier run was stopped before."""
    states = {item.name: item.state for item in (*before, *current)}
    earlier = {item.name for item in before if item.state == "revoked"}
    left = []
    for name, state in states.items():
        path = folder.key_path(name)
        if state == "revoked" and path.exists():
            if name in earlier:
                left.append(name)
            if not check:
                path.unlink()
    return left


def _describe(domain: str, before: Sequence[Selector], after: Sequence[Selector]) -> list[str]:
    old = {item.name: item for item in before}
    said = []
    for item in after:
        fqdn = f"{item.name}._domainkey.{domain}"
        previous = old.pop(item.name, None)
        if previous is None:
            said.append(f"{fqdn} is {item.state}, a new {item.key_type} key.")
        elif previous.state != item.state:
            said.append(f"{fqdn} is {item.state}, no longer {previous.state}.")
        elif previous != item:
            said.append(f"{fqdn} is {item.state}, and every mail server follows.")
    said += [f"{name}._domainkey.{domain} is forgotten." for name in old]
    return said


def _line(item: Selector) -> str:
    applied = ", followed everywhere" if item.applied else ""
    return f"{item.name}: {item.key_type}, {item.state}{applied}"


def _entry(folder: Folder, item: Selector, policy: Policy, tool: KeyTool) -> Entry:
    path = folder.key_path(item.name)
    facts = read_key(tool, path.read_bytes(), str(path)) if item.state != "revoked" and path.exists() else None
    record = None
    if facts is not None:
        record = key_record(folder.domain, item.name, record_value(item.key_type, facts.public))
    elif item.state == "revoked":
        record = key_record(folder.domain, item.name, record_value(item.key_type, b""))
    fqdn = f"{item.name}._domainkey.{folder.domain}"
    return Entry(folder.domain, item, path, facts, record, next_step(item, fqdn, policy))


@contextmanager
def _locked(root: Path, check: bool) -> Iterator[None]:
    """Keep the hosts of a play that share a domain from making its key twice."""
    if check:
        yield
        return
    try:
        # Path.mkdir gives parents its default mode, and private keys will lie below.
        for folder in (*reversed(root.parents), root):
            if not folder.is_dir():
                folder.mkdir(0o700, exist_ok=True)
    except OSError as error:
        raise DkimError(f"{error.filename} cannot be made ({error.strerror}): make it, or name another.") from error
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
