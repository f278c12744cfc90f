"""`/events` and `/stats/messages` on the wire."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from discue.api.resources.usage import EventCountsView
from discue.domain.scopes import Scope
from tests.support.served_api import Cast


def events(client: httpx.Client, **query: object) -> list[dict[str, Any]]:
    return list(answer(client, **query)["events"])


def answer(client: httpx.Client, **query: object) -> dict[str, Any]:
    response = client.get("/events", params={name: str(value) for name, value in query.items()})
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


def counts(client: httpx.Client, window: str = "last_1_hours") -> dict[str, int]:
    response = client.get("/stats/messages")
    assert response.status_code == 200, response.text
    shown: dict[str, int] = response.json()["aggregated_api_usage_events"][window]
    return shown


def test_events_are_listed_at_once_newest_first(cast: Cast) -> None:
    queue = cast.queue(alias="orders")
    message = cast.message(queue, alias="order-17")
    listener = cast.listener(queue, name="desk-1")
    [added, published, made, first] = events(cast.alice)
    assert added["type"] == "listener_added"
    assert added["listener"] == {"id": listener, "name": "desk-1"}
    assert published == {
        "id": message,
        "type": "message_added",
        "stored_at": published["stored_at"],
        "client": {"id": cast.organization_id},
        "message": {"id": message, "name": "order-17"},
    }
    assert made["queue"] == {"id": queue, "name": "orders"}
    assert made["client"] == {"id": cast.organization_id}
    assert made["api_key_id"] == first["api_key"]["id"]
    assert first["type"] == "api_key_added"
    assert [event["stored_at"] for event in (added, published, made, first)] == sorted(
        (event["stored_at"] for event in (added, published, made, first)), reverse=True
    )


def test_events_under_v1_have_absolute_links(cast: Cast) -> None:
    cast.queue()
    shown = cast.alice.get("/v1/events?events=queues").json()
    assert shown["_links"]["self"]["href"] == f"{cast.service.url}/v1/events?events=queues"
    assert shown["_links"]["next"]["href"].startswith(f"{cast.service.url}/v1/events?events=queues&startAfter=")


def test_a_topic_and_a_limit_choose(cast: Cast) -> None:
    queue = cast.queue()
    cast.listener(queue)
    for _ in range(3):
        cast.message(queue)
    types = {topic: {event["type"] for event in events(cast.alice, events=topic)} for topic in ("queues", "messages")}
    assert types == {"queues": {"queue_added"}, "messages": {"message_added"}}
    assert events(cast.alice, events="all") == events(cast.alice)
    assert events(cast.alice, events="") == events(cast.alice)
    assert events(cast.alice, limit=2) == events(cast.alice)[:2]
    assert len(events(cast.alice, events="listeners", limit=1_000)) == 1


def test_events_after_an_event_come_oldest_first(cast: Cast) -> None:
    queue = cast.queue()
    for _ in range(5):
        cast.message(queue)
    everything = events(cast.alice)
    for place, event in enumerate(everything):
        following = events(cast.alice, startAfter=event["stored_at"], startAfterId=event["id"])
        assert following == everything[:place][::-1]
    last = everything[-1]
    assert events(cast.alice, startAfter=last["stored_at"], startAfterId=last["id"], limit=2) == everything[-2:-4:-1]


@pytest.mark.parametrize("query", ["startAfter=1", "startAfterId=" + "0" * 21, "page=2", "unknown=1"])
def test_incomplete_position_and_unknown_values_have_no_effect(cast: Cast, query: str) -> None:
    cast.queue()
    assert cast.alice.get(f"/events?{query}").json()["events"] == events(cast.alice)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("events=everything", "events"),
        ("events=queues&events=all", "events"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("startAfter=soon", "startAfter"),
        ("startAfter=-1", "startAfter"),
        ("startAfter=253402300800000", "startAfter"),
        ("startAfter=1&startAfterId=short", "startAfterId"),
    ],
)
def test_a_value_that_is_none_is_refused_by_name(cast: Cast, query: str, name: str) -> None:
    refused = cast.alice.get(f"/events?{query}")
    assert refused.status_code == 400
    assert [fault["pointer"] for fault in refused.json()["errors"]] == [f"?{name}"]


@pytest.mark.parametrize("stored_at", [0, 1, 253_402_300_799_999])
@pytest.mark.parametrize("public_id", ["0" * 21, "z" * 21])
def test_any_place_in_time_can_be_asked_for(cast: Cast, stored_at: int, public_id: str) -> None:
    cast.queue()
    shown = answer(cast.alice, startAfter=stored_at, startAfterId=public_id)
    assert len(shown["events"]) == (2 if stored_at < 2 else 0)
    assert cast.alice.get(shown["_links"]["self"]["href"]).json()["events"] == shown["events"]


def test_a_client_that_follows_the_links_hears_of_everything(cast: Cast) -> None:
    queue = cast.queue()
    heard, url = set[str](), "/events?events=messages&limit=3"
    published = []
    for _ in range(4):
        published += [cast.message(queue) for _ in range(2)]
        shown = cast.alice.get(url).json()
        heard |= {event["id"] for event in shown["events"]}
        url = shown["_links"]["next"]["href"]
        assert dict(parse_qsl(urlsplit(url).query)).keys() == {"events", "limit", "startAfter", "startAfterId"}
    while not heard.issuperset(published):
        shown = cast.alice.get(url).json()
        assert shown["events"]
        heard |= {event["id"] for event in shown["events"]}
        url = shown["_links"]["next"]["href"]
    assert heard == set(published)


def test_confined_key_sees_only_the_events_of_its_targets(cast: Cast) -> None:
    queue, other = cast.queue(), cast.queue()
    message = cast.message(queue)
    bob = cast.bob({"events": Scope("read", (queue, message))})
    shown = events(bob)
    assert [event["type"] for event in shown] == ["message_added", "queue_added"]
    assert "api_key_id" not in shown[1]
    assert other not in str(shown)


def test_a_deleted_queue_takes_the_events_of_its_messages_with_it_and_its_own_stay(cast: Cast) -> None:
    queue = cast.queue()
    cast.message(queue)
    assert cast.alice.delete(f"/queues/{queue}").status_code == 200
    assert [event["type"] for event in events(cast.alice)[:2]] == ["queue_deleted", "queue_added"]


def test_statistics_count_everything_in_three_windows(cast: Cast) -> None:
    assert counts(cast.alice) == {**dict.fromkeys(EventCountsView.__struct_fields__, 0), "api_key_added": 1}
    queue = cast.queue()
    listener = cast.listener(queue)
    batch = {"messages": [{"data": "one"}, {"data": "two"}]}
    assert cast.alice.post(f"/queues/{queue}/messages/batch", json=batch).status_code == 200
    cast.message(queue)
    assert cast.alice.put(f"/queues/{queue}", json={"alias": "orders"}).status_code == 200
    assert cast.alice.delete(f"/queues/{queue}/listeners/{listener}").status_code == 200
    assert cast.alice.post(f"/queues/{queue}/messages", json={}).status_code == 400
    expected = {
        "api_key_added": 1,
        "queue_added": 1,
        "queue_updated": 1,
        "listener_added": 1,
        "listener_deleted": 1,
        "message_added": 3,
    }
    shown = cast.alice.get("/stats/messages").json()
    windows = shown["aggregated_api_usage_events"]
    assert set(windows) == {"last_24_hours", "last_1_hours", "today_so_far"}
    for window in ("last_24_hours", "last_1_hours"):
        assert {name: n for name, n in windows[window].items() if n} == expected
    assert shown["_links"] == {"self": {"href": f"{cast.service.url}/stats/messages"}}
