"""Writes nginx's files, tests them and reloads nginx, in upstream's order and with upstream's gaps."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .database import Database, Row
from .errors import internal

LOCK = threading.RLock()
_ROOT = Path("/data/nginx")
_CIPHERS = "conf.d/include/ssl-ciphers.conf"
_ACME = "conf.d/include/letsencrypt-acme-challenge.conf"


class NginxError(Exception):
    """`nginx -t` or `nginx -s` failed; the text is what it wrote."""


def test() -> None:
    # A log at warn level on standard error gives messages in the form that upstream's clients know.
    _nginx("-t", "-q", "-g", "error_log stderr warn;")


def reload() -> None:
    """Ask the master process to reload. As upstream, return before the workers have been replaced."""
    test()
    _signal_reload()


def _signal_reload() -> None:
    _nginx("-s", "reload")


def _nginx(*arguments: str) -> None:
    result = subprocess.run(["/usr/sbin/nginx", *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise NginxError(result.stderr)


def configure(database: Database, table: str, host: Row) -> Row:
    """Write the host's file, keep it if nginx accepts it, reload, and return the new `meta` with the verdict.

    A configuration that was broken before is an error 500 and nothing is written, not even a repair.
    """
    with LOCK:
        with _as_500():
            test()
        delete(table, host["id"])
        write_host(table, host)
        try:
            test()
            verdict: Row = {"nginx_online": True, "nginx_err": None}
        except NginxError as error:
            verdict = {"nginx_online": False, "nginx_err": str(error)}
            delete(table, host["id"])
        meta = {**host["meta"], **verdict}
        database.patch(table, host["id"], {"meta": meta})
        with _as_500():
            _signal_reload()
    return meta


def remove(table: str, host_id: int) -> None:
    """Stop serving a host."""
    with LOCK:
        delete(table, host_id)
        reload_or_500()


def reload_or_500() -> None:
    with LOCK, _as_500():
        reload()


@contextmanager
def _as_500() -> Iterator[None]:
    try:
        yield
    except NginxError as error:
        raise internal(str(error)) from None


def delete(table: str, host_id: int) -> None:
    _path(table, host_id).unlink(missing_ok=True)


def write_host(table: str, host: Row) -> None:
    """Write a host's file from the row and whatever relations were expanded on it.

    What the caller did not expand is not in the file: that is how upstream loses certificates and access lists.
    """
    render = {
        "proxy_host": _proxy_host,
        "redirection_host": _redirection_host,
        "dead_host": _dead_host,
        "stream": _stream,
    }[table]
    _write(_path(table, host["id"]), render(host))


def write_default_site(setting: Row) -> None:
    answers = {
        "404": ["return 404;"],
        "444": ["return 444;"],
        "redirect": [f"return 301 {setting['meta'].get('redirect', '')};"],
        "html": ["root /data/nginx/default_www;", "try_files $uri /index.html;"],
    }
    lines = ["# Default site"]
    if setting["value"] in answers:
        lines += [
            "server {",
            "listen 80 default;",
            _ipv6("listen [::]:80 default;"),
            "server_name default-host.localhost;",
            "access_log /data/logs/default-host_access.log combined;",
            "error_log /data/logs/default-host_error.log warn;",
            f"include {_ACME};",
            *_location("/", answers[setting["value"]]),
            "}",
        ]
    _write(_path("default", 0), lines)


def write_challenge_host(certificate: Row) -> None:
    """Answer the ACME server's question on port 80 for names that may have no host yet."""
    lines = [
        _headline(certificate),
        "server {",
        "listen 80;",
        _ipv6("listen [::]:80;"),
        f"server_name {' '.join(certificate['domain_names'])};",
        "access_log /data/logs/letsencrypt-requests_access.log standard;",
        "error_log /data/logs/letsencrypt-requests_error.log warn;",
        f"include {_ACME};",
        *_location("/", ["return 404;"]),
        "}",
    ]
    _write(_path("challenge", certificate["id"]), lines)


def _path(table: str, host_id: int) -> Path:
    if table == "default":
        return _ROOT / "default_host/site.conf"
    if table == "challenge":
        return _ROOT / f"temp/letsencrypt_{host_id}.conf"
    return _ROOT / table / f"{host_id}.conf"


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _proxy_host(host: Row) -> list[str]:
    if not host["enabled"]:
        return [_headline(host)]
    locations: list[dict[str, Any]] = host["locations"] or []
    own_root = any(location["path"] == "/" for location in locations) or _has_root_location(host)
    upgrade = _websocket(host)
    lines = [
        *_opening(host),
        f"set $forward_scheme {host['forward_scheme']};",
        f'set $server "{host["forward_host"]}";',
        f"set $port {host['forward_port']};",
        *_assets(host),
        *_exploits(host),
        *upgrade,
        f"access_log /data/logs/proxy-host-{host['id']}_access.log proxy;",
        f"error_log /data/logs/proxy-host-{host['id']}_error.log warn;",
        host["advanced_config"],
    ]
    for location in locations:
        lines += _own_location(host, location)
    if not own_root:
        inside = [*_access_list(host), *_hsts(host), *upgrade, "include conf.d/include/proxy.conf;"]
        lines += _location("/", inside)
    return [*lines, "include /data/nginx/custom/server_proxy[.]conf;", "}"]


def _own_location(host: Row, location: Row) -> list[str]:
    target, _, path = location["forward_host"].partition("/")
    path = f"/{path}" if path else location.get("forward_path", "")
    inside = [
        location.get("advanced_config", ""),
        "proxy_set_header Host $host;",
        "proxy_set_header X-Forwarded-Scheme $scheme;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Real-IP $remote_addr;",
        f"proxy_pass {location['forward_scheme']}://{target}:{location['forward_port']}{path};",
        *_access_list(host),
        *_assets(host),
        *_exploits(host),
        *_forced_tls(host),
        *_hsts(host),
        *_websocket(host),
    ]
    return _location(location["path"], inside)


def _redirection_host(host: Row) -> list[str]:
    if not host["enabled"]:
        return [_headline(host)]
    scheme = host["forward_scheme"] if host["forward_scheme"].lower() in ("http", "https") else "$scheme"
    target = f"{scheme}://{host['forward_domain_name']}{'$request_uri' if host['preserve_path'] else ''}"
    lines = [
        *_opening(host),
        *_exploits(host),
        f"access_log /data/logs/redirection-host-{host['id']}_access.log standard;",
        f"error_log /data/logs/redirection-host-{host['id']}_error.log warn;",
        host["advanced_config"],
    ]
    if not _has_root_location(host):
        lines += _location("/", [*_hsts(host), f"return {host['forward_http_code']} {target};"])
    return [*lines, "include /data/nginx/custom/server_redirect[.]conf;", "}"]


def _dead_host(host: Row) -> list[str]:
    if not host["enabled"]:
        return [_headline(host)]
    lines = [
        *_opening(host),
        f"access_log /data/logs/dead-host-{host['id']}_access.log standard;",
        f"error_log /data/logs/dead-host-{host['id']}_error.log warn;",
        host["advanced_config"],
    ]
    if not _has_root_location(host):
        lines += _location("/", [*_hsts(host), "return 404;"])
    return [*lines, "include /data/nginx/custom/server_dead[.]conf;", "}"]


def _stream(host: Row) -> list[str]:
    port, lines = host["incoming_port"], [f"# Stream {host['id']}"]
    tls = " ssl" if host.get("certificate") else ""
    for wanted, suffix, kind in (("tcp_forwarding", tls, "tcp"), ("udp_forwarding", "", "udp")):
        if not (host["enabled"] and host[wanted]):
            continue
        protocol = " udp" if kind == "udp" else ""
        lines += [
            "server {",
            f"listen {port}{protocol} reuseport{suffix};",
            _ipv6(f"listen [::]:{port}{protocol} reuseport{suffix};"),
            *(_certificate_files(host, "conf.d/include/ssl-cache-stream.conf") if suffix else []),
            f"proxy_pass {host['forwarding_host']}:{host['forwarding_port']};",
            f"access_log /data/logs/stream-{host['id']}_access.log stream;",
            f"error_log /data/logs/stream-{host['id']}_error.log warn;",
            "include /data/nginx/custom/server_stream[.]conf;",
            f"include /data/nginx/custom/server_stream_{kind}[.]conf;",
            "}",
        ]
    return lines


def _headline(host: Row) -> str:
    return f"# {', '.join(host['domain_names'])}"


def _opening(host: Row) -> list[str]:
    # The same map in every file: the one that nginx reads last decides for all hosts.
    subdomains = " includeSubDomains;" if host["hsts_subdomains"] else ""
    lines = [
        _headline(host),
        f'map $scheme $hsts_header {{ https "max-age=63072000;{subdomains} preload"; }}',
        "server {",
        "listen 80;",
        _ipv6("listen [::]:80;"),
    ]
    if host.get("certificate"):
        lines += ["listen 443 ssl;", _ipv6("listen [::]:443 ssl;")]
    lines += [
        f"server_name {' '.join(host['domain_names'])};",
        f"http2 {'on' if host['http2_support'] else 'off'};",
    ]
    if host.get("certificate"):
        if host["certificate"]["provider"] == "letsencrypt":
            lines.append(f"include {_ACME};")
        lines += _certificate_files(host, "conf.d/include/ssl-cache.conf")
    return [*lines, *_hsts(host), *_forced_tls(host)]


def _certificate_files(host: Row, cache: str) -> list[str]:
    number = host["certificate_id"]
    if host["certificate"]["provider"] == "letsencrypt":
        folder, shared = f"/etc/letsencrypt/live/npm-{number}", [f"include {cache};", f"include {_CIPHERS};"]
    else:
        folder, shared = f"/data/custom_ssl/npm-{number}", []
    return [*shared, f"ssl_certificate {folder}/fullchain.pem;", f"ssl_certificate_key {folder}/privkey.pem;"]


def _hsts(host: Row) -> list[str]:
    if host.get("certificate") and host["ssl_forced"] and host["hsts_enabled"]:
        return ["add_header Strict-Transport-Security $hsts_header always;"]
    return []


def _forced_tls(host: Row) -> list[str]:
    if host.get("certificate") and host["ssl_forced"]:
        trust = "T" if host.get("trust_forwarded_proto") else "F"
        return [f'set $trust_forwarded_proto "{trust}";', "include conf.d/include/force-ssl.conf;"]
    return []


def _access_list(host: Row) -> list[str]:
    if not host["access_list_id"]:
        return []
    access_list = host.get("access_list") or {}
    lines: list[str] = []
    if access_list.get("items"):
        lines += [
            'auth_basic "Authorization required";',
            f"auth_basic_user_file /data/access/{host['access_list_id']};",
        ]
        if not access_list["pass_auth"]:
            lines.append('proxy_set_header Authorization "";')
    if access_list.get("clients"):
        lines += [f"{client['directive']} {client['address']};" for client in access_list["clients"]]
        lines.append("deny all;")
    return [*lines, f"satisfy {'any' if access_list.get('satisfy_any') else 'all'};"]


def _assets(host: Row) -> list[str]:
    return ["include conf.d/include/assets.conf;"] if host["caching_enabled"] else []


def _exploits(host: Row) -> list[str]:
    return ["include conf.d/include/block-exploits.conf;"] if host["block_exploits"] else []


def _websocket(host: Row) -> list[str]:
    if not host["allow_websocket_upgrade"]:
        return []
    return ["proxy_set_header Upgrade $http_upgrade;", "proxy_set_header Connection $http_connection;"]


def _location(path: str, inside: list[str]) -> list[str]:
    return [f"location {path} {{", *inside, "}"]


def _has_root_location(host: Row) -> bool:
    pattern = r"^(?:.*;)?\s*?location\s*?/\s*?{"
    return bool(re.search(pattern, host["advanced_config"], re.IGNORECASE | re.MULTILINE))


def _ipv6(line: str) -> str:
    disabled = os.environ.get("DISABLE_IPV6", "").lower() in ("on", "true", "1", "yes")
    return f"#{line}" if disabled else line
