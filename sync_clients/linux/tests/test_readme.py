# SPDX-License-Identifier: GPL-3.0-or-later
"""The README is followed to the letter, on two machines."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from machines import PASSWORD, Account, Machine, eventually

from sync_client import errors
from sync_client.cli import parser
from sync_client.cycle import MassDeletion

HERE = Path(__file__).parents[1]
README = (HERE / "README.md").read_text()

# Stands in for pipx: builds the package from the path as pipx would, but takes the dependencies that are here already.
_PIPX = """#!/bin/sh
set -e
[ "$1" = install ]
cd "$2"
{python} -m hatchling build -t wheel -d "$HOME/dist" >/dev/null
ls "$HOME"/dist/sync_client-*.whl >/dev/null
mkdir -p "$HOME/.local/bin"
ln -s {client} "$HOME/.local/bin/sync-client"
"""


def _blocks(section: str) -> list[str]:
    text = README.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def _follow(one: Machine, script: str, cwd: Path, input: str = "") -> str:
    path = f"{one.home}/.local/bin:{one.home}/bin:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", "-ec", script], env=one.env | {"PATH": path}, cwd=cwd, text=True, input=input, capture_output=True,
        timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    return done.stdout


def test_a_new_user_sees_a_file_travel_both_ways(account: Account, machine: Callable[[str], Machine]) -> None:
    one, two = machine("one"), machine("two")
    for user in (one, two):
        (user.home / "bin").mkdir()
        pipx = user.home / "bin" / "pipx"
        pipx.write_text(_PIPX.format(python=sys.executable, client=Path(sys.executable).with_name("sync-client")))
        pipx.chmod(0o755)
        _follow(user, _blocks("Install")[0], HERE.parents[1])
        begin = _blocks("Two minutes")[0].replace("https://sync.example.org", account.url)
        # The other way the README names: a password, here from standard input.
        begin = begin.replace(account.url, f"{account.url} --user {account.name} --password-stdin --device {user.name}")
        try:
            _follow(user, begin, user.home, PASSWORD + "\n")
            if user is one:
                assert "In step." in _follow(user, _blocks("Two minutes")[1], user.home)
        except BaseException:
            _follow(user, "sync-client stop", user.home)
            raise
    try:
        eventually(lambda: two.has("hello.txt", "hello\n"), why=two.log)
        two.write("back.txt", "back")
        eventually(lambda: one.has("back.txt", "back"), why=one.log)
    finally:
        for user in (one, two):
            _follow(user, "sync-client stop", user.home)


def test_every_command_and_exit_code_is_in_the_readme() -> None:
    actions = [action for action in parser()._actions if action.choices]
    for command in actions[0].choices or ():
        assert re.search(rf"\b{command}\b", README), command
    kinds: list[type[errors.SyncError]] = [MassDeletion]
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.SyncError):
            kinds.append(kind)
    for code in {kind.code for kind in kinds}:
        assert f"\n| {code} | " in README, code
