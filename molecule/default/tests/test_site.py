from __future__ import annotations


def test_x(host):
    assert host.user("ubuntu").exists
