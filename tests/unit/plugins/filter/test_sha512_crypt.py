"""Hashes as the specification and other implementations make them."""

from __future__ import annotations

import subprocess

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.diegonmarcos.servers.plugins.filter.sha512_crypt import sha512_crypt

# From the specification.
PUBLISHED = {
    ("Hello world!", "saltstring"): (
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
    ),
}


@pytest.mark.parametrize(("password", "salt"), PUBLISHED)
def test_the_published_example_is_met(password: str, salt: str) -> None:
    assert sha512_crypt(password, salt) == PUBLISHED[(password, salt)]


@pytest.mark.parametrize(
    "password", ["a", "x" * 63, "x" * 64, "x" * 65, "x" * 130, "ñandú y cigüeña", "with 'quotes' $6$"]
)
@pytest.mark.parametrize("salt", ["b", "./aZ09", "abcdefghijklmnop"])
def test_openssl_makes_the_same_hash(password: str, salt: str) -> None:
    command = ["openssl", "passwd", "-6", "-salt", salt, "-stdin"]
    done = subprocess.run(command, input=password + "\n", capture_output=True, text=True, check=True)
    assert sha512_crypt(password, salt) == done.stdout.strip()


@pytest.mark.parametrize("salt", ["", "seventeen-letters", "with$dollar", "with:colon", "ñ"])
def test_a_salt_that_would_break_the_line_is_refused(salt: str) -> None:
    with pytest.raises(AnsibleFilterError, match="salt of a password"):
        sha512_crypt("secret", salt)
