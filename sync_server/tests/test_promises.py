"""The page of promises and the breaks that prove them stay true to the code."""

from __future__ import annotations

import ast

import mutations
import pytest


@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.breaks)
def test_what_is_broken_on_purpose_is_still_there(mutation: mutations.Mutation) -> None:
    package, _, path = mutation.file.partition("/")
    assert mutation.old in (mutations.SOURCES[package] / path).read_text(), "write the mutation anew"
    file, _, name = mutation.test.partition("::")
    tests = ast.walk(ast.parse((mutations.SERVER / file).read_text()))
    assert name in {node.name for node in tests if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_the_page_of_promises_says_what_is_tried() -> None:
    assert mutations.PAGE.read_text() == mutations.page(), "run tests/mutations.py --write"
