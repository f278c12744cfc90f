"""Wrong values in the URL of a page: it is shown with what is wrong at the field, and without rows."""

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from discue.dashboard.formats import duration
from discue.dashboard.pages import listeners
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import DashboardService

_REASONS = "must be one of attempts_used_up, expired, final_status, no_retry, too_old, transform"


@pytest.mark.parametrize(
    ("page", "query", "rule"),
    [
        ("/missed", "reason=lost", _REASONS),
        ("/listeners", "state=lost", "must be one of disabled, failed, retrying, pending, missed, acknowledged"),
        ("/missed", "queue=nothing", "is not the name or id of a queue"),
        ("/missed", "queue=twins&reason=lost", _REASONS),
        ("/missed", "until=tomorrow", "must be a time such as 2026-07-01T12:00, in UTC"),
        ("{queue}", "state=lost", "must be one of pending, retrying, missed, acknowledged, no_listeners"),
        ("{queue}", "since=yesterday", "must be a time such as 2026-07-01T12:00, in UTC"),
        ("{queue}", "id=1", "must be an id"),
        ("/events", "kind=lost", "must be one of queue, listener, topic"),
        ("/events", "by=nobody", "must be the email of a user, the name of an API key, or an id"),
        ("/events", "until=tomorrow", "must be a time such as 2026-07-01T12:00, in UTC"),
        ("/events", "since=yesterday", "must be a time such as 2026-07-01T12:00, in UTC"),
        ("{listener}", "outcome=lost", "must be one of acknowledged, failed"),
        ("{listener}", "status=999", "must be a status such as 503, a class such as 5xx, or 0 for no response"),
        ("{listener}/missed", "reason=lost", _REASONS),
    ],
)
def test_wrong_filter_is_explained_at_its_field_and_lists_nothing(
    service: DashboardService, shop: Shop, page: str, query: str, rule: str
) -> None:
    path = page.format(queue=f"/queues/{shop.queue}", listener=shop.listener("tax-report"))
    answer = service.browser().get(f"{path}?{query}")
    assert answer.status_code == 200
    name = re.findall(r"(\w+)=", query)[-1]
    assert re.search(f'<p class="fault" id="{name}-fault">(It|The status) {rule}', answer.text), answer.text
    assert "<h2>The filter is not valid</h2>" in answer.text
    assert "data-rows" not in answer.text
    assert 'role="alert"' not in answer.text


def test_rate_of_blanks_is_none(service: DashboardService, shop: Shop) -> None:
    answer = service.browser().get(f"{shop.listener('tax-report')}/redeliver", params={"pace": " "})
    assert answer.status_code == 200
    assert "will be sent again." in answer.text


@pytest.mark.parametrize(
    ("page", "query", "shown"),
    [
        ("{listener}/redeliver", "pace=fast", "It must be a number from 1 to 100000."),
        ("{listener}/redeliver", "reason=lost", f"It {_REASONS}."),
        ("{listener}/redeliver", "message=1", "The value at /message must be an id."),
        ("{listener}/replay", "from=yesterday", "It must be a time such as 2026-07-01T12:00, in UTC."),
        ("{listener}/test", "message=1", "The value at /message must be an id."),
        ("{queue}/publish", "copy=1", "The value at /copy must be an id."),
    ],
)
def test_wrong_query_of_a_form_is_explained_and_previews_nothing(
    service: DashboardService, shop: Shop, page: str, query: str, shown: str
) -> None:
    path = page.format(queue=f"/queues/{shop.queue}", listener=shop.listener("tax-report"))
    answer = service.browser().get(f"{path}?{query}")
    assert answer.status_code == 200
    assert shown in answer.text
    assert "will be sent again" not in answer.text
    assert "Nothing was saved" not in answer.text


def test_missed_messages_are_filtered_by_the_name_of_a_queue(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    by_name, by_id = (browser.get("/missed", params={"queue": each}).text for each in ("orders", shop.queue))
    rows = [re.findall(r'<tr data-key="[^"]+', each) for each in (by_name, by_id)]
    assert rows[0] == rows[1] != []
    assert "No missed message matches" in browser.get("/missed", params={"queue": "returns"}).text


def test_missed_messages_are_filtered_by_the_time_of_their_publish(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    with service.api() as api:
        missed = api.get("/missed", params={"per_page": 100}).json()["missed"]
    times = sorted(each["stored_at"] for each in missed)
    middle = times[len(times) // 2]
    typed = datetime.fromtimestamp(middle / 1_000, UTC).isoformat()
    later, earlier = (browser.get("/missed", params={name: typed}).text for name in ("since", "until"))
    assert later.count('<a class="row mono"') == sum(at > middle for at in times) > 0
    assert earlier.count('<a class="row mono"') == sum(at < middle for at in times) > 0


_ROW = re.compile(r'<a class="row" href="[^"]*">([^<]+)</a>.*?<span class="badge (\w+)">', re.DOTALL)


def test_listeners_are_filtered_by_state(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    every = _ROW.findall(browser.get("/listeners").text)
    states = {state for _, state in every}
    assert {"disabled", "retrying", "missed"} <= states
    for state in states:
        assert _ROW.findall(browser.get(f"/listeners?state={state}").text) == [row for row in every if row[1] == state]
    assert "No listener is in this state" in browser.get("/listeners?state=failed").text


def test_next_page_of_listeners_in_a_state_continues_after_those_read(
    service: DashboardService, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = service.browser()
    disabled = _ROW.findall(browser.get("/listeners?state=disabled").text)
    monkeypatch.setattr(listeners, "_READ_AT_ONCE", 2)
    monkeypatch.setattr(listeners, "_READ_FOR_A_PAGE", 4)

    def pages(query: str, direction: str) -> Iterator[str]:
        while query:
            page = browser.get(f"/listeners{query}").text
            yield page
            link = re.search(rf'rel="{direction}" href="([^"]+)"', page)
            query = "" if link is None else html.unescape(link[1])

    older = list(pages("?state=disabled", "next"))
    assert len(older) > 1
    assert [row for page in older for row in _ROW.findall(page)] == disabled
    oldest = min(shop.listeners.values())
    newer = list(pages(f"?state=disabled&before={oldest}", "prev"))
    assert [row for page in newer[::-1] for row in _ROW.findall(page)] == disabled


def test_queues_show_what_waits_and_was_missed(service: DashboardService, shop: Shop) -> None:
    with service.api() as api:
        counts = [each["messages"] for each in api.get(f"/queues/{shop.queue}/listeners").json()["listeners"]]
    page = service.browser().get("/queues", params={"alias": "orders"}).text
    waiting, missed = sum(each["pending_count"] for each in counts), sum(each["missed_count"] for each in counts)
    assert waiting > 0
    assert missed > 0
    assert f'data-name="waiting">{waiting:,}</td>' in page
    assert re.search(
        rf'data-name="missed"><a class="missed" href="[^"]*/missed\?queue={shop.queue}">{missed:,}</a>', page
    )


@pytest.mark.usefixtures("shop")
def test_events_are_listed_after_a_time(service: DashboardService) -> None:
    browser = service.browser()
    assert '<td class="nowrap" data-name="when">' in browser.get("/events", params={"since": "2020-01-01T00:00"}).text
    empty = browser.get("/events", params={"since": "2099-01-01T00:00"}).text
    assert "No event matches" in empty
    assert f"Changes are kept for {duration(service.control.settings.event_retention_seconds * 1_000)}." in empty
