"""What the tests of Matomo need: the database as the judge, running the role again, a browser and a website."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed.browser import browser, gateway

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

ROOT = Path(__file__).parents[3]
INVENTORY = ROOT / ".cache/molecule/matomo"
SNIPPETS = INVENTORY / ".matomo-snippets/vps"
# Longer than any screen; with a way out, something to fetch, and buttons for the banner.
PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>{title}</title>{snippet}</head>
<body style="margin:0"><button id="give" data-matomo-consent="give">Yes</button>
<button id="withdraw" data-matomo-consent="withdraw"><b>No</b></button>
<a id="download" href="/brochure.pdf">Brochure</a><a id="out" href="https://elsewhere.example/">Elsewhere</a>
<div style="height:8000px"></div></body></html>"""

OnBox = Callable[[str], str]
Sql = Callable[[str], list[list[str]]]


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.25)


@pytest.fixture(scope="module")
def sql(on_box: OnBox) -> Sql:
    """Ask the database itself, past Matomo."""
    client = "MYSQL_PWD=$(cat /run/secrets/password) exec mariadb -umatomo --batch --skip-column-names matomo"

    def ask(statement: str) -> list[list[str]]:
        line = f"printf %s {shlex.quote(statement)} | docker exec -i matomo-db sh -c {shlex.quote(client)}"
        return [row.split("\t") for row in on_box(line).splitlines()]

    return ask


@pytest.fixture(scope="module")
def console(on_box: OnBox) -> Callable[[str], str]:
    return lambda words: on_box(f"docker exec --user 33:33 matomo php /var/www/html/console {words}")


@pytest.fixture(scope="module")
def api(on_box: OnBox, domain: str) -> Callable[..., Any]:
    """Ask Matomo's API from the box itself, with the role's token."""
    token = on_box("cat /opt/servers/matomo/secrets/token")

    def ask(method: str, **fields: str) -> Any:
        form = {"module": "API", "format": "json", "method": method, "token_auth": token, **fields}
        data = " ".join(f"--data-urlencode {shlex.quote(f'{key}={value}')}" for key, value in form.items())
        headers = f"-H 'Host: analytics.{domain}' -H 'X-Forwarded-Proto: https'"
        return json.loads(on_box(f"docker exec matomo-web curl -s {headers} {data} http://127.0.0.1:8081/index.php"))

    return ask


@pytest.fixture(scope="module")
def play() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the role again with other values, as its user would."""

    def run(*options: str, **values: Any) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(INVENTORY), *options]
        command += ["-e", json.dumps(values), str(ROOT / "molecule/matomo/converge.yml")]
        environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)

    return run


@pytest.fixture(scope="session")
def website(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A static site with each kind of lines in its pages, on this machine; yields its address."""
    folder = tmp_path_factory.mktemp("website")
    for file in SNIPPETS.glob("*.html"):
        (folder / file.name).write_text(PAGE.format(title=file.stem, snippet=file.read_text()))
    (folder / "brochure.pdf").write_bytes(b"%PDF-1.4\n")
    # No more of a database of places than its mark.
    (folder / "places.mmdb.gz").write_bytes(gzip.compress(b"\xab\xcd\xefMaxMind.com"))
    handler = partial(_Quiet, directory=str(folder))
    address = gateway()
    with ThreadingHTTPServer((address, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{address}:{server.server_port}"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture
def visitor(chromium: Browser) -> Iterator[BrowserContext]:
    """Somebody who was never there."""
    context = chromium.new_context(viewport={"width": 1000, "height": 800})
    yield context
    context.close()
