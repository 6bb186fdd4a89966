"""Command line of the test bed."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from testbed import images, internet, mail_demo, packages, relay
from testbed.docker import TestbedError, as_root, docker, ensure_engine, one_at_a_time, run, say, succeeds
from testbed.vps import Vps, down, up

STATE = Path(__file__).resolve().parent.parent / ".cache" / "testbed"


def main() -> int:
    parser = argparse.ArgumentParser(prog="testbed", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb_up = verbs.add_parser("up", help="boot a throwaway 1 GB VPS and everything it needs")
    verb_up.add_argument("name", help="name of the VPS; its domain is NAME.test")
    verb_up.add_argument("--host-vars", type=Path, help="also write Ansible's host variables to this file")
    verb_up.add_argument("--fresh", action="store_true", help="remove a VPS of that name first")
    verb_down = verbs.add_parser("down", help="remove a throwaway VPS with its disk")
    verb_down.add_argument("name")
    verb_mail = verbs.add_parser("mail", help="send a message from a VPS through the relay, and read the answer")
    verb_mail.add_argument("name")
    verb_mail.add_argument("account", help="the part of the address before the @")
    verb_mail.add_argument("password", type=Path, help="file that holds the account's password")
    verbs.add_parser("clean", help="remove every container, image, volume and network the test bed made")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "clean":
            clean()
        elif arguments.verb == "mail":
            mail_demo.run(_vps(arguments.name), arguments.account, arguments.password)
        elif arguments.verb == "down":
            down(_vps(arguments.name))
        else:
            _up(_vps(arguments.name), fresh=arguments.fresh, host_vars=arguments.host_vars)
    except TestbedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1
    return 0


def clean() -> None:
    """Remove everything the test bed made; an engine that it started is ended, one that was there is left alone."""
    if succeeds("docker", "info"):
        for found, remove in (
            (("ps", "-aq", "--filter", f"name=^{images.PREFIX}-"), ("rm", "-f", "-v")),
            # By name: an id with children cannot be removed, and they go one after the other.
            (("images", "--format", "{{.Repository}}:{{.Tag}}", f"{images.PREFIX}/*"), ("rmi", "-f")),
            (("images", "-q", "--filter", "dangling=true", "--filter", f"label={images.DIGEST_LABEL}"), ("rmi", "-f")),
            (("volume", "ls", "-q", "--filter", f"name={internet.REGISTRY_VOLUME}"), ("volume", "rm")),
            (("network", "ls", "-q", "--filter", f"name=^{internet.NETWORK}$"), ("network", "rm")),
        ):
            if names := sorted(set(docker(*found).split())):
                say(f"docker {remove[0]}: {len(names)}")
                docker(*remove, *names)
    pid_file = STATE / "dockerd.pid"
    if pid_file.exists():
        _end_dockerd(int(pid_file.read_text()))
    run("rm", "-rf", str(STATE))


def _end_dockerd(pid: int) -> None:
    """End the engine of an earlier `up`, unless its number has passed to another process since."""
    command_line = Path(f"/proc/{pid}/cmdline")
    if not command_line.exists() or b"dockerd" not in command_line.read_bytes():
        return
    say("ending dockerd")
    if os.geteuid() == 0:
        os.kill(pid, signal.SIGTERM)
    else:
        run(*as_root("kill", str(pid)))


def _vps(name: str) -> Vps:
    if not name.replace("-", "").isalnum() or name != name.lower():
        raise TestbedError(f"{name!r} is no host name: use lower-case letters, digits and dashes.")
    return Vps(name, STATE / name)


def _up(vps: Vps, *, fresh: bool, host_vars: Path | None) -> None:
    with one_at_a_time("engine"):
        ensure_engine(STATE)
    upstream = images.registry_reachable()
    say("images: " + ("upstream, from Docker Hub" if upstream else "stand-ins, from the local mirror"))
    if not upstream:
        images.build_debian()
    if fresh:
        down(vps)
    internet.up(mirror=not upstream)
    relay.up()
    if not upstream:
        packages.up()
    up(vps, upstream=upstream)
    if host_vars:
        host_vars.parent.mkdir(parents=True, exist_ok=True)
        host_vars.write_text((vps.folder / "host_vars.yml").read_text())
    say(f"{vps.name} is up: ssh -F {vps.folder / 'ssh_config'} {vps.name}")


if __name__ == "__main__":
    sys.exit(main())
