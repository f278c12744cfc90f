"""The overview counts what waits, and names listeners that need attention: not those that are at work."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from discue.dashboard.pages import overview
from discue.domain.listener_health import Liveness
from discue.store import listeners
from discue.store.engine import Transaction
from discue.store.listeners import HealthRecord, ListenerHealth, write_health
from discue.store.tables import read_number
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import Browser, DashboardService, dashboard_service


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
        found = api.get("/listeners", params={"per_page": overview.LISTENERS_READ}).json()["listeners"]
    waiting = [each["messages"]["pending_count"] for each in found]
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
    assert "Of 2 listeners: the newest, and those that are inactive." in _overview(service)


def test_inactive_listener_is_shown_however_many_are_newer(
    service: DashboardService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "LISTENERS_READ", 1)
    with service.api() as api:
        queue = api.put("/queues/inactive").json()["queue"]["id"]
        urls = {"notify_url": "http://127.0.0.1:9/", "liveness_url": "http://127.0.0.1:9/alive"}
        older, newer = [api.post(f"/queues/{queue}/listeners", json=urls).json()["listener"]["id"] for _ in range(2)]
        assert older not in _overview(service)

        async def work(tx: Transaction) -> None:
            organization = service.principal.organization
            listener = await listeners.get(tx, organization, older)
            assert listener is not None
            token = await read_number(tx, "SELECT token FROM cursor WHERE listener = $1", listener.id)
            known = ListenerHealth(Liveness(state="inactive", in_a_row=-3))
            made = HealthRecord(organization, listener.id, token, urls["liveness_url"], listener.config_version, known)
            assert await write_health(tx, [made]) == {listener.id}

        service.run(service.control.store.write(work))
        page = _overview(service)
        assert older in page
        assert newer not in page
        api.delete(f"/queues/{queue}").raise_for_status()


def _overview(service: DashboardService) -> str:
    browser: Browser = service.browser()
    return browser.get("").text


def test_new_installation_shows_its_next_step(tmp_path: Path) -> None:
    steps = []

    def note(browser: Browser) -> None:
        page = browser.get("").text
        steps.extend(re.findall(r'<a class="button main" href="dashboard([^"]*)">([^<]+)</a>', page))
        assert ("No attempts in" in page, '<figure class="chart"' in page) == (True, False)

    with dashboard_service(tmp_path) as service, service.api() as api:
        browser = service.browser()
        note(browser)
        queue = api.put("/queues/orders").json()["queue"]["id"]
        note(browser)
        # Without a listener, a message that is published leads to no attempt.
        api.post("/queues/orders/messages", json={"data": 1}).raise_for_status()
        note(browser)
        api.put("/queues/orders/listeners/billing", json={"notify_url": "http://127.0.0.1:9/"}).raise_for_status()
        note(browser)
        note(service.browser("viewer"))
        for path in (f"/queues/{queue}/publish", f"/queues/{queue}/listeners/new"):
            assert browser.get(path).status_code == 200
        api.post("/queues/orders/messages", json={"data": 1}).raise_for_status()
        service.settle()
        sent = browser.get("").text

    add = (f"/queues/{queue}/listeners/new", "Add a listener")
    assert steps == [("/queues/new", "Create a queue"), add, add, (f"/queues/{queue}/publish", "Publish a message")]
    assert '<figure class="chart"' in sent
    assert "No attempts in" not in sent
