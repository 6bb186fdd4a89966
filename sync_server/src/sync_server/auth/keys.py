"""The server's own secret: made at the first start, readable by its user only."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


KEY_FILE = "server.key"


class KeyFileError(RuntimeError):
    """The key file cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys for different uses, so that one cannot stand for the other."""

    access: bytes
    refresh: bytes
    kid: str

    def __repr__(self) -> str:
        return f"Keys(kid={self.kid!r})"


def load_or_make(path: Path) -> Keys:
    """Read the key file, or make it when there is none. Removing the file ends all access tokens, nothing else."""
    if not path.exists():
        _make(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeyFileError(f"others can read the key file {path}: run `chmod 600 {path}`")
    try:
        master = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except ValueError:
        master = b""
    if len(master) < 32:
        raise KeyFileError(f"the key file {path} is damaged: remove it, and devices will fetch new access tokens")

    def derive(use: str) -> bytes:
        return hmac.digest(master, b"sync-server " + use.encode(), hashlib.sha256)

    return Keys(access=derive("access"), refresh=derive("refresh"), kid=derive("kid").hex()[:16])


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, secrets.token_hex(32).encode() + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
    # link fails where rename would replace the key another process has made in this moment
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)
    temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
