"""The SQL of accounts, devices, refresh tokens and the audit log; each function works in the caller's transaction."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync_protocol.names import name_key
from sync_server.auth.errors import BadCredentialInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sync_server.auth.database import Database

SCOPES = frozenset({"read", "write", "account"})
MAX_NAME_CHARS = 64
MAX_DEVICES = 200
_IDLE_SECONDS = 7 * 86400
# How long after a refresh the same question from the same address gets the same answer.
RETRY_SECONDS = 60
# A serving process knows by then what another one revoked, and refuses it.
NOTICED_SECONDS = 0.25
_DEAD_TOKEN_SECONDS = 14 * 86400
_AUDIT_SECONDS = 400 * 86400
_FAILURES_SECONDS = 90 * 86400


@dataclass(frozen=True, slots=True)
class Account:
    """A person."""

    id: int
    name: str
    password_hash: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Device:
    """A client of an account: a computer, a telephone, an app password."""

    id: int
    account_id: int
    name: str
    kind: str
    scopes: frozenset[str]
    epoch: int
    created_at: int
    last_seen_at: int
    last_address: str
    revoked_at: int | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that happened to an account's access."""

    id: int
    at: int
    event: str
    account_id: int | None
    device_id: int | None
    address: str
    detail: str


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A successful refresh: the device and its next token."""

    device: Device
    token: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A refresh that is not allowed; `revoked` names the device that was cut off because of it."""

    revoked: Device | None = None


def check_name(name: str, what: str) -> str:
    """The name as it will be stored; raises BadCredentialInput."""
    name = unicodedata.normalize("NFC", name.strip())
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable() or (what == "account" and ":" in name):
        raise BadCredentialInput(
            f"the {what} name needs 1 to {MAX_NAME_CHARS} printable characters, without ':' at ends"
        )
    return name


def parse_scopes(text: str) -> frozenset[str]:
    """`read write` as a set; raises BadCredentialInput for a scope that does not exist."""
    scopes = frozenset(text.split())
    if not scopes or scopes - SCOPES:
        raise BadCredentialInput(f"scope must be some of {' '.join(sorted(SCOPES))}")
    return scopes


_ACCOUNT = "SELECT id, name, password_hash, created_at FROM accounts"
_DEVICE = (
    "SELECT id, account_id, name, kind, scopes, epoch, created_at, last_seen_at, last_address, revoked_at FROM devices"
)


def find_account(db: Database, name: str) -> Account | None:
    row = db.execute(f"{_ACCOUNT} WHERE name_key = ?", (name_key(name),)).fetchone()
    return Account(*row) if row else None


def account_by_id(db: Database, account_id: int) -> Account | None:
    row = db.execute(f"{_ACCOUNT} WHERE id = ?", (account_id,)).fetchone()
    return Account(*row) if row else None


def list_accounts(db: Database) -> list[Account]:
    return [Account(*row) for row in db.execute(f"{_ACCOUNT} ORDER BY id")]


def add_account(db: Database, name: str, password_hash: str, now: int) -> Account:
    """Make an account; raises BadCredentialInput when the name is taken or cannot be one."""
    name = check_name(name, "account")
    if find_account(db, name) is not None:
        raise BadCredentialInput(f"there is already an account {name!r}")
    row_id = db.execute(
        "INSERT INTO accounts (name, name_key, password_hash, created_at) VALUES (?, ?, ?, ?)",
        (name, name_key(name), password_hash, now),
    ).lastrowid
    assert row_id is not None
    return Account(row_id, name, password_hash, now)


def set_password(db: Database, account_id: int, password_hash: str) -> None:
    db.execute("UPDATE accounts SET password_hash = ? WHERE id = ?", (password_hash, account_id))


def add_device(
    db: Database,
    account_id: int,
    name: str,
    scopes: Iterable[str],
    address: str,
    now: int,
    *,
    app_password: str | None = None,
) -> Device:
    """Register a device; with `app_password` it is one that shows this password each time.

    The one unused longest makes room when there are too many, as scripts that log in each time leave many behind;
    raises BadCredentialInput when all were in use within a week.
    """
    name = check_name(name, "device")
    count = db.execute("SELECT count(*) FROM devices WHERE account_id = ? AND revoked_at IS NULL", (account_id,))
    if count.fetchone()[0] >= MAX_DEVICES:
        idle = db.execute(
            f"{_DEVICE} WHERE account_id = ? AND revoked_at IS NULL AND kind = 'device' AND last_seen_at < ?"
            " ORDER BY last_seen_at, id LIMIT 1",
            (account_id, now - _IDLE_SECONDS),
        ).fetchone()
        if idle is None:
            raise BadCredentialInput(f"the account has {MAX_DEVICES} devices: revoke some that are not used any more")
        revoke(db, _device(idle), now)
        audit(db, "revoked", now, account_id=account_id, device_id=idle[0], address=address, detail="to make room")
    scopes = frozenset(scopes)
    kind = "device" if app_password is None else "app"
    hashed = None if app_password is None else token_hash(app_password)
    row_id = db.execute(
        "INSERT INTO devices (account_id, name, kind, scopes, app_hash, created_at, last_seen_at, last_address)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (account_id, name, kind, " ".join(sorted(scopes)), hashed, now, now, address),
    ).lastrowid
    assert row_id is not None
    return Device(row_id, account_id, name, kind, scopes, 1, now, now, address, None)


def _device(row: tuple[int, int, str, str, str, int, int, int, str, int | None]) -> Device:
    return Device(row[0], row[1], row[2], row[3], frozenset(row[4].split()), *row[5:])


def find_device(db: Database, account_id: int, device_id: int) -> Device | None:
    row = db.execute(f"{_DEVICE} WHERE id = ? AND account_id = ?", (device_id, account_id)).fetchone()
    return _device(row) if row else None


def list_devices(db: Database, account_id: int, *, revoked: bool = False) -> list[Device]:
    where = "" if revoked else " AND revoked_at IS NULL"
    return [_device(row) for row in db.execute(f"{_DEVICE} WHERE account_id = ?{where} ORDER BY id", (account_id,))]


def find_app_password(db: Database, password: str) -> tuple[Device, str] | None:
    """The device that shows this password, and the name of its account."""
    row = db.execute(
        "SELECT d.id, d.account_id, d.name, d.kind, d.scopes, d.epoch, d.created_at, d.last_seen_at, d.last_address,"
        " d.revoked_at, a.name_key FROM devices d JOIN accounts a ON a.id = d.account_id"
        " WHERE d.app_hash = ? AND d.revoked_at IS NULL",
        (token_hash(password),),
    ).fetchone()
    return (_device(row[:10]), row[10]) if row else None


def is_known_address(db: Database, account_id: int, address: str) -> bool:
    """Whether a device of the account was last seen there."""
    row = db.execute(
        "SELECT 1 FROM devices WHERE account_id = ? AND last_address = ? LIMIT 1", (account_id, address)
    ).fetchone()
    return row is not None


def live_epochs(db: Database) -> dict[int, int]:
    """{device id: epoch} of every device that is not revoked."""
    return dict(db.execute("SELECT id, epoch FROM devices WHERE revoked_at IS NULL"))


def mark_seen(db: Database, seen: Iterable[tuple[int, int, str]]) -> None:
    """Store (device id, time, address) of devices that were active."""
    db.executemany(
        "UPDATE devices SET last_seen_at = max(last_seen_at, ?2), last_address = ?3"
        " WHERE id = ?1 AND revoked_at IS NULL",
        seen,
    )


def revoke(db: Database, device: Device, now: int) -> None:
    """Cut a device off: its tokens and its app password are worthless from now on. Its name stays for the history."""
    db.execute(
        "UPDATE devices SET revoked_at = ?, epoch = epoch + 1, app_hash = NULL WHERE id = ? AND revoked_at IS NULL",
        (now, device.id),
    )
    db.execute("DELETE FROM refresh_tokens WHERE device_id = ?", (device.id,))


def token_hash(token: str) -> bytes:
    """What is stored of a token. A plain hash is enough: the tokens are random, there is nothing to guess."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def first_refresh_token(db: Database, device: Device, address: str, now: int, lifetime: int) -> str:
    """The token a device starts with; those it had are dropped."""
    token = "sr_" + secrets.token_urlsafe(32)
    db.execute("DELETE FROM refresh_tokens WHERE device_id = ?", (device.id,))
    _insert_token(db, token, device.id, now, lifetime, address)
    return token


def _insert_token(db: Database, token: str, device_id: int, now: int, lifetime: int, address: str) -> None:
    db.execute(
        "INSERT INTO refresh_tokens (hash, device_id, state, changed_at, expires_at, address)"
        " VALUES (?, ?, 'current', ?, ?, ?)",
        (token_hash(token), device_id, now, now + lifetime, address),
    )


def knows_refresh_token(db: Database, token: str) -> bool:
    """Whether the token is, or was, one of ours."""
    row = db.execute("SELECT 1 FROM refresh_tokens WHERE hash = ?", (token_hash(token),)).fetchone()
    return row is not None


def refresh(db: Database, key: bytes, token: str, address: str, now: int, lifetime: int) -> Refreshed | Refused:
    """Exchange a refresh token for the next one.

    A token is good once. Its successor may be lost on the way, and the device would be locked out by asking again, so:
    - asked again within a minute from the same address, it gets the *same* successor (two questions in flight cannot
      hold different answers);
    - asked again later while the successor was never used, it gets another successor and the lost one dies. Of two
      parties that share a stolen token, the second to come is thus found out, as with strict rotation;
    - once the successor was used, or for a token that died, the question is proof of a copy: the device is revoked.
    """
    hashed = token_hash(token)
    row = db.execute(
        "SELECT device_id, state, changed_at, address FROM refresh_tokens WHERE hash = ? AND expires_at > ?",
        (hashed, now),
    ).fetchone()
    if row is None:
        return Refused()
    device_id, state, changed_at, spent_by = row
    device_row = db.execute(f"{_DEVICE} WHERE id = ? AND revoked_at IS NULL", (device_id,)).fetchone()
    if device_row is None:
        return Refused()
    device = _device(device_row)
    if state == "dead":
        revoke(db, device, now)
        return Refused(revoked=device)

    if state == "spent" and now - changed_at <= RETRY_SECONDS and spent_by == address:
        return Refreshed(device, _successor(key, token, changed_at))
    # Each time another moment, because the successor is made from it.
    moment = now if state == "current" else max(now, changed_at + 1)
    doomed = "spent" if state == "current" else "current"
    db.execute(
        "UPDATE refresh_tokens SET state = 'dead', changed_at = ? WHERE device_id = ? AND state = ?",
        (now, device_id, doomed),
    )
    db.execute(
        "UPDATE refresh_tokens SET state = 'spent', changed_at = ?, address = ? WHERE hash = ?",
        (moment, address, hashed),
    )
    successor = _successor(key, token, moment)
    _insert_token(db, successor, device_id, now, lifetime, address)
    db.execute(
        "UPDATE devices SET last_seen_at = max(last_seen_at, ?), last_address = ? WHERE id = ?",
        (now, address, device_id),
    )
    db.execute(
        "DELETE FROM refresh_tokens WHERE device_id = ? AND (expires_at <= ? OR (state = 'dead' AND changed_at < ?))",
        (device_id, now, now - _DEAD_TOKEN_SECONDS),
    )
    return Refreshed(device, successor)


def _successor(key: bytes, token: str, moment: int) -> str:
    digest = hmac.digest(key, f"{token} {moment}".encode("utf-8", "surrogatepass"), "sha256")
    return "sr_" + digest.hex()


def audit(
    db: Database,
    event: str,
    now: int,
    *,
    account_id: int | None = None,
    device_id: int | None = None,
    address: str = "",
    detail: str = "",
) -> None:
    """Write one line of the audit log; those older than 400 days go, failed logins after 90."""
    db.execute(
        "INSERT INTO audit_log (at, event, account_id, device_id, address, detail) VALUES (?, ?, ?, ?, ?, ?)",
        (now, event, account_id, device_id, address, detail[:200]),
    )
    db.execute("DELETE FROM audit_log WHERE at < ?", (now - _AUDIT_SECONDS,))
    if event == "login_failed":
        db.execute("DELETE FROM audit_log WHERE at < ? AND event = ?", (now - _FAILURES_SECONDS, event))


def list_audit(db: Database, account_id: int, *, before: int | None, limit: int) -> list[AuditEntry]:
    """The newest entries first."""
    return [
        AuditEntry(*row)
        for row in db.execute(
            "SELECT id, at, event, account_id, device_id, address, detail FROM audit_log"
            " WHERE account_id = ? AND id < ? ORDER BY id DESC LIMIT ?",
            (account_id, before if before is not None else 1 << 62, limit),
        )
    ]
