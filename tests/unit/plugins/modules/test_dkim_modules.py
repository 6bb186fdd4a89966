from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def keys(tmp_path: Path) -> list[dict[str, Any]]:
    (tmp_path / "keys").mkdir()
    return [
        {"path": f"{tmp_path}/keys/rsa.pem", "domain": "Example.org", "selector": "s1"},
        {
            "path": f"{tmp_path}/keys/ed.pem",
            "domain": "news.example.org",
            "selector": "s2",
            "key_type": "ed25519",
            "zone": "example.org",
        },
    ]


def test_check_then_run_then_check_then_run(run_module: RunModule, keys: list[dict[str, Any]], tmp_path: Path) -> None:
    predicted = run_module("dkim_key", {"keys": keys}, check=True)
    assert list((tmp_path / "keys").iterdir()) == []
    done = run_module("dkim_key", {"keys": keys})
    predicted_again = run_module("dkim_key", {"keys": keys}, check=True)
    done_again = run_module("dkim_key", {"keys": keys})

    assert [run["changed"] for run in (predicted, done, predicted_again, done_again)] == [True, True, False, False]
    assert predicted["keys"][0].keys() == done["keys"][0].keys()
    assert [key["record"] for key in predicted["keys"]] == [None, None]
    assert [key["would_create"] for key in predicted["keys"]] == [True, True]
    assert done["keys"] == predicted_again["keys"] == done_again["keys"]
    secrets = [line for file in (tmp_path / "keys").iterdir() for line in file.read_text().splitlines()[1:-1]]
    assert secrets
    for run in (predicted, done, done_again):
        assert "PRIVATE" not in str(run)
        assert not any(line in str(run) for line in secrets)
    assert "SHA-256 of the public key" in str(done["diff"])


def test_the_record_comes_in_every_form(run_module: RunModule, keys: list[dict[str, Any]]) -> None:
    rsa, ed25519 = run_module("dkim_key", {"keys": keys, "ttl": 60})["keys"]

    assert rsa["record"].startswith("v=DKIM1; k=rsa; p=MIIBIjANBgkq")
    assert (len(rsa["record"]), [len(text) for text in rsa["strings"]]) == (410, [255, 155])
    assert rsa["zone_line"] == 's1._domainkey.example.org. 60 IN TXT "{}" "{}"'.format(*rsa["strings"])
    assert (rsa["fqdn"], rsa["name"]) == ("s1._domainkey.example.org", "s1._domainkey")
    assert (ed25519["key_size"], len(ed25519["strings"]), ed25519["name"]) == (256, 1, "s2._domainkey.news")


def test_info_says_the_same_and_nothing_where_there_is_no_key(
    run_module: RunModule, keys: list[dict[str, Any]], tmp_path: Path
) -> None:
    made = run_module("dkim_key", {"keys": keys})["keys"]
    asked = [{name: key[name] for name in ("path", "domain", "selector")} for key in keys[:1]]
    asked.append({"path": f"{tmp_path}/none.pem", "domain": "example.org", "selector": "s3"})
    found = run_module("dkim_key_info", {"keys": asked}, check=True)

    there, missing = found["keys"]
    assert not found["changed"]
    assert there["exists"]
    assert there["mode"] == "0600"
    assert {name: there[name] for name in ("record", "fingerprint", "zone_line")} == {
        name: made[0][name] for name in ("record", "fingerprint", "zone_line")
    }
    assert (missing["exists"], missing["record"], missing["mode"]) == (False, None, None)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"domain": "nodot"}, "'nodot' is no domain name"),
        ({"selector": "a b"}, "'a b' is no selector"),
        ({"zone": "example.net"}, "does not lie in the zone example.net"),
        ({"mode": 420}, "must be quoted octal"),
        ({"owner": "nobody-there"}, "owner nobody-there"),
    ],
)
def test_a_mistake_is_told_before_any_key_is_made(
    run_module: RunModule, keys: list[dict[str, Any]], tmp_path: Path, wrong: dict[str, Any], sentence: str
) -> None:
    result = run_module("dkim_key", {"keys": [{**keys[0], **wrong}, keys[1]]})
    assert result["failed"]
    assert sentence in result["msg"]
    assert list((tmp_path / "keys").iterdir()) == []


def test_a_path_that_is_listed_twice_is_refused(run_module: RunModule, keys: list[dict[str, Any]]) -> None:
    assert "is listed twice" in run_module("dkim_key", {"keys": [keys[0], keys[0]]})["msg"]


def test_selectors_are_made_once_and_shown(run_module: RunModule, tmp_path: Path) -> None:
    arguments = {"directory": f"{tmp_path}/dkim", "domains": ["example.org"], "key_types": ["rsa", "ed25519"]}
    predicted = run_module("dkim_selectors", arguments, check=True)
    assert not (tmp_path / "dkim").exists()
    done = run_module("dkim_selectors", arguments)
    again = run_module("dkim_selectors", arguments)

    assert [predicted["changed"], done["changed"], again["changed"]] == [True, True, False]
    assert done["selectors"] == again["selectors"]
    assert predicted["selectors"][0].keys() == done["selectors"][0].keys()
    assert [(item["key_type"], item["state"], item["exists"]) for item in done["selectors"]] == [
        ("rsa", "active", True),
        ("ed25519", "active", True),
    ]
    assert done["selectors"][0]["zone_line"].startswith(done["selectors"][0]["fqdn"] + ". 3600 IN TXT ")
    assert "PRIVATE" not in str(done)


def test_a_server_with_nothing_but_openssl_makes_and_reads_keys(
    run_module: RunModule, keys: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_library = run_module("dkim_key", {"keys": keys})
    missing = tmp_path / "python" / "cryptography"
    missing.mkdir(parents=True)
    (missing / "__init__.py").write_text("raise ImportError('not installed here')\n")
    monkeypatch.setenv("PYTHONPATH", str(missing.parent))

    without_library = run_module("dkim_key", {"keys": keys})
    others = [{**key, "path": key["path"] + ".new", "selector": key["selector"] + "n"} for key in keys]
    made = run_module("dkim_key", {"keys": others})
    monkeypatch.delenv("PYTHONPATH")
    read = run_module("dkim_key", {"keys": others})

    assert without_library["keys"] == with_library["keys"]
    assert (made["changed"], read["changed"]) == (True, False)
    assert made["keys"][0]["record"] == read["keys"][0]["record"]
    assert made["keys"][1]["record"] == read["keys"][1]["record"]
