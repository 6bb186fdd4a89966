"""Runs the stand-in and what surrounds it with plain docker, and talks to it as its clients do."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# What the real image needs; everything else is dropped.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "SETUID", "SETGID", "NET_BIND_SERVICE", "FOWNER", "KILL")
START_SECONDS = 20
RELOAD_SECONDS = 5


def docker(*arguments: str, check: bool = True, stdin: str | None = None) -> str:
    """Run one docker command; return what it wrote to both outputs."""
    result = subprocess.run(
        ["docker", *arguments],
        input=stdin,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )
    if check and result.returncode:
        raise AssertionError(f"docker {' '.join(arguments)} failed:\n{result.stdout}")
    return result.stdout.strip()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Part:
    """One file of a multipart upload."""

    name: str
    content: str


@dataclass
class Npm:
    """One container of the stand-in, reached through ports published on 127.0.0.1."""

    name: str
    token: str | None = None
    _ports: dict[int, int] = field(default_factory=dict)

    def port(self, inside: int) -> int:
        if inside not in self._ports:
            self._ports[inside] = int(docker("port", self.name, str(inside)).splitlines()[0].rpartition(":")[2])
        return self._ports[inside]

    def api(self, method: str, path: str, body: Any = None, *, token: str | None = "", parts: Any = None) -> Answer:
        """Call the API; without `token` as the user that is logged in, with None as nobody."""
        headers, payload = {}, None
        bearer = self.token if token == "" else token
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        if parts is not None:
            headers["Content-Type"], payload = _multipart(parts)
        elif body is not None:
            headers["Content-Type"], payload = "application/json", json.dumps(body).encode()
        return self.send(81, method, f"/api{path}", headers, payload)

    def ok(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """Call the API, insist on success and return the decoded answer."""
        answer = self.api(method, path, body, **options)
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.text}"
        return answer.json

    def web(self, host: str, path: str = "/", *, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
        """Ask port 80 for a host."""
        return self.send(80, method, path, {"Host": host, **(headers or {})})

    def tls(self, host: str, path: str = "/", *, headers: dict[str, str] | None = None) -> Answer:
        """Ask port 443 for a host, its name in the handshake; the certificate is not checked here."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port(443), timeout=20)
        with self.handshake(host) as connection.sock:
            return _exchange(connection, "GET", path, {"Host": host, **(headers or {})}, None)

    def handshake(
        self, host: str, *, port: int = 443, alpn: list[str] | None = None, **context_options: Any
    ) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # What is refused must be refused by the server, not by the client's own caution.
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for name, value in context_options.items():
            setattr(context, name, value)
        if alpn:
            context.set_alpn_protocols(alpn)
        plain = socket.create_connection(("127.0.0.1", self.port(port)), timeout=20)
        try:
            return context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    def served_certificate(self, host: str) -> bytes:
        with self.handshake(host) as connection:
            certificate = connection.getpeercert(binary_form=True)
        assert certificate
        return certificate

    def proxies(self, host: str) -> bool:
        """Tell whether port 80 hands requests for a host on (a host answers so, the default site does not)."""
        return "x-served-by" in self.web(host).headers

    def hangs_up(self, host: str) -> bool:
        try:
            self.web(host)
        except http.client.RemoteDisconnected:
            return True
        return False

    def offers_tls(self, host: str) -> bool:
        try:
            self.served_certificate(host)
        except ssl.SSLError:
            return False
        return True

    def listens(self, port: int) -> bool:
        """Tell whether a port is open inside the container (Docker accepts connections to published ports itself)."""
        probe = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=2)"
        return not self.inside("python3", "-c", probe, check=False)

    def inside(self, *command: str, check: bool = True) -> str:
        return docker("exec", self.name, *command, check=check)

    def logs(self) -> str:
        return docker("logs", self.name)

    def workers(self) -> set[str]:
        """Return the process numbers of nginx's workers: a reload replaces them."""
        return set(
            self.inside("sh", "-c", "pid=$(cat /run/nginx/nginx.pid); cat /proc/$pid/task/$pid/children").split()
        )

    def restart(self) -> None:
        docker("restart", "-t", "5", self.name)
        # Docker hands out other ports.
        self._ports.clear()

    def wait_until_up(self) -> None:
        """Wait as a client must: connection refused and 502 with HTML come first."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                answer = self.api("GET", "/", token=None)
                if answer.status == 200 and answer.json["status"] == "OK":
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.05)
        raise AssertionError(f"{self.name} did not come up:\n{self.logs()}")

    def set_up(self) -> None:
        """Make the first user and log in."""
        credentials = {"type": "password", "secret": "S3cret-pass-1"}
        user = {"name": "Admin", "nickname": "admin", "email": "admin@example.org", "auth": credentials}
        self.ok("POST", "/users", user, token=None)
        self.log_in("admin@example.org", "S3cret-pass-1")

    def log_in(self, identity: str, secret: str) -> None:
        self.token = self.ok("POST", "/tokens", {"identity": identity, "secret": secret}, token=None)["token"]

    def proxy(self, *names: str, **options: Any) -> Any:
        """Save a proxy host in front of the container `up`."""
        target = {"forward_scheme": "http", "forward_host": "up", "forward_port": 8080}
        return self.ok("POST", "/nginx/proxy-hosts", {"domain_names": list(names), **target, **options})

    def send(self, port: int, method: str, path: str, headers: dict[str, str], payload: bytes | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port(port), timeout=90)
        try:
            return _exchange(connection, method, path, headers, payload)
        finally:
            connection.close()


Start = Callable[..., Npm]


def eventually(check: Callable[[], bool], *, seconds: float = RELOAD_SECONDS) -> bool:
    """Tell whether something becomes true and stays so.

    For a moment after a change old and new processes of nginx answer in turn.
    """
    deadline, in_a_row = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        try:
            in_a_row = in_a_row + 1 if check() else 0
        except (OSError, http.client.HTTPException):
            in_a_row = 0
        if in_a_row == 3:
            return True
        time.sleep(0.05)
    return False


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str], payload: bytes | None
) -> Answer:
    connection.request(method, path, payload, headers)
    response = connection.getresponse()
    content = response.read()
    # A header that occurs twice is a finding of its own: keep both.
    merged: dict[str, str] = {}
    for name, value in response.getheaders():
        merged[name.lower()] = f"{merged[name.lower()]}, {value}" if name.lower() in merged else value
    return Answer(response.status, merged, content.decode(errors="replace"))


def _multipart(parts: list[Part]) -> tuple[str, bytes]:
    boundary = uuid.uuid4().hex
    text = "".join(
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{part.name}"; filename="{part.name}.pem"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n{part.content}\r\n"
        for part in parts
    )
    return f"multipart/form-data; boundary={boundary}", f"{text}--{boundary}--\r\n".encode()
