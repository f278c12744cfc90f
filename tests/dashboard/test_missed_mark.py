"""The number of missed messages in the navigation, up to `99+`."""

import re

import pytest

from discue.dashboard import missed_mark
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import Browser, DashboardService
from tests.support.page_statements import counted


def _mark(browser: Browser, path: str = "") -> str:
    """Return the number on a page; "" if there is none."""
    found = re.search(r'Missed<span class="n missed">([^<]+)<', browser.get(path).text)
    return "" if found is None else found[1]


def _missed(service: DashboardService) -> int:
    with service.api() as api:
        listeners = api.get("/listeners", params={"per_page": 100}).json()["listeners"]
    return sum(each["messages"]["missed_count"] for each in listeners)


def test_every_page_has_the_number_of_missed_messages(service: DashboardService, shop: Shop) -> None:
    browser, missed = service.browser(), _missed(service)
    service.advance(6)
    assert 0 < missed < missed_mark.MOST
    for path in ("", "/queues", "/missed", f"/queues/{shop.queue}"):
        assert _mark(browser, path) == str(missed)


@pytest.mark.usefixtures("shop")
def test_numbers_above_99_are_shown_as_99_plus(service: DashboardService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missed_mark, "MOST", 1)
    service.advance(6)
    assert _mark(service.browser()) == "1+"


@pytest.mark.usefixtures("shop")
def test_number_is_cached_for_five_seconds(service: DashboardService) -> None:
    browser = service.browser()
    service.advance(6)
    browser.get("/queues")
    for query, most in (("", 0), ("?done=redelivering", 1)):
        with counted(service.control.store) as statements:
            browser.get(f"/queues{query}")
        assert sum("missed_range" in each for each in statements) <= most


def test_navigation_has_no_number_without_missed_messages(service: DashboardService) -> None:
    assert _mark(service.foreign_browser()) == ""
