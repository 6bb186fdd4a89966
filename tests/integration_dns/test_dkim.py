"""Keys and records before programs that are not ours: OpenDKIM signs and compares, dkimpy signs and verifies."""

from __future__ import annotations

import base64
import typing as t
from pathlib import Path

import dkim  # type: ignore[import-untyped]
import pytest
from conftest import DOMAIN, NameServer, Result, run_module

from ansible_collections.diegonmarcos.servers.plugins.filter.dkim_files import dkim_files

MESSAGE = (
    f"From: Ann <ann@{DOMAIN}>\r\nTo: bob@example.com\r\nSubject: Hello\r\n"
    "Date: Sun, 22 Nov 2026 13:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nHow are you?\r\n"
)


@pytest.fixture(scope="module")
def published(name_server: NameServer, keys: list[Result]) -> NameServer:
    name_server.serve({DOMAIN: "".join(key["zone_line"] + "\n" for key in keys)})
    return name_server


def key_of(keys: list[Result], key_type: str) -> Result:
    return next(key for key in keys if key["key_type"] == key_type)


def verified(message: bytes, server: NameServer) -> bool:
    def ask(name: bytes, timeout: int = 5) -> bytes | None:
        return server.text(name.decode())

    return t.cast(bool, dkim.verify(message, dnsfunc=ask, minkey=1024))


def compare(server: NameServer, selector: str, private_key: str) -> tuple[int, str]:
    server.run("sh", "-c", "umask 077; cat > /tmp/key; echo 'Nameservers 127.0.0.1' > /tmp/conf", stdin=private_key)
    options = ["-d", DOMAIN, "-s", selector, "-k", "/tmp/key", "-x", "/tmp/conf", "-vvv"]
    done = server.try_to_run("opendkim-testkey", *options)
    return done.returncode, done.stdout


def test_opendkim_finds_that_key_and_record_belong_together(published: NameServer, keys: list[Result]) -> None:
    key = key_of(keys, "rsa")
    code, said = compare(published, key["selector"], Path(key["private_key_path"]).read_text())
    assert (code, "key OK" in said) == (0, True), said


def test_opendkim_tells_another_key_from_the_published_one(
    published: NameServer, keys: list[Result], tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    run_module("dkim_key", keys=[{"path": str(other), "domain": DOMAIN, "selector": "other"}])
    code, said = compare(published, key_of(keys, "rsa")["selector"], other.read_text())
    assert (code != 0, "keys do not match" in said) == (True, True), said


@pytest.mark.parametrize("size", [3072, 4096])
def test_larger_keys_are_published_in_more_strings(
    published: NameServer, keys: list[Result], tmp_path: Path, size: int
) -> None:
    path = tmp_path / "key.pem"
    options = {"path": str(path), "domain": DOMAIN, "selector": f"s{size}", "key_size": size}
    (key,) = run_module("dkim_key", keys=[options])["keys"]
    published.serve({DOMAIN: "".join(f"{item['zone_line']}\n" for item in [*keys, key])})

    code, said = compare(published, f"s{size}", path.read_text())

    assert (code, "key OK" in said, len(key["strings"])) == (0, True, {3072: 3, 4096: 3}[size]), said


def test_what_opendkim_signs_with_the_key_is_verified_through_the_record(
    published: NameServer, keys: list[Result]
) -> None:
    key = key_of(keys, "rsa")
    published.run("sh", "-c", "umask 077; cat > /tmp/key", stdin=Path(key["private_key_path"]).read_text())
    options = ["-C", "-d", DOMAIN, "-k", "/tmp/key", "-s", key["selector"]]
    signed = (
        published.run("opendkim-testmsg", *options, stdin=MESSAGE).replace("\r\n", "\n").replace("\n", "\r\n") + "\r\n"
    )

    assert f"s={key['selector']}" in signed
    assert verified(signed.encode(), published)
    assert not verified(signed.replace("How are you", "Send money").encode(), published)


def test_what_the_bare_seed_for_rspamd_signs_is_verified_through_the_record(
    published: NameServer, keys: list[Result]
) -> None:
    key = key_of(keys, "ed25519")
    files = {file["path"]: file for file in dkim_files(keys, "/c", engine="rspamd")}
    seed = files[f"/c/dkim/{DOMAIN}/{key['selector']}.key"]["content"].strip().encode()
    assert len(base64.b64decode(seed)) == 32

    signature = dkim.sign(
        MESSAGE.encode(), key["selector"].encode(), DOMAIN.encode(), seed, signature_algorithm=b"ed25519-sha256"
    )

    assert verified(signature + MESSAGE.encode(), published)
    assert not verified(signature + MESSAGE.replace("How are you", "Send money").encode(), published)


def test_a_withdrawn_key_verifies_nothing_any_more(published: NameServer, keys: list[Result]) -> None:
    key = key_of(keys, "rsa")
    private = Path(key["private_key_path"]).read_bytes()
    signature = dkim.sign(MESSAGE.encode(), key["selector"].encode(), DOMAIN.encode(), private)
    assert verified(signature + MESSAGE.encode(), published)

    published.serve({DOMAIN: f'{key["fqdn"]}. IN TXT "v=DKIM1; k=rsa; p="\n'})

    assert not verified(signature + MESSAGE.encode(), published)
