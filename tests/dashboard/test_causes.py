"""Lists show why attempts failed, and the beginnings of the data of messages."""

import re
from typing import Any

import httpx
import pytest

from tests.dashboard.portal.conftest import REFUSING
from tests.support.dashboard_shop import HOSTS, Shop
from tests.support.dashboards import DashboardService
from tests.support.portals import opened
from tests.support.ports import free_port

BROKEN = "503 Service Unavailable"
REFUSED = "422 Unprocessable"


def row(page: httpx.Response, name: str) -> str:
    """Return the text of the row of a table with a text."""
    rows = re.findall(r"<tr[ >].*?</tr>", page.text, re.DOTALL)
    texts = [" ".join(re.sub(r"<[^>]*>", " ", each).split()) for each in rows]
    return next(each for each in texts if name in each)


@pytest.mark.parametrize("path", ["/listeners", "/queues/{queue}/listeners", ""])
def test_row_of_a_listener_has_its_last_failure(service: DashboardService, shop: Shop, path: str) -> None:
    page = service.browser().get(path.format(queue=shop.queue))
    assert BROKEN in row(page, "crm-sync")
    assert REFUSED in row(page, "tax-report")
    if path:
        assert not re.search(r"\b[345]\d\d ", row(page, "billing"))


def test_refused_connection_and_a_status_are_shown_differently(service: DashboardService, shop: Shop) -> None:
    with service.api() as api:
        queue = _made(api, "/queues", alias="causes")
        for name, url in (("closed", f"http://127.0.0.1:{free_port()}"), ("failing", f"http://{HOSTS}:9003/x")):
            _made(api, f"/queues/{queue}/listeners", alias=f"{name}-port", notify_url=url)
        _made(api, f"/queues/{queue}/messages", data={"order": 5_000})
        service.settle()
        page = service.browser().get(f"/queues/{queue}/listeners")
        assert "retrying The connection was refused." in row(page, "closed-port")
        assert f"retrying {BROKEN}" in row(page, "failing-port")
        api.delete(f"/queues/{queue}").raise_for_status()


@pytest.mark.parametrize("path", ["/missed?listener={listener}", "/queues/{queue}/listeners/{listener}/missed"])
def test_row_of_a_missed_message_has_its_last_failure(service: DashboardService, shop: Shop, path: str) -> None:
    page = service.browser().get(path.format(queue=shop.queue, listener=shop.listeners["tax-report"]))
    assert f"final status {REFUSED}" in row(page, shop.messages[-1])


@pytest.mark.parametrize("path", ["/queues/{queue}", "/search?q=queue:orders+key:customer-7"])
def test_row_of_a_message_has_its_last_failure_and_a_preview(service: DashboardService, shop: Shop, path: str) -> None:
    browser = service.browser("viewer")
    text = row(browser.get(path.format(queue=shop.queue)), shop.messages[-1])
    assert "{&#34;order&#34;:4999,&#34;state&#34;:&#34;paid&#34;" in text
    assert re.search(rf"(missed|retrying) ({BROKEN}|{REFUSED})", text)


def test_row_of_a_message_without_a_failure_has_none(service: DashboardService, shop: Shop) -> None:
    page = service.browser().get(f"/queues/{shop.blocked_queue}")
    text = row(page, shop.blocked)
    assert "{&#34;invoice&#34;:2}" in text
    assert not re.search(r"\b[345]\d\d ", text)


def test_preview_of_a_long_body_is_one_short_line(service: DashboardService) -> None:
    with service.api() as api:
        queue = _made(api, "/queues", alias="long-bodies")
        message = _made(api, f"/queues/{queue}/messages", data="<b>first\n  line</b> " + "ä" * 100_000)
        page = service.browser().get(f"/queues/{queue}")
        assert "&lt;b&gt;first line&lt;/b&gt; ää" in row(page, message)
        assert row(page, message).count("ä") < 60
        assert "ä…" in row(page, message)
        api.delete(f"/queues/{queue}").raise_for_status()


def test_search_for_a_name_shows_the_last_failure_of_each_listener(service: DashboardService, shop: Shop) -> None:
    with service.api() as api:
        queue = _made(api, "/queues", alias="namesakes")
        _made(api, f"/queues/{queue}/listeners", alias="crm-sync", notify_url=f"http://{HOSTS}:9001/x")
        page = service.browser().get("/search?q=crm-sync")
        assert re.search(rf"Last failure .*: {BROKEN}", row(page, "listener of orders"))
        assert "Last failure" not in row(page, "listener of namesakes")
        api.delete(f"/queues/{queue}").raise_for_status()


def test_row_of_a_redelivery_has_the_last_failure_since_its_start(service: DashboardService, shop: Shop) -> None:
    path = shop.listener("tax-report")
    with service.api() as api:
        _made(api, f"{path}/redeliveries", messages=[shop.messages[-2]])
    service.settle()
    browser = service.browser()
    for list_path in ("/jobs", f"{path}/jobs"):
        assert REFUSED in row(browser.get(list_path), "done")


def test_customer_sees_the_last_failure_and_no_data_in_lists(service: DashboardService) -> None:
    with service.api() as api:
        queue = _made(api, "/queues", alias="customers-causes")
        path = f"/queues/{queue}/listeners"
        fields: dict[str, Any] = {"customer": "initrode", "retry": {"attempts": 1}}
        listener = _made(api, path, notify_url=f"{REFUSING}/initrode", **fields)
        message = _made(api, f"/queues/{queue}/messages", data={"order": 4_990, "secret": "of the order"})
        service.settle()
        customer = opened(service, "initrode", queue)
        missed = customer.get(f"{path}/{listener}/missed")
        assert f"attempts used up {BROKEN}" in row(missed, message)
        assert BROKEN in row(customer.get(""), "/initrode")
        assert "of the order" not in missed.text
        api.delete(f"/queues/{queue}").raise_for_status()


def _made(api: httpx.Client, path: str, **fields: Any) -> str:
    answer = api.post(path, json=fields)
    assert answer.status_code == 200, answer.text
    return next(str(value["id"]) for name, value in answer.json().items() if name != "_links")


def test_missed_starts_with_the_causes(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    page = browser.get("/missed")
    text = row(page, "final status, 422")
    assert "tax-report" in text
    assert "Redeliver five, then the rest" in text
    group = re.search(r'href="[^"]*/missed\?group=([0-9A-Za-z]{22})">final status, 422', page.text)
    assert group is not None
    listed = browser.get(f"/missed?group={group[1]}")
    assert "Causes of missed messages" not in listed.text
    assert row(listed, shop.messages[-1])
    of_listener = browser.get(f"{shop.listener('tax-report')}/missed")
    assert row(of_listener, "final status, 422")
    form = browser.get(f"{shop.listener('tax-report')}/redeliver?group={group[1]}&trial=5").text
    assert f'name="group" value="{group[1]}"' in form
    assert "first 5 of them, one after the other" in form
    assert browser.get("/missed?group=x").status_code == 200


def test_customer_redelivers_a_cause_with_a_trial(service: DashboardService) -> None:
    with service.api() as api:
        queue = _made(api, "/queues", alias="customers-groups")
        path = f"/queues/{queue}/listeners"
        fields: dict[str, Any] = {"customer": "initrode", "retry": {"attempts": 1}}
        listener = _made(api, path, notify_url=f"{REFUSING}/initrode", **fields)
        _made(api, f"/queues/{queue}/messages", data={"order": 4_990})
        service.settle()
        customer = opened(service, "initrode", queue)
        place = f"{path}/{listener}"
        page = customer.get(f"{place}/missed")
        assert "Redeliver five, then the rest" in row(page, "attempts used up, 503")
        group = re.search(r"redeliver\?group=([0-9A-Za-z]{22})", page.text)
        assert group is not None
        answer = customer.act(f"{place}/redeliver", group=group[1], trial="5")
        assert answer.status_code == 303, answer.text
        service.settle()
        assert "stopped 503" in row(customer.get(f"{place}/jobs"), "stopped")
        assert "stopped 503" in row(service.browser().get(f"{place}/jobs"), "stopped")
        api.delete(f"/queues/{queue}").raise_for_status()
