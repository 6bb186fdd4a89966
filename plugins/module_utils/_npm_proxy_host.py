# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Proxy hosts of Nginx Proxy Manager: what differs from what is wanted, and in which order to change it. Private."""

from __future__ import annotations

import re
import typing as t
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_access_list import read_htpasswd
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import Api, Json, NpmError
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_certificate import (
    AcmeError,
    Certificate,
    WantedCertificate,
    find_letsencrypt,
    find_named,
    is_used,
    leftovers,
    read_certificates,
    request_letsencrypt,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_own_admin import (
    AccessList,
    gate,
    is_own_admin,
    parse_list,
    without_secret,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_vhost import lower_names, nginx_error

NONE, LETSENCRYPT = "none", "letsencrypt"
# A certificate or list that does not exist yet: its number is only known once it does.
PENDING = -1
_MARK, _CERTIFICATE_MARK = "managed_by", "managed_certificate"
_NAME = re.compile(r"^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$")
_LOCATION_DEFAULTS = {"forward_path": "", "advanced_config": ""}


@dataclass(frozen=True)
class WantedHost:
    """One entry of the module's list: names and references as the user writes them."""

    domains: frozenset[str]
    forward_host: str = ""
    forward_port: int = 0
    forward_scheme: str = "http"
    certificate: str = LETSENCRYPT
    access_list: str | None = None
    ssl_forced: bool = True
    http2: bool = True
    hsts: bool = True
    trust_forwarded_proto: bool = False
    block_exploits: bool = True
    caching: bool = False
    websockets: bool = True
    advanced_config: str = ""
    locations: tuple[Json, ...] = ()
    enabled: bool = True
    present: bool = True

    @property
    def label(self) -> str:
        return ", ".join(sorted(self.domains))


@dataclass(frozen=True)
class Policy:
    """What holds for all hosts of a run; HSTS for subdomains is one value for the whole server in nginx."""

    managed_by: str
    hsts_subdomains: bool = False
    remove_unlisted: bool = False


@dataclass(frozen=True)
class HostSettings:
    """A host in the words of the API, normalised so that equal means equal."""

    domain_names: tuple[str, ...]
    forward_scheme: str
    forward_host: str
    forward_port: int
    certificate_id: int
    access_list_id: int
    ssl_forced: bool
    http2_support: bool
    hsts_enabled: bool
    hsts_subdomains: bool
    trust_forwarded_proto: bool
    block_exploits: bool
    caching_enabled: bool
    allow_websocket_upgrade: bool
    advanced_config: str
    locations: tuple[Json, ...]
    enabled: bool
    managed_by: str | None

    def with_certificate(self, certificate_id: int) -> HostSettings:
        """The same host with another certificate; without one its TLS switches are off."""
        if certificate_id:
            return replace(self, certificate_id=certificate_id)
        return replace(
            self,
            certificate_id=0,
            ssl_forced=False,
            http2_support=False,
            hsts_enabled=False,
            hsts_subdomains=False,
        )


@dataclass(frozen=True)
class HostStep:
    """What one host needs: `keep`, `create`, `update` or `remove`, and whether a certificate must be requested."""

    action: str
    before: HostSettings | None = None
    after: HostSettings | None = None
    row: Json | None = None
    request: bool = False
    stale: tuple[Certificate, ...] = ()

    @property
    def label(self) -> str:
        settings = self.after or self.before
        return ", ".join(settings.domain_names) if settings else ""


@dataclass(frozen=True)
class World:
    """What the instance holds, as far as the wanted hosts need to know."""

    rows: tuple[Json, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    lists: t.Mapping[str, AccessList] | None = None


def check_wanted(wanted: t.Sequence[WantedHost]) -> None:
    """Refuses what cannot work before anything is asked or changed."""
    owners: dict[str, str] = {}
    for host in wanted:
        for name in sorted(host.domains):
            if not _NAME.match(name):
                raise NpmError(f'"{name}" is no full domain name: write domain_names like www.example.org.')
            if name in owners:
                raise NpmError(f'"{name}" is in two hosts ({owners[name]} and {host.label}): leave it in one.')
            owners[name] = host.label
        if not host.present:
            continue
        if not 1 <= host.forward_port <= 65535:
            raise NpmError(f"forward_port {host.forward_port} of {host.label} is no port: give one from 1 to 65535.")
        if is_own_admin(host.forward_host, host.forward_port) and not host.access_list:
            raise NpmError(
                f"{host.label} would put the administration of Nginx Proxy Manager on the internet: name an "
                "access_list, or reach it through an SSH tunnel to port 81."
            )
        for location in host.locations:
            if is_own_admin(location["forward_host"], location["forward_port"]):
                raise NpmError(
                    f"The location {location['path']} of {host.label} would put the administration of Nginx Proxy "
                    "Manager on the internet: give it a host of its own, with an access_list."
                )
        if host.certificate == LETSENCRYPT and any(name.startswith("*.") for name in host.domains):
            raise NpmError(
                f"{host.label} has a wildcard name, which the authority only proves by DNS: make the certificate with "
                "npm_certificate and its dns_provider first, and name it in certificate."
            )


def read_world(api: Api, wanted: t.Sequence[WantedHost], data_dir: Path | None = None) -> World:
    """One to three requests: hosts always, certificates and lists only when a host names one."""
    present = [host for host in wanted if host.present]
    rows = api.get("/nginx/proxy-hosts?expand=certificate,access_list")
    certificates = read_certificates(api) if any(host.certificate != NONE for host in present) else []
    lists = None
    if any(host.access_list for host in present):
        rows_of_lists = reversed(api.get("/nginx/access-lists?expand=items,clients"))
        gated = {host.access_list for host in present if is_own_admin(host.forward_host, host.forward_port)}
        lists = {}
        for row in rows_of_lists:
            hashes = read_htpasswd(data_dir, int(row["id"])) if data_dir and row["name"] in gated else None
            lists[str(row["name"])] = parse_list(row, hashes)
    return World(tuple(rows), tuple(certificates), lists)


def settings_of(row: Json) -> HostSettings:
    # A number whose certificate or list is gone protects nothing: nginx is configured as if it were 0.
    certificate_id = int(row.get("certificate_id") or 0) if row.get("certificate", True) else 0
    access_list_id = int(row.get("access_list_id") or 0) if row.get("access_list", True) else 0
    secure = bool(certificate_id)
    return HostSettings(
        domain_names=tuple(sorted(lower_names(row["domain_names"]))),
        forward_scheme=str(row["forward_scheme"]),
        forward_host=str(row["forward_host"]),
        forward_port=int(row["forward_port"]),
        certificate_id=certificate_id,
        access_list_id=access_list_id,
        # Stored switches mean nothing without a certificate, and the next change of the host would clear them.
        ssl_forced=secure and bool(row.get("ssl_forced")),
        http2_support=secure and bool(row.get("http2_support")),
        hsts_enabled=secure and bool(row.get("hsts_enabled")),
        hsts_subdomains=secure and bool(row.get("hsts_subdomains")),
        trust_forwarded_proto=bool(row.get("trust_forwarded_proto")),
        block_exploits=bool(row.get("block_exploits")),
        caching_enabled=bool(row.get("caching_enabled")),
        allow_websocket_upgrade=bool(row.get("allow_websocket_upgrade")),
        advanced_config=str(row.get("advanced_config") or "").strip(),
        locations=tuple(_location(one) for one in row.get("locations") or ()),
        enabled=bool(row.get("enabled", True)),
        managed_by=(row.get("meta") or {}).get(_MARK),
    )


def plan_hosts(
    wanted: t.Sequence[WantedHost], world: World, policy: Policy, *, predict: bool = False
) -> list[HostStep]:
    """Removals first, then hosts that give a name up, then the rest: names are unique at every moment.

    `predict` (check mode) lets hosts name certificates and lists that an earlier task would have made.
    """
    rows = list(world.rows)
    pairs: list[tuple[WantedHost, Json | None]] = []
    exact = {settings_of(row).domain_names: row for row in reversed(rows)}
    taken: set[int] = set()
    for host in wanted:
        row = exact.get(tuple(sorted(host.domains)))
        pairs.append((host, row))
        if row is not None:
            taken.add(int(row["id"]))
    steps: list[HostStep] = []
    for host, row in pairs:
        if not host.present:
            if row is not None:
                steps.append(HostStep("remove", before=settings_of(row), row=row))
            continue
        if row is None:
            row = _same_host_renamed(host, rows, taken, policy)
            if row is not None:
                taken.add(int(row["id"]))
        steps.append(_plan_present(host, row, world, policy, predict=predict))
    if policy.remove_unlisted:
        for row in rows:
            if int(row["id"]) not in taken and settings_of(row).managed_by == policy.managed_by:
                steps.append(HostStep("remove", before=settings_of(row), row=row))
    _check_free(steps, rows)
    return sorted(steps, key=_order)


def apply_hosts(
    api: Api, steps: t.Sequence[HostStep], world: World, policy: Policy, *, data_dir: Path | None = None
) -> list[Json]:
    """Carries the steps out and returns the hosts as they are served afterwards.

    A certificate that cannot be had leaves its host on plain HTTP (or on the certificate it has) and does not keep
    the other hosts from being done; everything that failed is raised at the end.
    """
    writer = _Writer(api, policy, knows_trust=any("trust_forwarded_proto" in row for row in world.rows))
    failures: list[str] = []
    touched: dict[int, HostStep] = {}
    retired: list[int] = []
    for step in steps:
        if step.action == "remove" and step.row is not None:
            api.delete(f"/nginx/proxy-hosts/{step.row['id']}")
            retired += _own_certificate(step.row)
        elif step.after is not None and step.action != "keep":
            settings, requested = step.after, None
            if step.request:
                row = writer.make_ready(step, settings)
                try:
                    wanted = WantedCertificate(LETSENCRYPT, frozenset(settings.domain_names))
                    requested = request_letsencrypt(api, wanted, step.stale, data_dir=data_dir).id
                    settings = settings.with_certificate(requested)
                except AcmeError as error:
                    failures.append(str(error))
                    settings = settings.with_certificate(step.before.certificate_id if step.before else 0)
                # The request took TLS and access list off the host: this puts everything back in one go.
                writer.change(row, settings, requested)
            elif step.row is None:
                row = writer.create(settings)
            else:
                row = writer.change(step.row, settings)
            touched[int(row["id"])] = step
            if step.before and step.before.domain_names != settings.domain_names:
                retired += [one for one in _own_certificate(step.row) if one != settings.certificate_id]
    rows = api.get("/nginx/proxy-hosts?expand=certificate,access_list") if touched or retired else list(world.rows)
    failures += _offline(writer, rows, touched)
    for certificate_id in retired:
        # Its renewals would fail for ever once the names are gone; others may use it meanwhile.
        if not is_used(api, certificate_id):
            api.delete(f"/nginx/certificates/{certificate_id}")
    if failures:
        raise NpmError(" ".join(failures))
    return list(rows)


def show(settings: HostSettings | None, world: World) -> Json:
    """A host for people: names in place of numbers."""
    if settings is None:
        return {}
    shown = asdict(settings)
    shown["domain_names"] = list(settings.domain_names)
    shown["locations"] = list(settings.locations)
    shown["advanced_config"] = without_secret(settings.advanced_config)
    shown["certificate"] = _certificate_name(shown.pop("certificate_id"), world)
    shown["access_list"] = _list_name(shown.pop("access_list_id"), world)
    return shown


def describe(row: Json) -> Json:
    """What a task returns about a host."""
    settings = settings_of(row)
    certificate = row.get("certificate") or {}
    access_list = row.get("access_list") or {}
    scheme = "https" if settings.certificate_id else "http"
    return {
        "id": int(row["id"]),
        "domain_names": list(settings.domain_names),
        "urls": [f"{scheme}://{name}/" for name in settings.domain_names if not name.startswith("*")],
        "forward": f"{settings.forward_scheme}://{settings.forward_host}:{settings.forward_port}",
        "certificate_id": settings.certificate_id,
        "certificate_expires_on": certificate.get("expires_on"),
        "access_list": access_list.get("name"),
        "enabled": settings.enabled,
        "managed_by": settings.managed_by,
    }


def hsts_contradictions(rows: t.Iterable[Json], policy: Policy) -> list[str]:
    """Hosts that keep HSTS from covering subdomains: nginx takes the value of whichever it reads last."""
    if not policy.hsts_subdomains:
        return []
    settings = (settings_of(row) for row in rows)
    return [", ".join(one.domain_names) for one in settings if one.enabled and not one.hsts_subdomains]


def _plan_present(host: WantedHost, row: Json | None, world: World, policy: Policy, *, predict: bool) -> HostStep:
    before = settings_of(row) if row is not None else None
    certificate_id, request = _resolve_certificate(host, before, world, predict=predict)
    secure = bool(certificate_id)
    access_list = _resolve_list(host, world, predict=predict)
    after = HostSettings(
        domain_names=tuple(sorted(host.domains)),
        forward_scheme=host.forward_scheme,
        forward_host=host.forward_host,
        forward_port=host.forward_port,
        certificate_id=certificate_id,
        access_list_id=access_list.id,
        ssl_forced=secure and host.ssl_forced,
        http2_support=secure and host.http2,
        # The API clears HSTS where TLS is not forced.
        hsts_enabled=secure and host.ssl_forced and host.hsts,
        hsts_subdomains=secure and host.ssl_forced and host.hsts and policy.hsts_subdomains,
        trust_forwarded_proto=host.trust_forwarded_proto,
        block_exploits=host.block_exploits,
        caching_enabled=host.caching,
        allow_websocket_upgrade=host.websockets,
        advanced_config=_nginx_lines(host, access_list, before),
        locations=tuple(_location(one) for one in host.locations),
        enabled=host.enabled,
        managed_by=policy.managed_by,
    )
    stale = tuple(leftovers(world.certificates, host.domains)) if request else ()
    if before is None or row is None:
        return HostStep("create", after=after, request=request, stale=stale)
    # A host nginx refused is not served although its settings are as wanted.
    same = before == after and not nginx_error(row) and not request
    return HostStep("keep" if same else "update", before, after, row, request, stale)


def _resolve_certificate(
    host: WantedHost, before: HostSettings | None, world: World, *, predict: bool
) -> tuple[int, bool]:
    if host.certificate == NONE:
        return 0, False
    if host.certificate == LETSENCRYPT:
        found = find_letsencrypt(world.certificates, host.domains)
        # Several may exist for the same names: the one in use is as good as the newest.
        for one in world.certificates:
            if before and one.id == before.certificate_id and one.domains == host.domains and one.issued:
                found = one
        if found is None:
            # A host that is switched off cannot answer for its names.
            return (PENDING, True) if host.enabled else (0, False)
        return found.id, False
    found = find_named(world.certificates, host.certificate)
    if found is not None:
        return found.id, False
    if predict:
        return PENDING, False
    known = ", ".join(sorted({f'"{one.name}"' for one in world.certificates})) or "none yet"
    raise NpmError(
        f'There is no certificate "{host.certificate}" for {host.label} (there are: {known}): write letsencrypt, none, '
        "or the name of one in npm_certificates."
    )


def _nginx_lines(host: WantedHost, access_list: AccessList, before: HostSettings | None) -> str:
    lines = [host.advanced_config.strip()]
    if access_list.asks_password and is_own_admin(host.forward_host, host.forward_port):
        lines.append(gate(access_list, before.advanced_config if before else ""))
    return "\n".join(line for line in lines if line)


def _resolve_list(host: WantedHost, world: World, *, predict: bool) -> AccessList:
    if not host.access_list:
        return AccessList(0)
    lists = world.lists or {}
    if host.access_list in lists:
        return lists[host.access_list]
    if predict:
        return AccessList(PENDING)
    known = ", ".join(sorted(f'"{name}"' for name in lists)) or "none yet"
    raise NpmError(
        f'There is no access list "{host.access_list}" for {host.label} (there are: {known}): '
        "write the name of one in npm_access_lists."
    )


def _same_host_renamed(
    host: WantedHost, rows: t.Sequence[Json], taken: t.Container[int], policy: Policy
) -> Json | None:
    """A host of ours that shares a name and is wanted under no other set: the user changed its names."""
    for row in rows:
        settings = settings_of(row)
        if int(row["id"]) in taken or settings.managed_by != policy.managed_by:
            continue
        if host.domains & set(settings.domain_names):
            return row
    return None


def _check_free(steps: t.Sequence[HostStep], rows: t.Sequence[Json]) -> None:
    ours = {int(step.row["id"]) for step in steps if step.row is not None}
    for step in steps:
        if step.after is None or step.action == "keep":
            continue
        for row in rows:
            clash = set(step.after.domain_names) & set(settings_of(row).domain_names)
            if int(row["id"]) not in ours and clash:
                raise NpmError(
                    f"{sorted(clash)[0]} of {step.label} is already served by host {row['id']} "
                    f"({', '.join(settings_of(row).domain_names)}), which was made by other means: remove the name "
                    "there, or give exactly its domain_names to take it over."
                )


def _order(step: HostStep) -> int:
    if step.action == "remove":
        return 0
    gives_up = step.before and step.after and set(step.before.domain_names) - set(step.after.domain_names)
    return 1 if gives_up else 2


class _Writer:
    """Saves hosts, each with everything in one request."""

    def __init__(self, api: Api, policy: Policy, *, knows_trust: bool) -> None:
        self._api = api
        self._policy = policy
        self._knows_trust = knows_trust

    def make_ready(self, step: HostStep, settings: HostSettings) -> Json:
        """Brings a host into the state in which a certificate may be requested, and returns its row.

        A new host is saved first, so that its names are known to be free before a request is spent. The request
        serves hosts without their access list until they are saved again: one that has a list is off meanwhile.
        """
        guarded = bool(settings.access_list_id)
        if step.row is None:
            return self.create(replace(settings.with_certificate(0), enabled=not guarded))
        row = step.row
        if step.before and step.before.enabled and (guarded or step.before.access_list_id):
            self._api.post(f"/nginx/proxy-hosts/{row['id']}/disable")
            row = {**row, "enabled": False}
        return row

    def create(self, settings: HostSettings) -> Json:
        body = self._body({}, settings, None)
        body["enabled"] = settings.enabled
        return self._api.create("/nginx/proxy-hosts", body, find=lambda: _find(self._api, settings.domain_names))

    def change(self, row: Json, settings: HostSettings, requested: int | None = None) -> Json:
        path = f"/nginx/proxy-hosts/{row['id']}"
        body = self._body(row.get("meta") or {}, settings, requested)
        if settings.enabled and not row.get("enabled", True):
            # Not /enable: that writes a configuration without the access list.
            body["enabled"] = True
        saved = self._api.put(path, body)
        if row.get("enabled", True) and not settings.enabled:
            # Not enabled: false, which leaves the site being served.
            self._api.post(f"{path}/disable")
        return saved

    def _body(self, old_meta: Json, settings: HostSettings, requested: int | None) -> Json:
        # What others keep in there stays; what nginx said about the old settings does not.
        meta = {key: value for key, value in old_meta.items() if not key.startswith("nginx_")}
        meta[_MARK] = settings.managed_by or self._policy.managed_by
        if requested is not None:
            meta[_CERTIFICATE_MARK] = requested
        body = asdict(settings)
        del body["managed_by"], body["enabled"]
        body["domain_names"] = list(settings.domain_names)
        body["locations"] = [dict(location) for location in settings.locations]
        if not (self._knows_trust or settings.trust_forwarded_proto):
            # The field is refused before 2.14.
            del body["trust_forwarded_proto"]
        body["meta"] = meta
        return body


def _offline(writer: _Writer, rows: t.Iterable[Json], touched: t.Mapping[int, HostStep]) -> list[str]:
    """Says which of the hosts just saved nginx refused, and gives the changed ones their old settings back."""
    failures = []
    for row in rows:
        step = touched.get(int(row["id"]))
        error = nginx_error(row) if step else None
        if step is None or error is None:
            continue
        kept = "The host is stored but not served"
        if step.before is not None and step.row is not None and not nginx_error(step.row):
            writer.change(row, step.before)
            kept = "Its former settings were put back"
        failures.append(
            f"nginx refuses the host {step.label}: {error}. {kept}: correct its advanced_config or locations."
        )
    return failures


def _own_certificate(row: Json | None) -> list[int]:
    number = ((row or {}).get("meta") or {}).get(_CERTIFICATE_MARK)
    return [number] if isinstance(number, int) else []


def _find(api: Api, names: tuple[str, ...]) -> Json | None:
    rows = api.get("/nginx/proxy-hosts")
    return next((row for row in rows if settings_of(row).domain_names == names), None)


def _location(one: Json) -> Json:
    keys = ("path", "forward_scheme", "forward_host", "forward_port", "forward_path", "advanced_config")
    location = {key: one.get(key) or _LOCATION_DEFAULTS.get(key) for key in keys}
    return {**location, "forward_port": int(one["forward_port"])}


def _certificate_name(number: int, world: World) -> str:
    if number == 0:
        return NONE
    if number == PENDING:
        return "new"
    found = next((one for one in world.certificates if one.id == number), None)
    for row in world.rows:
        if found is None and (row.get("certificate") or {}).get("id") == number:
            return f"{row['certificate'].get('nice_name')} (number {number})"
    return f"{found.name} (number {number})" if found else f"number {number}"


def _list_name(number: int, world: World) -> str | None:
    if number == 0:
        return None
    if number == PENDING:
        return "new"
    for name, known in (world.lists or {}).items():
        if known.id == number:
            return name
    for row in world.rows:
        access_list = row.get("access_list") or {}
        if access_list.get("id") == number:
            return str(access_list.get("name"))
    return f"number {number}"
