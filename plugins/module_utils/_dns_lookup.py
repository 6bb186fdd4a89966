# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a resolver through dnspython, never for longer than agreed. Private: other collections must not import it."""

from __future__ import annotations

import ipaddress
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ansible_collections.diegonmarcos.servers.plugins.module_utils._dns_check import Answer

if TYPE_CHECKING:
    from dns.rdata import Rdata

try:
    import dns.exception
    import dns.name
    import dns.resolver

    DNSPYTHON_ERROR = None
except ImportError:
    DNSPYTHON_ERROR = traceback.format_exc()

_AT_ONCE = 8
# As many questions as a resolver may leave unanswered before it counts as silent.
_PATIENCE = 2
# What fits into one packet on every way; longer answers come by TCP.
_UDP_BYTES = 1232


class Resolver:
    """A Lookup that remembers answers, and stops asking a server that does not answer."""

    def __init__(self, address: str | None, port: int, timeout: float) -> None:
        try:
            self._resolver = dns.resolver.Resolver(configure=address is None)
        except dns.resolver.NoResolverConfiguration as error:
            raise ValueError("This machine has no resolver configured: name one.") from error
        if address is not None:
            self._resolver.nameservers = [str(ipaddress.ip_address(address))]
            self._resolver.port = port
        self._resolver.lifetime = timeout
        self._resolver.timeout = min(timeout, max(1.0, timeout / 2))
        self._resolver.use_edns(0, 0, _UDP_BYTES)
        self.name = ", ".join(f"{server} port {self._resolver.port}" for server in self._resolver.nameservers)
        self._timeout = timeout
        # However many names there are, nobody waits longer than this.
        self._deadline = time.monotonic() + 10 * timeout
        self._answers: dict[tuple[str, str], Answer] = {}
        self._answered = False
        self._silent = 0
        self._lock = threading.Lock()

    def prefetch(self, questions: Sequence[tuple[str, str]]) -> None:
        """Ask many questions at the same time."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda question: self(*question), questions))

    def __call__(self, name: str, kind: str) -> Answer:
        known = self._answers.get((name, kind))
        if known is not None:
            return known
        answer = self._ask(name, kind)
        with self._lock:
            self._answers[name, kind] = answer
            self._answered = self._answered or answer.status not in ("silent",)
            self._silent += answer.status == "silent"
        return answer

    def _ask(self, name: str, kind: str) -> Answer:
        silence = f"the resolver {self.name} did not answer within {self._timeout:g} s"
        with self._lock:
            given_up = self._silent >= _PATIENCE and not self._answered
        if given_up or time.monotonic() > self._deadline:
            return Answer("silent", detail=silence)
        try:
            found = self._resolver.resolve(f"{name}.", kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            return Answer("nxdomain", canonical=_text(error.canonical_name))
        except dns.exception.Timeout:
            return Answer("silent", detail=silence)
        except dns.resolver.NoNameservers as error:
            return Answer("failed", detail=_reason(error, self.name))
        except (dns.exception.DNSException, OSError) as error:
            return Answer(
                "failed", detail=f"the resolver {self.name} gave an answer of no use ({type(error).__name__})"
            )
        canonical = _text(found.canonical_name)
        if found.rrset is None:
            return Answer("empty", canonical=canonical)
        return Answer("found", tuple(sorted(_value(item, kind) for item in found.rrset)), canonical)


def _reason(error: dns.resolver.NoNameservers, name: str) -> str:
    last = (error.kwargs.get("errors") or [("", "", 0, "an error")])[-1][3]
    if str(last) == "SERVFAIL":
        return f"the resolver {name} failed (SERVFAIL), so the zone's own servers or its DNSSEC signatures are broken"
    return f"the resolver {name} answered {last}"


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _value(item: Rdata, kind: str) -> str:
    """Return a value as a Record writes it."""
    if kind == "TXT":
        return b"".join(getattr(item, "strings")).decode("utf-8", "replace")  # noqa: B009  # its type depends on kind
    if kind == "CAA":
        flags, tag, value = (getattr(item, part) for part in ("flags", "tag", "value"))
        return f"{flags} {tag.decode()} {value.decode('utf-8', 'replace')}"
    text = item.to_text().lower()
    return text if text == "." or not text.endswith(".") else text.removesuffix(".")
