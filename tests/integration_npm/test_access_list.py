"""npm_access_list: who gets in, and that nothing else is lost on the way."""

from __future__ import annotations

import pytest
from conftest import Instance, Result, wait_for

SITE = "guarded.npmmod.test"


@pytest.fixture(scope="module")
def site(npm: Instance) -> str:
    npm.run("npm_access_list", lists=[{"name": "admins", "users": [{"username": "ana", "password": "sesame"}]}])
    host = {"domain_names": [SITE], "forward_host": "127.0.0.1", "forward_port": 8099, "access_list": "admins"}
    assert npm.hosts(host).get("failed") is None
    wait_for(lambda: npm.page(SITE, tls=True).status == 401, "the site is not protected")
    return SITE


def four_steps(npm: Instance, **entry: object) -> list[Result]:
    """Check, run, check, run."""
    options = {"lists": [{"name": "admins", **entry}], "data_dir": str(npm.data)}
    results = [npm.run("npm_access_list", check=check, **options) for check in (True, False, True, False)]
    assert not any(one.get("failed") for one in results), results
    return results


def changes(results: list[Result]) -> list[bool]:
    return [one["changed"] for one in results]


def test_a_new_password_of_the_same_length_and_first_letter_is_noticed(npm: Instance, site: str) -> None:
    results = four_steps(npm, users=[{"username": "ana", "password": "secret"}])

    assert changes(results) == [True, True, False, False]
    assert results[1]["diff"]["after"]["admins"]["new_passwords_for"] == ["ana"]
    wait_for(lambda: npm.page(site, tls=True, user="ana:secret").status == 200, "the new password does not open")
    assert npm.page(site, tls=True, user="ana:sesame").status == 401
    assert npm.page(site).status == 301


def test_users_who_are_not_listed_lose_access(npm: Instance, site: str) -> None:
    both = [{"username": "ana", "password": "secret"}, {"username": "ben", "password": "hidden"}]
    assert changes(four_steps(npm, users=both)) == [True, True, False, False]
    wait_for(lambda: npm.page(site, tls=True, user="ben:hidden").status == 200, "ben is not let in")

    assert changes(four_steps(npm, users=both[:1])) == [True, True, False, False]

    wait_for(lambda: npm.page(site, tls=True, user="ben:hidden").status == 401, "ben is still let in")


def test_addresses_decide_without_a_password_when_either_is_enough(npm: Instance, site: str) -> None:
    users = [{"username": "ana", "password": "secret"}]
    results = four_steps(npm, users=users, allow=["0.0.0.0/0"], deny=["192.0.2.0/24"], satisfy_any=True)

    assert changes(results) == [True, True, False, False]
    wait_for(lambda: npm.page(site, tls=True).status == 200, "the address is not enough")

    four_steps(npm, users=users, allow=["192.0.2.0/24"], satisfy_any=True)
    wait_for(lambda: npm.page(site, tls=True).status == 401, "everybody is let in")


def test_a_list_that_protects_a_site_is_not_removed(npm: Instance, site: str) -> None:
    result = npm.run("npm_access_list", lists=[{"name": "admins", "state": "absent"}])

    assert f'The access list "admins" still protects {site}' in result["msg"]
    assert npm.page(site, tls=True).status == 401


def test_an_unused_list_is_removed_once(npm: Instance) -> None:
    npm.run("npm_access_list", lists=[{"name": "spare", "allow": ["192.0.2.1"]}])
    absent = {"lists": [{"name": "spare", "state": "absent"}]}
    results = [npm.run("npm_access_list", check=check, **absent) for check in (True, False, True, False)]

    assert changes(results) == [True, True, False, False]


def test_no_password_is_printed_or_returned(npm: Instance) -> None:
    for result in four_steps(npm, users=[{"username": "ana", "password": "open-sesame-please"}]):
        assert "open-sesame-please" not in result["output"]
