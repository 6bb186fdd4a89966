# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory as a budget: does the plan fit, and does reality keep to it? Private: other collections must not import it.

Everything for people is in MB of 1,048,576 bytes (MiB), what comes from the kernel is in bytes until then.
The kernel's files are read below a root, so that recorded trees can stand for a host. Docker's own figures are not
used: on some hosts its stats are empty, and OOMKilled stays false when a child, not the first process, was killed.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.diegonmarcos.servers.plugins.module_utils._table import align

MB = 1024 * 1024

# The lines that are no containers, so that nothing limits them: they are planned by what they use.
HOST_LINES = ("os", "docker")

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_ENGINE = ("dockerd", "containerd", "containerd-shim", "docker-proxy")
# v1 says "no limit" with the largest page-aligned number, which depends on the page size.
_UNLIMITED = 1 << 60

Runner = Callable[[list[str]], tuple[int, str, str]]
"""Runs a command and returns exit code, standard output, standard error; raises OSError when it cannot start."""


class BudgetError(Exception):
    """One sentence for the user about a budget that makes no sense."""


@dataclass(frozen=True)
class Line:
    """One line of the budget, in MB; limit is None for what is no container."""

    name: str
    expected: int
    limit: int | None = None
    swap: int = 0


@dataclass(frozen=True)
class Memory:
    """What the host has, in bytes; source says which of its two ceilings is the lower one."""

    ram: int
    source: str
    swap: int
    swap_used: int
    available: int
    unreclaimable: int
    pressure: dict[str, float] | None
    oom_kills: int | None
    boot: str


@dataclass(frozen=True)
class Usage:
    """What one container uses, in bytes; None is what this kernel does not tell."""

    working_set: int
    unreclaimable: int
    anon: int
    swap: int | None
    peak: int | None
    limit: int | None
    swap_limit: int | None
    oom_kills: int | None
    pressure: dict[str, float] | None


@dataclass(frozen=True)
class Container:
    """A running container of the project, and what it uses where that could be read."""

    name: str
    id: str
    started: str
    restarts: int
    usage: Usage | None
    health: str | None = None


@dataclass
class Report:
    """Result for the user: every figure is in MB; problems are (kind, sentence) pairs."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    table: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def parse_budget(raw: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Turn the user's list into lines, or raise BudgetError naming the first one that makes no sense."""
    lines: list[Line] = []
    for item in raw:
        name = str(item["name"])
        if not _NAME.fullmatch(name):
            raise BudgetError(f"The memory budget names {name!r}, which cannot be the name of a container.")
        if any(line.name == name for line in lines):
            raise BudgetError(f"The memory budget has two lines for {name}: keep one.")
        for key in ("expected", "limit", "swap"):
            if item.get(key) is not None and int(item[key]) < 0:
                raise BudgetError(f"The memory budget has a negative {key} for {name}: {item[key]} MB.")
        limit = None if item.get("limit") is None else int(item["limit"])
        line = Line(name, int(item["expected"]), limit, int(item.get("swap") or 0))
        if limit is None and name not in HOST_LINES:
            raise BudgetError(
                f"The memory budget has no limit for {name}: give it one; only {' and '.join(HOST_LINES)} go without."
            )
        if name in HOST_LINES and (limit is not None or line.swap):
            raise BudgetError(f"The memory budget limits {name}, which is no container: give it only expected.")
        if limit == 0:
            raise BudgetError(f"The memory budget has limit 0 for {name}, which Docker takes for unlimited.")
        if limit is not None and line.expected > limit:
            raise BudgetError(f"The memory budget expects {name} to use {line.expected} MB with a limit of {limit} MB.")
        lines.append(line)
    return lines


# --- Plan -------------------------------------------------------------------------------------------------------------


def plan(lines: Sequence[Line], memory: Memory, *, reserve: int, future_swap: int | None = None) -> Report:
    """Does what is expected leave the reserve free, and could everything reach its limit at once with swap?

    `reserve` and `future_swap` are in MB; the latter is the swap the host will have once the play is through.
    """
    if reserve < 0 or (future_swap or 0) < 0:
        raise BudgetError("reserve and swap of the memory budget must not be negative.")
    ram = memory.ram // MB
    swap = max(memory.swap // MB, future_swap or 0)
    expected = sum(line.expected for line in lines)
    ceiling = sum(_ceiling(line) for line in lines)
    report = Report(
        lines=[asdict(line) for line in lines],
        totals={
            "ram": ram,
            "ram_source": memory.source,
            "swap": swap,
            "reserve": reserve,
            "expected": expected,
            "limits": ceiling,
            "free": ram - expected - reserve,
        },
    )
    # Engine and system are what they are: only services can be lowered.
    services = [line for line in lines if line.limit is not None]
    if expected + reserve > ram:
        over = expected + reserve - ram
        report.problems.append(
            (
                "over_budget",
                f"The plan is {over} MB over: {expected} MB expected and {reserve} MB reserve, the host has {ram} MB."
                f" Leave out a service or lower what is expected, most of all of"
                f" {_largest(services, lambda line: line.expected)}.",
            )
        )
    if ceiling > ram + swap:
        over = ceiling - ram - swap
        report.problems.append(
            (
                "over_limits",
                f"The limits are {over} MB over: they add up to {ceiling} MB, the host has {ram} MB and {swap} MB swap."
                f" Add swap or lower limits, most of all of {_largest(services, _ceiling)}.",
            )
        )
    report.table = _plan_table(lines, report.totals)
    return report


def _ceiling(line: Line) -> int:
    return line.expected if line.limit is None else line.limit + line.swap


def _largest(lines: Iterable[Line], size: Callable[[Line], int]) -> str:
    ordered = sorted(lines, key=lambda line: (-size(line), line.name))
    return ", ".join(f"{line.name} ({size(line)})" for line in ordered[:3]) or "nothing: no service is in it"


def _plan_table(lines: Sequence[Line], totals: Mapping[str, Any]) -> list[str]:
    rows = [("", "expected", "limit", "swap")]
    rows += [(line.name, str(line.expected), _cell(line.limit), str(line.swap or "")) for line in lines]
    rows += [
        ("reserve", str(totals["reserve"]), "", ""),
        ("sum", str(totals["expected"] + totals["reserve"]), str(totals["limits"]), ""),
        ("host", str(totals["ram"]), str(totals["ram"] + totals["swap"]), str(totals["swap"] or "")),
        (
            "free",
            str(totals["free"]),
            str(totals["ram"] + totals["swap"] - totals["limits"]),
            "",
        ),
    ]
    return align(rows)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


# --- Measure ----------------------------------------------------------------------------------------------------------


def measure(
    lines: Sequence[Line], memory: Memory, containers: Sequence[Container], engine: Engine, last: Mapping[str, Any]
) -> Report:
    """Compare what runs with its line. `last` is what `remember` returned for the run before; empty for the first."""
    report = Report()
    unexplained = _host_kills(memory, last)
    found = {container.name: container for container in containers}
    seen_before = last.get("containers", {})
    restarted = []
    for line in [*lines, *(Line(name, 0) for name in found if name not in {line.name for line in lines})]:
        if line.name in HOST_LINES:
            continue
        container = found.get(line.name)
        planned = any(line is one for one in lines)
        before = seen_before.get(container.id, {}) if container else {}
        row, kills = _container_row(line, planned, container, before, report.problems)
        report.lines.append(row)
        unexplained = None if unexplained is None else unexplained - kills
        if container and container.restarts > before.get("restarts", 0):
            restarted.append(container.name)
    report.lines[:0] = _host_rows(lines, memory, containers, engine)
    if unexplained and unexplained > 0:
        for row in report.lines:
            if row["name"] == "os":
                row.update(verdict="oom", new_oom_kills=unexplained)
        suspects = f"; restarted since: {', '.join(restarted)}" if restarted else ""
        report.problems.append(
            (
                "oom",
                f"The host killed {unexplained} process{'es' * (unexplained > 1)} for lack of memory since"
                f" the last run, not counting the containers that run now{suspects}.",
            )
        )
    for row in report.lines:
        if row["verdict"] == "over_expected":
            report.problems.append(
                (
                    "over_expected",
                    f"{row['name']} uses {row['working_set']:.0f} MB, {row['expected']} MB were expected.",
                )
            )
    report.totals = {
        "ram": memory.ram // MB,
        "ram_source": memory.source,
        "available": round(memory.available / MB, 1),
        "swap": memory.swap // MB,
        "swap_used": round(memory.swap_used / MB, 1),
        "expected": sum(line.expected for line in lines),
        "working_set": round(sum(row["working_set"] or 0 for row in report.lines), 1),
        "oom_kills": memory.oom_kills,
        "pressure": memory.pressure,
    }
    report.table = _measure_table(report)
    return report


def _host_kills(memory: Memory, last: Mapping[str, Any]) -> int | None:
    if memory.oom_kills is None:
        return None
    # Unlike a container's, the kernel's count on the first run may be weeks old: nothing of ours has seen it rise.
    if "oom_kills" not in last:
        return 0
    return memory.oom_kills - (last["oom_kills"] or 0 if last.get("boot") == memory.boot else 0)


def _host_rows(
    lines: Sequence[Line], memory: Memory, containers: Sequence[Container], engine: Engine
) -> list[dict[str, Any]]:
    in_containers = sum(container.usage.unreclaimable for container in containers if container.usage)
    used: dict[str, tuple[float | None, float | None]] = {
        "os": (max(0, memory.unreclaimable - in_containers - engine.anon), None),
        "docker": (engine.proportional, engine.anon) if engine.running else (None, None),
    }
    rows = []
    for line in lines:
        if line.name not in HOST_LINES:
            continue
        working_set, anon = (_mb(value) for value in used[line.name])
        verdict = "not_running" if working_set is None else "over_expected" if working_set > line.expected else "ok"
        rows.append(_row(line.name, line.expected, None, verdict, working_set=working_set, anon=anon))
    return rows


def _container_row(
    line: Line,
    planned: bool,
    container: Container | None,
    before: Mapping[str, Any],
    problems: list[tuple[str, str]],
) -> tuple[dict[str, Any], int]:
    expected, planned_limit = (line.expected, line.limit) if planned else (None, None)
    if container is None:
        problems.append(("not_running", f"{line.name} is in the budget but does not run."))
        return _row(line.name, expected, None, "not_running"), 0
    usage = container.usage
    if usage is None:
        problems.append(("unknown", f"The memory of {line.name} could not be read."))
        return _row(line.name, expected, None, "unknown"), 0
    mine: list[tuple[str, str]] = []
    same_start = before.get("started") == container.started
    kills = max(0, (usage.oom_kills or 0) - (before.get("oom_kills") or 0 if same_start else 0))
    if kills:
        killed = f"{kills} process{'es' * (kills > 1)} killed for lack of memory since the last run"
        mine.append(("oom", f"{line.name} had {killed}: raise its limit."))
    if usage.limit is None:
        mine.append(("no_limit", f"{line.name} runs without a memory limit: set mem_limit in its compose file."))
    elif planned_limit is not None and usage.limit > planned_limit * MB:
        mine.append(
            (
                "over_limit",
                f"{line.name} runs with a limit of {usage.limit // MB} MB, its line allows {planned_limit} MB.",
            )
        )
    elif planned_limit is not None and (usage.swap_limit or 0) > line.swap * MB:
        swap = "any amount" if usage.swap_limit == _UNLIMITED else f"{(usage.swap_limit or 0) // MB} MB"
        mine.append(
            (
                "over_limit",
                f"{line.name} may use {swap} of swap, its line allows {line.swap} MB:"
                " set memswap_limit to the sum of both.",
            )
        )
    if not planned:
        mine.append(("unplanned", f"{line.name} runs but has no line in the budget: give it one."))
    problems += mine
    over = planned and usage.working_set > line.expected * MB
    row = _row(
        line.name,
        expected,
        _mb(usage.limit),
        mine[0][0] if mine else "over_expected" if over else "ok",
        working_set=_mb(usage.working_set),
        anon=_mb(usage.anon),
        swap=_mb(usage.swap),
        peak=_mb(usage.peak),
        percent=None if usage.limit is None else round(100 * usage.working_set / usage.limit, 1),
        oom_kills=usage.oom_kills,
        new_oom_kills=kills,
        restarts=container.restarts,
        pressure=usage.pressure,
        health=container.health,
    )
    return row, kills


def _row(name: str, expected: int | None, limit: float | None, verdict: str, **more: Any) -> dict[str, Any]:
    figures = ("working_set", "anon", "swap", "peak", "percent", "oom_kills", "new_oom_kills", "restarts", "pressure")
    keys = (*figures, "health")
    row: dict[str, Any] = {"name": name, "verdict": verdict, "expected": expected, "limit": limit}
    return {**row, **dict.fromkeys(keys), **more}


def _mb(value: float | None) -> float | None:
    return None if value is None else round(value / MB, 1)


def _measure_table(report: Report) -> list[str]:
    rows: list[tuple[str, ...]] = [("", "used", "expected", "limit", "%", "peak", "anon", "swap", "OOM", "verdict")]
    for row in report.lines:
        figures = [_cell(row[key]) for key in ("working_set", "expected", "limit", "percent", "peak", "anon", "swap")]
        rows.append((row["name"], *figures, _cell(row["oom_kills"]), row["verdict"].replace("_", " ")))
    totals = report.totals
    rows.append(("sum", _cell(totals["working_set"]), _cell(totals["expected"]), *[""] * 7))
    pressure = totals["pressure"]
    return [
        *align(rows, text_columns=(0, 9)),
        f"host: {totals['ram']} MB, {totals['available']:.0f} available;"
        f" swap {totals['swap']}, {totals['swap_used']:.0f} used;"
        f" waiting for memory {'unknown' if pressure is None else format(pressure['some'], '.1f') + ' %'}",
    ]


def remember(memory: Memory, containers: Sequence[Container]) -> dict[str, Any]:
    """What the next run needs to tell a new kill from an old one."""
    return {
        "boot": memory.boot,
        "oom_kills": memory.oom_kills,
        "containers": {
            container.id: {
                "name": container.name,
                "started": container.started,
                "restarts": container.restarts,
                "oom_kills": container.usage.oom_kills if container.usage else None,
            }
            for container in containers
        },
    }


def load_state(path: Path) -> tuple[dict[str, Any], str | None]:
    """The last run's memory and, where it cannot be used, why."""
    try:
        state = json.loads(path.read_text())
    except FileNotFoundError:
        return {}, None
    except (OSError, ValueError) as error:
        return {}, f"{path} cannot be read, so every kill counts as new: {error}"
    if not isinstance(state, dict) or not isinstance(state.get("containers"), dict):
        return {}, f"{path} is no memory of a run, so every kill counts as new."
    return state, None


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Replace the file as a whole, so that a reader never sees half of it."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}~")
    try:
        temporary.write_text(json.dumps(state, indent=1, sort_keys=True) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# --- The host's files -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Engine:
    """Docker's own processes, in bytes: with shared pages split among their users, and what only swap could take."""

    running: bool
    proportional: int
    anon: int


@dataclass(frozen=True)
class Hierarchy:
    """Where the memory controller is mounted, and which part of the tree that mount shows."""

    version: int
    mount: Path
    shown: str

    def directory(self, path: str) -> Path:
        """The directory of a path as /proc/<pid>/cgroup gives it."""
        if self.shown != "/" and (path == self.shown or path.startswith(f"{self.shown}/")):
            path = path[len(self.shown) :]
        return self.mount / path.lstrip("/")


def find_hierarchy(root: Path) -> Hierarchy | None:
    """The mount of the memory controller; where both versions are mounted, v1 has it only if it is listed there."""
    unified = None
    for text in _lines(root / "proc/self/mountinfo"):
        left, _dash, right = text.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        mount = root / fields[4].lstrip("/")
        if kind[0] == "cgroup" and "memory" in kind[2].split(","):
            return Hierarchy(1, mount, fields[3])
        if kind[0] == "cgroup2":
            unified = Hierarchy(2, mount, fields[3])
    return unified


def read_memory(root: Path) -> Memory:
    """What this host has: the smaller of the machine's memory and what its root cgroup may use."""
    info = {key: value * 1024 for key, value in _pairs(root / "proc/meminfo").items()}
    ram, swap = info.get("MemTotal", 0), info.get("SwapTotal", 0)
    swap_used = swap - info.get("SwapFree", 0)
    cached = sum(info.get(key, 0) for key in ("Buffers", "Cached", "SReclaimable")) - info.get("Shmem", 0)
    available, kills = info.get("MemAvailable", 0), _pairs(root / "proc/vmstat").get("oom_kill")
    unreclaimable = ram - info.get("MemFree", 0) - cached
    source = "meminfo"
    pressure = _pressure(root / "proc/pressure/memory")
    hierarchy = find_hierarchy(root)
    usage = read_usage(hierarchy.mount, hierarchy.version) if hierarchy else None
    if usage and usage.limit is not None and usage.limit < ram:
        # A container that plays a host: /proc is the machine's, only the cgroup is its own.
        source, ram = "cgroup", usage.limit
        swap = swap if usage.swap_limit is None else min(swap, usage.swap_limit)
        swap_used = usage.swap or 0
        available = min(available, max(0, usage.limit - usage.working_set))
        unreclaimable, kills, pressure = usage.unreclaimable, usage.oom_kills, usage.pressure
    boot = "".join(_lines(root / "proc/sys/kernel/random/boot_id"))
    return Memory(ram, source, swap, swap_used, available, unreclaimable, pressure, kills, boot)


def read_usage(directory: Path, version: int) -> Usage | None:
    """The figures of one cgroup; None when it is gone or does not count memory."""
    prefix = "total_" if version == 1 else ""
    current = _number(directory / ("memory.usage_in_bytes" if version == 1 else "memory.current"))
    if current is None:
        return None
    stat = _pairs(directory / "memory.stat")
    cache = (
        stat.get(f"{prefix}inactive_file", 0) + stat.get(f"{prefix}active_file", 0) + stat.get("slab_reclaimable", 0)
    )
    common = {
        "working_set": max(0, current - stat.get(f"{prefix}inactive_file", 0)),
        "unreclaimable": max(0, current - cache),
    }
    if version == 1:
        limit = _bound(directory / "memory.limit_in_bytes")
        both = _bound(directory / "memory.memsw.limit_in_bytes")
        return Usage(
            **common,
            anon=stat.get("total_rss", 0),
            swap=stat.get("total_swap"),
            peak=_number(directory / "memory.max_usage_in_bytes"),
            limit=None if limit == _UNLIMITED else limit,
            swap_limit=None if both is None or limit is None else _UNLIMITED if both == _UNLIMITED else both - limit,
            oom_kills=_pairs(directory / "memory.oom_control").get("oom_kill"),
            pressure=None,
        )
    limit = _bound(directory / "memory.max")
    return Usage(
        **common,
        anon=stat.get("anon", 0),
        swap=_number(directory / "memory.swap.current"),
        peak=_number(directory / "memory.peak"),
        limit=None if limit == _UNLIMITED else limit,
        swap_limit=_bound(directory / "memory.swap.max"),
        oom_kills=_pairs(directory / "memory.events").get("oom_kill"),
        pressure=_pressure(directory / "memory.pressure"),
    )


def read_containers(root: Path, run: Runner, project: str) -> tuple[list[Container], str | None]:
    """The running containers of a compose project and, where Docker cannot say, why."""
    try:
        code, output, error = run(
            ["docker", "ps", "--quiet", "--no-trunc", "--filter", f"label=com.docker.compose.project={project}"]
        )
        if code == 0 and output.split():
            code, output, error = run(["docker", "inspect", "--type", "container", *output.split()])
        elif code == 0:
            return [], None
    except FileNotFoundError:
        return [], None
    except OSError as problem:
        return [], f"docker cannot be run: {problem.strerror or problem}"
    # A container that ended between the two calls is missing from the answer, and only that makes the code 1.
    if code != 0 and not output.lstrip().startswith("["):
        return [], f"docker does not answer: {error.strip()}"
    hierarchy = find_hierarchy(root)
    items = [item for item in json.loads(output) if item["State"].get("Pid")]
    names = Counter(_service(item) for item in items)
    return [_container(root, hierarchy, item, alone=names[_service(item)] == 1) for item in items], None


def _service(item: Mapping[str, Any]) -> str:
    labels = item["Config"].get("Labels") or {}
    return str(labels.get("com.docker.compose.service") or item["Name"].lstrip("/"))


def _container(root: Path, hierarchy: Hierarchy | None, item: Mapping[str, Any], *, alone: bool) -> Container:
    path = _memory_path(root / f"proc/{item['State']['Pid']}/cgroup", hierarchy)
    usage = None
    if hierarchy and path is not None:
        # What runs in a container may have moved itself into a group below that of the container.
        head, found, _rest = path.partition(item["Id"])
        if found:
            path = head + found + (".scope" if path.startswith(f"{head}{found}.scope") else "")
        usage = read_usage(hierarchy.directory(path), hierarchy.version)
    return Container(
        name=_service(item) if alone else item["Name"].lstrip("/"),
        id=item["Id"],
        started=item["State"].get("StartedAt", ""),
        restarts=item.get("RestartCount", 0),
        usage=usage,
        health=(item["State"].get("Health") or {}).get("Status"),
    )


def _memory_path(file: Path, hierarchy: Hierarchy | None) -> str | None:
    for text in _lines(file):
        _id, controllers, path = text.split(":", 2)
        if hierarchy and (controllers == "" if hierarchy.version == 2 else "memory" in controllers.split(",")):
            return path
    return None


def read_engine(root: Path) -> Engine:
    """Docker's daemons, shims and port proxies in this host's own process namespace."""
    running, proportional, anon = False, 0, 0
    own = _link(root / "proc/self/ns/pid")
    for process in (root / "proc").glob("[0-9]*"):
        if "".join(_lines(process / "comm")) not in _ENGINE or _link(process / "ns/pid") != own:
            continue
        rollup = _pairs(process / "smaps_rollup")
        status = {} if rollup else _pairs(process / "status")
        running = True
        resident = sum(status.get(key, 0) for key in ("RssAnon", "RssFile", "RssShmem"))
        proportional += 1024 * rollup.get("Pss", resident)
        anon += 1024 * rollup.get("Pss_Anon", rollup.get("Anonymous", status.get("RssAnon", 0)))
    return Engine(running, proportional, anon)


def _lines(path: Path) -> list[str]:
    # A process or a group may end at any moment, and a kernel without PSI answers "not supported".
    with suppress(OSError):
        return path.read_text(errors="replace").splitlines()
    return []


def _link(path: Path) -> str | None:
    with suppress(OSError):
        return str(path.readlink())
    return None


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _bound(path: Path) -> int | None:
    """A limit; both ways to say that there is none give _UNLIMITED."""
    if _lines(path) == ["max"]:
        return _UNLIMITED
    number = _number(path)
    return None if number is None else min(number, _UNLIMITED)


def _pairs(path: Path) -> dict[str, int]:
    found = {}
    for text in _lines(path):
        words = text.replace(":", " ").split()
        if len(words) >= 2 and words[1].isdigit():
            found[words[0]] = int(words[1])
    return found


def _pressure(path: Path) -> dict[str, float] | None:
    """Share of the last minute, in percent, in which some or all tasks waited for memory."""
    found = {}
    for text in _lines(path):
        kind, _space, rest = text.partition(" ")
        for word in rest.split():
            key, _equals, value = word.partition("=")
            if key == "avg60":
                found[kind] = float(value)
    return found if "some" in found else None
