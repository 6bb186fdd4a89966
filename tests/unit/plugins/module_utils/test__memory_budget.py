from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils._memory_budget import (
    MB,
    BudgetError,
    Memory,
    Report,
    load_state,
    measure,
    parse_budget,
    plan,
    read_containers,
    read_engine,
    read_memory,
    remember,
    save_state,
)

RECORDED = Path(__file__).parents[1] / "data_cgroup"

# The host of the design: 972 MB, no swap, nothing else of interest to a plan.
BOX = Memory(
    ram=972 * MB,
    source="meminfo",
    swap=0,
    swap_used=0,
    available=700 * MB,
    unreclaimable=200 * MB,
    pressure=None,
    oom_kills=0,
    boot="first",
)
STACK = [
    {"name": "os", "expected": 130},
    {"name": "docker", "expected": 160},
    {"name": "npm", "expected": 85, "limit": 160},
    {"name": "mariadb", "expected": 120, "limit": 200},
    {"name": "mail", "expected": 80, "limit": 160},
]
BUDGET = [
    {"name": "os", "expected": 130},
    {"name": "docker", "expected": 600},
    {"name": "web", "expected": 40, "limit": 64},
    {"name": "idle", "expected": 4, "limit": 32, "swap": 32},
]


def planned(
    budget: Sequence[dict[str, Any]], memory: Memory = BOX, reserve: int = 100, future_swap: int | None = None
) -> Report:
    return plan(parse_budget(budget), memory, reserve=reserve, future_swap=future_swap)


def kinds(report: Report) -> list[str]:
    return [kind for kind, _sentence in report.problems]


# --- Plan -------------------------------------------------------------------------------------------------------------


def test_a_stack_that_fits_has_no_problem_and_says_how_much_stays_free() -> None:
    report = planned(STACK, reserve=100)

    assert report.problems == []
    assert report.totals == {
        "ram": 972,
        "ram_source": "meminfo",
        "swap": 0,
        "reserve": 100,
        "expected": 575,
        "limits": 810,
        "free": 297,
    }


@pytest.mark.parametrize(("reserve", "fits"), [(397, True), (398, False)])
def test_expected_use_and_reserve_may_take_the_last_megabyte_but_no_more(reserve: int, fits: bool) -> None:
    assert (kinds(planned(STACK, reserve=reserve)) == []) is fits


def test_a_stack_over_the_memory_says_by_how_much_and_names_the_largest_services() -> None:
    (problem,) = planned([*STACK, {"name": "n8n", "expected": 418, "limit": 418}], future_swap=2048).problems

    assert problem[0] == "over_budget"
    assert "121 MB over" in problem[1]
    assert "n8n (418), mariadb (120), npm (85)" in problem[1]
    assert "docker" not in problem[1], "nobody can lower what the engine needs"


@pytest.mark.parametrize(
    ("future_swap", "present_swap", "fits"), [(228, 0, True), (227, 0, False), (0, 228, True), (228, 100, True)]
)
def test_limits_may_add_up_to_memory_and_the_larger_of_present_and_coming_swap(
    future_swap: int, present_swap: int, fits: bool
) -> None:
    budget = [*STACK, {"name": "llm", "expected": 50, "limit": 290, "swap": 100}]

    report = planned(budget, replace(BOX, swap=present_swap * MB), future_swap=future_swap)

    assert kinds(report) == ([] if fits else ["over_limits"])
    if not fits:
        assert "1 MB over" in report.problems[0][1]
        assert "llm (390), mariadb (200), mail (160)" in report.problems[0][1]


def test_the_table_is_aligned_and_names_every_line() -> None:
    table = planned(STACK).table

    assert table == [
        "         expected  limit  swap",
        "os            130      -",
        "docker        160      -",
        "npm            85    160",
        "mariadb       120    200",
        "mail           80    160",
        "reserve       100",
        "sum           675    810",
        "host          972    972",
        "free          297    162",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"name": "npm", "expected": 1, "limit": 2}, "two lines for npm"),
        ({"name": "web", "expected": -1, "limit": 2}, "negative expected for web: -1 MB"),
        ({"name": "web", "expected": 1, "limit": -2}, "negative limit for web"),
        ({"name": "web", "expected": 1, "limit": 2, "swap": -1}, "negative swap for web"),
        ({"name": "web", "expected": 3, "limit": 2}, "expects web to use 3 MB with a limit of 2 MB"),
        ({"name": "web", "expected": 0, "limit": 0}, "limit 0 for web, which Docker takes for unlimited"),
        ({"name": "web", "expected": 3}, "no limit for web: give it one; only os and docker"),
        ({"name": "os", "expected": 3, "limit": 4}, "limits os, which is no container"),
        ({"name": "", "expected": 3, "limit": 4}, "cannot be the name of a container"),
        ({"name": "a b", "expected": 3, "limit": 4}, "'a b', which cannot be the name"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_in_one_sentence(line: dict[str, Any], said: str) -> None:
    with pytest.raises(BudgetError, match=said) as caught:
        parse_budget([{"name": "npm", "expected": 85, "limit": 160}, line])

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("reserve", "future_swap"), [(-1, None), (0, -1)])
def test_a_negative_reserve_or_swap_is_refused(reserve: int, future_swap: int | None) -> None:
    with pytest.raises(BudgetError, match="must not be negative"):
        planned(STACK, reserve=reserve, future_swap=future_swap)


# --- What a host has --------------------------------------------------------------------------------------------------


def test_the_memory_of_a_machine_is_its_memtotal() -> None:
    memory = read_memory(RECORDED / "v1")

    assert (memory.ram, memory.source) == (24684084 * 1024, "meminfo")
    assert memory.pressure == {"some": 0.0, "full": 0.0}


def test_the_memory_of_a_limited_box_is_the_limit_of_its_root_group() -> None:
    memory = read_memory(RECORDED / "v1_box")

    assert (memory.ram, memory.source) == (1024 * MB, "cgroup")
    # 330,240,000 in use, of which 314,707,968 are file pages nobody used lately.
    assert memory.available == 1024 * MB - (330240000 - 314707968)
    assert memory.unreclaimable == 330240000 - 314707968 - 315392


def test_the_memory_of_a_limited_box_is_found_with_version_2_too(tmp_path: Path) -> None:
    shutil.copytree(RECORDED / "v2", tmp_path / "box")
    group = tmp_path / "box" / "sys/fs/cgroup"
    # Only a group that is not the machine's own root has these; the rest of the box is as recorded.
    for name, text in {"current": 300 * MB, "max": 512 * MB, "swap.max": 0, "swap.current": 0}.items():
        (group / f"memory.{name}").write_text(f"{text}\n")

    memory = read_memory(tmp_path / "box")

    assert (memory.ram, memory.source, memory.swap) == (512 * MB, "cgroup", 0)
    assert memory.available < 512 * MB


def test_a_limited_box_has_no_more_swap_than_its_root_group_allows(tmp_path: Path) -> None:
    shutil.copytree(RECORDED / "v1_box", tmp_path / "box")
    file = tmp_path / "box/proc/meminfo"
    file.write_text(file.read_text().replace("SwapTotal:             0", "SwapTotal:       2097152"))
    without = read_memory(tmp_path / "box").swap
    (tmp_path / "box/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").write_text(f"{1536 * MB}\n")

    assert (without, read_memory(tmp_path / "box").swap) == (0, 512 * MB)


def test_a_root_group_limited_above_the_machine_does_not_matter(tmp_path: Path) -> None:
    shutil.copytree(RECORDED / "v1_box", tmp_path / "box")
    (tmp_path / "box/sys/fs/cgroup/memory/memory.limit_in_bytes").write_text(f"{1 << 40}\n")

    assert read_memory(tmp_path / "box").source == "meminfo"


def test_a_host_whose_kernel_tells_nothing_still_gets_an_answer(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 995328 kB\nMemFree: 500000 kB\nMemAvailable: 600000 kB\n")

    memory = read_memory(tmp_path)

    assert (memory.ram, memory.swap, memory.pressure, memory.oom_kills) == (972 * MB, 0, None, None)


# --- Measure ----------------------------------------------------------------------------------------------------------


class Host:
    """A recorded host: its files, and the answers of its Docker."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[list[str]] = []

    def run(self, command: list[str]) -> tuple[int, str, str]:
        self.calls.append(command)
        if command[:2] == ["docker", "ps"]:
            assert "label=com.docker.compose.project=servers" in command
            return 0, (self.root / "docker" / "ps").read_text(), ""
        assert command[:2] == ["docker", "inspect"]
        items = json.loads((self.root / "docker" / "inspect.json").read_text())
        return 0, json.dumps([item for item in items if item["Id"] in command]), ""

    def directory(self, name: str) -> Path:
        item = next(
            item for item in json.loads((self.root / "docker/inspect.json").read_text()) if name in item["Name"]
        )
        (found,) = (self.root / "sys").rglob(f"*{item['Id']}*")
        return found

    def measure(self, budget: Sequence[dict[str, Any]] = (), last: dict[str, Any] | None = None) -> Report:
        containers, error = read_containers(self.root, self.run, "servers")
        assert error is None
        lines = parse_budget(budget or BUDGET)
        return measure(lines, read_memory(self.root), containers, read_engine(self.root), last or {})

    def remember(self) -> dict[str, Any]:
        return remember(read_memory(self.root), read_containers(self.root, self.run, "servers")[0])


def row(report: Report, name: str) -> dict[str, Any]:
    (found,) = [row for row in report.lines if row["name"] == name]
    return found


@pytest.fixture(params=["v1", "v2"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    """A copy of a recording that a test may alter."""
    shutil.copytree(RECORDED / request.param, tmp_path / "host")
    return Host(tmp_path / "host")


def set_kills(host: Host, name: str, count: int) -> None:
    directory = host.directory(name)
    file = next(file for file in (directory / "memory.oom_control", directory / "memory.events") if file.exists())
    kept = [line for line in file.read_text().splitlines() if not line.startswith("oom_kill ")]
    file.write_text("\n".join([*kept, f"oom_kill {count}"]) + "\n")


def edit_inspect(host: Host, name: str, edit: Callable[[dict[str, Any]], None]) -> None:
    file = host.root / "docker" / "inspect.json"
    items = json.loads(file.read_text())
    edit(next(item for item in items if name in item["Name"]))
    file.write_text(json.dumps(items))


def test_all_containers_are_found_with_two_calls_of_docker(host: Host) -> None:
    report = host.measure()

    assert {row["name"] for row in report.lines} == {"os", "docker", "web", "idle", "free"}
    assert [call[1] for call in host.calls] == ["ps", "inspect"]


def test_the_working_set_leaves_out_file_pages_nobody_used_lately() -> None:
    web = row(Host(RECORDED / "v1").measure(), "web")

    assert web["working_set"] == round((38297600 - 21684224) / MB, 1)
    assert web["anon"] == round(15437824 / MB, 1)
    assert (web["limit"], web["peak"], web["swap"]) == (64.0, 64.0, 0.0)
    assert web["percent"] == round(100 * (38297600 - 21684224) / (64 * MB), 1)
    assert web["pressure"] is None, "version 1 keeps no pressure per group"


def test_what_the_groups_below_a_containers_use_counts_with_version_1_as_well(tmp_path: Path) -> None:
    shutil.copytree(RECORDED / "v1", tmp_path / "host")
    host = Host(tmp_path / "host")
    expected = host.measure().lines
    stat = host.directory("web") / "memory.stat"
    # Only lines that begin with total_ speak for the whole tree.
    stat.write_text("".join(f"{line}\n" for line in stat.read_text().splitlines() if line.startswith("total_")))

    assert host.measure().lines == expected


@pytest.mark.parametrize("order", [sorted, lambda lines: sorted(lines, reverse=True)])
def test_version_1_is_read_where_both_are_mounted(tmp_path: Path, order: Callable[[list[str]], list[str]]) -> None:
    shutil.copytree(RECORDED / "v1", tmp_path / "host")
    mounts = tmp_path / "host/proc/self/mountinfo"
    mounts.write_text("\n".join(order(mounts.read_text().splitlines())) + "\n")

    assert row(Host(tmp_path / "host").measure(), "web")["verdict"] == "oom"


def test_version_2_tells_the_same_and_pressure_too() -> None:
    web = row(Host(RECORDED / "v2").measure(), "web")

    assert web["working_set"] == round(41279488 / MB, 1)
    assert web["anon"] == round(16486400 / MB, 1)
    assert (web["limit"], web["peak"], web["swap"]) == (64.0, 64.0, 0.0)
    assert set(web["pressure"]) == {"some", "full"}


def test_a_box_that_sees_its_groups_by_their_outer_names_finds_them_all_the_same(host: Host) -> None:
    expected = host.measure().lines
    mounts = host.root / "proc/self/mountinfo"
    mounts.write_text(mounts.read_text().replace(" / /sys/fs/cgroup", " /docker/outer /sys/fs/cgroup"))
    for file in (host.root / "proc").glob("[0-9]*/cgroup"):
        lines = [line.split(":", 2) for line in file.read_text().splitlines()]
        file.write_text("".join(f"{number}:{names}:/docker/outer{path}\n" for number, names, path in lines))

    assert host.measure().lines == expected


def test_a_kill_is_reported_once(host: Host) -> None:
    first = host.measure()
    second = host.measure(last=host.remember())

    assert row(first, "web")["verdict"] == "oom"
    assert (row(first, "web")["oom_kills"], row(first, "web")["new_oom_kills"]) == (1, 1)
    assert "web had 1 process killed" in dict(first.problems)["oom"]
    assert row(second, "web")["verdict"] == "ok"
    assert (row(second, "web")["oom_kills"], row(second, "web")["new_oom_kills"]) == (1, 0)
    assert "oom" not in kinds(second)


def test_a_rise_since_the_last_run_is_reported_with_its_size(host: Host) -> None:
    last = host.remember()
    set_kills(host, "web", 3)

    web = row(report := host.measure(last=last), "web")

    assert (web["verdict"], web["new_oom_kills"]) == ("oom", 2)
    assert "web had 2 processes killed" in dict(report.problems)["oom"]


def test_the_kills_of_a_new_container_are_all_new(host: Host) -> None:
    last = host.remember()
    (old,) = [value for value in last["containers"].values() if value["name"] == "web"]
    last["containers"] = {"0" * 64: old}

    assert row(host.measure(last=last), "web")["new_oom_kills"] == 1


def test_a_container_that_was_started_again_counts_from_nought(host: Host) -> None:
    last = host.remember()
    edit_inspect(host, "web", lambda item: item["State"].update(StartedAt="2027-01-01T00:00:00Z"))

    assert row(host.measure(last=last), "web")["new_oom_kills"] == 1


def set_host_kills(host: Host, count: int) -> None:
    file = host.root / "proc" / "vmstat"
    kept = [line for line in file.read_text().splitlines() if not line.startswith("oom_kill ")]
    file.write_text("\n".join([*kept, f"oom_kill {count}"]) + "\n")


def test_a_kill_that_took_the_count_with_it_is_told_by_the_host(host: Host) -> None:
    """The first process was killed: Docker starts the container again, in a new group that starts counting at 0."""
    set_host_kills(host, 7)
    last = host.remember()
    set_host_kills(host, 8)
    edit_inspect(host, "idle", lambda item: item.update(RestartCount=1))

    report = host.measure(last=last)

    said = dict(report.problems)["oom"]
    assert "The host killed 1 process" in said
    assert "restarted since: idle" in said
    assert (row(report, "os")["verdict"], row(report, "os")["new_oom_kills"]) == ("oom", 1)


def test_the_host_does_not_repeat_the_kill_that_a_container_reports(host: Host) -> None:
    set_host_kills(host, 7)
    last = host.remember()
    set_host_kills(host, 8)
    set_kills(host, "web", 2)

    problems = [said for kind, said in host.measure(last=last).problems if kind == "oom"]

    assert len(problems) == 1
    assert problems[0].startswith("web had 1 process")


def test_the_hosts_count_is_old_on_the_first_run_and_starts_anew_with_a_boot(host: Host) -> None:
    set_host_kills(host, 7)
    first = host.measure()
    last = host.remember() | {"boot": "before"}
    last["containers"] = host.remember()["containers"]

    assert not any("The host killed" in said for _kind, said in first.problems)
    assert "The host killed 7 processes" in str(host.measure(last=last).problems)


def test_a_container_without_limit_is_named(host: Host) -> None:
    report = host.measure()

    assert (row(report, "free")["verdict"], row(report, "free")["limit"]) == ("no_limit", None)
    assert dict(report.problems)["no_limit"].startswith("free runs without a memory limit")


def test_a_container_without_a_line_is_named(host: Host) -> None:
    assert dict(host.measure().problems)["unplanned"].startswith("free runs but has no line")


def test_a_line_without_a_container_does_not_run(host: Host) -> None:
    report = host.measure([*BUDGET, {"name": "mail", "expected": 80, "limit": 160}])

    assert row(report, "mail")["verdict"] == "not_running"
    assert dict(report.problems)["not_running"] == "mail is in the budget but does not run."


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"limit": 31, "swap": 64}, "idle runs with a limit of 32 MB, its line allows 31 MB."),
        ({"limit": 32, "swap": 31}, "idle may use 32 MB of swap, its line allows 31 MB"),
        ({"limit": 32, "swap": 0}, "idle may use 32 MB of swap, its line allows 0 MB"),
    ],
)
def test_a_limit_above_its_line_is_named(host: Host, line: dict[str, int], said: str) -> None:
    report = host.measure([{"name": "idle", "expected": 4, **line}])

    assert row(report, "idle")["verdict"] == "over_limit"
    assert said in dict(report.problems)["over_limit"]


def test_a_container_that_keeps_to_its_line_is_ok(host: Host) -> None:
    assert row(host.measure(), "idle")["verdict"] == "ok"


def test_more_than_expected_is_said_but_is_the_mildest_of_verdicts(host: Host) -> None:
    budget = [{"name": "web", "expected": 5, "limit": 64}, {"name": "idle", "expected": 0, "limit": 32, "swap": 32}]

    report = host.measure(budget)

    assert (row(report, "web")["verdict"], row(report, "idle")["verdict"]) == ("oom", "over_expected")
    assert "idle uses" in dict(report.problems)["over_expected"]


def test_processes_in_a_group_of_their_own_below_the_containers_are_counted_with_it(host: Host) -> None:
    pid = next(
        item["State"]["Pid"]
        for item in json.loads((host.root / "docker/inspect.json").read_text())
        if "web" in item["Name"]
    )
    expected = row(host.measure(), "web")["working_set"]
    file = host.root / "proc" / str(pid) / "cgroup"
    file.write_text("".join(f"{line}/init.scope\n" for line in file.read_text().splitlines()))

    assert row(host.measure(), "web")["working_set"] == expected


def test_a_container_whose_files_are_gone_is_unknown_and_does_not_stop_the_others(host: Host) -> None:
    shutil.rmtree(host.directory("web"))

    report = host.measure()

    assert row(report, "web")["verdict"] == "unknown"
    assert row(report, "idle")["verdict"] == "ok"


def test_containers_of_one_scaled_service_are_told_apart(host: Host) -> None:
    edit_inspect(host, "idle", lambda item: item["Config"]["Labels"].update({"com.docker.compose.service": "web"}))

    names = {row["name"] for row in host.measure([{"name": "os", "expected": 1}]).lines}

    assert names == {"os", "mb-web", "mb-idle", "free"}


def test_the_engine_is_the_share_of_its_own_processes(host: Host) -> None:
    rollups = [file.read_text() for file in (host.root / "proc").glob("[0-9]*/smaps_rollup")]
    shares = [int(line.split()[1]) for text in rollups for line in text.splitlines() if line.startswith("Pss:")]

    assert len(shares) >= 2
    assert row(host.measure(), "docker")["working_set"] == round(sum(shares) / 1024, 1)


def test_the_engine_is_its_resident_memory_where_shares_cannot_be_read(host: Host) -> None:
    for file in (host.root / "proc").glob("[0-9]*/smaps_rollup"):
        file.unlink()
    statuses = [file.read_text() for file in (host.root / "proc").glob("[0-9]*/status")]
    resident = [int(line.split()[1]) for text in statuses for line in text.splitlines() if line.startswith("Rss")]

    assert len(resident) >= 6
    assert row(host.measure(), "docker")["working_set"] == round(sum(resident) / 1024, 1)


def test_the_engine_of_a_container_that_is_a_host_itself_is_not_ours(host: Host) -> None:
    processes = sorted((host.root / "proc").glob("[0-9]*/comm"))
    for number, process in enumerate([host.root / "proc/self/comm", *processes]):
        (process.parent / "ns").mkdir()
        (process.parent / "ns/pid").symlink_to("pid:[1]" if number < 2 else "pid:[2]")
    text = (processes[0].parent / "smaps_rollup").read_text()
    (share,) = [int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")]

    assert row(host.measure(), "docker")["working_set"] == round(share / 1024, 1)


def add_to_meminfo(host: Host, **kilobytes: int) -> None:
    file = host.root / "proc" / "meminfo"
    lines = [line.split() for line in file.read_text().splitlines()]
    file.write_text("".join(f"{key} {int(value) + kilobytes.get(key[:-1], 0)} kB\n" for key, value, *_unit in lines))


def test_the_system_is_what_neither_containers_nor_engine_nor_page_cache_hold(host: Host) -> None:
    before = row(host.measure(), "os")["working_set"]
    add_to_meminfo(host, MemFree=-50 * 1024, Cached=50 * 1024)
    cached = row(host.measure(), "os")["working_set"]
    add_to_meminfo(host, MemFree=-50 * 1024)
    taken = row(host.measure(), "os")["working_set"]

    assert cached == before > 10
    assert taken == pytest.approx(before + 50)


def test_what_a_container_or_the_engine_holds_is_not_the_systems(host: Host) -> None:
    before = row(host.measure(), "os")["working_set"]
    (current,) = [*host.directory("web").glob("memory.usage_in_bytes"), *host.directory("web").glob("memory.current")]
    current.write_text(f"{int(current.read_text()) + 5 * MB}\n")
    rollup = next((host.root / "proc").glob("[0-9]*/smaps_rollup"))
    held = next(int(line.split()[1]) for line in rollup.read_text().splitlines() if line.startswith("Pss_Anon"))
    rollup.write_text(rollup.read_text().replace(f"{held} kB", f"{held + 3 * 1024} kB"))

    assert row(host.measure(), "os")["working_set"] == pytest.approx(before - 8)


def test_the_table_shows_every_line_and_the_host(host: Host) -> None:
    table = host.measure().table

    assert table[0].split() == ["used", "expected", "limit", "%", "peak", "anon", "swap", "OOM", "verdict"]
    assert [line.split()[0] for line in table[1:-1]] == ["os", "docker", "web", "idle", "free", "sum"]
    assert table[3].endswith("oom")
    assert table[-1].startswith("host: ")


def test_a_host_without_docker_has_lines_but_no_containers(host: Host) -> None:
    def missing(command: list[str]) -> tuple[int, str, str]:
        raise FileNotFoundError(2, "No such file or directory", command[0])

    containers, error = read_containers(host.root, missing, "servers")

    assert (containers, error) == ([], None)


def test_a_docker_that_does_not_answer_is_said_and_not_taken_for_an_empty_one(host: Host) -> None:
    containers, error = read_containers(
        host.root, lambda _command: (1, "", "Cannot connect to the Docker daemon\n"), "servers"
    )

    assert containers == []
    assert error == "docker does not answer: Cannot connect to the Docker daemon"


def test_no_inspection_is_made_when_nothing_runs(host: Host) -> None:
    (host.root / "docker" / "ps").write_text("")

    assert read_containers(host.root, host.run, "servers") == ([], None)
    assert len(host.calls) == 1


def test_what_is_remembered_survives_the_disk(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "new" / "state.json"

    save_state(file, host.remember())

    assert load_state(file) == (host.remember(), None)
    assert [path.name for path in file.parent.iterdir()] == ["state.json"]


def test_the_first_run_remembers_nothing(tmp_path: Path) -> None:
    assert load_state(tmp_path / "state.json") == ({}, None)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"containers": 5}'])
def test_a_memory_that_cannot_be_read_is_said_and_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)

    state, said = load_state(tmp_path / "state.json")

    assert state == {}
    assert said is not None
    assert str(tmp_path / "state.json") in said


def test_a_memory_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()

    with pytest.raises(OSError, match=r"state\.json"):
        save_state(tmp_path / "state.json", {})

    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("said", ["healthy", "unhealthy", "starting"])
def test_what_the_health_check_says_stands_beside_the_memory(host: Host, said: str) -> None:
    file = host.root / "docker" / "inspect.json"
    items = json.loads(file.read_text())
    for item in items:
        item["State"]["Health"] = {"Status": said}
    file.write_text(json.dumps(items))

    lines = host.measure().lines
    assert {line["health"] for line in lines if line["verdict"] != "not_running" and line["percent"]} == {said}


def test_a_container_without_a_health_check_has_no_health(host: Host) -> None:
    assert {line["health"] for line in host.measure().lines} == {None}
