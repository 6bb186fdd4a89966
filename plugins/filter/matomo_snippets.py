# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: matomo_snippets
short_description: The lines that go into the pages of each site that Matomo measures
version_added: 0.1.0
author: Diego Nepomuceno Marcos (@diegonmarcos)
description:
  - Returns three files for each site, ready for O(diegonmarcos.servers.config_files#module:files). One is for the head
    of every page, one for a Custom HTML tag of Google Tag Manager, one for the page where visitors opt out.
  - A site that has no number yet, as in check mode, has none.
positional: _input
options:
  _input:
    description: The sites, as C(matomo_sites) of the role lists them.
    type: list
    elements: dict
    required: true
  known:
    description: RV(diegonmarcos.servers.matomo_site#module:sites), which has their numbers.
    type: list
    elements: dict
    required: true
  script:
    description: The program in the page; V(SETTINGS) in it stands for the settings of the site.
    type: str
    required: true
  host_name:
    description: Where the world reaches Matomo.
    type: str
    required: true
  directory:
    description: The folder of the files.
    type: str
    required: true
  consent:
    description: How visitors are asked, where a site does not say.
    type: str
    choices: [cookieless, cookie_consent, consent, none]
    default: cookieless
  do_not_track:
    description: Whether browsers that ask for it are left alone, where a site does not say.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Show the lines for each site
  ansible.builtin.debug:
    msg: >-
      {{ matomo_sites | diegonmarcos.servers.matomo_snippets(
           known=matomo_site.sites, script=script, host_name='analytics.example.org', directory='/tmp') }}
  vars:
    script: "{{ lookup('ansible.builtin.file', 'snippet.js') }}"
"""

RETURN = r"""
_value:
  description: Path and content of each file.
  type: list
  elements: dict
"""

import html
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

CONSENTS = ("cookieless", "cookie_consent", "consent", "none")
_OPT_OUT = "matomo-opt-out"


def file_name(site: str) -> str:
    """Return what the files of a site are called: its name in small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", site.lower()).strip("-.")


def matomo_snippets(
    sites: Iterable[Mapping[str, Any]],
    known: Iterable[Mapping[str, Any]],
    script: str,
    host_name: str,
    directory: str,
    consent: str = "cookieless",
    do_not_track: bool = True,
) -> list[dict[str, str]]:
    """Return path and content of each site's files; AnsibleFilterError names what a site lacks."""
    files = []
    present = [site for site in sites if site.get("state") != "absent"]
    for site, number in zip(present, [one.get("idsite") for one in known], strict=True):
        asked = site.get("consent", consent)
        if asked not in CONSENTS:
            raise AnsibleFilterError(f"The site {site['name']} has the consent {asked}: use {', '.join(CONSENTS)}.")
        if number is None:
            continue
        settings = {
            "url": f"https://{host_name}/",
            "site": int(number),
            "consent": asked,
            "doNotTrack": bool(site.get("do_not_track", do_not_track)),
        }
        start = f"{directory}/{file_name(site['name'])}"
        files.append({"path": f"{start}.html", "content": _plain(site["name"], script, settings)})
        files.append({"path": f"{start}.gtm.html", "content": _tag(script, {**settings, "tagManager": True})})
        files.append({"path": f"{start}.opt-out.html", "content": _opt_out(host_name)})
    return files


def _tag(script: str, settings: Mapping[str, Any]) -> str:
    # Inside a script element, these two characters could end it.
    values = json.dumps(settings).replace("</", "<\\/")
    return f"<script>\n{script.strip().replace('SETTINGS', values, 1)}\n</script>\n"


def _plain(name: str, script: str, settings: Mapping[str, Any]) -> str:
    lines = f"<!-- Matomo: {html.escape(name).replace('--', '- -')} -->\n" + _tag(script, settings)
    if settings["consent"] != "consent":
        image = f"{settings['url']}matomo.php?idsite={settings['site']}&amp;rec=1"
        lines += f'<noscript><img src="{image}" alt="" style="border:0"></noscript>\n'
    return lines


def _opt_out(host_name: str) -> str:
    query = f"module=CoreAdminHome&amp;action=optOutJS&amp;divId={_OPT_OUT}&amp;language=auto&amp;showIntro=1"
    return f'<div id="{_OPT_OUT}"></div>\n<script src="https://{host_name}/index.php?{query}"></script>\n'


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"matomo_snippets": matomo_snippets}
