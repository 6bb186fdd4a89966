"""Builds the test bed's images and caches each under a digest of everything it is made of."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from testbed.docker import TestbedError, apt_install, docker, one_at_a_time, run, say, succeeds

IMAGES = Path(__file__).parent / "images"
PREFIX = "servers-testbed"
DEBIAN = f"{PREFIX}/debian:13"
DEBIAN_12 = f"{PREFIX}/debian:12"
RELEASES = {DEBIAN: "trixie", DEBIAN_12: "bookworm"}
UBUNTU_UPSTREAM = "ubuntu:24.04"
DIGEST_LABEL = "servers.testbed.digest"


@dataclass(frozen=True)
class StandIn:
    """An image of ours that takes the place of an upstream one where no registry answers."""

    folder: str
    upstream: str
    base: str = DEBIAN
    version: str = ""


STAND_INS = (
    StandIn("nginx-proxy-manager-stand-in", "jc21/nginx-proxy-manager:2.15.1"),
    StandIn("busybox-stand-in", "library/busybox:1.37.0"),
    StandIn("matomo-stand-in", "library/matomo:5.14.0-fpm"),
    # An upgrade needs one to come from.
    StandIn("matomo-stand-in", "library/matomo:5.13.0-fpm", version="5.13.0"),
    # Debian 12 has the very series that upstream's tag names.
    StandIn("mariadb-stand-in", "library/mariadb:10.11.18", base=DEBIAN_12),
    StandIn("docker-mailserver-stand-in", "mailserver/docker-mailserver:15.1.0", base=DEBIAN_12),
    StandIn("roundcube-stand-in", "roundcube/roundcubemail:1.6.18-fpm", base=DEBIAN_12),
    StandIn("nginx-stand-in", "library/nginx:1.30.4"),
    # What the sync server's image is built from.
    StandIn("python-stand-in", "library/python:3.13.15-slim-trixie"),
)


def registry_reachable() -> bool:
    """Tell whether real images can be had, unless TESTBED_IMAGES says which to use (upstream or stand-in)."""
    wanted = os.environ.get("TESTBED_IMAGES", "auto")
    if wanted not in ("auto", "upstream", "stand-in"):
        raise TestbedError(f"TESTBED_IMAGES is {wanted!r}: use auto, upstream or stand-in.")
    if wanted != "auto":
        return wanted == "upstream"
    return succeeds("docker", "image", "inspect", UBUNTU_UPSTREAM) or succeeds("docker", "pull", UBUNTU_UPSTREAM)


@one_at_a_time("images")
def build_debian(base: str = DEBIAN) -> None:
    """Make one of the minimal Debian images that every stand-in is built from."""
    if succeeds("docker", "image", "inspect", base):
        return
    if not shutil.which("mmdebstrap"):
        apt_install(["mmdebstrap"])
    say(f"building the base image {base} (about 20 s)")
    with tempfile.TemporaryDirectory() as folder:
        tarball = f"{folder}/root.tar"
        run("mmdebstrap", "--variant=minbase", "--include=ca-certificates", RELEASES[base], tarball)
        docker("import", tarball, base)


@one_at_a_time("images")
def build(folder: str, *, base: str = DEBIAN, version: str = "") -> str:
    """Build the image of one folder unless its cached build still matches, and return its tag.

    A version other than the one its Dockerfile names is an image of its own.
    """
    context = IMAGES / folder
    tag = f"{PREFIX}/{folder}:{version or 'latest'}"
    digest = _digest(context, docker("image", "inspect", "--format", "{{.Id}}", base) + version)
    label = '{{index .Config.Labels "' + DIGEST_LABEL + '"}}'
    if succeeds("docker", "image", "inspect", tag) and docker("image", "inspect", "--format", label, tag) == digest:
        return tag
    say(f"building the image {folder} from {base}")
    options = ["--build-arg", f"BASE={base}"] + (["--build-arg", f"VERSION={version}"] if version else [])
    arguments = ["build", *options, "--label", f"{DIGEST_LABEL}={digest}", "-t", tag, str(context)]
    # A client without the buildx plug-in still has the old builder, but only when told so.
    environment = os.environ if succeeds("docker", "buildx", "version") else {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(
        ["docker", *arguments], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise TestbedError(f"building the image {folder} failed:\n{done.stdout[-3000:]}")
    return tag


def _digest(context: Path, base_id: str) -> str:
    """Digest the base image, and names, modes and bytes of all files of a build context."""
    state = hashlib.sha256(base_id.encode())
    for path in sorted(path for path in context.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        state.update(f"{path.relative_to(context)}\0{path.stat().st_mode & 0o111}\0".encode())
        state.update(path.read_bytes())
    return state.hexdigest()
