"""Circles among mail aliases."""

from __future__ import annotations

import pytest

from ansible_collections.diegonmarcos.servers.plugins.filter.alias_loop import alias_loop

LOOPS = {
    "itself": ({"a": ["a"]}, [], ["a", "a"]),
    "two": ({"a": ["b"], "b": ["a"]}, [], ["a", "b", "a"]),
    "three, entered from outside": ({"x": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}, [], ["a", "b", "c", "a"]),
    "in other letters": ({"A": ["b"], "B": ["a"]}, [], ["a", "b", "a"]),
    "beside a good way": ({"a": ["end", "b"], "b": ["end", "a"]}, ["end"], ["a", "b", "a"]),
    "between an account and an alias": ({"a": ["a", "b"], "b": ["a"]}, ["a"], ["a", "b", "a"]),
}
ENDS = {
    "nothing": ({}, []),
    "a row": ({"a": ["b"], "b": ["c"]}, []),
    "a diamond": ({"a": ["b", "c"], "b": ["d"], "c": ["d"]}, ["d"]),
    "an account that keeps a copy": ({"a": ["a", "far"]}, ["a"]),
}


@pytest.mark.parametrize("case", LOOPS)
def test_a_circle_is_told_with_its_way(case: str) -> None:
    ways, accounts, expected = LOOPS[case]
    aliases = [{"address": name, "targets": targets} for name, targets in ways.items()]
    assert alias_loop(aliases, accounts) == expected


@pytest.mark.parametrize("case", ENDS)
def test_ways_that_end_are_no_circle(case: str) -> None:
    ways, accounts = ENDS[case]
    aliases = [{"address": name, "targets": targets} for name, targets in ways.items()]
    assert alias_loop(aliases, accounts) == []
