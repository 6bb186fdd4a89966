"""The small internet around the throwaway VPSs: a network with an image mirror, an ACME server, a name server."""

from __future__ import annotations

import ipaddress
import json
import time
from dataclasses import dataclass

from testbed import images
from testbed.docker import TestbedError, docker, one_at_a_time, say, succeeds

NETWORK = "servers-testbed"
REGISTRY_VOLUME = "servers-testbed-registry"
START_SECONDS = 30


@dataclass(frozen=True)
class Server:
    """A container of the small internet; `host` is its fixed place in the subnet."""

    name: str
    host: int
    command: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def container(self) -> str:
        return f"{images.PREFIX}-{self.name}"

    @property
    def domain(self) -> str:
        return f"{self.name}.internet.test"


MIRROR = Server(
    "mirror",
    2,
    ("docker-registry", "serve", "/etc/docker/registry/config.yml"),
    ("-p", "127.0.0.1::5000", "-v", f"{REGISTRY_VOLUME}:/var/lib/docker-registry"),
)
# Pebble refuses 5 % of good nonces by design and sleeps before validating: neither is what is tested here.
ACME = Server(
    "acme",
    3,
    ("pebble", "-config", "/etc/pebble/config.json", "-strict"),
    ("-e", "PEBBLE_WFE_NONCEREJECT=0", "-e", "PEBBLE_VA_NOSLEEP=1"),
)
DNS = Server("dns", 4, ("dnsmasq", "--keep-in-foreground", "--user=root", "--log-facility=-", "--conf-dir=/etc/dns"))
FIRST_VPS_HOST = 10


@one_at_a_time("internet")
def up(*, mirror: bool) -> None:
    """Start what is not running yet; without a mirror, images come from Docker Hub itself."""
    _ensure_network()
    tag = images.build("internet")
    for server in (DNS, ACME, *((MIRROR,) if mirror else ())):
        _ensure_running(server, tag)
    for server in (MIRROR, ACME):
        name_host(server.domain, address(server.host))
    if mirror:
        _publish_stand_ins()


def address(host: int) -> str:
    """Return the address of a place in the test bed's subnet."""
    subnet = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", NETWORK)
    return str(ipaddress.ip_network(subnet)[host])


def name_host(domain: str, host_address: str) -> None:
    """Let the name server answer for a domain and everything below it."""
    publish(domain, f"address=/{domain}/{host_address}\n")


def publish(name: str, records: str) -> None:
    """Let the name server answer with records of dnsmasq's kind (a changed file needs a restart to be read)."""
    path = f"/etc/dns/{name}.conf"
    if docker("exec", DNS.container, "sh", "-c", f"cat {path} 2>/dev/null || true") != records.strip():
        docker("exec", "-i", DNS.container, "sh", "-c", f"mkdir -p /etc/dns && cat > {path}", stdin=records)
        docker("restart", "-t", "0", DNS.container)


def acme_ca() -> str:
    """Return the certificate (PEM) that the ACME server's own HTTPS is signed with."""
    return docker("exec", ACME.container, "cat", "/etc/pebble/ca.pem")


def acme_root() -> str:
    """Return the root certificate (PEM) under which this start of the ACME server issues."""
    return docker("exec", ACME.container, "curl", "-sfk", "https://localhost:15000/roots/0")


def _ensure_network() -> None:
    if succeeds("docker", "network", "inspect", NETWORK):
        return
    # Fixed addresses need a subnet of our own naming: let the engine find a free one, then ask for just that.
    docker("network", "create", NETWORK)
    subnet = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", NETWORK)
    docker("network", "rm", NETWORK)
    docker("network", "create", "--subnet", subnet, NETWORK)


def _ensure_running(server: Server, tag: str) -> None:
    wanted = docker("image", "inspect", "--format", "{{.Id}}", tag)
    state = "{{.Image}} {{.State.Running}}"
    if succeeds("docker", "container", "inspect", server.container):
        image, running = docker("container", "inspect", "--format", state, server.container).split()
        if image == wanted and running == "true":
            return
        docker("rm", "-f", server.container)
    say(f"starting {server.domain}")
    place = ("--network", NETWORK, "--ip", address(server.host), "--network-alias", server.domain)
    dns = () if server is DNS else ("--dns", address(DNS.host))
    if server is DNS:
        # dnsmasq stops at a missing folder, and names given later live in the container.
        command: tuple[str, ...] = ("sh", "-c", "mkdir -p /etc/dns && exec " + " ".join(server.command))
    else:
        command = server.command
    docker("run", "-d", "--name", server.container, *place, *dns, *server.options, tag, *command)


def _registry() -> str:
    """Return host:port of the mirror as this machine's engine reaches it, once it answers."""
    deadline = time.monotonic() + START_SECONDS
    while not succeeds("docker", "exec", MIRROR.container, "curl", "-sf", "http://localhost:5000/v2/"):
        if time.monotonic() > deadline:
            raise TestbedError(f"the image mirror does not answer: see `docker logs {MIRROR.container}`")
        time.sleep(0.2)
    return docker("port", MIRROR.container, "5000/tcp").splitlines()[0]


def _publish_stand_ins() -> None:
    """Offer each stand-in in the mirror under the name of the image it stands in for."""
    registry = _registry()
    for stand_in in images.STAND_INS:
        images.build_debian(stand_in.base)
        tag = images.build(stand_in.folder, base=stand_in.base, version=stand_in.version)
        say(f"{stand_in.upstream} is a stand-in here ({stand_in.folder}): no image registry answers")
        name = f"{registry}/{stand_in.upstream}"
        if _published(registry, stand_in.upstream) == docker("image", "inspect", "--format", "{{.Id}}", tag):
            continue
        docker("tag", tag, name)
        docker("push", "-q", name)
        docker("rmi", name)


def _published(registry: str, image: str) -> str:
    """Return the id of the image that the mirror holds under a name, or nothing."""
    repository, tag = image.split(":")
    url = f"http://localhost:5000/v2/{repository}/manifests/{tag}"
    accept = "Accept: application/vnd.docker.distribution.manifest.v2+json"
    if not succeeds("docker", "exec", MIRROR.container, "curl", "-sf", "-H", accept, url):
        return ""
    manifest = json.loads(docker("exec", MIRROR.container, "curl", "-sf", "-H", accept, url))
    return str(manifest["config"]["digest"])
