# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One request to a service of this host, with Ansible's own HTTP client. Private."""

from __future__ import annotations

import typing as t
from urllib.error import HTTPError, URLError

from ansible.module_utils.urls import open_url


class Reply(t.NamedTuple):
    """The answer of a server, whatever its status; `location` is empty where it does not redirect."""

    status: int
    location: str
    body: bytes


def send(method: str, url: str, data: bytes | None, headers: t.Mapping[str, str], timeout: float) -> Reply:
    """Send one request past any proxy and follow no redirect; raises OSError when nobody answers."""
    try:
        with open_url(
            url,
            method=method,
            data=data,
            headers=dict(headers),
            timeout=timeout,
            use_proxy=False,
            follow_redirects="none",
        ) as reply:
            return Reply(int(reply.status), str(reply.headers.get("Location") or ""), bytes(reply.read()))
    except HTTPError as error:
        return Reply(int(error.code), str(error.headers.get("Location") or ""), bytes(error.read()))
    except URLError as error:
        # urllib hides a refused connection, which alone is safe to try again.
        raise error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason)) from error
