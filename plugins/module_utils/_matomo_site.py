# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The sites of Matomo: found by their addresses, planned as a whole, never made twice. Private."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_api import (
    Api,
    MatomoError,
    canonical_url,
    check_url,
)

Row = dict[str, t.Any]

# Names here, in Matomo's rows, and in its requests.
SETTINGS: dict[str, tuple[str, str]] = {
    "timezone": ("timezone", "timezone"),
    "currency": ("currency", "currency"),
    "ecommerce": ("ecommerce", "ecommerce"),
    "site_search": ("sitesearch", "siteSearch"),
    "exclude_unknown_urls": ("exclude_unknown_urls", "excludeUnknownUrls"),
    "keep_url_fragment": ("keep_url_fragment", "keepURLFragments"),
    "excluded_ips": ("excluded_ips", "excludedIps"),
    "excluded_parameters": ("excluded_parameters", "excludedQueryParameters"),
    "excluded_user_agents": ("excluded_user_agents", "excludedUserAgents"),
}
# An update that leaves these out empties them.
_KEPT = {
    "sitesearch_keyword_parameters": "searchKeywordParameters",
    "sitesearch_category_parameters": "searchCategoryParameters",
    "group": "group",
    "type": "type",
}


@dataclass(frozen=True)
class Wanted:
    """One site of the list."""

    name: str
    urls: tuple[str, ...]
    settings: dict[str, t.Any] = field(default_factory=dict)
    present: bool = True


@dataclass(frozen=True)
class Site:
    """One site as Matomo has it."""

    idsite: int | None
    name: str
    urls: tuple[str, ...]
    row: Row

    @property
    def addresses(self) -> set[str]:
        return {_address(url) for url in self.urls}


@dataclass(frozen=True)
class Step:
    """What is to be done with one site of the list: keep, create, update or remove."""

    action: str
    wanted: Wanted
    before: Site | None
    after: Site | None


def check_sites(wanted: t.Sequence[Wanted]) -> None:
    """Refuses every mistake that the list alone shows."""
    owner: dict[str, str] = {}
    for site in wanted:
        if not site.name:
            raise MatomoError(f"The site with the urls {', '.join(site.urls)} has no name: give one.")
        if not site.urls:
            raise MatomoError(f"The site {site.name} has no urls: give at least one.")
        for url in site.urls:
            check_url(url)
            address = _address(url)
            if address in owner:
                raise MatomoError(
                    f"The address {url} is listed twice, for {owner[address]} and for {site.name}: "
                    "an address belongs to one site only."
                )
            owner[address] = site.name
        currency = site.settings.get("currency")
        if currency is not None and not re.fullmatch(r"[A-Z]{3}", currency):
            raise MatomoError(f"The site {site.name} has the currency {currency!r}: write it as EUR.")


def read_sites(api: Api, wanted: t.Sequence[Wanted]) -> list[Site]:
    """All existing sites that have any of the wanted addresses."""
    rows = {int(row["idsite"]): row for row in _listed(api.call("SitesManager.getAllSites"))}
    candidates: set[int] = set()
    for url in (url for site in wanted for url in site.urls):
        found = api.call("SitesManager.getSitesIdFromSiteUrl", {"url": canonical_url(url)})
        candidates |= {int(one["idsite"]) for one in _listed(found)}
    addresses = {_address(url) for site in wanted for url in site.urls}
    sites = []
    for idsite in sorted(candidates & set(rows)):
        urls = tuple(str(url) for url in _listed(api.call("SitesManager.getSiteUrlsFromId", {"idSite": idsite})))
        site = Site(idsite, str(rows[idsite]["name"]), urls, rows[idsite])
        # Matomo also finds a site by its name with or without www, which may well be another site.
        if site.addresses & addresses:
            sites.append(site)
    return sites


def plan_sites(wanted: t.Sequence[Wanted], found: t.Sequence[Site]) -> list[Step]:
    """What to do with each listed site; raises where Matomo's sites and the list do not fit."""
    taken: dict[int | None, str] = {}
    steps = []
    for site in wanted:
        addresses = {_address(url) for url in site.urls}
        matches = [one for one in found if one.addresses & addresses]
        if len(matches) > 1:
            numbers = " and ".join(str(one.idsite) for one in matches)
            raise MatomoError(
                f"The addresses of {site.name} belong to the sites {numbers} in Matomo: "
                "remove one of them there, or list their addresses apart."
            )
        before = matches[0] if matches else None
        if before and before.idsite in taken:
            raise MatomoError(
                f"{taken[before.idsite]} and {site.name} are one site in Matomo, number {before.idsite}: "
                "list its addresses together, or take one away from it there."
            )
        if before:
            taken[before.idsite] = site.name
        steps.append(_step(site, before))
    return steps


def check_timezones(api: Api, steps: t.Sequence[Step]) -> None:
    """Refuses timezones that Matomo does not know; those it has already need no question."""
    new = [
        (step.wanted.name, str(step.after.row["timezone"]))
        for step in steps
        if step.after and (step.before is None or step.before.row.get("timezone") != step.after.row["timezone"])
    ]
    if not new:
        return
    groups = api.call("SitesManager.getTimezonesList")
    known = {zone for group in groups.values() for zone in group} if isinstance(groups, dict) else set()
    for name, zone in new:
        if zone not in known:
            raise MatomoError(
                f"The site {name} has the timezone {zone!r}, which Matomo does not know: write it as Europe/Berlin."
            )


def apply_sites(api: Api, steps: t.Sequence[Step], *, check: bool) -> list[Row]:
    """Does what was planned, removals last because Matomo keeps at least one site; returns the sites of the list."""
    after: dict[int, Site] = {}
    for number, step in enumerate(steps):
        if step.after is None:
            continue
        after[number] = step.after
        if check or step.action == "keep":
            continue
        if step.action == "create":
            idsite = api.call("SitesManager.addSite", _parameters(step.after), repeatable=False)
            after[number] = replace(step.after, idsite=int(idsite))
        else:
            api.call("SitesManager.updateSite", {"idSite": step.after.idsite, **_parameters(step.after)})
    for step in steps:
        if step.action == "remove" and step.before and not check:
            api.call("SitesManager.deleteSite", {"idSite": step.before.idsite}, repeatable=False)
    return [
        {"idsite": site.idsite, "name": site.name, "urls": list(site.urls), "timezone": site.row["timezone"]}
        for _number, site in sorted(after.items())
    ]


def show(site: Site) -> Row:
    """A site as the diff shows it."""
    shown = {name: site.row[column] for name, (column, _parameter) in SETTINGS.items() if column in site.row}
    return {"name": site.name, "urls": list(site.urls), **shown}


def _step(wanted: Wanted, before: Site | None) -> Step:
    if not wanted.present:
        return Step("remove" if before else "keep", wanted, before, None)
    columns = {SETTINGS[name][0]: _column(name, value) for name, value in wanted.settings.items()}
    urls = tuple(canonical_url(url) for url in wanted.urls)
    if before is None:
        return Step("create", wanted, None, Site(None, wanted.name, urls, {"timezone": "UTC", **columns}))
    after = Site(before.idsite, wanted.name, urls, {**before.row, **columns})
    return Step("keep" if _same(before, after) else "update", wanted, before, after)


def _same(before: Site, after: Site) -> bool:
    """The main address comes first; Matomo keeps the others in no order."""
    return (
        before.name == after.name
        and before.urls[:1] == after.urls[:1]
        and set(before.urls) == set(after.urls)
        and all(str(before.row.get(column)) == str(value) for column, value in after.row.items())
    )


def _parameters(site: Site) -> Row:
    columns = {**dict(SETTINGS.values()), **_KEPT}
    settings = {parameter: site.row[column] for column, parameter in columns.items() if column in site.row}
    return {"siteName": site.name, **{f"urls[{n}]": url for n, url in enumerate(site.urls)}, **settings}


def _column(name: str, value: t.Any) -> t.Any:
    if name == "keep_url_fragment":
        # 0 stands for the setting of the whole instance.
        return 1 if value else 2
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (list, tuple)):
        return ",".join(str(one).strip() for one in value)
    return value


def _address(url: str) -> str:
    """What makes an address the same one, whatever its scheme."""
    rest = canonical_url(url).partition("://")[2]
    host, slash, path = rest.partition("/")
    return host.lower() + slash + path


def _listed(data: t.Any) -> list[t.Any]:
    return list(data.values()) if isinstance(data, dict) else list(data or [])
