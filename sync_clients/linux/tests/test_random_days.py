# SPDX-License-Identifier: GPL-3.0-or-later
"""Random days of two users with real daemons that are killed at random: in the evening both folders are equal.

Each day has a folder of its own, so that the daemons and the login are made once.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from contents import LINKED, content, leads_on
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import Machine, Server, equal

NAMES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)
SIDE = st.integers(0, 1)
EVENT = st.one_of(
    st.tuples(st.just("write"), SIDE, NAMES, st.sampled_from([10, 5_000, 300_000])),
    st.tuples(st.just("write"), SIDE, NAMES, st.just(10)),
    st.tuples(st.just("rename"), SIDE, NAMES, NAMES),
    st.tuples(st.just("link"), SIDE, NAMES),
    st.tuples(st.just("delete"), SIDE, NAMES),
    st.tuples(st.just("kill"), SIDE),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.05, 0.3])),
)


@pytest.fixture(scope="module")
def users(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Machine]]:
    account = shared_server.account()
    both = Machine(tmp_path_factory.mktemp("left"), "left"), Machine(tmp_path_factory.mktemp("right"), "right")
    for one in both:
        one.join(account)
        settings_file = one.home / ".config/sync-client/default/config.toml"
        settings_file.write_text(settings_file.read_text().replace("deletions_files = 20", "deletions_files = 100000"))
        one.start()
    yield both
    for one in both:
        one.stop()


_DAYS = itertools.count()


@given(events=st.lists(EVENT, min_size=4, max_size=25))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_in_the_evening_both_folders_are_equal(users: tuple[Machine, Machine], events: list[tuple]) -> None:  # type: ignore[type-arg]
    day = f"day{next(_DAYS)}"
    written: set[bytes] = set()
    replaced: set[bytes] = set()

    def forget(path: Path) -> None:
        for file in path.rglob("*") if leads_on(path) else [path]:
            if (old := content(file)) is not None:
                replaced.add(old)

    for number, event in enumerate(events):
        what = event[0]
        if what == "wait":
            time.sleep(event[1])
            continue
        user = users[event[1]]
        top = user.folder / day
        top.mkdir(exist_ok=True)
        if what == "kill":
            user.kill()
            user.start()
            continue
        path = top / event[2]
        # The daemons work meanwhile: what is there one moment may be gone or something else the next.
        try:
            if what in ("write", "link") and not leads_on(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                if os.path.lexists(path):
                    forget(path)
                if what == "write" and not path.is_symlink():
                    body = f"{day} {number} ".encode().ljust(event[3], b".")
                    path.write_bytes(body)
                else:
                    path.unlink(missing_ok=True)
                    path.symlink_to(f"{day}-{number}-leads-nowhere")
                    body = LINKED + f"{day}-{number}-leads-nowhere".encode()
                written.add(body)
            elif what == "rename" and os.path.lexists(path) and not os.path.lexists(top / event[3]):
                (top / event[3]).parent.mkdir(parents=True, exist_ok=True)
                path.rename(top / event[3])
            elif what == "delete" and os.path.lexists(path):
                forget(path)
                shutil.rmtree(path) if leads_on(path) else path.unlink()
        except OSError:
            continue
    equal(*users, seconds=90)
    bodies = set(users[0].files().values())
    lost = written - replaced - bodies
    assert not lost, sorted(body[:20] for body in lost)
    for name, text in itertools.islice(users[0].files().items(), 3):
        if text is not None and name.startswith(day):
            newest = users[0].run("versions", name).stdout.splitlines()[0].split()
            assert newest[-1] == "current"
            assert int(newest[3]) == len(text.removeprefix(LINKED))
