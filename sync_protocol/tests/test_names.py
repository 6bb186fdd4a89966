from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol.names import (
    InvalidName,
    check_name,
    conflict_name,
    is_conflict_name,
    name_key,
    normal,
    not_portable,
    restored_name,
    split_path,
    strip_conflict,
)

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=80).filter(
    lambda name: name not in {".", ".."}
)


@given(names)
def test_the_key_of_a_key_is_itself(name: str) -> None:
    assert name_key(name_key(name)) == name_key(name)


@given(names)
def test_spelling_and_case_do_not_change_the_key(name: str) -> None:
    assert name_key(normal(name)) == name_key(name)
    assert name_key(name.casefold()) == name_key(name)


@pytest.mark.parametrize(("one", "other"), [("README", "readme"), ("é", "e\u0301"), ("ß", "SS"), ("ﬁ", "FI")])
def test_twins_have_one_key(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@given(names, st.integers(-(2**45), 2**45), st.text(max_size=80), st.integers(1, 1000))
def test_a_conflict_name_is_a_name_can_be_told_and_taken_off(name: str, when: int, device: str, attempt: int) -> None:
    if len(name.encode()) > 200:
        return
    marked = conflict_name(name, when, device, attempt)
    assert check_name(marked) == marked
    assert is_conflict_name(marked)
    assert conflict_name(marked, when, device, attempt) == marked
    assert strip_conflict(marked) == strip_conflict(name)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=80, max_size=255))
def test_a_marked_name_is_never_too_long(name: str) -> None:
    for marked in (conflict_name(name, 0, "device"), restored_name(name, 77)):
        assert check_name(marked) == marked


def test_a_conflict_name_keeps_the_ending() -> None:
    assert conflict_name("a.tar.gz", 0, "my laptop!") == "a.tar.sync-conflict-19700101-000000-my-laptop.gz"
    assert conflict_name(".profile", 0, "x") == ".profile.sync-conflict-19700101-000000-x"


@given(st.text())
def test_a_path_is_cut_into_names_or_refused(path: str) -> None:
    try:
        parts = split_path(path)
    except InvalidName:
        return
    assert "/".join(parts) == path
    for part in parts:
        assert part not in {"", ".", ".."}
        assert "\0" not in part
        assert len(part.encode()) <= 255


@pytest.mark.parametrize(
    "path", ["/a", "a/", "a//b", "..", "a/../b", ".", "a\0b", "\udc80", "x" * 256, "ab/" * 2000 + "x"]
)
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(InvalidName):
        split_path(path)


@pytest.mark.parametrize("name", ["a:b", "con", "NUL.txt", "a.", "a ", "tab\t", 'qu"ote', "lpt1.log"])
def test_a_name_other_systems_refuse_is_reported(name: str) -> None:
    assert check_name(name) == name
    assert not_portable(name) is not None


@pytest.mark.parametrize("name", ["a", "a b.txt", "console", "Ärger", "comma,"])
def test_a_name_all_systems_take_is_not_reported(name: str) -> None:
    assert not_portable(name) is None
