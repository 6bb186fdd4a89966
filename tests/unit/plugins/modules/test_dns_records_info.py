from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunModule = Callable[..., dict[str, Any]]
BOX = {"domain": "example.org", "public_ip": "203.0.113.10", "hosts": ["www.example.org"]}


@pytest.fixture
def without_dnspython(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "python" / "dns"
    missing.mkdir(parents=True)
    (missing / "__init__.py").write_text("raise ImportError('not installed here')\n")
    monkeypatch.setenv("PYTHONPATH", str(missing.parent))


@pytest.mark.usefixtures("without_dnspython")
def test_the_library_is_named_where_it_is_missing(run_module: RunModule) -> None:
    result = run_module("dns_records_info", BOX)
    assert result["failed"]
    assert "Failed to import the required Python library (dnspython)" in result["msg"]


@pytest.mark.usefixtures("without_dnspython")
def test_records_need_no_library_while_nobody_is_asked(run_module: RunModule) -> None:
    result = run_module("dns_records_info", {**BOX, "check": False}, check=True)
    assert not result["changed"]
    assert [record["zone_line"] for record in result["records"]] == [
        "www.example.org. 3600 IN A 203.0.113.10",
        'example.org. 3600 IN CAA 0 issue "letsencrypt.org"',
    ]
    assert result["table"][1] == "-       A     www.example.org  203.0.113.10"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"public_ip": "box.example.org"}, "'box.example.org' is no IPv4 address"),
        ({"resolver": "dns.example.org"}, "resolver is 'dns.example.org', which cannot be asked"),
        (
            {"mail": {"hostname": "mail.example.org", "domains": ["example.org"], "selectors": [{"fqdn": "x"}]}},
            "hand over what dkim_selectors returns",
        ),
    ],
)
def test_a_mistake_is_told_in_one_sentence(run_module: RunModule, wrong: dict[str, Any], sentence: str) -> None:
    result = run_module("dns_records_info", {**BOX, **wrong})
    assert result["failed"]
    assert sentence in result["msg"]
