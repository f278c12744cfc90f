"""The page of a queue's erasures, and the form that erases the messages with a key."""

import pytest

from tests.support.dashboard_shop import Shop
from tests.support.dashboards import SAME_ORIGIN, DashboardService


@pytest.fixture
def queue(service: DashboardService) -> str:
    """The path of a queue with two messages of a key, and one of another."""
    browser = service.browser("owner")
    made = browser.post("/queues/new", data={}, headers=SAME_ORIGIN)
    path = made.headers["location"].removeprefix("/dashboard").partition("?")[0]
    for key in ("<b>7", "<b>7", "8"):
        form = {"data": "1", "as": "json", "key": key}
        assert browser.post(f"{path}/publish", data=form, headers=SAME_ORIGIN).status_code == 303
    return str(path)


def test_form_erases_the_messages_with_a_key(service: DashboardService, queue: str) -> None:
    browser = service.browser("owner")
    assert "No erasures" in browser.get(f"{queue}/erasures").text
    answer = browser.post(f"{queue}/erase", data={"key": "<b>7"}, headers=SAME_ORIGIN)
    assert answer.status_code == 303
    assert f"{queue}/erasures" in answer.headers["location"]
    page = browser.get(f"{queue}/erasures").text
    assert "&lt;b&gt;7" in page
    assert '<td class="r" data-name="erased">2</td>' in page
    assert "&lt;b&gt;7" not in browser.get(queue).text
    events = browser.get("/events", params={"kind": "erasure"}).text
    assert "Erasure added" in events
    assert f'{queue.removeprefix("../../dashboard")}/erasures">' in events
    assert "&lt;b&gt;7" not in events


def test_form_without_a_key_erases_nothing(service: DashboardService, queue: str) -> None:
    answer = service.browser("owner").post(f"{queue}/erase", data={"key": ""}, headers=SAME_ORIGIN)
    assert answer.status_code == 422
    assert "must have 1 to 255 characters" in answer.text


def test_viewer_sees_erasures_without_the_form(service: DashboardService, shop: Shop) -> None:
    page = service.browser("viewer").get(f"/queues/{shop.queue}/erasures").text
    assert "No erasures" in page
    assert "Erase messages" not in page
