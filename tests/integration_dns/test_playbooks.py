"""The playbooks as a user runs them: the name server is real, and no box is needed."""

from __future__ import annotations

import json
import subprocess
import typing as t
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml
from conftest import ADDRESS, DOMAIN, REPOSITORY, NameServer, run_module, run_playbook

# Takes the place of the role mailserver: it needs no box, and keeps the tables that the real one hands to OpenDKIM.
STAND_IN_ROLE: list[dict[str, t.Any]] = [
    {
        "name": "Read the keys as the role does",
        "diegonmarcos.servers.dkim_selectors": {
            "directory": "{{ inventory_dir }}/.secrets/dkim",
            "domains": "{{ mailserver_domains }}",
        },
        "register": "__mailserver_dkim",
    },
    {
        "name": "Break where the test says so",
        "ansible.builtin.fail": {"msg": "broken by the test"},
        "when": "break_role | default(false) | bool",
    },
    {
        "name": "Keep the table",
        "ansible.builtin.copy": {
            "content": "{{ (__mailserver_dkim.selectors | diegonmarcos.servers.dkim_files(directory='/c')"
            " | selectattr('path', 'eq', '/c/SigningTable') | first).content }}",
            "dest": "{{ inventory_dir }}/{{ inventory_hostname }}.SigningTable",
            "mode": "0644",
        },
    },
]


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """A box that cannot be reached, and is not asked for."""
    return write_inventory(tmp_path, "vps", ansible_host="192.0.2.1")


def write_inventory(folder: Path, *hosts: str, **more: t.Any) -> Path:
    values = {
        "servers_domain": DOMAIN,
        "servers_admin_email": f"admin@{DOMAIN}",
        "servers_public_ip": ADDRESS,
        "servers_services": ["npm", "mailserver", "matomo"],
        "npm_proxy_hosts": [
            {"domain_names": [f"Proxy.{DOMAIN}"], "forward_host": "127.0.0.1", "forward_port": 81, "enabled": True},
            {"domain_names": [f"off.{DOMAIN}"], "forward_host": "x", "forward_port": 1, "enabled": False},
        ],
        "mailserver_relay_host": "smtp.relay.example",
        "mailserver_spf_includes": ["spf.relay.example"],
        **more,
    }
    path = folder / "hosts.json"
    path.write_text(json.dumps({"servers": {"hosts": dict.fromkeys(hosts, values)}}))
    return path


def dns_options(name_server: NameServer) -> list[str]:
    return ["-e", f"dns_resolver={name_server.address}", "-e", "dns_timeout=2"]


def serve(name_server: NameServer, *lines: str) -> None:
    name_server.serve(
        {
            DOMAIN: "\n".join([*lines, ""]),
            "relay.example": 'spf IN TXT "v=spf1 ip4:192.0.2.7 -all"\n',
            "113.0.203.in-addr.arpa": f"10 IN PTR mail.{DOMAIN}.\n",
        }
    )


def folded(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stdout.split())


def test_the_records_are_there_before_the_box_and_right_once_published(
    name_server: NameServer, inventory: Path, tmp_path: Path
) -> None:
    zone_file = tmp_path / "zone"
    serve(name_server)
    before = run_playbook("dns.yml", inventory, *dns_options(name_server), "-e", f"dns_zone_file={zone_file}")
    assert before.returncode == 0, before.stdout
    assert f"{DOMAIN} has no MX record: add MX 10 mail.{DOMAIN}." in folded(before)
    assert "PTR, reverse DNS" in folded(before)

    lines = [line for line in zone_file.read_text().splitlines() if not line.startswith(";")]
    serve(name_server, *lines)
    after = run_playbook("dns.yml", inventory, *dns_options(name_server), "-e", "dns_strict=true")

    assert after.returncode == 0, after.stdout
    assert "The DNS says all of it." in after.stdout
    assert "changed=0" in after.stdout
    for name in ("proxy", "analytics", "mail", "mta-sts", "autoconfig", "autodiscover"):
        assert f"{name}.{DOMAIN}. 3600 IN A {ADDRESS}" in lines
    assert f"off.{DOMAIN}" not in after.stdout
    assert f'{DOMAIN}. 3600 IN TXT "v=spf1 mx include:spf.relay.example -all"' in lines


def test_a_box_without_sites_of_its_own_asks_for_the_records_of_its_mail(tmp_path: Path) -> None:
    services = ["npm", "mailserver"]
    inventory = write_inventory(
        tmp_path, "vps", ansible_host="192.0.2.1", servers_services=services, npm_proxy_hosts=[]
    )
    done = run_playbook("dns.yml", inventory, "-e", "dns_check=false")
    assert done.returncode == 0, done.stdout
    assert f"mail.{DOMAIN}. 3600 IN A {ADDRESS}" in done.stdout


def test_a_strict_run_stops_with_what_is_wrong(name_server: NameServer, inventory: Path) -> None:
    serve(name_server, f"{DOMAIN}. IN MX 10 mx.relay.example.")
    done = run_playbook("dns.yml", inventory, *dns_options(name_server), "-e", "dns_strict=true")
    assert done.returncode != 0
    assert f"Mail for {DOMAIN} goes to mx.relay.example, not to mail.{DOMAIN}: replace that MX record." in folded(done)


def test_a_dry_run_makes_no_key_and_says_so(inventory: Path, tmp_path: Path) -> None:
    done = run_playbook("dns.yml", inventory, "--check", "-e", "dns_check=false")
    assert done.returncode == 0, done.stdout
    assert "has no value in this dry run, because its key is not made yet" in folded(done)
    assert not (tmp_path / ".secrets" / "dkim").exists()


def test_a_box_that_is_not_described_is_told(tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, "vps", servers_public_ip="")
    done = run_playbook("dns.yml", inventory, "-e", "dns_check=false")
    assert done.returncode != 0
    assert "vps has no servers_public_ip in the inventory: give it one." in folded(done)


class Rotation:
    """Boxes that send for one domain and keep tables only; one key signs, and the next was made two days ago."""

    def __init__(self, folder: Path, name_server: NameServer, *hosts: str) -> None:
        self.folder = folder
        self.name_server = name_server
        self.hosts = hosts
        self.inventory = write_inventory(folder, *hosts, ansible_connection="local", ansible_become=False)
        self._collections = _collection_with_stand_in(folder / "collections")
        run_module("dkim_selectors", **self.keys)
        run_module("dkim_selectors", **self.keys, applied=True)
        self.old, self.new = run_module("dkim_selectors", **self.keys, begin="now")["selectors"]
        self.let_pass(hours=49)

    @property
    def keys(self) -> dict[str, t.Any]:
        return {"directory": str(self.folder / ".secrets" / "dkim"), "domains": [DOMAIN]}

    def run(self, *options: str, breaks: bool = False) -> str:
        done = run_playbook(
            "rotate_dkim.yml",
            self.inventory,
            *dns_options(self.name_server),
            *options,
            "-e",
            f"break_role={breaks}",
            collections=self._collections,
        )
        assert (done.returncode != 0) == breaks, done.stdout
        return " ".join(done.stdout.split())

    def publish(self) -> None:
        serve(self.name_server, self.old["zone_line"], self.new["zone_line"])

    def states(self) -> list[str]:
        return [item["state"] for item in self._saved()["selectors"].values()]

    def signing(self) -> list[str]:
        """Return the selector that each box signs with."""
        tables = [self.folder / f"{host}.SigningTable" for host in self.hosts]
        return [table.read_text().split()[1].split(".")[0] if table.exists() else "" for table in tables]

    def let_pass(self, **time: float) -> None:
        """Make all that was written look older, since nobody can wait for days."""
        saved = self._saved()
        for item in saved["selectors"].values():
            for name in {"since", "applied"} & set(item):
                item[name] = (datetime.fromisoformat(item[name]) - timedelta(**time)).isoformat()
        self._file.write_text(json.dumps(saved))

    @property
    def _file(self) -> Path:
        return self.folder / ".secrets" / "dkim" / DOMAIN / "selectors.json"

    def _saved(self) -> dict[str, t.Any]:
        return t.cast(dict[str, t.Any], json.loads(self._file.read_text()))


def _collection_with_stand_in(folder: Path) -> Path:
    collection = folder / "ansible_collections" / "diegonmarcos" / "servers"
    roles = collection / "roles"
    roles.mkdir(parents=True)
    for name in ("plugins", "meta", "galaxy.yml"):
        (collection / name).symlink_to(REPOSITORY / name)
    for name in ("servers", "npm", "mailserver", "vps_hardening", "docker_engine"):
        (roles / name / "tasks").mkdir(parents=True)
        (roles / name / "defaults").symlink_to(REPOSITORY / "roles" / name / "defaults")
        tasks = STAND_IN_ROLE if name == "mailserver" else []
        (roles / name / "tasks" / "main.yml").write_text(yaml.safe_dump(tasks))
    return folder


def test_a_rotation_switches_when_the_dns_shows_the_key_and_heals_where_it_was_stopped(
    tmp_path: Path, name_server: NameServer
) -> None:
    rotation = Rotation(tmp_path, name_server, "vps")
    serve(name_server, rotation.old["zone_line"])
    unseen = rotation.run()
    assert rotation.states() == ["active", "published"], "switched to a key that the DNS does not show"
    assert f"{rotation.new['fqdn']} does not exist: add TXT" in unseen
    assert "changed=0" in unseen

    rotation.publish()
    rotation.run(breaks=True)
    assert rotation.states() == ["retired", "active"]

    rotation.let_pass(days=30)
    rotation.run()
    assert rotation.signing() == [rotation.new["selector"]]
    assert rotation.states() == ["retired", "active"], "withdrew a key that the box may have signed with until now"

    rotation.let_pass(days=7)
    rotation.run()
    assert rotation.states() == ["revoked", "active"]


def test_a_second_kind_of_key_begins_to_sign_once_the_dns_shows_it(tmp_path: Path, name_server: NameServer) -> None:
    rotation = Rotation(tmp_path, name_server, "vps")
    serve(name_server, rotation.old["zone_line"])
    both = ["-e", "mailserver_spam_filter=rspamd"]
    rotation.run(*both)
    second = run_module("dkim_selectors", **rotation.keys)["selectors"][-1]
    assert (second["key_type"], second["state"], rotation.signing()) == ("ed25519", "published", [""])

    serve(name_server, rotation.old["zone_line"], second["zone_line"])
    rotation.let_pass(hours=49)
    rotation.run(*both, breaks=True)
    rotation.run(*both)

    assert rotation.states() == ["active", "published", "active"]
    assert rotation.signing() == [rotation.old["selector"]], "the box was not told of the new key"
    # Once it has followed, it is left alone.
    (tmp_path / "vps.SigningTable").unlink()
    rotation.run(*both)
    assert rotation.signing() == [""]


def test_nothing_is_withdrawn_while_a_box_is_left_out(tmp_path: Path, name_server: NameServer) -> None:
    rotation = Rotation(tmp_path, name_server, "one", "two")
    rotation.publish()

    rotation.run("--limit", "one")
    assert rotation.signing() == [rotation.new["selector"], ""]
    rotation.let_pass(days=30)
    rotation.run()

    assert rotation.signing() == [rotation.new["selector"]] * 2
    assert rotation.states() == ["retired", "active"]
