"""Break the server on purpose, one line at a time, and see that the test of the promise fails.

Run by hand: `sync_server/.venv/bin/python sync_server/tests/mutations.py [WORD]`, some minutes. Each break is made in
a copy of the packages in a temporary folder, which is put before the installed ones; the checkout is never changed. The
exit code says whether every break was noticed. With `--write` docs/promises.md, which says the same, is written anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVER = HERE.parent
PROJECT = SERVER.parent
SOURCES = {"sync_server": SERVER / "src" / "sync_server", "sync_protocol": PROJECT / "sync_protocol/src/sync_protocol"}


@dataclass(frozen=True)
class Mutation:
    """`old` in `file` (of the packages) becomes `new`; then `test` must fail."""

    promise: str
    breaks: str
    file: str
    old: str
    new: str
    test: str


MODEL = "tests/model/test_tree.py::test_devices_converge_and_nothing_is_lost_on_the_real_tree"
DURABLE = "tests/crash/test_durability.py"
RULES = "sync_server/tree/rules.py"
OTHER = "tests/hostile/test_other_account.py"
TOKENS = "tests/hostile/test_tokens.py"

MUTATIONS = [
    # 1. Nothing acknowledged is ever lost
    Mutation(
        "1",
        "answers of the database's writer may be rolled back",
        "sync_server/store/writer.py",
        'connection.execute("COMMIT")',
        'connection.execute("COMMIT" if self.groups % 5 else "ROLLBACK")',
        "tests/crash/test_kill.py::test_what_was_acknowledged_survives_sigkill_at_any_moment",
    ),
    Mutation(
        "1",
        "the bytes of a blob are not synced",
        "sync_server/store/blobs.py",
        "                os.fsync(file)",
        "                pass",
        f"{DURABLE}::test_a_blob_is_synced_renamed_and_its_folder_synced_before_the_answer",
    ),
    Mutation(
        "1",
        "the folder of a blob is not synced",
        "sync_server/store/blobs.py",
        "                    fsync_folder(folder)",
        "                    pass",
        f"{DURABLE}::test_a_blob_is_synced_renamed_and_its_folder_synced_before_the_answer",
    ),
    Mutation(
        "1",
        "the database does not sync its log",
        "sync_server/store/sqlite.py",
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = NORMAL",
        f"{DURABLE}::test_a_commit_is_in_the_synced_log_of_the_database_before_the_answer",
    ),
    Mutation(
        "1",
        "many blobs at once are not synced",
        "sync_server/store/blobs.py",
        "                sync_file_system(self.blobs)",
        "                pass",
        f"{DURABLE}::test_many_small_blobs_and_a_whole_file_are_durable_before_the_answer_too",
    ),
    Mutation(
        "1",
        "a full disk is an error like any other",
        "sync_server/store/writer.py",
        "    if code == sqlite3.SQLITE_FULL:",
        "    if False:",
        "tests/crash/test_full_disk.py::test_a_full_disk_refuses_with_507_and_loses_nothing",
    ),
    Mutation(
        "1",
        "bytes are not compared with their name",
        "sync_server/store/blobs.py",
        "    if expected is not None and expected != actual:",
        "    if False:",
        "tests/hostile/test_bodies.py::test_a_blob_that_is_not_what_its_name_says_is_refused",
    ),
    # 2. Nothing is silently overwritten
    Mutation(
        "2",
        "a put does not look at its base",
        RULES,
        "        if base >= node.content_rev:\n            self._write",
        "        if True:\n            self._write",
        MODEL,
    ),
    Mutation(
        "2",
        "a new file replaces one of its name",
        RULES,
        "        return self._keep_copy(op, other, parent, name, blobs)",
        '        self._write(other, blobs, op, "put")\n        return self._answer("ok", other)',
        MODEL,
    ),
    Mutation(
        "2",
        "a delete does not look at its base",
        RULES,
        '        if base < node.revision if node.kind == "file" else base < node.place_rev:',
        "        if False:",
        MODEL,
    ),
    Mutation(
        "2",
        "a folder is deleted with what others changed in it",
        RULES,
        "            self._refuse_unseen(node, base if op.seen is None else self._base(op.seen))",
        "            pass",
        "tests/tree/test_places.py::test_a_folder_in_which_another_device_changed_something_is_not_deleted",
    ),
    Mutation(
        "2",
        "If-Match is not looked at",
        "sync_server/tree/files.py",
        "    if expect.contents is not None and node.content not in expect.contents:",
        "    if False:",
        "tests/http_api/test_files.py::test_if_match_replaces_and_deletes_only_what_one_knows",
    ),
    Mutation(
        "2",
        "names that differ in case are one file by commit",
        RULES,
        "        if normal(other.name) != normal(name):",
        "        if False:",
        "tests/tree/test_places.py::test_twins_in_case_are_refused_and_said_clearly",
    ),
    # 3. All devices converge
    Mutation(
        "3",
        "an edit of a deleted file is refused for good",
        RULES,
        "            return self._put_deleted(op, node, blobs)",
        '            raise self._refuse("stale", node, "It is in the trash.")',
        MODEL,
    ),
    Mutation(
        "3",
        "the second content of a file is forgotten as a version",
        RULES,
        "        self.rows.add_version(self.account, version, blobs)",
        "        if new:\n            self.rows.add_version(self.account, version, blobs)",
        "tests/model/test_machine.py::test_no_story_of_three_devices_loses_anything",
    ),
    Mutation(
        "3",
        "a move does not look at its base",
        RULES,
        "        if base < node.place_rev:\n",
        "        if False:\n",
        "tests/tree/test_places.py::test_the_second_of_two_moves_is_stale",
    ),
    Mutation(
        "3",
        "a page of changes skips one",
        "sync_server/tree/pages.py",
        "    last = journal[-1].seq if journal else after",
        "    last = journal[-1].seq + (len(journal) == limit) if journal else after",
        MODEL,
    ),
    Mutation(
        "3",
        "one folder may go into the other and back",
        RULES,
        '        if node.kind == "folder" and self._is_within(parent, node.id):',
        "        if False:",
        "tests/tree/test_places.py::test_two_devices_cannot_move_two_folders_into_each_other",
    ),
    # 4. The five versions before the current one
    Mutation(
        "4",
        "only four versions are kept",
        RULES,
        "self._keep = keep_versions + 1",
        "self._keep = keep_versions",
        "tests/http_api/test_files.py::test_the_five_versions_before_the_current_one_are_kept",
    ),
    Mutation(
        "4",
        "versions go when the file is deleted",
        RULES,
        '        self._placed(node, "delete")',
        '        self.rows.prune_versions(self.account, node.id, 1)\n        self._placed(node, "delete")',
        "tests/tree/test_history.py::test_the_versions_are_there_after_delete_and_after_restore",
    ),
    Mutation(
        "4",
        "the trash is emptied at once",
        "sync_server/tree/service.py",
        "now - days.trash_days * _DAY",
        "now + 1",
        "tests/tree/test_history.py::test_the_trash_is_emptied_when_its_time_is_over_and_not_before",
    ),
    # 5. Retrying anything is harmless, an interrupted transfer resumes, only what changed travels
    Mutation(
        "5",
        "op ids are not remembered",
        "sync_server/tree/service.py",
        "            rows.remember(who.device_id, request.op_id, digest, "
        "zlib.compress(_encoder.encode(answer), 1), rules.now)",
        "            pass",
        "tests/http_api/test_sync.py::test_a_commit_repeated_is_done_once_and_answered_alike",
    ),
    Mutation(
        "5",
        "an upload begins again from nothing",
        "sync_server/tree/uploads.py",
        "    if offset != there:",
        "    if offset != 0:",
        "tests/http_api/test_sync.py::test_an_upload_goes_on_where_it_was_interrupted",
    ),
    Mutation(
        "5",
        "what is sent again counts twice against the quota",
        "sync_server/store/sqlite.py",
        "        return 0 if self._reader.holding(account, blob) is not None else size",
        "        return size",
        "tests/tree/test_files.py::test_the_same_again_costs_no_quota",
    ),
    Mutation(
        "5",
        "an upload that was refused is told to be done",
        "sync_server/tree/uploads.py",
        "    if row.node is not None or row.offset + row.part < row.size:",
        "    if True:",
        "tests/tree/test_files.py::test_an_upload_based_on_an_old_revision_is_stale_and_not_lost",
    ),
    Mutation(
        "5",
        "what arrived before the line broke is given up",
        "sync_server/routes/blobs.py",
        "                await batch.keep_whole()",
        "                pass",
        "tests/http_api/test_sync.py::test_what_arrived_of_a_batch_before_the_line_broke_stays",
    ),
    Mutation(
        "5",
        "what has arrived is told before it is written",
        "sync_server/routes/blobs.py",
        "    if missing and await call.services.arrivals.settle(call.identity.device_id):",
        "    if False:",
        "tests/crash/test_durability.py::test_what_arrived_is_known_although_the_disk_is_slow",
    ),
    Mutation(
        "5",
        "files are cut into equal pieces",
        "sync_protocol/chunking.py",
        "    from pyfastcdc import FastCDC  # only who cuts large files needs it",
        "    while piece := file.read(AVERAGE):\n        yield piece\n    from pyfastcdc import FastCDC",
        "../sync_protocol/tests/test_content.py::test_a_byte_put_in_changes_few_pieces",
    ),
    # Nobody else gets at it
    Mutation(
        "security",
        "signatures are not checked",
        "sync_server/auth/tokens.py",
        '                    "verify_exp": False,',
        '                    "verify_exp": False, "verify_signature": False,',
        f"{TOKENS}::test_a_forged_or_expired_token_opens_nothing",
    ),
    Mutation(
        "security",
        "tokens never expire",
        "sync_server/auth/tokens.py",
        "expires <= self._clock() or ",
        "",
        f"{TOKENS}::test_a_forged_or_expired_token_opens_nothing",
    ),
    Mutation(
        "security",
        "a revoked device goes on",
        "sync_server/auth/tokens.py",
        " or self._epochs.get(identity.device_id) != epoch",
        "",
        f"{TOKENS}::test_a_revoked_device_is_out_at_once",
    ),
    Mutation(
        "security",
        "what a revoked device waits for goes on",
        "sync_server/auth/service.py",
        "        while self.is_live(identity):",
        "        while True:",
        "tests/auth/test_tokens.py::test_revoking_a_device_ends_what_it_has_under_way",
    ),
    Mutation(
        "security",
        "what the command line revoked is seen late",
        "sync_server/auth/service.py",
        "now + accounts.NOTICED_SECONDS",
        "now + 60",
        "tests/auth/test_tokens.py::test_revoking_on_the_command_line_reaches_the_running_server",
    ),
    Mutation(
        "security",
        "what a revoked device sends is taken",
        "sync_server/http/call.py",
        "            self.services.auth.check_live(self.identity)",
        "            pass",
        "tests/auth/test_tokens.py::test_revoking_a_device_ends_what_it_has_under_way",
    ),
    Mutation(
        "security",
        "a stolen refresh token goes on",
        "sync_server/auth/accounts.py",
        '    if state == "dead":\n',
        '    if state == "never":\n',
        f"{TOKENS}::test_a_refresh_token_used_twice_revokes_the_device",
    ),
    Mutation(
        "security",
        "guessing is counted for the account alone",
        "sync_server/auth/service.py",
        '(hashlib.sha256(name_key(user).encode("utf-8", "surrogatepass")).digest(), network),',
        '(hashlib.sha256(name_key(user).encode("utf-8", "surrogatepass")).digest(), ""),',
        f"{TOKENS}::test_guessing_is_slowed_down_and_cannot_lock_the_owner_out",
    ),
    Mutation(
        "security",
        "who knows a hash has the content",
        "sync_server/store/rows.py",
        '"SELECT size FROM holdings WHERE hash = ? AND account = ? AND damaged = 0", bytes.fromhex(blob), account',
        '"SELECT size FROM holdings WHERE hash = ? AND account >= 0 * ? AND damaged = 0", bytes.fromhex(blob), account',
        f"{OTHER}::test_a_hash_is_no_key_to_another_accounts_content",
    ),
    Mutation(
        "security",
        "bombs are unpacked to their end",
        "sync_server/http/body.py",
        "_MAX_RATIO = 100",
        "_MAX_RATIO = 10**9",
        "tests/hostile/test_bodies.py::test_a_body_that_unpacks_to_600_mb_is_refused_early",
    ),
    Mutation(
        "security",
        "bodies may stand still for ever",
        "sync_server/http/body.py",
        "async with asyncio.timeout(idle):",
        "async with asyncio.timeout(3600):",
        "tests/hostile/test_bodies.py::test_slow_requests_are_given_up_and_hold_nobody_up",
    ),
    Mutation(
        "security",
        "as many connections as come are read from",
        "sync_server/server.py",
        "backpressure=config.max_waiting + 64",
        "backpressure=config.max_waiting + 4096",
        "tests/hostile/test_bodies.py::test_headers_that_never_end_do_not_fill_the_memory",
    ),
    Mutation(
        "security",
        "“..” is a name",
        "sync_protocol/names.py",
        'if not name or name in {".", ".."}:',
        "if not name:",
        "tests/hostile/test_names.py::test_a_commit_with_a_bad_name_changes_nothing",
    ),
]

PROMISES = {
    "1": "Nothing acknowledged is ever lost",
    "2": "Nothing is silently overwritten",
    "3": "All devices converge",
    "4": "The five versions before the current one can be listed and restored, also after delete",
    "5": "Retrying anything is harmless, an interrupted transfer resumes, only what changed travels",
    "security": "Nobody else reads, changes or stops anything",
}
PAGE = SERVER / "docs" / "promises.md"
HEAD = """# Promises and their tests

Every promise has a test that was seen to fail when the server was broken on purpose. `tests/mutations.py` breaks it one
line at a time, in a copy, and runs the test; this page is written by `tests/mutations.py --write`.

What runs against them all: random histories of several devices with lost answers, late duplicates and retries, in
`tests/model`: against the published rules alone (`test_rules.py`, with five clients that break a rule and are caught),
against the real tree and store (`test_tree.py`), and over HTTP against a real process that is killed by SIGKILL at any
moment, behind a line that cuts one connection in five, with a clock that jumps up to 36 hours (`test_real_process.py`).
They check that all devices end with the same tree, that no content is gone but what its user replaced or deleted having
seen it, and that each file's versions are exactly the last six that were acknowledged.

More histories than the default: `MODEL_HISTORIES`, `MODEL_TREE_HISTORIES`, `MODEL_PROCESS_HISTORIES`, `CRASH_ROUNDS`.
The tests of full disks mount a tmpfs and need root; those of durability need the Debian package strace.
"""


def page() -> str:
    lines = [HEAD]
    for number, promise in PROMISES.items():
        lines += [f"## {promise}\n", "| broken on purpose | test that fails |", "|---|---|"]
        for mutation in MUTATIONS:
            if mutation.promise == number:
                lines.append(f"| {mutation.breaks} | `{mutation.test}` |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def run(test: str, packages: Path | None) -> tuple[int, str]:
    environment = dict(os.environ)
    if packages is not None:
        environment["PYTHONPATH"] = str(packages)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", "--tb=line", test],
        cwd=SERVER,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    return done.returncode, done.stdout + done.stderr


def broken(mutation: Mutation, folder: Path) -> Path:
    """A copy of the packages with the one break; says when the line is not there (any more)."""
    for name, source in SOURCES.items():
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / mutation.file
    text = path.read_text()
    if mutation.old not in text:
        raise LookupError(f"{mutation.file} has no {mutation.old.strip()!r}: write the mutation anew")
    path.write_text(text.replace(mutation.old, mutation.new))
    compile(path.read_text(), str(path), "exec")
    return folder


def main(words: list[str]) -> int:
    if words == ["--write"]:
        PAGE.write_text(page())
        return 0
    unnoticed = 0
    for mutation in MUTATIONS:
        if words and not any(word in f"{mutation.breaks} {mutation.test} {mutation.promise}" for word in words):
            continue
        with tempfile.TemporaryDirectory() as name:
            try:
                code, said = run(mutation.test, broken(mutation, Path(name)))
            except (LookupError, SyntaxError) as error:
                code, said = 0, str(error)
        # 1: tests ran and some failed. Anything else (no such test, no such line) proves nothing.
        noticed = code == 1
        unnoticed += not noticed
        found = re.findall(r"^FAILED.*", said, re.MULTILINE)
        print(f"{'noticed  ' if noticed else 'UNNOTICED'}  {mutation.promise}  {mutation.breaks}", flush=True)
        print(f"           {(found or said.splitlines() or ['?'])[-1][:150]}", flush=True)
    print(f"{unnoticed} unnoticed")
    return min(unnoticed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
