"""Topics as clients see them: made, given channels, and published to."""

import json
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.support.served_api import Cast

FILTER = '{ "data" :{"total":{"$gt":1.50e1}}}'


def topic_with(cast: Cast, *channels: dict[str, Any]) -> tuple[str, list[str]]:
    """A topic with such channels, each into a queue of its own."""
    topic, queues = cast.topic(), [cast.queue() for _ in channels]
    for queue, fields in zip(queues, channels, strict=True):
        cast.channel(topic, queue, **fields)
    return topic, queues


def publish(cast: Cast, topic: str, **fields: Any) -> dict[str, Any]:
    answer = cast.alice.post(f"/topics/{topic}/messages", json={"data": "hello", **fields})
    assert answer.status_code == 200, answer.text
    published: dict[str, Any] = answer.json()
    return published


def stored(cast: Cast, queue: str) -> list[str]:
    return [message["id"] for message in cast.alice.get(f"/queues/{queue}/messages").json()["messages"]]


def test_a_channel_comes_back_as_it_was_sent(cast: Cast) -> None:
    topic, queue = cast.topic(), cast.queue()
    text = f'{{"queue_id": "{queue}", "pattern": "orders.*.>", "filter": {FILTER}}}'
    headers = {"content-type": "application/json"}
    answer = cast.alice.post(f"/topics/{topic}/channels", content=text, headers=headers)
    assert answer.status_code == 200, answer.text
    assert f'"filter":{FILTER}' in answer.text
    made = answer.json()["channel"]
    assert (made["topic_id"], made["queue_id"], made["pattern"]) == (topic, queue, "orders.*.>")
    path = f"/topics/{topic}/channels/{made['id']}"
    assert cast.alice.put(path, json=made).json()["channel"]["filter"] == made["filter"]
    cleared = cast.alice.put(path, json={"pattern": None, "filter": None}).json()["channel"]
    assert {"pattern", "filter"}.isdisjoint(cleared)


def test_events_are_routed_by_their_type_if_it_has_our_form(cast: Cast) -> None:
    topic, (everything, paid) = topic_with(cast, {}, {"pattern": "orders.*.paid"})
    path = f"/topics/{topic}/messages"
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop", "ce-subject": "orders.eu.paid"}
    for event_type, queues in (("orders.eu.paid", [everything, paid]), ("no type", [everything])):
        quoted = {**event, "ce-type": quote(event_type), "content-type": "application/json"}
        message = cast.alice.post(path, content=b'{"n":1}', headers=quoted).json()["message"]
        assert message["queues"] == sorted(queues)
    attributes = {name.removeprefix("ce-"): value for name, value in event.items()}
    documents = [{**attributes, "type": "orders.eu.paid", "data": 1}, {**attributes, "type": "no type", "data": 2}]
    content_type = {"content-type": "application/cloudevents-batch+json"}
    answer = cast.alice.post(f"{path}/batch", content=json.dumps(documents), headers=content_type).json()
    assert [message["queues"] for message in answer["messages"]] == [sorted([everything, paid]), [everything]]
    shown = cast.alice.get(f"/queues/{paid}/messages/{answer['messages'][0]['id']}").json()["message"]
    assert (shown["data"], shown["type"]) == (1, "orders.eu.paid")


@pytest.mark.parametrize("channels", [0, 1, 2])
def test_a_repetition_is_answered_as_the_first_one_was_wherever_messages_would_go_now(
    cast: Cast, channels: int
) -> None:
    topic, queues = topic_with(cast, *[{} for _ in range(channels)])
    headers = {"Idempotency-Key": uuid4().hex}
    path = f"/topics/{topic}/messages"
    first = cast.alice.post(path, json={"data": "once"}, headers=headers)
    cast.channel(topic, late := cast.queue())
    again = cast.alice.post(path, json={"data": "once"}, headers=headers)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["message"]["queues"] == sorted(queues)
    assert again.json()["message"]["id"] == first.json()["message"]["id"]
    assert [len(stored(cast, queue)) for queue in (*queues, late)] == [1] * channels + [0]


def test_changes_of_topics_and_channels_are_events(cast: Cast) -> None:
    topic, queue = cast.topic(alias="shop"), cast.queue()
    path = f"/topics/{topic}/channels/{cast.channel(topic, queue)}"
    message = publish(cast, topic)["message"]["id"]
    for each in (path, f"/topics/{topic}"):
        assert cast.alice.put(each, json={"alias": "another"}).status_code == 200
        assert cast.alice.delete(each).status_code == 200
    events = cast.alice.get("/events").json()["events"]
    own = [event["type"] for event in events if not event["type"].startswith(("api_key", "organization"))][::-1]
    assert own == [
        "topic_added",
        "queue_added",
        "channel_added",
        "message_added",
        "channel_updated",
        "channel_deleted",
        "topic_updated",
        "topic_deleted",
    ]
    assert [event["message"]["id"] for event in events if event["type"] == "message_added"] == [message]
    assert [event["topic"] for event in events if event["type"] == "topic_added"] == [{"id": topic, "name": "shop"}]


def test_a_message_in_several_queues_is_one_event(cast: Cast) -> None:
    topic, _ = topic_with(cast, {}, {}, {})
    message = publish(cast, topic)["message"]["id"]
    events = cast.alice.get("/events", params={"events": "messages"}).json()["events"]
    assert [event["id"] for event in events] == [message]
