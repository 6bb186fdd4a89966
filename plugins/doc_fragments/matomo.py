# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """How every module for Matomo reaches it."""

    DOCUMENTATION = r"""
options:
  url:
    description:
      - Where Matomo's web server answers, seen from the host the module runs on.
    type: str
    default: http://127.0.0.1:8090
  host_name:
    description:
      - The public name of the site, which Matomo is addressed by whatever O(url) says. The first request of an
        installation makes it the only trusted one.
    type: str
    required: true
  wait_timeout:
    description:
      - How many seconds to wait for Matomo, which starts together with its database.
    type: int
    default: 60
requirements:
  - Matomo 5.2 or newer
notes:
  - Requests carry the header C(X-Forwarded-Proto) with V(https), since Matomo with C(force_ssl) redirects all others.
  - Runs that change the same Matomo at the same time wait for each other, as long as they run on the same host.
  - In check mode an instance that does not answer counts as a new, empty one, so that a whole play can be predicted.
"""

    TOKEN = r"""
options:
  token:
    description:
      - A token of a super user, as M(diegonmarcos.servers.matomo_install) returns it.
      - Only check mode goes on without one, and counts the instance as an empty one.
    type: str
"""
