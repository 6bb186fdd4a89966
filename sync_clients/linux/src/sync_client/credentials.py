# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the login is kept: the desktop's keyring when there is one, else a file only its owner can read."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from typing import Any

import msgspec

from sync_client.config import Places
from sync_client.errors import NotAllowed
from sync_client.transport import Tokens

_SERVICE = "sync-client"


def _keyring() -> Any | None:
    """The keyring, only if it is installed and a desktop session is there to unlock it."""
    if os.environ.get("SYNC_CLIENT_KEYRING") == "off" or "DBUS_SESSION_BUS_ADDRESS" not in os.environ:
        return None
    if importlib.util.find_spec("keyring") is None:
        return None
    import keyring

    # Below this priority there is no store behind it, or one that keeps plain text.
    return keyring if keyring.get_keyring().priority >= 1 else None


def store(places: Places, tokens: Tokens) -> None:
    data = msgspec.json.encode(tokens)
    ring = _keyring()
    if ring is not None:
        with contextlib.suppress(Exception):
            ring.set_password(_SERVICE, places.profile, data.decode())
            places.token.unlink(missing_ok=True)
            return
    places.make()
    fresh = places.token.with_suffix(".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    fresh.replace(places.token)


def load(places: Places) -> Tokens | None:
    with contextlib.suppress(FileNotFoundError):
        if places.token.stat().st_mode & 0o077:
            raise NotAllowed(f"Others can read {places.token}. Run `chmod 600 {places.token}`, or log in again.")
        try:
            return msgspec.json.decode(places.token.read_bytes(), type=Tokens)
        except ValueError as error:
            raise NotAllowed(f"{places.token} is damaged; run `sync-client login` again.") from error
    ring = _keyring()
    if ring is not None:
        with contextlib.suppress(Exception):
            data = ring.get_password(_SERVICE, places.profile)
            if data:
                return msgspec.json.decode(data.encode(), type=Tokens)
    return None


def forget(places: Places) -> None:
    places.token.unlink(missing_ok=True)
    ring = _keyring()
    if ring is not None:
        with contextlib.suppress(Exception):
            ring.delete_password(_SERVICE, places.profile)
