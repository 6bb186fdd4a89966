# SPDX-License-Identifier: GPL-3.0-or-later
"""Which names are allowed, and when two are the same.

A name is stored as it was given. Two names in a folder are the same when their keys are: NFC + casefold, because that
is what macOS, Windows and Android make of them on disk.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096

_WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}
)
_WINDOWS_CHARACTERS = frozenset('<>:"\\|?*')
_CONFLICT = re.compile(r"\.sync-conflict-\d{8}-\d{6}-[A-Za-z0-9_-]{1,32}(?=\.[^.]*$|$)")
_NOT_DEVICE = re.compile(r"[^A-Za-z0-9_-]+")


class InvalidName(ValueError):
    """The name or path can be stored by no system; the text says why."""


def check_name(name: str) -> str:
    """Return the name unchanged, or raise InvalidName."""
    if not name or name in {".", ".."}:
        raise InvalidName("A name cannot be empty, “.” or “..”.")
    if "/" in name or "\0" in name:
        raise InvalidName("A name cannot contain “/” or a NUL byte.")
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidName("A name must be valid Unicode.") from error
    if length > MAX_NAME_BYTES:
        raise InvalidName(f"A name cannot be longer than {MAX_NAME_BYTES} bytes; this one has {length}.")
    return name


def split_path(path: str) -> tuple[str, ...]:
    """Cut a relative path into checked names; "" is the root and gives none."""
    try:
        length = len(path.encode())
    except UnicodeEncodeError as error:
        raise InvalidName("A path must be valid Unicode.") from error
    if length > MAX_PATH_BYTES:
        raise InvalidName(f"A path cannot be longer than {MAX_PATH_BYTES} bytes; this one has {length}.")
    if path == "":
        return ()
    return tuple(check_name(part) for part in path.split("/"))


def normal(name: str) -> str:
    """NFC: the spelling in which a decomposed name (macOS) equals a composed one."""
    return unicodedata.normalize("NFC", name)


def name_key(name: str) -> str:
    """What must be unique in a folder."""
    # Twice: casefolding may leave decomposed characters, which fold further once composed (Unicode 3.13, D145).
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold()).casefold()
    return unicodedata.normalize("NFC", folded)


def not_portable(name: str) -> str | None:
    """Say in one sentence which systems cannot store the name; None when all can. It is kept as it is all the same."""
    if _WINDOWS_CHARACTERS & set(name) or any(ord(character) < 32 for character in name):
        return 'Windows and Android refuse < > : " \\ | ? * and control characters in names.'
    if name.endswith((" ", ".")):
        return "Windows drops a space or a dot at the end of a name."
    if name.split(".", 1)[0].casefold() in _WINDOWS_DEVICES:
        return "Windows keeps this name for a device."
    return None


def strip_conflict(name: str) -> str:
    """The name without the mark of a conflict copy, so that a copy never becomes a copy of a copy."""
    stripped = _CONFLICT.sub("", name)
    return stripped or name


def is_conflict_name(name: str) -> bool:
    """Tell whether the name is that of a conflict copy."""
    return strip_conflict(name) != name


def conflict_name(name: str, when: int, device: str, attempt: int = 1) -> str:
    """`name.sync-conflict-DATE-TIME-DEVICE.ext`, never longer than a name may be; `when` in milliseconds since 1970.

    `attempt` makes a second one in the same second differ.
    """
    safe = _NOT_DEVICE.sub("-", device).strip("-")[:24] or "device"
    if attempt > 1:
        safe = f"{safe}-{attempt}"
    moment = datetime.fromtimestamp(min(max(when, 0), 253_402_300_799_000) / 1000, UTC)
    mark = f".sync-conflict-{moment:%Y%m%d-%H%M%S}-{safe}"
    return _with_mark(strip_conflict(name), mark)


def restored_name(name: str, attempt: int = 1) -> str:
    """The name for what comes back from the trash when its own is taken."""
    return _with_mark(name, " (restored)" if attempt == 1 else f" (restored {attempt})")


def _with_mark(name: str, mark: str) -> str:
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > 32:
        stem, dot, extension = name, "", ""
    room = MAX_NAME_BYTES - len((mark + dot + extension).encode())
    stem = stem.encode()[:room].decode(errors="ignore")
    return f"{stem}{mark}{dot}{extension}"
