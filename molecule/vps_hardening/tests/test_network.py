"""The firewall as a machine outside and a container meet it. Namespaces stand in for both, and for Docker's bridge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest
from hardened_box import wait_until
from testinfra.host import Host

TABLE = 8443  # in servers_ports of this scenario
STRAY = 8444
PUBLISHED_STRAY = 9000

# `web` is a container behind a bridge named as Docker names them, `out` a machine behind another interface, `meta` the
# provider's metadata service. The rules are those Docker makes for two published ports, one of them in the table.
NETWORK = f"""
set -e
for name in web out meta; do ip netns add $name; ip -n $name link set lo up; done
join() {{ # name interface address-of-host address prefix-v6
    ip link add $2 type veth peer name eth0 netns $1
    ip addr add $3/24 dev $2; ip -n $1 addr add $4/24 dev eth0
    echo 0 > /proc/sys/net/ipv6/conf/$2/disable_ipv6
    ip addr add $5::1/64 dev $2 nodad
    ip netns exec $1 sysctl -qw net.ipv6.conf.all.disable_ipv6=0
    ip -n $1 addr add $5::2/64 dev eth0 nodad
    ip link set $2 up; ip -n $1 link set eth0 up
    ip -n $1 route add default via $3
    ip -n $1 -6 route add default via $5::1
}}
join web br-test 10.99.1.1 10.99.1.2 fd99:1
join out outside 10.99.2.1 10.99.2.2 fd99:2
join meta provider 10.99.3.1 10.99.3.2 fd99:3
ip -n meta addr add 169.254.169.254/32 dev lo
ip route add 169.254.169.254/32 via 10.99.3.2
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
for pair in {TABLE} {PUBLISHED_STRAY}; do
    iptables -t nat -A PREROUTING ! -i br-test -p tcp --dport $pair -j DNAT --to-destination 10.99.1.2:80
    ip6tables -t nat -A PREROUTING ! -i br-test -p tcp --dport $pair -j DNAT --to-destination '[fd99:1::2]:80'
done
for tables in iptables ip6tables; do
    $tables -I FORWARD 2 -o br-test -p tcp --dport 80 -j ACCEPT
    $tables -I FORWARD 2 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    $tables -I FORWARD 2 -i br-test -j ACCEPT
done
listen() {{
    systemd-run --quiet --collect --unit=test-listen-$1-$2 ip netns exec $1 python3 -m http.server --bind "$3" $2
}}
listen web 80 ::
listen meta 80 169.254.169.254
listen meta 53 169.254.169.254
for port in {TABLE} {STRAY}; do
    systemd-run --quiet --collect --unit=test-listen-host-$port python3 -m http.server --bind :: $port
done
"""
# No ping on a small box. Type 8 has its checksum here; the kernel fills in the one of ICMPv6.
PING = """
import socket, sys
six = sys.argv[1] == "6"
family, protocol = (socket.AF_INET6, 58) if six else (socket.AF_INET, 1)
ping = socket.socket(family, socket.SOCK_RAW, protocol)
ping.settimeout(3)
ping.sendto(bytes([128, 0, 0, 0, 0, 0, 0, 0] if six else [8, 0, 0xF7, 0xFF, 0, 0, 0, 0]), (sys.argv[2], 0))
ping.recv(100)
"""
CLEAR = f"""
systemctl stop 'test-listen-*'
for name in web out meta; do ip netns del $name; done
for pair in {TABLE} {PUBLISHED_STRAY}; do
    iptables -t nat -D PREROUTING ! -i br-test -p tcp --dport $pair -j DNAT --to-destination 10.99.1.2:80
    ip6tables -t nat -D PREROUTING ! -i br-test -p tcp --dport $pair -j DNAT --to-destination '[fd99:1::2]:80'
done
for tables in iptables ip6tables; do
    $tables -D FORWARD -o br-test -p tcp --dport 80 -j ACCEPT
    $tables -D FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    $tables -D FORWARD -i br-test -j ACCEPT
done
"""


@pytest.fixture(scope="module")
def network(host: Host, on_box: Callable[[str], str]) -> Iterator[Callable[[str, str, int], bool]]:
    """Tell whether a namespace of the box gets a TCP connection to an address and port."""

    def connects(namespace: str, address: str, port: int) -> bool:
        with host.sudo():
            line = f"ip netns exec {namespace} timeout 2 bash -c 'exec 3<>/dev/tcp/{address}/{port}'"
            return bool(host.run(line).rc == 0)

    on_box(NETWORK)
    try:
        wait_until(lambda: connects("web", "10.99.1.2", 80) and connects("meta", "169.254.169.254", 80), seconds=20)
        yield connects
    finally:
        on_box(CLEAR)


@pytest.mark.usefixtures("network")
def test_only_ports_of_the_table_answer_the_outside(open_ports: Callable[[Iterable[int]], set[int]]) -> None:
    assert open_ports([22, 80, 81, 111, 443, 3306, 8080, 8090, TABLE, STRAY, PUBLISHED_STRAY]) == {22, TABLE}


@pytest.mark.parametrize("address", ["10.99.2.1", "fd99:2::1"])
def test_both_ip_versions_are_closed_but_for_the_table(network: Callable[[str, str, int], bool], address: str) -> None:
    answers = {port: network("out", address, port) for port in (22, STRAY)}
    assert answers == {22: True, STRAY: False}


@pytest.mark.parametrize("address", ["10.99.2.1", "fd99:2::1"])
def test_a_container_port_is_reached_only_when_the_table_has_what_it_is_published_as(
    network: Callable[[str, str, int], bool], address: str
) -> None:
    answers = {port: network("out", address, port) for port in (TABLE, PUBLISHED_STRAY)}
    assert answers == {TABLE: True, PUBLISHED_STRAY: False}


def test_a_neighbour_cannot_route_straight_to_a_container(network: Callable[[str, str, int], bool]) -> None:
    assert not network("out", "10.99.1.2", 80)


def test_a_container_reaches_the_outside(network: Callable[[str, str, int], bool]) -> None:
    assert network("web", "10.99.3.2", 53) is False  # nothing listens there: refused, not filtered
    assert network("web", "169.254.169.254", 53)


def test_a_container_does_not_reach_the_metadata_of_the_provider(network: Callable[[str, str, int], bool]) -> None:
    assert not network("web", "169.254.169.254", 80)


def test_ping_is_answered(host: Host, network: object) -> None:
    with host.sudo():
        for version, address in (("4", "10.99.2.1"), ("6", "fd99:2::1")):
            assert host.run(f"ip netns exec out python3 -c '{PING}' {version} {address}").rc == 0
