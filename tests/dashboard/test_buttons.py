"""Pages have at most one primary button, destructive buttons after the others, and ids after other facts."""

import re
from collections.abc import Iterator

import pytest

from tests.support.dashboard_paths import paths_of
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import DashboardService

_BUTTON = re.compile(r'<(?:a|button) class="button([^"]*)"')
_GROUP = re.compile(r'class="(?:field )?actions">(.*?)</(?:p|div)>', re.DOTALL)
_FACTS = re.compile(r'<dl class="facts">(.*?)</dl>', re.DOTALL)
_NAME = re.compile("<dt>([^<]*)</dt>")


@pytest.fixture(scope="module")
def pages(service: DashboardService, shop: Shop) -> dict[str, str]:
    browser = service.browser()
    disabled = {"listener-disabled-missed": f"{shop.listener('old-shop')}/missed"}
    paths = {**paths_of(shop), **disabled}
    return {name: browser.get(path).text.partition("<main")[2] for name, path in paths.items()}


def _buttons(page: str) -> list[str]:
    return [kind.strip() for kind in _BUTTON.findall(page)]


def test_page_has_one_primary_button_at_most(pages: dict[str, str]) -> None:
    counts = {name: _buttons(page).count("main") for name, page in pages.items()}
    assert {name: count for name, count in counts.items() if count > 1} == {}
    assert sum(counts.values()) > len(counts) / 3


def test_destructive_buttons_are_after_the_others(pages: dict[str, str]) -> None:
    def misplaced() -> Iterator[str]:
        for name, page in pages.items():
            # A form that only asks for confirmation has one other button, which goes back.
            for group in (
                _buttons(each) for each in _GROUP.findall(page) if '<button class="button danger' not in each
            ):
                if "danger" in group[:-1]:
                    yield name

    assert list(misplaced()) == []


def test_main_button_is_the_first_of_its_group(pages: dict[str, str]) -> None:
    groups = ((name, _buttons(each)) for name, page in pages.items() for each in _GROUP.findall(page))
    assert [name for name, group in groups if "main" in group[1:]] == []


def test_id_is_the_last_of_the_facts(pages: dict[str, str]) -> None:
    named = {name: _NAME.findall(facts) for name, page in pages.items() for facts in _FACTS.findall(page)}
    assert sum("Id" in names for names in named.values()) > 4
    assert {name: names for name, names in named.items() if "Id" in names[:-1]} == {}
