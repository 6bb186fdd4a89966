"""Matomo on a box: what its containers may do, who reaches what, and what is said to nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from conftest import INVENTORY, SNIPPETS, OnBox, Sql
from testinfra.host import Host

LIMITS = {"matomo": 224, "matomo-db": 200, "matomo-web": 24}


@pytest.fixture(scope="module")
def containers(on_box: OnBox) -> dict[str, Any]:
    found = json.loads(on_box(f"docker inspect {' '.join(LIMITS)}"))
    return {container["Name"].strip("/"): container for container in found}


@pytest.mark.parametrize("name", LIMITS)
def test_a_container_has_no_rights_and_no_writable_program(containers: dict[str, Any], name: str) -> None:
    limits = containers[name]["HostConfig"]
    assert (limits["CapDrop"], limits["CapAdd"], limits["Privileged"]) == (["ALL"], None, False)
    assert limits["ReadonlyRootfs"] is True
    assert "no-new-privileges:true" in limits["SecurityOpt"]
    assert containers[name]["Config"]["User"].split(":")[0] not in ("", "0", "root")


@pytest.mark.parametrize("name", LIMITS)
def test_a_container_is_healthy_within_its_memory(containers: dict[str, Any], name: str) -> None:
    assert containers[name]["HostConfig"]["Memory"] == LIMITS[name] << 20
    assert containers[name]["HostConfig"]["MemorySwap"] == LIMITS[name] << 20
    assert containers[name]["State"]["Health"]["Status"] == "healthy"


def test_only_the_web_server_is_where_others_reach_it(containers: dict[str, Any], on_box: OnBox) -> None:
    networks = {name: set(found["NetworkSettings"]["Networks"]) for name, found in containers.items()}
    assert networks["matomo-web"] == {"servers_matomo", "servers_proxy"}
    assert networks["matomo"] == networks["matomo-db"] == {"servers_matomo"}
    assert on_box("docker network inspect --format '{{.Internal}}' servers_matomo").strip() == "true"


def test_no_password_is_in_an_environment_a_log_or_a_readable_file(host: Host, on_box: OnBox) -> None:
    secrets = [file.read_text().strip() for file in (INVENTORY / ".secrets/vps").glob("matomo_*")]
    said = on_box("for name in matomo matomo-db matomo-web; do docker inspect $name; docker logs $name 2>&1; done")
    said += on_box("journalctl --no-pager --output cat -n 20000")
    assert len(secrets) == 3
    assert [secret for secret in secrets if secret in said] == []
    # As somebody without rights.
    assert host.run("cat /opt/servers/matomo/secrets/* /opt/servers/matomo/data/html/config/config.ini.php").rc != 0


def test_strangers_find_nothing_but_the_site(
    open_ports: Callable[..., set[int]], request_site: Callable[..., Any], domain: str
) -> None:
    site = f"analytics.{domain}"
    assert open_ports([80, 443, 3306, 8080, 8081, 8090, 9000]) == {80, 443}
    status, headers, _ = request_site(site, "/matomo.js")
    assert (status, "max-age=" in headers["strict-transport-security"]) == (200, True)
    assert request_site(site, "/matomo.js", tls=False)[0] == 301


def test_the_address_alone_opens_matomo(request_site: Callable[..., Any], domain: str) -> None:
    status, headers, body = request_site(f"analytics.{domain}")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/html")
    assert b"<?php" not in body


@pytest.mark.parametrize(
    "path",
    ["/config/config.ini.php", "/config/global.ini.php", "/console", "/core/Version.php", "/.htaccess", "/-/ping",
     "/misc/user/README.txt", "/tmp/", "/vendor/autoload.php"],
)  # fmt: skip
def test_what_is_nobodys_business_is_not_served(request_site: Callable[..., Any], domain: str, path: str) -> None:
    status, _, body = request_site(f"analytics.{domain}", path)
    assert status in (403, 404)
    assert b"<?php" not in body


def test_nobody_can_install_it_again(request_site: Callable[..., Any], domain: str) -> None:
    _, _, body = request_site(f"analytics.{domain}", "/index.php?action=databaseSetup&module=Installation")
    assert b"already installed" in body


@pytest.mark.parametrize(
    "accident", ["mv $config $config.kept", "sed -i '/^.General./a installation_in_progress = 1' $config"]
)
def test_the_installation_is_closed_to_strangers_where_the_configuration_is_lost_or_half_made(
    request_site: Callable[..., Any], on_box: OnBox, domain: str, accident: str
) -> None:
    config = "config=/opt/servers/matomo/data/html/config/config.ini.php"
    on_box(f"{config}; cp -a $config /root/kept; {accident}")
    try:
        for path in ("/index.php", "/?action=setupSuperUser", "/matomo.php?idsite=1&rec=1"):
            assert request_site(f"analytics.{domain}", path)[0] == 503
    finally:
        on_box(f"{config}; mv /root/kept $config; rm -f $config.kept")


def test_the_sites_are_those_of_the_list(sql: Sql, domain: str) -> None:
    rows = sql("SELECT name, main_url, timezone FROM matomo_site ORDER BY idsite")
    # Matomo keeps names as they go into its pages.
    assert [[unescape(name), url, zone] for name, url, zone in rows] == [
        ["Shop", f"https://shop.{domain}", "Europe/Madrid"],
        ['A & B\'s "blog" </script>', f"https://blog.{domain}", "UTC"],
        ["Club", f"https://club.{domain}", "America/New_York"],
    ]


def test_each_site_has_its_lines_on_this_machine(domain: str) -> None:
    names = ("shop", "a-b-s-blog-script", "club")
    assert {file.name for file in SNIPPETS.iterdir()} == {
        f"{name}{kind}.html" for name in names for kind in ("", ".gtm", ".opt-out")
    }
    assert f"https://analytics.{domain}/" in (SNIPPETS / "shop.html").read_text()


def test_visitors_are_protected_from_the_start(sql: Sql, console: Callable[[str], str]) -> None:
    privacy = dict(sql("SELECT option_name, option_value FROM matomo_option WHERE option_name LIKE 'PrivacyManager.%'"))
    assert privacy["PrivacyManager.ipAnonymizerEnabled"] == "1"
    assert privacy["PrivacyManager.ipAddressMaskLength"] == "2"
    assert privacy["PrivacyManager.doNotTrackEnabled"] == "1"
    assert "180" in console("config:get Deletelogs.delete_logs_older_than")
