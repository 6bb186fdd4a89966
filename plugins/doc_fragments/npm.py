# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """How every module for Nginx Proxy Manager reaches its API."""

    DOCUMENTATION = r"""
options:
  url:
    description:
      - Where the administration port answers, seen from the host the module runs on.
    type: str
    default: http://127.0.0.1:81
  email:
    description:
      - The administrator's account.
      - Only used when O(token) is missing or no longer good.
    type: str
  password:
    description:
      - The administrator's password.
    type: str
  token:
    description:
      - A token from M(diegonmarcos.servers.npm_setup), so that one login serves a whole play.
    type: str
  wait_timeout:
    description:
      - How many seconds to wait for the API, which takes a few seconds to start and restarts when it runs out of
        memory.
    type: int
    default: 60
requirements:
  - Nginx Proxy Manager 2.13 or newer
notes:
  - In check mode an instance that does not answer counts as a new, empty one, so that a whole play can be predicted.
"""

    DATA = r"""
options:
  data_dir:
    description:
      - The data volume, as seen from the host the module runs on.
      - It tells what the API keeps to itself, which is whether the password of an access list differs, and why the
        authority refused a certificate.
    type: path
"""
