"""Copy what memory_budget reads on a host into a directory: `sudo python3 record.py DIRECTORY PROJECT`.

The containers must run. Nothing is altered but left out: mounts that are no cgroups, and what `docker inspect` says
beyond the fields that are used, since both tell about the machine of whoever records.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

V1 = ("usage_in_bytes", "max_usage_in_bytes", "limit_in_bytes", "memsw.limit_in_bytes", "oom_control")
V2 = ("current", "peak", "max", "swap.current", "swap.max", "events", "pressure")
PROCESSES = ("dockerd", "containerd", "containerd-shim", "docker-proxy")


def copy(source: Path, target: Path, keep: str = "") -> None:
    try:
        text = source.read_text(errors="replace")
    except OSError:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(line for line in text.splitlines(keepends=True) if keep in line))


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


def main() -> None:
    target, project = Path(sys.argv[1]), sys.argv[2]
    (target / "docker").mkdir(parents=True)
    try:
        ids = docker("ps", "--quiet", "--no-trunc", "--filter", f"label=com.docker.compose.project={project}")
    except FileNotFoundError:
        ids = ""
    (target / "docker/ps").write_text(ids)
    items = [
        {
            "Id": item["Id"],
            "Name": item["Name"],
            "RestartCount": item["RestartCount"],
            "State": {key: item["State"][key] for key in ("Status", "Pid", "OOMKilled", "StartedAt")},
            "HostConfig": {key: item["HostConfig"][key] for key in ("Memory", "MemorySwap")},
            "Config": {"Labels": item["Config"]["Labels"]},
        }
        for item in (json.loads(docker("inspect", "--type", "container", *ids.split())) if ids else [])
    ]
    (target / "docker/inspect.json").write_text(json.dumps(items, indent=1) + "\n")
    for name in ("meminfo", "vmstat", "pressure/memory", "sys/kernel/random/boot_id"):
        copy(Path("/proc", name), target / "proc" / name)
    copy(Path("/proc/self/mountinfo"), target / "proc/self/mountinfo", keep=" - cgroup")
    groups = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")]
    for item in items:
        pid = str(item["State"]["Pid"])
        copy(Path("/proc", pid, "cgroup"), target / "proc" / pid / "cgroup")
        for line in Path("/proc", pid, "cgroup").read_text().splitlines():
            _id, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                groups.append(Path("/sys/fs/cgroup", controllers, path.lstrip("/")))
    for group in groups:
        for name in ("stat", *V1, *V2):
            copy(group / f"memory.{name}", target / group.relative_to("/") / f"memory.{name}")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            same = (process / "ns/pid").readlink() == Path("/proc/self/ns/pid").readlink()
            wanted = (process / "comm").read_text().strip() in PROCESSES
        except OSError:
            continue
        if same and wanted:
            copy(process / "comm", target / process.relative_to("/") / "comm")
            copy(process / "smaps_rollup", target / process.relative_to("/") / "smaps_rollup")
            copy(process / "status", target / process.relative_to("/") / "status", keep="Rss")


if __name__ == "__main__":
    main()
