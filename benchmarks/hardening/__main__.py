"""Measure vps_hardening beside dev-sec's hardening roles, on two equal fresh VPSs of the test bed, in one run.

dev-sec's collection is not part of this project. Get it with
    ansible-galaxy collection install devsec.hardening -p DIRECTORY
or check out its repository, and name that directory with --dev-sec.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
POLICIES = {
    "debian-12": "Hardened Debian 12 (version 3)",
    "debian-13": "Hardened Debian 13 (version 1)",
    "ubuntu-24.04": "Hardened Ubuntu Server 24.04 LTS (version 2)",
}

OURS = """
- name: Harden with vps_hardening
  hosts: servers
  become: true
  force_handlers: true
  roles:
    - diegonmarcos.servers.vps_hardening
"""
# auditd cannot start in a container, nor can its kernel be set: dev-sec's first run would end there.
DEV_SEC = r"""
- name: Harden with dev-sec
  hosts: servers
  become: true
  gather_facts: true
  vars:
    os_auditd_enabled: false
    sysctl_unsupported_entries: >-
      {{ sysctl_config | combine(sysctl_custom_config | default({}), sysctl_overwrite | default({}))
         | list | reject('match', 'net[.]') }}
  roles:
    - devsec.hardening.os_hardening
    - devsec.hardening.ssh_hardening
"""


@dataclass
class Run:
    """One run of a playbook."""

    seconds: float
    tasks: int
    changed: int


@dataclass
class Contender:
    """One set of roles on its own VPS, and what was measured of it."""

    name: str
    vps: str
    playbook: str
    runs: list[Run] = field(default_factory=list)
    lynis: list[int] = field(default_factory=list)
    suggestions: list[int] = field(default_factory=list)
    audit: str = ""
    policy: str = ""

    @property
    def folder(self) -> Path:
        return PROJECT / ".cache" / "testbed" / self.vps


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.hardening", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dev-sec",
        type=Path,
        default=os.environ.get("DEV_SEC"),
        help="directory that ansible-galaxy installed into, or a checkout of dev-sec's repository (or $DEV_SEC)",
    )
    parser.add_argument("--output", type=Path, default=PROJECT / "docs" / "benchmarks" / "hardening.md")
    parser.add_argument("--keep", action="store_true", help="leave the two VPSs running")
    arguments = parser.parse_args()
    if arguments.dev_sec is None:
        parser.error("--dev-sec is missing: see --help for how to get dev-sec's collection.")
    with tempfile.TemporaryDirectory() as scratch:
        collections, version = _dev_sec_collections(Path(arguments.dev_sec), Path(scratch))
        dev_sec = Contender(f"dev-sec {version}", "bench-dev-sec", DEV_SEC)
        ours = Contender("vps_hardening", "bench-ours", OURS)
        try:
            table = _measure([dev_sec, ours], collections, Path(scratch))
        finally:
            if not arguments.keep:
                for contender in (dev_sec, ours):
                    _testbed("down", contender.vps)
    print(table)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(table)
    return 0


def _measure(contenders: list[Contender], collections: Path, scratch: Path) -> str:
    for contender in contenders:
        _testbed("up", contender.vps, "--fresh")
        _on_box(contender, "apt-get update -qq && apt-get install -y -qq --no-install-recommends lynis")
        _run_lynis(contender)
    system = _on_box(contenders[0], ". /etc/os-release && echo $ID-$VERSION_ID").strip()
    # In turn, so that what else the machine does falls on both.
    for _ in range(2):
        for contender in contenders:
            contender.runs.append(_play(contender, collections, scratch))
    for contender in contenders:
        _run_lynis(contender)
        _run_ssh_audit(contender, POLICIES[system])
    return _table(contenders, system)


def _dev_sec_collections(given: Path, scratch: Path) -> tuple[Path, str]:
    """Return a collections path that holds dev-sec's collection, and its version."""
    installed = given / "ansible_collections" / "devsec" / "hardening"
    if installed.is_dir():
        manifest = json.loads((installed / "MANIFEST.json").read_text())
        return given.resolve(), str(manifest["collection_info"]["version"])
    galaxy = given / "galaxy.yml"
    if not galaxy.is_file():
        sys.exit(f"{given} holds neither ansible_collections/devsec/hardening nor a checkout of it: see --help.")
    linked = scratch / "collections" / "ansible_collections" / "devsec" / "hardening"
    linked.parent.mkdir(parents=True)
    linked.symlink_to(given.resolve())
    found = re.search(r"^version: *(\S+)", galaxy.read_text(), re.MULTILINE)
    return scratch / "collections", found[1] if found else "of unknown version"


def _say(text: str) -> None:
    print(f"benchmark: {text}", file=sys.stderr, flush=True)


def _testbed(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "testbed", *arguments], cwd=PROJECT, check=True)


def _on_box(contender: Contender, line: str) -> str:
    command = ["ssh", "-F", str(contender.folder / "ssh_config"), contender.vps, f"sudo sh -c '{line}'"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{contender.name}: {line} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _run_lynis(contender: Contender) -> None:
    _say(f"{contender.name}: Lynis")
    report = _on_box(contender, "lynis audit system --quick --no-colors")
    found = re.search(r"Hardening index : (\d+)", report)
    if not found:
        sys.exit(f"{contender.name}: Lynis gave no index:\n{report[-2000:]}")
    contender.lynis.append(int(found[1]))
    contender.suggestions.append(int(_on_box(contender, "grep -c ^suggestion /var/log/lynis-report.dat")))


def _run_ssh_audit(contender: Contender, policy: str) -> None:
    by_policy = _ssh_audit(contender, "-P", policy)
    contender.policy = "passes" if by_policy.returncode == 0 else "fails"
    by_itself = _ssh_audit(contender, "--skip-rate-test")
    failures, warnings = (by_itself.stdout.count(mark) for mark in ("[fail]", "[warn]"))
    contender.audit = f"{by_itself.returncode} ({failures} failures, {warnings} warnings)"


def _ssh_audit(contender: Contender, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "ssh-audit"), "-n", *options, _address(contender)]
    for _ in range(6):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # 1 is no verdict: after one audit's dozens of connections newer sshd turns the next away for a while.
        if done.returncode != 1:
            return done
        time.sleep(30)
    sys.exit(f"{contender.name}: ssh-audit could not connect:\n{done.stdout}{done.stderr}")


def _address(contender: Contender) -> str:
    found = re.search(r"HostName (\S+)", (contender.folder / "ssh_config").read_text())
    assert found, "the test bed writes the address"
    return found[1]


def _play(contender: Contender, collections: Path, scratch: Path) -> Run:
    _say(f"{contender.name}: run {len(contender.runs) + 1}")
    values = json.loads((contender.folder / "host_vars.yml").read_text().removeprefix("---"))
    gateway = re.sub(r"\d+$", "1", str(values["servers_public_ip"]))
    values |= {
        "servers_admin_email": "admin@example.org",
        "servers_services": [],
        "vps_hardening_oci_rules_file": "",
        "vps_hardening_fail2ban_ignore": [gateway],
    }
    inventory = scratch / f"{contender.vps}.json"
    inventory.write_text(json.dumps({"servers": {"hosts": {contender.vps: values}}}))
    playbook = scratch / f"{contender.vps}.yml"
    playbook.write_text(contender.playbook)
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": f"{PROJECT / '.collections'}:{collections}",
        "ANSIBLE_NOCOLOR": "1",
    }
    began = time.monotonic()
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", inventory, playbook],
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(f"{contender.name}: the run failed:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
    recap = re.search(r"ok=(\d+) +changed=(\d+)", done.stdout)
    assert recap, "every run ends with a recap"
    return Run(seconds, int(recap[1]), int(recap[2]))


def _table(contenders: list[Contender], system: str) -> str:
    rows: list[tuple[str, list[str]]] = [
        ("Lynis hardening index before → after", [f"{c.lynis[0]} → **{c.lynis[1]}**" for c in contenders]),
        ("Lynis suggestions before → after", [f"{c.suggestions[0]} → {c.suggestions[1]}" for c in contenders]),
        (f"ssh-audit policy “{POLICIES[system]}”", [f"**{c.policy}**" for c in contenders]),
        ("ssh-audit exit code", [c.audit for c in contenders]),
        ("first run", [_describe(c.runs[0]) for c in contenders]),
        ("second run", [f"**{_describe(c.runs[1])}**" for c in contenders]),
    ]
    lines = [
        "# Hardening, beside dev-sec's roles",
        "",
        f"Measured {time.strftime('%Y-%m-%d')} by `python -m benchmarks.hardening` on two equal fresh VPSs",
        f"of the test bed ({system}, 1 GB), the runs taken in turn on the same machine. Our runs include the checks",
        "before the first change. The VPSs are containers: both set the network's sysctls and leave the kernel's",
        "alone, and dev-sec goes without auditd, which cannot start there.",
        "",
        "| | " + " | ".join(contender.name for contender in contenders) + " |",
        "|---" * (len(contenders) + 1) + "|",
        *(f"| {label} | {' | '.join(cells)} |" for label, cells in rows),
        "",
        "What Lynis still suggests, and why it is declined: [the role's README](../../roles/vps_hardening/README.md).",
        "",
    ]
    return "\n".join(lines)


def _describe(run: Run) -> str:
    return f"{run.seconds:.1f} s, {run.tasks} tasks, {run.changed} changed"


if __name__ == "__main__":
    sys.exit(main())
