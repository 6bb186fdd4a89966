"""Measure what Docker's userland proxy gives and costs, with and without IPv6 for containers, behind our firewall.

Each combination is set by the role docker_engine on one throwaway VPS that vps_hardening has hardened. The visitor is a
network name space of its own on that box, so that IPv6 is there whatever this machine's network has.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
VPS = "bench-docker"
IMAGE = "busybox:1.37.0"

BOX4, VISITOR4 = "203.0.113.1", "203.0.113.2"
BOX6, VISITOR6 = "2001:db8:1::1", "2001:db8:1::2"
PORTS = 10

PLAYBOOK = """
- name: Set up the engine
  hosts: servers
  become: true
  force_handlers: true
  roles:
    - diegonmarcos.servers.vps_hardening
    - diegonmarcos.servers.docker_engine
"""

# One port that the table opens, one that it does not, one for the box alone.
SERVE = f"""
docker rm -f web 2>/dev/null; docker network rm bench 2>/dev/null
set -e
docker network create $NETWORK bench
mkdir -p /srv/bench/cgi-bin
printf '#!/bin/sh\\necho; echo "$REMOTE_ADDR"\\n' >/srv/bench/cgi-bin/visitor
chmod +x /srv/bench/cgi-bin/visitor
docker run -d --init --name web --network bench -v /srv/bench:/www:ro \\
    -p 8000:80 -p 8001:80 -p 127.0.0.1:8002:80 {IMAGE} httpd -f -p 80 -h /www
docker cp -q web:/bin/busybox /usr/local/bin/
"""

NAME_SPACE = f"""
set -e
for place in all default lo; do sysctl -qw net.ipv6.conf.$place.disable_ipv6=0; done
ip netns add visitor
ip link add outside type veth peer name eth0 netns visitor
ip address add {BOX4}/24 dev outside
ip -6 address add {BOX6}/64 dev outside nodad
ip link set outside up
ip netns exec visitor sysctl -qw net.ipv6.conf.all.disable_ipv6=0
ip netns exec visitor ip link set lo up
ip netns exec visitor ip link set eth0 up
ip netns exec visitor ip address add {VISITOR4}/24 dev eth0
ip netns exec visitor ip -6 address add {VISITOR6}/64 dev eth0 nodad
"""

# Proportional memory of all docker-proxy processes and of the engine itself.
MEMORY = r"""
for name in docker-proxy dockerd; do
    cat /dev/null $(pidof -x $name | tr ' ' '\n' | sed 's|.*|/proc/&/smaps_rollup|') |
        awk -v name=$name '/^Pss:/ {pss += $2} /^Rss:/ {rss += $2} END {printf "%s %d %d\n", name, pss, rss}'
done
"""


@dataclass(frozen=True)
class Variant:
    """One combination of the two settings."""

    proxy: bool
    ipv6: bool

    @property
    def name(self) -> str:
        return f"{'proxy' if self.proxy else 'no proxy'}, {'IPv6 network' if self.ipv6 else 'IPv4 only'}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.docker", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the VPS up afterwards")
    arguments = parser.parse_args()
    variants = [Variant(proxy, ipv6) for proxy in (True, False) for ipv6 in (False, True)]
    with tempfile.TemporaryDirectory() as folder:
        inventory = boot(Path(folder))
        try:
            configure(inventory, variants[0])
            on_box(NAME_SPACE)
            columns = []
            for variant in variants:
                print(f"measuring: {variant.name}", file=sys.stderr)
                configure(inventory, variant)
                columns.append(measure(variant))
        finally:
            if not arguments.keep:
                testbed("down", VPS)
    print_table([variant.name for variant in variants], columns)
    return 0


def testbed(*arguments: str) -> None:
    subprocess.run([BIN / "python", "-m", "testbed", *arguments], cwd=PROJECT, check=True)


def boot(inventory: Path) -> Path:
    testbed("up", VPS, "--fresh", "--host-vars", str(inventory / "host_vars" / "vps.yml"))
    (inventory / "hosts.yml").write_text("servers:\n  hosts:\n    vps:\n")
    (inventory / "play.yml").write_text(PLAYBOOK)
    return inventory


def configure(inventory: Path, variant: Variant) -> None:
    values = {
        "servers_admin_email": "admin@example.org",
        "servers_services": [],
        "servers_ports": [
            {"port": 22, "protocol": "tcp", "name": "ssh", "service": "host"},
            {"port": 8000, "protocol": "tcp", "name": "bench", "service": "host"},
        ],
        "docker_engine_userland_proxy": variant.proxy,
        "docker_engine_ipv6": variant.ipv6,
    }
    command: list[str | Path] = [
        BIN / "ansible-playbook",
        "-i",
        inventory / "hosts.yml",
        inventory / "play.yml",
        "-e",
        json.dumps(values),
    ]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-4000:])


def on_box(script: str, *, network: str = "") -> str:
    """Run a shell script on the box as root and return what it printed."""
    ssh: list[str | Path] = [
        "ssh",
        "-F",
        PROJECT / ".cache" / "testbed" / VPS / "ssh_config",
        VPS,
        f"sudo NETWORK='{network}' sh -s",
    ]
    done = subprocess.run(ssh, input=script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def answer(prefix: str, url: str) -> str:
    """Ask the web server from somewhere; return whom it saw, or how the attempt ended."""
    names = {
        VISITOR4: "the visitor",
        VISITOR6: "the visitor",
        BOX4: "the box",
        BOX6: "the box",
        "": "-",
    }
    wget = f"timeout 4 {prefix} busybox wget -qO- {url}/cgi-bin/visitor 2>&1 || echo error $?"
    lines = on_box(wget).split()
    if "error" in lines:
        return "hangs" if lines[-1] in ("124", "143") or "timed" in lines else "refused"
    seen = lines[-1].strip("[]").removeprefix("::ffff:")
    return f"yes, sees {names.get(seen, seen)}"


def measure(variant: Variant) -> dict[str, str]:
    on_box(SERVE, network="--ipv6" if variant.ipv6 else "")
    gateways = json.loads(on_box("docker network inspect bench"))[0]["IPAM"]["Config"]
    bridge = {config["Gateway"].partition("/")[0] for config in gateways}
    own = json.loads(on_box("docker inspect web"))[0]["NetworkSettings"]["Networks"]["bench"]
    mine = {own["IPAddress"], own["GlobalIPv6Address"]}

    def ask(prefix: str, url: str) -> str:
        said = answer(prefix, url)
        seen = said.rpartition(" ")[2]
        if seen in bridge:
            return said.replace(seen, "the bridge")
        return said.replace(seen, "the container") if seen in mine else said

    visitor = "ip netns exec visitor"
    box6 = f"[{BOX6}]"
    questions: dict[str, Callable[[], str]] = {
        "visitor over IPv4": lambda: ask(visitor, f"http://{BOX4}:8000"),
        "visitor over IPv6": lambda: ask(visitor, f"http://{box6}:8000"),
        "visitor, IPv4, port not in the table": lambda: ask(visitor, f"http://{BOX4}:8001"),
        "visitor, IPv6, port not in the table": lambda: ask(visitor, f"http://{box6}:8001"),
        "the box, 127.0.0.1": lambda: ask("", "http://127.0.0.1:8000"),
        "the box, 127.0.0.1, published there only": lambda: ask("", "http://127.0.0.1:8002"),
        "the box, [::1]": lambda: ask("", "http://[::1]:8000"),
        "container to the box's address, same network": lambda: ask("docker exec web", f"http://{BOX4}:8000"),
        "container to the box's address, other network": lambda: ask(f"docker run --rm {IMAGE}", f"http://{BOX4}:8000"),
    }
    found = {question: look() for question, look in questions.items()}
    return found | cost(variant)


def cost(variant: Variant) -> dict[str, str]:
    """Publish ten ports and see what that takes."""
    ports = " ".join(f"-p {9000 + number}:80" for number in range(PORTS))
    before = memory()
    start = f"date +%s%N; docker run -d --name many {{ports}} --network bench {IMAGE} sleep 1000 >/dev/null; date +%s%N"
    seconds = []
    for published in ("", ports):
        began, ended = on_box(start.format(ports=published)).split()
        seconds.append((int(ended) - int(began)) / 1e9)
        if published:
            after = memory()
        on_box("docker rm -f many")
    pss = (after["docker-proxy"][0] - before["docker-proxy"][0]) / 1024
    rss = (after["docker-proxy"][1] - before["docker-proxy"][1]) / 1024
    return {
        f"{PORTS} published ports: processes' PSS": f"{pss:.1f} MB",
        f"{PORTS} published ports: processes' RSS": f"{rss:.1f} MB",
        f"start of a container with {PORTS} ports (with none)": f"{seconds[1]:.1f} s ({seconds[0]:.1f} s)",
    }


def memory() -> dict[str, tuple[int, int]]:
    rows = (line.split() for line in on_box(MEMORY).splitlines())
    return {name: (int(pss), int(rss)) for name, pss, rss in rows}


def print_table(names: list[str], columns: list[dict[str, str]]) -> None:
    print("| | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for row in columns[0]:
        print(f"| {row} | " + " | ".join(column[row] for column in columns) + " |")


if __name__ == "__main__":
    sys.exit(main())
