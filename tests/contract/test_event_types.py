"""Types of messages, as clients see them."""

import json
from typing import Any

import pytest

from tests.contract.caller import Caller, body, pointers
from tests.contract.reference import covers
from tests.contract.test_delivery import listening
from tests.support.receiver import Receiver

EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop", "ce-subject": "order-17"}
WRONG = ["", "a b", "orders.*", ">", "a..b", "é", "a" * 256]


@covers("messages.md# Types")
def test_type_is_shown_and_delivered(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, _ = listening(owner, endpoint)
    made = owner.create(f"{path}/messages", data="x", type="order.paid")
    [received] = endpoint.until(1)
    [listed] = owner.get(f"{path}/messages")["messages"]
    assert received.headers["discue-type"] == listed["type"] == owner.shown(f"{path}/messages/{made['id']}")["type"]
    assert listed["type"] == "order.paid"
    owner.create(f"{path}/messages", data="x")
    [_, untyped] = endpoint.until(2)
    assert "discue-type" not in untyped.headers
    assert "type" not in owner.get(f"{path}/messages")["messages"][0]


def test_type_of_a_pulled_message_is_shown(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}"
    listener = owner.create(f"{path}/listeners", mode="pull")["id"]
    batch = {"messages": [{"data": 1, "type": "order.paid"}, {"data": 2}]}
    owner.ask("POST", f"{path}/messages/batch", batch)
    first, second = owner.get(f"{path}/listeners/{listener}/messages")["messages"]
    assert (first["type"], first["headers"]) == ("order.paid", {"discue-type": "order.paid"})
    assert "type" not in second


@pytest.mark.parametrize("event_type", WRONG)
def test_invalid_type_is_refused(owner: Caller, event_type: str) -> None:
    queue, topic = f"/queues/{owner.create('/queues')['id']}", f"/topics/{owner.create('/topics')['id']}"
    for path in (f"{queue}/messages", f"{topic}/messages"):
        assert pointers(owner.refused(422, "POST", path, {"data": "x", "type": event_type})) == ["/type"]
        batch = {"messages": [{"data": "x"}, {"data": "x", "type": event_type}]}
        assert pointers(owner.refused(422, "POST", f"{path}/batch", batch)) == ["/messages/1/type"]
    schedule = {"cron": "@daily", "data": "x", "type": event_type}
    assert pointers(owner.refused(422, "POST", f"{queue}/schedules", schedule)) == ["/type"]
    assert owner.get(f"{queue}/messages")["messages"] == []


def test_header_with_another_type_is_refused(owner: Caller) -> None:
    queue = f"/queues/{owner.create('/queues')['id']}"
    fields: dict[str, Any] = {"data": "x", "type": "order.paid", "headers": {"CE-Type": "order.sent"}}
    for path, more in (("messages", {}), ("schedules", {"cron": "@daily"})):
        refused = owner.refused(422, "POST", f"{queue}/{path}", {**fields, **more})
        assert (refused["code"], pointers(refused)) == ("conflicting_fields", ["/headers/CE-Type"])
        owner.create(f"{queue}/{path}", **{**fields, "headers": {"ce-type": "order%2Epaid"}}, **more)
    [message] = owner.get(f"{queue}/messages")["messages"]
    assert message["type"] == "order.paid"


def test_schedule_has_a_type_until_it_is_removed(owner: Caller) -> None:
    place = f"/queues/{owner.create('/queues')['id']}/schedules"
    made = owner.create(place, cron="@daily", data="x", type="report.due")
    path = f"{place}/{made['id']}"
    assert owner.get(place)["schedules"][0]["type"] == owner.change(path, key="k")["type"] == "report.due"
    assert pointers(owner.refused(422, "PUT", path, {"headers": {"ce-type": "other"}})) == ["/headers/ce-type"]
    assert "type" not in owner.change(path, type=None)


@pytest.mark.parametrize(("given", "stored"), [("com.example.order.paid", True), ("order paid", False)])
@pytest.mark.parametrize("mode", ["binary", "structured", "batch"])
def test_type_of_a_published_event_is_that_of_its_message(
    owner: Caller, mode: str, given: str, *, stored: bool
) -> None:
    path = f"/queues/{owner.create('/queues')['id']}/messages"
    headers = {**EVENT, "ce-type": given.replace(" ", "%20"), "content-type": "text/plain"}
    content, place = b"x", path
    if mode != "binary":
        event = {**{name.removeprefix("ce-"): value for name, value in EVENT.items()}, "type": given, "data": "x"}
        suffix = "-batch" if mode == "batch" else ""
        headers = {"content-type": f"application/cloudevents{suffix}+json"}
        content = json.dumps([event] if suffix else event).encode()
        place = f"{path}/batch" if suffix else path
    body(owner.ask("POST", place, content, headers=headers))
    [message] = owner.get(path)["messages"]
    assert message.get("type") == (given if stored else None)
    assert message["headers"]["ce-subject"] == "order-17"


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_message_becomes_an_event_of_its_type(owner: Caller, receiver: Receiver, mode: str) -> None:
    endpoint = receiver.endpoint()
    path, _ = listening(owner, endpoint, format=f"cloudevents_{mode}")
    owner.create(f"{path}/messages", data={"order": 17}, type="order.paid")
    [received] = endpoint.until(1)
    named = received.headers.get("ce-type") if mode == "binary" else json.loads(received.content)["type"]
    assert (named, received.headers["discue-type"]) == ("order.paid", "order.paid")
