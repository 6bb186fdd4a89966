# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DKIM keys: made, read, and brought into place. Private: other collections must not import it.

A key in use stands in the DNS, so nothing here replaces one unless that very thing was asked for, and everything that
is said about a key is computed from the private key at that moment: no stored record can drift from it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.diegonmarcos.servers.plugins.module_utils._config_files import (
    ConfigFilesError,
    Outcome,
    ensure,
    parse_entries,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._dkim_record import DkimError

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

RSA_SIZES = (2048, 3072, 4096)
DEFAULT_RSA_SIZE = 2048
# Verifiers must take no less and need take no more (RFC 8301, section 3.2).
_SMALLEST_RSA = 1024
_LARGEST_RSA = 4096

_RSA_OID = bytes.fromhex("2a864886f70d010101")
_ED25519_OID = bytes.fromhex("2b6570")
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s(.+?)-----END \1-----", re.DOTALL)


@dataclass(frozen=True)
class KeyFacts:
    """What the world may know of a private key; `public` are the bytes that p= of its record encodes."""

    key_type: str
    size: int
    public: bytes

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.public).hexdigest()


@dataclass(frozen=True)
class WantedKey:
    """One private key as the user asks for it; `key_size` None takes any size there is, and 2048 for a new key."""

    path: Path
    key_type: str = "rsa"
    key_size: int | None = None
    regenerate: str = "fail"
    state: str = "present"
    owner: str | None = None
    group: str | None = None
    mode: str = "0600"


@dataclass(frozen=True)
class KeyOutcome:
    """`facts` is None where there is no key: absent, or not made yet in check mode."""

    changed: bool
    facts: KeyFacts | None
    would_create: bool
    diff: dict[str, str]


class KeyTool(Protocol):
    """Makes keys and derives public ones; two of them, so that nothing has to be installed for it."""

    def make(self, key_type: str, size: int) -> bytes:
        """Return a new private key as PEM (PKCS #8)."""

    def public_der(self, pem: bytes) -> bytes:
        """Return the SubjectPublicKeyInfo of a private key; ValueError where it cannot be read."""


class CryptographyTool:
    """The Python library, where it is installed."""

    def make(self, key_type: str, size: int) -> bytes:
        key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
        if key_type == "ed25519":
            key = ed25519.Ed25519PrivateKey.generate()
        else:
            key = rsa.generate_private_key(public_exponent=65537, key_size=size)
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def public_der(self, pem: bytes) -> bytes:
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(str(error)) from error
        return key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )


class OpensslTool:
    """The openssl program, which every server has; private keys pass through pipes, never through files."""

    def __init__(self, program: str = "openssl") -> None:
        self._program = program

    def make(self, key_type: str, size: int) -> bytes:
        options = ["-algorithm", "ED25519"]
        if key_type == "rsa":
            options = ["-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{size}"]
        return self._run("genpkey", *options)

    def public_der(self, pem: bytes) -> bytes:
        # A pass phrase, even an empty one, keeps it from asking on the terminal.
        return self._run("pkey", "-passin", "pass:", "-pubout", "-outform", "DER", stdin=pem)

    def _run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        environment = {**os.environ, "LC_ALL": "C"}
        try:
            done = subprocess.run(
                [self._program, *arguments], input=stdin, capture_output=True, env=environment, check=False, timeout=300
            )
        except OSError as error:
            raise DkimError(
                f"{self._program} cannot be run ({error.strerror or error}) and Python's cryptography is not installed:"
                " install one of them (package openssl)."
            ) from error
        if done.returncode:
            raise ValueError(done.stderr.decode(errors="replace").strip())
        return done.stdout


def key_tool() -> KeyTool:
    """Return the tool this machine has."""
    return CryptographyTool() if HAS_CRYPTOGRAPHY else OpensslTool()


def make_key(tool: KeyTool, key_type: str, size: int | None = None) -> bytes:
    """Return a new private key as PEM, read back once before anybody relies on it."""
    try:
        pem = tool.make(key_type, size or DEFAULT_RSA_SIZE)
        read_key(tool, pem, "the new key")
    except ValueError as error:
        raise DkimError(f"No {key_type} key could be made: {error}") from error
    return pem


def read_key(tool: KeyTool, pem: bytes, name: str) -> KeyFacts:
    """Return what a private key says of itself; DkimError tells in one sentence why it is of no use for DKIM."""
    blocks = [(label.decode(), body) for label, body in _PEM.findall(pem)]
    private = [label for label, _body in blocks if label.endswith("PRIVATE KEY")]
    if not private:
        what = f"a {blocks[0][0].lower()}" if blocks else "no PEM at all"
        raise DkimError(f"{name} holds {what}, not a private key: move it away, or name another file.")
    if len(blocks) > 1:
        raise DkimError(f"{name} holds {len(blocks)} PEM blocks: leave only the private key in it.")
    if b"ENCRYPTED" in pem:
        raise DkimError(
            f"{name} is protected by a pass phrase, which no mail server can enter: take it off"
            " (openssl pkey -in OLD -out NEW)."
        )
    try:
        der = tool.public_der(pem)
    except ValueError as error:
        raise DkimError(f"{name} holds a private key that cannot be read: restore it, or name another file.") from error
    facts = parse_public_key(der)
    if facts is None:
        raise DkimError(f"{name} holds a key that is neither RSA nor Ed25519, the two kinds DKIM knows.")
    if facts.key_type == "rsa" and not _SMALLEST_RSA <= facts.size <= _LARGEST_RSA:
        raise DkimError(
            f"{name} holds an RSA key of {facts.size} bits, which receivers need not accept:"
            f" use one of {', '.join(map(str, RSA_SIZES))}."
        )
    return facts


def parse_public_key(der: bytes) -> KeyFacts | None:
    """Read a SubjectPublicKeyInfo (RFC 5280); None where its kind is not one that DKIM knows."""
    try:
        (_tag, algorithm), (_tag, bits) = _der_items(_der_items(der)[0][1])
        oid = _der_items(algorithm)[0][1]
        # The first octet of a bit string counts unused bits.
        content = bits[1:]
        if oid == _ED25519_OID:
            # RFC 8463: the raw key, without the structure around it.
            return KeyFacts("ed25519", 256, content)
        if oid == _RSA_OID:
            modulus = _der_items(_der_items(content)[0][1])[0][1]
            return KeyFacts("rsa", int.from_bytes(modulus, "big").bit_length(), der)
    except (IndexError, ValueError):
        return None
    return None


def ed25519_seed(pem: bytes) -> bytes:
    """Return the 32 octets an Ed25519 private key (PKCS #8, RFC 8410) is made from."""
    try:
        body = base64.b64decode(_PEM.findall(pem)[0][1])
        fields = _der_items(_der_items(body)[0][1])
        seed = _der_items(fields[2][1])[0][1]
    except (IndexError, binascii.Error) as error:
        raise DkimError("This is no Ed25519 private key in PEM (PKCS #8).") from error
    if _der_items(fields[1][1])[0][1] != _ED25519_OID or len(seed) != 32:
        raise DkimError("This is no Ed25519 private key in PEM (PKCS #8).")
    return seed


def _der_items(data: bytes) -> list[tuple[int, bytes]]:
    """Split the content of a DER structure into tags and contents; IndexError or ValueError where it is cut off."""
    items = []
    position = 0
    while position < len(data):
        tag, length = data[position], data[position + 1]
        position += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[position : position + count], "big")
            position += count
        if position + length > len(data):
            raise ValueError("cut off")
        items.append((tag, data[position : position + length]))
        position += length
    return items


def ensure_key(wanted: WantedKey, *, tool: KeyTool, check: bool, temporary_directory: Path) -> KeyOutcome:
    """Bring one private key into its state; nothing is made or touched in check mode."""
    if wanted.key_type == "ed25519" and wanted.key_size is not None:
        raise DkimError(f"{wanted.path} is to be an Ed25519 key, which has one size only: leave key_size out.")
    before = _read_file(wanted.path)
    if wanted.state == "absent":
        return _remove(wanted, before, tool, check, temporary_directory)
    facts = None
    if before is not None and wanted.regenerate != "always":
        facts = read_key(tool, before, str(wanted.path))
        if wanted.regenerate == "fail":
            _refuse_mismatch(wanted, facts)
    if facts is None and check:
        return KeyOutcome(True, None, True, _diff(wanted.path, _summary(tool, before), "a new key\n"))
    pem = before if facts is not None and before is not None else make_key(tool, wanted.key_type, wanted.key_size)
    after = facts or read_key(tool, pem, str(wanted.path))
    outcome = _place(wanted, pem, check, temporary_directory)
    old = _summary(tool, before)
    new = _summary(tool, pem)
    diff = _diff(wanted.path, old, new) if old != new else (outcome.diff[0] if outcome.diff else {})
    return KeyOutcome(outcome.changed, after, False, diff)


def _refuse_mismatch(wanted: WantedKey, facts: KeyFacts) -> None:
    remedy = (
        "leave it so (regenerate: never), use another selector for a new key,"
        " or replace it (regenerate: always), which voids the published record."
    )
    if facts.key_type != wanted.key_type:
        raise DkimError(f"{wanted.path} holds a key of type {facts.key_type}, not {wanted.key_type}: {remedy}")
    if wanted.key_size is not None and facts.size != wanted.key_size:
        raise DkimError(f"{wanted.path} holds an RSA key of {facts.size} bits, not {wanted.key_size}: {remedy}")


def _remove(
    wanted: WantedKey, before: bytes | None, tool: KeyTool, check: bool, temporary_directory: Path
) -> KeyOutcome:
    if before is None:
        return KeyOutcome(False, None, False, {})
    _write([{"path": str(wanted.path), "state": "absent"}], check, temporary_directory)
    return KeyOutcome(True, None, False, _diff(wanted.path, _summary(tool, before), ""))


def _place(wanted: WantedKey, pem: bytes, check: bool, temporary_directory: Path) -> Outcome:
    owner, group = wanted.owner, wanted.group
    # Not given means as it is: a mail server takes over the keys it is handed, and would be undone at each run.
    present = wanted.path.stat() if wanted.path.exists() else None
    entry: dict[str, Any] = {
        "path": str(wanted.path),
        "content": pem.decode("utf-8", "surrogateescape"),
        "mode": wanted.mode,
        "owner": owner if owner is not None else str(present.st_uid if present else os.geteuid()),
        "group": group if group is not None else str(present.st_gid if present else os.getegid()),
        "no_diff": True,
    }
    return _write([entry], check, temporary_directory)


def _write(entries: list[dict[str, Any]], check: bool, temporary_directory: Path) -> Outcome:
    try:
        return ensure(
            parse_entries(entries, accounts_may_be_missing=check),
            run=lambda _command: (0, "", ""),
            check=check,
            temporary_directory=temporary_directory,
        )
    except ConfigFilesError as error:
        raise DkimError(str(error)) from error


def _read_file(path: Path) -> bytes | None:
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(found.st_mode):
        raise DkimError(f"{path} is a link, a directory or a device, not a file of its own: move it away first.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DkimError(f"{path} cannot be read ({error.strerror}): run this as its owner.") from error


def _summary(tool: KeyTool, pem: bytes | None) -> str:
    if pem is None:
        return ""
    try:
        facts = read_key(tool, pem, "")
    except DkimError:
        return "something that is no key for DKIM\n"
    return f"{facts.key_type} key of {facts.size} bits, SHA-256 of the public key {facts.fingerprint}\n"


def _diff(path: Path, before: str, after: str) -> dict[str, str]:
    return {"before_header": str(path), "after_header": str(path), "before": before, "after": after}
