# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates of Nginx Proxy Manager: which exist, which to request, and why a request failed. Private."""

from __future__ import annotations

import re
import ssl
import tempfile
import time
import typing as t
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import (
    ACME_TIMEOUT,
    Api,
    Interrupted,
    Json,
    NpmError,
    RequestFailed,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_data import read_data
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_vhost import (
    Vhost,
    check_online,
    lower_names,
    read_vhosts,
    save_again,
)

PEM_PARTS = ("certificate", "certificate_key", "intermediate_certificate")
# A row is written before certbot runs, and `expires_on` is then the time of writing.
_YOUNGEST = timedelta(hours=1)
# certbot's own advice and paths say nothing to the reader of a play.
_NOISE = ("Saving debug log", "Ask for help", "Some challenges have failed", "See the logfile", "An unexpected error")

# What the authority says, and what to do about it; the first that fits wins.
_REMEDIES = (
    (
        ("ratelimited", "too many", "rate limit"),
        "wait until the time named above, or test against a staging authority with npm_acme_server",
    ),
    (
        ("nxdomain", "no valid ip addresses", "no such host", "dns problem", "(dns)", "servfail"),
        "make DNS records (A, AAAA) of every name point to the public address of this server",
    ),
    (("caa",), "let the CAA record of the domain name this certificate authority"),
    (
        ("timeout", "timed out", "connection refused", "(connection)", "no route to host", "could not reach it"),
        "let port 80 of every name reach this server: security list of the cloud, host firewall, DNS",
    ),
    (
        ("(unauthorized)", "invalid response", "incorrect validation"),
        "another server answers at these names: let their DNS records (A and AAAA) point to this one only",
    ),
    (
        ("illegal character", "rejectedidentifier", "not end with a valid public suffix", "malformed"),
        "use public host names made of letters, digits and dashes",
    ),
    (
        ("max retries exceeded", "certificate verify failed", "connectionerror", "connecttimeout"),
        "let the server reach the certificate authority: npm_acme_server, npm_acme_ca, outgoing port 443",
    ),
)


class AcmeError(NpmError):
    """The certificate authority did not give a certificate."""


@dataclass(frozen=True)
class Certificate:
    """One row of the API; `pem` holds secrets and never leaves this file's functions."""

    id: int
    provider: str
    name: str
    domains: frozenset[str]
    created_on: datetime
    expires_on: datetime
    pem: t.Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def issued(self) -> bool:
        """False for the remains of a request during which the API was killed: no files, and lethal to attach."""
        return self.provider != "letsencrypt" or self.expires_on - self.created_on > _YOUNGEST

    @property
    def folder(self) -> str:
        """Where its files lie, as the container sees it."""
        root = "/etc/letsencrypt/live" if self.provider == "letsencrypt" else "/data/custom_ssl"
        return f"{root}/npm-{self.id}"

    def describe(self) -> Json:
        return {
            "id": self.id,
            "provider": "letsencrypt" if self.provider == "letsencrypt" else "custom",
            "name": self.name,
            "domain_names": sorted(self.domains),
            "expires_on": self.expires_on.isoformat(sep=" "),
            "folder": self.folder,
        }


@dataclass(frozen=True)
class WantedCertificate:
    """One entry of the module's list."""

    provider: str
    domains: frozenset[str] = frozenset()
    name: str = ""
    present: bool = True
    pem: t.Mapping[str, str] = field(default_factory=dict, repr=False)
    key_type: str | None = None
    dns_provider: str | None = None
    dns_credentials: str | None = field(default=None, repr=False)
    dns_propagation_seconds: int | None = None

    @property
    def label(self) -> str:
        return self.name or ", ".join(sorted(self.domains))

    @property
    def meta(self) -> Json:
        meta: Json = {"dns_challenge": bool(self.dns_provider)}
        # Left out, the key is ECDSA; versions before 2.14 need not know the field.
        if self.key_type:
            meta["key_type"] = self.key_type
        if self.dns_provider:
            meta["dns_provider"] = self.dns_provider
            meta["dns_provider_credentials"] = self.dns_credentials or ""
            if self.dns_propagation_seconds is not None:
                meta["propagation_seconds"] = self.dns_propagation_seconds
        return meta


def parse_certificate(row: Json) -> Certificate:
    meta = row.get("meta") or {}
    return Certificate(
        id=int(row["id"]),
        provider=str(row["provider"]),
        name=str(row.get("nice_name") or ""),
        domains=lower_names(row.get("domain_names") or ()),
        created_on=_time(row.get("created_on")),
        expires_on=_time(row.get("expires_on")),
        pem={part: tidy_pem(str(meta[part])) for part in PEM_PARTS if isinstance(meta.get(part), str)},
    )


def read_certificates(api: Api) -> list[Certificate]:
    return [parse_certificate(row) for row in api.get("/nginx/certificates")]


def find_letsencrypt(certificates: t.Iterable[Certificate], domains: frozenset[str]) -> Certificate | None:
    """The longest living certificate for exactly these names: nothing in the API keeps them unique."""
    found = [one for one in certificates if one.provider == "letsencrypt" and one.domains == domains and one.issued]
    return max(found, key=lambda one: one.expires_on, default=None)


def find_named(certificates: t.Iterable[Certificate], name: str) -> Certificate | None:
    found = [one for one in certificates if one.name.lower() == name.lower() and one.issued]
    return max(found, key=lambda one: one.expires_on, default=None)


def tidy_pem(text: str) -> str:
    """The same PEM whatever its line ends and blank lines."""
    return "\n".join(line.strip() for line in text.strip().splitlines() if line.strip())


def check_pem(wanted: WantedCertificate) -> None:
    """Refuses a certificate and key that are no pair: the API takes them, and nginx then refuses everything."""
    chain = "\n".join(wanted.pem.get(part, "") for part in ("certificate", "intermediate_certificate"))
    with tempfile.TemporaryDirectory() as folder:
        chain_file, key_file = Path(folder, "chain.pem"), Path(folder, "key.pem")
        chain_file.write_text(chain + "\n", encoding="utf-8")
        key_file.touch(mode=0o600)
        key_file.write_text(wanted.pem["certificate_key"] + "\n", encoding="utf-8")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain_file, key_file, password=_no_passphrase)
        except (ssl.SSLError, ValueError) as error:
            raise NpmError(
                f'The certificate "{wanted.label}" cannot be used ({error}): give certificate and certificate_key as '
                "PEM texts that belong together, the key without a passphrase."
            ) from error


def acme_reason(stack: t.Iterable[str]) -> str:
    """What certbot said, without its boilerplate."""
    lines = []
    for line in "\n".join(stack).splitlines():
        text = line.removeprefix("CommandError: ").removeprefix("Error: ").strip()
        if text and not text.startswith(_NOISE) and not text.startswith("at "):
            lines.append(text)
    return " ".join(lines)


def certbot_problems(data_dir: Path, since: float) -> str:
    """What the authority said about each name in the newest request, if certbot wrote it down after `since`.

    Of a failed challenge the API only passes on that it failed; the reason is in certbot's log alone.
    """
    try:
        log = read_data(data_dir, "logs/letsencrypt.log")
    except OSError:
        return ""
    if log.modified < since - 2:
        return ""
    _before, found, report = log.text.rpartition("reported these problems:")
    if not found:
        return ""
    report = report.partition("Hint:")[0]
    return " ".join(
        f"{name}: {detail} ({kind})."
        for name, kind, detail in re.findall(r"Domain: (\S+)\n *Type: +(\S+)\n *Detail: (.+)", report)
    )


def acme_remedy(reason: str) -> str:
    said = " ".join(reason.lower().split())
    for needles, remedy in _REMEDIES:
        if any(needle in said for needle in needles):
            return remedy
    return "see logs/letsencrypt.log in the data folder of npm"


def request_letsencrypt(
    api: Api, wanted: WantedCertificate, stale: t.Iterable[Certificate] = (), *, data_dir: Path | None = None
) -> Certificate:
    """Spends one request at the authority, never two: its limits are counted per week.

    `stale` are the remains of killed requests for the same names; they go first. The caller must save every host
    that has one of the names again, also after a failure: the API leaves them without TLS and access list.
    """
    for remains in stale:
        api.delete(f"/nginx/certificates/{remains.id}")
    began = time.time()
    body = {"provider": "letsencrypt", "domain_names": sorted(wanted.domains), "meta": wanted.meta}
    try:
        return parse_certificate(api.post("/nginx/certificates", body, timeout=ACME_TIMEOUT))
    except Interrupted as error:
        found = find_letsencrypt(read_certificates(api), wanted.domains)
        if found is None:
            raise AcmeError(
                f"Nginx Proxy Manager died while it requested the certificate for {wanted.label}, usually for lack "
                "of memory: raise npm_memory_limit (128 MB is the least that works, 160 the default)."
            ) from error
        return found
    except RequestFailed as error:
        written = certbot_problems(data_dir, began) if data_dir else ""
        reason = acme_reason(error.stack) or written or "the authority could not reach it or its name is not in DNS."
        raise AcmeError(
            f"No certificate for {wanted.label}: {reason} Remedy: {acme_remedy(reason)}. "
            "Its site stays on plain HTTP; the next run asks again."
        ) from error


def leftovers(certificates: t.Iterable[Certificate], domains: frozenset[str]) -> list[Certificate]:
    return [one for one in certificates if one.provider == "letsencrypt" and one.domains == domains and not one.issued]


def remove_certificate(api: Api, certificate_id: int) -> list[Vhost]:
    """Takes a certificate off everything that uses it, then deletes it: the other order breaks nginx for good."""
    row = api.get(f"/nginx/certificates/{certificate_id}?expand=proxy_hosts,redirection_hosts,dead_hosts,streams")
    detached = []
    for kind, key in (("proxy", "proxy_hosts"), ("redirection", "redirection_hosts"), ("dead", "dead_hosts")):
        for host in row.get(key) or ():
            vhost = Vhost(kind, host)
            api.put(
                vhost.path,
                {
                    "certificate_id": 0,
                    "ssl_forced": False,
                    "http2_support": False,
                    "hsts_enabled": False,
                    "hsts_subdomains": False,
                },
            )
            detached.append(vhost)
    for stream in row.get("streams") or ():
        api.put(f"/nginx/streams/{stream['id']}", {"certificate_id": 0})
    api.delete(f"/nginx/certificates/{certificate_id}")
    return detached


def is_used(api: Api, certificate_id: int) -> bool:
    row = api.get(f"/nginx/certificates/{certificate_id}?expand=proxy_hosts,redirection_hosts,dead_hosts,streams")
    return any(row.get(kind) for kind in ("proxy_hosts", "redirection_hosts", "dead_hosts", "streams"))


@dataclass(frozen=True)
class CertificateStep:
    """What one entry needs: `keep`, `request`, `create`, `upload` or `remove`."""

    wanted: WantedCertificate
    action: str
    found: Certificate | None = None
    stale: tuple[Certificate, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def before(self) -> Json:
        if self.found is None or self.action == "keep":
            return {}
        return {"provider": _provider(self.found.provider), "domain_names": sorted(self.found.domains)}

    @property
    def after(self) -> Json:
        if self.action in ("keep", "remove"):
            return {}
        domains = self.wanted.domains or (self.found.domains if self.found else frozenset())
        after: Json = {"provider": _provider(self.wanted.provider), "domain_names": sorted(domains)}
        # The texts are secret: that they differ is all a diff may say.
        after.update({part: "(replaced)" for part in self.parts if self.action == "upload"})
        return after


def plan_certificates(
    wanted: t.Iterable[WantedCertificate], existing: t.Sequence[Certificate]
) -> list[CertificateStep]:
    return [_plan_one(one, existing) for one in wanted]


def _plan_one(wanted: WantedCertificate, existing: t.Sequence[Certificate]) -> CertificateStep:
    if wanted.provider == "letsencrypt":
        found = find_letsencrypt(existing, wanted.domains)
        stale = tuple(leftovers(existing, wanted.domains))
        if not wanted.present:
            found = found or (stale[0] if stale else None)
            return CertificateStep(wanted, "remove" if found else "keep", found)
        return CertificateStep(wanted, "keep" if found else "request", found, stale)
    found = find_named([one for one in existing if one.provider != "letsencrypt"], wanted.name)
    if not wanted.present:
        return CertificateStep(wanted, "remove" if found else "keep", found)
    if found is None:
        return CertificateStep(wanted, "create", parts=tuple(wanted.pem))
    # A part that is no longer given stays: an upload can only replace.
    parts = tuple(part for part, text in wanted.pem.items() if found.pem.get(part) != text)
    return CertificateStep(wanted, "upload" if parts else "keep", found, parts=parts)


def apply_certificates(
    api: Api, steps: t.Iterable[CertificateStep], *, data_dir: Path | None = None
) -> list[Certificate]:
    """Carries the steps out and returns the certificates now present, in order.

    A failed request does not keep the others from being done; all failures are raised at the end.
    """
    present, failures = [], []
    for step in steps:
        try:
            certificate = _apply_one(api, step, data_dir)
        except AcmeError as error:
            failures.append(str(error))
            continue
        if certificate is not None:
            present.append(certificate)
    if failures:
        raise AcmeError(" ".join(failures))
    return present


def _apply_one(api: Api, step: CertificateStep, data_dir: Path | None) -> Certificate | None:
    wanted, found = step.wanted, step.found
    if step.action == "keep":
        return found
    if step.action == "remove" and found is not None:
        check_online(api, remove_certificate(api, found.id))
        return None
    if step.action == "request":
        try:
            return request_letsencrypt(api, wanted, step.stale, data_dir=data_dir)
        finally:
            # Also after a failure: the request took TLS and password off every host with one of the names.
            check_online(api, save_again(api, read_vhosts(api, names=wanted.domains)))
    if found is None:
        row = api.create(
            "/nginx/certificates",
            {"provider": "other", "nice_name": wanted.name},
            find=lambda: _find_row(api, wanted.name),
        )
        certificate_id = int(row["id"])
    else:
        certificate_id = found.id
    api.upload(f"/nginx/certificates/{certificate_id}/upload", {k: v + "\n" for k, v in wanted.pem.items() if v})
    row = api.get(f"/nginx/certificates/{certificate_id}?expand=proxy_hosts,redirection_hosts,dead_hosts")
    if found is not None:
        # An upload only writes files; nginx reads them again when a host is saved.
        users = [
            Vhost(kind, host) for kind in ("proxy", "redirection", "dead") for host in row.get(f"{kind}_hosts") or ()
        ]
        check_online(api, save_again(api, users[:1]))
    return parse_certificate(row)


def _find_row(api: Api, name: str) -> Json | None:
    rows = api.get("/nginx/certificates")
    return next((row for row in rows if row.get("provider") == "other" and row.get("nice_name") == name), None)


def _provider(value: str) -> str:
    return "letsencrypt" if value == "letsencrypt" else "custom"


def _no_passphrase() -> str:
    raise ValueError("the key is protected by a passphrase")


def _time(value: t.Any) -> datetime:
    try:
        return datetime.fromisoformat(str(value)).replace(tzinfo=None, microsecond=0)
    except ValueError:
        return datetime.min
