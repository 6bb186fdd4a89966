"""The administration as a proxied site: a password in front, and the page behind it works all the same."""

from __future__ import annotations

import pytest
from conftest import Instance, wait_for

NAME = "proxy.npmmod.test"
HOST = {"domain_names": [NAME], "forward_host": "127.0.0.1", "forward_port": 81, "access_list": "admins"}


@pytest.fixture(scope="module")
def admin(npm: Instance) -> Instance:
    npm.run("npm_access_list", lists=[{"name": "admins", "users": [{"username": "ana", "password": "sesame"}]}])
    results = [npm.hosts(HOST, check=check) for check in (True, False, True, False)]
    assert [one["changed"] for one in results] == [True, True, False, False], results
    wait_for(lambda: npm.page(NAME, tls=True).status == 401, "the page is not protected")
    return npm


def test_a_stranger_sees_neither_the_page_nor_the_api(admin: Instance) -> None:
    assert admin.page(NAME, tls=True).status == 401
    assert admin.page(NAME, "/api/", tls=True).status == 401
    assert admin.page(NAME, "/api/", tls=True, headers={"Cookie": "npm_gate="}).status == 401
    assert admin.page(NAME, "/api/", tls=True, user="ana:wrong").status == 401


def test_the_password_opens_the_page_and_the_page_its_api_with_a_token_of_its_own(admin: Instance) -> None:
    page = admin.page(NAME, tls=True, user="ana:sesame")
    cookie = page.headers["set-cookie"]
    sent = {"Cookie": cookie.partition(";")[0]}
    token = admin.run("npm_setup")["token"]

    assert page.status == 200
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert admin.page(NAME, "/api/", tls=True, headers=sent).status == 200
    bearer = {**sent, "Authorization": f"Bearer {token}"}
    assert admin.page(NAME, "/api/users/me", tls=True, headers=bearer).status == 200


def test_a_refused_password_earns_no_cookie(admin: Instance) -> None:
    assert "set-cookie" not in admin.page(NAME, tls=True, user="ana:wrong").headers


def test_the_page_keeps_its_hsts(admin: Instance) -> None:
    assert "max-age" in admin.page(NAME, tls=True, user="ana:sesame").headers["strict-transport-security"]


def cookie_of(admin: Instance, user: str) -> dict[str, str]:
    wait_for(lambda: admin.page(NAME, tls=True, user=user).status == 200, f"{user} is not let in")
    return {"Cookie": admin.page(NAME, tls=True, user=user).headers["set-cookie"].partition(";")[0]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"ana": "sesame"}, {"ana": "silver"}),
        ({"ana": "silver", "ben": "barley"}, {"ana": "silver"}),
    ],
    ids=["a changed password", "a removed user"],
)
def test_who_is_shut_out_is_so_at_once(admin: Instance, before: dict[str, str], after: dict[str, str]) -> None:
    def let_in(users: dict[str, str]) -> list[bool]:
        entries = [{"username": name, "password": password} for name, password in users.items()]
        admin.run("npm_access_list", lists=[{"name": "admins", "users": entries}], data_dir=str(admin.data))
        return [bool(admin.hosts(HOST)["changed"]) for _ in range(2)]

    let_in(before)
    # The last one is the one who goes.
    cookie = cookie_of(admin, ":".join(list(before.items())[-1]))
    assert admin.page(NAME, "/api/", tls=True, headers=cookie).status == 200

    assert let_in(after) == [True, False]

    wait_for(
        lambda: admin.page(NAME, "/api/", tls=True, headers=cookie).status == 401, "the cookie outlives its password"
    )
    cookie_of(admin, ":".join(next(iter(after.items()))))


def test_a_changed_list_is_followed(admin: Instance) -> None:
    lists = [{"name": "admins", "users": [{"username": "ana", "password": "sesame"}], "allow": ["192.0.2.0/24"]}]
    admin.run("npm_access_list", lists=lists, data_dir=str(admin.data))

    results = [admin.hosts(HOST, check=check) for check in (True, False, True, False)]

    assert [one["changed"] for one in results] == [True, True, False, False]
    wait_for(lambda: admin.page(NAME, tls=True, user="ana:sesame").status == 403, "the address rule is not followed")


def test_without_a_list_it_is_refused(npm: Instance) -> None:
    result = npm.hosts({**HOST, "domain_names": ["open.npmmod.test"], "access_list": None})

    assert "would put the administration of Nginx Proxy Manager on the internet" in result["msg"]
