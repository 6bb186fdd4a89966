from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils._config_files import (
    ConfigFilesError,
    Outcome,
    ensure,
    parse_entries,
)

Ensure = Callable[..., Outcome]


def run(command: list[str]) -> tuple[int, str, str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def entry(path: Path | str, content: Any = None, **more: Any) -> dict[str, Any]:
    result: dict[str, Any] = {"path": str(path), "owner": str(os.getuid()), "group": str(os.getgid()), **more}
    if content is not None:
        result["content"] = content
    return result


@pytest.fixture
def put(tmp_path: Path) -> Ensure:
    def put(*files: dict[str, Any], check: bool = False, **more: Any) -> Outcome:
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        return ensure(
            parse_entries(files, accounts_may_be_missing=check),
            run=run,
            check=check,
            temporary_directory=scratch,
            pending_directory=tmp_path / "state" / "pending",
            **more,
        )

    return put


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    path = tmp_path / "etc"
    path.mkdir()
    return path


def snapshot(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(directory)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in directory.rglob("*")
    }


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_file_is_written_with_its_mode_and_a_second_run_changes_nothing(put: Ensure, etc: Path) -> None:
    files = [entry(etc / "app.conf", "a = 1\n", mode="0640")]

    first, second = put(*files), put(*files)

    assert (etc / "app.conf").read_text() == "a = 1\n"
    assert mode_of(etc / "app.conf") == 0o640
    assert (first.changed, first.changed_files) == (True, [str(etc / "app.conf")])
    assert (second.changed, second.changed_files, second.diff) == (False, [], [])


def test_modes_default_to_0644_for_files_and_0755_for_directories_whatever_the_umask(put: Ensure, etc: Path) -> None:
    before = os.umask(0o077)
    try:
        put(entry(etc / "conf.d", state="directory"), entry(etc / "conf.d" / "a", ""))
    finally:
        os.umask(before)

    assert (mode_of(etc / "conf.d"), mode_of(etc / "conf.d" / "a")) == (0o755, 0o644)


def test_a_directory_may_be_listed_after_what_it_holds(put: Ensure, etc: Path) -> None:
    put(
        entry(etc / "a" / "b" / "c", "x"),
        entry(etc / "a" / "b", state="directory"),
        entry(etc / "a", state="directory"),
    )

    assert (etc / "a" / "b" / "c").read_text() == "x"


def test_only_the_mode_is_corrected_when_only_the_mode_drifted(put: Ensure, etc: Path) -> None:
    path = etc / "secret"
    path.write_text("x")
    path.chmod(0o644)
    inode = path.stat().st_ino

    outcome = put(entry(path, "x", mode="0600"))

    assert mode_of(path) == 0o600
    assert path.stat().st_ino == inode
    assert outcome.changed_files == [str(path)]
    assert "0644" in outcome.diff[0]["before"]
    assert "0600" in outcome.diff[0]["after"]


def test_owner_and_group_are_corrected_for_files_and_directories(put: Ensure, etc: Path) -> None:
    # Only root may give files away; for others the test still proves that naming themselves works.
    uid, gid = (4321, 12345) if os.getuid() == 0 else (os.getuid(), os.getgid())
    (etc / "file").write_text("x")
    (etc / "directory").mkdir(mode=0o755)
    wanted = {"owner": str(uid), "group": str(gid)}

    put(
        entry(etc / "file", "x", **wanted),
        entry(etc / "directory", state="directory", **wanted),
        entry(etc / "new", "y", mode="4755", **wanted),
    )

    for name, mode in {"file": 0o644, "directory": 0o755, "new": 0o4755}.items():
        found = (etc / name).stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (uid, gid, mode)


def test_a_mapping_is_written_as_json(put: Ensure, etc: Path) -> None:
    put(entry(etc / "daemon.json", {"live-restore": True, "log-opts": {"max-size": "10m"}}))

    assert (etc / "daemon.json").read_text() == (
        '{\n  "live-restore": true,\n  "log-opts": {\n    "max-size": "10m"\n  }\n}\n'
    )


def test_a_symbolic_link_is_replaced_and_its_target_left_alone(put: Ensure, etc: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("precious")
    target.chmod(0o600)
    (etc / "link").symlink_to(target)

    outcome = put(entry(etc / "link", "mine"))

    assert not (etc / "link").is_symlink()
    assert (etc / "link").read_text() == "mine"
    assert (target.read_text(), mode_of(target)) == ("precious", 0o600)
    assert str(target) in outcome.diff[0]["before"]


def test_a_link_with_the_wanted_text_behind_it_is_replaced_all_the_same(put: Ensure, etc: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("same")
    (etc / "link").symlink_to(tmp_path / "elsewhere")

    put(entry(etc / "link", "same"))

    assert not (etc / "link").is_symlink()


def test_a_link_where_a_directory_is_wanted_is_refused(put: Ensure, etc: Path, tmp_path: Path) -> None:
    (etc / "link").symlink_to(tmp_path)

    with pytest.raises(ConfigFilesError, match="symbolic link"):
        put(entry(etc / "link", state="directory", mode="0700"))

    assert (etc / "link").is_symlink()


def test_absent_removes_a_file_and_a_link_but_not_the_target(put: Ensure, etc: Path) -> None:
    (etc / "file").write_text("old\n")
    (etc / "kept").write_text("x")
    (etc / "link").symlink_to(etc / "kept")
    files = [entry(etc / name, state="absent") for name in ("file", "link", "never", "no/such/place")]

    first, second = put(*files), put(*files)

    assert names_in(etc) == ["kept"]
    assert first.changed_files == [str(etc / "file"), str(etc / "link")]
    assert not second.changed


def test_a_directory_is_removed_only_when_recursive_is_set(put: Ensure, etc: Path) -> None:
    (etc / "tree" / "sub").mkdir(parents=True)
    (etc / "tree" / "sub" / "file").write_text("x")

    with pytest.raises(ConfigFilesError, match="recursive: true"):
        put(entry(etc / "tree", state="absent"))
    assert (etc / "tree" / "sub" / "file").exists()
    put(entry(etc / "tree", state="absent", recursive=True))

    assert not (etc / "tree").exists()


def test_removing_a_tree_does_not_follow_links_out_of_it(put: Ensure, etc: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("x")
    (etc / "tree").mkdir()
    (etc / "tree" / "link").symlink_to(tmp_path / "outside")

    put(entry(etc / "tree", state="absent", recursive=True))

    assert (tmp_path / "outside" / "precious").exists()


def test_a_refused_file_leaves_everything_untouched_and_the_tool_is_quoted(
    put: Ensure, etc: Path, tmp_path: Path
) -> None:
    (etc / "first").write_text("old")
    before = snapshot(tmp_path)
    refuse = "sh -c 'echo \"line 3: bad keyword in $0\" >&2; exit 7' %s"

    with pytest.raises(ConfigFilesError) as caught:
        put(
            entry(etc / "first", "new"),
            entry(etc / "new.d", state="directory"),
            entry(etc / "new.d" / "second", "bad", validate=refuse),
            pending="app",
        )

    message = str(caught.value)
    assert f"{etc}/new.d/second is not valid" in message
    assert f"line 3: bad keyword in {etc}/new.d/second" in message, "the temporary name tells a reader nothing"
    after = snapshot(tmp_path)
    assert {name: after[name] for name in after if not name.startswith("scratch")} == before


def test_all_validations_see_the_new_content_before_any_file_is_in_place(
    put: Ensure, etc: Path, tmp_path: Path
) -> None:
    (etc / "a").write_text("old a")
    (etc / "b").write_text("old b")
    log = tmp_path / "log"
    watch = shlex.quote(f"cat $0 {etc}/a {etc}/b >> {log}; echo >> {log}")

    put(
        entry(etc / "a", "new a", validate=f"sh -c {watch} %s"),
        entry(etc / "b", "new b", validate=f"sh -c {watch} %s"),
    )

    assert log.read_text().splitlines() == ["new aold aold b", "new bold aold b"]


def test_a_missing_validator_is_an_error_that_changes_nothing(put: Ensure, etc: Path) -> None:
    with pytest.raises(ConfigFilesError, match="no-such-tool cannot be run"):
        put(entry(etc / "a", "x", validate="no-such-tool %s"))

    assert names_in(etc) == []


def test_an_unchanged_file_is_not_validated_again(put: Ensure, etc: Path) -> None:
    put(entry(etc / "a", "x"))

    assert not put(entry(etc / "a", "x", validate="false %s")).changed


def test_a_secret_is_in_no_diff_and_in_no_quotation_of_the_validator(put: Ensure, etc: Path) -> None:
    (etc / "token").write_text("hunter1")

    outcome = put(entry(etc / "token", "hunter2", mode="0600", no_diff=True))
    with pytest.raises(ConfigFilesError) as caught:
        put(entry(etc / "token", "hunter3", no_diff=True, validate="sh -c 'cat $0; exit 1' %s"))

    assert outcome.changed
    assert outcome.diff[0]["before"] != outcome.diff[0]["after"], "Ansible would not show that it changed"
    assert "hunter" not in str(outcome.diff)
    assert "hunter" not in str(caught.value)


def test_a_temporary_file_is_never_readable_by_others_while_it_is_written(
    put: Ensure, etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    write = os.write

    def spied_write(descriptor: int, content: bytes) -> int:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", spied_write)
    before = os.umask(0)
    try:
        put(entry(etc / "token", "x", mode="0600"), entry(etc / "public", "x"))
    finally:
        os.umask(before)

    assert modes == [0o600, 0o600]
    assert (mode_of(etc / "token"), mode_of(etc / "public")) == (0o600, 0o644)


def test_the_diff_shows_content_mode_and_owner(put: Ensure, etc: Path) -> None:
    (etc / "a").write_text("one\ntwo\n")
    (etc / "a").chmod(0o600)

    (diff,) = put(entry(etc / "a", "one\n2\n")).diff

    assert (diff["before"], diff["after"]) == ("one\ntwo\n", "one\n2\n")
    assert diff["before_header"].startswith(f"{etc}/a (0600 ")
    assert diff["after_header"].startswith(f"{etc}/a (0644 ")


@pytest.mark.parametrize(
    ("old", "new"),
    [(None, ""), (b"\0binary", "text"), (b"x" * 200_000, "y" * 200_000), (b"\xff", "\N{REPLACEMENT CHARACTER}")],
    ids=["empty new file", "binary", "large", "not UTF-8"],
)
def test_every_change_can_be_seen_in_the_diff(put: Ensure, etc: Path, old: bytes | None, new: str) -> None:
    if old is not None:
        (etc / "a").write_bytes(old)

    (diff,) = put(entry(etc / "a", new)).diff

    assert diff["before"] != diff["after"]
    assert len(diff["before"] + diff["after"]) < 1000


def test_check_mode_predicts_the_run_and_touches_nothing(put: Ensure, etc: Path, tmp_path: Path) -> None:
    (etc / "old").write_text("x")
    (etc / "drifted").write_text("x")
    (etc / "drifted").chmod(0o600)
    (tmp_path / "scratch").mkdir()
    files = [
        entry(etc / "old", state="absent"),
        entry(etc / "drifted", "x"),
        entry(etc / "new.d", state="directory"),
        entry(etc / "new.d" / "file", "y", validate="true %s"),
    ]
    before = snapshot(tmp_path)

    predicted = put(*files, pending="app", check=True)
    untouched = snapshot(tmp_path)
    done = put(*files, pending="app")

    assert untouched == before
    assert (predicted.changed, predicted.changed_files, predicted.diff) == (True, done.changed_files, done.diff)
    assert len(done.changed_files) == 4


def test_check_mode_works_on_a_bare_host(put: Ensure, etc: Path) -> None:
    outcome = put(
        entry(etc / "package" / "conf.d" / "a", "x", owner="not-yet-created", validate="not-yet-installed -t %s"),
        check=True,
    )

    assert outcome.changed
    assert outcome.warnings == []


def test_check_mode_fails_on_a_file_that_is_worse_than_the_present_one(put: Ensure, etc: Path) -> None:
    (etc / "a").write_text("good")

    with pytest.raises(ConfigFilesError, match="is not valid"):
        put(entry(etc / "a", "bad", validate="grep -q good %s"), check=True)


def test_check_mode_only_warns_when_the_present_file_does_not_pass_either(put: Ensure, etc: Path) -> None:
    (etc / "a").write_text("old")

    outcome = put(entry(etc / "a", "new", validate="false %s"), entry(etc / "b", "x", validate="false %s"), check=True)

    assert outcome.changed
    assert [f"{etc}/a" in outcome.warnings[0], f"{etc}/b" in outcome.warnings[1]] == [True, True]


def test_the_marker_stays_until_somebody_removes_it_and_reports_changed(put: Ensure, etc: Path, tmp_path: Path) -> None:
    files = [entry(etc / "a", "x")]
    marker = tmp_path / "state" / "pending" / "app"

    first = put(*files, pending="app")
    interrupted = put(*files, pending="app")
    check = put(*files, pending="app", check=True)
    marker.unlink()
    healed = put(*files, pending="app")

    assert (first.changed, first.pending) == (True, True)
    assert (interrupted.changed, interrupted.pending, interrupted.changed_files) == (True, True, [])
    assert check.changed
    assert (healed.changed, healed.pending) == (False, False)


def test_no_marker_is_written_when_nothing_changes(put: Ensure, etc: Path, tmp_path: Path) -> None:
    put(entry(etc / "a", "x"))

    put(entry(etc / "a", "x"), pending="app")

    assert not (tmp_path / "state").exists()


def test_a_marker_of_an_interrupted_run_survives_a_failed_one(put: Ensure, etc: Path, tmp_path: Path) -> None:
    put(entry(etc / "a", "x"), pending="app")

    with pytest.raises(ConfigFilesError):
        put(entry(etc / "a", "y", validate="false %s"), pending="app")

    assert (tmp_path / "state" / "pending" / "app").exists()


def test_everything_reaches_the_disk_in_the_order_that_heals(
    put: Ensure, etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.replace

    def short(path: Path) -> str:
        relative = path.relative_to(tmp_path)
        return str(relative.parent / "new" if path.name.endswith("~") else relative)

    def spied_fsync(descriptor: int) -> None:
        steps.append(f"sync {short(Path(f'/proc/self/fd/{descriptor}').readlink())}")
        fsync(descriptor)

    def spied_rename(source: Path, target: Path) -> None:
        steps.append(f"rename {short(target)}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", spied_fsync)
    monkeypatch.setattr(os, "replace", spied_rename)
    (tmp_path / "state").mkdir()

    put(entry(etc / "a", "x"), entry(etc / "b", "y"), pending="app")

    assert steps == [
        "sync state",
        "sync state/pending/app",
        "sync state/pending",
        "sync etc/new",
        "sync etc/new",
        "rename etc/a",
        "rename etc/b",
        "sync etc",
    ]


PYTHON_PATH = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

KILLED_AT = """
import os, sys
from pathlib import Path
from ansible_collections.diegonmarcos.servers.plugins.module_utils._config_files import ensure, parse_entries
files, pending_directory, last = eval(sys.argv[1])
entries = parse_entries(files)
count = 0
def kill_at_last(event, arguments):
    global count
    if event == "open" or event.startswith(("os.", "shutil.")):
        count += 1
        if count == last:
            os.kill(os.getpid(), 9)
sys.addaudithook(kill_at_last)
ensure(entries, run=lambda command: (0, "", ""), pending="app",
       pending_directory=Path(pending_directory), temporary_directory=Path("/nowhere"))
os.write(1, b"done")
"""


def test_a_run_killed_at_any_moment_is_finished_by_the_next(put: Ensure, tmp_path: Path) -> None:
    etc, marker = tmp_path / "etc", tmp_path / "state" / "pending" / "app"
    wanted = {"a": "new a", "d/b": "new b", "mode": "same"}
    files = [
        entry(etc / "a", wanted["a"], validate="true %s"),
        entry(etc / "d", state="directory"),
        entry(etc / "d" / "b", wanted["d/b"]),
        entry(etc / "mode", wanted["mode"], mode="0600"),
        entry(etc / "old", state="absent"),
        entry(etc / "tree", state="absent", recursive=True),
    ]
    stages = set()
    for last in range(1, 200):
        shutil.rmtree(etc, ignore_errors=True)
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
        (etc / "tree" / "sub").mkdir(parents=True)
        for name, text in {"a": "old a", "mode": "same", "old": "x", "tree/sub/leaf": "x"}.items():
            (etc / name).write_text(text)
        before = snapshot(etc)

        argument = repr((files, str(marker.parent), last))
        killed = subprocess.run(
            [sys.executable, "-c", KILLED_AT, argument], capture_output=True, text=True, check=False, env=PYTHON_PATH
        )
        started = snapshot(etc) != before
        assert marker.exists() or not started, f"step {last}: changes without a marker would never be acted on"
        healed = put(*files, pending="app")

        assert healed.changed, f"step {last}: the handler would not run"
        assert {name: (etc / name).read_text() for name in wanted} == wanted
        assert sorted(snapshot(etc)) == ["a", "d", "d/b", "mode"], f"step {last}: something was left behind"
        assert mode_of(etc / "mode") == 0o600
        stages.add((started, marker.exists()))
        if killed.stdout == "done":
            break

    assert killed.stdout == "done", "the last steps were not reached"
    assert last > 15, "the run was not killed at every step"
    assert stages == {(False, True), (True, True)}


MOUNT_NAMESPACE = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--mount", "--map-root-user"]

FULL_DISK = """
import json, os, subprocess, sys
from pathlib import Path
from ansible_collections.diegonmarcos.servers.plugins.module_utils._config_files import *
disk, files = eval(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=20", "tmpfs", disk], check=True)
os.mkdir(f"{disk}/etc")
for name in "ab":
    with open(f"{disk}/etc/{name}", "w") as stream:
        stream.write("old")
try:
    ensure(parse_entries(files), run=None, pending="app", pending_directory=Path(disk, "state/pending"),
           temporary_directory=Path("/nowhere"))
    said = None
except ConfigFilesError as error:
    said = str(error)
found = {os.path.relpath(os.path.join(at, name), disk): open(os.path.join(at, name)).read()
         for at, _, names in os.walk(disk) for name in names}
print(json.dumps([said, found, sorted(os.listdir(disk))]))
"""


@pytest.mark.parametrize("contents", [("small", "x" * 70_000), ("x" * 70_000, "small")])
def test_a_full_disk_leaves_everything_untouched(tmp_path: Path, contents: tuple[str, str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    files = [entry(disk / "etc" / name, content) for name, content in zip("ab", contents, strict=True)]
    files.append(entry(disk / "etc" / "new.d", state="directory"))
    if os.getuid() != 0:
        files = [{**item, "owner": "0", "group": "0"} for item in files]

    done = subprocess.run(
        [*MOUNT_NAMESPACE, sys.executable, "-c", FULL_DISK, repr((str(disk), files))],
        capture_output=True,
        text=True,
        check=True,
        env=PYTHON_PATH,
    )

    said, found, top = json.loads(done.stdout)
    full = "ab"[0 if len(contents[0]) > len(contents[1]) else 1]
    assert "disk is full" in said
    assert f"{disk}/etc/{full}" in said
    assert found == {"etc/a": "old", "etc/b": "old"}
    assert top == ["etc"], "not even an empty directory is left behind"


BUSY_TARGET = """
import json, os, subprocess, sys
from pathlib import Path
from ansible_collections.diegonmarcos.servers.plugins.module_utils._config_files import *
etc, files = eval(sys.argv[1])
subprocess.run(["mount", "--bind", f"{etc}/b", f"{etc}/b"], check=True)
try:
    ensure(parse_entries(files), run=None, pending="app", pending_directory=Path(etc, "pending"),
           temporary_directory=Path("/nowhere"))
except ConfigFilesError as error:
    print(error)
"""


def test_a_file_that_cannot_be_replaced_is_named_with_what_was_done_before_and_the_marker_stays(etc: Path) -> None:
    (etc / "b").write_text("old b")
    files = [entry(etc / name, f"new {name}") for name in "abc"]
    if os.getuid() != 0:
        files = [{**item, "owner": "0", "group": "0"} for item in files]

    done = subprocess.run(
        [*MOUNT_NAMESPACE, sys.executable, "-c", BUSY_TARGET, repr((str(etc), files))],
        capture_output=True,
        text=True,
        check=True,
        env=PYTHON_PATH,
    )

    assert f"{etc}/b: Device or resource busy; 1 of 3 changes were made before ({etc}/a)." in done.stdout
    assert f"{etc}/pending/app stays until a run succeeds" in done.stdout
    assert names_in(etc) == ["a", "b", "pending"]
    assert [(etc / name).read_text() for name in "ab"] == ["new a", "old b"]
    assert (etc / "pending" / "app").exists()


def test_files_left_by_a_killed_run_are_removed_but_nothing_that_only_looks_like_them(put: Ensure, etc: Path) -> None:
    put(entry(etc / "a", "x"))
    for name in (".a.0badcafe.config_files~", ".b.0badcafe.config_files~", "a.config_files~", "a~"):
        (etc / name).write_text("secret")

    assert not put(entry(etc / "a", "x")).changed

    assert names_in(etc) == [".b.0badcafe.config_files~", "a", "a.config_files~", "a~"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([{"path": "etc/a", "content": ""}], "path 'etc/a' must be absolute"),
        ([{"path": "/", "state": "directory"}], "path '/' must be absolute"),
        ([{"path": "/etc/../a", "content": ""}], "must be absolute, below / and without '..'"),
        ([{"path": "/a"}], "/a has no content"),
        ([{"path": "/a", "state": "absent", "content": ""}], "/a has content, which state absent does not take"),
        ([{"path": "/a", "state": "directory", "validate": "true %s"}], "/a has validate"),
        ([{"path": "/a", "content": "", "recursive": True}], "/a has recursive"),
        ([{"path": "/etc/", "state": "absent", "recursive": True}], "/etc is a top-level directory"),
        ([{"path": "/a", "content": "", "mode": "420"}], 'mode 420 of /a must be quoted octal .* "0644"'),
        ([{"path": "/a", "content": "", "mode": "u=rw"}], "mode u=rw of /a"),
        ([{"path": "/a", "content": "", "mode": "0888"}], "mode 0888 of /a"),
        ([{"path": "/a", "content": 5}], "content of /a must be text"),
        ([{"path": "/a", "content": "", "validate": "true"}], "validate of /a must contain %s"),
        ([{"path": "/a", "content": "", "validate": "sh -c 'x %s"}], "validate of /a is no command line"),
        ([{"path": "/a", "content": "", "owner": "no-such-user"}], "owner no-such-user of /a does not exist"),
        ([{"path": "/a", "content": "", "group": "no-such-group"}], "group no-such-group of /a does not exist"),
        ([{"path": "/x/a", "content": ""}, {"path": "/x//a/", "content": "y"}], "/x/a is listed twice"),
        (
            [{"path": "/x/y", "state": "absent"}, {"path": "/x/y/z", "content": ""}],
            "/x/y/z cannot be listed together with /x/y, which is to be removed",
        ),
        (
            [{"path": "/x/y/z", "content": ""}, {"path": "/x/y", "content": ""}],
            "/x/y/z cannot be listed together with /x/y, which is to be a file",
        ),
    ],
)
def test_a_list_that_makes_no_sense_is_refused_in_one_sentence(files: Sequence[dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigFilesError, match=said):
        parse_entries(files)


@pytest.mark.parametrize("name", ["../evil", "", "Upper", "a/b", "."])
def test_a_marker_name_cannot_leave_its_directory(put: Ensure, etc: Path, name: str) -> None:
    with pytest.raises(ConfigFilesError, match="pending"):
        put(entry(etc / "a", "x"), pending=name)


def test_a_missing_parent_directory_is_named(put: Ensure, etc: Path) -> None:
    with pytest.raises(ConfigFilesError, match=f"{etc}/app.d, the directory of .*state directory"):
        put(entry(etc / "app.d" / "a", "x"))


def test_a_directory_or_device_in_the_way_of_a_file_is_refused(put: Ensure, etc: Path) -> None:
    (etc / "directory").mkdir()
    os.mkfifo(etc / "pipe")
    (etc / "file").write_text("x")

    for wanted, said in [
        (entry(etc / "directory", "x"), "is to be a file but is a directory"),
        (entry(etc / "pipe", "x"), "is to be a file but is a device, pipe or socket"),
        (entry(etc / "file", state="directory"), "is to be a directory but is a file"),
    ]:
        with pytest.raises(ConfigFilesError, match=said):
            put(wanted)


def test_a_directory_that_cannot_be_written_is_reported_without_a_traceback(put: Ensure) -> None:
    with pytest.raises(ConfigFilesError, match="nothing was changed"):
        put(entry("/proc/self/file", "x"))
