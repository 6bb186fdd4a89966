#!/usr/bin/python
# Copyright (c) 2026, Diego Nepomuceno Marcos
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: memory_budget
short_description: Check that a stack fits into the memory of a host, before and after
version_added: 0.1.0
description:
  - With O(state=planned) it adds up a budget and fails when the host is too small for it, which is known before
    anything is installed.
  - With O(state=measured) it compares what every container of a compose project uses with its line of the budget.
  - Nothing is changed, ever. All figures are in MB of 1,048,576 bytes (MiB).
  - The memory of a host is the smaller of its MemTotal and the limit of its root cgroup. Both versions of cgroups are
    read directly, since Docker's own statistics are empty on some hosts and miss the kill of a child process.
extends_documentation_fragment:
  - diegonmarcos.servers.attributes
attributes:
  check_mode:
    support: full
    details:
      - With O(state=measured) verdicts are returned but fail nothing, since what runs is from before the play, and no
        O(state_file) is written.
      - It works on a host without Docker.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - The kill of a process is news once, the next run with O(state=measured) does not report it again.
options:
  state:
    description:
      - V(planned) fails when the sum of what is expected and the O(reserve) exceeds the memory, or the sum of the
        limits exceeds memory and swap.
      - V(measured) fails on what O(fail_on) lists.
    type: str
    choices: [planned, measured]
    required: true
  budget:
    description: One line for every container, and one each for V(os) and V(docker), which have no limit.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the compose service, or V(os), or V(docker).
        type: str
        required: true
      expected:
        description: MB it uses, as measured.
        type: int
        required: true
      limit:
        description: MB it may use, its C(mem_limit).
        type: int
      swap:
        description: MB of swap it may use on top, its C(memswap_limit) less its C(mem_limit).
        type: int
        default: 0
  reserve:
    description: MB that stay free of every plan.
    type: int
    default: 100
  swap:
    description:
      - MB of swap the host will have when the play is through. The larger of this and what it has now counts.
    type: int
  project:
    description: Compose project whose containers are measured.
    type: str
    default: servers
  fail_on:
    description:
      - Verdicts that fail the task with O(state=measured).
      - V(oom) is a process that was killed for lack of memory since the last run.
      - V(over_limit) is a container whose limit for memory or swap is above its line, V(no_limit) one without any.
      - V(over_expected) uses more than expected, V(unplanned) has no line, V(not_running) has a line only.
    type: list
    elements: str
    choices: [oom, over_limit, no_limit, over_expected, unplanned, not_running]
    default: [oom, over_limit, no_limit]
  state_file:
    description: Where the counts of the last run are kept.
    type: str
    default: /var/lib/servers/memory_budget.json
author:
  - Diego Nepomuceno Marcos (@diegonmarcos)
"""

EXAMPLES = r"""
- name: Stop before anything is installed when it would not fit
  diegonmarcos.servers.memory_budget:
    state: planned
    reserve: 100
    swap: 2048
    budget:
      - {name: os, expected: 130}
      - {name: docker, expected: 160}
      - {name: npm, expected: 85, limit: 160}

- name: See whether what runs keeps to it
  diegonmarcos.servers.memory_budget:
    state: measured
    budget: "{{ servers_memory_budget }}"
  register: memory

- name: Print it
  ansible.builtin.debug:
    var: memory.table
"""

RETURN = r"""
table:
  description: The result for people, one aligned line each.
  type: list
  elements: str
  returned: always
problems:
  description: One sentence for each thing that is not as it should be, also for those that O(fail_on) lets pass.
  type: list
  elements: str
  returned: always
lines:
  description:
    - The lines of the budget and, with O(state=measured), the containers that have none. Figures are in MB, except
      those said otherwise.
    - What the kernel or Docker does not tell is null.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: Name of the line.
      type: str
      returned: always
    expected:
      description: What the line expects.
      type: int
      returned: always
    limit:
      description: Limit of the line with O(state=planned), of the container with O(state=measured).
      type: float
      returned: always
    swap:
      description: Swap the line allows with O(state=planned), swap in use with O(state=measured).
      type: float
      returned: always
    verdict:
      description: The first that holds of V(oom), V(no_limit), V(over_limit), V(unplanned), V(over_expected),
        V(not_running), V(unknown), V(ok).
      type: str
      returned: measured
    working_set:
      description:
        - What is used less the file pages that have not been used lately, as C(docker stats) counts it.
        - For V(docker) the processes of the engine with shared pages split among their users, for V(os) everything
          that is neither a container nor the engine nor page cache.
      type: float
      returned: measured
    anon:
      description: The part that only swap could reclaim.
      type: float
      returned: measured
    peak:
      description: The most it ever used, page cache included, so an upper bound.
      type: float
      returned: measured
    percent:
      description: Working set as a percentage of the limit.
      type: float
      returned: measured
    oom_kills:
      description: Processes killed for lack of memory since the container started.
      type: int
      returned: measured
    new_oom_kills:
      description: Those of them that the last run did not know.
      type: int
      returned: measured
    restarts:
      description: How often Docker restarted the container.
      type: int
      returned: measured
    health:
      description: What the container's health check says, V(starting), V(healthy) or V(unhealthy).
      type: str
      returned: measured
    pressure:
      description: Percent of the last minute in which C(some) or all (C(full)) tasks waited for memory; cgroup v2 only.
      type: dict
      returned: measured
totals:
  description: C(ram), C(ram_source) (V(meminfo) or V(cgroup)), C(swap), and the sums of the lines, in MB.
  type: dict
  returned: always
  sample: {ram: 972, ram_source: meminfo, swap: 2048, reserve: 100, expected: 375, limits: 450, free: 497}
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.diegonmarcos.servers.plugins.module_utils._memory_budget import (
    BudgetError,
    Line,
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

_ROOT = Path("/")


def _measured(module: AnsibleModule, lines: list[Line]) -> Report:
    def run(command: list[str]) -> tuple[int, str, str]:
        code, output, error = module.run_command(command, handle_exceptions=False)
        return code, output, error

    memory = read_memory(_ROOT)
    containers, unreadable = read_containers(_ROOT, run, module.params["project"])
    state_file = Path(module.params["state_file"])
    last, unusable = load_state(state_file)
    report = measure(lines, memory, containers, read_engine(_ROOT), last)
    for warning in (unreadable, unusable):
        if warning:
            module.warn(warning)
    # Without Docker's answer there is nothing to remember, and forgetting would make old kills new.
    if not module.check_mode and unreadable is None:
        try:
            save_state(state_file, remember(memory, containers))
        except OSError as error:
            module.warn(f"{state_file} cannot be written, so the next run counts every kill as new: {error.strerror}")
    return report


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["planned", "measured"], "required": True},
            "budget": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "expected": {"type": "int", "required": True},
                    "limit": {"type": "int"},
                    "swap": {"type": "int", "default": 0},
                },
            },
            "reserve": {"type": "int", "default": 100},
            "swap": {"type": "int"},
            "project": {"type": "str", "default": "servers"},
            "fail_on": {
                "type": "list",
                "elements": "str",
                "choices": ["oom", "over_limit", "no_limit", "over_expected", "unplanned", "not_running"],
                "default": ["oom", "over_limit", "no_limit"],
            },
            "state_file": {"type": "str", "default": "/var/lib/servers/memory_budget.json"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        lines = parse_budget(params["budget"])
        if params["state"] == "planned":
            report = plan(lines, read_memory(_ROOT), reserve=params["reserve"], future_swap=params["swap"])
            failing = {kind for kind, _sentence in report.problems}
        else:
            report = _measured(module, lines)
            failing = set() if module.check_mode else set(params["fail_on"])
    except BudgetError as error:
        module.fail_json(msg=str(error))
    result: dict[str, t.Any] = {
        "lines": report.lines,
        "totals": report.totals,
        "problems": [sentence for _kind, sentence in report.problems],
        "table": report.table,
    }
    reasons = [sentence for kind, sentence in report.problems if kind in failing]
    if reasons:
        module.fail_json(msg="\n".join([*reasons, "", "MB:", *report.table]), **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
