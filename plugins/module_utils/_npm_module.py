# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules for Nginx Proxy Manager share with Ansible: options, HTTP, and the empty instance. Private."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._local_http import send
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import Api, NpmError, Unreachable

T = t.TypeVar("T")

# Kept in step with the doc fragment diegonmarcos.servers.npm.
CONNECTION: dict[str, dict[str, t.Any]] = {
    "url": {"type": "str", "default": "http://127.0.0.1:81"},
    "email": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "token": {"type": "str", "no_log": True},
    "wait_timeout": {"type": "int", "default": 60},
}
# Kept in step with the part `data` of that fragment.
DATA_DIR: dict[str, dict[str, t.Any]] = {"data_dir": {"type": "path"}}


class UrlTransport:
    """Sends requests to the API, which listens on this host."""

    def __init__(self, url: str) -> None:
        self._base = url.rstrip("/") + "/api"

    def __call__(
        self, method: str, path: str, data: bytes | None, headers: t.Mapping[str, str], timeout: float
    ) -> tuple[int, bytes]:
        reply = send(method, self._base + path, data, headers, timeout)
        return reply.status, reply.body


def api_of(module: AnsibleModule) -> Api:
    params = module.params
    return Api(
        UrlTransport(params["url"]),
        url=params["url"],
        email=params["email"],
        password=params["password"],
        token=params.get("token"),
        wait=float(params["wait_timeout"]),
    )


def data_dir(module: AnsibleModule) -> Path | None:
    """The data volume, where the module can see it."""
    folder = module.params["data_dir"]
    return Path(folder) if folder else None


def read_or_predict(module: AnsibleModule, api: Api, read: t.Callable[[], T], empty: T) -> T:
    """What the instance holds; in check mode an instance that is not there yet is an empty one."""
    if not module.check_mode:
        return read()
    try:
        if api.token is None and not api.status(patient=False).setup:
            return empty
        return read()
    except Unreachable as error:
        module.warn(f"Predicting for a new Nginx Proxy Manager: {error}")
        return empty


def fail(module: AnsibleModule, error: NpmError, **result: t.Any) -> t.NoReturn:
    module.fail_json(msg=str(error), **result)
    raise AssertionError("fail_json returned")
