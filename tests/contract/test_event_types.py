"""Types of messages, as clients see them."""

import json
from typing import Any

import pytest

from tests.contract.caller import Caller, body, pointers
from tests.contract.reference import covers
from tests.contract.test_delivery import listening, until_sent
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
    owner.create("/event_types", type="order.paid")
    parameters = owner.get("/event_types.openapi.json")["webhooks"]["order.paid"]["post"]["parameters"]
    named = {each["name"] for each in parameters}
    assert {"discue-type", "discue-queue", "discue-sequence", "webhook-signature"} <= named <= set(received.headers)
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
    assert first["type"] == first["headers"]["discue-type"] == "order.paid"
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


def _published(owner: Caller, path: str) -> dict[str, str]:
    """Publish messages of some types, and one without. Returns their ids by type."""
    types = ["order.paid", "order.eu.paid", "invoice.paid", "invoice", ""]
    batch = [{"data": {"n": n}, **({"type": each} if each else {})} for n, each in enumerate(types)]
    made = body(owner.ask("POST", f"{path}/messages/batch", {"messages": batch}))["messages"]
    return {each: message["id"] for each, message in zip(types, made, strict=True)}


@covers("listeners.md# Types")
def test_listener_gets_only_messages_of_its_types(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, listener = listening(owner, endpoint, types=["order.*", "invoice", "invoice.refunded"])
    ids = _published(owner, path)
    last = owner.create(f"{path}/messages", data="last", type="order.last")["id"]
    received = endpoint.until(3)
    wanted = {ids["order.paid"], ids["invoice"], last}
    assert {each.headers["webhook-id"] for each in received} == wanted
    counts = owner.until(f"{path}/listeners/{listener['id']}", lambda shown: not shown["messages"]["pending_count"])
    assert (counts["messages"]["acknowledged_count"], counts["messages"]["missed_count"]) == (3, 0)
    for message in ids.values():
        [delivery] = owner.shown(f"{path}/messages/{message}")["deliveries"]
        assert delivery["state"] == ("acknowledged" if message in wanted else "filtered")
    filtered = [message for message in ids.values() if message not in wanted]
    for message in filtered:
        assert len(owner.get(f"{path}/messages/{message}/deliveries?state=filtered")["deliveries"]) == 1


def test_pulling_listener_gets_only_messages_of_its_types(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}"
    listener = owner.create(f"{path}/listeners", mode="pull", types=["invoice.>"], filter={"data": {"n": {"$gt": 0}}})
    ids = _published(owner, path)
    pulled = owner.get(f"{path}/listeners/{listener['id']}/messages")["messages"]
    assert [each["id"] for each in pulled] == [ids["invoice.paid"]]


def test_types_apply_before_the_filter_and_both_must_match(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, _ = listening(owner, endpoint, types=["order.>"], filter={"data": {"n": {"$gt": 0}}})
    ids = _published(owner, path)
    [received] = endpoint.until(1)
    assert received.headers["webhook-id"] == ids["order.eu.paid"]


def test_changed_types_apply_to_messages_that_wait(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, made = listening(owner, endpoint, types=["order.paid"], status="disabled")
    listener = f"{path}/listeners/{made['id']}"
    ids = _published(owner, path)
    assert owner.change(listener, types=["invoice.paid"])["types"] == ["invoice.paid"]
    owner.change(listener, status="enabled")
    assert [each.headers["webhook-id"] for each in endpoint.until(1)] == [ids["invoice.paid"]]
    assert "types" not in owner.change(listener, types=None)
    # The worker that sends may learn of the change a moment later.
    received = until_sent(owner, f"{path}/messages", endpoint, lambda each: "discue-type" not in each.headers)
    assert received.content == b"x"


@pytest.mark.parametrize(
    ("types", "status", "pointer"),
    [
        ([], 422, "/types"),
        (["a"] * 101, 422, "/types"),
        (["order.paid", "a b"], 422, "/types/1"),
        (["order.>.paid"], 422, "/types/0"),
        (["order*"], 422, "/types/0"),
        ([""], 422, "/types/0"),
        (["a", None], 400, "/types/1"),
        ("order.paid", 400, "/types"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_invalid_types_are_refused(owner: Caller, types: Any, status: int, pointer: str) -> None:
    path = f"/queues/{owner.create('/queues')['id']}/listeners"
    made = owner.create(path, mode="pull", types=["a"] * 100)
    assert pointers(owner.refused(status, "POST", path, {"mode": "pull", "types": types})) == [pointer]
    assert pointers(owner.refused(status, "PUT", f"{path}/{made['id']}", {"types": types})) == [pointer]
    assert owner.shown(f"{path}/{made['id']}")["types"] == ["a"] * 100


def test_listener_of_system_events_chooses_by_type(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    system = "/queues/system%2Fevents/listeners"
    owner.create(system, notify_url=endpoint.url, liveness_url=endpoint.url, types=["listener.*"])
    path, made = listening(owner, receiver.endpoint())
    owner.change(f"{path}/listeners/{made['id']}", status="disabled")
    [received] = endpoint.until(1)
    assert received.headers["discue-type"] == json.loads(received.content)["type"] == "listener.disabled"
