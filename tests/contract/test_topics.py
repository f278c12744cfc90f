"""Topics, their channels, and what is published to them."""

from typing import Any

import pytest

from tests.contract.caller import Caller, fresh, pointers, resource
from tests.contract.reference import covers
from tests.support.receiver import Receiver

# All workers must know the channels that one of them stores.
SETTINGS_MEANT = ("three workers",)

OPTIONS: dict[str, Any] = {"alias": "order-17", "key": "customer-9", "headers": {"x-trace": "7"}, "delay": 60}


def topic_with(owner: Caller, *channels: dict[str, Any]) -> tuple[str, list[str]]:
    """The path of a topic with such channels, and the paths of their queues."""
    topic = f"/topics/{owner.create('/topics')['id']}"
    queues = [f"/queues/{owner.create('/queues')['id']}" for _ in channels]
    for queue, fields in zip(queues, channels, strict=True):
        owner.create(f"{topic}/channels", queue_id=id_of(queue), **fields)
    return topic, queues


def id_of(path: str) -> str:
    return path.rpartition("/")[2]


def stored(owner: Caller, queue: str) -> list[str]:
    return [message["id"] for message in owner.get(f"{queue}/messages")["messages"]]


@covers("POST /topics 200", "PUT /topics 200", "POST /topics 422", "PUT /topics 422", "topics.md# Create")
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_topic_is_created(owner: Caller, method: str) -> None:
    made = resource(owner.ask(method, "/topics", {"alias": "shop"}))
    assert (made["alias"], made["name"], made["channels"]) == ("shop", "shop", [])
    assert owner.shown(f"/topics/{made['id']}") == made
    assert pointers(owner.refused(422, method, "/topics", {"alias": "shop"})) == ["/alias"]


@covers(
    "PUT /topics/{topic_id} 200",
    "PUT /topics/{topic_id} 422",
    "PUT /topics/{topic_id} 412",
    "DELETE /topics/{topic_id} 200",
    "DELETE /topics/{topic_id} 412",
    "topics.md# Delete",
)
def test_a_topic_is_changed_and_deleted_with_its_channels(owner: Caller) -> None:
    topic, [queue] = topic_with(owner, {"alias": "paid"})
    message = owner.create(f"{topic}/messages", data="x")
    assert owner.change(topic, alias="renamed")["channels"][0]["alias"] == "paid"
    assert owner.change(topic, alias=None)["alias"] == id_of(topic)
    owner.refused(422, "PUT", topic, {"alias": owner.create("/topics")["alias"]})
    channel = f"{topic}/channels/{owner.shown(topic)['channels'][0]['id']}"
    for method in ("PUT", "DELETE"):
        owner.refused(412, method, topic, {}, headers={"If-Match": '"AAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAA"'})
    owner.delete(topic)
    for path in (topic, channel, f"{topic}/channels"):
        owner.refused(404, "GET", path)
    owner.refused(404, "POST", f"{topic}/messages", {"data": "x"})
    assert stored(owner, queue) == [message["id"]]


@covers(
    "POST /topics/{topic_id}/channels 200",
    "PUT /topics/{topic_id}/channels 200",
    "POST /topics/{topic_id}/channels 422",
    "PUT /topics/{topic_id}/channels 422",
    "channels.md# Create",
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_channel_is_created(owner: Caller, method: str) -> None:
    topic, queue = f"/topics/{owner.create('/topics')['id']}", owner.create("/queues")["id"]
    fields = {"alias": "paid", "queue_id": queue, "pattern": "orders.*.paid", "filter": {"data": {"total": {"$gt": 5}}}}
    made = resource(owner.ask(method, f"{topic}/channels", fields))
    assert {name: made[name] for name in fields} == fields
    assert made["topic_id"] == id_of(topic)
    path = f"{topic}/channels/{made['id']}"
    assert owner.shown(path) == made
    assert owner.get(f"{topic}/channels")["channels"] == [made]
    another = owner.create("/queues")["id"]
    for wrong, place in (
        ({"alias": "paid", "queue_id": another}, "/alias"),
        ({"queue_id": queue}, "/queue_id"),
        ({"queue_id": "0" * 21}, "/queue_id"),
        ({"queue_id": another, "pattern": "a..b"}, "/pattern"),
        ({"queue_id": another, "pattern": "a*"}, "/pattern"),
        ({"queue_id": another, "filter": {}}, "/filter"),
    ):
        assert pointers(owner.refused(422, method, f"{topic}/channels", wrong)) == [place]
    refused = owner.refused(400, method, f"{topic}/channels", {})
    assert (refused["code"], pointers(refused)) == ("missing_field", ["/queue_id"])


def test_a_channel_leads_to_the_queue_that_an_alias_or_id_names(owner: Caller) -> None:
    topic = f"/topics/{owner.create('/topics')['id']}"
    queue, other = owner.create("/queues", alias="named-by-a-channel"), owner.create("/queues", alias="another-queue")
    made = owner.create(f"{topic}/channels", alias="named", queue_id="named-by-a-channel")
    path = f"{topic}/channels/{made['id']}"

    assert made["queue_id"] == owner.shown(path)["queue_id"] == queue["id"]
    assert owner.change(f"{topic}/channels/named", queue_id="named-by-a-channel", pattern="a.*")["pattern"] == "a.*"
    assert owner.change(path, queue_id=queue["id"])["queue_id"] == queue["id"]
    assert owner.create(f"{topic}/messages", data="x", type="a.b")["queues"] == [queue["id"]]
    for wrong in ("another-queue", other["id"], "no-such-queue"):
        assert pointers(owner.refused(422, "PUT", path, {"queue_id": wrong})) == ["/queue_id"]
    assert pointers(owner.refused(422, "POST", f"{topic}/channels", {"queue_id": "no-such-queue"})) == ["/queue_id"]
    # An id wins over an equal alias.
    owner.change(f"/queues/{queue['id']}", alias=other["id"])
    assert owner.create(f"{topic}/channels", queue_id=other["id"])["queue_id"] == other["id"]
    # A key for some queues learns nothing of the others, by their aliases either.
    scopes = {"channels": {"access": "write", "targets": [id_of(topic), queue["id"]]}}
    limited = owner.with_key(owner.create("/api_keys", scopes=scopes)["key"])
    for name in ("another-queue", "no-such-queue"):
        limited.refused(403, "POST", f"{topic}/channels", {"queue_id": name})


@covers(
    "PUT /topics/{topic_id}/channels/{channel_id} 200",
    "PUT /topics/{topic_id}/channels/{channel_id} 422",
    "PUT /topics/{topic_id}/channels/{channel_id} 412",
    "DELETE /topics/{topic_id}/channels/{channel_id} 200",
    "DELETE /topics/{topic_id}/channels/{channel_id} 412",
    "channels.md# Change and delete",
)
def test_channel_change_applies_to_later_messages(owner: Caller) -> None:
    topic, [queue] = topic_with(owner, {"pattern": "orders.>"})
    channel = f"{topic}/channels/{owner.shown(topic)['channels'][0]['id']}"

    def goes_there(event_type: str) -> bool:
        queues = owner.create(f"{topic}/messages", data="x", type=event_type)["queues"]
        return bool(queues == [id_of(queue)])

    assert (goes_there("orders.paid"), goes_there("stock.low")) == (True, False)
    assert owner.change(channel, pattern="stock.*", alias="stock")["alias"] == "stock"
    assert (goes_there("orders.paid"), goes_there("stock.low")) == (False, True)
    assert "pattern" not in owner.change(channel, pattern=None)
    assert goes_there("orders.paid")
    assert pointers(owner.refused(422, "PUT", channel, {"queue_id": "0" * 21})) == ["/queue_id"]
    for method in ("PUT", "DELETE"):
        owner.refused(412, method, channel, {}, headers={"If-Match": '"AAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAA"'})
    owner.delete(channel)
    assert not goes_there("orders.paid")
    assert len(stored(owner, queue)) == 3


def test_a_queue_that_is_deleted_takes_its_channels_along(owner: Caller) -> None:
    topic, (one, other) = topic_with(owner, {}, {})
    owner.delete(one)
    assert [each["queue_id"] for each in owner.get(f"{topic}/channels")["channels"]] == [id_of(other)]
    assert owner.create(f"{topic}/messages", data="x")["queues"] == [id_of(other)]


@covers("channels.md# Patterns", "channels.md: a word", "channels.md: *", "channels.md: >, at the end")
@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("orders.eu.paid", ["orders.eu.paid"], ["orders.eu.Paid", "orders.eu", "orders.eu.paid.twice"]),
        ("orders.*.paid", ["orders.eu.paid", "orders.us.paid"], ["orders.paid", "orders.eu.x.paid", "orders.eu.sent"]),
        ("orders.>", ["orders.paid", "orders.eu.paid"], ["orders", "stock.low"]),
        ("*", ["orders"], ["orders.paid"]),
        (">", ["orders", "orders.paid"], []),
    ],
)
def test_a_pattern_chooses_by_the_type(owner: Caller, pattern: str, fitting: list[str], others: list[str]) -> None:
    topic, [queue] = topic_with(owner, {"pattern": pattern})
    batch = [{"data": "x", "type": event_type} for event_type in (*fitting, *others)]
    answer = owner.ask("POST", f"{topic}/messages/batch", {"messages": [*batch, {"data": "without"}]}).json()
    expected = [[id_of(queue)]] * len(fitting) + [[]] * (len(others) + 1)
    assert [message["queues"] for message in answer["messages"]] == expected


@covers(
    "POST /topics/{topic_id}/messages 200",
    "PUT /topics/{topic_id}/messages 200",
    "POST /topics/{topic_id}/messages/batch 200",
    "topics.md# Publish",
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_message_goes_into_every_queue_whose_channel_lets_it_through(owner: Caller, method: str) -> None:
    topic, queues = topic_with(owner, {}, {"filter": {"key": "customer-9"}}, {"pattern": "stock.>"})
    fields = {"data": {"n": 1}, "type": "orders.paid", **OPTIONS}
    message = resource(owner.ask(method, f"{topic}/messages", fields))
    assert message["alias"] == "order-17"
    assert message["queues"] == sorted(map(id_of, queues[:2]))
    for queue in queues[:2]:
        shown = owner.shown(f"{queue}/messages/{message['id']}")
        assert (shown["data"], shown["type"], shown["key"]) == ({"n": 1}, "orders.paid", "customer-9")
    assert stored(owner, queues[2]) == []
    assert stored(owner, "") == [message["id"]]
    assert owner.create(f"{topic}/messages", data="x", type="other")["queues"] == [id_of(queues[0])]
    nowhere = f"/topics/{owner.create('/topics')['id']}"
    assert owner.create(f"{nowhere}/messages", data="x")["queues"] == []


@covers(
    "POST /topics/{topic_id}/messages 422",
    "PUT /topics/{topic_id}/messages 422",
    "POST /topics/{topic_id}/messages/batch 422",
)
def test_message_invalid_for_one_queue_goes_into_none(owner: Caller) -> None:
    topic, (plain, strict) = topic_with(owner, {}, {"alias": "strict"})
    owner.change(strict, schema={"n": {"type": "number"}})
    for method in ("POST", "PUT"):
        problem = owner.refused(422, method, f"{topic}/messages", {"data": {"n": "x"}})
        assert pointers(problem) == ["/data/n"]
        assert id_of(strict) in problem["detail"]
        assert pointers(owner.refused(422, method, f"{topic}/messages", {"data": "1", "type": "a b"})) == ["/type"]
    batch = {"messages": [{"data": {"n": 1}}, {"data": {"n": "x"}}]}
    assert pointers(owner.refused(422, "POST", f"{topic}/messages/batch", batch)) == ["/messages/1/data/n"]
    owner.change(strict, max_message_bytes=10)
    owner.refused(413, "POST", f"{topic}/messages", {"data": {"n": 123456789}})
    assert stored(owner, plain) == stored(owner, strict) == []


@covers(
    "POST /topics/{topic_id}/messages 402",
    "PUT /topics/{topic_id}/messages 402",
    "POST /topics/{topic_id}/messages/batch 402",
)
def test_quotas_hold_for_all_queues_together(operator: Caller) -> None:
    fields = {"alias": f"org.example.{fresh()}", "quotas": {"messages_a_day": 1}}
    answer = operator.ask("POST", "/organizations", fields).json()
    owner = operator.with_key(answer["api_key"]["key"])
    topic, queues = topic_with(owner, {}, {})
    for method in ("POST", "PUT"):
        owner.refused(402, method, f"{topic}/messages", {"data": "x"})
    owner.refused(402, "POST", f"{topic}/messages/batch", {"messages": [{"data": "x"}]})
    assert [stored(owner, queue) for queue in queues] == [[], []]


def test_listeners_of_all_queues_get_one_message_and_its_type(owner: Caller, receiver: Receiver) -> None:
    topic, queues = topic_with(owner, {}, {"pattern": "orders.>"})
    endpoints = [receiver.endpoint() for _ in queues]
    for queue, endpoint in zip(queues, endpoints, strict=True):
        owner.create(f"{queue}/listeners", notify_url=endpoint.url, liveness_url=endpoint.url)
    message = owner.create(f"{topic}/messages", data="hello", type="orders.eu.paid")
    for queue, endpoint in zip(queues, endpoints, strict=True):
        (received,) = endpoint.until(1)
        assert (received.content, received.headers["webhook-id"]) == (b"hello", message["id"])
        assert received.headers["discue-type"] == "orders.eu.paid"
        assert received.headers["discue-queue"] == id_of(queue)
