from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.diegonmarcos.servers.plugins.filter.compose_file import compose_file

WEB: dict[str, Any] = {"image": "nginx:1.29.1", "mem_limit": "64m", "healthcheck": {"test": ["CMD", "true"]}}


def compose(definition: Any, **more: Any) -> Any:
    """The compose file as Compose reads it."""
    options: dict[str, Any] = {"directory": "/opt/servers/web", "networks": {"proxy": {}}, **more}
    return yaml.safe_load(yaml.safe_dump(compose_file(definition, **options)))


def container(files: Any = (), **more: Any) -> dict[str, Any]:
    found = compose({"web": {**WEB, **more}}, files=files)["services"]["web"]
    assert isinstance(found, dict)
    return found


def digest(files: Any, *volumes: str) -> Any:
    return container(files, volumes=list(volumes)).get("labels", {}).get("servers.files")


def test_a_container_gets_what_every_container_has() -> None:
    log_options = {"max-size": "10m", "max-file": 3}
    assert compose({"web": WEB}, log_options=log_options)["services"]["web"] == {
        **WEB,
        "container_name": "web",
        "restart": "unless-stopped",
        "networks": ["proxy"],
        "logging": {"driver": "local", "options": {"max-size": "10m", "max-file": "3"}},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "memswap_limit": "64m",
        "pids_limit": 256,
        "cpu_shares": 1024,
    }


@pytest.mark.parametrize(
    "own",
    [
        {"container_name": "other"},
        {"restart": "no"},
        {"networks": ["database"]},
        {"logging": {"driver": "none"}},
        {"cap_drop": ["NET_RAW"]},
        {"security_opt": ["no-new-privileges:false"]},
        {"memswap_limit": "128m"},
        {"pids_limit": 10},
        {"cpu_shares": 2},
    ],
    ids=lambda own: next(iter(own)),
)
def test_what_a_container_says_itself_wins(own: dict[str, Any]) -> None:
    assert {key: container(**own)[key] for key in own} == own


def test_a_further_security_option_does_not_cost_no_new_privileges() -> None:
    assert container(security_opt=["apparmor=mine"])["security_opt"] == ["no-new-privileges:true", "apparmor=mine"]


def test_a_container_in_another_network_name_space_joins_no_network() -> None:
    assert "networks" not in container(network_mode="none")


def test_every_network_a_container_names_is_declared_with_the_common_options() -> None:
    definition = {"web": WEB, "base": {**WEB, "networks": ["database"]}}
    networks = {"proxy": {}, "database": {"internal": True}}
    assert compose(definition, networks=networks, network_options={"enable_ipv6": True})["networks"] == {
        "proxy": {"enable_ipv6": True},
        "database": {"enable_ipv6": True, "internal": True},
    }
    assert set(compose({"web": {**WEB, "networks": {"spare": {"aliases": ["w"]}}}})["networks"]) == {"proxy", "spare"}


def test_a_dollar_stays_a_dollar() -> None:
    assert container(environment={"PASSWORD": "a$b$$c"})["environment"] == {"PASSWORD": "a$$b$$$$c"}


def test_numbers_and_switches_stay_what_they_are() -> None:
    assert container(read_only=True, oom_score_adj=-5, x=None)["read_only"] is True
    assert container(oom_score_adj=-5)["oom_score_adj"] == -5


@pytest.mark.parametrize("volume", ["./site:/site:ro", "/opt/servers/web/site:/site", "./site/./a.html:/a.html"])
def test_a_changed_file_restarts_the_container_that_mounts_it(volume: str) -> None:
    old = {"path": "/opt/servers/web/site/a.html", "content": "1"}
    assert digest([old], volume) != digest([{**old, "content": "2"}], volume)
    assert digest([old], volume) != digest([{**old, "mode": "0600"}], volume)
    assert digest([old], volume) == digest([dict(old)], volume)


def test_a_file_that_is_mounted_in_the_long_form_counts_too() -> None:
    volumes = [{"type": "bind", "source": "./secret", "target": "/run/secrets/a"}, {"type": "tmpfs", "target": "/tmp"}]
    files = [{"path": "/opt/servers/web/secret", "content": "1"}]
    assert container(files, volumes=volumes)["labels"]["servers.files"]


@pytest.mark.parametrize("path", ["/opt/servers/web/site2", "/opt/servers/web/other", "/etc/site"])
def test_a_file_the_container_does_not_see_restarts_nothing(path: str) -> None:
    assert digest([{"path": path, "content": "1"}], "./site:/site") is None


def test_structured_content_and_the_order_of_files_do_not_matter_to_the_digest() -> None:
    one = {"path": "/opt/servers/web/a/1", "content": {"x": [1]}}
    two = {"path": "/opt/servers/web/a/2", "content": "", "mode": "0600"}
    folder = {"path": "/opt/servers/web/a", "state": "directory"}
    assert digest([folder, one, two], "./a:/a") == digest([two, one], "./a:/a") is not None


def test_labels_of_either_form_are_kept_beside_the_digest() -> None:
    files = [{"path": "/opt/servers/web/a", "content": ""}]
    for labels in ({"x": "1"}, ["x=1"]):
        assert container(files, labels=labels, volumes=["./a:/a"])["labels"]["x"] == "1"


@pytest.mark.parametrize("key", ["image", "mem_limit", "healthcheck"])
def test_a_container_that_lacks_what_the_box_depends_on_is_refused(key: str) -> None:
    with pytest.raises(AnsibleFilterError, match=f"container web has no {key}: give it"):
        compose({"web": {name: value for name, value in WEB.items() if name != key}})


@pytest.mark.parametrize("image", ["nginx", "nginx:latest", "registry:5000/nginx", "jc21/nginx:"])
def test_an_image_whose_content_may_change_by_itself_is_refused(image: str) -> None:
    with pytest.raises(AnsibleFilterError, match="name its exact version"):
        container(image=image)


@pytest.mark.parametrize("image", ["jc21/nginx:2.15.1", "registry:5000/a:1", "a@sha256:" + "0" * 64])
def test_an_exact_image_is_taken(image: str) -> None:
    assert container(image=image)["image"] == image


def test_swap_counts_on_top_of_memory() -> None:
    with pytest.raises(AnsibleFilterError, match="memswap_limit below its mem_limit"):
        container(memswap_limit="63m")
    assert container(mem_limit="1g", memswap_limit="1024m")["memswap_limit"] == "1024m"
    assert container(mem_limit=67108864)["memswap_limit"] == 67108864


@pytest.mark.parametrize("size", ["many", "64 m", "-1", "1.5g"])
def test_a_limit_that_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(AnsibleFilterError, match="write a number with k, m or g"):
        container(mem_limit=size)


@pytest.mark.parametrize("volume", ["data:/data", "/data", {"type": "volume", "source": "data", "target": "/data"}])
def test_data_outside_the_folder_of_the_service_is_refused(volume: Any) -> None:
    with pytest.raises(AnsibleFilterError, match=r"bind one below /opt/servers/web, such as \./data"):
        container(volumes=[volume])


@pytest.mark.parametrize("definition", [{}, None, ["web"]])
def test_a_service_without_containers_is_refused(definition: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="no container"):
        compose(definition)
