"""CloudEvents that are published, as the official SDK writes and reads them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from standardwebhooks import Webhook, WebhookVerificationError

from tests.contract.caller import Caller, body, fresh, pointers, problem
from tests.contract.reference import covers
from tests.contract.test_delivery import listening
from tests.support.receiver import Receiver

ATTRIBUTES = {
    "id": "order-17-paid",
    "source": "https://shop.example.com",
    "type": "com.example.order.paid",
    "subject": 'order "17" – café',
    "time": datetime(2026, 7, 1, 12, tzinfo=UTC),
    "tenant": "north",
    "partitionkey": "customer-9",
}
MINIMAL = {"specversion": "1.0", "id": "one", "source": "/shop", "type": "paid"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}


def _sent(mode: str, event: CloudEvent) -> HTTPMessage:
    writes = to_binary_event if mode == "binary" else to_structured_event
    return writes(event, JSONFormat())


@covers("messages.md# Publish events")
@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize(("media_type", "data"), [("application/json", {"order": 17}), ("text/plain", "seventeen")])
def test_an_event_reaches_listeners_as_it_was_sent(
    owner: Caller, receiver: Receiver, mode: str, media_type: str, data: Any
) -> None:
    event = CloudEvent({**ATTRIBUTES, "datacontenttype": media_type}, data)
    endpoint = receiver.endpoint()
    path, _ = listening(owner, endpoint, format=f"cloudevents_{mode}")
    message = _sent(mode, event)
    made = body(owner.ask("POST", f"{path}/messages", bytes(message.body), headers=dict(message.headers)))["message"]
    [received] = endpoint.until(1)
    again = from_http_event(HTTPMessage(dict(received.headers), received.content))
    assert {name: again.get_attributes()[name] for name in event.get_attributes()} == event.get_attributes()
    assert again.get_data() == data
    assert received.headers["webhook-id"] == made["id"] != "order-17-paid"
    shown = owner.shown(f"{path}/messages/{made['id']}")
    assert shown["key"] == "customer-9"
    assert shown["headers"]["ce-tenant"] == "north"


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_a_message_reaches_listeners_as_an_event_that_is_signed(owner: Caller, receiver: Receiver, mode: str) -> None:
    endpoint = receiver.endpoint()
    path, listener = listening(owner, endpoint, format=f"cloudevents_{mode}")
    message = owner.create(f"{path}/messages", data={"order": 17}, headers={"ce-type": "order.paid"})
    [received] = endpoint.until(1)
    event = from_http_event(HTTPMessage(dict(received.headers), received.content))
    assert (event.get_id(), event.get_type(), event.get_data()) == (message["id"], "order.paid", {"order": 17})
    signed = Webhook(listener["secret"])
    assert signed.verify(received.content, received.headers)
    with pytest.raises(WebhookVerificationError):
        signed.verify(received.content + b" ", received.headers)


def test_a_batch_is_stored_whole_or_not_at_all(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}/messages"
    events: list[dict[str, Any]] = [{**MINIMAL, "data": n} for n in range(3)]
    content = body(owner.ask("POST", f"{path}/batch", json.dumps(events).encode(), headers=BATCH))
    assert len(content["messages"]) == 3
    assert owner.shown(f"{path}/{content['messages'][2]['id']}")["data"] == 2
    events[1]["time"] = "noon"
    refused = owner.ask("POST", f"{path}/batch", json.dumps(events).encode(), headers=BATCH)
    assert pointers(problem(refused, 422)) == ["/1/time"]
    problem(owner.ask("POST", f"{path}/batch", b"[]", headers=BATCH), 422)
    assert len(owner.get(path)["messages"]) == 3


@pytest.mark.parametrize(
    ("headers", "content", "status", "pointer"),
    [
        (STRUCTURED, json.dumps({"specversion": "1.0"}).encode(), 400, "/id"),
        (STRUCTURED, json.dumps({**MINIMAL, "specversion": "2.0"}).encode(), 422, "/specversion"),
        (STRUCTURED, b'{"id":"a","id":"b"}', 400, "/id"),
        ({"ce-specversion": "1.0", "Content-Type": "text/plain"}, b"x", 400, "/headers/ce-id"),
    ],
)
def test_invalid_event_is_refused(
    owner: Caller, headers: dict[str, str], content: bytes, status: int, pointer: str
) -> None:
    path = f"/queues/{owner.create('/queues')['id']}/messages"
    assert pointers(problem(owner.ask("POST", path, content, headers=headers), status)) == [pointer]
    assert owner.get(path)["messages"] == []


def test_events_go_where_they_are_taken(owner: Caller) -> None:
    queue = f"/queues/{owner.create('/queues')['id']}"
    content = json.dumps({**MINIMAL, "data": 1}).encode()
    for place, headers in (
        (f"{queue}/messages", BATCH),
        (f"{queue}/messages/batch", STRUCTURED),
        ("/queues", STRUCTURED),
    ):
        problem(owner.ask("POST", place, content, headers=headers), 415)


def test_data_must_fit_the_schema_of_the_queue(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues', schema={'n': {'type': 'number'}})['id']}/messages"
    binary = {**{f"ce-{name}": value for name, value in MINIMAL.items()}, "Content-Type": "application/json"}
    assert body(owner.ask("POST", path, b'{"n":1}', headers=binary))
    assert pointers(problem(owner.ask("POST", path, b'{"n":"x"}', headers=binary), 422)) == ["/n"]
    content = json.dumps({**MINIMAL, "data": {"n": "x"}}).encode()
    assert pointers(problem(owner.ask("POST", path, content, headers=STRUCTURED), 422)) == ["/data/n"]


def test_an_idempotency_key_is_of_the_attributes_too(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}/messages"
    binary = {**{f"ce-{name}": value for name, value in MINIMAL.items()}, "Content-Type": "text/plain"}
    binary["Idempotency-Key"] = fresh("key")
    first, second = (body(owner.ask("POST", path, b"x", headers=binary)) for _ in range(2))
    assert first["message"]["id"] == second["message"]["id"]
    problem(owner.ask("POST", path, b"x", headers={**binary, "ce-id": "two"}), 422)
    assert len(owner.get(path)["messages"]) == 1
