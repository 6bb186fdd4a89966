# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules for Matomo share with Ansible: options, HTTP, the lock, and the empty instance. Private."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._local_http import Reply, send
from ansible_collections.diegonmarcos.servers.plugins.module_utils._matomo_api import Api, MatomoError, Unreachable

T = t.TypeVar("T")

# Another run may create tables or update them.
_LOCK_SECONDS = 600

# Kept in step with the doc fragment diegonmarcos.servers.matomo.
CONNECTION: dict[str, dict[str, t.Any]] = {
    "url": {"type": "str", "default": "http://127.0.0.1:8090"},
    "host_name": {"type": "str", "required": True},
    "wait_timeout": {"type": "int", "default": 60},
}
# Kept in step with the part `token` of that fragment.
TOKEN: dict[str, dict[str, t.Any]] = {"token": {"type": "str", "no_log": True}}


class UrlTransport:
    """Sends requests to Matomo, which listens on this host."""

    def __init__(self, url: str) -> None:
        self._base = url.rstrip("/")

    def __call__(
        self, method: str, path: str, data: bytes | None, headers: t.Mapping[str, str], timeout: float
    ) -> Reply:
        return send(method, self._base + path, data, headers, timeout)


def api_of(module: AnsibleModule) -> Api:
    params = module.params
    return Api(
        UrlTransport(params["url"]),
        url=params["url"],
        host_name=params["host_name"],
        token=params["token"],
        wait=float(params["wait_timeout"]),
    )


@contextlib.contextmanager
def alone(module: AnsibleModule) -> t.Iterator[None]:
    """Keeps two runs from looking before either has written: Matomo itself makes a site twice without a word."""
    if module.check_mode:
        yield
        return
    place = hashlib.sha256(module.params["url"].encode()).hexdigest()[:16]
    # A file of this user's own, never a link that somebody else put there.
    path = Path(tempfile.gettempdir(), f"diegonmarcos.servers.matomo.{os.geteuid()}.{place}.lock")
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        lock = os.open(path, flags, 0o600)
    except OSError as error:
        raise MatomoError(f"The lock {path} cannot be opened ({error.strerror}): remove it.") from error
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise MatomoError(f"Another run works on Matomo and holds {path}: wait for it.") from None
                time.sleep(0.2)
        yield
    finally:
        os.close(lock)


def read_or_predict(module: AnsibleModule, api: Api, read: t.Callable[[], T], empty: T) -> T:
    """What the instance holds; in check mode one that is not there yet, or has no token yet, is an empty one."""
    if api.token is None:
        if not module.check_mode:
            raise MatomoError("token is missing: take it from matomo_install.")
        module.warn("Predicting for a new Matomo: there is no token yet.")
        return empty
    if not module.check_mode:
        return read()
    try:
        if not api.is_installed(patient=False):
            raise Unreachable("it is not installed yet.")
        return read()
    except Unreachable as error:
        module.warn(f"Predicting for a new Matomo: {error}")
        return empty


def fail(module: AnsibleModule, error: MatomoError, **result: t.Any) -> t.NoReturn:
    module.fail_json(msg=str(error), **result)
    raise AssertionError("fail_json returned")
