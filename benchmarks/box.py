"""A fresh throwaway box with some roles on it, and what its containers use while something happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
MB = 1 << 20

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


class Box:
    """A VPS of the test bed; `variables` are those its inventory gives it."""

    def __init__(self, name: str, roles: tuple[str, ...], inventory: Path) -> None:
        self.name = name
        self._inventory = inventory
        host_vars = inventory / "host_vars" / "vps.yml"
        _testbed("up", name, "--fresh", "--host-vars", str(host_vars))
        self.variables: dict[str, Any] = json.loads(host_vars.read_text().removeprefix("---"))
        (inventory / "hosts.yml").write_text("servers:\n  hosts:\n    vps:\n")
        named = [f"diegonmarcos.servers.{role}" for role in roles]
        play = {"name": "Run it", "hosts": "servers", "become": True, "force_handlers": True, "roles": named}
        (inventory / "play.yml").write_text(json.dumps([play]))

    def play(self, *options: str, **values: Any) -> None:
        """Run the roles with values, or stop with what Ansible said."""
        print(f"setting up {self.name}", file=sys.stderr)
        arguments = ["-i", str(self._inventory), *options, "-e", json.dumps(values), str(self._inventory / "play.yml")]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
        command = [str(BIN / "ansible-playbook"), *arguments]
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout[-4000:])

    def ssh(self, command: str) -> list[str]:
        """Return what runs a shell line on the box."""
        return ["ssh", "-F", str(PROJECT / ".cache/testbed" / self.name / "ssh_config"), self.name, command]

    def run(self, command: str) -> str:
        return subprocess.run(self.ssh(command), capture_output=True, text=True, check=True).stdout

    def limits(self, containers: tuple[str, ...]) -> list[int]:
        """Return how many MB each container may use."""
        template = "'{{.HostConfig.Memory}}'"
        found = self.run(f"sudo docker inspect --format {template} {' '.join(containers)}")
        return [int(limit) // MB for limit in found.split()]


@contextmanager
def fresh_box(name: str, roles: tuple[str, ...], *, keep: bool) -> Iterator[Box]:
    """Boot a box, and remove it afterwards unless it is to be kept."""
    with tempfile.TemporaryDirectory() as inventory:
        try:
            yield Box(name, roles, Path(inventory))
        finally:
            if not keep:
                _testbed("down", name)


class Watch:
    """Samples containers while the block runs; `found` has bytes by container: used, peak and killed."""

    def __init__(self, box: Box, containers: tuple[str, ...]) -> None:
        script = "'" + SAMPLER.replace("'", "'\\''") + "'"
        self._command = box.ssh(f"sudo python3 -c {script} {' '.join(containers)}")

    def __enter__(self) -> Watch:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.found: dict[str, dict[str, int]] = {}
        return self

    def __exit__(self, *error: object) -> None:
        said = self._process.communicate()[0]
        self.found = json.loads(said)


def _testbed(*arguments: str) -> None:
    subprocess.run([BIN / "python", "-m", "testbed", *arguments], cwd=PROJECT, check=True)
