from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.diegonmarcos.servers.plugins.filter.mta_sts_policy import mta_sts_policy


def test_the_policy_has_the_lines_of_rfc_8461() -> None:
    assert mta_sts_policy("mail.example.org", mode="enforce", max_age=86400).split("\r\n") == [
        "version: STSv1",
        "mode: enforce",
        "mx: mail.example.org",
        "max_age: 86400",
        "",
    ]


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="use enforce, testing or none"):
        mta_sts_policy("mail.example.org", mode="on")
