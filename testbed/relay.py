"""The mail servers of the world: a relay that demands TLS and a login, a receiver, and their DNS records."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

from testbed import images, internet
from testbed.docker import TestbedError, docker, one_at_a_time, say, succeeds

RELAY = internet.Server("relay", 5, ())
USER, PASSWORD = "throwaway-vps", "only-for-the-test-bed"
# Not below .test: OpenDKIM's resolver says of that zone, without asking, that it does not exist.
OUTSIDE = "outside.example"
STRICT = "strict.example"
START_SECONDS = 30


@one_at_a_time("relay")
def up() -> None:
    """Start the relay and publish the records of the domains outside, unless both are there."""
    tag = images.build("mail-world")
    wanted = docker("image", "inspect", "--format", "{{.Id}}", tag)
    container = RELAY.container
    state = "{{.Image}} {{.State.Running}}"
    if not succeeds("docker", "container", "inspect", container) or docker(
        "container", "inspect", "--format", state, container
    ).split() != [wanted, "true"]:
        if succeeds("docker", "container", "inspect", container):
            docker("rm", "-f", container)
        say(f"starting {RELAY.domain}")
        place = ["--network", internet.NETWORK, "--ip", internet.address(RELAY.host)]
        login = ["-e", f"RELAY_USER={USER}", "-e", f"RELAY_PASSWORD={PASSWORD}"]
        dns = ["--dns", internet.address(internet.DNS.host)]
        docker("run", "-d", "--name", container, *place, *dns, *login, "--memory", "128m", tag)
        deadline = time.monotonic() + START_SECONDS
        while "up" not in docker("logs", container):
            if time.monotonic() > deadline:
                raise TestbedError(f"the mail relay does not start: see `docker logs {container}`")
            time.sleep(0.2)
    internet.name_host(RELAY.domain, internet.address(RELAY.host))
    _publish()


def ca() -> str:
    """Return the certificate (PEM) of the authority that signed the relay's."""
    return docker("exec", RELAY.container, "cat", "/etc/relay/ca.pem")


def host_vars() -> dict[str, object]:
    """Return the variables that make a box send its mail through the relay."""
    return {
        "mailserver_relay_host": RELAY.domain,
        "mailserver_relay_username": USER,
        "mailserver_relay_password": PASSWORD,
        "mailserver_relay_ca": ca() + "\n",
    }


def received(recipient: str, container: str = RELAY.container) -> list[dict[str, Any]]:
    """Return every message that a receiver has for an address, oldest first, with what was said around it."""
    files = f"grep -lF '\"{recipient}\"' -- * 2>/dev/null | sort"
    script = f"cd /var/received && {files} | while read -r file; do cat $file; echo; done"
    lines = docker("exec", container, "sh", "-c", script).splitlines()
    found = [json.loads(line) for line in lines if line.strip()]
    return [one for one in found if recipient in one["recipients"]]


def stranger(*command: str, seconds: float = 120, host: int | None = None) -> tuple[int, str]:
    """Run a command on a machine of its own, by choice at a fixed place; return its exit code and all it said."""
    place = ["--network", internet.NETWORK, "--dns", internet.address(internet.DNS.host)]
    place += ["--ip", internet.address(host)] if host else []
    arguments = ["docker", "run", "--rm", "--init", *place, f"{images.PREFIX}/mail-world:latest", *command]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds)
    return done.returncode, done.stdout.decode(errors="replace")


def swaks(*arguments: str) -> tuple[int, str]:
    """Speak SMTP as a stranger; return swaks's exit code and the whole dialogue."""
    return stranger("swaks", *arguments)


def _publish() -> None:
    """Outside, mail goes to the receiver; one domain forbids everybody to send in its name."""
    place = internet.address(RELAY.host)
    lines = [
        f"mx-host={OUTSIDE},{RELAY.domain},10",
        f"address=/{OUTSIDE}/{place}",
        f'txt-record={OUTSIDE},"v=spf1 ip4:{place} -all"',
        f'txt-record=_dmarc.{OUTSIDE},"v=DMARC1; p=none"',
        f"mx-host={STRICT},{RELAY.domain},10",
        f"address=/{STRICT}/{place}",
        f'txt-record={STRICT},"v=spf1 ip4:{place} -all"',
        f'txt-record=_dmarc.{STRICT},"v=DMARC1; p=reject; adkim=s; aspf=s"',
    ]
    internet.publish("outside", "\n".join(lines) + "\n")
