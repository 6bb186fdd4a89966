"""Measure what Matomo uses on a 1 GB VPS while 20 visitors are tracked at once and reports are made.

Everything goes the whole way: TLS, the proxy, the web server, PHP, the database. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import random
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPSConnection
from urllib.parse import urlencode

from benchmarks.box import MB, Box, Watch, fresh_box

ROLES = ("docker_engine", "npm", "matomo")
CONTAINERS = ("matomo", "matomo-db", "matomo-web", "npm")
VISITORS = 20


@dataclass
class Load:
    """What the visitors met."""

    seconds: float = 0
    answers: Counter[str] = field(default_factory=Counter)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.matomo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the VPS up afterwards")
    parser.add_argument("--seconds", type=float, default=60, help="how long each part of the load lasts")
    arguments = parser.parse_args()
    with fresh_box("bench-matomo", ROLES, keep=arguments.keep) as box:
        box.play(servers_admin_email="admin@bench-matomo.test", servers_services=["npm", "matomo"])
        print_table(box, *measure(box, arguments.seconds))
    return 0


def measure(box: Box, seconds: float) -> tuple[list[Watch], Load, list[float]]:
    """Return what the containers used in each phase, what the visitors met, and how long reports took."""
    address, domain, ca = (box.variables[f"servers_{name}"] for name in ("public_ip", "domain", "private_ca"))
    phases = []
    reports: list[float] = []
    with Watch(box, CONTAINERS) as idle:
        time.sleep(min(15, seconds))
    phases.append(idle)
    load = Load()
    for archiving in (False, True):
        print(f"{VISITORS} visitors{' while reports are made' if archiving else ''}", file=sys.stderr)
        end = time.monotonic() + seconds
        with Watch(box, CONTAINERS) as watch:
            visitors = [
                threading.Thread(target=visit, args=(address, domain, ca, end, load, number))
                for number in range(VISITORS)
            ]
            for visitor in visitors:
                visitor.start()
            while archiving and time.monotonic() < end:
                began = time.monotonic()
                box.run("sudo systemctl start matomo-archive.service")
                reports.append(time.monotonic() - began)
                # systemd refuses to start anything more than five times in ten seconds.
                time.sleep(3)
            for visitor in visitors:
                visitor.join()
        load.seconds += seconds
        phases.append(watch)
    return phases, load, reports


def visit(address: str, domain: str, ca: str, end: float, load: Load, number: int) -> None:
    """Send hits one after the other, as a new visitor every ten pages."""
    context = ssl.create_default_context(cadata=ca)
    rng = random.Random(number)
    connection: HTTPSConnection | None = None
    for page in itertools.count():
        if time.monotonic() >= end:
            return
        query = {
            "idsite": 1, "rec": 1, "apiv": 1, "send_image": 0, "_id": f"{number:04x}{page // 10:012x}",
            "url": f"https://{domain}/page/{rng.randrange(200)}", "action_name": f"Page {rng.randrange(200)}",
            "res": "1920x1080", "rand": rng.random(),
        }  # fmt: skip
        try:
            if connection is None:
                connection = _Connection(f"analytics.{domain}", address, context)
            agent = f"Mozilla/5.0 (X11; Linux x86_64; rv:140.{number}) Gecko/20100101 Firefox/140.{number}"
            connection.request("GET", f"/matomo.php?{urlencode(query)}", headers={"User-Agent": agent})
            answer = connection.getresponse()
            answer.read()
            load.answers[str(answer.status)] += 1
        except (OSError, HTTPException) as error:
            load.answers[type(error).__name__] += 1
            connection = None


class _Connection(HTTPSConnection):
    """Knows the name of the site, and goes to the address of the box."""

    def __init__(self, name: str, address: str, context: ssl.SSLContext) -> None:
        super().__init__(name, timeout=30)
        self._address, self._tls = address, context

    def connect(self) -> None:
        plain = socket.create_connection((self._address, 443), timeout=30)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def print_table(box: Box, phases: list[Watch], load: Load, reports: list[float]) -> None:
    heads = ["container", "limit", "idle", "20 visitors", "20 visitors and reports", "peak with file cache", "killed"]
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for name, limit in zip(CONTAINERS, box.limits(CONTAINERS), strict=True):
        last = phases[-1].found[name]
        used = [f"{phase.found[name]['used'] / MB:.0f}" for phase in phases]
        cells = [name, str(limit), *used, f"{last['peak'] / MB:.0f}", str(last["killed"])]
        print("| " + " | ".join(cells) + " |")
    hits = sum(load.answers.values())
    print(f"\n{hits} hits in {load.seconds:.0f} s ({hits / load.seconds:.0f} a second): {dict(load.answers)}.")
    print(f"Reports were made {len(reports)} times, the slowest in {max(reports):.0f} s.")


if __name__ == "__main__":
    sys.exit(main())
