"""Logins, tokens, devices and app passwords: what the routes and the command line ask for."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync_protocol.names import name_key
from sync_server.auth import accounts
from sync_server.auth.accounts import Account, AuditEntry, Device, Refreshed
from sync_server.auth.database import Reads
from sync_server.auth.device_flow import DeviceFlow, Pending
from sync_server.auth.errors import BadCredentialInput, DeviceFlowPending, NotAllowed, NotAuthenticated, TooManyAttempts
from sync_server.auth.passwords import PasswordQueue, check_new_password, hash_password, needs_new_hash
from sync_server.auth.throttle import ACCOUNT_AND_ADDRESS, ADDRESS, Limit, Throttle, network_of
from sync_server.auth.tokens import AccessTokens
from sync_server.store.interface import Identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from sync_server.auth.database import AccountStore, Database
    from sync_server.auth.keys import Keys
    from sync_server.config import Config

log = logging.getLogger("sync_server.auth")

_AUDITED_FAILURES = Limit(100, 30.0)


@dataclass(frozen=True, slots=True)
class Login:
    """A device that is logged in now."""

    access_token: str
    expires_in: int
    refresh_token: str
    device: Device


class Auth:
    """One for each server process."""

    def __init__(self, store: AccountStore, keys: Keys, config: Config) -> None:
        self._store = store
        self._rows = Reads(store)
        self._keys = keys
        self._config = config
        self._epochs: dict[int, int] = {}
        self._tokens = AccessTokens(keys, config.access_token_seconds, self._epochs)
        self._passwords = PasswordQueue()
        self._throttle = Throttle()
        self._flow = DeviceFlow()
        self._seen: dict[int, tuple[int, str]] = {}
        self._next_look = 0.0
        self._data_version = -1
        self._revoked = asyncio.Event()
        self._read_epochs()

    # --- who is asking -----------------------------------------------------------------------------------------------

    def identify(self, authorization: str | None, address: Callable[[], str], scope: str) -> Identity:
        """The identity behind an Authorization header; raises NotAuthenticated or NotAllowed."""
        if authorization is None:
            raise NotAuthenticated("send an access token: Authorization: Bearer …")
        self.look_for_other_processes()
        kind, _, value = authorization.partition(" ")
        kind = kind.lower()
        if kind == "bearer":
            identity = self._tokens.verify(value.strip())
        elif kind == "basic":
            identity = self._app_password(value.strip())
        else:
            raise NotAuthenticated("the Authorization header is neither Bearer nor Basic")
        if scope not in identity.scopes:
            raise NotAllowed(scope)
        if identity.device_id not in self._seen:
            self._seen[identity.device_id] = (int(time.time()), network_of(address()))
        return identity

    def is_live(self, identity: Identity) -> bool:
        """Whether the device was not revoked since; for what takes long."""
        self.look_for_other_processes()
        return identity.device_id in self._epochs

    def check_live(self, identity: Identity) -> None:
        """Raise NotAuthenticated when the device was revoked since."""
        if not self.is_live(identity):
            raise NotAuthenticated("the device was revoked")

    async def until_revoked(self, identity: Identity) -> None:
        """Return when the device is revoked."""
        while self.is_live(identity):
            await self._revoked.wait()

    def _app_password(self, value: str) -> Identity:
        try:
            name, _, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            raise NotAuthenticated("the Basic credentials are malformed") from None
        found = accounts.find_app_password(self._rows, password) if password else None
        # The name must fit too, or a mistyped user would silently write into another account.
        if found is None or found[1] != name_key(name):
            raise NotAuthenticated("wrong user or app password (the account's own password is for logging in only)")
        device, _ = found
        return Identity(device.account_id, device.id, device.scopes)

    # --- logging in --------------------------------------------------------------------------------------------------

    async def login(self, user: str, password: str, device_name: str, scope: str, address: str) -> Login:
        """Check the password and register a new device; raises NotAuthenticated or TooManyAttempts."""
        device_name = accounts.check_name(device_name, "device")
        scopes = accounts.parse_scopes(scope)
        account = await self._check_password(user, password, address)
        network = network_of(address)
        now = int(time.time())
        fresh = None
        if needs_new_hash(account.password_hash):
            fresh = await self._passwords.run(lambda: hash_password(password), known=True)

        def work(db: Database) -> tuple[Device, str]:
            # The password may have been changed while this one was being checked.
            current = accounts.account_by_id(db, account.id)
            if current is None or current.password_hash != account.password_hash:
                raise NotAuthenticated("wrong user or password")
            if fresh is not None:
                accounts.set_password(db, account.id, fresh)
            device = accounts.add_device(db, account.id, device_name, scopes, network, now)
            token = accounts.first_refresh_token(db, device, network, now, self._refresh_seconds)
            accounts.audit(db, "login", now, account_id=account.id, device_id=device.id, address=address)
            return device, token

        return self._logged_in(*await self._store.sql_write(work))

    async def _check_password(self, user: str, password: str, address: str) -> Account:
        network = network_of(address)
        account = accounts.find_account(self._rows, user)
        keys = (
            (
                (hashlib.sha256(name_key(user).encode("utf-8", "surrogatepass")).digest(), network),
                ACCOUNT_AND_ADDRESS,
            ),
            (network, ADDRESS),
        )
        # Counted before the computation and given back on success: else many questions at once would all be let in.
        self._throttle.take(*keys)
        known = account is not None and accounts.is_known_address(self._rows, account.id, network)
        stored = account.password_hash if account else None
        try:
            right = await self._passwords.verify(stored, password, known=known)
        except TooManyAttempts:
            # Nobody looked at it: strangers who fill the queue must not use up the owner's attempts.
            self._throttle.give_back(*keys)
            raise
        if not right or account is None:
            await self._note_failure(account.id if account else None, address)
            raise NotAuthenticated("wrong user or password")
        self._throttle.give_back(*keys)
        self._throttle.forget(keys[0][0])
        return account

    async def _note_failure(self, account_id: int | None, address: str) -> None:
        # Each one in the log, for fail2ban and the like; in the audit log, strangers must not fill the disk.
        log.warning("login refused", extra={"address": address, "account": account_id})
        try:
            self._throttle.take(("audit", _AUDITED_FAILURES))
        except TooManyAttempts:
            return
        now = int(time.time())
        await self._store.sql_write(
            lambda db: accounts.audit(db, "login_failed", now, account_id=account_id, address=address)
        )

    async def refresh(self, token: str, address: str) -> Login:
        """Exchange a refresh token; raises NotAuthenticated, and revokes the device when a copy shows up."""
        if not accounts.knows_refresh_token(self._rows, token):
            # Said without a write: made-up tokens cost the disk nothing.
            raise NotAuthenticated("the refresh token is not valid (any more): log in again")
        network = network_of(address)
        now = int(time.time())

        def work(db: Database) -> accounts.Refreshed | accounts.Refused:
            answer = accounts.refresh(db, self._keys.refresh, token, network, now, self._refresh_seconds)
            if isinstance(answer, accounts.Refused) and answer.revoked is not None:
                device = answer.revoked
                accounts.audit(
                    db, "refresh_token_reused", now, account_id=device.account_id, device_id=device.id, address=address
                )
            return answer

        answer = await self._store.sql_write(work)
        if isinstance(answer, Refreshed):
            return self._logged_in(answer.device, answer.token)
        if answer.revoked is not None:
            log.warning("a refresh token was used twice: device revoked", extra={"device": answer.revoked.id})
            self._forget_device(answer.revoked.id)
        raise NotAuthenticated("the refresh token is not valid (any more): log in again")

    async def logout(self, identity: Identity, address: str) -> None:
        """End the asking device."""
        await self.revoke_device(identity, identity.device_id, address, event="logout")

    async def change_password(self, identity: Identity, old: str, new: str, address: str) -> None:
        """Change the account's password and log out every other device; app passwords stay."""
        check_new_password(new, self._config.min_password_length)
        account = accounts.account_by_id(self._rows, identity.account_id)
        if account is None:
            raise NotAuthenticated("the account is gone")
        await self._check_password(account.name, old, address)
        hashed = await self._passwords.run(lambda: hash_password(new), known=True)
        now = int(time.time())

        def work(db: Database) -> list[Device]:
            accounts.set_password(db, account.id, hashed)
            others = [
                device
                for device in accounts.list_devices(db, account.id)
                if device.kind == "device" and device.id != identity.device_id
            ]
            for device in others:
                accounts.revoke(db, device, now)
            accounts.audit(
                db, "password_changed", now, account_id=account.id, device_id=identity.device_id, address=address
            )
            return others

        for device in await self._store.sql_write(work):
            self._forget_device(device.id)

    # --- pairing by code ---------------------------------------------------------------------------------------------

    def begin_pairing(self, device_name: str, scope: str, address: str) -> tuple[str, Pending]:
        """A code to show; raises TooManyAttempts when too many are pending."""
        return self._flow.begin(
            accounts.check_name(device_name, "device"), accounts.parse_scopes(scope), network_of(address)
        )

    def find_pairing(self, identity: Identity, user_code: str) -> Pending | None:
        """What a code is about, for the person who is asked; guesses are counted."""
        key = (("pairing", identity.account_id), ACCOUNT_AND_ADDRESS)
        self._throttle.check(key)
        pending = self._flow.find(user_code)
        if pending is None:
            self._throttle.count(key)
        return pending

    async def decide_pairing(self, identity: Identity, user_code: str, approve: bool, address: str) -> Pending | None:
        """Approve or turn down a pending code; None when there is no such code."""
        pending = self.find_pairing(identity, user_code)
        if pending is None or pending.denied or pending.approved_by not in (None, identity.account_id):
            return None
        if not approve:
            pending.denied = True
        else:
            # Nobody can give away more than they have.
            pending.approved_scopes = pending.scopes & identity.scopes
            pending.approved_by = identity.account_id
            pending.approved_on = identity.device_id
        event = "pairing_approved" if approve else "pairing_denied"
        now = int(time.time())
        await self._store.sql_write(
            lambda db: accounts.audit(
                db, event, now, account_id=identity.account_id, device_id=identity.device_id, address=address,
                detail=pending.device_name,
            )
        )  # fmt: skip
        return pending

    async def poll_pairing(self, device_code: str, address: str) -> Login:
        """The tokens of an approved pairing; raises DeviceFlowPending until then."""
        pending = self._flow.poll(device_code)
        account_id = pending.approved_by
        assert account_id is not None
        self.look_for_other_processes()
        if pending.approved_on not in self._epochs:
            raise DeviceFlowPending("access_denied", "the device that approved it was cut off since")
        network = network_of(address)
        now = int(time.time())

        def work(db: Database) -> tuple[Device, str]:
            device = accounts.add_device(db, account_id, pending.device_name, pending.approved_scopes, network, now)
            token = accounts.first_refresh_token(db, device, network, now, self._refresh_seconds)
            accounts.audit(db, "paired", now, account_id=account_id, device_id=device.id, address=address)
            return device, token

        return self._logged_in(*await self._store.sql_write(work))

    # --- devices -----------------------------------------------------------------------------------------------------

    def devices(self, identity: Identity) -> list[Device]:
        return accounts.list_devices(self._rows, identity.account_id)

    def device(self, account_id: int, device_id: int) -> Device | None:
        return accounts.find_device(self._rows, account_id, device_id)

    async def revoke_device(self, identity: Identity, device_id: int, address: str, event: str = "revoked") -> bool:
        """Cut a device of the same account off, at once; False when there is no such device."""
        now = int(time.time())

        def work(db: Database) -> bool:
            device = accounts.find_device(db, identity.account_id, device_id)
            if device is None or device.revoked_at is not None:
                return False
            accounts.revoke(db, device, now)
            accounts.audit(
                db, event, now, account_id=identity.account_id, device_id=device_id, address=address, detail=device.name
            )
            return True

        done = await self._store.sql_write(work)
        self._forget_device(device_id if done else -1)
        return done

    async def add_app_password(self, identity: Identity, name: str, scope: str, address: str) -> tuple[Device, str]:
        """A password for one program, shown once; it can do no more than who makes it."""
        scopes = accounts.parse_scopes(scope)
        if missing := scopes - identity.scopes:
            raise NotAllowed(min(missing))
        password = "sa_" + secrets.token_urlsafe(24)
        now = int(time.time())

        def work(db: Database) -> Device:
            device = accounts.add_device(
                db, identity.account_id, name, scopes, network_of(address), now, app_password=password
            )
            accounts.audit(
                db, "app_password_made", now, account_id=identity.account_id, device_id=device.id, address=address,
                detail=name,
            )  # fmt: skip
            return device

        device = await self._store.sql_write(work)
        self._epochs[device.id] = device.epoch
        return device, password

    def audit_log(self, identity: Identity, before: int | None, limit: int) -> list[AuditEntry]:
        """What happened to the account's access, the newest first."""
        return accounts.list_audit(self._rows, identity.account_id, before=before, limit=limit)

    # --- housekeeping ------------------------------------------------------------------------------------------------

    async def store_last_seen(self) -> None:
        """Write down which devices were active since the last call."""
        seen, self._seen = self._seen, {}
        if seen:
            rows = [(device, at, network) for device, (at, network) in seen.items()]
            await self._store.sql_write(lambda db: accounts.mark_seen(db, rows))

    def close(self) -> None:
        self._passwords.close()

    @property
    def _refresh_seconds(self) -> int:
        return self._config.refresh_token_days * 86400

    def _logged_in(self, device: Device, refresh_token: str) -> Login:
        # Asked for again: another process may have revoked it since it was written.
        current = accounts.find_device(self._rows, device.account_id, device.id)
        if current is not None and current.revoked_at is None:
            self._epochs[device.id] = current.epoch
        access = self._tokens.issue(Identity(device.account_id, device.id, device.scopes), device.epoch)
        return Login(access, self._config.access_token_seconds, refresh_token, device)

    def _forget_device(self, device_id: int) -> None:
        if self._epochs.pop(device_id, None) is not None:
            self._announce()

    def _announce(self) -> None:
        self._revoked.set()
        self._revoked = asyncio.Event()

    def _read_epochs(self) -> None:
        live = accounts.live_epochs(self._rows)
        gone = self._epochs.keys() - live.keys()
        for device_id in gone:
            del self._epochs[device_id]
        self._epochs.update(live)
        if gone:
            self._announce()

    def look_for_other_processes(self) -> None:
        """Notice what the command line revoked: with each request and before each step of one, but not too often."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + accounts.NOTICED_SECONDS
        version = self._rows.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            self._data_version = version
            self._read_epochs()


__all__ = ["Auth", "BadCredentialInput", "Login"]
