"""Filters of the audit log, and its export as CSV."""

import csv
import re
from datetime import UTC, datetime
from io import StringIO

import pytest

from discue.dashboard.pages import events
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import Browser, DashboardService

_WHAT = re.compile(r"<tr><td>([^<]+)<")
_ALWAYS = "2020-01-01T00:00"


def _exported(browser: Browser, **query: str) -> list[dict[str, str]]:
    answer = browser.get("/events/export", params=query)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(StringIO(answer.text)))


@pytest.mark.usefixtures("shop")
def test_events_are_filtered_by_kind_of_resource(service: DashboardService) -> None:
    browser = service.browser()
    for kind, begins in (("listener", "Listener "), ("domain", "Domain "), ("api_key", "API key ")):
        shown = _WHAT.findall(browser.get("/events", params={"kind": kind}).text)
        assert shown
        assert all(each.startswith(begins) for each in shown)


def test_events_are_filtered_by_their_author(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    with service.api() as api:
        made = api.post("/api_keys", json={"alias": "author"}).json()["api_key"]
        mine = {"x-api-key": made["key"]}
        queue = api.post("/queues", json={"alias": "of-the-author"}, headers=mine).json()["queue"]["id"]
        api.delete(f"/queues/{queue}").raise_for_status()
    for by in ("author", made["id"]):
        assert _WHAT.findall(browser.get("/events", params={"by": by}).text) == ["Queue added"]
        assert [row["event"] for row in _exported(browser, by=by)] == ["queue_added"]
    assert "No event matches" in browser.get("/events", params={"by": shop.user}).text


@pytest.mark.usefixtures("shop")
def test_events_are_filtered_by_time(service: DashboardService) -> None:
    browser = service.browser()
    rows = _exported(browser, since=_ALWAYS)
    middle = rows[len(rows) // 2]["time"]
    later, earlier = (_exported(browser, **{name: middle}) for name in ("since", "until"))
    assert [*later, *(row for row in rows if row["time"] == middle), *earlier] == rows
    assert all(row["time"] > middle for row in later)
    assert all(row["time"] < middle for row in earlier)


@pytest.mark.usefixtures("shop")
def test_export_has_every_selected_event_and_says_where_it_ends(
    service: DashboardService, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = service.browser()
    every = _exported(browser, since=_ALWAYS)
    monkeypatch.setattr(events, "_EXPORTED_AT_ONCE", 3)
    assert _exported(browser, since=_ALWAYS) == every
    monkeypatch.setattr(events, "MOST_EXPORTED", 6)
    answer = browser.get("/events/export", params={"since": _ALWAYS})
    assert answer.headers["content-disposition"] == 'attachment; filename="events-newest-6.csv"'
    assert list(csv.DictReader(StringIO(answer.text))) == every[:6]


@pytest.mark.usefixtures("shop")
def test_export_has_no_cells_that_are_formulas(service: DashboardService) -> None:
    browser = service.browser()
    with service.api() as api:
        queue = api.post("/queues", json={"alias": "-1-cmd"}).json()["queue"]["id"]
        api.delete(f"/queues/{queue}").raise_for_status()
    names = {row["name"] for row in _exported(browser, kind="queue")}
    assert "'-1-cmd" in names
    assert "-1-cmd" not in names
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"):
        assert events._cell(text) == f"'{text}"
    assert events._cell("") == ""
    assert events._cell("orders") == "orders"


@pytest.mark.usefixtures("shop")
def test_export_with_a_wrong_filter_or_without_the_scope_is_refused(service: DashboardService) -> None:
    assert service.browser().get("/events/export", params={"since": "yesterday"}).status_code == 400
    for role in ("viewer", "developer"):
        pages = [service.browser(role).get(path).status_code for path in ("/events", "/events/export")]
        assert pages[0] == pages[1]


def test_export_excludes_events_of_other_organizations(service: DashboardService, shop: Shop) -> None:
    rows = _exported(service.foreign_browser(), since=_ALWAYS)
    assert shop.queue not in {row["id"] for row in rows}
    assert datetime.fromisoformat(rows[0]["time"]).tzinfo == UTC
