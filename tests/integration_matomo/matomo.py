"""Runs Matomo's image, a real MariaDB and a real nginx with plain docker, and talks to them as their clients do."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import subprocess
import sys
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from testbed import images
from testbed.docker import succeeds

HOST = "analytics.matomomod.test"
PASSWORD = "correct horse battery"
DATABASE_PASSWORD = "database horse 7"
EMAIL = "admin@matomomod.test"
SITE = {"name": "Example", "urls": ["https://example.org"], "timezone": "Europe/London"}
START_SECONDS = 60

# The least that the original needs of the web server before it.
_NGINX = """
server {
    listen 80;
    root /var/www/html;
    index index.php;
    location ~ ^/(config|tmp|core|standin)/ { return 403; }
    location ~ ^/(index|matomo)\\.php$ {
        include fastcgi_params;
        fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
        fastcgi_pass APP:9000;
    }
    location ~ \\.php$ { return 403; }
}
"""
_RUN_MODULE = """
import json, runpy, sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": json.load(sys.stdin)}).encode()
basic._ANSIBLE_PROFILE = "legacy"
runpy.run_module("ansible_collections.diegonmarcos.servers.plugins.modules." + sys.argv[1], run_name="__main__")
"""

Result = dict[str, t.Any]


def docker(*arguments: str, check: bool = True, stdin: str | None = None) -> str:
    """Run one docker command; return what it wrote to both outputs."""
    done = subprocess.run(
        ["docker", *arguments],
        input=stdin,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(arguments)} failed:\n{done.stdout}")
    return done.stdout.strip()


def start_module(name: str, *, check: bool = False, **options: t.Any) -> subprocess.Popen[str]:
    """Begin to run a module as Ansible would."""
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN_MODULE, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).resolve().parents[2] / ".collections",
    )
    assert process.stdin
    process.stdin.write(json.dumps({**options, "_ansible_check_mode": check, "_ansible_diff": True}))
    process.stdin.close()
    process.stdin = None
    return process


def finish_module(process: subprocess.Popen[str]) -> Result:
    """What the module says; `output` is every byte it printed."""
    output, _ = process.communicate(timeout=120)
    lines = [line for line in output.splitlines() if line.startswith("{")]
    assert lines, output
    result: Result = json.loads(lines[-1])
    return {**result, "output": output}


def run_module(name: str, **options: t.Any) -> Result:
    return finish_module(start_module(name, **options))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def data(self) -> t.Any:
        return json.loads(self.text)


@dataclass
class Matomo:
    """One instance: php-fpm and its nginx; the database server is shared, the database is its own."""

    name: str
    network: str
    database: str
    image: str
    token: str | None = None
    _address: str = field(default="", repr=False)

    @property
    def php(self) -> list[str]:
        return ["docker", "exec", "--user", "www-data", self.name, "php"]

    @property
    def web(self) -> str:
        return f"{self.name}-web"

    @property
    def url(self) -> str:
        if not self._address:
            form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
            self._address = docker("inspect", "--format", form, self.web)
        return f"http://{self._address}"

    def start(self, *options: str) -> None:
        volume = f"{self.name}-html"
        docker("volume", "create", "--label", f"matomomod={self.network}", volume)
        self.replace(self.image, *options)
        place = ("--name", self.web, "--network", self.network, "--volumes-from", f"{self.name}:ro")
        docker("create", *place, f"{images.PREFIX}/nginx-stand-in:latest")
        config = Path(os.environ.get("TMPDIR", "/tmp"), f"{self.name}.conf")
        config.write_text(_NGINX.replace("APP", self.name), encoding="utf-8")
        config.chmod(0o644)
        docker("cp", str(config), f"{self.web}:/etc/nginx/conf.d/default.conf")
        config.unlink()
        docker("start", self.web)
        self.wait_until_up()

    def replace(self, image: str, *options: str) -> None:
        """Start the program from an image on the volume it has."""
        docker("rm", "-f", self.name, check=False)
        place = ("--name", self.name, "--network", self.network, "-v", f"{self.name}-html:/var/www/html")
        docker("run", "-d", *place, *options, image)
        self.image = image
        if docker("ps", "-q", "--filter", f"name=^{self.web}$"):
            # It looked the name up when it started.
            docker("restart", "-t", "1", self.web)
            self._address = ""
            self.wait_until_up()

    def remove(self) -> None:
        docker("rm", "-fv", self.web, self.name, check=False)
        docker("volume", "rm", f"{self.name}-html", check=False)

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                if self.send("GET", "/matomo.php").status not in (502, 503, 504):
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(docker("logs", self.name) + docker("logs", self.web))

    def send(
        self,
        method: str,
        path: str,
        form: t.Mapping[str, t.Any] | None = None,
        *,
        headers: t.Mapping[str, str] | None = None,
        body: str | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        sent = {"Host": HOST, **(headers or {})}
        if form is not None:
            body = urlencode(form)
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request(method, path, body, sent)
            reply = connection.getresponse()
            text = reply.read().decode(errors="replace")
            return Answer(reply.status, {key.lower(): value for key, value in reply.getheaders()}, text)
        finally:
            connection.close()

    def hit(self, *, headers: t.Mapping[str, str] | None = None, **parameters: t.Any) -> Answer:
        """One hit of the tracker, as a visitor's browser sends it."""
        query = {"idsite": 1, "rec": 1, "url": "https://example.org/", "send_image": 0, **parameters}
        return self.send("GET", "/matomo.php?" + urlencode(query), headers=headers)

    def api(self, method: str, *, token: str | None = "", **parameters: t.Any) -> Answer:
        form = {"module": "API", "format": "json", "method": method, **parameters}
        bearer = self.token if token == "" else token
        if bearer:
            form["token_auth"] = bearer
        return self.send("POST", "/index.php", form)

    def console(self, *words: str, check: bool = True) -> str:
        return docker("exec", "--user", "www-data", self.name, "./console", *words, check=check)

    def inside(self, *command: str) -> str:
        return docker("exec", self.name, *command)

    def sql(self, statement: str) -> list[list[str]]:
        """Ask the database itself, which is the judge; {name} stands for a table."""
        statement = statement.replace("{", "matomo_").replace("}", "")
        client = ("mariadb", "-uroot", f"-p{DATABASE_PASSWORD}", "-N", "-B", self.database)
        output = docker("exec", "-i", f"{self.network}-db", *client, stdin=statement)
        return [line.split("\t") for line in output.splitlines()]

    def install_options(self, **options: t.Any) -> dict[str, t.Any]:
        return {
            "url": self.url,
            "host_name": HOST,
            "database_host": f"{self.network}-db",
            "database_name": self.database,
            "database_username": self.database,
            "database_password": DATABASE_PASSWORD,
            "admin_login": "admin",
            "admin_email": EMAIL,
            "admin_password": PASSWORD,
            "first_site": SITE,
            **options,
        }

    def install(self, **options: t.Any) -> Result:
        return run_module("matomo_install", **self.install_options(**options))

    def sites(self, *sites: dict[str, t.Any], **options: t.Any) -> Result:
        return run_module("matomo_site", **{**self._login(), "sites": list(sites), **options})

    def config(self, **options: t.Any) -> Result:
        return run_module("matomo_config", **{**self._login(), "php": self.php, **options})

    def _login(self) -> dict[str, t.Any]:
        return {"url": self.url, "host_name": HOST, "token": self.token}


class Box:
    """The network, the database server, and every instance that was started."""

    def __init__(self) -> None:
        self.network = f"matomomod-{os.getpid()}"
        self._numbers = itertools.count(1)
        self._started: list[Matomo] = []

    def up(self) -> None:
        images.build_debian(images.DEBIAN_12)
        database = images.build("mariadb-stand-in", base=images.DEBIAN_12)
        images.build_debian()
        images.build("nginx-stand-in")
        docker("network", "create", self.network)
        place = ("--name", f"{self.network}-db", "--network", self.network, "--tmpfs", "/var/lib/mysql")
        docker("run", "-d", *place, "-e", f"MARIADB_ROOT_PASSWORD={DATABASE_PASSWORD}", database)
        deadline = time.monotonic() + START_SECONDS
        healthy = ("exec", f"{self.network}-db", "healthcheck.sh", "--connect", "--innodb_initialized")
        while not succeeds("docker", *healthy):
            assert time.monotonic() < deadline, docker("logs", f"{self.network}-db")
            time.sleep(0.2)

    def down(self) -> None:
        for matomo in self._started:
            matomo.remove()
        docker("rm", "-fv", f"{self.network}-db", check=False)
        docker("network", "rm", self.network, check=False)

    def start(self, *options: str, version: str = "") -> Matomo:
        """A Matomo that nobody has installed, with an empty database."""
        number = next(self._numbers)
        image = images.build("matomo-stand-in", version=version)
        matomo = Matomo(f"{self.network}-{number}", self.network, f"matomo{number}", image)
        self._started.append(matomo)
        self.empty_database(matomo.database)
        matomo.start(*options)
        return matomo

    def empty(self, matomo: Matomo) -> None:
        """Leave the volume and the database as a first start leaves them."""
        matomo.inside("rm", "-f", "config/config.ini.php")
        matomo.token = None
        self.empty_database(matomo.database)

    def empty_database(self, name: str) -> None:
        self._root(
            f"DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}; "
            f"GRANT ALL ON {name}.* TO {name}@'%' IDENTIFIED BY '{DATABASE_PASSWORD}';"
        )

    def _root(self, statement: str) -> str:
        client = ("mariadb", "-uroot", f"-p{DATABASE_PASSWORD}")
        return docker("exec", "-i", f"{self.network}-db", *client, stdin=statement)
