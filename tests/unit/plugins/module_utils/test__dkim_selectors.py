from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils import _dkim_selectors
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_key import CryptographyTool, make_key
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_record import DkimError
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_selectors import (
    Outcome,
    Policy,
    Selector,
    ensure_selectors,
    new_name,
)

START = datetime(2026, 11, 22, 13, tzinfo=UTC)
DOMAIN = "example.org"
FIRST = "202611a._domainkey.example.org"
SECOND = "202611b._domainkey.example.org"
CALM = Policy()
NOW = Policy(begin="now", wait=timedelta(hours=48))


class Box:
    """A folder of keys and the time of day."""

    def __init__(self, root: Path) -> None:
        self.root = root / ".secrets" / "dkim"
        self.now = START
        self._scratch = root

    def run(self, policy: Policy = CALM, *, check: bool = False, domains: tuple[str, ...] = (DOMAIN,)) -> Outcome:
        return ensure_selectors(
            self.root,
            domains,
            policy,
            tool=CryptographyTool(),
            now=self.now,
            check=check,
            temporary_directory=self._scratch,
        )

    def wait(self, **time: float) -> None:
        self.now += timedelta(**time)

    def keys(self, domain: str = DOMAIN) -> list[str]:
        return sorted(path.stem for path in (self.root / domain).glob("*.pem"))


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def states(outcome: Outcome) -> dict[str, str]:
    return {entry.selector.name: entry.selector.state for entry in outcome.entries}


def test_the_first_key_of_a_domain_signs_at_once_and_stays(box: Box) -> None:
    predicted = box.run(check=True)
    assert not box.root.exists()
    done = box.run()
    box.wait(days=400)
    again = box.run()

    assert states(predicted) == states(done) == states(again) == {"202611a": "active"}
    assert [predicted.changed, done.changed, again.changed] == [True, True, False]
    assert predicted.entries[0].record is None
    assert done.entries[0].record is not None
    assert done.entries[0].record == again.entries[0].record


def test_nobody_else_may_read_the_folder(box: Box) -> None:
    box.run()
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in box.root.parent.rglob("*") if path.name != ".lock"
    }
    assert modes == {"dkim": 0o700, DOMAIN: 0o700, "202611a.pem": 0o600, "selectors.json": 0o600}
    assert stat.S_IMODE(box.root.parent.stat().st_mode) == 0o700


def test_the_state_says_nothing_that_a_key_says(box: Box) -> None:
    box.run()
    saved = json.loads((box.root / DOMAIN / "selectors.json").read_text())
    assert saved == {
        "version": 1,
        "selectors": {"202611a": {"key_type": "rsa", "state": "active", "since": START.isoformat()}},
    }


def test_both_kinds_of_key_start_side_by_side(box: Box) -> None:
    done = box.run(Policy(key_types=("rsa", "ed25519")))
    assert states(done) == {"202611a": "active", "202611a-ed25519": "active"}
    assert [entry.facts.key_type for entry in done.entries if entry.facts] == ["rsa", "ed25519"]


def test_a_kind_that_is_added_later_waits_for_the_dns(box: Box) -> None:
    box.run()
    assert states(box.run(Policy(key_types=("rsa", "ed25519")))) == {
        "202611a": "active",
        "202611a-ed25519": "published",
    }


def test_a_whole_rotation(box: Box) -> None:
    box.run()
    box.wait(days=1)
    begun = box.run(NOW)
    assert states(begun) == {"202611a": "active", "202611b": "published"}

    box.wait(hours=49)
    unseen = box.run(NOW)
    assert not unseen.changed

    seen = replace(NOW, confirmed=frozenset({SECOND}))
    switched = box.run(seen)
    assert states(switched) == {"202611a": "retired", "202611b": "active"}

    box.wait(days=100)
    assert not box.run(seen).changed
    applied = box.run(replace(seen, applied=True))
    assert states(applied) == {"202611a": "retired", "202611b": "active"}

    box.wait(days=6)
    assert not box.run(replace(seen, applied=True)).changed
    box.wait(days=1)
    revoked = box.run(replace(seen, applied=True))
    assert states(revoked) == {"202611a": "revoked", "202611b": "active"}
    assert box.keys() == ["202611b"]
    record = revoked.entries[0].record
    assert record is not None
    assert record.value == "v=DKIM1; k=rsa; p="

    box.wait(days=30)
    assert states(box.run(Policy(applied=True))) == {"202611b": "active"}
    assert not box.run(Policy(applied=True)).changed


def test_a_key_is_not_used_before_its_absence_is_forgotten(box: Box) -> None:
    box.run()
    box.run(NOW)
    box.wait(hours=47)
    assert not box.run(replace(NOW, confirmed=frozenset({SECOND}))).changed


def test_a_key_that_the_dns_does_not_show_is_never_used(box: Box) -> None:
    box.run()
    box.run(NOW)
    box.wait(days=365)
    others = frozenset({FIRST, "202611b._domainkey.example.net"})
    assert states(box.run(replace(NOW, confirmed=others, applied=True)))["202611b"] == "published"


def test_a_rotation_is_due_when_the_key_is_old_and_only_one_is_under_way(box: Box) -> None:
    due = Policy(begin="due")
    box.run(due)
    box.wait(days=179)
    assert not box.run(due).changed
    box.wait(days=1)
    assert states(box.run(due)) == {"202611a": "active", "202705a": "published"}
    box.wait(days=400)
    assert not box.run(due).changed
    assert not box.run(NOW).changed


def test_a_rotation_lasts_until_the_old_key_is_withdrawn(box: Box) -> None:
    box.run()
    box.run(NOW)
    box.wait(hours=48)
    box.run(replace(NOW, confirmed=frozenset({SECOND})))
    assert not box.run(NOW).changed


@pytest.mark.parametrize("stopped_after", ["make", "_make_keys", "save", "_withdraw"])
def test_a_run_that_is_stopped_is_continued(box: Box, monkeypatch: pytest.MonkeyPatch, stopped_after: str) -> None:
    """Each run of a rotation is stopped once, after one of its steps, and run again."""

    def steps() -> list[tuple[Policy, timedelta]]:
        return [
            (CALM, timedelta(0)),
            (NOW, timedelta(hours=48)),
            (replace(NOW, confirmed=frozenset({SECOND})), timedelta(0)),
            (Policy(applied=True), timedelta(days=7)),
            (Policy(applied=True), timedelta(0)),
        ]

    holder: Any = _dkim_selectors.Folder if stopped_after in ("make", "save") else _dkim_selectors
    real = getattr(holder, stopped_after)

    def stop(*arguments: Any, **named: Any) -> Any:
        real(*arguments, **named)
        raise KeyboardInterrupt

    for policy, wait in steps():
        monkeypatch.setattr(holder, stopped_after, stop)
        with suppress(KeyboardInterrupt):
            box.run(policy)
        monkeypatch.setattr(holder, stopped_after, real)
        box.run(policy)
        box.now += wait

    assert states(box.run()) == {"202611a": "revoked", "202611b": "active"}
    assert box.keys() == ["202611b"]


def test_a_private_key_that_a_stopped_run_left_is_deleted(box: Box) -> None:
    box.run()
    box.run(NOW)
    box.wait(hours=48)
    box.run(replace(NOW, confirmed=frozenset({SECOND}), applied=True))
    kept = (box.root / DOMAIN / "202611a.pem").read_bytes()
    box.wait(days=7)
    box.run(Policy(applied=True))
    (box.root / DOMAIN / "202611a.pem").write_bytes(kept)

    again = box.run()

    assert again.actions == ["Deleted the private key of 202611a._domainkey.example.org."]
    assert box.keys() == ["202611b"]
    assert not box.run().changed


def test_a_key_brought_from_elsewhere_is_taken_up(box: Box) -> None:
    (box.root / DOMAIN).mkdir(parents=True)
    (box.root / DOMAIN / "mail.pem").write_bytes(make_key(CryptographyTool(), "rsa", 2048))
    assert states(box.run()) == {"mail": "active"}
    assert box.keys() == ["mail"]


def test_a_key_brought_beside_one_that_signs_waits(box: Box) -> None:
    box.run()
    (box.root / DOMAIN / "mail.pem").write_bytes(make_key(CryptographyTool(), "rsa", 2048))
    assert states(box.run()) == {"202611a": "active", "mail": "published"}


def test_two_domains_have_keys_of_their_own(box: Box) -> None:
    done = box.run(domains=("Example.org", "example.net", "example.org"))
    assert [entry.domain for entry in done.entries] == ["example.org", "example.net"]
    assert len({entry.facts.public for entry in done.entries if entry.facts}) == 2


def test_hosts_that_run_at_the_same_time_share_one_key(box: Box) -> None:
    with ThreadPoolExecutor(4) as pool:
        outcomes = [future.result() for future in [pool.submit(box.run) for _ in range(4)]]
    assert sum(outcome.changed for outcome in outcomes) == 1
    assert box.keys() == ["202611a"]
    assert not box.run().changed


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("{", "is damaged"),
        ('{"version": 2, "selectors": {}}', "version 2, which a newer release wrote"),
        (
            '{"version": 1, "selectors": {"x": {"key_type": "rsa", "state": "lost", "since": "2026-01-01"}}}',
            "state lost",
        ),
        ('{"version": 1}', "is damaged"),
    ],
)
def test_a_damaged_state_is_told_and_kept(box: Box, damage: str, sentence: str) -> None:
    box.run()
    file = box.root / DOMAIN / "selectors.json"
    file.write_text(damage)
    with pytest.raises(DkimError, match=sentence):
        box.run()
    assert file.read_text() == damage
    assert box.keys() == ["202611a"]


def test_a_key_that_is_lost_is_told_and_not_replaced(box: Box) -> None:
    box.run()
    (box.root / DOMAIN / "202611a.pem").unlink()
    with pytest.raises(DkimError, match=r"the active key of example\.org, cannot be read"):
        box.run()
    assert box.keys() == []


def test_a_key_of_another_kind_in_place_is_told(box: Box) -> None:
    box.run()
    (box.root / DOMAIN / "202611a.pem").write_bytes(make_key(CryptographyTool(), "ed25519"))
    with pytest.raises(DkimError, match=r"holds a key of type ed25519, and .* says rsa"):
        box.run()


def test_no_domain_is_a_mistake(box: Box) -> None:
    with pytest.raises(DkimError, match="No domain is given"):
        box.run(domains=())


def test_names_of_a_month_go_through_the_alphabet() -> None:
    taken = [new_name("rsa", [], START)]
    for _ in range(25):
        taken.append(new_name("rsa", taken, START))
    assert (taken[0], taken[1], taken[25]) == ("202611a", "202611b", "202611z")
    with pytest.raises(DkimError, match="All selectors of 2026-11 are taken"):
        new_name("rsa", taken, START)


def test_every_selector_says_what_comes_next(box: Box) -> None:
    box.run()
    box.run(NOW)
    assert [entry.next_step for entry in box.run().entries] == [
        "Signs; to be replaced after 2027-05-21 13:00 UTC.",
        f"Publish {SECOND}; signing switches to it from 2026-11-24 13:00 UTC on, once the DNS shows it.",
    ]


def test_only_the_due_kind_is_switched() -> None:
    both = [
        Selector("a", "rsa", "active", START),
        Selector("b", "rsa", "published", START),
        Selector("e", "ed25519", "active", START),
        Selector("f", "ed25519", "published", START),
    ]
    policy = Policy(confirmed=frozenset({"f._domainkey.example.org"}))
    after = _dkim_selectors.advance(both, DOMAIN, policy, START + timedelta(days=3))
    assert {item.name: item.state for item in after} == {
        "a": "active",
        "b": "published",
        "e": "retired",
        "f": "active",
    }
