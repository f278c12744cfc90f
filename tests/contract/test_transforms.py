"""Transforms of listeners: what listeners receive, and what becomes of messages without a body."""

import json
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.contract.caller import Caller, pointers
from tests.contract.reference import covers
from tests.contract.test_delivery import listening, until_sent
from tests.support.receiver import Receiver, Reply

TEXT = "{text: join(' ', ['Order', to_string(data.order), not_null(type, 'of no type')])}"
MISSED = {"reason": "transform"}


@covers("listeners.md# Transforms")
def test_listener_receives_the_result_signed(owner: Caller, receiver: Receiver) -> None:
    endpoint, plain = receiver.endpoint(Reply(503), Reply(200)), receiver.endpoint()
    path, listener = listening(owner, endpoint, transform=TEXT, retry=[1])
    owner.create(f"{path}/listeners", notify_url=plain.url)
    assert owner.shown(f"{path}/listeners/{listener['id']}")["transform"] == TEXT
    owner.create(f"{path}/messages", data={"order": 17}, type="order.paid", content_type="application/vnd.shop+json")
    first, retried = endpoint.until(2)
    for received in (first, retried):
        assert json.loads(received.content) == {"text": "Order 17 order.paid"}
        assert received.headers["content-type"] == "application/json"
        assert received.headers["discue-type"] == "order.paid"
        assert Webhook(listener["secret"]).verify(received.content, received.headers)
    [other] = plain.until(1)
    assert (other.content, other.headers["content-type"]) == (b'{"order":17}', "application/vnd.shop+json")


def test_each_attempt_uses_the_current_transform(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, listener = listening(owner, endpoint, transform="data.order")
    owner.create(f"{path}/messages", data={"order": 17, "total": 5})
    assert endpoint.until(1)[0].content == b"17"
    place = f"{path}/listeners/{listener['id']}"
    owner.change(place, transform="data.total")
    # The worker that sends may learn of a change a moment later.
    until_sent(owner, f"{path}/messages", endpoint, lambda each: each.content == b"6", {"order": 18, "total": 6})
    owner.change(place, transform=None)
    assert "transform" not in owner.shown(place)
    until_sent(owner, f"{path}/messages", endpoint, lambda each: each.content == b'{"order":19}', {"order": 19})


@pytest.mark.parametrize("kind", ["cloudevents_binary", "cloudevents_structured"])
def test_event_has_the_result_as_data(owner: Caller, receiver: Receiver, kind: str) -> None:
    endpoint = receiver.endpoint()
    path, _ = listening(owner, endpoint, transform="{n: data.order}", format=kind)
    event = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/shop",
        "ce-type": "paid",
        "content-type": "text/json",
    }
    owner.ask("POST", f"{path}/messages", b'{"order": 17}', headers=event)
    [received] = endpoint.until(1)
    if kind == "cloudevents_binary":
        assert (json.loads(received.content), received.headers["content-type"]) == ({"n": 17}, "application/json")
    else:
        document = json.loads(received.content)
        assert (document["data"], document["datacontenttype"]) == ({"n": 17}, "application/json")


def test_pulled_messages_are_transformed(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}"
    place = f"{path}/listeners/{owner.create(f'{path}/listeners', mode='pull', transform='data.order')['id']}"
    for data in ({"order": 17}, {"total": 5}, {"order": 18}):
        owner.create(f"{path}/messages", data=data)
    pulled = owner.get(f"{place}/messages?max=10")["messages"]
    assert [each["data"] for each in pulled] == ["17", "18"]
    [missed] = owner.get(f"{place}/missed")["missed"]
    assert missed["reason"] == "transform"


@covers("redeliveries.md: transform")
def test_message_without_a_body_is_missed_and_redelivered(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, listener = listening(owner, endpoint, transform="data.order")
    place = f"{path}/listeners/{listener['id']}"
    messages = [owner.create(f"{path}/messages", data=data)["id"] for data in ({"total": 5}, "text", {"order": 17})]
    assert endpoint.until(1)[0].headers["webhook-id"] == messages[2]
    owner.until(place, lambda shown: shown["messages"]["missed_count"] == 2)
    found = owner.get(f"{place}/missed")["missed"]
    assert {each["id"]: each["reason"] for each in found} == dict.fromkeys(messages[:2], "transform")
    owner.change(place, transform="data")
    owner.create(f"{place}/redeliveries", filter=MISSED)
    received = {each.headers["webhook-id"]: each.content for each in endpoint.until(2)}
    # Data that is not JSON has no body, whatever the transform.
    assert received[messages[0]] == b'{"total":5}'
    assert messages[1] not in received


@pytest.mark.parametrize("mode", ["push", "pull"])
def test_listener_whose_transform_fails_repeatedly_is_disabled(owner: Caller, receiver: Receiver, mode: str) -> None:
    path = f"/queues/{owner.create('/queues')['id']}"
    fields: dict[str, Any] = {"mode": "pull"} if mode == "pull" else {"notify_url": receiver.endpoint().url}
    place = f"{path}/listeners/{owner.create(f'{path}/listeners', transform='data.missing', **fields)['id']}"
    owner.ask("POST", f"{path}/messages/batch", {"messages": [{"data": {"n": n}} for n in range(60)]})
    if mode == "pull":
        # It may look again, and find the listener disabled.
        assert owner.ask("GET", f"{place}/messages?max=10").status_code in {200, 409}
    shown = owner.until(place, lambda shown: shown["status"] == "disabled")
    assert shown["status_reason"] == "It is disabled because its transform failed for 20 messages in a row."
    assert shown["messages"]["missed_count"] <= 40
    # The other messages have kept their place.
    owner.change(place, transform="data.n", status="enabled")
    if mode == "pull":
        assert owner.get(f"{place}/messages?max=10")["messages"] != []
    else:
        owner.until(place, lambda shown: shown["messages"]["acknowledged_count"] >= 20)


@covers(
    "POST /queues/{queue_id}/listeners/{listener_id}/transform-tests 200",
    "POST /queues/{queue_id}/listeners/{listener_id}/transform-tests 422",
    "listeners.md# Try a transform",
)
def test_transform_is_tried_on_the_newest_messages(owner: Caller, receiver: Receiver) -> None:
    path, listener = listening(owner, receiver.endpoint(), status="disabled", transform="data.order")
    tests = f"{path}/listeners/{listener['id']}/transform-tests"
    batch = [{"data": {"order": n}, "type": "order.paid"} for n in range(150)]
    owner.ask("POST", f"{path}/messages/batch", {"messages": [{"data": {"total": 5}}, *batch]})
    tried = owner.ask("POST", tests, {}).json()["transform_test"]
    assert (tried["tested"], tried["failed"], [each["body"] for each in tried["succeeded"]]) == (
        100,
        [],
        [149, 148, 147],
    )
    assert tried["succeeded"][0]["type"] == "order.paid"
    tried = owner.ask("POST", tests, {"limit": 1_000}).json()["transform_test"]
    [failed] = tried["failed"]
    assert (tried["tested"], failed["detail"]) == (151, "The transform returns null for the message.")
    tried = owner.ask("POST", tests, {"transform": "{total: data.total}", "limit": 1}).json()["transform_test"]
    assert tried["succeeded"][0]["body"] == {"total": None}
    for wrong, pointer in (({"transform": "{"}, "/transform"), ({"limit": 0}, "/limit")):
        assert pointers(owner.refused(422, "POST", tests, wrong)) == [pointer]
    owner.change(f"{path}/listeners/{listener['id']}", transform=None)
    assert pointers(owner.refused(400, "POST", tests, {})) == ["/transform"]


def test_test_request_is_transformed(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, listener = listening(owner, endpoint, transform="data.order")
    tests = f"{path}/listeners/{listener['id']}/tests"
    owner.ask("POST", tests, {"data": {"order": 17}})
    assert endpoint.until(1)[0].content == b"17"
    refused = owner.refused(422, "POST", tests, {"data": {"total": 5}})
    assert (refused["code"], pointers(refused)) == ("transform_failed", ["/data"])


def test_invalid_transform_is_refused(owner: Caller, receiver: Receiver) -> None:
    path = f"/queues/{owner.create('/queues')['id']}"
    fields = {"notify_url": receiver.endpoint().url}
    for wrong in ("{text: ", "upper(@)", "[" * 4_000, "x" * 4_097, ""):
        refused = owner.refused(422, "POST", f"{path}/listeners", {**fields, "transform": wrong})
        assert pointers(refused) == ["/transform"]
