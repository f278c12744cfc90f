"""The overview counts what waits, and names listeners that need attention: not those that are at work."""

import re
from collections.abc import Iterator

import pytest

from discue.dashboard.pages import overview
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import Browser, DashboardService


@pytest.fixture
def leasing(service: DashboardService, shop: Shop) -> Iterator[str]:
    """The path of a listener in pull mode, with three messages of which a consumer has leased two."""
    with service.api() as api:
        api.post("/queues", json={"alias": "leased"}).raise_for_status()
        made = api.post("/queues/leased/listeners", json={"alias": "puller", "mode": "pull"}).json()["listener"]
        path = f"/queues/{made['queue_id']}/listeners/{made['id']}"
        batch = {"messages": [{"data": {"order": each}} for each in range(3)]}
        api.post("/queues/leased/messages/batch", json=batch).raise_for_status()
        assert len(api.get(f"{path}/messages", params={"max": 2}).json()["messages"]) == 2
        yield path
        api.delete(f"/queues/{made['queue_id']}").raise_for_status()


def test_listener_whose_consumers_work_needs_no_attention(service: DashboardService, leasing: str) -> None:
    browser = service.browser()
    page = browser.get(leasing).text
    assert "3 deliveries wait for it, 2 of them leased to consumers" in page
    assert 'class="badge pending">waiting<' in page
    assert leasing not in browser.get("").text
    [row] = [each for each in browser.get("/listeners?alias=puller").text.split("<tr>") if leasing in each]
    assert '2<span class="sub">or leased</span>' in row


def test_waiting_deliveries_are_counted_with_the_listeners_that_they_wait_for(
    service: DashboardService, leasing: str
) -> None:
    with service.api() as api:
        waiting = [each["messages"]["pending_count"] for each in api.get("/listeners").json()["listeners"]]
    shown = re.search(r"Waiting</span><span class=\"v\">(\d+)</span>\s*<span class=\"s\">([^<]+)<", _overview(service))
    assert shown is not None
    assert shown.groups() == (str(sum(waiting)), f"deliveries to {sum(each > 0 for each in waiting)} listeners")


def test_listeners_that_need_attention_are_all_counted_and_the_most_urgent_shown(
    service: DashboardService, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = re.search(r"(\d+) listeners need attention", _overview(service))
    assert whole is not None
    monkeypatch.setattr(overview, "_SHOWN", 1)
    page = _overview(service)
    assert f"{whole[1]} listeners need attention" in page
    assert f"The 1 most urgent of {whole[1]}." in page


def test_overview_says_which_listeners_it_looks_at(
    service: DashboardService, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "LISTENERS_READ", 2)
    assert "Among the newest 2 listeners" in _overview(service)


def _overview(service: DashboardService) -> str:
    browser: Browser = service.browser()
    return browser.get("").text
