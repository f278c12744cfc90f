"""Event types of a catalogue in the portal: customers choose among them for their endpoints."""

import re
from collections.abc import Iterator

import pytest

from tests.dashboard.portal.conftest import HOSTS, made
from tests.support.dashboards import DashboardService
from tests.support.portals import Customer, opened, own_queue

TYPES = ("invoice.paid", "order.lost", "order.paid")


@pytest.fixture
def queue(service: DashboardService) -> Iterator[str]:
    """The queue of `shopper`, in an organization with a catalogue."""
    with service.api() as api:
        for each in TYPES:
            made(api, "/event_types", type=each, description=f"About {each}.", example={"type": each, "order": 17})
        api.put("/event_types/order.lost", json={"status": "deprecated"}).raise_for_status()
        yield own_queue(service, "shopper")
        for each in api.get("/listeners?customer=shopper").json()["listeners"]:
            api.delete(f"/queues/{each['queue_id']}/listeners/{each['id']}").raise_for_status()
        for each in TYPES:
            api.delete(f"/event_types/{each}").raise_for_status()


@pytest.fixture
def browser(service: DashboardService, queue: str) -> Customer:
    return opened(service, "shopper")


def offered(page: str) -> dict[str, bool]:
    """Return the event types of a form, and whether they are chosen."""
    boxes = re.findall(r'name="type-([^"]+)"( checked)?>', page)
    return {name: bool(checked) for name, checked in boxes}


def types_of(service: DashboardService) -> list[list[str] | None]:
    with service.api() as api:
        return [each.get("types") for each in api.get("/listeners?customer=shopper").json()["listeners"]]


def add(browser: Customer, queue: str, *types: str) -> int:
    fields = {"has_types": "on", f"queue-{queue}": "on", **{f"type-{each}": "on" for each in types}}
    return browser.act("/endpoints/new", notify_url=f"{HOSTS}/shopper", **fields).status_code


def test_customer_chooses_event_types_of_an_endpoint(service: DashboardService, browser: Customer, queue: str) -> None:
    form = browser.get("/endpoints/new?type=order.paid").text
    assert offered(form) == {"invoice.paid": False, "order.paid": True}
    assert "About order.paid." in form
    assert add(browser, queue, "order.paid") == 200
    assert add(browser, queue) == 200
    assert types_of(service) == [None, ["order.paid"]]
    assert browser.get("").text.count('<span class="sub">order.paid</span>') == 1


def test_customer_changes_event_types_and_keeps_types_that_are_not_offered(
    service: DashboardService, browser: Customer, queue: str
) -> None:
    with service.api() as api:
        types = ["order.lost", "shipment.*"]
        listener = made(api, f"/queues/{queue}/listeners", notify_url=f"{HOSTS}/kept", types=types, customer="shopper")
    path = f"/queues/{queue}/listeners/{listener}/edit"
    form = browser.get(path).text
    assert offered(form) == {"invoice.paid": False, "order.lost": True, "order.paid": False, "shipment.*": True}
    kept = {"notify_url": f"{HOSTS}/kept", "has_types": "on", "type-shipment.*": "on", "type-order.paid": "on"}
    browser.act(path, **kept)
    assert types_of(service) == [["shipment.*", "order.paid"]]
    # A form without event types leaves them alone.
    browser.act(path, notify_url=f"{HOSTS}/other")
    assert types_of(service) == [["shipment.*", "order.paid"]]
    browser.act(path, notify_url=f"{HOSTS}/other", has_types="on")
    assert types_of(service) == [None]


def test_invalid_event_type_of_a_form_is_refused(service: DashboardService, browser: Customer, queue: str) -> None:
    assert add(browser, queue, "order..paid") == 422
    assert types_of(service) == []


def test_page_of_event_types_shows_the_catalogue(browser: Customer) -> None:
    page = browser.get("/event-types").text
    assert re.findall(r"<h2 id=\"type-\d+\">([a-z.]+)", page) == list(TYPES)
    assert page.count("deprecated") == 1
    assert page.count("Add an endpoint<") == 2
    assert "&#34;type&#34;: &#34;order.paid&#34;" in page


def test_test_begins_with_the_example_of_a_type_of_the_endpoint(
    service: DashboardService, browser: Customer, queue: str
) -> None:
    with service.api() as api:
        fields = {"notify_url": f"{HOSTS}/tested", "types": ["order.*"], "customer": "shopper"}
        path = f"/queues/{queue}/listeners/{made(api, f'/queues/{queue}/listeners', **fields)}/test"
    form = browser.get(path).text
    assert re.findall(r"<option( selected)?>([a-z.]+)</option>", form) == [
        (" selected", "order.lost"),
        ("", "order.paid"),
    ]
    assert 'value="order.paid"' in browser.get(f"{path}?type=order.paid").text
    assert "&#34;type&#34;: &#34;order.paid&#34;" in browser.get(f"{path}?type=order.paid").text


def test_catalogue_of_another_organization_is_not_shown(service: DashboardService, queue: str) -> None:
    with service.api() as api:
        other = api.post("/organizations", json={"alias": "com.example.bystander"}).json()
        api.headers["x-api-key"] = other["api_key"]["key"]
        assert api.get("/event_types").json()["event_types"] == []
        assert api.get("/event_types/order.paid").status_code == 404
