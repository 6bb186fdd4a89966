"""Boots and removes throwaway 1 GB VPSs, and tells Ansible how to reach them."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from testbed import images, internet, packages, relay
from testbed.docker import TestbedError, docker, one_at_a_time, run, say, succeeds

MEMORY = "1g"
BOOT_SECONDS = 120
USER = "ubuntu"
FOLDER_LABEL = "servers.testbed.folder"


@dataclass(frozen=True)
class Vps:
    """One throwaway VPS; its files (key, known hosts, host variables) lie in `folder`."""

    name: str
    folder: Path

    @property
    def container(self) -> str:
        return f"{images.PREFIX}-vps-{self.name}"

    @property
    def domain(self) -> str:
        return f"{self.name}.test"

    @property
    def key(self) -> Path:
        return self.folder / "id_ed25519"


def up(vps: Vps, *, upstream: bool) -> None:
    """Boot the VPS unless it runs, wait until it is reachable by SSH, and write its files."""
    if succeeds("docker", "container", "inspect", vps.container) and _checkout(vps) != str(vps.folder):
        # Its passwords lie in that checkout, so this one could not log in.
        say(f"{vps.name} belongs to {_checkout(vps)}: booting a new one")
        down(vps)
    if not succeeds("docker", "container", "inspect", vps.container):
        base = images.UBUNTU_UPSTREAM if upstream else images.DEBIAN
        _boot(vps, images.build("vps", base=base))
    elif not running(vps):
        say(f"starting {vps.name} again")
        docker("start", vps.container)
    _wait_for_systemd(vps)
    _write_access(vps)
    wait_for_ssh(vps)
    internet.name_host(vps.domain, address(vps))
    write_host_vars(vps, mirror=not upstream)


def down(vps: Vps) -> None:
    """Remove the VPS with its disk; its files go too."""
    if succeeds("docker", "container", "inspect", vps.container):
        docker("rm", "-f", "-v", vps.container)
    for path in vps.folder.glob("*"):
        path.unlink()
    if vps.folder.is_dir():
        vps.folder.rmdir()


@one_at_a_time("addresses")
def _boot(vps: Vps, image: str) -> None:
    say(f"booting {vps.name}: {MEMORY} of memory, {image}")
    # --privileged would ask for SYS_RESOURCE, which not every machine may give; no container needs it here.
    may = ["--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--device-cgroup-rule", "a *:* rwm"]
    for confinement in ("seccomp", "apparmor", "systempaths"):
        may += ["--security-opt", f"{confinement}=unconfined"]
    systemd = ["-e", "container=docker", "-e", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1", "--cgroupns", "private"]
    disks = ["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec", "-v", "/var/lib/docker"]
    memory = ["--memory", MEMORY, "--memory-swap", MEMORY]
    place = ["--network", internet.NETWORK, "--ip", free_address(), "--dns", internet.address(internet.DNS.host)]
    label = ["--label", f"servers.testbed.vps={vps.name}", "--label", f"{FOLDER_LABEL}={vps.folder}"]
    label += ["--name", vps.container, "--hostname", vps.name]
    docker("run", "-d", *label, *place, *memory, *may, *systemd, *disks, image)


def _checkout(vps: Vps) -> str:
    """Return the folder for which the VPS of this name was booted."""
    return docker("container", "inspect", "--format", '{{index .Config.Labels "' + FOLDER_LABEL + '"}}', vps.container)


def running(vps: Vps) -> bool:
    """Tell whether the VPS is switched on."""
    return docker("container", "inspect", "--format", "{{.State.Running}}", vps.container) == "true"


def address(vps: Vps) -> str:
    """Return the address of the VPS in the test bed's network."""
    template = '{{(index .NetworkSettings.Networks "' + internet.NETWORK + '").IPAddress}}'
    return docker("container", "inspect", "--format", template, vps.container)


def free_address() -> str:
    """Return an address that no VPS has, also none that is only stopped."""
    ids = docker("ps", "-aq", "--filter", "label=servers.testbed.vps").split()
    template = '{{(index .NetworkSettings.Networks "' + internet.NETWORK + '").IPAMConfig.IPv4Address}}'
    taken = set(docker("container", "inspect", "--format", template, *ids).split()) if ids else set()
    places = (internet.address(host) for host in range(internet.FIRST_VPS_HOST, 250))
    return next(place for place in places if place not in taken)


def _wait_for_systemd(vps: Vps) -> None:
    state = ""
    deadline = time.monotonic() + BOOT_SECONDS
    while state not in ("running", "degraded"):
        if time.monotonic() > deadline or not running(vps):
            raise TestbedError(f"{vps.name} did not boot (systemd says {state!r}): see `docker logs {vps.container}`")
        time.sleep(0.3)
        command = "systemctl is-system-running || true"
        state = docker("exec", vps.container, "sh", "-c", command).splitlines()[-1]


def _write_access(vps: Vps) -> None:
    """Put a throwaway key on the VPS as a provider would, and note the host key as a careful user would."""
    make_key(vps)
    script = (
        f"install -d -m 0700 -o {USER} -g {USER} /home/{USER}/.ssh && cd /home/{USER}/.ssh"
        f" && cat > authorized_keys && chown {USER}: authorized_keys && chmod 0600 authorized_keys"
    )
    docker("exec", "-i", vps.container, "sh", "-c", script, stdin=vps.key.with_suffix(".pub").read_text())
    write_ssh_config(vps, docker("exec", vps.container, "cat", "/etc/ssh/ssh_host_ed25519_key.pub"))


def make_key(vps: Vps) -> None:
    """Make the throwaway key unless there is one."""
    vps.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not vps.key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test bed", "-f", str(vps.key))


def write_ssh_config(vps: Vps, host_key: str) -> None:
    """Write what `ssh -F` needs to log in."""
    (vps.folder / "known_hosts").write_text(f"{address(vps)} {host_key}\n")
    (vps.folder / "ssh_config").write_text(
        f"Host {vps.name}\n  HostName {address(vps)}\n  User {USER}\n  IdentityFile {vps.key}\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {vps.folder / 'known_hosts'}\n  StrictHostKeyChecking yes\n"
    )


def wait_for_ssh(vps: Vps, *, seconds: float = BOOT_SECONDS) -> None:
    """Wait until sshd answers, or raise TestbedError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection((address(vps), 22), timeout=2) as connection:
                if connection.recv(4).startswith(b"SSH"):
                    return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise TestbedError(
                f"{vps.name} does not answer on port 22: see `docker logs {vps.container}` and its journal"
            )
        time.sleep(0.3)


def write_host_vars(vps: Vps, *, mirror: bool) -> None:
    """Write the variables that Ansible needs to reach the VPS and the small internet around it."""
    known_hosts = vps.folder / "known_hosts"
    values: dict[str, object] = {
        "ansible_host": address(vps),
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(vps.key),
        "ansible_ssh_common_args": (
            f"-o IdentitiesOnly=yes -o UserKnownHostsFile={known_hosts} -o StrictHostKeyChecking=yes"
        ),
        "servers_domain": vps.domain,
        "servers_public_ip": address(vps),
        "servers_private_ca": _known_roots(vps.folder.parent / "acme-roots.pem"),
        # What a real box would have: the plan is checked as there, the measurement afterwards is what it is.
        "servers_memory_swap": 2048,
        "docker_engine_registry_mirrors": [f"http://{internet.MIRROR.domain}:5000"] if mirror else [],
        "npm_acme_server": f"https://{internet.ACME.domain}:14000/dir",
        "npm_acme_ca": internet.acme_ca() + "\n",
        **relay.host_vars(),
        **({"syncserver_package_index": packages.URL} if mirror else {}),
    }
    (vps.folder / "host_vars.yml").write_text("---\n" + json.dumps(values, indent=2) + "\n")


def _known_roots(path: Path) -> str:
    """Return every root the ACME server issued under: it makes one at each start, boxes keep certificates."""
    root = internet.acme_root() + "\n"
    known = path.read_text() if path.exists() else ""
    if root not in known:
        path.write_text(known + root)
    return path.read_text()
