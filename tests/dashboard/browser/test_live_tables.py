"""Live tables show what a newly loaded page shows."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import httpx
import pytest

from tests.support.dashboard_paths import paths_of
from tests.support.dashboard_shop import BEHAVIOURS, Shop, ShopSender, open_shop
from tests.support.dashboards import DashboardService, dashboard_service

_UPDATES: Final = 10
_DAY: Final = "Attempts in numbers"
_LANE: Final = "lane"
_LISTENER: Final = {_DAY, "List of attempts"}
_LIVE: Final = {
    "overview": {_DAY, "Listeners"},
    "overview-long": {_DAY, "Listeners"},
    "missed": {"Causes of missed messages", "Missed messages"},
    "listeners": {"Listeners"},
    "queues": {"Queues"},
    "queue": {"Messages"},
    "queue-listeners": {"Listeners"},
    "message": {_LANE},
    "message-early": {_LANE},
    "message-blocked": {_LANE},
    "listener": _LISTENER,
    "listener-disabled": set[str](),
    "listener-missed": {"Causes of missed messages", "Missed messages"},
    "listener-jobs": {"List of redeliveries", "List of replays"},
    "inbox": {_LANE},
}
"""The tables and lists of each live page."""
_ALIKE: Final = {"overview-long", "message-early", "message-blocked", "listener-disabled"}
"""Pages that are left out because they have the same tables as a page above."""

_ROWS: Final = """() => {
  const lists = [...document.querySelectorAll("main table")].map((table) => table.tBodies[0].rows);
  const lanes = document.querySelectorAll("main .lane > details");
  return (lanes.length ? [...lists, lanes] : lists).map((rows) => [...rows].map((row) => {
    const shown = row.cloneNode(true);
    // The text of a time depends on when the page was loaded.
    for (const time of shown.querySelectorAll("time")) time.textContent = time.dateTime;
    return shown.textContent.replace(/\\s+/g, " ").trim();
  }));
}"""
_SHOWS: Final = f"(expected) => JSON.stringify(({_ROWS})()) === JSON.stringify(expected)"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardService]:
    """A service of these tests alone, which add to every table."""
    ShopSender.behaviours = BEHAVIOURS
    with dashboard_service(tmp_path_factory.mktemp("live"), ShopSender) as running:
        yield running
        assert running.log.errors == []


@pytest.fixture(scope="module")
def shop(service: DashboardService) -> Shop:
    opened = open_shop(service)
    with service.api() as api:
        _add(service, opened, api, 0)
    return opened


def test_every_live_table_is_compared(service: DashboardService, shop: Shop) -> None:
    browser, found = service.browser(), {}
    for name, path in paths_of(shop).items():
        page = browser.get(path).text
        if re.search("<main [^>]*data-live", page):
            lanes = [_LANE] if re.search('class="lane"', page) else []
            found[name] = {*re.findall(r'aria-label="([^"]+)"><table', page), *lanes}

    assert found == _LIVE


def test_live_tables_show_the_rows_of_a_new_page(
    visiting: Callable[..., Any], service: DashboardService, shop: Shop
) -> None:
    paths = {name: path for name, path in paths_of(shop).items() if name in _LIVE.keys() - _ALIKE}
    with visiting() as visitor, service.api() as api:
        tabs = {name: visitor.page.context.new_page() for name in paths}
        for name, tab in tabs.items():
            tab.goto(f"{service.url}/dashboard{paths[name]}")
        before = {name: tab.evaluate(_ROWS) for name, tab in tabs.items()}
        for number in range(1, _UPDATES + 1):
            with ExitStack() as updates:
                for tab in tabs.values():
                    updates.enter_context(tab.expect_response(lambda given: "x-discue-live" in given.request.headers))
                _add(service, shop, api, number)

        for name, tab in tabs.items():
            visitor.open(paths[name])
            expected = visitor.page.evaluate(_ROWS)
            assert all(was != now for was, now in zip(before[name], expected, strict=True)), name
            tab.wait_for_function(_SHOWS, arg=expected)


def _add(service: DashboardService, shop: Shop, api: httpx.Client, number: int) -> None:
    """Add a row to every table: among others, a message that one listener misses and another one retries."""
    api.post("/queues", json={"alias": f"live-{number}"}).raise_for_status()
    new = {"alias": f"live-{number}", "notify_url": f"http://hooks.example.com:9001/{number}"}
    api.post(f"/queues/{shop.queue}/listeners", json=new).raise_for_status()
    published = api.post(f"/queues/{shop.queue}/messages", json={"data": {"order": 9_500 + number, "total": 5_000}})
    published.raise_for_status()
    service.settle()
    missed, replayed = (f"/queues/{shop.queue}/listeners/{shop.listeners['tax-report']}/{job}" for job in _JOBS)
    api.post(missed, json={"messages": [published.json()["message"]["id"]]}).raise_for_status()
    api.post(replayed, json={"from_message": shop.messages[-1]}).raise_for_status()
    service.run(service.inbox.receive([("discue-queue", shop.queue)], b'{"order": 9500}'))
    service.advance(97)


_JOBS: Final = ("redeliveries", "replays")
