# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DKIM key records (RFC 6376, section 3.6.1) in every form a name server or a provider's form wants them.

Private: other collections must not import it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# RFC 1035, section 3.3: a character-string carries its length in one octet.
_STRING_BYTES = 255


class DkimError(Exception):
    """One sentence for the user; what it concerns is untouched."""


@dataclass(frozen=True)
class TxtRecord:
    """One TXT record; `name` is relative to `zone`, `fqdn` has no last dot."""

    zone: str
    fqdn: str
    value: str

    @property
    def name(self) -> str:
        return self.fqdn.removesuffix(self.zone).removesuffix(".") or "@"

    @property
    def strings(self) -> list[str]:
        return split_value(self.value)

    def zone_line(self, ttl: int = 3600) -> str:
        return f"{self.fqdn}. {ttl} IN TXT {quote_strings(self.strings)}"


def split_value(value: str) -> list[str]:
    """Split a value into strings of at most 255 bytes, which readers join with nothing between."""
    data = value.encode()
    # Cutting inside a character would leave two strings that no program reads as text.
    strings: list[str] = []
    while data:
        end = min(_STRING_BYTES, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        strings.append(data[:end].decode())
        data = data[end:]
    return strings or [""]


def quote_strings(strings: Sequence[str]) -> str:
    """Write strings as a zone file does (RFC 1035, section 5.1)."""
    return " ".join('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in strings)


def parse_domain(text: str) -> str:
    """Return a domain in the form DNS and signatures use: lower case, IDNA, no last dot; DkimError where it is none."""
    try:
        domain = text.strip().removesuffix(".").lower().encode("idna").decode()
    except UnicodeError:
        domain = ""
    labels = domain.split(".")
    if len(labels) < 2 or len(domain) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise DkimError(f"{text!r} is no domain name: write it like example.org.")
    return domain


def parse_selector(text: str) -> str:
    """Return a selector in lower case; DkimError where it is none."""
    selector = text.strip().lower()
    if not all(_LABEL.fullmatch(label) for label in selector.split(".")):
        raise DkimError(f"{text!r} is no selector: use letters, digits and hyphens, at most 63, such as 202611a.")
    return selector


def record_value(key_type: str, public: bytes, *, testing: bool = False, strict: bool = False) -> str:
    """Return the value of a key record; empty `public` makes it say that the key is withdrawn."""
    flags = ":".join([*(["y"] if testing else []), *(["s"] if strict else [])])
    tags = ["v=DKIM1", f"k={key_type}", *([f"t={flags}"] if flags else []), f"p={base64.b64encode(public).decode()}"]
    return "; ".join(tags)


def key_record(domain: str, selector: str, value: str, *, zone: str | None = None) -> TxtRecord:
    """Return the record under which verifiers look for a key; DkimError where its name would be too long."""
    fqdn = f"{selector}._domainkey.{domain}"
    if len(fqdn) > 253:
        raise DkimError(f"{fqdn} has {len(fqdn)} characters, and DNS knows no name above 253: use a shorter selector.")
    zone = zone or domain
    if fqdn != zone and not fqdn.endswith(f".{zone}"):
        raise DkimError(f"{fqdn} does not lie in the zone {zone}: name the zone that {domain} is part of.")
    return TxtRecord(zone, fqdn, value)
