"""Which changes a list of wanted proxy hosts leads to, and in which order."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_api import NpmError
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_certificate import (
    Certificate,
    parse_certificate,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_own_admin import AccessList
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_proxy_host import (
    PENDING,
    HostStep,
    Policy,
    WantedHost,
    World,
    check_wanted,
    describe,
    hsts_contradictions,
    plan_hosts,
    settings_of,
    show,
)
from ansible_collections.diegonmarcos.servers.plugins.module_utils._npm_vhost import nginx_error

RECORDED = {
    one["label"]: one["response"]
    for one in json.loads((Path(__file__).parents[1] / "data_npm/exchanges.json").read_text())["exchanges"]
}
OURS = "ours"
POLICY = Policy(OURS)


def wanted(*names: str, **options: t.Any) -> WantedHost:
    return WantedHost(
        frozenset(names), **{"forward_host": "up", "forward_port": 8080, "certificate": "none", **options}
    )


def certificate(number: int, *names: str, expires: str = "2027-02-20 07:10:16", **fields: t.Any) -> Certificate:
    row = {
        "id": number,
        "provider": "letsencrypt",
        "nice_name": ", ".join(names),
        "domain_names": list(names),
        "created_on": "2026-11-22 07:10:16",
        "expires_on": expires,
        **fields,
    }
    return parse_certificate(row)


def stored(number: int, host: WantedHost, *, mark: str | None = OURS, **fields: t.Any) -> dict[str, t.Any]:
    """The row the API keeps after that host was applied."""
    step = plan_hosts([host], World(certificates=(), lists={}), POLICY, predict=True)[0]
    assert step.after is not None
    row = dataclasses.asdict(step.after)
    row.update(id=number, domain_names=list(step.after.domain_names), meta={"nginx_online": True, "nginx_err": None})
    if mark:
        row["meta"]["managed_by"] = mark
    return {**row, **fields}


def plan(*hosts: WantedHost, world: World, policy: Policy = POLICY) -> list[HostStep]:
    return plan_hosts(hosts, world, policy)


def actions(steps: t.Iterable[HostStep]) -> list[tuple[str, str]]:
    return [(step.action, step.label) for step in steps]


def test_a_host_as_wanted_is_kept() -> None:
    host = wanted("a.example.org")

    assert actions(plan(host, world=World((stored(1, host),)))) == [("keep", "a.example.org")]


def test_case_and_order_of_names_do_not_matter() -> None:
    row = stored(1, wanted("a.example.org", "b.example.org"), domain_names=["B.Example.org", "A.example.ORG"])

    assert actions(plan(wanted("b.example.org", "a.example.org"), world=World((row,))))[0][0] == "keep"


@pytest.mark.parametrize(
    "change",
    [
        {"forward_port": 9000},
        {"forward_scheme": "https"},
        {"block_exploits": False},
        {"caching": True},
        {"websockets": False},
        {"advanced_config": "client_max_body_size 1g;"},
        {"enabled": False},
        {"locations": ({"path": "/app", "forward_scheme": "http", "forward_host": "b", "forward_port": 1},)},
    ],
)
def test_every_option_is_noticed(change: dict[str, t.Any]) -> None:
    world = World((stored(1, wanted("a.example.org")),))

    assert actions(plan(wanted("a.example.org", **change), world=world)) == [("update", "a.example.org")]
    changed = World((stored(1, wanted("a.example.org", **change)),))
    assert actions(plan(wanted("a.example.org", **change), world=changed)) == [("keep", "a.example.org")]


def test_a_new_host_asks_for_a_certificate() -> None:
    step = plan(wanted("a.example.org", certificate="letsencrypt"), world=World())[0]

    assert (step.action, step.request) == ("create", True)
    assert step.after is not None
    assert (step.after.ssl_forced, step.after.http2_support, step.after.hsts_enabled) == (True, True, True)


def test_a_certificate_for_exactly_the_names_is_used_instead_of_asking_again() -> None:
    certificates = (certificate(3, "a.example.org", "b.example.org"), certificate(4, "A.example.org"))
    step = plan(wanted("a.example.org", certificate="letsencrypt"), world=World(certificates=certificates))[0]

    assert step.after is not None
    assert (step.after.certificate_id, step.request) == (4, False)


def test_of_several_certificates_the_longest_living_is_taken() -> None:
    certificates = (certificate(3, "a.example.org"), certificate(4, "a.example.org", expires="2027-05-20 07:10:16"))
    step = plan(wanted("a.example.org", certificate="letsencrypt"), world=World(certificates=certificates))[0]

    assert step.after is not None
    assert step.after.certificate_id == 4


def test_a_host_keeps_the_certificate_it_has_when_a_newer_one_exists() -> None:
    host = wanted("a.example.org", certificate="letsencrypt")
    certificates = (certificate(3, "a.example.org"), certificate(4, "a.example.org", expires="2027-05-20 07:10:16"))
    row = stored(1, host, certificate_id=3)

    assert plan(host, world=World((row,), certificates))[0].action == "keep"


def test_the_remains_of_a_killed_request_are_never_attached_and_are_cleared_away() -> None:
    remains = certificate(3, "a.example.org", expires="2026-11-22 07:10:16")
    step = plan(wanted("a.example.org", certificate="letsencrypt"), world=World(certificates=(remains,)))[0]

    assert (step.request, step.stale) == (True, (remains,))


def test_a_host_that_is_off_asks_for_no_certificate() -> None:
    step = plan(wanted("a.example.org", certificate="letsencrypt", enabled=False), world=World())[0]

    assert step.after is not None
    assert (step.request, step.after.certificate_id, step.after.ssl_forced) == (False, 0, False)


def test_switches_stored_without_a_certificate_count_as_off() -> None:
    row = RECORDED["create full no cert, port string"]

    assert row["ssl_forced"] is True
    assert settings_of(row).ssl_forced is False
    assert settings_of(row).forward_port == 8080


def test_a_host_that_lost_its_certificate_has_none() -> None:
    row = {**RECORDED["the host afterwards"], "certificate": None}

    assert row["certificate_id"] == 2
    assert settings_of(row).certificate_id == 0


def test_hsts_needs_forced_tls() -> None:
    host = wanted("a.example.org", certificate="letsencrypt", ssl_forced=False)
    step = plan(host, world=World(certificates=(certificate(3, "a.example.org"),)))[0]

    assert step.after is not None
    assert (step.after.ssl_forced, step.after.hsts_enabled, step.after.http2_support) == (False, False, True)


def test_a_certificate_is_found_by_name() -> None:
    own = certificate(9, "cn.example.org", provider="other", nice_name="Office")
    step = plan(wanted("a.example.org", certificate="office"), world=World(certificates=(own,)))[0]

    assert step.after is not None
    assert step.after.certificate_id == 9


def test_an_unknown_certificate_is_refused_with_those_there_are() -> None:
    with pytest.raises(NpmError, match=r'no certificate "offcie" for a\.example\.org.*"office".*npm_certificates'):
        plan(
            wanted("a.example.org", certificate="offcie"),
            world=World(certificates=(certificate(9, "cn", nice_name="office"),)),
        )


def test_an_unknown_access_list_is_refused_with_those_there_are() -> None:
    with pytest.raises(NpmError, match=r'no access list "admin" for a\.example\.org.*"admins".*npm_access_lists'):
        plan(wanted("a.example.org", access_list="admin"), world=World(lists={"admins": AccessList(1)}))


def test_a_prediction_takes_missing_references_as_made_by_an_earlier_task() -> None:
    host = wanted("a.example.org", access_list="admins", certificate="office")
    step = plan_hosts([host], World(), POLICY, predict=True)[0]

    assert step.after is not None
    assert (step.after.access_list_id, step.after.certificate_id) == (PENDING, PENDING)


def test_a_hand_made_host_with_the_same_names_is_taken_over_and_marked() -> None:
    host = wanted("a.example.org")
    step = plan(host, world=World((stored(1, host, mark=None),)))[0]

    assert step.before is not None
    assert step.after is not None
    assert (step.action, step.before.managed_by, step.after.managed_by) == ("update", None, OURS)


def test_a_host_of_ours_whose_names_changed_is_changed_not_replaced() -> None:
    world = World((stored(1, wanted("a.example.org")),))
    steps = plan(wanted("a.example.org", "b.example.org"), world=world, policy=Policy(OURS, remove_unlisted=True))

    assert actions(steps) == [("update", "a.example.org, b.example.org")]


def test_a_name_served_by_somebody_else_s_host_is_refused() -> None:
    world = World((stored(7, wanted("a.example.org", "c.example.org"), mark="another"),))

    with pytest.raises(NpmError, match=r"a\.example\.org of .*b\.example\.org is already served by host 7"):
        plan(wanted("a.example.org", "b.example.org"), world=world)


def test_unlisted_hosts_stay_unless_asked_for() -> None:
    world = World((stored(1, wanted("old.example.org")),))

    assert plan(world=world) == []


def test_only_unlisted_hosts_with_our_mark_are_removed() -> None:
    rows = tuple(
        stored(number, wanted(f"{name}.example.org"), mark=mark)
        for number, name, mark in ((1, "ours", OURS), (2, "theirs", "another"), (3, "hand", None))
    )
    steps = plan(world=World(rows), policy=Policy(OURS, remove_unlisted=True))

    assert actions(steps) == [("remove", "ours.example.org")]


def test_names_are_given_up_before_others_take_them() -> None:
    rows = (
        stored(2, wanted("c.example.org")),
        stored(1, wanted("a.example.org", "b.example.org")),
        stored(3, wanted("z.example.org")),
    )
    steps = plan(
        wanted("b.example.org", "c.example.org"),
        wanted("a.example.org"),
        world=World(rows),
        policy=Policy(OURS, remove_unlisted=True),
    )

    assert actions(steps) == [
        ("remove", "z.example.org"),
        ("update", "a.example.org"),
        ("update", "b.example.org, c.example.org"),
    ]


def test_a_host_wanted_absent_is_removed_by_its_exact_names() -> None:
    world = World((stored(1, wanted("a.example.org"), mark=None), stored(2, wanted("b.example.org"))))
    steps = plan(wanted("a.example.org", present=False), wanted("c.example.org", present=False), world=world)

    assert actions(steps) == [("remove", "a.example.org")]


def test_a_host_that_nginx_refuses_is_saved_again_although_nothing_differs() -> None:
    host = wanted("a.example.org")
    row = stored(1, host)
    row["meta"] = {"managed_by": OURS, "nginx_online": False, "nginx_err": "unknown directive"}

    assert plan(host, world=World((row,)))[0].action == "update"


def test_what_nginx_says_is_cut_down_to_the_reason() -> None:
    error = nginx_error(RECORDED["broken advanced_config host after: meta.nginx_err"])

    assert error == 'unknown directive "this" in /data/nginx/proxy_host/3.conf:37'


def test_a_fresh_row_without_a_verdict_is_no_error() -> None:
    assert nginx_error(RECORDED["create minimal"]) is None


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (wanted("localhost"), '"localhost" is no full domain name'),
        (wanted("a_b.example.org"), "no full domain name"),
        (wanted("https://a.example.org"), "no full domain name"),
        (wanted("192.0.2.1"), "no full domain name"),
        (wanted("a.example.org", forward_port=0), "forward_port 0 of a.example.org is no port"),
        (wanted("a.example.org", forward_port=65536), "forward_port 65536"),
        (wanted("*.example.org", certificate="letsencrypt"), "wildcard"),
        (wanted("a.example.org", forward_host="127.0.0.1", forward_port=81), "administration .* on the internet"),
    ],
)
def test_a_host_that_cannot_work_is_refused_before_anything_is_asked(host: WantedHost, message: str) -> None:
    with pytest.raises(NpmError, match=message):
        check_wanted([host])


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.0.0.2",
        "127.1",
        "0x7f000001",
        "0.0.0.0",
        "0",
        "::1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "Localhost.",
        "localhost.localdomain",
        "npm",
        "NPM.",
        "npm.proxy",
        "127.0.0.1/",
    ],
)
@pytest.mark.parametrize("port", [81, 3000])
def test_no_spelling_of_its_own_address_publishes_the_administration(address: str, port: int) -> None:
    with pytest.raises(NpmError, match=r"administration .* on the internet"):
        check_wanted([wanted("a.example.org", forward_host=address, forward_port=port)])


def test_a_location_never_leads_to_the_administration_whatever_protects_the_host() -> None:
    location = {"path": "/a", "forward_host": "127.0.0.1", "forward_port": 81}

    with pytest.raises(NpmError, match=r"location /a of a\.example\.org .* administration"):
        check_wanted([wanted("a.example.org", access_list="admins", locations=(location,))])


@pytest.mark.parametrize(
    ("address", "port"), [("127.0.0.1", 8080), ("grafana", 3000), ("192.0.2.1", 81), ("npm.example.org", 81)]
)
def test_what_only_resembles_the_administration_is_fine(address: str, port: int) -> None:
    location = {"path": "/a", "forward_host": address, "forward_port": port}

    check_wanted([wanted("a.example.org", forward_host=address, forward_port=port, locations=(location,))])


def test_a_name_in_two_hosts_is_refused() -> None:
    with pytest.raises(NpmError, match=r'"a\.example\.org" is in two hosts'):
        check_wanted([wanted("a.example.org"), wanted("a.example.org", "b.example.org")])


def test_a_wildcard_with_a_certificate_by_name_is_fine() -> None:
    check_wanted([wanted("*.example.org", certificate="wild")])


def gate_secret(config: str) -> str:
    return config.partition("npm_gate=")[2].partition(";")[0]


ADMIN = {"forward_host": "127.0.0.1", "forward_port": 81, "access_list": "admins"}


def test_the_proxy_s_own_administration_keeps_its_gate_from_run_to_run() -> None:
    world = World(lists={"admins": AccessList(5, asks_password=True)})
    created = plan(wanted("a.example.org", **ADMIN), world=world)[0].after
    assert created is not None
    row = stored(1, wanted("a.example.org", **ADMIN), access_list_id=5, advanced_config=created.advanced_config)
    with_row = dataclasses.replace(world, rows=(row,))

    assert plan(wanted("a.example.org", **ADMIN), world=with_row)[0].action == "keep"


@pytest.mark.parametrize("change", [{"accounts": ("ana:new",)}, {"accounts": ("ana:old", "ben:x")}, {"id": 6}])
def test_the_gate_s_secret_lasts_as_long_as_the_users_of_its_list(change: dict[str, t.Any]) -> None:
    old = AccessList(5, asks_password=True, accounts=("ana:old",))
    host = wanted("a.example.org", **ADMIN)
    created = plan(host, world=World(lists={"admins": old}))[0].after
    assert created is not None
    row = stored(1, host, access_list_id=5, advanced_config=created.advanced_config)

    step = plan(host, world=World((row,), lists={"admins": dataclasses.replace(old, **change)}))[0]

    assert step.action == "update"
    assert step.after is not None
    assert gate_secret(step.after.advanced_config) != gate_secret(created.advanced_config)


def test_a_changed_address_rule_shuts_nobody_out_who_may_still_come_in() -> None:
    old = AccessList(5, asks_password=True, accounts=("ana:old",))
    host = wanted("a.example.org", **ADMIN)
    created = plan(host, world=World(lists={"admins": old}))[0].after
    assert created is not None
    row = stored(1, host, access_list_id=5, advanced_config=created.advanced_config)
    changed = dataclasses.replace(old, rules=("allow 192.0.2.0/24;",))

    step = plan(host, world=World((row,), lists={"admins": changed}))[0]

    assert step.action == "update"
    assert step.after is not None
    assert gate_secret(step.after.advanced_config) == gate_secret(created.advanced_config)


def test_a_list_of_addresses_needs_no_gate() -> None:
    world = World(lists={"admins": AccessList(5, rules=("allow 192.0.2.0/24;",))})
    step = plan(wanted("a.example.org", **ADMIN), world=world)[0]

    assert step.after is not None
    assert step.after.advanced_config == ""


def test_the_secret_of_the_gate_is_in_no_diff() -> None:
    world = World(lists={"admins": AccessList(5, asks_password=True)})
    step = plan(wanted("a.example.org", **ADMIN), world=world)[0]

    assert step.after is not None
    secret = gate_secret(step.after.advanced_config)
    assert len(secret) >= 32
    assert secret not in str(show(step.after, world))


def test_a_diff_speaks_of_names_not_numbers() -> None:
    world = World(certificates=(certificate(3, "a.example.org"),), lists={"admins": AccessList(5)})
    step = plan(wanted("a.example.org", certificate="letsencrypt", access_list="admins"), world=world)[0]
    shown = show(step.after, world)

    assert (shown["certificate"], shown["access_list"]) == ("a.example.org (number 3)", "admins")


def test_the_result_says_where_the_site_is() -> None:
    row = RECORDED["the host afterwards"]
    described = describe({**row, "certificate": {"id": 2, "expires_on": "2031-11-22 07:11:19"}})

    assert described["urls"] == ["https://analytics.example.com/"]
    assert described["certificate_expires_on"] == "2031-11-22 07:11:19"


def test_hosts_that_defeat_hsts_for_subdomains_are_named() -> None:
    rows = [stored(1, wanted("a.example.org"))]

    assert hsts_contradictions(rows, Policy(OURS, hsts_subdomains=True)) == ["a.example.org"]
    assert hsts_contradictions(rows, POLICY) == []
