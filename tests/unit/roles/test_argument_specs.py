"""Defaults and argument specifications of a role are two views of one thing and must not drift apart."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).parents[3] / "roles").iterdir() if path.is_dir())


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def options(role: Path) -> dict[str, Any]:
    (entry_point,) = load(role / "meta" / "argument_specs.yml")["argument_specs"].values()
    found = entry_point.get("options", {})
    assert isinstance(found, dict)
    return found


def defaults(role: Path) -> dict[str, Any]:
    return load(role / "defaults" / "main.yml") or {}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_default_is_specified_and_every_optional_argument_has_a_default(role: Path) -> None:
    optional = {name for name, spec in options(role).items() if not spec.get("required")}
    assert set(defaults(role)) == optional


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_specified_default_is_the_default(role: Path) -> None:
    # A template has no value before the play runs; its specification rightly names none.
    fixed = {name: value for name, value in defaults(role).items() if "{{" not in str(value)}
    specified = {name: options(role)[name].get("default") for name in fixed}
    lists = {name for name, spec in options(role).items() if spec["type"] == "list" and "options" in spec}
    assert {n: v for n, v in specified.items() if n not in lists} == {n: v for n, v in fixed.items() if n not in lists}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_public_variables_carry_the_name_of_their_role(role: Path) -> None:
    assert [name for name in options(role) if not name.startswith(f"{role.name}_")] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_default_has_a_line_of_why_above_it(role: Path) -> None:
    lines = (role / "defaults" / "main.yml").read_text().splitlines() if defaults(role) else []
    bare = [line.split(":")[0] for above, line in pairwise(lines) if line[:1].isalpha() and not above.startswith("#")]
    assert bare == []
