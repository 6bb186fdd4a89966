# Copyright: (c) 2026, Diego Nepomuceno Marcos (@diegonmarcos)
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: compose_file
short_description: The compose file of one service, with what every container here has in common
version_added: 0.1.0
author: Diego Nepomuceno Marcos (@diegonmarcos)
description:
  - Takes the containers of a service as a compose file describes them and adds to each what it does not say itself,
    namely C(container_name), C(restart), C(networks), C(logging), C(cap_drop), C(security_opt), C(memswap_limit),
    C(pids_limit) and C(cpu_shares).
  - Each container gets a label with a digest of the files that are mounted into it. So a changed file restarts the
    containers that read it, and no other.
  - Texts are taken literally. A C($) is doubled, so that Compose does not read it as a variable.
  - Refuses a container without memory limit, health check or exact image version, and named volumes, because only
    what lies in a folder of the service is saved, moved and removed with it.
positional: _input
options:
  _input:
    description: The value of C(services) of a compose file.
    type: dict
    required: true
  directory:
    description: The folder of the compose file, which relative paths start from.
    type: str
    required: true
  files:
    description: Files of the service, as in O(diegonmarcos.servers.config_files#module:files).
    type: list
    elements: dict
    default: []
  networks:
    description: Networks and their options. Containers that name none join all of them.
    type: dict
    default: {}
  network_options:
    description: Options of every network that does not set them.
    type: dict
    default: {}
  log_options:
    description: Options of the log driver C(local).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show the compose file of a service
  ansible.builtin.debug:
    msg: "{{ containers | diegonmarcos.servers.compose_file(directory='/opt/servers/web', networks={'proxy': {}}) }}"
  vars:
    containers:
      web:
        image: nginx:1.29.1
        mem_limit: 32m
        cap_add: [CHOWN, NET_BIND_SERVICE, SETGID, SETUID]
        volumes: ["./site:/usr/share/nginx/html:ro"]
        healthcheck: {test: [CMD, curl, -sf, "http://127.0.0.1/"]}
"""

RETURN = r"""
_value:
  description: The compose file.
  type: dict
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

# A tag that moves by itself would change what runs without anybody having said so.
_EXACT_IMAGE = re.compile(r".+(:(?!latest$)[\w][\w.-]*|@sha256:[0-9a-f]{64})")
_SIZE = re.compile(r"(\d+)([bkmg]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_REQUIRED = {
    "image": "an image with its full version",
    "mem_limit": "its share of the memory budget, such as 64m",
    "healthcheck": "a command that tells whether it works",
}


def compose_file(
    definition: Mapping[str, Any],
    directory: str,
    files: Sequence[Mapping[str, Any]] = (),
    networks: Mapping[str, Any] | None = None,
    network_options: Mapping[str, Any] | None = None,
    log_options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the compose file of one service; AnsibleFilterError says in one sentence what a container lacks."""
    if not isinstance(definition, Mapping) or not definition:
        raise AnsibleFilterError(f"The service in {directory} has no container: define at least one.")
    joined = list(networks or {})
    logging = {"driver": "local", "options": {key: str(value) for key, value in (log_options or {}).items()}}
    containers = {
        name: _container(name, container, directory, files, joined, logging) for name, container in definition.items()
    }
    used = {network for container in containers.values() for network in container.get("networks", ())}
    return {
        "services": _literal(containers),
        "networks": {
            name: {**(network_options or {}), **((networks or {}).get(name) or {})} for name in sorted({*joined, *used})
        },
    }


def _container(
    name: str,
    container: Mapping[str, Any],
    directory: str,
    files: Iterable[Mapping[str, Any]],
    networks: Sequence[str],
    logging: Mapping[str, Any],
) -> dict[str, Any]:
    for key, what in _REQUIRED.items():
        if not container.get(key):
            raise AnsibleFilterError(f"The container {name} has no {key}: give it {what}.")
    if not _EXACT_IMAGE.fullmatch(str(container["image"])):
        raise AnsibleFilterError(f"The container {name} has the image {container['image']}: name its exact version.")
    memory = _bytes(name, "mem_limit", container["mem_limit"])
    # Without a limit of its own, Docker allows as much swap again as memory.
    with_swap = container.get("memswap_limit", container["mem_limit"])
    if _bytes(name, "memswap_limit", with_swap) < memory:
        raise AnsibleFilterError(
            f"The container {name} has a memswap_limit below its mem_limit: it counts memory and swap together."
        )
    result: dict[str, Any] = {
        "container_name": name,
        "restart": "unless-stopped",
        "logging": logging,
        "cap_drop": ["ALL"],
        "memswap_limit": with_swap,
        "pids_limit": 256,
        "cpu_shares": 1024,
        **container,
        "security_opt": _security_options(container.get("security_opt") or ()),
    }
    if "network_mode" not in container:
        result.setdefault("networks", list(networks))
    digest = _digest(files, _mounted(name, container, directory))
    if digest:
        result["labels"] = {**_labels(container.get("labels") or {}), "servers.files": digest}
    return result


def _bytes(name: str, key: str, value: Any) -> int:
    match = _SIZE.fullmatch(str(value))
    if not match:
        raise AnsibleFilterError(f"The container {name} has the {key} {value}: write a number with k, m or g.")
    return int(match[1]) * _UNITS[match[2].lower()]


def _security_options(options: Iterable[str]) -> list[str]:
    given = list(options)
    said = any(option.startswith("no-new-privileges") for option in given)
    return given if said else ["no-new-privileges:true", *given]


def _labels(labels: Mapping[str, Any] | Sequence[str]) -> dict[str, Any]:
    if isinstance(labels, Mapping):
        return dict(labels)
    parts = (label.partition("=") for label in labels)
    return {key: value for key, _equals, value in parts}


def _mounted(name: str, container: Mapping[str, Any], directory: str) -> list[str]:
    """Return the absolute paths of the host that a container sees."""
    sources = []
    for volume in container.get("volumes") or ():
        if isinstance(volume, Mapping):
            if volume.get("type") == "tmpfs":
                continue
            source = str(volume.get("source", "")) if volume.get("type") == "bind" else ""
        else:
            source, _colon, target = str(volume).partition(":")
            source = source if target else ""
        if not source.startswith(("./", "../", "/")):
            raise AnsibleFilterError(
                f"The container {name} has the volume {volume}, which lies in no folder of ours:"
                f" bind one below {directory}, such as ./data."
            )
        sources.append(posixpath.normpath(posixpath.join(directory, source)))
    return sources


def _digest(files: Iterable[Mapping[str, Any]], mounted: Sequence[str]) -> str:
    """Digest what a container reads of the given files; empty where it reads none."""
    seen = [
        [str(file["path"]), str(file.get("mode")), str(file.get("owner")), str(file.get("group")), _text(file)]
        for file in files
        if file.get("state", "file") == "file"
        and any(f"{posixpath.normpath(file['path'])}/".startswith(f"{source}/") for source in mounted)
    ]
    return hashlib.sha256(json.dumps(sorted(seen)).encode()).hexdigest()[:16] if seen else ""


def _text(file: Mapping[str, Any]) -> str:
    content = file.get("content")
    return json.dumps(content) if isinstance(content, (Mapping, list)) else str(content)


def _literal(value: Any) -> Any:
    """Return plain data in which Compose finds no variable to replace."""
    if isinstance(value, Mapping):
        return {str(key): _literal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_literal(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value).replace("$", "$$")


class FilterModule:
    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        return {"compose_file": compose_file}
