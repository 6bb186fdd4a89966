"""Makes the accounts be as a list says, so that a configuration tool can own them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from sync_server.auth import accounts
from sync_server.auth.database import Reads
from sync_server.auth.passwords import check_new_password, hash_password, verify_password
from sync_server.config import parse_size
from sync_server.server import tree_settings
from sync_server.store.interface import Identity
from sync_server.tree import Tree

if TYPE_CHECKING:
    from sync_server.auth.database import Database
    from sync_server.config import Config
    from sync_server.store.sqlite import SqliteStore


class WantedAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account as it should be; `quota` is a size as in 20G, or None for the server's default."""

    name: str
    password: str
    quota: str | None = None


def read_wanted(text: str | bytes, min_password_length: int) -> list[WantedAccount]:
    """Read and check the JSON list; raises msgspec.DecodeError, BadCredentialInput or ConfigError before any change."""
    wanted = msgspec.json.decode(text, type=list[WantedAccount])
    for account in wanted:
        accounts.check_name(account.name, "account")
        check_new_password(account.password, min_password_length)
        if account.quota is not None:
            parse_size(f"the quota of {account.name}", account.quota)
    return wanted


async def apply(store: SqliteStore, settings: Config, wanted: list[WantedAccount], *, dry_run: bool) -> list[str]:
    """Make what is missing and correct what differs; returns a line for each change.

    Accounts that are not on the list stay. A changed password cuts the account's devices off.
    """
    changes: list[str] = []
    for account in wanted:
        changes += await _apply_one(store, settings, account, dry_run=dry_run)
    return changes


async def _apply_one(store: SqliteStore, settings: Config, wanted: WantedAccount, *, dry_run: bool) -> list[str]:
    found = accounts.find_account(Reads(store), wanted.name)
    if found is None:
        if not dry_run:
            made = await _write(store, wanted)
            await _set_quota(store, settings, made, wanted, dry_run=False)
        return [f"made account {wanted.name}"]
    changes: list[str] = []
    if not verify_password(found.password_hash, wanted.password):
        changes.append(f"set the password of {wanted.name}")
        if not dry_run:
            await _write(store, wanted)
    if await _set_quota(store, settings, found.id, wanted, dry_run=dry_run):
        changes.append(f"set the quota of {wanted.name} to {wanted.quota or 'the default'}")
    return changes


async def _set_quota(
    store: SqliteStore, settings: Config, account_id: int, wanted: WantedAccount, *, dry_run: bool
) -> bool:
    tree = Tree(store, tree_settings(settings))
    size = tree.settings.quota if wanted.quota is None else parse_size("quota", wanted.quota)
    usage = await tree.usage(Identity(account_id, 0, frozenset()))
    if usage.quota == size:
        return False
    if not dry_run:
        await tree.set_quota(account_id, size)
    return True


async def _write(store: SqliteStore, wanted: WantedAccount) -> int:
    hashed = hash_password(wanted.password)
    now = int(time.time())

    def write(db: Database) -> int:
        account = accounts.find_account(db, wanted.name)
        if account is None:
            account = accounts.add_account(db, wanted.name, hashed, now)
            event = "account_made"
        else:
            accounts.set_password(db, account.id, hashed)
            for device in accounts.list_devices(db, account.id):
                accounts.revoke(db, device, now)
            event = "password_changed"
        accounts.audit(db, event, now, account_id=account.id, detail="by a list")
        return account.id

    return await store.sql_write(write)
