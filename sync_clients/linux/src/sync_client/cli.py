# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line. Exit codes: README.md, "Exit codes"."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sync_client import __version__, control
from sync_client.config import Places, Settings, load, save
from sync_client.control import Message
from sync_client.errors import SyncError

Command = Callable[[argparse.Namespace, Places], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    top = parser()
    given = sys.argv[1:] if arguments is None else arguments
    options = top.parse_args(given)
    if not _encodable("".join(given)):
        top.error("an argument is no valid UTF-8; names like that are not synced")
    try:
        code = int(options.run(options, Places(options.profile)))
        if sys.stdout is not None:
            # Here, and not at the end of the interpreter, where nobody could catch what goes wrong.
            sys.stdout.flush()
        return code
    except SyncError as error:
        print(f"sync-client: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe had enough, as `head` has.
        _drop_output()
        return 0
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"sync-client: That did not work: {what}.", file=sys.stderr)
        _drop_output()
        return 1


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _drop_output() -> None:
    """What is not written yet would fail again when the interpreter ends."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="sync-client",
        description="Keeps a folder in step with your sync server.",
        epilog="Begin with: sync-client login https://…, sync-client init FOLDER, sync-client service install.",
    )
    top.add_argument("--version", action="version", version=f"sync-client {__version__}")
    top.add_argument(
        "--profile", default="default", metavar="NAME", help="one profile for each folder; default: default"
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Command, help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        command.set_defaults(run=run)
        return command

    login = add("login", _login, "log this device in, by a code you approve elsewhere or with your password")
    login.add_argument("server", help="address of the server, as in https://sync.example.org")
    login.add_argument("--user", metavar="NAME", help="log in with a password instead of a code")
    login.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    login.add_argument(
        "--device", metavar="NAME", default=socket.gethostname().split(".")[0], help="name of this device"
    )
    login.add_argument("--ca", metavar="FILE", type=Path, help="certificate of an authority of your own")
    add("logout", _logout, "end the login of this device")
    init = add("init", _init, "choose the folder to keep in step; it may hold files already")
    init.add_argument("folder", type=Path)
    start = add("start", _start, "run the daemon here, with live progress on a terminal")
    start.add_argument("--detach", action="store_true", help="run it in the background")
    add("stop", _stop, "stop the daemon")
    status = add("status", _status, "show what the daemon does, and what could not be synced")
    status.add_argument("--json", action="store_true", help="for programs")
    add("pause", _pause, "stop syncing until `resume`; kept over a restart")
    add("resume", _resume, "go on syncing")
    sync = add("sync", _sync, "look at everything now, and come back when both sides are equal")
    sync.add_argument("--now", action="store_true", help="the same; kept for the eye")
    ls = add("ls", _ls, "list a folder with the state of each file, also of those that are not here")
    ls.add_argument("path", nargs="?", default="")
    ls.add_argument("--json", action="store_true", help="for programs")
    versions = add("versions", _versions, "list the versions of a file the server keeps")
    versions.add_argument("path")
    versions.add_argument("--json", action="store_true", help="for programs")
    restore = add("restore", _restore, "bring back a deleted file or folder, or an old version of a file")
    restore.add_argument("path")
    restore.add_argument("--version", type=int, metavar="REVISION", dest="revision", help="as `versions` lists it")
    trash = add("trash", _trash, "list what was deleted and can be restored")
    trash.add_argument("--json", action="store_true", help="for programs")
    conflicts = add("conflicts", _conflicts, "list files changed on two devices at once, or settle one")
    conflicts.add_argument(
        "choice", nargs="?", default="list", choices=["list", "keep-local", "keep-remote", "keep-both"]
    )
    conflicts.add_argument("conflict", nargs="?", help="its path, its id, or all")
    conflicts.add_argument("--json", action="store_true", help="for programs")
    ignore = add("ignore", _ignore, "rules for what is not synced (.syncignore, the syntax of .gitignore)")
    ignore.add_argument("what", choices=["add", "list", "check"])
    ignore.add_argument("argument", nargs="?", help="the rule to add, or the path to check")
    exclude = add("exclude", _exclude, "leave folders on the server without having them here")
    exclude.add_argument("what", choices=["add", "remove", "list"])
    exclude.add_argument("paths", nargs="*")
    symlinks = add("symlinks", _symlinks, "say what becomes of symbolic links; without a choice, show it")
    symlinks.add_argument(
        "choice", nargs="?", choices=["keep", "skip"], help="keep them as links (never followed), or leave them out"
    )
    limit = add("limit", _limit, "limit the bandwidth, in KB a second; 0 is no limit")
    limit.add_argument("--up", type=int, metavar="KB")
    limit.add_argument("--down", type=int, metavar="KB")
    deletions = add("deletions", _deletions, "answer the question after many files vanished at once")
    deletions.add_argument(
        "answer", choices=["allow", "undo"], help="delete them on the server too, or fetch them back"
    )
    log = add("log", _log, "show the log")
    log.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    log.add_argument("-n", type=int, default=50, metavar="LINES")
    doctor = add("doctor", _doctor, "look for what is wrong and name the remedy")
    doctor.add_argument("--repair", action="store_true", help="set a damaged state database aside and make a new one")
    service = add("service", _service, "start with your session (systemd)")
    service.add_argument("what", choices=["install", "remove", "show"])
    completion = add("completion", _completion, "print the completion script of a shell")
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])
    return top


def _ask(places: Places, request: Message) -> Message:
    """Let the daemon do it; without one, do it here."""
    answer = control.ask(places.socket, request)
    if answer is None:
        from sync_client.agent import Agent

        agent = Agent(places, load(places))
        try:
            answer = agent.handle(request)
        finally:
            agent.close()
    return _checked(answer)


def _checked(answer: Message) -> Message:
    if "error" in answer:
        error = SyncError(str(answer["error"]))
        error.code = int(answer.get("code", 1))
        raise error
    return answer


def _print(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


# Beginning


def _login(options: argparse.Namespace, places: Places) -> int:
    from sync_client import credentials
    from sync_client.transport import Tokens, Transport

    settings = load(places)
    places.make()
    ca = options.ca.resolve() if options.ca else None
    if ca is not None and not ca.is_file():
        raise SyncError(f"There is no certificate at {ca}.")
    fresh: list[Tokens] = []
    transport = Transport(options.server, save=fresh.append, ca=ca)
    if transport.url.startswith("http://") and not _loopback(transport.url):
        raise SyncError("Without https anybody on the way could read your password and your files; use https://.")
    if options.user or options.password_stdin:
        if not options.user:
            raise SyncError("Say who you are: --user NAME.")
        transport.login(options.user, _password(options.password_stdin), options.device)
    else:
        _pair(transport, options.device)
    other = settings.server not in ("", transport.url) or settings.account not in ("", transport.account)
    stopped = False
    if other and places.database.exists():
        stopped = _halt(places)
        # What was agreed upon with another account says nothing about this one; gone before the login is there.
        _forget_state(places)
    settings.server, settings.account = transport.url, transport.account
    settings.device, settings.ca = options.device, str(ca or "")
    save(places, settings)
    credentials.store(places, fresh[-1])
    control.ask(places.socket, {"do": "reload"})
    print(f"Logged in to {transport.url} as “{options.device}”.")
    if not settings.folder:
        print("Next: sync-client init FOLDER")
    if stopped:
        print(_STOPPED)
    return 0


def _forget_state(places: Places) -> None:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", "-wal", "-shm"):
        file = places.database.with_name(places.database.name + suffix)
        if file.exists():
            file.rename(file.with_name(f"{places.database.name}.old-{stamp}{suffix}"))
    settings = load(places)
    if settings.folder:
        _mark(places, Path(settings.folder))


def _password(from_stdin: bool) -> str:
    try:
        with warnings.catch_warnings():
            # Without a terminal it would be read all the same, and shown.
            warnings.simplefilter("error", getpass.GetPassWarning)
            password = sys.stdin.readline().rstrip("\n") if from_stdin else getpass.getpass("Password: ")
    except (EOFError, getpass.GetPassWarning):
        password = ""
    if not password:
        raise SyncError(
            "No password came. Where there is no terminal, pipe it to `sync-client login --password-stdin`."
        )
    return password


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _pair(transport: Any, device: str) -> None:
    code = transport.begin_pairing(device)
    where = code.verification_uri if "://" in code.verification_uri else transport.url
    print(f"On a device that is logged in, open {where} and enter the code {code.user_code}", flush=True)
    wait = float(code.interval)
    until = time.monotonic() + code.expires_in
    while time.monotonic() < until:
        time.sleep(wait)
        answer = transport.poll_pairing(code.device_code)
        if answer is None:
            return
        if answer == "slow_down":
            wait += 5
    raise SyncError("The code has expired; log in again.")


def _logout(options: argparse.Namespace, places: Places) -> int:
    from sync_client import credentials
    from sync_client.transport import Transport

    settings = load(places)
    stopped = _halt(places)
    try:
        tokens = credentials.load(places)
        if tokens is not None and settings.server:
            Transport(settings.server, tokens=tokens, ca=Path(settings.ca) if settings.ca else None).logout()
    except SyncError as error:
        print(f"The server could not be told ({error})", file=sys.stderr)
    credentials.forget(places)
    print("Logged out" + (", and the daemon has stopped" if stopped else "") + ". Your files stay where they are.")
    return 0


def _init(options: argparse.Namespace, places: Places) -> int:
    from sync_client.folder import OWN

    settings = load(places)
    root: Path = options.folder.expanduser().resolve()
    if root.exists() and not root.is_dir():
        raise SyncError(f"{root} is not a folder.")
    for own in (places.config, places.state, places.runtime):
        if own.resolve().is_relative_to(root):
            raise SyncError(
                f"{root} holds {own}, where the login and the state are kept: they would be synced too, and change with"
                " every sync. Choose a folder in it."
            )
    for above in root.parents:
        if (above / OWN).is_dir():
            raise SyncError(f"{above} is synced already, and {root} lies in it; choose another folder.")
    moved = bool(settings.folder) and Path(settings.folder) != root
    old = root / OWN / "id"
    if old.exists() and not _is_ours(places, old.read_text().strip()):
        raise SyncError(
            f"{root} is synced already by another profile or computer. If that one is no more, remove {root / OWN}"
            " and try again."
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        for below, folders, _ in os.walk(root):
            if OWN in folders and below != str(root):
                raise SyncError(f"{below} is synced already, and lies in {root}; choose another folder.")
        if not os.access(root, os.W_OK):
            raise PermissionError
        stopped = _halt(places)
        settings.folder = str(root)
        if moved and not old.exists() and places.database.exists():
            # Another folder: what was agreed upon for the old one would look like a deletion of everything.
            places.make()
            save(places, settings)
            _forget_state(places)
        else:
            _mark(places, root)
    except PermissionError:
        raise SyncError(f"{root} cannot be written to; make it writable or choose another folder.") from None
    save(places, settings)
    print(f"{root} will be kept in step.", end=" ")
    print(_STOPPED if stopped else "Next: sync-client service install (or: sync-client start)")
    return 0


def _mark(places: Places, root: Path) -> None:
    from sync_client.agent import new_mark, open_trees
    from sync_client.folder import Folder

    places.make()
    trees = open_trees(places)
    mark = trees.setting("mark") or new_mark()
    emptied = (root / ".sync-client" / "id").exists() is False and trees.count("l_name IS NOT NULL") > 1
    if emptied:
        # The folder was made anew on purpose: what is missing in it was not deleted, it was never fetched.
        with trees.change():
            trees.db.execute(
                "UPDATE entry SET s_parent=NULL, s_name=NULL, s_kind=NULL, s_hash=NULL, s_exec=NULL, s_rev=NULL,"
                " l_parent=NULL, l_name=NULL, l_kind=NULL, l_hash=NULL, l_exec=NULL, l_ino=NULL WHERE id<>1"
            )
    Folder(root).prepare(mark)
    with trees.change():
        trees.remember("mark", mark)
    trees.close()


def _is_ours(places: Places, mark: str) -> bool:
    from sync_client.agent import open_trees

    if not places.database.exists():
        return False
    trees = open_trees(places)
    try:
        return trees.setting("mark") == mark
    finally:
        trees.close()


# The daemon


def _start(options: argparse.Namespace, places: Places) -> int:
    if options.detach:
        return _detach(places)
    from sync_client.agent import Agent, shows_progress

    agent = Agent(places, load(places))
    if shows_progress():
        agent.show = _live
    try:
        code = agent.run()
    finally:
        agent.close()
    if shows_progress():
        print(file=sys.stderr)
    return code or (agent.code if agent.state == "failing" else 0)


def _detach(places: Places) -> int:
    from sync_client.agent import Running

    if control.ask(places.socket, {"do": "status"}) is not None:
        raise Running("The daemon is running already; `sync-client status` shows what it does.")
    process = subprocess.Popen(
        [sys.executable, "-m", "sync_client", "--profile", places.profile, "start"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
    )
    for _ in range(100):
        time.sleep(0.1)
        if process.poll() is not None:
            assert process.stderr is not None
            error = SyncError(process.stderr.read().decode().strip().removeprefix("sync-client: "))
            error.code = process.returncode
            raise error
        if control.ask(places.socket, {"do": "status"}) is not None:
            print("The daemon runs. `sync-client status` shows what it does, `sync-client stop` ends it.")
            return 0
    raise SyncError("The daemon did not come up; look at `sync-client log`.")


def _live(text: str) -> None:
    width = shutil.get_terminal_size().columns
    sys.stderr.write("\r\x1b[K" + text[: width - 1])
    sys.stderr.flush()


def _stop(options: argparse.Namespace, places: Places) -> int:
    print("The daemon has stopped." if _halt(places) else "No daemon runs.")
    return 0


_STOPPED = "The daemon was stopped; to go on: sync-client start --detach (or: sync-client service install)"


def _halt(places: Places) -> bool:
    """Stop the daemon and wait until it is gone; tell whether one ran."""
    from sync_client.agent import Running, take_lock

    ran = control.ask(places.socket, {"do": "stop"}) is not None
    if not places.lock.exists():
        return ran
    until = time.monotonic() + (60 if ran else 0)
    while True:
        try:
            os.close(take_lock(places))
            return ran
        except Running:
            if time.monotonic() >= until:
                raise
            time.sleep(0.05)


def _status(options: argparse.Namespace, places: Places) -> int:
    answer = control.ask(places.socket, {"do": "status"})
    if answer is None:
        settings = load(places)
        answer = {
            "state": "not running",
            "problem": "",
            "server": settings.server,
            "folder": settings.folder,
            "device": settings.device,
            "problems": [],
        }
    _checked(answer)
    if options.json:
        _print(answer)
    else:
        _tell(answer)
    return 0 if answer["state"] not in ("not running",) else 3


def _tell(status: Message) -> None:
    print(f"{status['folder'] or 'no folder'}  ⇄  {status['server'] or 'no server'}   as “{status['device']}”")
    print(f"state     {status['state']}" + (f": {status['busy']}" if status.get("busy") else ""))
    if status["problem"]:
        print(f"          {status['problem']}")
    if status["state"] == "not running":
        print(f"          {_next_step(status)}")
        return
    print(f"files     {status['files']} in {status['folders']} folders, {status['waiting']} waiting")
    if status["excluded"]:
        print(f"excluded  {', '.join(status['excluded'])}")
    if status["polling"]:
        print("watching  by looking now and then; `sync-client doctor` says how to have changes at once")
    _tell_problems(status["problems"])


def _tell_problems(problems: list[Message]) -> None:
    for problem in problems[:20]:
        print(f"problem   {problem['path']}: {problem['reason']}")
    if len(problems) > 20:
        print(f"          and {len(problems) - 20} more: sync-client status --json, while the daemon runs")


def _next_step(status: Message) -> str:
    if not status["server"]:
        return "Begin with: sync-client login https://…"
    if not status["folder"]:
        return "Next: sync-client init FOLDER"
    return "Start it: sync-client service install, or sync-client start"


def _pause(options: argparse.Namespace, places: Places) -> int:
    _ask(places, {"do": "pause", "paused": True})
    print("Paused; `sync-client resume` goes on.")
    return 0


def _resume(options: argparse.Namespace, places: Places) -> int:
    _ask(places, {"do": "pause", "paused": False})
    print("Going on.")
    return 0


def _sync(options: argparse.Namespace, places: Places) -> int:
    answer = control.ask(places.socket, {"do": "sync"}, timeout=None)
    if answer is None:
        from sync_client.agent import Agent, shows_progress

        agent = Agent(places, load(places))
        if shows_progress():
            agent.show = _live
        try:
            agent.once()
            problems = agent.status(agent.trees)["problems"]
        finally:
            agent.close()
    else:
        problems = _checked(answer)["status"]["problems"]
    if problems:
        # Here too, for without a daemon the status knows nothing of them.
        print(f"In step, but for {len(problems)} files:")
        _tell_problems(problems)
        return 11
    print("In step.")
    return 0


# Looking and changing


def _when(millis: int | None) -> str:
    return datetime.fromtimestamp((millis or 0) / 1000).strftime("%Y-%m-%d %H:%M:%S")


def _ls(options: argparse.Namespace, places: Places) -> int:
    items = _ask(places, {"do": "ls", "path": options.path})["items"]
    if options.json:
        _print(items)
        return 0
    for item in items:
        # As `ls -F` marks them.
        name = item["name"] + {"folder": "/", "symlink": "@"}.get(item["kind"], "")
        print(f"{'' if item['kind'] == 'folder' else item['size'] or 0:>12}  {item['state']:<12}  {name}")
    return 0


def _versions(options: argparse.Namespace, places: Places) -> int:
    answer = _ask(places, {"do": "versions", "path": options.path})
    if options.json:
        _print(answer["versions"])
        return 0
    for v in answer["versions"]:
        now = "  current" if v["current"] else ""
        print(f"{v['revision']:>8}  {_when(v['time'])}  {v['size']:>12}  {v['device'] or ''}{now}")
    return 0


def _restore(options: argparse.Namespace, places: Places) -> int:
    _ask(places, {"do": "restore", "path": options.path, "version": options.revision})
    print("Restored; it arrives here in a moment.")
    return 0


def _trash(options: argparse.Namespace, places: Places) -> int:
    items = _ask(places, {"do": "trash"})["trash"]
    if options.json:
        _print(items)
        return 0
    for item in items:
        print(f"{_when(item['deleted'])}  {item['device'] or '':<16}  {item['path']}")
    return 0


def _conflicts(options: argparse.Namespace, places: Places) -> int:
    found = _ask(places, {"do": "conflicts"})["conflicts"]
    if options.choice == "list":
        if options.json:
            _print(found)
        elif not found:
            print("No conflicts.")
        for c in [] if options.json else found:
            print(f"{c['id']}  {c['path']}")
            print(f"    {c['file']}: {c['file_device'] or 'unknown'}, {_when(c['file_time'])}")
            print(f"    {c['copy']}: {c['copy_device'] or 'unknown'}, {_when(c['copy_time'])}")
        return 0
    if not options.conflict:
        raise SyncError("Name the conflict: its path or its id, as `sync-client conflicts` lists it, or all.")
    device = load(places).device
    chosen = [c for c in found if options.conflict in ("all", c["id"], c["path"], c["copy"])]
    if not chosen:
        raise SyncError(f"There is no open conflict “{options.conflict}”; `sync-client conflicts` lists them.")
    for c in chosen:
        keep = "both"
        if options.choice != "keep-both":
            # The copy came later; it is ours unless the file that kept the name is.
            ours = "theirs" if c["file_device"] == device and c["copy_device"] != device else "mine"
            keep = ours if options.choice == "keep-local" else "theirs" if ours == "mine" else "mine"
        _ask(places, {"do": "resolve", "conflict": c["id"], "keep": keep})
    print(f"Settled {len(chosen)}.")
    return 0


def _ignore(options: argparse.Namespace, places: Places) -> int:
    if options.what == "list":
        for line in _ask(places, {"do": "ignore"})["rules"]:
            print(line)
        return 0
    if not options.argument:
        raise SyncError("Name the rule to add." if options.what == "add" else "Name the path to check.")
    if options.what == "add":
        _ask(places, {"do": "ignore", "add": options.argument})
        return 0
    rule = _ask(places, {"do": "ignore", "check": _here(options.argument)})["rule"]
    print(f"ignored by {rule}" if rule else "not ignored")
    return 0 if rule else 1


def _here(path: str) -> str:
    """A path as typed: relative to the synced folder, or to where the user is when that exists."""
    return str(Path(path).absolute()) if Path(path).exists() else path


def _exclude(options: argparse.Namespace, places: Places) -> int:
    request: Message = {"do": "exclude"}
    if options.what != "list":
        if not options.paths:
            raise SyncError("Name the folders.")
        request[options.what] = options.paths
    for path in _ask(places, request)["excluded"]:
        print(path)
    return 0


def _symlinks(options: argparse.Namespace, places: Places) -> int:
    print(_ask(places, {"do": "symlinks", "choice": options.choice})["symlinks"])
    return 0


def _limit(options: argparse.Namespace, places: Places) -> int:
    request: Message = {"do": "limit"}
    for name, value in (("upload_limit", options.up), ("download_limit", options.down)):
        if value is not None:
            if value < 0:
                raise SyncError("A limit cannot be negative; 0 is no limit.")
            request[name] = value * 1000
    answer = _ask(places, request)
    for name, label in (("upload_limit", "up"), ("download_limit", "down")):
        print(f"{label:<5} {f'{answer[name] // 1000} KB/s' if answer[name] else 'no limit'}")
    return 0


def _deletions(options: argparse.Namespace, places: Places) -> int:
    if control.ask(places.socket, {"do": "status"}) is None:
        raise SyncError("Start the daemon first: the answer is for it.")
    _ask(places, {"do": "deletions", "answer": options.answer})
    print(
        "They will be deleted on the server; its trash keeps them." if options.answer == "allow" else "They come back."
    )
    return 0


def _log(options: argparse.Namespace, places: Places) -> int:
    while options.follow and not places.log.exists():
        time.sleep(0.2)
    try:
        file = places.log.open(errors="replace")
    except FileNotFoundError:
        print("Nothing logged yet.", file=sys.stderr)
        return 0
    with file:
        lines = file.readlines()
        for line in lines[max(0, len(lines) - options.n) :]:
            print(line, end="")
        sys.stdout.flush()
        while options.follow:
            line = file.readline()
            if line:
                print(line, end="", flush=True)
            else:
                time.sleep(0.2)
                if not places.log.exists() or os.fstat(file.fileno()).st_ino != places.log.stat().st_ino:
                    return _log(options, places)
    return 0


def _doctor(options: argparse.Namespace, places: Places) -> int:
    from sync_client import doctor

    if options.repair:
        stopped = _halt(places)
        for line in doctor.repair(places):
            print(line)
        if stopped:
            print(_STOPPED)
        return 0
    bad = 0
    for finding in doctor.examine(places):
        print(f"{'ok  ' if finding.ok else 'BAD '} {finding.what}")
        if not finding.ok:
            bad += 1
            print(f"     → {finding.remedy}")
    return 1 if bad else 0


def _service(options: argparse.Namespace, places: Places) -> int:
    from sync_client import service

    settings: Settings = load(places)
    if options.what == "show":
        print(service.unit_text(places, settings.folder), end="")
        return 0
    if options.what == "install" and not (settings.server and settings.folder):
        raise SyncError("First `sync-client login https://…` and `sync-client init FOLDER`.")
    done = service.install(places, settings.folder) if options.what == "install" else service.remove(places)
    for line in done:
        print(line)
    return 0


def _completion(options: argparse.Namespace, places: Places) -> int:
    from sync_client.completion import script

    print(script(parser(), options.shell), end="")
    return 0
