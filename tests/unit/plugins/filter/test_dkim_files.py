from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from ansible_collections.diegonmarcos.servers.plugins.filter.dkim_files import dkim_files
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_key import CryptographyTool, make_key
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_layout import SigningKey, opendkim_tables

FOLDER = "/opt/servers/mailserver/config/opendkim"


@pytest.fixture
def selectors(tmp_path: Path) -> list[dict[str, Any]]:
    found = []
    for name, key_type, state in [
        ("old", "rsa", "retired"),
        ("now", "rsa", "active"),
        ("next", "rsa", "published"),
        ("now-ed25519", "ed25519", "active"),
        ("gone", "rsa", "revoked"),
    ]:
        path = tmp_path / f"{name}.pem"
        if state != "revoked":
            path.write_bytes(make_key(CryptographyTool(), key_type))
        found.append(
            {
                "domain": "example.org",
                "selector": name,
                "key_type": key_type,
                "state": state,
                "private_key_path": str(path),
                "exists": path.exists(),
            }
        )
    return found


def by_path(files: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert len({file["path"] for file in files}) == len(files)
    return {file["path"]: file for file in files}


def test_opendkim_gets_the_active_rsa_key_and_tables_that_name_it(selectors: list[dict[str, Any]]) -> None:
    files = by_path(dkim_files(selectors, FOLDER))
    key = files[f"{FOLDER}/keys/example.org/now.private"]

    assert key["content"] == Path(selectors[1]["private_key_path"]).read_text()
    assert (key["mode"], key["no_diff"]) == ("0600", True)
    assert files[f"{FOLDER}/KeyTable"]["content"] == (
        "now._domainkey.example.org example.org:now:/etc/opendkim/keys/example.org/now.private\n"
    )
    assert files[f"{FOLDER}/SigningTable"]["content"] == "*@example.org now._domainkey.example.org\n"
    assert files[f"{FOLDER}/TrustedHosts"]["content"] == "127.0.0.1\nlocalhost\n"


def test_keys_that_sign_no_more_leave_the_box_and_the_next_one_is_not_there_yet(
    selectors: list[dict[str, Any]],
) -> None:
    files = by_path(dkim_files(selectors, FOLDER))
    assert files[f"{FOLDER}/keys/example.org/old.private"]["state"] == "absent"
    assert files[f"{FOLDER}/keys/example.org/gone.private"]["state"] == "absent"
    assert not any("next" in path for path in files)


def test_opendkim_never_sees_an_ed25519_key(selectors: list[dict[str, Any]]) -> None:
    assert "ed25519" not in str(dkim_files(selectors, FOLDER))


def test_rspamd_signs_with_both_and_reads_ed25519_as_a_bare_seed(selectors: list[dict[str, Any]]) -> None:
    files = by_path(dkim_files(selectors, "/c/rspamd", engine="rspamd", owner="112", group="114"))
    seed = files["/c/rspamd/dkim/example.org/now-ed25519.key"]
    settings = files["/c/rspamd/override.d/dkim_signing.conf"]["content"]
    key = ed25519.Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed["content"]))

    assert seed["content"].count("\n") == 1
    assert (seed["owner"], seed["group"], seed["mode"]) == ("112", "114", "0600")
    assert (
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        == Path(selectors[3]["private_key_path"]).read_text()
    )
    for name in ("now", "now-ed25519"):
        path = f"/tmp/docker-mailserver/rspamd/dkim/example.org/{name}.key"
        assert f'{{ path = "{path}"; selector = "{name}"; }},' in settings
    assert "old" not in settings
    assert "/tmp/docker-mailserver" in settings


def test_two_active_keys_of_one_domain_are_too_many_for_opendkim(selectors: list[dict[str, Any]]) -> None:
    selectors[2]["state"] = "active"
    with pytest.raises(AnsibleFilterError, match=r"example\.org has two active keys"):
        dkim_files(selectors, FOLDER)


def test_check_mode_lists_keys_that_do_not_exist_yet(selectors: list[dict[str, Any]]) -> None:
    new = [{**selectors[1], "exists": False, "private_key_path": "/nowhere"}]
    files = by_path(dkim_files(new, FOLDER))
    assert files[f"{FOLDER}/keys/example.org/now.private"]["content"] == ""


def test_a_key_that_cannot_be_read_is_told(selectors: list[dict[str, Any]]) -> None:
    with pytest.raises(AnsibleFilterError, match="/nowhere cannot be read"):
        dkim_files([{**selectors[1], "private_key_path": "/nowhere"}], FOLDER)


def test_an_unknown_engine_is_refused(selectors: list[dict[str, Any]]) -> None:
    with pytest.raises(AnsibleFilterError, match="use opendkim or rspamd"):
        dkim_files(selectors, FOLDER, engine="amavis")


def test_the_tables_themselves_leave_ed25519_keys_out() -> None:
    assert opendkim_tables([SigningKey("example.org", "e", "ed25519")])["SigningTable"] == ""
