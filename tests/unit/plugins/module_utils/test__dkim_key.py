from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_key import (
    CryptographyTool,
    KeyOutcome,
    KeyTool,
    OpensslTool,
    WantedKey,
    ed25519_seed,
    ensure_key,
    make_key,
    read_key,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_record import DkimError

TOOLS: list[KeyTool] = [CryptographyTool(), OpensslTool()]


def ensure(wanted: WantedKey, tmp_path: Path, *, tool: KeyTool = TOOLS[0], check: bool = False) -> KeyOutcome:
    return ensure_key(wanted, tool=tool, check=check, temporary_directory=tmp_path)


def openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=True).stdout


@pytest.mark.parametrize("reader", TOOLS)
@pytest.mark.parametrize("maker", TOOLS)
@pytest.mark.parametrize(("key_type", "size"), [("rsa", 2048), ("rsa", 3072), ("ed25519", 256)])
def test_each_tool_reads_what_the_other_makes(maker: KeyTool, reader: KeyTool, key_type: str, size: int) -> None:
    pem = make_key(maker, key_type, size)
    facts = read_key(reader, pem, "k")

    assert (facts.key_type, facts.size) == (key_type, size)
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert pem.endswith(b"\n")


@pytest.mark.parametrize("tool", TOOLS)
def test_an_rsa_record_carries_the_structure_and_an_ed25519_record_the_bare_key(tool: KeyTool) -> None:
    rsa_pem = openssl("genrsa", "2048")
    ed_pem = openssl("genpkey", "-algorithm", "ED25519")

    assert read_key(tool, rsa_pem, "k").public == openssl("pkey", "-pubout", "-outform", "DER", stdin=rsa_pem)
    public = serialization.load_pem_private_key(ed_pem, None).public_key()
    assert isinstance(public, ed25519.Ed25519PublicKey)
    assert read_key(tool, ed_pem, "k").public == public.public_bytes_raw()
    assert len(read_key(tool, ed_pem, "k").public) == 32


@pytest.mark.parametrize("tool", TOOLS)
def test_an_rsa_key_in_the_older_pem_form_is_read_too(tool: KeyTool) -> None:
    key = rsa.generate_private_key(65537, 2048)
    old = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    assert b"BEGIN RSA PRIVATE KEY" in old
    assert read_key(tool, old, "k").size == 2048


def test_the_seed_of_an_ed25519_key_makes_the_same_key_again() -> None:
    pem = make_key(OpensslTool(), "ed25519")
    again = ed25519.Ed25519PrivateKey.from_private_bytes(ed25519_seed(pem))
    assert again.public_key().public_bytes_raw() == read_key(TOOLS[0], pem, "k").public


def test_there_is_no_seed_in_an_rsa_key() -> None:
    with pytest.raises(DkimError, match="no Ed25519 private key"):
        ed25519_seed(make_key(TOOLS[0], "rsa"))


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "holds no PEM at all"),
        (b"hello", "holds no PEM at all"),
        (_pem(ec.generate_private_key(ec.SECP256R1())), "neither RSA nor Ed25519"),
        (_pem(rsa.generate_private_key(65537, 2048), b"secret"), "protected by a pass phrase"),
        (_pem(rsa.generate_private_key(65537, 1024))[:-60] + b"\n-----END PRIVATE KEY-----\n", "cannot be read"),
        (_pem(ec.generate_private_key(ec.SECP256R1())) * 2, "holds 2 PEM blocks"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "holds a public key, not a private key"),
        (_pem(rsa.generate_private_key(65537, 8192 // 2 + 512)), "4608 bits, which receivers need not accept"),
    ],
    ids=["empty", "text", "elliptic", "pass phrase", "damaged", "two", "public", "too large"],
)
@pytest.mark.parametrize("regenerate", ["never", "fail"])
def test_what_is_no_key_for_dkim_is_told_and_stays(
    tool: KeyTool, content: bytes, sentence: str, regenerate: str, tmp_path: Path
) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(DkimError, match=sentence) as told:
        ensure(WantedKey(path, regenerate=regenerate), tmp_path, tool=tool)
    assert path.read_bytes() == content
    assert "PRIVATE" not in str(told.value)
    assert "\n" not in str(told.value)


def test_check_then_run_then_check_then_run(tmp_path: Path) -> None:
    wanted = WantedKey(tmp_path / "key.pem")
    predicted = ensure(wanted, tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []
    done = ensure(wanted, tmp_path)
    predicted_again = ensure(wanted, tmp_path, check=True)
    again = ensure(wanted, tmp_path)

    assert [run.changed for run in (predicted, done, predicted_again, again)] == [True, True, False, False]
    assert (predicted.facts, predicted.would_create) == (None, True)
    assert done.facts is not None
    assert done.facts == predicted_again.facts == again.facts
    assert not again.would_create
    assert "PRIVATE" not in str([predicted.diff, done.diff, again.diff])


def test_the_file_is_private_from_its_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    write = os.write

    def watched(descriptor: int, data: bytes) -> int:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", watched)
    before = os.umask(0)
    try:
        ensure(WantedKey(tmp_path / "key.pem", mode="0640"), tmp_path)
    finally:
        os.umask(before)

    assert set(modes) == {0o600}
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o640


def test_mode_is_corrected_without_a_new_key(tmp_path: Path) -> None:
    wanted = WantedKey(tmp_path / "key.pem")
    first = ensure(wanted, tmp_path)
    wanted.path.chmod(0o644)

    second = ensure(wanted, tmp_path)

    assert second.changed
    assert second.facts == first.facts
    assert second.diff["after"].startswith("0600")


def test_an_owner_that_was_not_asked_for_is_left_as_the_mail_server_made_it(tmp_path: Path) -> None:
    wanted = WantedKey(tmp_path / "key.pem")
    ensure(wanted, tmp_path)
    os.chown(wanted.path, 112, 115)

    assert not ensure(wanted, tmp_path).changed
    assert ensure(WantedKey(wanted.path, owner="0", group="0"), tmp_path).changed


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"key_type": "ed25519"}, "holds a key of type rsa, not ed25519"),
        ({"key_size": 3072}, "holds an RSA key of 2048 bits, not 3072"),
    ],
)
def test_another_kind_or_size_replaces_nothing(tmp_path: Path, other: dict[str, str], sentence: str) -> None:
    path = tmp_path / "key.pem"
    first = ensure(WantedKey(path), tmp_path)

    with pytest.raises(DkimError, match=sentence):
        ensure(WantedKey(path, **other), tmp_path)  # type: ignore[arg-type]  # the table mixes types
    kept = ensure(WantedKey(path, regenerate="never", **other), tmp_path)  # type: ignore[arg-type]

    assert not kept.changed
    assert kept.facts == first.facts


def test_a_key_is_made_anew_only_when_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    first = ensure(WantedKey(path), tmp_path)
    predicted = ensure(WantedKey(path, regenerate="always"), tmp_path, check=True)
    second = ensure(WantedKey(path, regenerate="always"), tmp_path)

    assert (predicted.changed, predicted.would_create) == (True, True)
    assert first.facts is not None
    assert second.facts is not None
    assert second.facts.public != first.facts.public
    assert first.facts.fingerprint in second.diff["before"]


def test_absent_removes_the_key_once(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    ensure(WantedKey(path), tmp_path)
    gone = WantedKey(path, state="absent")

    predicted = ensure(gone, tmp_path, check=True)
    assert path.exists()
    runs = [ensure(gone, tmp_path).changed, ensure(gone, tmp_path).changed]

    assert (predicted.changed, runs, path.exists()) == (True, [True, False], False)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    ensure(WantedKey(tmp_path / "real.pem"), tmp_path)
    (tmp_path / "key.pem").symlink_to("real.pem")
    with pytest.raises(DkimError, match="is a link"):
        ensure(WantedKey(tmp_path / "key.pem", regenerate="always"), tmp_path)


def test_an_ed25519_key_has_no_size_to_choose(tmp_path: Path) -> None:
    with pytest.raises(DkimError, match="leave key_size out"):
        ensure(WantedKey(tmp_path / "key.pem", "ed25519", 2048), tmp_path)


def test_a_machine_without_any_tool_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DkimError, match="install one of them"):
        ensure(WantedKey(tmp_path / "key.pem"), tmp_path, tool=OpensslTool("no-such-openssl"))


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DkimError, match="does not exist"):
        ensure(WantedKey(tmp_path / "none" / "key.pem"), tmp_path)
