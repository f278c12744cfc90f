"""Requests that a listener receives."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.contract.begun import Begun
from tests.contract.caller import PATIENCE_SECONDS, Caller, fresh, pointers
from tests.contract.reference import covers
from tests.contract.world import NOWHERE
from tests.support.receiver import Endpoint, Received, Receiver, Reply

# One worker delivers what another one stores.
SETTINGS_MEANT = ("three workers",)


def listening(owner: Caller, endpoint: Endpoint, **fields: Any) -> tuple[str, dict[str, Any]]:
    """A queue with one listener: its path, and the listener."""
    path = f"/queues/{owner.create('/queues')['id']}"
    return path, owner.create(f"{path}/listeners", notify_url=endpoint.url, liveness_url=endpoint.url, **fields)


def until_sent(
    owner: Caller, path: str, endpoint: Endpoint, is_meant: Callable[[Received], bool], data: Any = "x"
) -> Received:
    """Publish messages until the endpoint receives one that is meant: a change has reached the worker that sends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        owner.create(path, data=data)
        if (found := endpoint.find(is_meant, within_seconds=0.5)) is not None:
            return found
    raise AssertionError(endpoint.received)


def test_delivery_is_a_signed_post_with_the_data(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, listener = listening(owner, endpoint)
    message = owner.create(f"{path}/messages", data='{"order":  17}')
    (received,) = endpoint.until(1)
    headers = received.headers
    assert (received.method, received.content) == ("POST", b'{"order":  17}')
    assert headers["webhook-id"] == message["id"]
    assert headers["discue-queue"] == path.rpartition("/")[2]
    assert headers["discue-listener"] == listener["id"]
    assert headers["discue-attempt"] == "1"
    assert headers["user-agent"]
    assert abs(int(headers["webhook-timestamp"]) * 1_000 - message["created_at"]) < 60_000
    assert Webhook(listener["secret"]).verify(received.content, headers) == {"order": 17}
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 32).verify(received.content, headers)


def test_delayed_message_arrives_when_it_is_due(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, _ = listening(owner, endpoint)
    delayed = owner.create(f"{path}/messages", data="later", delay=1)
    at_once = owner.create(f"{path}/messages", data="now")
    received = {each.headers["webhook-id"]: each for each in endpoint.until(2)}
    assert {at_once["id"]: b"now", delayed["id"]: b"later"} == {each: received[each].content for each in received}
    shown = owner.shown(f"{path}/messages/{delayed['id']}")
    assert shown["created_at"] == delayed["created_at"]
    assert shown["deliver_at"] <= time.time() * 1_000
    # In whole seconds, and of the next one: whether the other message is stored within a second depends on the machine.
    assert int(received[delayed["id"]].headers["webhook-timestamp"]) >= shown["deliver_at"] // 1_000


@pytest.mark.parametrize("to", ["queue", "batch", "topic", "topic batch"])
def test_response_to_a_delayed_publish_says_when_it_is_due(owner: Caller, to: str) -> None:
    queue = f"/queues/{owner.create('/queues')['id']}"
    path = queue
    if to.startswith("topic"):
        path = f"/topics/{owner.create('/topics')['id']}"
        owner.create(f"{path}/channels", queue_id=queue.rpartition("/")[2])
    message, headers = {"data": "later", "delay": 60}, {"Idempotency-Key": fresh("key"), "Host": "discue.example.com"}
    is_batch = to.endswith("batch")
    content = {"messages": [message, {"data": "now"}]} if is_batch else message
    answers = [
        owner.ask("POST", f"{path}/messages{'/batch' if is_batch else ''}", content, headers=headers).json()
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    [published, *others] = answers[0]["messages"] if is_batch else [answers[0]["message"]]
    assert abs(published["deliver_at"] - published["created_at"] - 60_000) < 10_000
    assert published["deliver_at"] == owner.shown(f"{queue}/messages/{published['id']}")["deliver_at"]
    assert all("deliver_at" not in other for other in others)


@pytest.mark.parametrize(
    ("data", "content", "content_type"),
    [
        ("hello ä", "hello ä", "text/plain; charset=utf-8"),
        ('{"a": 1}', '{"a": 1}', "application/json"),
        ({"a": [1, 2]}, None, "application/json"),
        (17, "17", "application/json"),
        ("", "", "text/plain; charset=utf-8"),
        (None, "null", "application/json"),
    ],
)
def test_content_type_shows_whether_data_is_json(
    owner: Caller, receiver: Receiver, data: Any, content: str | None, content_type: str
) -> None:
    endpoint = receiver.endpoint()
    path, _ = listening(owner, endpoint)
    owner.create(f"{path}/messages", data=data)
    (received,) = endpoint.until(1)
    assert received.headers["content-type"] == content_type
    if content is None:
        assert json.loads(received.content) == data
    else:
        assert received.content == content.encode()


def first_attempt(owner: Caller, queue: str) -> dict[str, Any]:
    """Publish a message and return its first attempt."""
    message = f"{queue}/messages/{owner.create(f'{queue}/messages', data='x')['id']}"
    owner.until(message, lambda shown: shown["deliveries"][0]["attempts"] > 0)
    found: dict[str, Any] = owner.get(f"{message}/attempts")["attempts"][0]
    return found


@covers("listeners.md# Authentication", "listeners.md: basic", "listeners.md: oauth2", "listeners.md: certificate")
def test_a_listener_is_shown_who_it_comes_from_and_nobody_else_is(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    basic = {"type": "basic", "username": "ada", "password": "s3cr3t"}
    path, made = listening(owner, endpoint, authentication=basic)
    assert made["authentication"] == {"type": "basic", "username": "ada"}
    owner.create(f"{path}/messages", data="x", headers={"authorization": "Bearer mine"})
    [received] = endpoint.until(1)
    assert received.headers["authorization"] == "Basic YWRhOnMzY3IzdA=="
    place = f"{path}/listeners/{made['id']}"
    elsewhere = {"notify_url": "https://elsewhere.example.com/"}
    assert pointers(owner.refused(422, "PUT", place, elsewhere)) == ["/authentication"]
    oauth2 = {"type": "oauth2", "token_url": NOWHERE["notify_url"], "client_id": "ada", "client_secret": "s3cr3t"}
    certificate = {"type": "certificate", "certificate": "x", "private_key": "y"}
    refused = owner.refused(422, "PUT", place, {"authentication": certificate})
    assert pointers(refused) == ["/authentication/certificate"]
    owner.change(place, authentication=oauth2)
    attempt = first_attempt(owner, path)
    deadline = time.monotonic() + PATIENCE_SECONDS
    # The worker that sends may be another than the one that was told.
    while attempt["error"] != "authentication" and time.monotonic() < deadline:
        attempt = first_attempt(owner, path)
    assert (attempt["error"], attempt["status"]) == ("authentication", 0)
    assert "authentication" not in owner.change(place, authentication=None)


def test_listener_gets_messages_published_after_its_creation_only(owner: Caller, receiver: Receiver) -> None:
    first, second = receiver.endpoint(), receiver.endpoint()
    path, listener = listening(owner, first)
    before = owner.create(f"{path}/messages", data="before")["id"]
    owner.create(f"{path}/listeners", notify_url=second.url, liveness_url=second.url)
    shown = owner.shown(f"{path}/messages/{before}")["deliveries"]
    assert [each["listener_id"] for each in shown] == [listener["id"]]
    owner.create(f"{path}/messages", data="after")
    assert {each.content for each in first.until(2)} == {b"before", b"after"}
    assert [each.content for each in second.until(1)] == [b"after"]


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_acknowledges(owner: Caller, receiver: Receiver, status: int) -> None:
    endpoint = receiver.endpoint(Reply(status))
    path, listener = listening(owner, endpoint)
    message = owner.create(f"{path}/messages", data="x")["id"]
    shown = owner.until(
        f"{path}/messages/{message}",
        lambda shown: bool(shown["deliveries"]) and shown["deliveries"][0]["state"] == "acknowledged",
    )
    assert shown["deliveries"] == [
        {"listener_id": listener["id"], "state": "acknowledged", "attempts": 1, "last_status": status}
    ]
    counts = owner.until(f"{path}/listeners/{listener['id']}", lambda shown: shown["messages"]["pending_count"] == 0)
    assert counts["messages"]["acknowledged_count"] == 1
    assert counts["messages"]["last_success_at"] > 0


@pytest.mark.parametrize("reply", [Reply(500), Reply(404), Reply(302, (("location", "/elsewhere"),))], ids=str)
def test_other_responses_are_retried(owner: Caller, receiver: Receiver, reply: Reply) -> None:
    endpoint = receiver.endpoint(reply)
    path, _ = listening(owner, endpoint)
    message = owner.create(f"{path}/messages", data="x")["id"]
    shown = owner.until(
        f"{path}/messages/{message}",
        lambda shown: bool(shown["deliveries"]) and shown["deliveries"][0]["state"] == "retrying",
    )
    assert [shown["deliveries"][0][name] for name in ("attempts", "last_status")] == [1, reply.status]


def test_second_attempt_follows_after_five_seconds_and_repeats_the_id(begun: Begun) -> None:
    first, second = begun.failing_once.until(2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert [each.headers["discue-attempt"] for each in (first, second)] == ["1", "2"]
    assert 4 <= int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) <= 9


def test_webhook_no_retry_makes_it_missed_at_once(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(Reply(500, (("webhook-no-retry", "true"),)))
    path, listener = listening(owner, endpoint)
    message = owner.create(f"{path}/messages", data="x")["id"]
    shown = owner.until(f"{path}/listeners/{listener['id']}", lambda shown: shown["messages"]["missed_count"] == 1)
    assert shown["messages"]["missed"] == [message]
    assert owner.shown(f"{path}/messages/{message}")["deliveries"][0]["state"] == "missed"


def test_410_disables_the_listener(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(Reply(410), Reply(200))
    path, listener = listening(owner, endpoint)
    owner.create(f"{path}/messages", data="x")
    place = f"{path}/listeners/{listener['id']}"
    owner.until(place, lambda shown: shown["status"] == "disabled")
    owner.change(place, status="enabled")
    assert len(endpoint.until(2)) == 2


def test_a_disabled_listener_keeps_its_place(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, listener = listening(owner, endpoint, status="disabled")
    for text in ("first", "second"):
        owner.create(f"{path}/messages", data=text)
    assert endpoint.received == []
    owner.change(f"{path}/listeners/{listener['id']}", status="enabled")
    assert {each.content for each in endpoint.until(2)} == {b"first", b"second"}


def test_a_deleted_message_is_not_delivered_any_more(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, listener = listening(owner, endpoint, status="disabled")
    gone = owner.create(f"{path}/messages", data="gone")["id"]
    owner.create(f"{path}/messages", data="kept")
    owner.delete(f"{path}/messages/{gone}")
    owner.change(f"{path}/listeners/{listener['id']}", status="enabled")
    assert [each.content for each in endpoint.until(1)] == [b"kept"]


def test_deleted_message_stays_counted_only_where_it_was_settled(owner: Caller, receiver: Receiver) -> None:
    refusing, later = [Reply(500)] * 9, receiver.endpoint()
    path, fine = listening(owner, receiver.endpoint())

    def another(endpoint: Endpoint, **fields: Any) -> str:
        made = owner.create(f"{path}/listeners", notify_url=endpoint.url, liveness_url=endpoint.url, **fields)
        return str(made["id"])

    places = {
        "acknowledged": str(fine["id"]),
        "retrying": another(receiver.endpoint(*refusing)),
        "missed": another(receiver.endpoint(*refusing), retry={"attempts": 1}),
        "disabled": another(later, status="disabled"),
        "pulled": str(owner.create(f"{path}/listeners", mode="pull")["id"]),
    }
    messages = [owner.create(f"{path}/messages", data=number)["id"] for number in range(2)]

    def until(name: str, *expected: int) -> None:
        """Wait until a listener has acknowledged, missed and not yet got so many."""
        owner.until(
            f"{path}/listeners/{places[name]}",
            lambda shown: (
                tuple(shown["messages"][f"{kind}_count"] for kind in ("acknowledged", "missed", "pending")) == expected
            ),
        )

    def until_all(acknowledged: int, missed: int, retrying: int, disabled: int, pulled: int) -> None:
        until("acknowledged", acknowledged, 0, 0)
        until("missed", 0, missed, 0)
        until("retrying", 0, 0, retrying)
        until("disabled", 0, 0, disabled)
        until("pulled", 0, 0, pulled)

    until_all(acknowledged=2, missed=2, retrying=2, disabled=2, pulled=2)
    deliveries = owner.until(
        f"{path}/messages/{messages[0]}",
        lambda shown: "retrying" in {delivery["state"] for delivery in shown["deliveries"]},
    )["deliveries"]
    assert {delivery["state"] for delivery in deliveries} == {"acknowledged", "retrying", "missed", "pending"}
    owner.delete(f"{path}/messages/{messages[0]}")
    until_all(acknowledged=2, missed=2, retrying=1, disabled=2, pulled=2)
    owner.change(f"{path}/listeners/{places['disabled']}", status="enabled")
    assert [each.headers["webhook-id"] for each in later.until(1)] == messages[1:]
    until("disabled", 1, 0, 0)
    assert len(owner.ask("GET", f"{path}/listeners/{places['pulled']}/messages").json()["messages"]) == 1
    until("pulled", 0, 0, 1)


def test_a_slow_listener_delays_no_other(owner: Caller, receiver: Receiver) -> None:
    bad, good = receiver.endpoint(Reply(500)), receiver.endpoint()
    path, _ = listening(owner, bad)
    owner.create(f"{path}/listeners", notify_url=good.url, liveness_url=good.url)
    owner.ask("POST", f"{path}/messages/batch", {"messages": [{"data": number} for number in range(50)]})
    assert len({each.headers["webhook-id"] for each in good.until(50)}) == 50


def test_the_headers_that_listener_and_message_ask_for_go_with_it(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    path, _ = listening(owner, endpoint, headers={"X-Shop": "north", "X-Both": "of the listener"})
    owner.create(f"{path}/messages", data="x", headers={"x-trace": "7", "x-both": "of the message"})
    [received] = endpoint.until(1)
    assert (received.headers["x-shop"], received.headers["x-trace"]) == ("north", "7")
    assert received.headers["x-both"] == "of the listener"


@covers("redeliveries.md: final_status")
def test_an_answer_that_the_listener_calls_final_is_the_last(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(Reply(422), Reply(200))
    path, listener = listening(owner, endpoint, retry={"schedule": [1], "final_statuses": ["4xx"]})
    message = owner.create(f"{path}/messages", data="x")
    endpoint.until(1)
    owner.create(f"{path}/messages", data="y")
    endpoint.until(2)
    shown = owner.until(f"{path}/listeners/{listener['id']}", lambda each: each["messages"]["missed_count"] == 1)
    assert shown["messages"]["missed"] == [message["id"]]
    place = f"{path}/listeners/{listener['id']}"
    [missed] = owner.get(f"{place}/missed?reason=final_status")["missed"]
    assert (missed["id"], missed["reason"]) == (message["id"], "final_status")
    chosen = owner.create(f"{place}/redeliveries", filter={"reason": "final_status"})
    assert chosen["counts"]["selected"] == 1
    assert endpoint.until(3)[2].headers["webhook-id"] == message["id"]


def test_in_an_ordered_queue_a_key_waits_for_the_one_before_and_others_do_not(
    owner: Caller, receiver: Receiver
) -> None:
    endpoint = receiver.endpoint(Reply(500), Reply(200))
    path = f"/queues/{owner.create('/queues', ordered=True)['id']}"
    owner.create(
        f"{path}/listeners", notify_url=endpoint.url, liveness_url=endpoint.url, retry={"schedule": [1], "jitter": 0}
    )
    ids = [owner.create(f"{path}/messages", data="a", key="a")["id"]]
    endpoint.until(1)
    ids += [owner.create(f"{path}/messages", data=key, key=key)["id"] for key in ("a", "b", "a")]
    received = [each.headers["webhook-id"] for each in endpoint.until(5)]
    assert received[0] == ids[0]
    assert [each for each in received if each != ids[2]] == [ids[0], ids[0], ids[1], ids[3]]


def test_a_missed_message_may_block_its_key_until_somebody_decides(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(Reply(500), Reply(200))
    path = f"/queues/{owner.create('/queues', ordered=True, on_missed='block')['id']}"
    urls = {"notify_url": endpoint.url, "liveness_url": endpoint.url}
    place = f"{path}/listeners/{owner.create(f'{path}/listeners', retry={'attempts': 1}, **urls)['id']}"
    ids = [owner.create(f"{path}/messages", data="a", key="a")["id"] for _ in range(2)]
    # Two requests in flight may arrive in any order, and the first one must fail.
    endpoint.until(1)
    ids.append(owner.create(f"{path}/messages", data="b", key="b")["id"])
    received = endpoint.until(2)
    assert [each.headers["webhook-id"] for each in received] == [ids[0], ids[2]]
    owner.until(place, lambda shown: shown["messages"]["missed"] == [ids[0]])
    owner.until(f"{path}/messages/{ids[1]}", lambda shown: shown["deliveries"][0].get("blocked_by") == ids[0])
    owner.create(f"{place}/redeliveries", all=True)
    assert [each.headers["webhook-id"] for each in endpoint.until(4)[2:]] == ids[:2]


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        ({"on_missed": "block"}, None),
        ({"ordered": True, "on_missed": "stop"}, None),
        ({"ordered": True}, {"on_missed": "block"}),
        ({"ordered": True, "on_missed": "block"}, {"on_missed": None}),
    ],
)
def test_whether_a_missed_message_blocks_is_chosen_with_the_order(
    owner: Caller, fields: dict[str, Any], change: dict[str, Any] | None
) -> None:
    if change is None:
        assert pointers(owner.refused(422, "POST", "/queues", fields)) == ["/on_missed"]
        return
    path = f"/queues/{owner.create('/queues', **fields)['id']}"
    assert pointers(owner.refused(422, "PUT", path, change)) == ["/on_missed"]
    assert owner.change(path, on_missed=fields.get("on_missed", "pass"))["on_missed"] == fields.get("on_missed", "pass")
