"""npm_proxy_host: sites over TLS from nothing but a name and a target, and every trap on the way."""

from __future__ import annotations

import typing as t

import pytest
from conftest import Instance, Result, wait_for

SERVICE = {"forward_host": "127.0.0.1", "forward_port": 8099}


def site(*names: str, **options: t.Any) -> Result:
    return {"domain_names": list(names), **SERVICE, **options}


def four_steps(npm: Instance, *hosts: Result, **options: t.Any) -> list[Result]:
    """Check, run, check, run."""
    results = [npm.hosts(*hosts, check=check, **options) for check in (True, False, True, False)]
    assert not any(one.get("failed") for one in results), results
    return results


def changes(results: list[Result]) -> list[bool]:
    return [one["changed"] for one in results]


def certificates(npm: Instance, name: str) -> list[Result]:
    return [row for row in npm.api("GET", "/nginx/certificates") if name in row["domain_names"]]


@pytest.fixture
def name(npm: Instance, request: pytest.FixtureRequest) -> t.Iterator[str]:
    """A site of the test's own."""
    own = request.node.name.replace("_", "-")[:40].strip("-") + ".npmmod.test"
    yield own
    npm.run("npm_access_list", lists=[{"name": "doomed", "state": "absent"}])


def test_a_site_is_served_over_tls_by_its_name_and_target_alone(npm: Instance, name: str) -> None:
    results = four_steps(npm, site(name))

    assert changes(results) == [True, True, False, False]
    assert results[1]["hosts"][0]["urls"] == [f"https://{name}/"]
    wait_for(lambda: npm.page(name, tls=True).status == 200, "HTTPS does not answer")
    redirect = npm.page(name)
    assert (redirect.status, redirect.headers["location"]) == (301, f"https://{name}/")
    assert npm.page(name, tls=True).headers["strict-transport-security"].startswith("max-age=63072000")


def test_the_diff_of_a_check_run_is_the_diff_of_the_run(npm: Instance, name: str) -> None:
    results = four_steps(npm, site(name, certificate="none"))

    assert results[0]["diff"] == results[1]["diff"]
    assert results[0]["diff"]["after"][name]["forward_port"] == 8099
    assert results[2]["diff"] == {"before": {}, "after": {}}


def test_a_changed_option_changes_just_that(npm: Instance, name: str) -> None:
    npm.hosts(site(name, certificate="none"))
    results = four_steps(npm, site(name, certificate="none", block_exploits=False))

    assert changes(results) == [True, True, False, False]
    before, after = (results[1]["diff"][side][name] for side in ("before", "after"))
    assert {key for key in after if after[key] != before[key]} == {"block_exploits"}


def test_names_in_another_case_and_order_spend_no_second_certificate(npm: Instance, name: str) -> None:
    npm.hosts(site(name, f"www.{name}"))
    again = npm.hosts(site(f"WWW.{name}", name.upper()))

    assert again["changed"] is False
    assert len(certificates(npm, name)) == 1


def test_tls_switches_arrive_with_a_new_certificate_and_leave_with_it(npm: Instance, name: str) -> None:
    npm.hosts(site(name))
    row = npm.row(name)
    assert (row["ssl_forced"], row["http2_support"], row["hsts_enabled"]) == (True, True, True)

    results = four_steps(npm, site(name, certificate="none"))

    assert changes(results) == [True, True, False, False]
    row = npm.row(name)
    assert row["certificate_id"] == 0
    assert (row["ssl_forced"], row["http2_support"], row["hsts_enabled"]) == (False, False, False)
    wait_for(lambda: npm.page(name).status == 200, "plain HTTP does not answer")


def test_switches_stored_without_a_certificate_are_put_right_once(npm: Instance, name: str) -> None:
    body = {"domain_names": [name], "forward_scheme": "http", **SERVICE, "certificate_id": 0, "ssl_forced": True}
    npm.api("POST", "/nginx/proxy-hosts", body)

    assert changes(four_steps(npm, site(name, certificate="none"))) == [True, True, False, False]


def test_a_site_behind_an_access_list_keeps_password_and_tls_while_its_certificate_is_requested(
    npm: Instance, name: str
) -> None:
    users = [{"username": "ana", "password": "sesame"}]
    npm.run("npm_access_list", lists=[{"name": "admins", "users": users}])
    four_steps(npm, site(name, access_list="admins", certificate="none"))
    wait_for(lambda: npm.page(name).status == 401, "the list does not protect the site")

    four_steps(npm, site(name, access_list="admins"))

    wait_for(lambda: npm.page(name, tls=True).status == 401, "HTTPS is open or off")
    assert npm.page(name).status in (301, 401)
    assert npm.page(name, tls=True, user="ana:sesame").status == 200


def test_a_refused_certificate_leaves_the_site_on_http_and_does_not_stop_the_others(npm: Instance, name: str) -> None:
    lost = "nowhere.invalid"
    result = npm.hosts(site(lost), site(name))

    assert result["failed"] is True
    assert result["changed"] is True
    assert f"No certificate for {lost}" in result["msg"]
    assert "Remedy: make DNS records" in result["msg"]
    wait_for(lambda: npm.page(name, tls=True).status == 200, "the other site is not served")
    assert npm.page(lost).status == 200
    assert certificates(npm, lost) == []


def test_a_refused_certificate_leaves_the_access_list_in_force(npm: Instance) -> None:
    lost = "guarded.invalid"
    npm.run("npm_access_list", lists=[{"name": "admins", "users": [{"username": "ana", "password": "sesame"}]}])
    npm.hosts(site(lost, access_list="admins", certificate="none"))

    assert npm.hosts(site(lost, access_list="admins"))["failed"] is True

    wait_for(lambda: npm.page(lost).status == 401, "the site is open to everybody")


def test_one_run_asks_the_authority_once_for_a_set_of_names(npm: Instance) -> None:
    # certbot starts a new log, and renames the older ones, for every request.
    before = len(list(npm.data.glob("logs/letsencrypt.log*")))

    npm.hosts(site("once.invalid"))

    assert len(list(npm.data.glob("logs/letsencrypt.log*"))) == before + 1


def test_a_configuration_nginx_refuses_is_taken_back_and_named(npm: Instance, name: str) -> None:
    npm.hosts(site(name, certificate="none"))
    result = npm.hosts(site(name, certificate="none", advanced_config="this is not nginx;"))

    assert result["failed"] is True
    assert f'nginx refuses the host {name}: unknown directive "this"' in result["msg"]
    wait_for(lambda: npm.page(name).status == 200, "the site is gone")
    assert npm.hosts(site(name, certificate="none"))["changed"] is False


def test_a_new_host_nginx_refuses_fails_again_until_it_is_corrected(npm: Instance, name: str) -> None:
    broken = site(name, certificate="none", advanced_config="this is not nginx;")
    assert npm.hosts(broken)["failed"] is True
    assert npm.hosts(broken)["failed"] is True
    assert changes(four_steps(npm, site(name, certificate="none"))) == [True, True, False, False]


def test_a_host_switched_off_is_not_served_and_comes_back_with_its_list(npm: Instance, name: str) -> None:
    npm.run("npm_access_list", lists=[{"name": "admins", "users": [{"username": "ana", "password": "sesame"}]}])
    on = site(name, certificate="none", access_list="admins")
    npm.hosts(on)

    assert changes(four_steps(npm, {**on, "enabled": False})) == [True, True, False, False]
    nobody = npm.page("unknown.npmmod.test").body
    wait_for(lambda: npm.page(name).body == nobody, "the old site is still served")

    assert changes(four_steps(npm, on)) == [True, True, False, False]
    wait_for(lambda: npm.page(name).status == 401, "the site is off or open")


def test_locations_are_kept_and_compared(npm: Instance, name: str) -> None:
    location = {"path": "/api/", **SERVICE}

    assert changes(four_steps(npm, site(name, certificate="none", locations=[location]))) == [True, True, False, False]


def test_hosts_left_out_of_the_list_go_and_their_certificates_with_them(npm: Instance, name: str) -> None:
    other = f"other.{name}"
    npm.hosts(site(name), site(other), managed_by="two")
    npm.hosts(site(f"hand.{name}", certificate="none"), managed_by="hand")

    results = four_steps(npm, site(other), managed_by="two", remove_unlisted=True)

    assert changes(results) == [True, True, False, False]
    assert results[1]["actions"] == {name: "remove"}
    assert certificates(npm, name) == []
    assert npm.row(f"hand.{name}")


def test_new_names_get_a_new_certificate_in_place_and_the_old_one_goes(npm: Instance, name: str) -> None:
    npm.hosts(site(name), managed_by="grow")
    first = npm.row(name)
    results = four_steps(npm, site(name, f"www.{name}"), managed_by="grow")

    assert changes(results) == [True, True, False, False]
    row = npm.row(name, f"www.{name}")
    assert row["id"] == first["id"]
    assert [one["id"] for one in certificates(npm, name)] == [row["certificate_id"]]
    wait_for(lambda: npm.page(f"www.{name}", tls=True).status == 200, "the new name is not served")


def test_a_certificate_something_else_uses_survives_its_host(npm: Instance, name: str) -> None:
    npm.hosts(site(name), managed_by="shared")
    number = npm.row(name)["certificate_id"]
    body = {"domain_names": [f"dead.{name}"], "certificate_id": number}
    npm.api("POST", "/nginx/dead-hosts", body)

    npm.hosts(managed_by="shared", remove_unlisted=True)

    assert [one["id"] for one in certificates(npm, name)] == [number]


def test_a_name_another_kind_of_host_has_is_refused_before_a_certificate_is_spent(npm: Instance, name: str) -> None:
    body = {"domain_names": [name], "forward_scheme": "auto", "forward_http_code": 301, "forward_domain_name": "x.test"}
    npm.api("POST", "/nginx/redirection-hosts", {**body, "preserve_path": True})

    result = npm.hosts(site(name))

    assert f"{name} is already in use" in result["msg"]
    assert certificates(npm, name) == []


def test_a_stale_token_is_replaced_on_the_way(npm: Instance, name: str) -> None:
    assert npm.hosts(site(name, certificate="none"), token="garbage")["changed"] is True


def test_a_restarting_api_is_waited_for(npm: Instance, name: str) -> None:
    npm.kill_api()

    assert npm.hosts(site(name, certificate="none"))["changed"] is True


def test_an_api_killed_while_it_requests_a_certificate_is_survived(npm: Instance, name: str) -> None:
    import threading
    import time

    def kill() -> None:
        time.sleep(1.3)
        npm.kill_api()

    killer = threading.Thread(target=kill)
    killer.start()
    npm.hosts(site(name))
    killer.join()
    wait_for(lambda: npm.run("npm_setup").get("changed") is False, "the API does not come back", 30)

    npm.hosts(site(name))

    assert npm.hosts(site(name))["changed"] is False
    assert len(certificates(npm, name)) == 1
    wait_for(lambda: npm.page(name, tls=True).status == 200, "the site is not served over TLS")


def test_hsts_for_subdomains_is_one_value_and_says_whom_it_does_not_hold_for(npm: Instance, name: str) -> None:
    result = npm.hosts(site(name), hsts_subdomains=True)

    wait_for(lambda: npm.page(name, tls=True).status == 200, "HTTPS does not answer")
    assert npm.row(name)["hsts_subdomains"] is True
    assert "nginx has one value for all" in result["output"]


def test_an_unknown_access_list_stops_the_run_before_any_change(npm: Instance, name: str) -> None:
    result = npm.hosts(site(name, access_list="nobody"))

    assert f'There is no access list "nobody" for {name}' in result["msg"]
    assert [row for row in npm.api("GET", "/nginx/proxy-hosts") if name in row["domain_names"]] == []
