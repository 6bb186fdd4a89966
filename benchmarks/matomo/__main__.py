"""Measure what Matomo uses on a 1 GB VPS while 20 visitors are tracked at once and reports are made.

Everything goes the whole way: TLS, the proxy, the web server, PHP, the database. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlencode

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
VPS = "bench-matomo"
CONTAINERS = ("matomo", "matomo-db", "matomo-web", "npm")
VISITORS = 20
MB = 1 << 20

PLAYBOOK = """
- name: Run Matomo behind the proxy
  hosts: servers
  become: true
  force_handlers: true
  roles:
    - diegonmarcos.servers.docker_engine
    - diegonmarcos.servers.npm
    - diegonmarcos.servers.matomo
"""

# Runs on the box until its standard input ends; prints what each container used at most and what the kernel counted.
SAMPLER = r"""
import json, subprocess, sys, threading, time
from pathlib import Path

def files(name):
    pid = subprocess.check_output(["docker", "inspect", "--format", "{{.State.Pid}}", name], text=True).strip()
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            names = "memory.usage_in_bytes memory.max_usage_in_bytes memory.oom_control total_inactive_file"
            return Path("/sys/fs/cgroup/memory" + path), *names.split()
        if not controllers and Path(f"/sys/fs/cgroup{path}/memory.current").exists():
            return Path("/sys/fs/cgroup" + path), "memory.current", "memory.peak", "memory.events", "inactive_file"

def values(text):
    return {key: int(value) for key, value in (line.split() for line in text.splitlines() if len(line.split()) == 2)}

watched = {name: files(name) for name in sys.argv[1:]}
most = dict.fromkeys(watched, 0)
done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
while True:
    for name, (folder, usage, _, _, inactive) in watched.items():
        used = int((folder / usage).read_text()) - values((folder / "memory.stat").read_text())[inactive]
        most[name] = max(most[name], used)
    if done.wait(0.5):
        break
print(json.dumps({name: {"used": most[name], "peak": int((folder / peak).read_text()),
                         "killed": values((folder / events).read_text()).get("oom_kill", 0)}
                  for name, (folder, _, peak, events, _) in watched.items()}))
"""


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
    with tempfile.TemporaryDirectory() as folder:
        values = boot(Path(folder))
        try:
            print_table(*measure(values, arguments.seconds))
        finally:
            if not arguments.keep:
                testbed("down", VPS)
    return 0


def testbed(*arguments: str) -> None:
    subprocess.run([BIN / "python", "-m", "testbed", *arguments], cwd=PROJECT, check=True)


def boot(inventory: Path) -> dict[str, str]:
    """Set up a fresh box and return the variables that its inventory gives it."""
    host_vars = inventory / "host_vars" / "vps.yml"
    testbed("up", VPS, "--fresh", "--host-vars", str(host_vars))
    (inventory / "hosts.yml").write_text("servers:\n  hosts:\n    vps:\n")
    (inventory / "play.yml").write_text(PLAYBOOK)
    wanted = {"servers_admin_email": f"admin@{VPS}.test", "servers_services": ["npm", "matomo"]}
    play = str(inventory / "play.yml")
    command = [str(BIN / "ansible-playbook"), "-i", str(inventory), play, "-e", json.dumps(wanted)]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
    print("setting up the box", file=sys.stderr)
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-4000:])
    found = json.loads(host_vars.read_text().removeprefix("---"))
    assert isinstance(found, dict)
    return found


def ssh(command: str) -> list[str]:
    return ["ssh", "-F", str(PROJECT / ".cache/testbed" / VPS / "ssh_config"), VPS, command]


class Watch:
    """Samples the containers while the block runs."""

    def __enter__(self) -> Watch:
        script = "'" + SAMPLER.replace("'", "'\\''") + "'"
        command = ssh(f"sudo python3 -c {script} {' '.join(CONTAINERS)}")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.found: dict[str, dict[str, int]] = {}
        return self

    def __exit__(self, *error: object) -> None:
        said = self._process.communicate()[0]
        self.found = json.loads(said)


def measure(values: dict[str, str], seconds: float) -> tuple[list[Watch], Load, list[float]]:
    """Return what the containers used in each phase, what the visitors met, and how long reports took."""
    address, domain, ca = values["servers_public_ip"], values["servers_domain"], values["servers_private_ca"]
    phases = []
    reports: list[float] = []
    with Watch() as idle:
        time.sleep(min(15, seconds))
    phases.append(idle)
    load = Load()
    for archiving in (False, True):
        print(f"{VISITORS} visitors{' while reports are made' if archiving else ''}", file=sys.stderr)
        end = time.monotonic() + seconds
        with Watch() as watch:
            visitors = [
                threading.Thread(target=visit, args=(address, domain, ca, end, load, number))
                for number in range(VISITORS)
            ]
            for visitor in visitors:
                visitor.start()
            while archiving and time.monotonic() < end:
                began = time.monotonic()
                subprocess.run(ssh("sudo systemctl start matomo-archive.service"), check=True)
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


def print_table(phases: list[Watch], load: Load, reports: list[float]) -> None:
    limits = subprocess.run(
        ssh("sudo docker inspect --format '{{.HostConfig.Memory}}' " + " ".join(CONTAINERS)),
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    heads = ["container", "limit", "idle", "20 visitors", "20 visitors and reports", "peak with file cache", "killed"]
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for name, limit in zip(CONTAINERS, limits, strict=True):
        last = phases[-1].found[name]
        used = [f"{phase.found[name]['used'] / MB:.0f}" for phase in phases]
        cells = [name, f"{int(limit) / MB:.0f}", *used, f"{last['peak'] / MB:.0f}", str(last["killed"])]
        print("| " + " | ".join(cells) + " |")
    hits = sum(load.answers.values())
    print(f"\n{hits} hits in {load.seconds:.0f} s ({hits / load.seconds:.0f} a second): {dict(load.answers)}.")
    print(f"Reports were made {len(reports)} times, the slowest in {max(reports):.0f} s.")


if __name__ == "__main__":
    sys.exit(main())
