"""`/events` and `/stats/messages` on the wire."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from discue.domain.scopes import Scope
from tests.support.served_api import Cast


def events(client: httpx.Client, **query: object) -> list[dict[str, Any]]:
    return list(answer(client, **query)["events"])


def answer(client: httpx.Client, **query: object) -> dict[str, Any]:
    response = client.get("/events", params={name: str(value) for name, value in query.items()})
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


@pytest.mark.parametrize("query", ["startAfter=1", "startAfterId=" + "0" * 21])
def test_incomplete_position_has_no_effect(cast: Cast, query: str) -> None:
    cast.queue()
    assert cast.alice.get(f"/events?{query}").json()["events"] == events(cast.alice)


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
