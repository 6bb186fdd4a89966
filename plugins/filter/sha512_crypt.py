# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: sha512_crypt
short_description: Hash a password as Dovecot and the system's own accounts keep it
version_added: 0.1.0
author: Diego Nepomuceno Marcos (@diegonmarcos)
description:
  - Returns the SHA512-CRYPT hash (C($6$)) of a password with a given salt and 5000 rounds.
  - The same password and salt give the same hash, so a file of hashes changes only when a password does.
  - Needs no package, unlike P(ansible.builtin.password_hash#filter), whose default of 656000 rounds costs seconds of a
    small box at every login. Long random passwords make up for that.
positional: _input, salt
options:
  _input:
    description: The password.
    type: str
    required: true
  salt:
    description: Up to 16 letters, digits, dots and slashes. Secret or random, and different for each account.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Write an account
  ansible.builtin.copy:
    content: "ana@example.org|{SHA512-CRYPT}{{ ana_password | diegonmarcos.servers.sha512_crypt('Jx0pQ2vTn.8s') }}\n"
    dest: /opt/servers/mailserver/config/postfix-accounts.cf
    mode: "0600"
"""

RETURN = r"""
_value:
  description: The hash, starting with C($6$).
  type: str
"""

import hashlib
import re
from collections.abc import Callable

from ansible.errors import AnsibleFilterError

_ROUNDS = 5000
_DIGITS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SALT = re.compile(r"[./0-9A-Za-z]{1,16}")


def sha512_crypt(password: str, salt: str) -> str:
    """Return the crypt(3) hash of method 6 (https://www.akkadia.org/drepper/SHA-crypt.txt, default rounds)."""
    if not _SALT.fullmatch(str(salt)):
        raise AnsibleFilterError(
            "The salt of a password is not 1 to 16 letters, digits, dots and slashes: give such a one."
        )
    key, grain = str(password).encode(), str(salt).encode()
    other = hashlib.sha512(key + grain + key).digest()
    first = hashlib.sha512(key + grain + _repeat(other, len(key)))
    bits = len(key)
    while bits:
        first.update(other if bits & 1 else key)
        bits >>= 1
    state = first.digest()
    key_part = _repeat(hashlib.sha512(key * len(key)).digest(), len(key))
    grain_part = _repeat(hashlib.sha512(grain * (16 + state[0])).digest(), len(grain))
    for turn in range(_ROUNDS):
        step = hashlib.sha512(key_part if turn & 1 else state)
        if turn % 3:
            step.update(grain_part)
        if turn % 7:
            step.update(key_part)
        step.update(state if turn & 1 else key_part)
        state = step.digest()
    return f"$6${salt}${_encode(state)}"


def _repeat(block: bytes, length: int) -> bytes:
    return (block * (length // len(block) + 1))[:length]


def _encode(digest: bytes) -> str:
    """Write 64 bytes as 86 digits, three bytes at a time, in the order the method prescribes."""
    text = ""
    place = (0, 21, 42)
    for _turn in range(21):
        text += _digits(digest[place[0]] << 16 | digest[place[1]] << 8 | digest[place[2]], 4)
        place = ((place[1] + 1) % 63, (place[2] + 1) % 63, (place[0] + 1) % 63)
    return text + _digits(digest[63], 2)


def _digits(value: int, count: int) -> str:
    return "".join(_DIGITS[value >> 6 * position & 63] for position in range(count))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., str]]:
        return {"sha512_crypt": sha512_crypt}
