"""The command line."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import logging
import sqlite3
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sync_server import __version__, config, logs
from sync_server.auth import accounts
from sync_server.auth.errors import AuthError
from sync_server.auth.keys import KEY_FILE
from sync_server.auth.passwords import check_new_password, hash_password
from sync_server.store.interface import SyncError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sync_server.auth.database import Database
    from sync_server.config import Config
    from sync_server.store.check import Damage
    from sync_server.store.sqlite import SqliteStore

_STORE_SETTINGS = ("data_dir",)


class CommandError(Exception):
    """What the user did cannot be done; the text says why, in one sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 it could not be done, 2 it was not understood."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        settings = config.load({name: value for name, value in vars(options).items() if isinstance(value, str)})
    except config.ConfigError as error:
        parser.exit(2, f"sync-server: {error}\n")
    logs.set_up(settings)
    try:
        status: int = options.run(settings, options)
    except (CommandError, config.ConfigError, SyncError, AuthError, OSError, RuntimeError, UnicodeError) as error:
        print(f"sync-server: {error}", file=sys.stderr)
        return 1
    except sqlite3.Error as error:
        print(f"sync-server: the database in {settings.data_dir} cannot be used: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


class _Parser(argparse.ArgumentParser):
    """Without abbreviations: `--password X` must not be taken for --password-file, and X not land in the list of
    processes unnoticed."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **settings})


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sync-server",
        description="A private file-sync service for one person or a family.",
        epilog="Begin with: sync-server user add NAME, then sync-server serve. Both take --data-dir.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = _command(commands, "serve", "serve until SIGTERM", _serve)
    config.add_flags(serve)

    user = commands.add_parser("user", help="accounts", description="Manage accounts; works while the server runs.")
    users = user.add_subparsers(title="commands", metavar="COMMAND", required=True)
    set_password: tuple[tuple[str, str, Callable[[Config, argparse.Namespace], int]], ...] = (
        ("add", "make an account", _user_add),
        ("passwd", "set an account's password and log its devices out", _user_passwd),
    )
    for name, text, run in set_password:
        command = _command(users, name, text, run)
        command.add_argument("name", help="name of the account")
        command.add_argument(
            "--password-file",
            metavar="FILE",
            type=Path,
            help="file whose first line is the password; without it, it is asked for, or read from standard input",
        )
        if name == "add":
            command.add_argument("--quota", metavar="SIZE", help="bytes the account may keep, as in 20G")
        else:
            command.add_argument("--keep-devices", action="store_true", help="leave devices logged in")
        config.add_flags(command, only=(*_STORE_SETTINGS, "min_password_length"))
    config.add_flags(_command(users, "list", "list accounts", _user_list), only=_STORE_SETTINGS)
    quota = _command(users, "quota", "set how much an account may keep", _user_quota)
    quota.add_argument("name", help="name of the account")
    quota.add_argument("size", help="bytes, as in 20G, or none")
    config.add_flags(quota, only=_STORE_SETTINGS)

    apply = _command(users, "apply", "make accounts be as a list says: a line for each change", _user_apply)
    apply.description = (
        "Read a JSON list of {name, password, quota} from standard input, make what is missing and correct what "
        "differs. Accounts that are not listed stay."
    )
    apply.add_argument("--dry-run", action="store_true", help="only say what would change")
    config.add_flags(apply, only=(*_STORE_SETTINGS, "min_password_length", "default_quota"))

    device = commands.add_parser("device", help="devices", description="Manage devices; works while the server runs.")
    devices = device.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = _command(devices, "list", "list devices and app passwords", _device_list)
    listing.add_argument("name", nargs="?", help="of this account only")
    config.add_flags(listing, only=_STORE_SETTINGS)
    revoke = _command(devices, "revoke", "cut a device off, at once, also from a running server", _device_revoke)
    revoke.add_argument("id", type=int, help="number of the device, as `device list` shows it")
    config.add_flags(revoke, only=_STORE_SETTINGS)

    check = _command(commands, "check", "verify every content against its name; works while the server runs", _check)
    check.add_argument("--quick", action="store_true", help="only look whether the contents are there")
    config.add_flags(check, only=_STORE_SETTINGS)
    for name, text, job in (
        ("repair", "put damaged contents aside and list the files concerned; stop the server first", _repair),
        ("gc", "remove contents nothing refers to (a running server does it by itself); stop the server first", _gc),
    ):
        config.add_flags(_command(commands, name, text, job), only=_STORE_SETTINGS)
    backup = _command(commands, "backup", "copy everything consistently, while the server runs", _backup)
    backup.add_argument("destination", type=Path, help="folder; a later backup into the same one copies what is new")
    config.add_flags(backup, only=_STORE_SETTINGS)

    _command(commands, "openapi", "print the OpenAPI description", _openapi)
    _command(commands, "version", "print the version", _version)
    return parser


def _command(
    commands: argparse._SubParsersAction[_Parser],
    name: str,
    text: str,
    run: Callable[[Config, argparse.Namespace], int],
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    return command


# --- serving ---------------------------------------------------------------------------------------------------------


def _serve(settings: Config, _: argparse.Namespace) -> int:
    import uvloop

    from sync_server.server import serve

    uvloop.run(serve(settings))
    return 0


# --- accounts --------------------------------------------------------------------------------------------------------


def _no_store(settings: Config) -> CommandError:
    return CommandError(f"there is no store in {settings.data_dir}")


def _with_store(
    settings: Config, work: Callable[[SqliteStore], Awaitable[int]], role: str = "tool", *, make: bool = False
) -> int:
    """Run `work` on the store; only with `make` one that is not there is made."""
    from sync_server.server import store_settings
    from sync_server.store.sqlite import SqliteStore

    if not make and not (settings.data_dir / "db.sqlite3").exists():
        raise _no_store(settings)

    async def run() -> int:
        store = await SqliteStore.open(
            settings.data_dir, store_settings(settings), role="server" if role == "server" else "tool"
        )
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def _read_password(options: argparse.Namespace) -> str:
    """Never from the command line: that is for every user of the machine to read."""
    if options.password_file is not None:
        lines = options.password_file.read_text(encoding="utf-8").splitlines()
        password = lines[0] if lines else ""
    elif sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise CommandError("the two passwords differ")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise CommandError("there is no password: give it on standard input or with --password-file")
    return password


def _account(rows: Database, name: str) -> accounts.Account:
    found = accounts.find_account(rows, name)
    if found is None:
        raise CommandError(f"there is no account {name!r}")
    return found


def _size(text: str) -> int | None:
    if text.lower() == "none":
        return None
    return config.parse_size("the quota", text)


def _user_add(settings: Config, options: argparse.Namespace) -> int:
    password = _read_password(options)
    check_new_password(password, settings.min_password_length)
    quota = _size(options.quota) if options.quota else None
    hashed = hash_password(password)
    now = int(time.time())

    async def work(store: SqliteStore) -> int:
        account = await store.sql_write(lambda db: accounts.add_account(db, options.name, hashed, now))
        await store.sql_write(
            lambda db: accounts.audit(db, "account_made", now, account_id=account.id, detail="on the command line")
        )
        if options.quota:
            await _set_quota(store, settings, account.id, quota)
        print(f"made account {account.name}")
        return 0

    return _with_store(settings, work, make=True)


def _user_passwd(settings: Config, options: argparse.Namespace) -> int:
    password = _read_password(options)
    check_new_password(password, settings.min_password_length)
    hashed = hash_password(password)
    now = int(time.time())

    async def work(store: SqliteStore) -> int:
        def change(db: Database) -> int:
            account = _account(db, options.name)
            accounts.set_password(db, account.id, hashed)
            devices = [] if options.keep_devices else accounts.list_devices(db, account.id)
            for device in devices:
                accounts.revoke(db, device, now)
            accounts.audit(db, "password_changed", now, account_id=account.id, detail="on the command line")
            return len(devices)

        count = await store.sql_write(change)
        _until_noticed()
        print(f"password set; {count} devices and app passwords cut off")
        return 0

    return _with_store(settings, work)


def _user_list(settings: Config, _: argparse.Namespace) -> int:
    from sync_server.auth.database import Reads

    async def work(store: SqliteStore) -> int:
        rows = Reads(store)
        for account in accounts.list_accounts(rows):
            count = len(accounts.list_devices(rows, account.id))
            print(f"{account.id}\t{account.name}\tsince {_day(account.created_at)}\t{count} devices")
        return 0

    return _with_store(settings, work)


async def _set_quota(store: SqliteStore, settings: Config, account_id: int, quota: int | None) -> None:
    from sync_server.server import tree_settings
    from sync_server.tree import Tree

    await Tree(store, tree_settings(settings)).set_quota(account_id, quota)


def _user_quota(settings: Config, options: argparse.Namespace) -> int:
    from sync_server.auth.database import Reads

    quota = _size(options.size)

    async def work(store: SqliteStore) -> int:
        account = _account(Reads(store), options.name)
        await _set_quota(store, settings, account.id, quota)
        print(f"{account.name} may keep {'any amount' if quota is None else f'{quota} bytes'}")
        return 0

    return _with_store(settings, work)


def _user_apply(settings: Config, options: argparse.Namespace) -> int:
    import msgspec

    from sync_server import provision

    try:
        wanted = provision.read_wanted(sys.stdin.buffer.read(), settings.min_password_length)
    except msgspec.DecodeError as error:
        raise CommandError(f"the list cannot be used: {error}") from None

    async def work(store: SqliteStore) -> int:
        changes = await provision.apply(store, settings, wanted, dry_run=options.dry_run)
        if changes and not options.dry_run:
            _until_noticed()
        for line in changes:
            print(line)
        return 0

    return _with_store(settings, work, make=True)


def _device_list(settings: Config, options: argparse.Namespace) -> int:
    from sync_server.auth.database import Reads

    async def work(store: SqliteStore) -> int:
        rows = Reads(store)
        wanted = [_account(rows, options.name)] if options.name else accounts.list_accounts(rows)
        for account in wanted:
            for device in accounts.list_devices(rows, account.id):
                print(
                    f"{device.id}\t{account.name}\t{device.name}\t{device.kind}\t{' '.join(sorted(device.scopes))}\t"
                    f"last seen {_day(device.last_seen_at)} from {device.last_address or '-'}"
                )
        return 0

    return _with_store(settings, work)


def _until_noticed() -> None:
    """Whoever was cut off is refused by a serving process, too, before this says that it is done."""
    time.sleep(accounts.NOTICED_SECONDS)


def _device_revoke(settings: Config, options: argparse.Namespace) -> int:
    now = int(time.time())

    async def work(store: SqliteStore) -> int:
        def cut(db: Database) -> accounts.Device:
            for account in accounts.list_accounts(db):
                device = accounts.find_device(db, account.id, options.id)
                if device is not None and device.revoked_at is None:
                    accounts.revoke(db, device, now)
                    accounts.audit(
                        db, "revoked", now, account_id=account.id, device_id=device.id, detail="on the command line"
                    )
                    return device
            raise CommandError(f"there is no device {options.id}")

        device = await store.sql_write(cut)
        _until_noticed()
        print(f"cut off {device.name}")
        return 0

    return _with_store(settings, work)


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


# --- maintenance -----------------------------------------------------------------------------------------------------


def _check(settings: Config, options: argparse.Namespace) -> int:
    from sync_server.health import LastCheck, write_last_check
    from sync_server.store.check import check

    if not (settings.data_dir / "db.sqlite3").exists():
        raise _no_store(settings)
    try:
        report = check(settings.data_dir, _print_damage, quick=options.quick)
    except sqlite3.DatabaseError as error:
        # A database that is only busy says nothing about what is in it.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            write_last_check(settings.data_dir, LastCheck(int(time.time() * 1000), False, 0))
        raise
    if not options.quick:
        write_last_check(settings.data_dir, LastCheck(int(time.time() * 1000), report.ok, report.blobs))
    for line in report.database:
        print(line)
    print(f"{report.blobs} contents, {report.bytes} bytes: {'all good' if report.ok else 'NOT GOOD, see `repair`'}")
    return 0 if report.ok else 1


def _print_damage(damage: Damage) -> None:
    print(f"{damage.problem}: {damage.blob} of {', '.join(damage.files) or 'no file'}")


def _repair(settings: Config, _: argparse.Namespace) -> int:
    from sync_server.store.check import repair

    async def work(store: SqliteStore) -> int:
        report = await repair(store, _print_damage)
        print(f"put aside {report.quarantined} contents, corrected {report.recounted} counts")
        return 0

    return _with_store(settings, work, role="server")


def _gc(settings: Config, _: argparse.Namespace) -> int:
    from sync_server.store import maintenance

    async def work(store: SqliteStore) -> int:
        report = await maintenance.collect(store)
        print(f"removed {report.removed} contents, {report.bytes} bytes, and {report.orphans} stray files")
        return 0

    return _with_store(settings, work, role="server")


def _backup(settings: Config, options: argparse.Namespace) -> int:
    from sync_server.store import maintenance

    if not (settings.data_dir / "db.sqlite3").exists():
        raise _no_store(settings)
    report = maintenance.backup(settings.data_dir, options.destination)
    key = settings.data_dir / KEY_FILE
    if key.exists():
        # Without it a restored server makes a new one, and devices fetch new tokens: good to have, not needed.
        copy = options.destination / KEY_FILE
        copy.touch(0o600)
        copy.write_bytes(key.read_bytes())
    print(f"{report.blobs} contents, {report.copied} of them new, {report.bytes} bytes, in {report.path}")
    return 0


# --- about -----------------------------------------------------------------------------------------------------------


def _openapi(_: Config, __: argparse.Namespace) -> int:
    from sync_server import openapi
    from sync_server.app import OPERATIONS

    sys.stdout.buffer.write(openapi.encode(OPERATIONS) + b"\n")
    return 0


def _version(_: Config, __: argparse.Namespace) -> int:
    print(__version__)
    return 0


def run() -> NoReturn:
    """Entry point."""
    logging.captureWarnings(True)
    sys.exit(main())
