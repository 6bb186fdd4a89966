from __future__ import annotations

from typing import Any

from ansible_collections.diegonmarcos.servers.plugins.filter.summary import summary


def line(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "limit": 160.0, "working_set": 84.6, "verdict": "ok", "health": "healthy"} | more


def test_the_table_says_where_a_service_is_how_it_is_and_what_it_uses() -> None:
    hosts = [{"domain_names": ["proxy.example.org"], "forward_host": "127.0.0.1"}]
    assert summary([line("os", limit=None, working_set=130.2, health=None), line("npm")], hosts).splitlines() == [
        "service  url                        health     used   limit  memory",
        "os       -                          -        130 MB       -  ok",
        "npm      https://proxy.example.org  healthy   85 MB  160 MB  ok",
    ]


def test_a_host_stands_beside_the_service_it_leads_to_and_any_other_beside_the_proxy() -> None:
    hosts = [
        {"domain_names": ["stats.example.org"], "forward_host": "matomo"},
        {"domain_names": ["elsewhere.example.org"], "forward_host": "10.0.0.9", "certificate": "none"},
    ]
    rows = {row.split()[0]: row.split()[1] for row in summary([line("npm"), line("matomo")], hosts).splitlines()}
    assert rows["matomo"] == "https://stats.example.org"
    assert rows["npm"] == "http://elsewhere.example.org"


def test_every_address_of_a_service_is_shown() -> None:
    hosts = [{"domain_names": ["a.example.org", "b.example.org"], "forward_host": "npm"}]
    assert summary([line("npm")], hosts).splitlines()[2].strip() == "https://b.example.org"


def test_what_is_unknown_or_not_running_is_shown_as_such() -> None:
    rows = summary([line("npm", working_set=None, limit=None, health=None, verdict="not_running")]).splitlines()
    assert rows[1].split() == ["npm", "-", "-", "-", "-", "not", "running"]
