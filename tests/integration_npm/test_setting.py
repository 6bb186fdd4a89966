"""npm_setting: what a visitor of an unknown name gets."""

from __future__ import annotations

import pytest
from conftest import Instance, Result, wait_for


def four_steps(npm: Instance, **options: object) -> list[bool]:
    """Check, run, check, run."""
    results: list[Result] = [npm.run("npm_setting", check=check, **options) for check in (True, False, True, False)]
    assert not any(one.get("failed") for one in results), results
    return [one["changed"] for one in results]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"default_site": "404"}, 404),
        ({"default_site": "444"}, 0),
        ({"default_site": "redirect", "redirect_url": "https://www.npmmod.test/"}, 301),
        ({"default_site": "html", "html": "<p>Nobody lives here.</p>"}, 200),
        ({"default_site": "congratulations"}, 200),
    ],
)
def test_every_page_is_set_once_and_served(npm: Instance, options: dict[str, str], status: int) -> None:
    assert four_steps(npm, **options) == [True, True, False, False]
    wait_for(lambda: npm.page("unknown.npmmod.test").status == status, "the page is not served")
