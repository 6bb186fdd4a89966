# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Settings of Nginx Proxy Manager: what a visitor gets who asks for no site of ours. Private."""

from __future__ import annotations

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import Api, Json, NpmError

PAGES = ("404", "444", "congratulations", "html", "redirect")
_PATH = "/settings/default-site"


def wanted_default_site(page: str, *, redirect_url: str | None, html: str | None) -> Json:
    """The setting as the API keeps it; text that the page does not use is left out."""
    if page == "redirect":
        if not redirect_url or not redirect_url.startswith(("http://", "https://")):
            raise NpmError("default_site is redirect: give redirect_url, starting with http:// or https://.")
        return {"value": page, "meta": {"redirect": redirect_url}}
    if page == "html":
        if not html:
            raise NpmError("default_site is html: give the page in html.")
        return {"value": page, "meta": {"html": html}}
    return {"value": page, "meta": {}}


def read_default_site(api: Api) -> Json:
    return visible(api.get(_PATH))


def write_default_site(api: Api, wanted: Json) -> None:
    api.put(_PATH, wanted)


def visible(row: Json) -> Json:
    """Only what the page uses: leftovers of another page change nothing."""
    page = str(row.get("value"))
    meta = row.get("meta") or {}
    return {"value": page, "meta": {page: meta[page]} if page in ("redirect", "html") and page in meta else {}}
