"""A real browser on the test bed's network, steered from this machine: it knows the names and the authority there."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from testbed import images, internet
from testbed.docker import TestbedError, docker

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ViewportSize

START_SECONDS = 60
MEMORY = "768m"
# What a page has on a common telephone; give it to `new_context`.
PHONE: ViewportSize = {"width": 390, "height": 844}


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a fresh Chromium, yield Playwright's handle on it, and remove it; each context in it is a new visitor."""
    from playwright.sync_api import sync_playwright

    tag = images.build("browser")
    name = f"{images.PREFIX}-browser-{os.getpid()}"
    place = ["--network", internet.NETWORK, "--dns", internet.address(internet.DNS.host)]
    docker(
        *("run", "-d", "--rm", "--name", name, "--memory", MEMORY, "--cap-drop", "ALL", "--init", *place),
        *("-e", f"ROOTS={internet.acme_root()}", tag),
    )
    try:
        template = '{{(index .NetworkSettings.Networks "' + internet.NETWORK + '").IPAddress}}'
        url = f"http://{docker('container', 'inspect', '--format', template, name)}:9222"
        _wait_for(url, name)
        with sync_playwright() as playwright:
            chromium = playwright.chromium.connect_over_cdp(url)
            try:
                yield chromium
            finally:
                chromium.close()
    finally:
        docker("rm", "-f", name)


def gateway() -> str:
    """Return the address under which containers of the test bed reach servers on this machine."""
    return docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", internet.NETWORK) or (
        internet.address(1)
    )


def _wait_for(url: str, container: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{url}/json/version", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise TestbedError(f"the browser does not answer: see `docker logs {container}`") from None
            time.sleep(0.1)
