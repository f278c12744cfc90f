"""The page of a message: bounded in size, whatever the message has."""

import re
from html import unescape
from typing import Any

import pytest

from discue.dashboard.pages.message import PAGE_BYTES
from tests.support.dashboard_shop import HOSTS
from tests.support.dashboards import DashboardService

_DATA = '"&<>' * 30_000
_FIELDS = {"data": _DATA, "key": '"' * 255, "alias": "m" * 64, "headers": {f"x-{n}": "&" * 1_000 for n in range(4)}}


def _publish(service: DashboardService, listeners: int, attempts: int) -> str:
    """Publish the largest message, to listeners that respond to each attempt with large errors. Return its path."""
    with service.api() as api:
        queue = api.post("/queues", json={"alias": f"largest-{listeners}-{attempts}"}).json()["queue"]["id"]
        for number in range(listeners):
            name, retry = f"{number:0>64}", {"schedule": [1], "attempts": attempts}
            fields: dict[str, Any] = {"alias": name, "notify_url": f"http://{HOSTS}:9007/", "retry": retry}
            api.post(f"/queues/{queue}/listeners", json=fields).raise_for_status()
        answer = api.post(f"/queues/{queue}/messages", json=_FIELDS)
        answer.raise_for_status()
    for _ in range(attempts):
        service.settle()
        service.advance(1)
    return f"/queues/{queue}/messages/{answer.json()['message']['id']}"


@pytest.mark.parametrize(("listeners", "attempts"), [(1, 1), (1, 25), (12, 3)])
def test_largest_page_of_a_message_has_60_kb(service: DashboardService, listeners: int, attempts: int) -> None:
    path, browser = _publish(service, listeners, attempts), service.browser()
    page = browser.get(path)
    assert PAGE_BYTES * 0.9 < len(page.content) <= PAGE_BYTES
    groups = re.findall(
        r'<p class="soft">(Listeners that need attention|All other listeners, the newest first)</p>', page.text
    )
    assert len(groups) == (2 if listeners > 10 else 0)
    # Both the data and the response are cut, and lead to what is left out.
    links = re.findall(r'The beginning of [^<]+ <a href="[^"]*/dashboard([^"]+)">Show the whole</a>', page.text)
    whole = [browser.get(link) for link in links]
    assert [each.text for each in whole] == ["&" * 16_384, _DATA]
    for each in whole:
        assert each.headers["content-type"] == "text/plain; charset=utf-8"
        assert each.headers["x-content-type-options"] == "nosniff"
        assert each.headers["content-security-policy"].startswith("default-src 'none'")
    for each in links:
        assert service.browser("viewer").get(each).status_code == 200
        assert service.foreign_browser().get(each).status_code == 404
    assert service.browser(None).get(links[0]).status_code == 303


def test_next_attempt_is_not_shown_once_its_time_has_passed(service: DashboardService) -> None:
    with service.api() as api:
        queue = api.post("/queues").json()["queue"]["id"]
        fields: dict[str, Any] = {"alias": "held", "notify_url": f"http://{HOSTS}:9003/", "retry": {"schedule": [60]}}
        api.post(f"/queues/{queue}/listeners", json=fields).raise_for_status()
        message = api.post(f"/queues/{queue}/messages", json={"data": {"order": 5_000}}).json()["message"]["id"]
        service.settle()
        browser, path = service.browser(), f"/queues/{queue}/messages/{message}"
        assert "1 attempt, the next one" in browser.get(path).text
        api.put(f"/queues/{queue}/listeners/held", json={"status": "disabled"}).raise_for_status()
        service.advance(120)
        page = browser.get(path).text
        assert ("The listener is disabled" in page, "1 attempt" in page, "the next one" in page) == (True, True, False)
        api.delete(f"/queues/{queue}").raise_for_status()


def test_test_request_is_offered_for_push_listeners_only(service: DashboardService) -> None:
    with service.api() as api:
        api.put("/queues/mixed").raise_for_status()
        pulled = api.put("/queues/mixed/listeners/pulled", json={"mode": "pull"}).json()["listener"]
        sent = api.put("/queues/mixed/listeners/sent", json={"notify_url": f"http://{HOSTS}:9001/"}).json()["listener"]
        message = api.post("/queues/mixed/messages", json={"data": {"order": 1}}).json()["message"]["id"]
    page = service.browser().get(f"/queues/{sent['queue_id']}/messages/{message}").text

    assert f"/listeners/{sent['id']}/test?message={message}" in page
    assert f"/listeners/{pulled['id']}/test" not in page


def test_attempt_can_be_repeated_with_curl_at_the_url_of_the_listener(service: DashboardService) -> None:
    url = f"https://{HOSTS}:9003/webhooks/orders?shop=1"
    with service.api() as api:
        api.put("/queues/repeated").raise_for_status()
        listener = api.put("/queues/repeated/listeners/crm", json={"notify_url": url}).json()["listener"]
        message = api.post("/queues/repeated/messages", json={"data": {"order": 5_000}}).json()["message"]["id"]
        service.settle()
        page = service.browser().get(f"/queues/{listener['queue_id']}/messages/{message}").text
        api.delete("/queues/repeated").raise_for_status()

    assert f"curl -i -X POST '{url}' \\\n" in unescape(page)


def test_withheld_response_is_not_shown_as_a_missing_one(service: DashboardService) -> None:
    with service.api() as api:
        api.put("/queues/private").raise_for_status()
        fields = {"notify_url": f"http://{HOSTS}:9008/"}
        listener = api.put("/queues/private/listeners/app", json=fields).json()["listener"]
        message = api.post("/queues/private/messages", json={"data": {"order": 1}}).json()["message"]["id"]
        service.settle()
        page = service.browser().get(f"/queues/{listener['queue_id']}/messages/{message}").text
        api.delete("/queues/private").raise_for_status()

    assert '<h4>Response</h4><p class="soft">Not shown, because the address is not public.</p>' in page
    assert "The details are not shown, because the address is not public" in page
    assert [text for text in ("No response", "There was none.", "0 ms") if text in page] == []


def test_message_that_every_filter_excludes_is_shown_as_filtered(service: DashboardService) -> None:
    fields = {"notify_url": f"http://{HOSTS}:9001/", "filter": {"data": {"state": "paid"}}}
    with service.api() as api:
        api.put("/queues/excluding").raise_for_status()
        listener = api.put("/queues/excluding/listeners/paid", json=fields).json()["listener"]
        message = api.post("/queues/excluding/messages", json={"data": {"state": "open"}}).json()["message"]["id"]
    service.settle()
    page = service.browser().get(f"/queues/{listener['queue_id']}/messages/{message}").text
    [heading] = re.findall(r"<h1>.*</h1>", page)

    assert '<span class="badge filtered">filtered</span>' in heading
